"""Checks of the way to broker and hub: the clock, names, connections, TLS on both sides, whether the hub knows us."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from console.duration import words
from console.errors import EdgequiltError, TransportError
from edge.config import Config
from edge.doctor.board import Address, Board
from edge.doctor.finding import Finding, ok, problem, unknown, warning, worst
from edge.identity.folder import CA
from edge.identity.renew import hub_time
from edge.setup import broker_of
from wire.broker import tls_of
from wire.clock import plausible
from wire.https import Refused, Server, get_bytes

if TYPE_CHECKING:
    from cryptography import x509

CONNECT_S, ALERT_S = 8.0, 1.0  # for a connection; for a server that says only then that it does not like us
APART_S = 300.0  # clocks
SET_CLOCK = (
    "let the board reach a time server (timedatectl set-ntp true; the network must let UDP port 123 through), or set "
    "it: timedatectl set-time"
)
RENEW = "the agent renews it by itself once the hub answers; else claim anew: edgequilt hub enroll NAME --replace"
OTHER_NAME = (
    "the certificate of {at} is for another name",
    "use the name that it was made for, or set web.hosts in hub.toml",
)
OTHER_CA = (
    "the certificate of {at} is of another authority",
    "this is another hub, or its authority is a new one: claim anew",
)
VERIFY = {  # of OpenSSL's x509_vfy.h
    9: ("the certificate of {at} is not valid yet", "this board's clock may be behind, or the hub's: see `clock`"),
    10: (
        "the certificate of {at} has run out",
        "on the hub: make its certificate anew (docs/identity.md), and look at both clocks",
    ),
    **dict.fromkeys((18, 19, 20, 21), OTHER_CA),
    **dict.fromkeys((62, 64), OTHER_NAME),
}
ELSE = ("the certificate of {at} does not hold", "on the hub: make its certificate anew (docs/identity.md)")


def clock(board: Board) -> Finding:
    """Whether the time can be right, and is the hub's."""
    hub = None
    if board.identity is not None and isinstance(board.config, Config):
        with suppress(EdgequiltError):
            hub = hub_time(board.config.device_key.parent)
    return judge_clock(board.wall(), board.identity.at_s if board.identity is not None else 0.0, hub)


def judge_clock(now_s: float, made_s: float, hub_s: float | None) -> Finding:
    """By the time that it must be at least (the certificate was made then), and by what the hub says."""
    shown = _date(now_s)
    if hub_s is not None and abs(now_s - hub_s) > APART_S:
        side = "behind" if now_s < hub_s else "ahead of"
        return problem(f"the clock shows {shown}: {words(abs(now_s - hub_s))} {side} the hub's", SET_CLOCK)
    if not plausible(now_s, made_s):
        return problem(f"the clock shows {shown}, which cannot be", SET_CLOCK)
    return ok(f"{shown}, as the hub's" if hub_s is not None else f"{shown}; the hub was not asked")


def names(board: Board) -> Finding:
    """Whether the names of broker and hub are known."""
    if not board.addresses:
        return unknown("no address of a hub is known yet")
    return worst((_named(at) for at in board.addresses), ok(""))


def _named(at: Address) -> Finding:
    try:
        socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return problem(
            f"the name {at.host} is not known ({error.strerror})",
            f"see the board's network and its name server (resolvectl query {at.host}), or use the hub's IP address",
        )
    return ok(f"{at.host} is known")


def reach(board: Board) -> Finding:
    """Whether something listens there."""
    if not board.addresses:
        return unknown("no address of a hub is known yet")
    return worst((_reached(at) for at in board.addresses), ok(""))


def _reached(at: Address) -> Finding:
    try:
        socket.create_connection((at.host, at.port), CONNECT_S).close()
    except ConnectionRefusedError:
        return problem(
            f"nothing listens for {at}", "start the hub and its broker there (edgequilt hub up), or correct the port"
        )
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return problem(
            f"{at} cannot be reached ({why})", "see the network, and whether a firewall lets this port through"
        )
    return ok(f"{at} listens")


def tls(board: Board) -> Finding:
    """Whether both sides believe each other: as the agent connects to its broker."""
    if not isinstance(board.config, Config):
        return unknown("not claimed yet")
    try:
        broker = broker_of(board.config)
        if not broker.tls:
            return warning("messages travel without TLS", "use a broker of mqtts:// where others share the network")
        return shaken(Address("the broker", broker.host, broker.port), tls_of(broker))
    except EdgequiltError as error:
        return problem(str(error), RENEW)


