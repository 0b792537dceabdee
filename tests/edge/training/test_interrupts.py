"""Ctrl-C at the worst moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from edge.training.interrupts import interrupts


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """As in a shell's foreground: its background jobs inherit Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Dying:
    """Its end is interrupted, where Python drops the exception."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))  # the handler runs between two instructions


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_finaliser_is_not_lost() -> None:
    """What Python drops comes up again at the next step, and the handler from before is back afterwards."""
    before, ended = signal.getsignal(signal.SIGINT), False

    with pytest.raises(KeyboardInterrupt), interrupts() as again:  # noqa: PT012  # the moments are the point
        again()
        dying = Dying()
        del dying
        ended = True
        again()

    assert ended
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_elsewhere_is_raised_at_once() -> None:
    """Where nothing is finalised it interrupts what runs."""
    with pytest.raises(KeyboardInterrupt), interrupts():  # noqa: PT012  # the moments are the point
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))
        pytest.fail("it went on")


def test_who_ignores_interrupts_goes_on_ignoring_them() -> None:
    """What runs in a shell's background is not ended by a Ctrl-C that was not meant for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    with interrupts() as again:
        os.kill(os.getpid(), signal.SIGINT)
        again()

    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
