"""A worker of a hub: it takes its share of what devices send of updates, checks it, and leaves counting to the hub.

Begin, chunks and commit come by a shared subscription, so those of one update come to different workers; what has
arrived of it is a file in the hub's folder, which all of them share, and whoever finds it whole holds its lock while
it looks inside. A worker that is killed leaves such files: the device sends again, and another worker goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hub.keys import newer
from hub.making.model import Model
from hub.serving.door import believed
from hub.serving.guard import Guard
from hub.serving.inbox import Inbox
from hub.serving.post import Post
from hub.serving.updates import FOLDER, Updates
from hub.store.partial_files import FilePartials
from hub.store.registry import KEY, Home, models
from hub.store.writes import drop_worker, put_worker
from hub.workers.handing import Handing, KnownRounds
from hub.workers.patience import Patience
from wire import messages as m
from wire.topics import Address, parse_topic, shared_subscriptions
from wire.transport import Transport

LOOK_S = 3.0  # says that it is there, and looks what others did
Defer = Callable[[Callable[[], None]], None]


class Table:
    """What a worker has for one model."""

    def __init__(self, home: Home, model: Model, transport: Transport, clock: Callable[[], float]) -> None:
        self.post = post = Post(transport, home.key, home.config.fleet, model.id)
        self.rounds = KnownRounds(home, model, clock)
        self.home, self.handing, self.patience = home, Handing(home, post, self.rounds), Patience(clock)
        self.store = FilePartials(home.folder / FOLDER / model.id)
        self.inbox = Inbox(self.store, clock)
        self.updates = Updates(home, post, self.rounds, self.handing, self.inbox)
        self.updates.awaits = lambda key: self.store.expects(*key)  # others end what this one has asked for

    def begin(self, begin: m.Begin) -> None:
        """An update is announced."""
        self.updates.begin(begin)
        self.catch_up()

    def chunk(self, device: str, chunk: m.Chunk) -> None:
        """A piece."""
        if self.store.expects(device, chunk.blob):
            self.updates.chunk(device, chunk)
        else:
            self.patience.hold_chunk(device, chunk)

    def commit(self, commit: m.Commit) -> None:
        """All was sent, or announced: what is not here yet may be with another worker."""
        device = commit.sender.device
        self.store.commit(device, commit.update)
        found = self.store.get(device, commit.update)
        if found is not None and found.whole:
            self.patience.drop(device, commit.update)
            self.updates.commit(commit)
        else:
            self.patience.hold_commit(commit, announces=found is not None and not any(found.present))

    def catch_up(self) -> None:
        """Take what waited for another worker, and ask for what comes next."""
        for device, chunk in self.patience.chunks(self.store.expects):
            self.updates.chunk(device, chunk)
        for commit in self.patience.commits(self._here):
            if self.store.expects(commit.sender.device, commit.update) or not self._settled(commit):
                self.updates.commit(commit)
        self.updates.go_on()

    def look(self) -> None:
        """See what other workers keep, and forget what nobody waits for.

        Files first, then the rounds that are open: an older look at these would not know the round of a new file.
        """
        self.inbox.look()
        self.rounds.look()
        self.updates.tick()

    def _here(self, device: str, update: str) -> int:
        found = self.store.get(device, update)
        return 0 if found is None else sum(found.present)

    def _settled(self, commit: m.Commit) -> bool:
        """Whether another worker had it whole meanwhile; who is not told so sends its beginning again."""
        of = (commit.sender.device, commit.update)
        return self.home.ledger.receipt(*of) is not None or self.home.ledger.arrival(*of) is not None


class Worker:
    """One worker on a hub's folder; `name` is its own."""

    def __init__(self, home: Home, transport: Transport, name: str, clock: Callable[[], float]) -> None:
        self.home, self.transport, self.name, self.clock = home, transport, name, clock
        self.tables: dict[str, Table] = {}
        self.guard = Guard(home)
        self._looked_at_s = float("-inf")

    def listen(self) -> None:
        """Take a share of what devices send."""
        for pattern in shared_subscriptions(self.home.config.fleet):
            self.transport.subscribe(pattern)

    def handle(self, topic: str, payload: bytes) -> None:
        """Take a message; what does not hold changes nothing."""
        address = parse_topic(topic)
        if address is None or address.topic.direction != "up" or address.fleet != self.home.config.fleet:
            return
        self.guard(partial(self._take, address, payload), f"on {topic}")

    def tick(self) -> None:
        """Let time pass."""
        if self.clock() - self._looked_at_s >= LOOK_S:
            self._looked_at_s = self.clock()
            self.guard(self._look, "while looking around")
        for table in self.tables.values():
            self.guard(table.catch_up, "while catching up")

    def close(self) -> None:
        """Say that it is gone."""
        with self.home.ledger.transaction() as tx:
            drop_worker(tx, self.name)

    def _look(self) -> None:
        key = newer(self.home.folder, KEY, self.home.key)
        if key is not None:
            self.home.key = key
            for table in self.tables.values():
                table.post.key = key
        for name, model in models(self.home).items():
            if name not in self.tables:
                self.tables[name] = Table(self.home, model, self.transport, self.clock)
        with self.home.ledger.transaction() as tx:
            put_worker(tx, self.name, sum(table.handing.taken for table in self.tables.values()))
        for table in self.tables.values():
            table.look()

    def _take(self, address: Address, payload: bytes) -> None:
        kind, table = address.topic.message, self.tables.get(address.model)
        if table is None:
            return
        if kind is m.Chunk:
            table.chunk(address.device, m.decode(payload, m.Chunk))
            return
        _, message = believed(self.home.ledger, address, payload)
        if kind is m.Begin:
            table.begin(message)
        elif kind is m.Commit:
            table.commit(message)
