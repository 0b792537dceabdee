"""docs/privacy.md against the code: what a board can say, what a job makes, what is kept of a board."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import get_args

from sqlalchemy import select

from hub.config import TEMPLATE
from hub.masking.opening import LINEAR_IN_B
from hub.requests.rounds import KINDS, TRAINERS
from hub.store import schema as t
from tests.conftest import ROOT
from tests.hub.world import World
from wire.messages import Hello, JobKind
from wire.topics import TABLE

PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
HELLO = {
    "agent": "agent",
    "profile": "profile",
    "bundle": "bundle",
    "rank": "rank",
    "jobs": "jobs",
    "samples": "how many rows",
    "released": "version served",
    "serves": "version served",
    "memory_available_bytes": "memory available",
    "runtime": "runtime",
    "power": "power",
    "battery_percent": "battery",
    "network": "network",
    "waits": "why training waits",
    "temperature_c": "temperature",
    "under_voltage": "a weak supply",
    "throttled": "runs slower",
    "load": "load",
    "disk_free_bytes": "room on disk",
    "uptime_s": "how long it has been up",
    "warnings": "which of these it warns of",
    "program": "release of the agent",
    "system": "Python, glibc and architecture",
    "hub_keys": "which keys of the hub it believes",
    "address": "where boards connect to it directly",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables of a section, without their first lines."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    bare = [line for number, line in enumerate(lines) if not any("---" in x for x in lines[number : number + 2])]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in bare]


def codes(text: str) -> set[str]:
    """What stands between backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def test_every_message_of_a_board_is_on_the_page() -> None:
    """The first table names the messages that devices may send, all of them and no other."""
    named = set().union(*(codes(row[0]) for row in rows("What leaves a board") if len(row) == 2))
    assert named == {topic.message.TYPE for topic in TABLE if topic.direction in ("up", "peer")}


def test_every_fact_of_a_hello_is_on_the_page() -> None:
    """Each field of a hello has its words in its row; a new field needs new words."""
    assert set(HELLO) == {f.name for f in fields(Hello)} - {"sender", "extra"}
    (said,) = [row[1] for row in rows("What leaves a board") if codes(row[0]) == {"hello"}]
    assert [name for name, words in HELLO.items() if words not in said] == []


def test_every_job_trainer_and_kind_is_on_the_page() -> None:
    """The second table has every kind of job, every trainer of rounds, and every kind that learns."""
    made = [row for row in rows("What leaves a board") if len(row) == 4]
    first, second = (set().union(*(codes(row[at]) for row in made)) for at in (0, 1))
    assert first - {"--secure", "[rounds] importance", *TRAINERS} == set(get_args(JobKind))
    assert first & set(TRAINERS) == set(TRAINERS)
    assert second - set(LINEAR_IN_B) == {*KINDS, "head", "scales"}
    assert second >= set(LINEAR_IN_B)


def test_the_page_says_what_a_new_hub_keeps() -> None:
    """The days of a new hub.toml are those of the page."""
    (days,) = re.findall(r"^updates_days = (\d+)", TEMPLATE, re.MULTILINE)
    assert f"`updates_days = {days}` in a new `hub.toml`" in PAGE


def test_every_table_that_names_a_board_is_emptied_of_it(make_world: Callable[..., World]) -> None:
    """Whatever table of the ledger has a column for a device, a forgotten one is not in it."""
    world = make_world()
    world.run("statistics")
    world.ask("forget", name="coop")

    named = [table for table in t.metadata.tables.values() if "device" in table.c and table.name != "bundles"]
    assert {"updates", "jobs", "receipts", "masks", "events"} <= {table.name for table in named}
    with world.hub.home.ledger.transaction() as tx:
        for table in named:  # of bundles, `device` is a kind of board
            assert tx.execute(select(table).where(table.c.device == "coop")).all() == [], table.name
