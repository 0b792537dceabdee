"""`GET /programs/DIGEST/manifest.json`, `.../manifest.sig`: releases of the agent, for those that are to be them.

Their streams are served as files of bundles are (hub.web.bundles).
"""

from __future__ import annotations

from hub.web.routes import Answer, Asked, Refusal, Within


def manifest(within: Within, asked: Asked) -> Answer:
    """The manifest as its publisher signed it."""
    return Answer(_field(within, asked, "manifest"))


def signature(within: Within, asked: Asked) -> Answer:
    """The signature of a manifest."""
    return Answer(_field(within, asked, "signature"))


def _field(within: Within, asked: Asked, name: str) -> bytes:
    row = within(lambda service: service.programs.program_of(asked.device, asked.found["digest"]))
    if row is None:
        raise Refusal(
            404, "expected a release that this device is to be, found another; ask who runs the fleet which one it is"
        )
    return bytes(row[name])
