"""Who looks up names where systemd-networkd brings the network: systemd-resolved, else a unit of ours.

networkd learns the name servers with its lease and keeps them in /run/systemd/netif/state, where systemd-resolved reads
them. Without it nobody writes them into /etc/resolv.conf, and a board reaches addresses, but no hub with a name.
"""

from __future__ import annotations

from devices.flash.changes import Tree
from devices.payload.placed import Linked, Payload, Placed
from devices.payload.places import UNITS

RESOLVED = "systemd-resolved.service"
SCRIPT = "/usr/lib/edgequilt/names.sh"
UNIT, PATH = "edgequilt-names.service", "edgequilt-names.path"
WANTS = f"{UNITS}/multi-user.target.wants"

_SCRIPT = """#!/bin/sh
# The name servers that systemd-networkd was told, into resolv.conf; what it was not told changes nothing.
set -u
root="${EDGEQUILT_ROOT:-}"
state="$root/run/systemd/netif/state"
servers=$(sed -n 's/^DNS=//p' "$state" 2>/dev/null)
domains=$(sed -n 's/^DOMAINS=//p' "$state" 2>/dev/null)
[ -n "$servers" ] || exit 0
part="$root/etc/.resolv.conf.edgequilt"
{
  for server in $servers; do echo "nameserver ${server%%#*}"; done
  [ -z "$domains" ] || echo "search $domains"
} > "$part" || exit 1
chmod 644 "$part"
mv -f "$part" "$root/etc/resolv.conf"
"""

_UNIT = f"""[Unit]
Description=name servers of the network into resolv.conf
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh {SCRIPT}

[Install]
WantedBy=multi-user.target
"""

_PATH = f"""[Unit]
Description=name servers of the network change

[Path]
PathChanged=/run/systemd/netif/state
Unit={UNIT}

[Install]
WantedBy=multi-user.target
"""


def names_payload(root: Tree) -> Payload:
    """What lets names be looked up beside systemd-networkd."""
    units = {name for folder in ("/usr/lib/systemd/system", "/lib/systemd/system") for name in root.names(folder)}
    if RESOLVED in units:
        return Payload(
            links=(
                Linked("/etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
                Linked(f"{WANTS}/{RESOLVED}", f"/lib/systemd/system/{RESOLVED}"),
            )
        )
    texts = {UNIT: _UNIT, PATH: _PATH}
    return Payload(
        (Placed(SCRIPT, _SCRIPT.encode(), 0o755), *(Placed(f"{UNITS}/{n}", t.encode()) for n, t in texts.items())),
        tuple(Linked(f"{WANTS}/{name}", f"{UNITS}/{name}") for name in texts),
    )
