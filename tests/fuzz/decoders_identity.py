"""The doors of a board's identity: tokens, requests for certificates, what the hub answers, and their files."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from pathlib import Path
from typing import Any

from console.errors import TransportError
from edge.identity.configuration import Wishes, write_configuration
from edge.identity.record import FILE, Identity, read_identity, write_identity
from hub import authority
from hub.identity import claims
from hub.identity.grant import Where
from hub.identity.renewal import Nonces, renew
from hub.store import registry
from tests.fuzz import mutate
from tests.fuzz.decoder import Case, Decoder, of_bytes, of_file
from tests.fuzz.decoders_edge import AGENT
from wire.identity import BrokerAt, Claim, Granted, Renewal, check_signed, read_granted, read_signed, signed
from wire.json_text import parse_json
from wire.keys import PrivateKey, new_key, parse_public_key, write_key
from wire.record import plain
from wire.tls import request_for
from wire.token import CHECK_BYTES, PREFIX, Token, parse_token

TOKEN = Token(("hub.example:8884", "[::1]:8884"), "farm", "barn-1", b"\1" * 16, "ab" * 32)
BROKER = BrokerAt(tls=True, host="", port=8883)
WHERE = Where(BROKER, ("hub:8884",))
NOW_S = 1_700_000_000.0


def _bent_token(data: bytes, draw: random.Random) -> bytes:
    """Other letters, or other fields under a checksum that holds."""
    if draw.random() < 0.3 or not data.startswith(PREFIX.encode()):
        return mutate.bent_text(data, draw)
    body = base64.urlsafe_b64decode(data[len(PREFIX) :] + b"===")[:-CHECK_BYTES]
    bent = mutate.bent_msgpack(body, draw)
    whole = bent + hashlib.sha256(bent).digest()[:CHECK_BYTES]
    return PREFIX.encode() + base64.urlsafe_b64encode(whole).rstrip(b"=")


def _granted() -> Granted:
    hub, publisher = new_key("hub", "h").public.line, new_key("publisher", "p").public.line
    return Granted("farm", "barn-1", "CERTIFICATE", "CA", hub, (publisher,), BROKER, ("hub:8884",), NOW_S, NOW_S + 9)


def _home(folder: Path) -> registry.Home:
    _, public = write_key(new_key("publisher", "acme"), folder)
    registry.create(folder / "hub", "farm", [public], "127.0.0.1:0")
    authority.create("farm", folder / "hub")
    return registry.open_home(folder / "hub")


def _renewal(folder: Path) -> Case:
    """A body that is bent before the device signs it, and the hub's whole answer."""
    key, home, nonces = new_key("device", "barn-1"), _home(folder), Nonces()
    registry.enroll(home, "barn-1", key.public.line)
    request = request_for("barn-1", folder / "tls.key").decode()
    sample = signed(key, Renewal("farm", "barn-1", nonces.make(NOW_S), request))["body"]

    def read(data: bytes) -> Any:
        return renew(home, _signed(key, data), "", nonces, WHERE, NOW_S)

    return Case((sample.encode(),), read)


def _claim(folder: Path) -> Case:
    """The same for a board that holds a token; the hub gives the same board the same answer again."""
    key, home = new_key("device", "barn-1"), _home(folder)
    token = claims.make(home, ["barn-1"], 600.0, replace=False, now_s=NOW_S, at=["hub:8884"])[0]
    request = request_for("barn-1", folder / "tls.key").decode()
    sample = signed(key, Claim("farm", "barn-1", token.secret.hex(), key.public.line, request))["body"]

    def read(data: bytes) -> Any:
        claim, found = read_signed(_signed(key, data), Claim)
        check_signed(found, parse_public_key(claim.key, "device", "a claim"), "a claim")
        return claims.use(home, claim, WHERE, NOW_S)

    return Case((sample.encode(),), read)


def _signed(key: PrivateKey, body: bytes) -> Any:
    """What the web server hands on, of a body that the key signed whatever it is."""
    text = body.decode(errors="replace")
    sig = base64.b64encode(key.sign_raw(_under(text))).decode()
    return parse_json(json.dumps({"v": 1, "body": text, "sig": sig}))


def _under(text: str) -> bytes:
    return b"edgequilt/1/device\0" + text.encode()


def _identity(folder: Path) -> tuple[bytes, ...]:
    write_identity(folder, Identity("farm", "barn-1", ("hub:8884",), NOW_S, NOW_S + 9, "00ff"))
    return ((folder / FILE).read_bytes(),)


def _answered(data: bytes) -> Any:
    try:
        return read_granted(parse_json(data))
    except ValueError as error:
        raise TransportError("as wire.https has it") from error


def _tls_key(folder: Path) -> tuple[bytes, ...]:
    request_for("barn-1", folder / "made.key")
    return ((folder / "made.key").read_bytes(),)


def _configured(path: Path) -> Any:
    write_configuration(path, _GRANTED, "hub", ("publishers/a.pub",), Wishes())


_GRANTED = _granted()
IDENTITY: tuple[Decoder, ...] = (
    of_bytes(
        "claim token",
        _bent_token,
        lambda data: parse_token(data.decode(errors="replace")),
        lambda: (TOKEN.text.encode(),),
        write=lambda token: token.text.encode(),
    ),
    Decoder("request to renew", mutate.bent_json, _renewal, weight=0.3),
    Decoder("claim of a board", mutate.bent_json, _claim, weight=0.3),
    of_bytes(
        "answer to a claim",
        mutate.bent_json,
        _answered,
        lambda: (json.dumps(plain(_GRANTED)).encode(),),
        write=lambda granted: json.dumps(plain(granted)).encode(),
    ),
    of_file("identity.json", mutate.bent_json, FILE, lambda path: read_identity(path.parent), _identity),
    of_file("agent.toml before a claim", mutate.bent_toml, "agent.toml", _configured, lambda folder: (AGENT,)),
    of_file(
        "TLS key of a board",
        mutate.bent_text,
        "tls.key",
        lambda path: request_for("barn-1", path),
        _tls_key,
    ),
)
