"""`GET /ca.pem`: the authorities of the fleet. Whoever asks must check what comes against a fingerprint it knows."""

from __future__ import annotations

from hub.authority import CERTIFICATE, FILE_LIMIT_BYTES
from hub.web.routes import Answer, Asked, Within
from wire.files import read_bytes

PEM = "application/x-pem-file"


def authorities(within: Within, asked: Asked) -> Answer:
    """All that this hub trusts, the one that signs first."""
    folder = within(lambda service: service.home.folder)
    return Answer(read_bytes(folder / CERTIFICATE, "the fleet's certificate", FILE_LIMIT_BYTES), kind=PEM)
