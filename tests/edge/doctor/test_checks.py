"""The doctor, where the trouble is really there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from console.errors import (
    DoesNotFit,
    EdgequiltError,
    HubError,
    MissingDependency,
    SignatureError,
    StorageError,
    TransportError,
    UsageError,
)
from edge.doctor import machine, network, service
from edge.doctor.board import Board
from edge.doctor.finding import Finding
from edge.doctor.table import CHECKS, examine, exit_code
from edge.ended import note_end, read_end
from edge.health.readings import Health
from edge.identity.claim import claim
from edge.identity.configuration import Wishes
from edge.shelf import Kept
from edge.slots.record import Record
from hub import authority
from hub.store.writes import put_device
from tests.conftest import ROOT
from tests.edge.boards import make_board, write_data
from tests.edge.test_agent import write_toml
from tests.edge.test_surroundings import kernel
from tests.hub.web.hubs import Hub, running
from wire.identity import BrokerAt
from wire.messages import Assignment, Program
from wire.record import plain
from wire.tls import request_for

PI4 = "processor\t: 0\nCPU part\t: 0xd08\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One for all tests that take other names than the rest."""
    with running(tmp_path_factory.mktemp("doctor") / "hub") as made:
        yield made


@contextmanager
def listening(hub: Hub, stem: str = "web", trusted: Path | None = None) -> Iterator[int]:
    """Something of TLS that wants a certificate, as a broker does; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(hub.folder / f"{stem}.pem", hub.folder / f"{stem}.key")
    context.load_verify_locations(trusted or hub.folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    line, _ = door.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(line, server_side=True) as safe:
                        safe.settimeout(3)
                        safe.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        yield door.getsockname()[1]


def claimed(hub: Hub, folder: Path, port: int) -> Board:
    """A board that has claimed a name, and whose broker is at a port."""
    folder.mkdir()
    write_data(folder / "data.jsonl")
    hub.service.broker_at = BrokerAt(True, "", port)
    claim(hub.token(hub.name()), folder, Wishes(data=folder / "data.jsonl"))
    return Board(folder / "agent.toml")


def found(board: Board, name: str) -> Finding:
    """What one check of the table finds."""
    return next(check for check in CHECKS if check.name == name).look(board)


def says(finding: Finding, words: str) -> None:
    """It is a problem, in these words, and there is something to do."""
    assert finding.level == "problem", finding
    assert words in finding.says
    assert finding.mend


def test_a_board_that_is_well_has_no_problem(hub: Hub, tmp_path: Path) -> None:
    """Of a claimed board with a broker and a hub that answer, only what needs a running agent is amiss."""
    with listening(hub) as port:
        board = claimed(hub, tmp_path / "b", port)
        rows = list(examine(board))

    assert [check.name for check, _ in rows] == [check.name for check in CHECKS]
    assert [check.name for check, finding in rows if finding.level == "problem"] == ["agent"], rows
    levels = {check.name: finding.level for check, finding in rows}
    for name in ("configuration", "claim", "keys", "clock", "names", "reach", "certificate", "tls", "enrolled", "disk"):
        assert levels[name] == "ok", rows
    assert exit_code(rows) == EdgequiltError.exit_code


def test_every_class_of_trouble_has_its_exit_code() -> None:
    """The code is that of the first problem in the table; warnings have none."""
    fine, bad = Finding("ok", "fine"), Finding("problem", "bad", "mend")
    for index, check in enumerate(CHECKS):
        rows = [(one, bad if at >= index else Finding("warning", "w", "m")) for at, one in enumerate(CHECKS)]
        assert exit_code(rows) == check.kind.exit_code
    assert exit_code([(check, fine) for check in CHECKS]) == 0
    kinds = {UsageError, HubError, SignatureError, MissingDependency, StorageError, DoesNotFit, TransportError}
    assert {check.kind for check in CHECKS} == {*kinds, EdgequiltError}


def test_the_page_names_every_check_and_its_code() -> None:
    """docs/doctor.md has a row for each, in order, with the exit code of its class."""
    lines = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8").splitlines()
    begins = lines.index("| check | finds | code |") + 2
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[begins : begins + len(CHECKS)]]
    assert [(row[0].strip("`"), int(row[-1])) for row in rows] == [(c.name, c.kind.exit_code) for c in CHECKS]
    assert not lines[begins + len(CHECKS)].startswith("|")


# ------------------------------------------------------------------------------------------ what a person set up


def test_a_configuration_that_is_absent_or_wrong(tmp_path: Path) -> None:
    """No file, no TOML, an unknown entry: each is said in the words of its reader."""
    path = tmp_path / "agent.toml"
    says(found(Board(path), "configuration"), "there is no")
    path.write_text("[agent\n")
    says(found(Board(path), "configuration"), "expected TOML")
    path.write_text('[agent]\ncolour = "red"\n')
    says(found(Board(path), "configuration"), "agent.colour: unknown entry")


def test_a_claim_that_cannot_succeed(hub: Hub, tmp_path: Path) -> None:
    """No token, a token that was copied badly, one that another board has used: told apart, the last by the hub."""
    path = tmp_path / "agent.toml"
    path.write_text('[claim]\ntoken_file = "token"\n')
    says(found(Board(path), "claim"), "was never claimed")
    (tmp_path / "token").write_text("eqc1.abc")
    says(found(Board(path), "claim"), "the claim token cannot be read")

    token = hub.token(hub.name())
    (tmp_path / "token").write_text(token.text)
    assert found(Board(path), "claim").level == "warning"
    claim(token, tmp_path / "other", Wishes())
    command = [sys.executable, "edgequilt.py", "agent", "run", "--config", str(path)]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == HubError.exit_code, done.stderr
    says(found(Board(path), "claim"), "the hub refuses the claim token (2 times so far)")
    assert token.secret.hex() not in (tmp_path / "ended.json").read_text()
    assert token.text not in (tmp_path / "ended.json").read_text()


def test_keys_that_others_can_read(hub: Hub, tmp_path: Path) -> None:
    """A key of mode 0644 is named."""
    board = claimed(hub, tmp_path / "b", 1)
    (tmp_path / "b" / "tls.pem").chmod(0o644)
    says(found(board, "keys"), "tls.pem")


# ------------------------------------------------------------------------------------------ the machine


def test_a_python_that_is_too_old_or_too_narrow() -> None:
    """3.9, and 32 bits."""
    says(machine.judge_python((3, 9), True, "aarch64"), "Python 3.9")
    says(machine.judge_python((3, 13), False, "armv7l"), "of 32 bits on armv7l")
    assert machine.judge_python((3, 10), True, "aarch64").level == "ok"


def fake_runtime(folder: Path, version: str, body: str) -> dict[str, str]:
    """An environment in which another onnxruntime comes first."""
    kernel(folder, {"onnxruntime/__init__.py": body, f"onnxruntime-{version}.dist-info/METADATA": ""})
    return {**os.environ, "PYTHONPATH": str(folder)}


def doctor(config: Path, *more: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """The command; its exit code and its checks by name."""
    command = [sys.executable, "edgequilt.py", "agent", "doctor", "--json", "--config", str(config), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env=env)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode
    return done.returncode, {row["check"]: row for row in told["checks"]}


def test_an_onnxruntime_that_the_cores_do_not_take(tmp_path: Path) -> None:
    """1.21.0 on a Cortex-A72 is named by the profiles of boards that have one; any that dies at its load by trying."""
    root = kernel(tmp_path / "root", {"proc/cpuinfo": PI4})
    config, dies = tmp_path / "agent.toml", "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
    for version, body, words in (
        ("1.21.0", "", "onnxruntime 1.21.0 ends with SIGILL on Cortex-A72"),
        ("1.31.1", dies, "is ended by SIGILL when it is loaded"),
        ("1.31.1", "raise ImportError('libfoo.so.1')", "cannot be loaded: ImportError: libfoo.so.1"),
        ("1.19.2", "", "onnxruntime 1.19.2 is older than 1.22"),
    ):
        env = fake_runtime(tmp_path / f"lib-{len(body)}-{version}", version, body)
        code, rows = doctor(config, "--root", str(root), env=env)
        assert code == UsageError.exit_code  # there is no configuration, which comes first
        says(Finding(*(rows["onnxruntime"][k] for k in ("level", "says", "mend"))), words)
    says(machine.judge_runtime("", (), ()), "there is no onnxruntime")
    assert machine.avoided({"Cortex-A76"}) == set()
    assert machine.judge_runtime("onnxruntime 1.22.0", {"Cortex-A72"}, machine.avoided({"Cortex-A72"})).level == "ok"


MOUNTED = """
mount -t tmpfs -o size=1m tmpfs "$1/state" || exit 99
{then}
exec "$2" edgequilt.py agent doctor --json --config "$1/agent.toml"
"""


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ('dd if=/dev/zero of="$1/state/full" 2>/dev/null', "0.0 MiB free, but it takes no file (No space left"),
        ('mount -o remount,ro "$1/state"', "but it takes no file (Read-only file system)"),
        ("true", "1.0 MiB free"),
    ],
    ids=["full", "read-only", "small"],
)
def test_a_disk_that_takes_no_more(tmp_path: Path, then: str, words: str) -> None:
    """A file system that is full, one that is read-only, one that is nearly full: real ones, in a name space."""
    make_board(tmp_path)
    write_toml(tmp_path)
    (tmp_path / "state").mkdir()
    script = MOUNTED.format(then=then)
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("this user may not mount a file system of his own")
    rows = {row["check"]: row for row in json.loads(done.stdout)["checks"]}
    says(Finding(*(rows["disk"][k] for k in ("level", "says", "mend"))), words)


def test_memory_that_is_too_small_for_the_bundle(tmp_path: Path) -> None:
    """A board with 20 MiB for a bundle that was planned for more; one that the kernel had to kill on."""
    made = make_board(tmp_path / "b")
    write_toml(tmp_path / "b", agent="budget = 104857600")
    for available, level in ((99, "problem"), (120, "warning"), (400, "ok")):
        root = kernel(tmp_path / str(available), {"proc/meminfo": f"MemAvailable: {available * 1024} kB\n"})
        finding = found(Board(made.folder / "agent.toml", root), "memory")
        assert finding.level == level, finding
    events = {"sys/fs/cgroup/system.slice/edgequilt-agent.service/memory.events": "low 0\noom 2\noom_kill 2\n"}
    says(
        found(Board(made.folder / "agent.toml", kernel(root, events)), "memory"), "killed the agent's processes 2 times"
    )
    assert Board(made.folder / "agent.toml").plan is not None


def test_heat_and_a_weak_supply(tmp_path: Path) -> None:
    """Under-voltage now is a problem, under-voltage since the start of the board a warning."""
    firmware = "sys/devices/platform/soc/soc:firmware/get_throttled"
    weak = kernel(tmp_path / "weak", {firmware: "50005\n", "sys/class/thermal/thermal_zone0/temp": "85000\n"})
    says(found(Board(tmp_path / "agent.toml", weak), "power"), "under-voltage, throttled, hot, 85 °C")
    was = kernel(tmp_path / "was", {firmware: "50000\n"})
    finding = found(Board(tmp_path / "agent.toml", was), "power")
    assert (finding.level, finding.says) == ("warning", "the supply was too weak since the board started")
    assert machine.judge_power(Health()).level == "unknown"
    assert machine.judge_power(Health(temperature_c=50)).level == "ok"


# ------------------------------------------------------------------------------------------ the way to the hub


def test_a_clock_that_is_wrong(hub: Hub, tmp_path: Path) -> None:
    """1970, before the certificate was made, and an hour beside the hub's, which is asked over HTTPS."""
    board = claimed(hub, tmp_path / "b", 1)
    now = board.wall()
    says(found(Board(board.path, wall=lambda: 60.0), "clock"), "1970-01-01 00:01 UTC")
    says(found(Board(board.path, wall=lambda: now - 3600), "clock"), "behind the hub's")
    says(found(Board(board.path, wall=lambda: now + 3600), "clock"), "ahead of the hub's")
    says(network.judge_clock(now - 3600, now, None), "which cannot be")
    assert found(board, "clock").level == "ok"


