"""The agent as a service of systemd: a user of its own that exists while it runs, one folder that it may write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from devices.budget import CORE_BYTES
from devices.payload.placed import Linked, Payload, Placed
from devices.payload.places import CONFIG, HOME, LAUNCHER, UNIT, UNITS
from devices.profile import Profile

PYTHON = "/usr/bin/python3"
WATCHDOG_S = 30
CPU_ONLY = ("CPUExecutionProvider",)
Lines = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Limits:
    """What the service may use of the board's memory, as systemd writes it: bytes or a share."""

    high: str = "80%"  # above this its memory is taken back, which slows it down
    most: str = "90%"  # above this the worker is killed, and the core goes on


def limits_of(profile: Profile | None) -> Limits:
    """What is meant for core and worker on a kind of board, and for both together at most what is free after boot.

    >>> from devices.profile import load
    >>> limits_of(load("raspberry-pi-zero-2w")).most, limits_of(None).most
    ('306184192', '90%')
    """
    if profile is None:
        return Limits()
    return Limits(str(CORE_BYTES + profile.budget_bytes), str(profile.memory_available_bytes.value))


def unit(python: str = PYTHON, limits: Limits | None = None, *, devices: bool = False) -> str:
    """The text of the unit.

    Args:
        python: the interpreter on the board.
        limits: of memory; by default shares of what the board has.
        devices: whether the agent may open devices (an accelerator of the board).
    """
    held = limits or Limits()
    parts = {
        "Unit": (("Description", "edgequilt agent"), ("After", "network.target"), ("StartLimitIntervalSec", "0")),
        "Service": (*_running(python), *_memory(held), *_folders(), *_hardening(devices)),
        "Install": (("WantedBy", "multi-user.target"),),
    }
    return "\n".join(f"[{name}]\n" + "".join(f"{k}={v}\n" for k, v in lines) for name, lines in parts.items())


def unit_payload(profile: Profile | None, python: str = PYTHON) -> Payload:
    """The unit's file, and the link that enables it."""
    more = profile is not None and profile.providers != CPU_ONLY
    text = unit(python, limits_of(profile), devices=more)
    path = f"{UNITS}/{UNIT}"
    return Payload((Placed(path, text.encode()),), (Linked(f"{UNITS}/multi-user.target.wants/{UNIT}", path),))


def _running(python: str) -> Lines:
    return (
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecStart", f"{python} {LAUNCHER} agent run --config {CONFIG}"),
        ("WatchdogSec", str(WATCHDOG_S)),
        ("TimeoutStartSec", "180"),  # a slow card reads its first release in a minute
        ("Restart", "always"),
        ("RestartSec", "5"),
    )


def _memory(limits: Limits) -> Lines:
    return (
        ("MemoryHigh", limits.high),
        ("MemoryMax", limits.most),
        ("OOMPolicy", "continue"),  # the core reports a worker that was killed, and goes on
        ("OOMScoreAdjust", "200"),  # before what makes the board reachable
        ("TasksMax", "256"),
    )


def _folders() -> Lines:
    return (
        ("DynamicUser", "yes"),
        ("StateDirectory", "edgequilt"),
        ("RuntimeDirectory", "edgequilt"),
        ("WorkingDirectory", HOME),
        ("UMask", "0077"),
    )


def _hardening(devices: bool) -> Lines:
    on = (
        *("ProtectHome", "PrivateTmp", "NoNewPrivileges", "ProtectKernelTunables", "ProtectKernelModules"),
        *("ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname", "LockPersonality"),
        *("RestrictRealtime", "RestrictSUIDSGID", "RestrictNamespaces"),
    )
    return (
        ("ProtectSystem", "strict"),
        *((name, "yes") for name in on if not (devices and name == "ProtectClock")),  # it closes devices too
        ("PrivateDevices", "no" if devices else "yes"),
        ("ProtectProc", "invisible"),
        ("CapabilityBoundingSet", ""),
        # AF_NETLINK: looking up a name asks the kernel for the board's addresses
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
        ("SystemCallArchitectures", "native"),
        ("SystemCallFilter", "@system-service"),
        ("SystemCallErrorNumber", "EPERM"),
    )
