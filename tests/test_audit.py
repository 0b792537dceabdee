"""What the code must never do, and what must never come out of it, looked for in all of it."""

from __future__ import annotations

import ast
import base64
import dataclasses
import importlib
import pkgutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.setup import lock_folder
from hub.config import BrokerConfig, WebConfig
from hub.hardware import PIN
from hub.serving.control import ControlServer
from hub.store import registry
from hub.store.backup import back_up
from hub.store.database import PASSWORD
from hub.store.restore import restore
from tests.conftest import ROOT
from tests.edge.identity.test_journey import COMMAND, Farm, run, well
from tests.processes import started, until
from tests.programs import mosquitto
from wire.broker import Broker
from wire.keys import new_key, write_key
from wire.mqtt import MqttTransport
from wire.tls import new_request
from wire.token import parse_token

ROOMS = ("console", "wire", "devices", "quant", "edge", "hub", "export", "sim")
CALLS = {
    "eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open",
    "yaml.load", "yaml.unsafe_load", "dill.load", "dill.loads", "joblib.load", "torch.load", "np.load", "numpy.load",
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tarfile.extractall",
    "archive.extractall", "tempfile.mktemp", "ssl._create_unverified_context", "pd.read_pickle",
}  # fmt: skip
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "yaml", "telnetlib", "xmlrpc"}
# file and call, and why it may be there
ALLOWED = {
    ("export/sources/folder.py", "pickle"): "the class of an error that torch.load ends with when weights_only refuses",
}


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
    yield "edgequilt.py", ast.parse((ROOT / "edgequilt.py").read_text(encoding="utf-8"))


def _dangerous(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if given.get("shell") == "True" or given.get("verify") == "False":
        return f"{name}(shell or verify)"
    if name == "torch.load" and given.get("weights_only") == "True":
        return None
    if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") == "False":
        return None  # the default is False, too
    return name if name in CALLS else None


def test_nothing_dangerous_is_called() -> None:
    """Nothing is unpickled, evaluated, or run through a shell anywhere, and no archive extracts itself."""
    found = set()
    for where, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := _dangerous(node)) is not None:
                found.add((where, name))
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(where, name) for name in names if name.split(".")[0] in MODULES}
    assert found == ALLOWED.keys(), "take it out, or give a reason in ALLOWED"


SECRET_WORDS = {"password", "secret", "pin", "token", "_secret", "_key", "sealing_secret", "masking_secret"}
# records whose field of such a name is no secret
NO_SECRET = {
    "Identity.token": "the first digits of a digest",
    "Hardware.token": "the label of a hardware module's token",
    "Place.token": "the same",
}


def test_reprs_leave_secrets_out() -> None:
    """A record that holds something called a secret does not show it: logs and tracebacks print records."""
    found = set()
    for room in ("console", "wire", "devices", "edge", "hub"):
        for module in pkgutil.walk_packages([str(ROOT / room)], f"{room}."):
            if module.name.startswith(("hub.migrations", "edge.identity.child")):
                continue  # programs, not modules
            for kind in vars(importlib.import_module(module.name)).values():
                if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.name):
                    continue
                own = "__repr__" in vars(kind) and "dataclass" not in getattr(kind.__repr__, "__qualname__", "")
                shown = [] if own and not hasattr(kind.__repr__, "__wrapped__") else dataclasses.fields(kind)
                found |= {f"{kind.__name__}.{f.name}" for f in shown if f.name in SECRET_WORDS and f.repr}
    assert found == NO_SECRET.keys()


# ------------------------------------------------------------------------------------------------- files


def _modes(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()}


def _is_secret(data: bytes) -> bool:
    return b"PRIVATE KEY" in data or b"eqc1." in data


def test_secrets_are_for_their_owner(tmp_path: Path) -> None:
    """Whatever holds a private key or a token, wherever a command put it, can be read by its owner alone."""
    _, public = write_key(new_key("publisher", "acme"), tmp_path / "p")
    write_key(new_key("device", "barn-1"), tmp_path / "d")
    new_request("barn-1", tmp_path / "d")
    well("hub", "init", str(tmp_path / "hub"), "--fleet", "farm", "--publisher", str(public))
    well("hub", "enroll", "barn-2", "--hub", str(tmp_path / "hub"), "--out", str(tmp_path / "tokens"))
    registry.open_home(tmp_path / "hub").ledger.close()
    back_up(tmp_path / "hub", tmp_path / "with.tar", keys=True)
    secret = [p for p in tmp_path.rglob("*") if p.is_file() and _is_secret(p.read_bytes())]
    names = {p.name for p in secret}
    assert {"acme.key", "barn-1.key", "barn-1.tls.key", "hub.key", "ca.key", "with.tar", "barn-2.token"} <= names
    open_ = {p.name: oct(p.stat().st_mode) for p in secret if p.stat().st_mode & 0o077}
    assert not open_


