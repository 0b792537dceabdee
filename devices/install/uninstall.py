"""Taking an agent off a board."""

from __future__ import annotations

from pathlib import Path

from devices.install.conduct import SYSTEMCTL
from devices.install.root import look_at, root_of
from devices.install.ssh import Host, connected
from devices.install.wishes import Wishes
from devices.payload.places import COMMAND, CURRENT, HOME, LAUNCHER, RELEASES, RUNTIME, UNIT, UNITS


async def uninstall(host: Host, wishes: Wishes, *, keep_data: bool) -> tuple[str, ...]:
    """Take the agent off a board.

    Args:
        host: where to log in.
        wishes: how to be root there.
        keep_data: keep its folder (keys, settings, state, data), without the releases.

    Returns:
        What was removed; nothing, where there was no agent.
    """
    async with connected(host) as shell:
        look = await look_at(shell, wishes.prefix)
        root = root_of(shell, look, wishes.sudo_password, wishes.prefix)
        await root.run(SYSTEMCTL, "disable", "--now", UNIT)
        enabled = f"{UNITS}/multi-user.target.wants/{UNIT}"
        paths = [enabled, f"{UNITS}/{UNIT}", COMMAND, str(Path(LAUNCHER).parent), RUNTIME]
        private = f"{Path(HOME).parent}/private/{Path(HOME).name}"  # where systemd keeps it (DynamicUser=)
        paths += [CURRENT, RELEASES] if keep_data else [HOME, private]
        gone = await root.call("remove", {"paths": [path.lstrip("/") for path in paths]})
        await root.run(SYSTEMCTL, "daemon-reload")
        await root.run(SYSTEMCTL, "reset-failed", UNIT)
        return tuple(f"/{path}" for path in gone["removed"])
