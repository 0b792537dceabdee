"""The root of all errors, and what each one means to a shell.

A message says what was expected, what was found and what to do, in one or two sentences. Every class
carries the exit code that the command returns; `docs/exit-codes.md` lists them (a test compares the two).
"""

from __future__ import annotations


class EdgequiltError(Exception):
    """Something a user can understand and mend; never shown with a traceback."""

    exit_code = 1


class UsageError(EdgequiltError):
    """The command line or a configuration file asks for something that does not exist."""

    exit_code = 2


class MissingDependency(EdgequiltError):
    """A library that this verb needs is not installed."""

    exit_code = 3


class UnsupportedModel(EdgequiltError):
    """The model cannot be captured, cut or differentiated."""

    exit_code = 10


class BadData(EdgequiltError):
    """A data, label or message file holds something that cannot be read."""

    exit_code = 11


class DoesNotFit(EdgequiltError):
    """No cut of the model fits the board's budget."""

    exit_code = 12


class IntegrityError(EdgequiltError):
    """Bytes are not the bytes that were promised: a length or a digest differs."""

    exit_code = 13


class SignatureError(EdgequiltError):
    """A signature is missing, wrong, or made by a key that is not trusted for this role."""

    exit_code = 14


class TransportError(EdgequiltError):
    """A broker, a port or a socket cannot be used."""

    exit_code = 15


class HubError(EdgequiltError):
    """The hub refuses a request, or a round could not be completed."""

    exit_code = 16


class VerificationError(EdgequiltError):
    """An exported graph does not compute what the original computes, or uses more memory than planned."""

    exit_code = 17


class StorageError(EdgequiltError):
    """A file cannot be read or written: permissions, a full disk, something in the way."""

    exit_code = 18


class Declined(EdgequiltError):
    """A check said no: what was asked for would do harm, or the data do not support it; the numbers are given."""

    exit_code = 19


class InvariantError(EdgequiltError):
    """A run ended, but something that must always hold did not."""

    exit_code = 20


def error_named(name: str, sentence: str) -> EdgequiltError:
    """An error that another process of ours told: of its class, where that is one of these, or else a HubError.

    >>> error_named("StorageError", "the disk is full")
    StorageError('the disk is full')
    """
    kind = globals().get(name)
    known = isinstance(kind, type) and issubclass(kind, EdgequiltError)
    return (kind if known and kind is not None else HubError)(sentence)


def join(problems: list[str], limit: int = 20) -> str:
    """All problems as one message, at most `limit` of them spelled out.

    >>> join(["line 1: no label", "line 7: not JSON"])
    'line 1: no label; line 7: not JSON'
    """
    shown = "; ".join(problems[:limit])
    hidden = len(problems) - limit
    return f"{shown}; and {hidden} more" if hidden > 0 else shown
