"""All that the hub serves over HTTPS, line by line."""

from __future__ import annotations

from hub.web import programs
from hub.web.authority import authorities
from hub.web.bundles import blob, manifest, signature
from hub.web.identity import claim, nonce, renewal
from hub.web.routes import Route
from wire.https import CA_PATH
from wire.identity import CLAIM_PATH, NONCE_PATH, RENEWAL_PATH

ROUTES: tuple[Route, ...] = (
    Route("GET", CA_PATH, False, authorities, limited=True),
    Route("POST", CLAIM_PATH, False, claim, limited=True),
    Route("GET", NONCE_PATH, False, nonce, limited=True),
    Route("POST", RENEWAL_PATH, False, renewal, limited=True),
    Route("GET", "/bundles/{digest}/manifest.json", True, manifest),
    Route("GET", "/bundles/{digest}/manifest.sig", True, signature),
    Route("GET", "/programs/{digest}/manifest.json", True, programs.manifest),
    Route("GET", "/programs/{digest}/manifest.sig", True, programs.signature),
    Route("GET", "/blobs/{digest}", True, blob),
)
