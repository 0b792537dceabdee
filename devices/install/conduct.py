"""One board: look, decide, send, switch, wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from console.errors import StorageError, VerificationError
from console.progress import Progress
from console.table import shown
from devices.install.fitness import check, check_space, profile_for, remarks
from devices.install.health import SHOWN, Beat, Verdict, beat, steady, verdict
from devices.install.look import Look
from devices.install.plan import IDENTITY, Found, Plan, Wanted, asked_of, identity_in, partial, plan
from devices.install.root import Root, look_at, root_of, tarred
from devices.install.ssh import Host, connected
from devices.install.stages import CHOOSE, LOOK, SEND, SWITCH, WAIT, Stages
from devices.install.wishes import Wishes, wanted_by
from devices.payload.placed import Placed
from devices.payload.places import (
    BUNDLE,
    CURRENT,
    DATA,
    HOME,
    RELEASES,
    STATE,
    SUMS_FILE,
    TRIAL,
    UNIT,
)
from devices.payload.release import Release

SYSTEMCTL = "systemctl"
LINES = "20"  # of the journal, when the agent does not come up
EVERY_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of one board: its look, the plan, and the service's own words at the end (None: nothing was done)."""

    host: str
    look: Look
    profile: str | None
    release: str
    plan: Plan
    said: tuple[str, ...]
    status: str | None = None


async def install(host: Host, token: str | None, wishes: Wishes, *, dry_run: bool = False) -> Outcome:
    """Make a board an agent, or see that it is one.

    Args:
        host: where to log in.
        token: a claim token; None: the board is a device already.
        wishes: what a person chose.
        dry_run: look and decide, do nothing.

    Raises:
        EdgequiltError: the board is not reached, is not fit, is another device, or its agent does not come up.
    """
    stage = Stages(host.name, wishes.quiet)
    async with connected(host) as shell:
        with stage(LOOK):
            look = await look_at(shell, wishes.prefix)
            target = check(look, wishes.profile, wishes.prefix == "/")
            root = root_of(shell, look, wishes.sudo_password, wishes.prefix)
        profile = wishes.profile or profile_for(look)
        with stage(CHOOSE):
            wanted = await asyncio.to_thread(wanted_by, target, token, wishes, profile, look.python)
        found = await _found(root, wanted)
        plan_ = plan(wanted, found)
        check_space(look, sum_of(plan_))
        said = (*plan_.said, *remarks(look, time.time()))
        about = (host.name, look, profile.id if profile else None, wanted.release.version, plan_, said)
        if dry_run or not plan_.changes:
            return Outcome(*about)
        return Outcome(*about, await _carry_out(root, wanted, plan_, stage, wishes.steady_s))


def sum_of(plan_: Plan) -> int:
    """Bytes that will be sent."""
    return sum(
        len(f.content) if isinstance(f.content, bytes) else f.content.stat().st_size
        for s in plan_.steps
        for f in s.files
    )


async def _found(root: Root, wanted: Wanted) -> Found:
    digests, links, read = asked_of(wanted)
    sums = next(file for file in wanted.release.files if file.path.endswith(f"/{SUMS_FILE}"))
    told = {
        "digests": [path.lstrip("/") for path in digests],
        "links": [path.lstrip("/") for path in links],
        "read": [path.lstrip("/") for path in read],
        "release": wanted.release.folder.lstrip("/"),
        "partial": partial(wanted.release).lstrip("/"),
    }
    answer = await root.call("state", told, [bytes(sums.content) if isinstance(sums.content, bytes) else b""])
    _, text = await root.run(SYSTEMCTL, "show", f"--property={','.join(SHOWN)}", UNIT)
    service = beat(0.0, text)
    return Found(
        {f"/{path}": value for path, value in answer["digests"].items()},
        {f"/{path}": value for path, value in answer["links"].items()},
        identity_in(answer["read"].get(IDENTITY.lstrip("/"))),
        bool(answer["complete"]),
        frozenset(answer["whole"]),
        service.active,
        service.enabled,
    )


