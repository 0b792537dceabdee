"""A round as data: its state, the events that change it, and the actions that a change asks for (hub.rounds.table)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hub.making.recipe import Recipe
from hub.masking.secure import Secure
from hub.privacy.settings import Private
from hub.rounds.selection import Selection
from wire.messages import JobKind, UpdateKind

Phase = Literal["collecting", "making", "gating", "judging", "complete", "failed"]
OPEN: tuple[Phase, ...] = ("collecting", "making", "gating", "judging")
UPDATE_OF: dict[str, UpdateKind] = {"train": "adapter", "statistics": "statistics", "evaluate": "scores", "fix": "edit"}
Mode = Literal["synchronous", "buffered"]
SeatState = Literal["waiting", "arrived", "failed", "late", "spare"]
Half = Literal["", "front", "tail"]


@dataclass(frozen=True)
class Seat:
    """A device in a round, and what became of its job; `spare`: enough others had answered.

    A board that has the front of a model alone does its job together with a tail; it has arrived when both halves of
    its update have, or when the half that is missing will not come (hub.rounds.halves).
    """

    device: str
    state: SeatState = "waiting"
    reason: str = ""
    turn: int = 1  # the asking that its job belongs to
    lap: int = 0  # of its job: the versions that the round had made then
    base: str = ""  # digest of that version; empty: the one that the round started from
    bundle: str = ""  # digest of its bundle, where that holds a part of the model's slots; empty: it holds all of them
    front: bool = False  # its bundle ends in the middle of the model
    tail: str = ""  # the device that goes on from there; empty: none
    step_s: float = 0.0  # of a front: what its plan has for a step; 0: nobody planned
    halves: tuple[str, ...] = ()  # front, tail: those that arrived of what both bring
    tried: tuple[str, ...] = ()  # the tails that it lost, once for each time
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """Everything that a round is; it is kept as JSON in the ledger and read back after a kill."""

    number: int
    kind: JobKind
    versions: tuple[str, ...]  # digests: the one to start from, or those to evaluate
    settings: dict[str, Any]
    quorum: int
    deadline_s: float
    deadline_at_s: float
    candidate: bool  # what is made must pass the gate and is then released
    phase: Phase = "collecting"
    seats: tuple[Seat, ...] = ()
    judges: tuple[Seat, ...] = ()
    version: str = ""  # digest of what was made
    against: str = ""  # digest of the version in use that the gate compares with
    released: bool = False
    candidate_accuracy: float | None = None
    parent_accuracy: float | None = None
    accuracy_error: float | None = None  # the standard error of their difference; of decoders, all three are losses
    sentence: str = ""
    recipe: Recipe = field(default_factory=Recipe)
    then: Literal["", "statistics"] = ""  # the kind of the round that follows by itself
    follows: int = 0  # the number of the round that this one followed by itself
    private: Private | None = None  # what it promises; None: nothing
    secure: Secure | None = None  # how far the sum has come of which alone it learns; None: it sees updates
    model: str = ""  # whose version it makes or judges
    mode: Mode = "synchronous"
    goal: int = 0  # so many updates make a version; 0: those of all devices
    laps: int = 1  # the versions to make, one after another; 0: until somebody stops it
    lap: int = 0  # the versions that were made
    turn: int = 1  # how often devices were asked; every asking has jobs of its own
    staleness: int = 0  # buffered: an update may have missed so many versions
    selection: Selection = field(default_factory=Selection)  # by which devices are chosen for every lap
    over: float = 0.0  # so many more are asked than are wanted, as a share
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def statistics_ranks(self) -> tuple[int, ...]:
        """The ranks at which a round of statistics asks for sums."""
        return tuple(self.settings.get("ranks", ()))

    @property
    def update_kind(self) -> UpdateKind:
        """The kind of the updates that its jobs bring."""
        return "masked" if self.secure is not None else UPDATE_OF[self.kind]

    @property
    def start(self) -> str:
        """The digest of the version that the present lap goes on from, while it is being collected and made."""
        return self.version or self.versions[0]

    @property
    def latest(self) -> int:
        """The lap that is being worked on, or the last one that was."""
        return self.lap if self.phase in ("collecting", "making") else max(0, self.lap - 1)

    @property
    def last(self) -> bool:
        """Whether the present lap is the last one."""
        return self.lap + 1 == self.laps

    @property
    def is_open(self) -> bool:
        """Whether anything is still to come."""
        return self.phase in OPEN


@dataclass(frozen=True)
class Opened:
    """The round begins."""


@dataclass(frozen=True)
class Arrived:
    """An update was journalled; `gate` says whether it answers the gate's job.

    In a sum under masks `stage` is what came, and `now_s` when: the next stage has a deadline of its own. Of a split
    job `half` is what came; `device` is the board, whoever sent it.
    """

    device: str
    gate: bool = False
    stage: str = ""
    now_s: float | None = None
    half: Half = ""


@dataclass(frozen=True)
class Gone:
    """A device could not do its job."""

    device: str
    reason: str
    gate: bool = False


@dataclass(frozen=True)
class Lost:
    """A tail is gone, or a board cannot go on with it (`device`; empty: all that it has are meant).

    `others` are the tails that can take boards, and how many each has.
    """

    tail: str
    reason: str
    others: dict[str, int]
    now_s: float
    device: str = ""


@dataclass(frozen=True)
class Tick:
    """Time passes."""

    now_s: float


@dataclass(frozen=True)
class Made:
    """The version was made; `judges` will compare it with `against` (empty: nothing is in use).

    `devices` are asked if there is another lap, besides those that go on; None: the same ones. `seats` say of some
    devices what their bundles hold and who has their tails; those that are not among them have the whole model.
    """

    version: str
    against: str
    judges: tuple[str, ...]
    now_s: float
    has_head: bool = True
    notes: tuple[str, ...] = ()
    devices: tuple[str, ...] | None = None
    seats: tuple[Seat, ...] = ()


@dataclass(frozen=True)
class Unmade:
    """The version could not be made."""

    reason: str


@dataclass(frozen=True)
class Judged:
    """The gate has spoken."""

    released: bool
    candidate: float | None
    parent: float | None
    sentence: str
    error: float | None = None


@dataclass(frozen=True)
class Stopped:
    """Somebody ended the round."""

    reason: str


@dataclass(frozen=True)
class Ask:
    """Send the device its job (its gate's job when the round is gating); `board`: that of the tail of this board."""

    device: str
    gate: bool
    turn: int = 1
    board: str = ""


@dataclass(frozen=True)
class Withdraw:
    """Tell the device that nobody waits any more, for its job or for that of the tail of a board."""

    device: str
    gate: bool
    turn: int = 1
    board: str = ""


@dataclass(frozen=True)
class Make:
    """Make the version from the journalled updates."""


@dataclass(frozen=True)
class Judge:
    """Let the gate decide from the journalled scores."""


@dataclass(frozen=True)
class Release:
    """This version is the one to serve."""

    version: str


@dataclass(frozen=True)
class Retreat:
    """Work goes on from this version again."""

    version: str


Action = Ask | Withdraw | Make | Judge | Release | Retreat
