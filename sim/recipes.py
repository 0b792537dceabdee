"""What the two demonstrations train with, and why each number is what it is.

Both recipes: one round of head statistics, `rounds` rounds of adapters with the head frozen (cross-entropy over
all classes, Adam with betas 0.9 and 0.99, state dropped at every round), statistics again, then the gate.
What comes of them: `edgequilt demo [--scenario cameras] --seed N`.
"""

from __future__ import annotations

from dataclasses import dataclass

BOARDS = ("raspberry-pi-zero-2w", "raspberry-pi-4-2gb", "jetson-orin-nano-8gb")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a demonstration learns; sizes are rows, `sequence` is tokens."""

    name: str
    boards: tuple[str, ...]
    ranks: tuple[int, ...]  # of the boards, in their order
    train_rows: tuple[int, ...]  # of the boards, in their order, hold-out included
    test_rows: int  # of the common test set
    adapter_targets: str  # regular expression, searched in module paths
    rounds: int  # of adapters; statistics rounds not counted
    steps: int  # per board and round
    batch: int
    learning_rate: float
    scale: float  # of every adapter, at every rank
    sequence: int | None  # None: not text
    holdout_fraction: float

    @property
    def rank_of(self) -> dict[str, int]:
        """The rank of each board."""
        return dict(zip(self.boards, self.ranks, strict=True))

    @property
    def train_rows_of(self) -> dict[str, int]:
        """The number of rows of each board."""
        return dict(zip(self.boards, self.train_rows, strict=True))


TEXT = Recipe(
    name="text",
    boards=BOARDS,
    ranks=(2, 8, 16),  # one unlike rank per board; the highest is the hub's default
    # 100, 150 and 200 of each of three classes: unequal as the boards are, within the smallest package.
    train_rows=(300, 450, 600),
    test_rows=540,  # 60 of each class: an interval of 4 points
    # Query and value of the upper three of six blocks: what lies below needs no backward pass.
    adapter_targets=r"encoder\.layer\.[345]\.attention\.self\.(query|value)$",
    # A good encoder already separates these classes: more training shows nothing more.
    rounds=3,
    steps=8,
    batch=16,
    learning_rate=5e-4,  # small: on this text a larger one moves the joint model below the head alone
    scale=2.0,  # alpha = 2 r at every rank
    sequence=32,  # tokens; few sentences are longer
    holdout_fraction=0.1,
)

CAMERAS = Recipe(
    name="cameras",
    boards=BOARDS,
    ranks=(2, 8, 16),
    train_rows=(426, 426, 425),  # all 1277 training digits, each on one board
    test_rows=520,  # all test digits, each through one camera: an interval of 4 points
    # Query and value of all three blocks: the upper ones alone cannot mend what a camera changes, and all linear
    # layers cost twice the time.
    adapter_targets=r"encoder\.layer\.\d+\.attention\.attention\.(query|value)$",
    rounds=8,
    steps=15,
    batch=32,
    learning_rate=1e-3,
    scale=2.0,
    sequence=None,
    holdout_fraction=0.1,
)
