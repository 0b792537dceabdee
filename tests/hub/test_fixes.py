"""Fixes: a wrong answer becomes right on a board, nothing else changes, and one command takes it back byte for byte."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData, HubError, UsageError
from hub.fixes.making import without
from hub.making import versions
from tests.hub.fixes import BOARD, SERVER, Fleet, small_fleet
from wire.kinds.edit import HeadEdit, apply
from wire.messages import Release

WRONG, WAS, RIGHT = "blue red blue", "a", "c"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A hub whose board answers WRONG with WAS."""
    made = small_fleet(tmp_path)
    assert made.answers([WRONG]) == [WAS]
    return made


def rows(fleet: Fleet) -> list[dict[str, str]]:
    """The calibration data of the server agent."""
    text = (fleet.boards[SERVER].folder / "data.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_wrong_answer_becomes_right_and_is_taken_back(fleet: Fleet) -> None:
    """The board answers as asked, right rows stay right, one small blob was fetched; undone, all is as before."""
    before, texts = fleet.used, [row["text"] for row in rows(fleet)]
    answers = fleet.answers(texts)
    fetched = set(fleet.cores[BOARD].store.blobs.iterdir())

    found = fleet.fix(WRONG, RIGHT)

    assert found["state"] == "in use", found["sentence"]
    assert fleet.answers([WRONG]) == [RIGHT]
    labels = [row["label"] for row in rows(fleet)]
    lost = [old == label != new for old, new, label in zip(answers, fleet.answers(texts), labels, strict=True)]
    assert not any(lost)
    after = fleet.used
    assert after.version.parent == before.digest
    assert (after.version.rungs, after.version.head) == (before.version.rungs, before.version.head)
    (blob,) = set(fleet.cores[BOARD].store.blobs.iterdir()) - fetched
    assert (blob.name, blob.stat().st_size) == (after.version.edits[0].blob, found["bytes"])
    assert found["bytes"] < 1000

    undone = fleet.ask("fix_undo", fix=found["fix"], by="ann")
    fleet.pass_time(4)

    assert undone["state"] == "not in use"
    assert (fleet.used.digest, fleet.used.body) == (before.digest, before.body)
    assert fleet.hub.home.ledger.tip("tiny") == before.digest
    assert fleet.answers([WRONG, *texts]) == [WAS, *answers]
    served = fleet.cores[BOARD].store.served_of("tiny")
    assert isinstance(served, Release)
    assert served.digest == before.digest


def test_what_is_reported_is_what_a_reader_of_the_blobs_finds(fleet: Fleet) -> None:
    """Lead, lost and gained rows are those of the published factors added to the head by hand."""
    blobs = fleet.hub.home.blobs
    before = versions.read_heads(fleet.used.version, blobs)[0]
    found = fleet.fix(WRONG, RIGHT)

    (edit,) = versions.read_edits(fleet.used.version, blobs)
    (at,) = found["report"]["at"]
    weight = before.weight.astype(np.float64) + edit[0].a.astype(np.float64) @ edit[0].b
    after = versions.read_heads(fleet.used.version, blobs)[0]
    np.testing.assert_allclose(after.weight, weight, atol=1e-6)
    assert np.array_equal(after.bias, before.bias)
    assert edit[0].a.shape[1] == 1
    was = fleet.logits([row["text"] for row in rows(fleet)], before)
    now = fleet.logits([row["text"] for row in rows(fleet)], after)
    labels = np.array(["abc".index(row["label"]) for row in rows(fleet)])
    old, new = was.argmax(axis=1) == labels, now.argmax(axis=1) == labels
    assert (at["right_before"], at["lost"], at["gained"]) == (old.sum(), (old & ~new).sum(), (~old & new).sum())
    asked = fleet.logits([WRONG], after)[0]
    assert at["lead"] == pytest.approx(asked[2] - max(asked[:2]), abs=1e-4)


def test_a_fix_that_costs_others_is_refused_by_its_number(fleet: Fleet) -> None:
    """A label that calibration rows contradict fails by its drawdown and the bar; a higher bar lets it through."""
    before = fleet.used.digest
    found = fleet.fix("red red red red", "b")

    assert found["state"] == "refused"
    lost, many = found["report"]["at"][0]["lost"], found["report"]["rows"]
    assert f"drawdown: {lost} of {many} calibration rows lost at rank 0 (" in found["sentence"]
    assert found["sentence"].endswith("the bar is 0.1 %")
    assert (fleet.used.digest, fleet.hub.home.ledger.tip("tiny")) == (before, before)

    assert fleet.fix("red red red red", "b", drawdown=1.0)["state"] == "in use"
    assert fleet.answers(["red red red red"]) == ["b"]


def test_a_dry_run_sends_nothing_out(fleet: Fleet) -> None:
    """It is computed and judged; there is no version of it."""
    count = len(fleet.hub.home.ledger.versions())
    found = fleet.fix(WRONG, RIGHT, dry_run=True)

    assert (found["state"], found["version"], found["gate"]["passed"]) == ("dry run", None, True)
    assert "success at rank 0" in found["gate"]["sentence"]
    assert len(fleet.hub.home.ledger.versions()) == count
    assert fleet.answers([WRONG]) == [WAS]


def test_a_fix_may_wait_for_a_trial(fleet: Fleet) -> None:
    """Without a release the version is there and neither in use nor gone on from; promoted, it is both; then undone."""
    before = fleet.used.digest
    found = fleet.fix(WRONG, RIGHT, release=False)
    assert (found["state"], found["version"]) == ("not released", 2)
    assert (fleet.used.digest, fleet.hub.home.ledger.tip("tiny")) == (before, before)

    fleet.ask("deploy", version="2", group=BOARD, promote="manual")
    fleet.pass_time(10)
    fleet.ask("promote")
    fleet.pass_time(4)
    assert fleet.answers([WRONG]) == [RIGHT]
    assert fleet.ask("fix_shown", fix=found["fix"])["state"] == "in use"
    fleet.ask("fix_undo", fix=found["fix"])
    assert fleet.used.digest == before


def test_paraphrases_are_judged_and_said(fleet: Fleet) -> None:
    """Those that are right are counted; without any, that is said; one that contradicts the rows is refused."""
    assert "no paraphrases were given" in fleet.fix(WRONG, RIGHT, dry_run=True)["gate"]["sentence"]

    found = fleet.fix(WRONG, RIGHT, ("blue red blue blue red blue",), dry_run=True)
    assert "paraphrases 1 of 1 right" in found["gate"]["sentence"]

    refused = fleet.fix(WRONG, RIGHT, ("red red red red",), dry_run=True)["gate"]
    assert not refused["passed"]
    assert "paraphrases: 0 of 1" in refused["sentence"] or "drawdown:" in refused["sentence"]


def test_fixes_lie_on_top_of_each_other_and_come_off_one_by_one(fleet: Fleet) -> None:
    """The first of two is undone alone: what is left is the second, with the same blob; the order does not matter."""
    first = fleet.fix(WRONG, RIGHT)
    second = fleet.fix("sea red sea", "b")
    assert [one["state"] for one in (first, second)] == ["in use", "in use"]
    edits = fleet.used.version.edits
    assert [edit.fix for edit in edits] == [first["fix"], second["fix"]]

    fleet.ask("fix_undo", fix=first["fix"])
    fleet.pass_time(4)

    assert fleet.used.version.edits == edits[1:]
    assert fleet.answers([WRONG, "sea red sea"]) == [WAS, "b"]
    lines = {one["fix"]: one["state"] for one in fleet.ask("fixes")["fixes"]}
    assert lines == {first["fix"]: "not in use", second["fix"]: "in use"}
    with pytest.raises(HubError, match=f"expected a fix on top of the version in use, found {first['fix']}; see"):
        fleet.ask("fix_undo", fix=first["fix"])


def test_a_fix_stays_on_top_of_what_comes_after_it(fleet: Fleet) -> None:
    """Training and a new head keep it, and say so; undone, what is left has the newer rungs and head."""
    fix = fleet.fix(WRONG, RIGHT)["fix"]
    (edit,) = fleet.used.version.edits
    fleet.run("train", devices=[BOARD], settings={"steps": 1, "batch": 4, "learning_rate": 1e-4})
    found = fleet.run("statistics", devices=[BOARD], gate=False)
    newest = versions.read_made(fleet.hub.home.ledger.versions()[-1])
    assert newest.version.edits == (edit,)
    assert f"on top of it still: fix {fix}" in found["sentence"]
    fleet.ask("deploy", version=str(newest.version.version))

    fleet.ask("fix_undo", fix=fix)
    fleet.pass_time(4)

    assert fleet.used.version.edits == ()
    assert (fleet.used.version.rungs, fleet.used.version.head) == (newest.version.rungs, newest.version.head)
    assert fleet.hub.home.ledger.tip("tiny") == fleet.used.digest


def test_a_trained_head_holds_no_edit(fleet: Fleet) -> None:
    """A board trains the head with the fix on top; what is kept is without it, so that undoing takes it away alone."""
    fix = fleet.fix(WRONG, RIGHT)["fix"]
    blobs = fleet.hub.home.blobs
    fleet.run("train", devices=[BOARD], settings={"steps": 2, "batch": 8, "learning_rate": 0.01, "head": True})
    newest = versions.read_made(fleet.hub.home.ledger.versions()[-1])
    whole = versions.read_heads(newest.version, blobs)[0].weight.astype(np.float64)
    (edit,) = versions.read_edits(newest.version, blobs)
    bare = without(fleet.hub.home, newest, fix, 99)

    assert bare is not None
    np.testing.assert_allclose(versions.read_heads(bare.version, blobs)[0].weight, whole - edit[0].product(), atol=1e-5)


def test_work_that_is_ahead_gets_the_fix_too(fleet: Fleet) -> None:
    """A version that was trained and not released has the fix on top after it, and loses it with it."""
    fleet.run("train", devices=[BOARD], settings={"steps": 1, "batch": 4, "learning_rate": 1e-4})
    home, ahead = fleet.hub.home, versions.read_made(fleet.hub.home.ledger.versions()[-1])
    found = fleet.fix(WRONG, RIGHT)

    def tip() -> versions.Made:
        row = home.ledger.version(home.ledger.tip("tiny"))
        assert row is not None
        return versions.read_made(row)

    assert tip().version.parent == ahead.digest
    assert tip().version.edits == fleet.used.version.edits
    assert tip().version.rungs == ahead.version.rungs != fleet.used.version.rungs
    fleet.ask("fix_undo", fix=found["fix"])
    assert tip().digest == ahead.digest


def test_a_hub_that_was_killed_goes_on_with_its_fix(fleet: Fleet) -> None:
    """Killed after the job was sent, it takes the answer, and releases what passes."""
    number = fleet.ask("fix", input={"text": WRONG}, expect=RIGHT)["fix"]
    fleet.hub = fleet.start_hub()
    for _ in range(30):
        fleet.pass_time(2)
    assert fleet.ask("fix_shown", fix=number)["state"] == "in use"
    assert fleet.answers([WRONG]) == [RIGHT]


def test_what_was_put_in_is_forgotten(fleet: Fleet) -> None:
    """While a fix is open its text is in the ledger, since the job may be said again; afterwards its digest is."""
    secret = "blue red blue blue red blue"
    number = fleet.ask("fix", input={"text": WRONG}, paraphrases=[{"text": secret}], expect=RIGHT, by="ann")["fix"]
    assert secret in _ledger(fleet.folder)
    for _ in range(20):
        fleet.pass_time(2)

    found = fleet.ask("fix_shown", fix=number)
    assert not found["open"]
    assert found["by"] == "ann"
    assert found["input_sha256"] == hashlib.sha256(WRONG.encode()).hexdigest()
    assert secret not in _ledger(fleet.folder)
    assert WRONG not in _ledger(fleet.folder)
    fleet.hub.home.ledger.close()
    assert not any(secret.encode() in path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file())


def _ledger(folder: Path) -> str:
    """All rows of rounds, jobs, updates and events, as text."""
    found = []
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        for table in ("rounds", "jobs", "updates", "events", "versions"):
            found += ledger.execute(f"SELECT * FROM {table}").fetchall()  # names of ours
    ledger.close()
    return " ".join(x.decode(errors="replace") if isinstance(x, bytes) else str(x) for row in found for x in row)


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        ({"expect": "z"}, UsageError, r"expected a label of tiny \(a, b, c\), found 'z'"),
        ({"expect": "a", "drawdown": 2.0}, BadData, "drawdown"),
        ({"expect": "a", "input": {"text": " "}}, UsageError, "expected an input of 1 to 256 KiB, found 1 bytes"),
        ({"expect": "a", "input": {"data": "/w=="}}, UsageError, "expected a text or a file as an input"),
        ({"expect": "a", "device": BOARD}, HubError, f"expected a server agent named {BOARD} that is online"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    fleet: Fleet, told: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """An unknown label, a bar out of range, no input, and a board that is no server agent: nothing is opened."""
    with pytest.raises(kind, match=words):
        fleet.ask("fix", **{"input": {"text": WRONG}, **told})
    assert fleet.ask("fixes")["fixes"] == []


def test_without_a_server_agent_it_says_how_to_start_one(tmp_path: Path) -> None:
    """A fleet of boards alone computes no fix; a server agent that is offline does neither."""
    with pytest.raises(HubError, match=r"computes fixes, found none; export .* --server-agent"):
        small_fleet(tmp_path / "a", server="tester").ask("fix", input={"text": WRONG}, expect=RIGHT)
    fleet = small_fleet(tmp_path / "b")
    fleet.cores.pop(SERVER).close()
    fleet.pass_time(2)
    with pytest.raises(HubError, match="found 1 that is not online"):
        fleet.ask("fix", input={"text": WRONG}, expect=RIGHT)


def test_what_is_right_already_is_not_mended(fleet: Fleet) -> None:
    """The sentence names the answer that the version in use gives."""
    found = fleet.fix(WRONG, WAS)
    assert (found["state"], found["version"]) == ("refused", None)
    assert f"nothing to mend: the version in use answers {WAS!r} already" in found["sentence"]


def test_nothing_else_is_under_way_beside_a_fix(fleet: Fleet) -> None:
    """A round that makes a version, a second fix, and a trial keep a fix out, and each says what to do."""
    fleet.ask("fix", input={"text": WRONG}, expect=RIGHT)
    with pytest.raises(HubError, match="expected no open round that makes a version, found round"):
        fleet.ask("fix", input={"text": WRONG}, expect=RIGHT)
    with pytest.raises(HubError, match="expected no open round that makes a version, found round"):
        fleet.ask("open", kind="train")
    for _ in range(20):
        fleet.pass_time(2)
    fleet.ask("deploy", version="1", group=BOARD, promote="manual")
    with pytest.raises(HubError, match="expected no version on trial, found deployment 1; end it"):
        fleet.ask("fix", input={"text": WRONG}, expect=WAS)


def test_an_edit_of_a_rank_without_a_head_of_its_own_is_on_top_of_the_one_below(fleet: Fleet) -> None:
    """Heads without any edit are what they were, and an edit of another rank goes by the rule of heads."""
    heads = versions.read_heads(fleet.used.version, fleet.hub.home.blobs)
    assert apply(heads, []) == heads
    edit = HeadEdit(np.ones((heads[0].weight.shape[0], 1), np.float32), np.ones((1, 3), np.float32))
    made = apply(heads, [{2: edit}])
    assert set(made) == {0, 2}
    np.testing.assert_allclose(made[2].weight, heads[0].weight + 1, atol=1e-6)
