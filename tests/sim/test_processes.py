from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from console.errors import EdgequiltError, TransportError
from hub.store import registry
from sim import processes as module
from sim.processes import Child, Processes
from tests.conftest import ROOT
from tests.sim.watch import is_gone

PATIENCE_S = 30.0
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
SAY_AND_SLEEP = "import time; print('here', flush=True); time.sleep(120)"
PARENT = """\
import sys, time
from pathlib import Path
from sim.processes import Processes

with Processes(Path(sys.argv[1])) as processes:
    child = processes.start("hub", ["hub", "up", sys.argv[2]])
    print(child.process.pid, flush=True)
    time.sleep(120)
"""

LOST = """\
import os, signal, sys
from pathlib import Path
from sim.processes import Processes

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(10))  # the exception comes here, where it is dropped

def in_start(processes):
    os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGINT))
    processes.start("late", ["agent", "run", "--config", str(Path(sys.argv[1]) / "nowhere.toml")])

def in_finalizer(processes):
    Last()
    processes.check()

def at_the_end(processes):
    Last()

processes = Processes(Path(sys.argv[1]))
try:
    with processes:
        globals()[sys.argv[2]](processes)
        print("went on")
except KeyboardInterrupt:
    print("interrupted", [child.process.returncode is not None for child in processes.children])
"""


def sleeper(processes: Processes, name: str, script: str = SAY_AND_SLEEP) -> Child:
    """A child that says `here` once it is ready for signals, and then sleeps."""
    log = processes.logs / f"{name}.log"
    with log.open("wb") as out:
        child = Child(name, subprocess.Popen([sys.executable, "-c", script], stdout=out, stderr=out), log)
    processes.children.append(child)
    processes.wait_for("here", child)
    return child


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_a_child_that_dies_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all run nothing is said; of the one that ended: its name, its exit code, its last words and its log."""
    monkeypatch.chdir(ROOT)
    with Processes(tmp_path / "logs") as processes:
        sleeper(processes, "hub")
        processes.check()
        child = processes.start("barn", ["agent", "run", "--config", str(tmp_path / "nowhere.toml")])
        child.process.wait(PATIENCE_S)
        with pytest.raises(EdgequiltError) as caught:
            processes.check()
    words = str(caught.value)
    assert words.startswith("expected barn to run, but it ended with code 18: edgequilt: expected a TOML file ")
    assert "nowhere.toml" in words
    assert words.endswith(f"; see {tmp_path / 'logs' / 'barn.log'}")


def test_waiting_for_words_ends_when_the_child_does(tmp_path: Path) -> None:
    """Words that never come: a child that died is named at once, one that is silent when the time is up."""
    with Processes(tmp_path) as processes:
        child = sleeper(processes, "silent")
        with pytest.raises(TransportError, match="expected silent to say 'ready' within 0 s, found: here"):
            processes.wait_for("ready", child, timeout_s=0.0)
        child.process.kill()
        with pytest.raises(EdgequiltError, match="expected silent to run, but it ended with code -9: here"):
            processes.wait_for("ready", child)


@pytest.mark.parametrize("error", [None, ValueError("a bug"), KeyboardInterrupt()], ids=["end", "error", "Ctrl-C"])
def test_children_are_gone_after_the_context(tmp_path: Path, error: BaseException | None) -> None:
    """However the context is left, every child has ended and its exit code was taken."""
    children = []
    with suppress(ValueError, KeyboardInterrupt), Processes(tmp_path) as processes:
        children = [sleeper(processes, "one"), sleeper(processes, "two")]
        if error is not None:
            raise error
    assert [child.process.returncode for child in children] == [-signal.SIGTERM] * 2
    assert all(is_gone(child.process.pid) for child in children)


def test_the_last_child_is_stopped_first(tmp_path: Path) -> None:
    """Agents end before their hub: children are stopped in the opposite of the order in which they came."""
    script = (
        "import signal, sys, time\n"
        "def end(*_):\n    open({path!r}, 'a').write({name!r} + ' ')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n" + SAY_AND_SLEEP.removeprefix("import time; ")
    )
    order = tmp_path / "order"
    with Processes(tmp_path) as processes:
        for name in ("hub", "barn", "coop"):
            sleeper(processes, name, script.format(path=str(order), name=name))
    assert order.read_text() == "coop barn hub "


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked to stop and not stopping, a child is ended all the same, and so are the others."""
    monkeypatch.setattr(module, "STOP_S", 0.3)
    with Processes(tmp_path) as processes:
        good, stubborn = sleeper(processes, "good"), sleeper(processes, "stubborn", STUBBORN + SAY_AND_SLEEP)
    assert stubborn.process.returncode == -signal.SIGKILL
    assert good.process.returncode == -signal.SIGTERM


def test_a_request_to_stop_reaches_the_children(tmp_path: Path) -> None:
    """SIGTERM leaves the context as Ctrl-C does; afterwards it means again what it meant before."""
    before, processes = signal.getsignal(signal.SIGTERM), Processes(tmp_path)

    def run() -> None:
        with processes:
            sleeper(processes, "one")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(PATIENCE_S)  # the signal ends this sleep

    with pytest.raises(KeyboardInterrupt):
        run()
    assert processes.children[0].process.returncode == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("in_start", "interrupted [True]\n"),
        ("in_finalizer", "interrupted []\n"),
        ("at_the_end", "went on\ninterrupted []\n"),
    ],
)
def test_an_interrupt_is_not_lost(tmp_path: Path, place: str, said: str) -> None:
    """Where Python drops the exception the interrupt still ends the run, and a child that was just made is known."""
    line = [sys.executable, "-c", LOST, str(tmp_path), place]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.stdout == said


def test_a_second_interrupt_does_not_stop_the_stopping(tmp_path: Path) -> None:
    """Ctrl-C again while children are being stopped leaves none of them behind."""
    script = (
        "import os, signal, sys\n"
        "def end(*_):\n    os.kill(os.getppid(), signal.SIGINT)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n" + SAY_AND_SLEEP
    )
    with suppress(KeyboardInterrupt), Processes(tmp_path) as processes:
        children = [sleeper(processes, "one", script), sleeper(processes, "two", script)]
    assert [child.process.returncode for child in children] == [0, 0]


def test_children_die_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """Even SIGKILL of the run, which nothing can handle, leaves no hub behind."""
    registry.create(tmp_path / "hub", "farm", [], "127.0.0.1:0")
    arguments = [sys.executable, "-c", PARENT, str(tmp_path / "logs"), str(tmp_path / "hub")]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        until((tmp_path / "hub" / "lock").exists)
        assert not is_gone(pid)

        parent.kill()
        parent.wait()

        until(lambda: is_gone(pid))