def shaken(at: Address, context: ssl.SSLContext) -> Finding:
    """Shake hands; under TLS 1.3 a server says only afterwards what it thinks of our certificate."""
    try:
        with socket.create_connection((at.host, at.port), CONNECT_S) as line:
            line.settimeout(CONNECT_S)
            with context.wrap_socket(line, server_hostname=at.host) as safe:
                safe.settimeout(ALERT_S)
                with suppress(TimeoutError):
                    if safe.recv(1) == b"":
                        return warning(f"{at} ended the connection at once", "see its log: it may not know this board")
    except ssl.SSLCertVerificationError as error:
        says, mend = VERIFY.get(error.verify_code, ELSE)
        return problem(says.format(at=at), mend)
    except ssl.SSLError as error:
        return _refused(at, error.reason or "")
    except OSError as error:
        return unknown(f"{at} cannot be reached ({error.strerror or error})")
    return ok(f"{at} and this board believe each other")


def _refused(at: Address, reason: str) -> Finding:
    """By the alert that a server sent."""
    said = reason.lower().replace("_", " ")
    if "expired" in said:
        return problem(f"{at} refuses our certificate: it has run out", RENEW)
    if "revoked" in said:
        return problem(
            f"{at} refuses our certificate: it is revoked", "ask who runs the fleet; then claim another name"
        )
    if "unknown ca" in said:
        return problem(f"{at} refuses our certificate: it is of another authority", "claim anew from this hub")
    if "required" in said or "handshake failure" in said:
        return problem(
            f"{at} wants a certificate of ours", "claim this board, or name certificate and key in agent.toml"
        )
    return problem(
        f"no TLS with {at} ({said})", "see that this is the broker's port for TLS, and that the files are whole"
    )


def certificate(board: Board) -> Finding:
    """Our own certificate: its dates, its name, whether it is of the authority that we believe."""
    config = board.config
    if not isinstance(config, Config) or config.broker.certificate is None:
        return unknown("no certificate yet")
    now = board.wall()
    return judge_certificate(Path(config.broker.certificate), config.broker.ca, config.name, now)


def judge_certificate(path: Path, ca: str | None, name: str, now_s: float) -> Finding:
    """By the files and the time."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        believed = x509.load_pem_x509_certificates(Path(ca).read_bytes()) if ca else []
    except (OSError, ValueError) as error:
        return problem(f"the certificate {path} cannot be read ({error})", RENEW)
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    owner = [str(one.value) for one in found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if now_s < begins:
        finding = problem(
            f"our certificate is valid from {_date(begins)} on, and the clock shows {_date(now_s)}", SET_CLOCK
        )
    elif now_s > ends:
        finding = problem(f"our certificate ran out on {_date(ends)}", RENEW)
    elif owner != [name]:
        finding = problem(f"our certificate is not for {name}", "put this board's certificate there, or claim anew")
    elif believed and not any(map(partial(_issued, found), believed)):
        finding = problem(
            f"our certificate is of another authority than {ca}", "claim anew, or put the hub's ca.pem there"
        )
    else:
        finding = ok(f"valid until {_date(ends)}")
    return finding


def _issued(found: x509.Certificate, authority: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        found.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def enrolled(board: Board) -> Finding:
    """Whether the hub knows this board, and has not revoked it."""
    known, config = board.identity, board.config
    if known is None or not isinstance(config, Config) or config.broker.certificate is None:
        return unknown("the hub cannot be asked without an identity")
    folder = config.device_key.parent
    hubs = [at for at in board.addresses if at.what == "the hub"]
    return worst((_asked(at, folder, Path(config.broker.certificate)) for at in hubs[:1]), unknown("no hub is known"))


def _asked(at: Address, folder: Path, certificate_file: Path) -> Finding:
    """Ask for a bundle that cannot be: who may ask hears that there is none."""
    try:
        get_bytes(
            Server(at.host, at.port, folder / CA, certificate_file), f"/bundles/{'0' * 64}/manifest.json", 1 << 20
        )
    except Refused as error:
        if error.status in (401, 403):
            return problem(f"the hub does not know this board, or has revoked it: {error}", "ask who runs the fleet")
        return ok("the hub knows this board")
    except TransportError as error:
        return unknown(str(error))
    except EdgequiltError as error:
        return problem(str(error), RENEW)
    return ok("the hub knows this board")


def _date(at_s: float) -> str:
    with suppress(OSError, ValueError, OverflowError):
        return dt.datetime.fromtimestamp(at_s, dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"{at_s:.0f} s after 1970"
