"""All that the hub serves over HTTPS, line by line."""

from __future__ import annotations

from hub.web.authority import authorities
from hub.web.routes import Route

ROUTES: tuple[Route, ...] = (Route("GET", "/ca.pem", False, authorities, limited=True),)
