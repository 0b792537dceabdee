"""`GET /ca.pem`: the authorities of the fleet. Whoever asks must check what comes against a fingerprint it knows."""

from __future__ import annotations

from hub.authority import trusted
from hub.web.routes import Answer, Asked, Within

PEM = "application/x-pem-file"


def authorities(within: Within, asked: Asked) -> Answer:
    """All that this hub trusts, the one that signs first."""
    folder = within(lambda service: service.home.folder)
    return Answer(trusted(folder), kind=PEM)
