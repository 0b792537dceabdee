"""What a broker does not take of the hub is seen in its status."""

from __future__ import annotations

from collections.abc import Callable

from hub.show.status import status_text
from tests.hub.world import World


def test_denied_messages_of_the_hub_are_counted_by_type(make_world: Callable[..., World]) -> None:
    """An access list that lets the hub say no job shows in its status, which names the type and what to look at."""
    world = make_world()
    world.network.may_write = lambda name, topic: not (name == "hub" and topic.endswith("/job"))
    world.ask("open", kind="train")
    world.network.pump()

    found = world.ask("status")
    assert found["messages_denied"].keys() == {"job"}
    assert found["mqtt"] == "memory"
    assert "the broker denies what the hub says: job (" in status_text(found)
