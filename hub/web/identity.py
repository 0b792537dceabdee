"""The routes by which boards become who they are, and stay it."""

from __future__ import annotations

from hub.identity import claims
from hub.identity.renewal import renew
from hub.serving.service import Service
from hub.store.registry import let_in
from hub.web.routes import Answer, Asked, Within, as_json
from wire.identity import Claim, Granted, check_signed, read_signed
from wire.keys import parse_public_key
from wire.record import plain


def claim(within: Within, asked: Asked) -> Answer:
    """`POST /1/claim`: a token and two keys become a device."""
    body, request = read_signed(asked.json(), Claim)
    check_signed(request, parse_public_key(body.key, "device", "a claim"), "a claim")

    def do(service: Service) -> Granted:
        found = claims.use(service.home, body, service.where(), service.clock())
        service.allow(let_in(service.home))
        return found

    return as_json(plain(within(do)))


def nonce(within: Within, asked: Asked) -> Answer:
    """`GET /1/nonce`: what makes a request fresh, and the hub's time."""

    def do(service: Service) -> dict[str, object]:
        now_s = service.clock()
        return {"nonce": service.nonces.make(now_s), "at_s": now_s}

    return as_json(within(do))


def renewal(within: Within, asked: Asked) -> Answer:
    """`POST /1/renewal`: a certificate for a device's new key."""
    found = asked.json()
    return as_json(plain(within(lambda s: renew(s.home, found, asked.device, s.nonces, s.where(), s.clock()))))
