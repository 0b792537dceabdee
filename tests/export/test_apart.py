from __future__ import annotations

import os

import pytest

from console.errors import BadData
from export.apart import apart


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
