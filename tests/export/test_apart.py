from __future__ import annotations

import os
import signal
import sys

import pytest

from console.errors import BadData
from export.apart import apart
from tests.processes import PATIENCE_S, started

STOPPED = """
import hashlib, os, signal, sys
from export.apart import apart
from export.stoppable import stoppable
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), int(sys.argv[1])))
with stoppable():
    apart(lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1))
"""


def test_work_is_done_in_a_child_and_its_errors_come_back() -> None:
    """The answer is another process's, and so is the error, with its class and its words."""
    assert apart(os.getpid) != os.getpid()

    def refuse() -> None:
        raise BadData("expected a, found b")

    with pytest.raises(BadData, match="expected a, found b"):
        apart(refuse)


def test_what_is_apart_already_stays_where_it_is() -> None:
    """Work apart that puts work apart does both in one child."""
    pids = apart(lambda: [os.getpid(), apart(os.getpid)])
    assert pids[0] == pids[1] != os.getpid()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_a_fork_ends_the_child_too(number: int, code: int) -> None:
    """Whoever is told to stop just as it forks hears it, and ends a child that no signal but SIGKILL would end."""
    with started([sys.executable, "-c", STOPPED, str(int(number))], stderr=-3) as running:
        assert running.wait(PATIENCE_S) == code
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)