def rewritten(board: Board, old: str, new: str) -> Board:
    """The same board with another line in its configuration."""
    text = board.path.read_text()
    assert old in text
    board.path.write_text(text.replace(old, new))
    return Board(board.path)


def test_a_name_that_nobody_knows_and_a_port_that_nobody_has(hub: Hub, tmp_path: Path) -> None:
    """The name server's answer and the refused connection are told apart, and which address it is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    board = claimed(hub, tmp_path / "b", closed)
    says(found(board, "reach"), f"nothing listens for the broker at 127.0.0.1:{closed}")
    assert found(board, "names").level == "ok"

    board = rewritten(board, f"mqtts://127.0.0.1:{closed}", "mqtts://no-such-host.invalid:8883")
    says(found(board, "names"), "the name no-such-host.invalid is not known")


def client_of(made: authority.Authority, name: str, folder: Path, days: float) -> None:
    """Give a board another certificate."""
    request = request_for(name, folder / "other.key")
    pem = authority.issue_device(made, name, request, days)
    (folder / "tls.pem").write_bytes(pem + (folder / "other.key").read_bytes())


def name_of(board: Board) -> str:
    """What it is called."""
    assert board.identity is not None
    return board.identity.name


def test_our_certificate_that_ran_out(hub: Hub, tmp_path: Path) -> None:
    """It is seen in the file, and the broker's alert says the same."""
    with listening(hub) as port:
        board = claimed(hub, tmp_path / "b", port)
        client_of(authority.load(hub.folder), name_of(board), board.folder, -2)
        says(found(board, "certificate"), "our certificate ran out on")
        says(found(board, "tls"), "refuses our certificate: it has run out")


