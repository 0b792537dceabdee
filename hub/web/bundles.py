"""`GET /bundles/DIGEST/manifest.json`, `.../manifest.sig`, `GET /blobs/SHA256`: bundles, for those they are meant for.

A device gets the bundle that is assigned to it and the one that it runs, and nothing of others.
"""

from __future__ import annotations

from typing import Any

from hub.bundles.keeping import Source
from hub.web.routes import Answer, Asked, Refusal, Within

NOT_FOR_IT = (
    "expected a bundle, or a file of one, that is assigned to this device, found another; ask who runs the fleet"
)
BYTES = "application/octet-stream"


def manifest(within: Within, asked: Asked) -> Answer:
    """The manifest as its publisher signed it."""
    return Answer(_row(within, asked)["manifest"])


def signature(within: Within, asked: Asked) -> Answer:
    """The signature of a manifest."""
    found = _row(within, asked)["signature"]
    if found is None:
        raise Refusal(404, "expected the bundle's signature, found none; add the bundle again with `edgequilt hub add`")
    return Answer(found)


def blob(within: Within, asked: Asked) -> Answer:
    """A file of a bundle, or a range of it; its tag is its digest."""
    digest = asked.found["digest"]
    source, checked = within(lambda service: (_source(service, asked.device, digest), service.bundles.checked))
    if source is None:
        raise Refusal(404, NOT_FOR_IT)
    path = checked.path(source)  # on the thread of this request: reading a large file takes a while
    return Answer(file=path, kind=BYTES, etag=f'"{digest}"')


def _source(service: Any, device: str, digest: str) -> Source | None:
    found: Source | None = service.bundles.source(device, digest) or service.programs.source(device, digest)
    return found


def _row(within: Within, asked: Asked) -> dict[str, Any]:
    row = within(lambda service: service.bundles.bundle_of(asked.device, asked.found["digest"]))
    if row is None:
        raise Refusal(404, NOT_FOR_IT)
    return {name: None if row[name] is None else bytes(row[name]) for name in ("manifest", "signature")}
