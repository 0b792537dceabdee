"""`edgequilt hub enroll`: who belongs to the fleet, by a token that a board claims or by keys."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from console.duration import seconds, words
from console.errors import UsageError, join
from console.table import table
from hub import authority
from hub.config import read_config
from hub.identity import claims
from hub.identity.grant import addresses
from hub.store import registry
from hub.store.ledger import Row
from hub.verbs.common import add_verb, ask_or_do, say
from wire.files import read_bytes, write_atomic
from wire.keys import KEY_FILE_LIMIT_BYTES


def parse(verbs: Any) -> None:
    """Its options."""
    text = "make claim tokens for new boards, or believe a device by its keys"
    enroll = add_verb(verbs, "enroll", _enroll, text, of_model=False)
    enroll.add_argument("names", nargs="*", metavar="NAME")
    enroll.add_argument("--expires", type=seconds, default=7 * 86400.0, metavar="TIME", help="of tokens (default: 7d)")
    enroll.add_argument("--out", type=Path, metavar="DIR", help="write each token to DIR/NAME.token instead")
    enroll.add_argument("--replace", action="store_true", help="the device may get another key")
    enroll.add_argument("--list", action="store_true", help="show the tokens that were made")
    enroll.add_argument("--cancel", action="store_true", help="make the tokens of these names worthless")
    enroll.add_argument("--key", type=Path, help="no token: the device's .pub file")
    enroll.add_argument("--request", type=Path, help="its .csr file, for a certificate that opens the broker")
    enroll.add_argument("--certificate", type=Path, help="where to write that (default: NAME.pem beside the request)")


def _enroll(options: argparse.Namespace) -> int:
    if options.key is not None:
        return _by_key(options)
    if options.request is not None or options.certificate is not None:
        raise UsageError("expected --key with --request, found none; say which key to believe")
    if options.list:
        return _list(options)
    if not options.names:
        raise UsageError("expected at least one NAME, found none; or say --list")
    return _cancel(options) if options.cancel else _tokens(options)


def _tokens(options: argparse.Namespace) -> int:
    request = {"names": options.names, "expires_s": options.expires, "replace": options.replace}

    def directly(home: registry.Home) -> Row:
        at = addresses(home.config)
        return claims.shown(claims.make(home, options.names, options.expires, options.replace, time.time(), at))

    found = ask_or_do(options, {"request": "tokens", **request}, directly)
    if all(_is_this_machine(address) for address in found["addresses"]):
        print(
            f"only boards on this machine reach {join(found['addresses'])}; set web.listen and web.hosts in hub.toml "
            f"for others, and make the tokens again",
            file=sys.stderr,
        )
    if options.out is None:
        return say(options, found, "\n".join(f"{row['name']}  {row['token']}" for row in found["tokens"]))
    paths = {row["name"]: options.out / f"{row['name']}.token" for row in found["tokens"]}
    for row in found["tokens"]:
        write_atomic(paths[row["name"]], row["token"].encode() + b"\n", mode=0o600)
    files = {name: str(path) for name, path in paths.items()}
    return say(options, {"files": files}, "\n".join(files.values()))


def _is_this_machine(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def _list(options: argparse.Namespace) -> int:
    found = ask_or_do(
        options,
        {"request": "tokens_outstanding"},
        lambda home: {"tokens": claims.outstanding(home, time.time())},
    )
    rows = [
        [row["name"], row["state"], words(row["expires_in_s"]) if row["state"] == "open" else "-", row["key"] or "-"]
        for row in found["tokens"]
    ]
    return say(options, found, table(["device", "token", "expires in", "key"], rows) if rows else "no token")


def _cancel(options: argparse.Namespace) -> int:
    request = {"request": "tokens_cancel", "names": options.names}
    found = ask_or_do(options, request, lambda home: {"cancelled": claims.cancel(home, options.names)})
    return say(options, found, "\n".join(f"the token of {name} is worth nothing now" for name in found["cancelled"]))


def _by_key(options: argparse.Namespace) -> int:
    if len(options.names) != 1:
        raise UsageError(f"expected one NAME with --key, found {len(options.names)}")
    (name,) = options.names
    line = read_bytes(options.key, "a public key", KEY_FILE_LIMIT_BYTES).decode(errors="replace")
    request = {"request": "enroll", "name": name, "line": line, "replace": options.replace}
    signed = None if options.request is None else _certificate(options, name)  # what cannot be read is said before
    found = ask_or_do(options, request, lambda home: registry.enroll(home, name, line, replace=options.replace))
    text = f"{found['device']} is enrolled with key {found['key']}"
    if signed is not None:
        path = options.certificate or options.request.with_name(f"{name}.pem")
        write_atomic(path, signed)
        found = {**found, "certificate": str(path), "ca": str(options.hub / authority.CERTIFICATE)}
        text += f"; give it {path} and {found['ca']}"
    return say(options, found, text)


def _certificate(options: argparse.Namespace, name: str) -> bytes:
    request = read_bytes(options.request, "a signing request", authority.FILE_LIMIT_BYTES)
    config = read_config(options.hub)
    made = authority.create(config.fleet, options.hub)
    return authority.issue_device(made, name, request, config.identity.certificate_days)