async def _carry_out(root: Root, wanted: Wanted, plan_: Plan, stage: Stages, steady_s: float) -> str:
    """The steps in their order: what runs is touched last, and at one instant."""
    with stage(SEND, sum_of(plan_), unit="bytes") as shown_:
        for name in ("release", "program", "settings", "carried"):
            await _send(root, [f for step in plan_.steps if step.name == name for f in step.files], shown_.advance)
            if name == "release" and not plan_.step("release").done:
                await _finish(root, wanted.release)
    with stage(SWITCH):
        await _switch(root, wanted, plan_)
        for arguments in (("daemon-reload",), ("enable", UNIT), ("restart", "--no-block", UNIT)):
            status, words = await root.run(SYSTEMCTL, *arguments)
            if status:
                raise StorageError(
                    f"expected systemctl {' '.join(arguments)} to work on the board, it says: {shown(words.strip())}"
                )
    with stage(WAIT, steady_s, unit="seconds") as waits:
        return await _healthy(root, wanted.release, steady_s, waits)


async def _send(root: Root, files: list[Placed], advance: Callable[[int], None]) -> None:
    if files:
        await root.call("take", {"home": HOME.lstrip("/")}, tarred(files, advance))


async def _finish(root: Root, made: Release) -> None:
    told = {"release": made.folder.lstrip("/"), "partial": partial(made).lstrip("/"), "home": HOME.lstrip("/")}
    answer = await root.call("finish", told)
    if answer["wrong"]:
        raise VerificationError(
            f"expected the files that were sent, found others on the board: {', '.join(answer['wrong'])}"
        )


async def _switch(root: Root, wanted: Wanted, plan_: Plan) -> None:
    """Make the release the one that starts, and give what root wrote to the agent's user."""
    sent = [f.path for step in plan_.steps if step.name in ("settings", "carried") for f in step.files]
    told = {
        "path": CURRENT.lstrip("/"),
        "target": f"releases/{wanted.release.version}",
        "trial": TRIAL.lstrip("/"),
        "home": HOME.lstrip("/"),
        "folders": [[STATE.lstrip("/"), 0o700], [DATA.lstrip("/"), 0o755]],
        "owned": [path.lstrip("/") for path in (CURRENT, TRIAL, RELEASES, STATE, DATA, BUNDLE, *sent)],
    }
    await root.call("link", told)


async def _healthy(root: Root, made: Release, steady_s: float, waits: Progress) -> str:
    """Wait until the service lives, and see that it is the release that was sent; what systemd says of it.

    Raises:
        VerificationError: it does not, or another release took its place; with the last lines of its journal.
    """
    beats: list[Beat] = []
    found: Verdict = "wait"
    told = 0.0  # seconds without a restart, as far as they were shown
    while found == "wait":
        _, text = await root.run(SYSTEMCTL, "show", f"--property={','.join(SHOWN)}", UNIT)
        beats.append(beat(time.monotonic(), text))
        found = verdict(beats, steady_s)
        waits.advance(max(0.0, min(steady(beats), steady_s) - told))
        told = max(told, min(steady(beats), steady_s))
        await asyncio.sleep(min(EVERY_S, steady_s) if found == "wait" else 0)
    last, current = beats[-1], await _current(root)
    if found == "healthy" and current == made.version:
        return last.status or last.active
    _, lines = await root.run("journalctl", "--unit", UNIT, "--lines", LINES, "--no-pager", "--output", "cat")
    said = "".join(f"\n  {shown(line)}" for line in lines.strip().splitlines())
    how = f"it is {last.active or 'not there'} after {last.restarts} restarts"
    back = f" ({current} runs again)" if current not in ("", made.version) else ""
    raise VerificationError(f"expected release {made.version} to run, {how}{back}; its last lines:{said}")


async def _current(root: Root) -> str:
    """The release that starts."""
    nothing = {"digests": [], "links": [CURRENT.lstrip("/")], "read": [], "release": "-", "partial": "-"}
    answer = await root.call("state", nothing)
    return str(answer["links"].get(CURRENT.lstrip("/"), "")).rpartition("/")[2]