def test_our_certificate_of_another_authority_or_another_board(hub: Hub, tmp_path: Path) -> None:
    """Neither is taken for ours."""
    other = authority.create("farm", tmp_path / "another hub")
    with listening(hub) as port:
        board = claimed(hub, tmp_path / "b", port)
        client_of(authority.load(hub.folder), "somebody", board.folder, 100)
        says(found(board, "certificate"), "is not for barn-")
        (board.folder / "other.key").unlink()
        client_of(other, name_of(board), board.folder, 100)
        says(found(board, "certificate"), "is of another authority than")
        says(found(board, "tls"), "refuses our certificate: it is of another authority")
    says(network.judge_certificate(board.folder / "tls.pem", None, "x", 0.0), "valid from")


def test_a_broker_of_another_authority_or_another_name(hub: Hub, tmp_path: Path) -> None:
    """The board does not believe it, and says why."""
    wrong = tmp_path / "wrong"
    made = authority.create("farm", wrong)
    authority.issue_server(made, ["127.0.0.1"], wrong, "web")
    authority.issue_server(authority.load(hub.folder), ["hub.example"], hub.folder, "named")
    other = Hub.__new__(Hub)
    other.folder = wrong
    for server, stem, words in ((other, "web", "is of another authority"), (hub, "named", "is for another name")):
        with listening(server, stem) as port:
            board = claimed(hub, tmp_path / stem, port)
            says(found(board, "tls"), words)


