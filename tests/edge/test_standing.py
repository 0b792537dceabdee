"""Whether an agent sees that it is kept from news of its hub, whatever its clock shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.cli_status import health_code
from edge.core import Core
from edge.doctor.service import judge_agent
from edge.standing import ASK_LEAST_S, BACK_S, KEPT_BACK, SILENT, STALE_S, News
from tests.edge.boards import Board, Farm, HereLink, make_board, status
from wire.memory import Network
from wire.messages import Hello, Standing, encode

HAS = {"release": 3, "bundle": 2, "program": 1}
DIGEST = "d" * 64


def answered(number: int, **told: Any) -> Standing:
    """An answer to a hello of this start."""
    return Standing("barn-1", "boot", number, **{**HAS, "digest": DIGEST, **told})


def asked(*numbers: int, at_s: float = 0.0, **made: Any) -> News:
    """An agent that said these hellos."""
    news = News("boot", STALE_S, 0.0, **made)
    for number in numbers:
        news.said(number, at_s)
    return news


def test_an_answer_is_as_young_as_its_hello() -> None:
    """What counts is when the hello went out, not when its answer came; none at all counts from the start."""
    news = asked(1, at_s=50.0)
    assert news.silent_s(60.0) == 60.0
    news.came(answered(1))
    assert news.silent_s(60.0) == 10.0
    assert news.silent_s(STALE_S + 49) < STALE_S


def test_an_old_answer_proves_nothing() -> None:
    """Of another start, of a hello that never was, or overtaken by a younger one: replayed answers change nothing."""
    news = asked(7, 9)
    for replayed in (Standing("barn-1", "another boot", 7), answered(8)):
        news.came(replayed)
        assert news.latest is None
    news.came(answered(9, release=5))
    news.came(answered(7, release=3))
    assert news.latest is not None
    assert news.latest.release == 5


def test_no_answer_is_a_warning_after_a_day() -> None:
    """Up to the limit nothing is said; beyond it once, with what may be; an answer ends it."""
    news = asked(1)
    assert not news.look(STALE_S - 1)
    assert news.look(STALE_S)
    assert not news.look(STALE_S + 1)
    assert news.warnings(STALE_S) == (SILENT,)
    assert "keeps its news back" in str(news.trouble(STALE_S))
    news.said(2, STALE_S)
    news.came(answered(2))
    assert news.look(STALE_S + 1)
    assert news.trouble(STALE_S + 1) is None


def test_an_agent_that_is_restarted_daily_grows_old_as_well() -> None:
    """The age of the start before is gone on from: what a thief of the power cord would else reset."""
    assert asked(age_s=STALE_S - 10).warnings(20.0) == (SILENT,)


@pytest.mark.parametrize("what", ["release", "bundle", "program"])
def test_what_is_named_and_does_not_come_is_seen(what: str) -> None:
    """A fresh answer that names more than came is a warning after a while, and asked about more often until then."""
    news = asked(1)
    news.came(answered(1, **{what: 9, "digest": "e" * 64}))
    news.compare(HAS, DIGEST, 10.0)
    assert news.kept_back == ""
    assert news.due(10.0 + ASK_LEAST_S)
    news.compare(HAS, DIGEST, 10.0 + BACK_S)
    assert news.kept_back == what
    assert news.warnings(20.0 + BACK_S) == (KEPT_BACK,)
    assert what in str(news.trouble(20.0 + BACK_S))
    news.compare({**HAS, what: 9}, DIGEST, 20.0 + BACK_S)
    assert news.warnings(20.0 + BACK_S) == ()
    assert not news.due(10.0 + ASK_LEAST_S)


def test_the_same_version_under_a_higher_sequence_is_no_news() -> None:
    """A release of what is served already need not come; what an agent cannot take is not compared."""
    news = asked(1)
    news.came(answered(1, release=9, program=9))
    news.compare({"release": 3, "bundle": 2}, DIGEST, 10.0)
    news.compare({"release": 3, "bundle": 2}, DIGEST, 10.0 + BACK_S)
    assert news.kept_back == ""


def test_the_hub_that_is_silent_is_told_and_the_board_goes_on(tmp_path: Path) -> None:
    """Who gets no answers for a day warns in status, doctor and hello, and serves what it has; an answer ends it."""
    board, farm, core, version = serving(tmp_path)
    farm.clock.at += STALE_S
    farm.run(seconds=5)

    hello, found = farm.hub.hellos[-1], status(board)
    assert SILENT in hello.warnings
    assert found["news"] == [SILENT]
    assert judge_agent(True, None, found).level == "problem"
    assert health_code({**found, "running": True}) != 0
    assert core.store.served_of(core.setup.model) is not None

    farm.hub.say("down", Standing.TYPE, answer_to(hello, version), "barn-1")
    farm.run(seconds=5)
    assert status(board)["trouble"] is None
    assert core.news.warnings(farm.clock.at) == ()


def test_a_network_that_shows_the_old_release_alone_is_seen(tmp_path: Path) -> None:
    """The hub says that it released 2; nothing but 1 ever comes: within minutes the board says so, and asks again."""
    board, farm, core, _ = serving(tmp_path)
    before = len(farm.hub.hellos)
    answer = answer_to(farm.hub.hellos[-1], "e" * 64, release=2)
    farm.hub.say("down", Standing.TYPE, answer, "barn-1")
    farm.run(seconds=BACK_S + 20)

    assert status(board)["news"] == [KEPT_BACK]
    assert len(farm.hub.hellos) - before >= 5
    served = core.store.served_of(core.setup.model)
    assert served is not None
    assert served.version == 1


def answer_to(hello: Hello, digest: str, release: int = 1) -> bytes:
    """What an honest hub answers."""
    return encode(Standing("barn-1", hello.sender.boot, hello.sender.sequence, release, digest))


def serving(folder: Path) -> tuple[Board, Farm, Core, str]:
    """A board that has taken release 1, its hub, and the version."""
    board = make_board(folder)
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    farm.hub.release(version, 1, 1)
    farm.run(seconds=20)
    return board, farm, core, version
