"""Asking whichever address of the hub answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from console.errors import SignatureError, TransportError, join
from wire.https import Refused, parse_address

Found = TypeVar("Found")


def first_answer(addresses: Sequence[str], ask: Callable[[str, int], Found]) -> tuple[Found, str]:
    """What the first address that answers says, and its host.

    Raises:
        TransportError: none answers, or all that do are too busy.
        SignatureError: none is the hub of this fleet.
        Refused: the hub says no, which another of its addresses would say too.
    """
    problems: list[str] = []
    kind: type[TransportError | SignatureError] = SignatureError
    for address in addresses:
        host, port = parse_address(address)
        try:
            return ask(host, port), host
        except Refused as error:
            if not error.passes:
                raise
            problems.append(f"the hub at {address} cannot answer now: {error}")
            kind = TransportError
        except TransportError as error:
            problems.append(str(error))
            kind = TransportError
        except SignatureError as error:
            problems.append(str(error))
    raise kind(join(problems))