def test_a_broker_that_wants_a_certificate_of_ours(hub: Hub, tmp_path: Path) -> None:
    """A configuration without one is refused, and it is said what is wanted."""
    with listening(hub) as port:
        board = claimed(hub, tmp_path / "b", port)
        text = [x for x in board.path.read_text().splitlines() if not x.startswith("certificate =")]
        board.path.write_text("\n".join(text))
        says(found(Board(board.path), "tls"), "wants a certificate of ours")


def test_a_board_that_is_revoked(hub: Hub, tmp_path: Path) -> None:
    """The hub itself says so."""
    board = claimed(hub, tmp_path / "b", 1)
    assert found(board, "enrolled").level == "ok"
    with hub.service.home.ledger.transaction() as tx:
        put_device(tx, name_of(board), revoked=True)
    says(found(Board(board.path), "enrolled"), "has revoked it")


# ------------------------------------------------------------------------------------------ the program


def test_why_the_agent_ended_is_known_afterwards(tmp_path: Path) -> None:
    """A bundle that is damaged ends each start; how often and why is said until a start gets through."""
    made = make_board(tmp_path)
    config = write_toml(tmp_path)
    (made.bundle / "segment0.backward.train.onnx").write_bytes(b"damaged")
    command = [sys.executable, "edgequilt.py", "agent", "run", "--config", str(config)]
    for _ in range(2):
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120).returncode == 13
    says(found(Board(config), "agent"), "the agent ended 2 times: ")
    assert "segment0.backward.train.onnx" in found(Board(config), "agent").says


def test_a_last_word_is_bounded_and_harmless(tmp_path: Path) -> None:
    """Of a long sentence the beginning is kept, another error is counted anew, a folder that is away stops nothing."""
    for _ in range(3):
        note_end(tmp_path, HubError("x" * 9000), 1.0)
    ended = read_end(tmp_path)
    assert ended is not None
    assert (len(ended.sentence), ended.times, ended.kind) == (2000, 3, "HubError")
    note_end(tmp_path, StorageError("y"), 2.0)
    assert (read_end(tmp_path) or ended).times == 1
    (tmp_path / "ended.json").write_text("{")
    assert read_end(tmp_path) is None
    note_end(tmp_path / "agent.toml" / "x", StorageError("y"), 2.0)


