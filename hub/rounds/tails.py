"""Watches the devices that have tails: one that went away and does not come back is gone, after a while."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hub.rounds.state import Round
from hub.store.registry import Home

GRACE_S = 20.0  # a connection that was lost, or a program that starts again, is back by then


@dataclass
class Watched:
    """Since when tails of open rounds are away; kept in memory: a hub that starts gives everybody time again."""

    away_at_s: dict[str, float] = field(default_factory=dict)

    def gone(self, home: Home, rounds: Iterable[Round], now_s: float) -> list[tuple[str, str]]:
        """The tails that boards wait for and that are gone, each with why."""
        wanted = sorted(
            {s.tail for r in rounds if r.phase == "collecting" for s in r.seats if s.tail and s.state == "waiting"}
        )
        away = [name for name in wanted if not (home.ledger.device(name) or {"online": False})["online"]]
        self.away_at_s = {name: self.away_at_s.get(name, now_s) for name in away}
        found = [name for name, since_s in self.away_at_s.items() if now_s - since_s >= GRACE_S]
        return [(name, f"{name} has its tail and went offline") for name in found]