def test_folders_are_for_their_owner(tmp_path: Path) -> None:
    """Other users cannot enter a hub's folder, restored or not, nor an agent's; the local socket is its owner's."""
    _, public = write_key(new_key("publisher", "acme"), tmp_path / "p")
    registry.create(tmp_path / "hub", "farm", [public], "127.0.0.1:0")
    registry.open_home(tmp_path / "hub").ledger.close()
    back_up(tmp_path / "hub", tmp_path / "x.tar", keys=True)
    restore(tmp_path / "x.tar", tmp_path / "again")
    lock_folder(tmp_path / "state").close()
    for name in ("hub", "again", "state"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700, name
    deep = tmp_path / ("d" * 80) / "hub"
    deep.mkdir(parents=True)
    for folder in (tmp_path / "hub", deep):
        server = ControlServer(folder, lambda request: {})
        try:
            assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
            assert folder == tmp_path / "hub" or stat.S_IMODE(server.path.parent.stat().st_mode) == 0o700
        finally:
            server.close()


def test_nothing_listens_everywhere_by_itself() -> None:
    """Without a word in hub.toml, broker and web server are reached from their own machine alone."""
    for listen in (BrokerConfig().listen, WebConfig().listen):
        assert listen.startswith("127.0.0.1:")
    found = set()
    for where, tree in _sources():
        for node in ast.walk(tree) if where.startswith(("hub/", "edge/", "wire/")) else ():
            if isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::", "[::]"):
                found.add(where)
    assert found <= {"hub/brokers/start.py", "hub/brokers/mosquitto.py"}, "an address of all interfaces is in the code"


# ------------------------------------------------------------------------------------------------- a run


def _secrets(*folders: Path) -> dict[str, bytes]:
    """Lines of private keys by file, and tokens."""
    found = {}
    for path in (p for folder in folders for p in folder.rglob("*") if p.is_file()):
        inside = False
        for number, line in enumerate(path.read_bytes().splitlines()):
            if b"PRIVATE KEY" in line:
                inside = line.startswith(b"-----BEGIN")
            elif inside and len(line) >= 20:
                found[f"{path.name}:{number}"] = line
    return found


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def _seen(pid: int) -> bytes:
    own, *children = _family(pid)
    places = [f"{own}/cmdline", *(f"{child}/{what}" for child in children for what in ("cmdline", "environ"))]
    return b"\n".join(Path("/proc", place).read_bytes() for place in places)


def _retained(farm: Farm) -> bytes:
    """All that the broker keeps for who comes later, as the hub may read it."""
    heard: list[bytes] = []
    pair = farm.hub / "hub-tls.pem", farm.hub / "hub-tls.key"
    broker = Broker("127.0.0.1", farm.broker, True, farm.hub / "ca.pem", *pair)
    client = MqttTransport(broker, "audit")
    client.start(lambda topic, payload: heard.append(topic.encode() + payload), lambda up: None)
    try:
        assert client.wait_connected(20)
        client.subscribe("edgequilt/#")
        ends = time.monotonic() + 20
        while not heard and time.monotonic() < ends:
            time.sleep(0.05)
    finally:
        client.close()
    return b"\n".join(heard)


@pytest.mark.fleet
@pytest.mark.heavy
def test_no_secret_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hub, its broker and an agent that run, nothing said, logged, retained or shown by the system is secret."""
    mosquitto()
    farm, board = Farm(tmp_path), tmp_path / "b"
    said: list[str] = []
    monkeypatch.setenv(PASSWORD, "a-password-of-a-database")
    monkeypatch.setenv(PIN, "a-pin-of-a-module")
    with farm.up() as hub:
        monkeypatch.undo()
        (made,) = well("hub", "enroll", "barn-1", "--hub", str(farm.hub))["tokens"]
        token, word = parse_token(made["token"]), made["token"]
        told = ("--bundle", str(farm.board.config.bundle), "--data", str(farm.board.config.data))
        claim = [*COMMAND, "agent", "claim", "--token-file", "-", "--dir", str(board), *told]
        done = subprocess.run(claim, input=word, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
        said += [done.stdout, done.stderr]
        agent_command = [*COMMAND, "agent", "run", "--config", str(board / "agent.toml")]
        with started(agent_command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as agent:
            until(lambda: farm.online("barn-1"), agent)
            shown = _seen(hub.pid) + _seen(agent.pid)
            retained = _retained(farm)
            for verb in (("status",), ("versions",), ("enroll", "--list"), ("certificate", "barn-1")):
                for more in ((), ("--json",)):
                    done = run("hub", *verb, "--hub", str(farm.hub), *more)
                    said += [done.stdout, done.stderr]
            thief = run("agent", "claim", word, "--dir", str(tmp_path / "thief"))
            said += [thief.stdout, thief.stderr]
            agent.terminate()
            said.append(agent.communicate(timeout=30)[0])
        logs = [p.read_bytes() for p in farm.hub.rglob("*") if p.is_file() and p.suffix in (".log", ".txt", ".conf")]
    secrets = _secrets(farm.hub, board, farm.folder / "made")
    assert len(secrets) >= 8
    secrets |= {"the token": word.encode(), "its secret": token.secret, "in hexadecimal": token.secret.hex().encode()}
    secrets |= {"a password": b"a-password-of", "a PIN": b"a-pin-of"}  # both in the hub's own environment, for itself
    secrets["in base64"] = base64.b64encode(token.secret).rstrip(b"=")
    assert b"version" in retained
    out = {"said": "".join(said).encode(), "logs": b"".join(logs), "processes": shown, "retained": retained}
    assert b"barn-1" in out["said"]
    found = {f"{name} in {where}" for where, data in out.items() for name, secret in secrets.items() if secret in data}
    assert not found
    assert not [p for p in board.rglob("*") if p.is_file() and _is_secret(p.read_bytes()) and p.stat().st_mode & 0o077]
