"""A worker that plays one half of a split job: it says numbers and checks what comes back, without any model.

`python -m tests.edge.split.acts`, as a core starts it. Settings: `notes` and `bytes`; `slow_s` between two notes taken;
`crash` at a note; `fail` ends with that reason at the note
`fail_at`; `pause_s` before the first note; `rest_s` after the last one, before it says what came of the job.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import time
from pathlib import Path
from typing import IO, Any

from edge.request import Requests, read_frame, write_frame
from edge.split.channel import Note, expect
from edge.split.pipe import PipeChannel
from edge.worker import end_with_parent, private_stdout

PATIENCE_S = 60.0


def numbers(seed: int, size: int) -> bytes:
    """So many bytes that nobody else says."""
    return (hashlib.sha256(str(seed).encode()).digest() * (size // 32 + 1))[:size]


def board(channel: PipeChannel, told: dict[str, Any]) -> dict[str, Any]:
    """Say notes, two ahead of their answers, which must be what was said, backwards."""
    channel.send(Note("open", fields={"rows": 4}))
    assert expect(channel, ("opened",), PATIENCE_S).fields == {"rows": 4}
    time.sleep(float(told.get("pause_s", 0)))
    waiting, ahead, begun_s = list[int](), int(told.get("ahead", 2)), time.monotonic()
    times = list[float]()
    for step in range(told["notes"]):
        times.append(time.monotonic())
        if step == told.get("crash"):
            sys.exit(3)
        if step == told.get("fail_at"):
            raise ValueError(told["fail"])
        channel.send(Note("forth", step, 1, {"step": step}, numbers(step, told["bytes"])))
        waiting.append(step)
        if len(waiting) > ahead:
            _answer(channel, waiting.pop(0), told)
    for step in waiting:
        _answer(channel, step, told)
    seconds = time.monotonic() - begun_s
    channel.send(Note("end"))
    expect(channel, ("ended",), PATIENCE_S)
    each = sorted(after - before for before, after in itertools.pairwise(times))
    return {"notes": told["notes"], "seconds": seconds, "median_s": each[len(each) // 2] if each else seconds}


def _answer(channel: PipeChannel, step: int, told: dict[str, Any]) -> None:
    back = expect(channel, ("back",), PATIENCE_S)
    assert (back.step, back.micro, back.fields) == (step, 1, {"loss": step / 4}), (back.step, back.fields)
    assert back.data == numbers(step, told["bytes"])[::-1]


def tail(channel: PipeChannel, told: dict[str, Any]) -> dict[str, Any]:
    """Answer until the end."""
    taken = 0
    while True:
        note = expect(channel, ("open", "forth", "end"), PATIENCE_S)
        time.sleep(float(told.get("slow_s", 0)))
        if note.what == "end":
            channel.send(Note("ended"))
            return {"notes": taken}
        if note.what == "open":
            channel.send(Note("opened", fields=note.fields))
            continue
        if taken == told.get("crash"):
            sys.exit(3)
        taken += 1
        channel.send(Note("back", note.step, note.micro, {"loss": note.step / 4}, note.data[::-1]))


def serve(fields: dict[str, Any], answers: IO[bytes], requests: Requests) -> None:
    """One job."""
    channel = PipeChannel(requests, answers, fields["id"])
    try:
        made = (tail if fields["kind"] == "tail" else board)(channel, fields["settings"]["play"])
        time.sleep(float(fields["settings"]["play"].get("rest_s", 0)))
        Path(fields["out"]).write_bytes(fields["id"].encode())
        write_frame(answers, "result", {"id": fields["id"], "samples": 4, "metrics": made})
    except Exception as error:  # noqa: BLE001  # as the real worker does
        write_frame(answers, "error", {"id": fields["id"], "reason": str(error) or type(error).__name__})


def main() -> None:
    """Serve until the core ends."""
    answers, requests = private_stdout(), Requests(0)
    end_with_parent()
    while (frame := read_frame(requests)) is not None:
        if frame[0] == "request":
            serve(frame[1], answers, requests)


if __name__ == "__main__":
    main()
