"""`edgequilt release`: pack a release of the agent for one kind of system, signed, for a hub to give to boards."""

from __future__ import annotations

import json
from pathlib import Path

from console.arguments import Arguments
from console.table import mib
from devices.payload.packed import write_packed
from devices.payload.release import release as made_of
from devices.payload.target import target_of
from devices.profile import load
from wire.keys import read_private_key


def release(argv: list[str]) -> int:
    """The verb `release`; returns the exit code.

    Raises:
        EdgequiltError: what is wrong with the command line, the key or the wheels.
    """
    given = _parser().parse_args(argv)
    target = target_of(given.python, given.glibc, given.architecture)
    profile = None if given.device is None else load(given.device, given.profiles)
    key = read_private_key(given.key)
    made = made_of(target, profile, given.wheelhouse)
    packed = write_packed(made, given.out, key)
    about = {"release": packed.version, "system": packed.system, "bytes": packed.bytes, "packed": packed.stream_bytes}
    if given.json:
        print(json.dumps({**about, "folder": str(given.out)}))
    else:
        print(
            f"release {packed.version} for {packed.system}: {mib(packed.bytes)}, packed {mib(packed.stream_bytes)}\n"
            f"give it to a hub: edgequilt hub release add {given.out}"
        )
    return 0


def _parser() -> Arguments:
    parser = Arguments("edgequilt release", description="Pack a release of the agent (docs/updates.md).")
    parser.add_argument("out", type=Path, metavar="FOLDER", help="where to write it")
    parser.add_argument("--python", required=True, metavar="3.11", help="of the boards")
    parser.add_argument("--glibc", required=True, metavar="2.36", help="of the boards, or an older one")
    parser.add_argument("--architecture", default="aarch64", help="aarch64 or x86_64; default: aarch64")
    parser.add_argument("--device", metavar="PROFILE", help="a kind of board whose limits on libraries count")
    parser.add_argument("--profiles", type=Path, metavar="FOLDER", help="a folder with profiles of your own")
    parser.add_argument("--wheelhouse", type=Path, metavar="DIR", help="take wheels from there, without the network")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="of a publisher whom the boards believe"
    )
    parser.add_argument("--json", action="store_true")
    return parser
