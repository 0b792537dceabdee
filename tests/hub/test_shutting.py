"""Devices that are shut out: revoked ones are believed no more, those in quarantine are left out of rounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from console.errors import HubError
from hub.store import registry
from tests.hub.world import World
from wire.keys import new_key

ROUND = {"kind": "statistics"}


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A hub and three devices, and whom it lets in."""
    made = make_world()
    made.let_in = []  # type: ignore[attr-defined]  # what the broker would be told
    made.hub.allow = made.let_in.append  # type: ignore[attr-defined]
    return made


def took_part(world: World) -> set[str]:
    """The devices of a new round."""
    number = world.run(**ROUND)["round"]
    return {row["device"] for row in world.hub.home.ledger.updates(number, "statistics")}


def test_a_revoked_device_is_believed_no_more(world: World) -> None:
    """From that moment what it says is ignored, it may not come in, and no round asks it; an open one goes on."""
    world.devices["coop"].jobs_held = True
    number = world.ask("open", **ROUND)["round"]
    world.network.pump()
    world.ask("revoke", device="coop")
    assert world.let_in == [["barn", "mill"]]  # type: ignore[attr-defined]
    assert registry.let_in(world.hub.home) == ["barn", "mill"]
    world.devices["coop"].jobs_held = False
    world.settle()
    found = world.show(number)
    assert found["state"] == "complete"
    assert [row["device"] for row in world.hub.home.ledger.updates(number, "statistics")] == ["barn", "mill"]

    row = world.hub.home.ledger.device("coop")
    world.devices["coop"].hello()
    world.network.pump()
    assert world.hub.home.ledger.device("coop") == row
    assert "not revoked" in list(world.hub.guard.reasons.values())[-1]
    assert took_part(world) == {"barn", "mill"}


def test_only_another_key_comes_back(world: World) -> None:
    """A revoked name cannot be enrolled; after `--undo` it can, and the key from before is never believed again."""
    world.ask("revoke", device="coop")
    old = world.devices["coop"].key.public.line
    with pytest.raises(HubError, match="not revoked"):
        world.ask("enroll", name="coop", line=new_key("device", "coop").public.line, replace=True)
    world.ask("revoke", device="coop", undo=True)
    seen = world.hub.home.ledger.device("coop")
    world.devices["coop"].hello()
    world.network.pump()
    assert world.hub.home.ledger.device("coop") == seen

    fresh = new_key("device", "coop")
    world.ask("enroll", name="coop", line=fresh.public.line, replace=True)
    assert old != fresh.public.line
    world.devices["coop"].key = fresh
    world.devices["coop"].hello()
    world.network.pump()
    assert world.hub.home.ledger.device("coop")["online"]  # type: ignore[index]
    with pytest.raises(HubError, match="nothing to undo"):
        world.ask("revoke", device="coop", undo=True)
    with pytest.raises(HubError, match="enrolled device, found stranger"):
        world.ask("revoke", device="stranger")


def test_quarantine_leaves_a_device_out_of_rounds(world: World) -> None:
    """It is not asked, and an update of it is refused with the reason; it still gets releases, and may come back."""
    world.devices["coop"].jobs_held = True
    number = world.ask("open", **ROUND)["round"]
    world.network.pump()
    world.ask("quarantine", device="coop", reason="odd gradients")
    world.devices["coop"].jobs_held = False
    world.settle()
    assert world.show(number)["state"] == "complete"
    refused = [r for r in world.devices["coop"].receipts if r.status == "refused"]
    assert refused
    assert all("odd gradients" in r.reason for r in refused)
    assert took_part(world) == {"barn", "mill"}
    assert world.devices["coop"].release is not None
    assert world.devices["coop"].release == world.devices["barn"].release

    world.ask("quarantine", device="coop", reason="")
    assert took_part(world) == {"barn", "coop", "mill"}
