"""Somebody recorded all that the hub ever said, with its signatures, and says it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.edge.boards import Farm, HereLink, jobs, make_board
from wire.memory import Network


def test_what_is_replayed_does_nothing(tmp_path: Path) -> None:
    """Old versions, releases, jobs and receipts change nothing, nor does the agent work again, also after a start."""
    board, link = make_board(tmp_path), HereLink()
    farm = Farm(board, Network(), link)
    tape: list[tuple[str, bytes, dict[str, Any]]] = []
    said = farm.hub.transport.publish

    def publish(topic: str, payload: bytes, **how: Any) -> bool:
        tape.append((topic, payload, how))
        return said(topic, payload, **how)

    farm.hub.transport.publish = publish  # type: ignore[method-assign]  # the recorder in between
    core = farm.start()
    first = farm.hub.publish_version(board.manifest, 1)
    farm.hub.release(first, 1, 1)
    for job in jobs(first):
        farm.hub.ask(job)
    assert farm.run(lambda: not farm.hub.open and not core.outbox.updates)
    second = farm.hub.publish_version(board.manifest, 2, seed=1)
    farm.hub.release(second, 2, 2)
    assert farm.run(lambda: core.store.released.served is not None and core.store.released.served.digest == second)
    released, done, receipts = core.store.released, list(link.done), core.outbox.receipted_jobs()
    accepted = dict(farm.hub.accepted)
    assert len(done) == 3

    def replayed() -> None:
        for topic, payload, how in tape:
            said(topic, payload, **{**how, "retain": False})
            farm.network.pump()
        farm.run(seconds=30, nag=False)
        now = farm.core
        assert now is not None
        assert now.store.released == released
        assert link.done == done
        assert now.outbox.receipted_jobs() == receipts
        assert farm.hub.accepted == accepted
        assert farm.hub.hellos[-1].serves == second

    replayed()
    farm.kill()
    farm.start()
    replayed()
