"""`edgequilt key`: make the keys that the three roles sign with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from console.arguments import Arguments
from wire.keys import ROLES, new_key, write_key
from wire.tls import new_request


def key(argv: list[str]) -> int:
    """`edgequilt key new NAME --role publisher|hub|device [--out DIR]`, `edgequilt key tls NAME [--out DIR]`."""
    parser = Arguments(prog="edgequilt key", description="Make the keys that publishers, hubs and devices sign with.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    new = verbs.add_parser(
        "new", help="make a key pair: NAME.key stays secret, NAME.pub is given to those who should believe it"
    )
    new.add_argument("name")
    new.add_argument("--role", choices=ROLES, required=True)
    new.add_argument("--out", type=Path, default=Path(), help="folder for the two files (default: here)")
    new.add_argument("--json", action="store_true")
    tls = verbs.add_parser(
        "tls", help="make a TLS key and the request that `hub enroll --request` signs: NAME.tls.key, NAME.csr"
    )
    tls.add_argument("name", help="the device's name in its fleet")
    tls.add_argument("--out", type=Path, default=Path(), help="folder for the two files (default: here)")
    tls.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.verb == "tls":
        return _tls(options)
    made = new_key(options.role, options.name)
    secret, public = write_key(made, options.out)
    if options.json:
        print(json.dumps({"key": str(secret), "public": str(public), "id": made.public.id, "role": options.role}))
    else:
        print(f"{secret}  (keep it secret)\n{public}  (give it to those who should believe {options.name})")
    return 0


def _tls(options: argparse.Namespace) -> int:
    secret, request = new_request(options.name, options.out)
    if options.json:
        print(json.dumps({"key": str(secret), "request": str(request)}))
    else:
        print(f"{secret}  (keep it secret)\n{request}  (for `edgequilt hub enroll {options.name} --request`)")
    return 0
