"""What the hub answers to every hello: the keys that it has had since, and what the device should have been told.

Both are answers to a hello of that number, so a device that gets none knows that it is kept from news.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hub.bundles.counter import Counter
from hub.deployments.deployment import Deployment
from hub.identity.rotation import chain
from hub.serving.post import Post
from hub.store.ledger import Row
from hub.store.registry import Home
from wire import messages as m
from wire.topics import NO_MODEL
from wire.transport import Transport

Trials = Callable[[str], Iterable[Deployment]]


class Standings:
    """Owned by the hub's thread.

    Args:
        home: the hub's.
        transport: to the devices.
        bundles: the counter beside it, which knows whether a device is told of bundles.
        trials: the open deployments of a model.
    """

    def __init__(self, home: Home, transport: Transport, bundles: Counter, trials: Trials) -> None:
        self.home, self._transport, self._bundles, self._trials = home, transport, bundles, trials
        self._links = chain(home.folder)

    def keys(self, device: Row, believed: Sequence[str]) -> None:
        """Say the hub's keys to a device that does not name the newest of them."""
        if self._links and self._links[-1].key.id not in believed:
            links = tuple(one.data for one in self._links)
            self._post(device).send_bare(device["name"], m.HubKeys(device["name"], links))

    def keys_to_all(self) -> None:
        """The same to every device that may come in; the broker keeps it for those that are away."""
        self._links = chain(self.home.folder)
        for device in self.home.ledger.devices():
            if not device["revoked"]:
                self.keys(device, (device["hello"] or {}).get("hub_keys") or ())

    def answer(self, device: Row) -> None:
        """Say how it stands, in answer to the last hello of a device."""
        sender, name = (device["hello"] or {}).get("sender"), device["name"]
        if not sender:
            return
        sequence, digest = self._release(name, device["model"] or "")
        bundle, order = self.home.ledger.assignment(name), self.home.ledger.order(name)
        bundle, order = (row if self._bundles.where else None for row in (bundle, order))
        if order is not None and not (device["hello"] or {}).get("program"):
            order = None  # it can be no other release, so it is told of none
        told = m.Standing(
            name,
            sender["boot"],
            sender["sequence"],
            sequence,
            digest,
            -1 if bundle is None else bundle["sequence"],
            -1 if order is None else order["sequence"],
        )
        self._post(device).send(name, told)

    def say_all(self) -> None:
        """Answer the last hello of every device anew: with another key, say."""
        for device in self.home.ledger.devices():
            if not device["revoked"]:
                self.answer(device)

    def _release(self, name: str, model: str) -> tuple[int, str]:
        """Sequence and digest of what a device should serve: what is released to all, or a trial that it is in."""
        release = self.home.ledger.release(model)
        found = (-1, "") if release is None else (release["sequence"], release["digest"])
        return max([found, *((s.sequence, s.version) for s in self._trials(model) if name in s.boards)])

    def _post(self, device: Row) -> Post:
        return Post(self._transport, self.home.key, self.home.config.fleet, device["model"] or NO_MODEL)
