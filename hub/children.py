"""What the hub's children are told: its surroundings, without the secrets that are in them."""

from __future__ import annotations

import os

from hub.hardware import PIN
from hub.store.database import PASSWORD

SECRETS = (PIN, PASSWORD)


def surroundings() -> dict[str, str]:
    """The environment for a broker or an agent that the hub starts."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}
