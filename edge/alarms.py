"""When to say something again: limits that double up to a last one, and pauses anywhere below them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from wire.backoff import full_jitter

FIRST_S, LAST_S = 4.0, 90.0


@dataclass
class Alarms:
    """Named alarms; a name that rings again waits longer, until `calm`."""

    random: random.Random = field(default_factory=random.Random)
    at: dict[str, float] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    def arm(self, name: str, now: float) -> None:
        """Ring after the next pause."""
        attempt = self.attempts.get(name, 0)
        self.attempts[name] = attempt + 1
        self.at[name] = now + full_jitter(attempt, FIRST_S, LAST_S, self.random)

    def calm(self, name: str) -> None:
        """There was progress: pauses begin small again."""
        self.attempts.pop(name, None)

    def drop(self, name: str) -> None:
        """No longer needed."""
        self.at.pop(name, None)
        self.attempts.pop(name, None)

    def ringing(self, now: float) -> list[str]:
        """The names that are due; they are off until armed again."""
        due = [name for name, at in self.at.items() if at <= now]
        for name in due:
            del self.at[name]
        return due

    def wait_s(self, now: float) -> float | None:
        """Seconds until the next one."""
        return max(0.0, min(self.at.values()) - now) if self.at else None