UNITS: dict[str, tuple[dict[str, str], int, str, str]] = {
    "runs": ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "0"}, 0, "ok", "runs"),
    "hung": ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "4"}, 4, "problem", "4 times within a day"),
    "hung just now": ({"LoadState": "loaded", "Result": "watchdog"}, 0, "problem", "the watchdog ended"),
    "off": ({"LoadState": "loaded", "ActiveState": "inactive"}, 0, "problem", "does not run"),
    "fails": (
        {"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart", "ExecMainStatus": "13"},
        0,
        "problem",
        "exit code 13 again and again",
    ),
    "limps": ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "7"}, 0, "warning", "7 starts that failed"),
    "none": ({"LoadState": "not-found"}, 0, "unknown", "systemd knows no"),
}


@pytest.mark.parametrize(("shown", "barked", "level", "words"), UNITS.values(), ids=UNITS.keys())
def test_what_systemd_says_of_the_unit(shown: dict[str, str], barked: int, level: str, words: str) -> None:
    """By the properties as `systemctl show` prints them, and the watchdog's lines in the journal."""
    finding = service.judge_unit("edgequilt-agent.service", shown, barked)
    assert finding.level == level
    assert words in finding.says
    assert bool(finding.mend) == (level in ("warning", "problem"))


def test_the_unit_is_asked_of_systemctl_and_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of those names on the path are what is asked: here two that print what systemd 252 prints."""
    for name, text in (
        ("systemctl", "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=2\n"),
        ("journalctl", "edgequilt-agent.service: Watchdog timeout (limit 30s)!\n" * 2),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'E'\n{text}E\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    says(service.unit(Board(tmp_path / "agent.toml")), "2 times within a day: it hung")


JUDGED: dict[str, tuple[Callable[[], Finding], str, str]] = {
    "nobody": (lambda: service.judge_agent(False, None, {}), "problem", "no agent runs"),
    "away": (lambda: service.judge_agent(True, None, {"connected": False}), "warning", "is not connected"),
    "no hub": (
        lambda: service.judge_agent(True, None, {"connected": True, "trouble": "the broker takes messages, but"}),
        "problem",
        "the broker takes messages",
    ),
    "locked": (lambda: service.judge_agent(None, None, {}), "unknown", "root"),
    "twins": (lambda: service.judge_twins({"device": "barn", "replaced": 3}), "problem", "took our place 3 times"),
    "one": (lambda: service.judge_twins({"device": "barn", "replaced": 0}), "ok", "nobody else"),
    "no bundle": (lambda: service.judge_bundle(False, "", {"bundle": ""}), "warning", "no bundle yet"),
    "release": (lambda: service.judge_release(False, "", "unpack", "0.2.0+bbbbbbbb"), "ok", "(0.2.0+bbbbbbbb): unpack"),
    "no release": (lambda: service.judge_release(False, "", "", ""), "ok", "no other release"),
    "coming": (lambda: service.judge_bundle(False, "", {"bundle_coming": {"bytes": 1, "of": 9}}), "ok", "1 of 9 bytes"),
}


@pytest.mark.parametrize(("judge", "level", "words"), JUDGED.values(), ids=JUDGED.keys())
def test_what_the_agent_says_of_itself(judge: Callable[[], Finding], level: str, words: str) -> None:
    """By its lock and its status."""
    assert judge().level == level
    assert words in judge().says


def test_a_bundle_that_could_not_be_taken(tmp_path: Path) -> None:
    """The reason that the record of bundles holds."""
    order = Assignment("barn-1", 7, "tiny", "0" * 64)
    kept = Kept(order, failed_sequence=7, failed="expected a publisher that is trusted, found another")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "bundle.json").write_text(json.dumps(plain(kept)))
    says(found(Board(tmp_path / "agent.toml"), "bundle"), "expected a publisher that is trusted")


def test_a_release_that_could_not_be_taken(tmp_path: Path) -> None:
    """The reason that the record of releases holds; without an order, or after one that was followed, nothing."""
    board, record = Board(tmp_path / "agent.toml"), Record(tmp_path / "state")
    assert found(board, "release").level == "ok"
    record.follow(Program("barn-1", 4, "0" * 64))
    record.note(failed_sequence=4, failed="expected a wheel of numpy, found none")
    says(found(board, "release"), "expected a wheel of numpy, found none")
    assert "edgequilt hub release assign" in found(board, "release").mend
    record.follow(Program("barn-1", 5, "1" * 64))
    record.note(done=5)
    assert found(board, "release").level == "ok"
