"""What the local API answers, without any socket: a request in, a status and a JSON object out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.errors import EdgequiltError, StorageError
from edge.data.corrections import Corrections
from edge.local.bodies import read_feedback, read_generate, read_infer
from edge.local.refused import Refused
from edge.local.remembered import Remembered
from wire.files import read_bytes
from wire.json_text import parse_json

if TYPE_CHECKING:
    from edge.core import Core
    from edge.local.about import About
    from edge.local.asking import Asking
    from edge.local.sample import Sample

log = logging.getLogger("edgequilt.agent")
STATUS_S = 2.0  # the core is asked for so long; then what it wrote last is told
STATUS_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True)
class Asked:
    """A request: `body` is whole."""

    method: str
    path: str
    content_type: str = ""
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class Desk:
    """All that can be asked of an agent on its own board; any thread may ask."""

    def __init__(self, core: Core, asking: Asking) -> None:
        self._core, self._asking = core, asking
        self._remembered = Remembered()
        self._corrections: Corrections | None = None  # read when the first one comes
        self._keeping = threading.Lock()
        self._routes: dict[str, dict[str, Callable[[Asked], dict[str, Any]]]] = {
            "/v1/health": {"GET": self._health},
            "/v1/status": {"GET": self._status},
            "/v1/infer": {"POST": self._infer},
            "/v1/generate": {"POST": self._generate},
            "/v1/feedback": {"POST": self._feedback},
        }

    def answer(self, asked: Asked) -> Reply:
        """Answer, whatever is asked: an error is an answer, too."""
        try:
            methods = self._routes.get(asked.path.partition("?")[0])
            if methods is None:
                raise Refused(404, f"expected one of {', '.join(self._routes)}, found {asked.path[:80]!r}")
            if asked.method not in methods:
                allowed = ", ".join(methods)
                return Reply(405, _error(f"expected {allowed} here, found {asked.method[:20]}"), {"Allow": allowed})
            return Reply(200, methods[asked.method](asked))
        except Refused as refused:
            retry = {"Retry-After": "1"} if refused.status == 503 else {}
            return Reply(refused.status, _error(str(refused)), retry)
        except StorageError as error:
            return Reply(507, _error(str(error)))
        except EdgequiltError as error:
            return Reply(400, _error(str(error)))
        except Exception:  # a local program gets no traceback, and the agent's log does
            log.exception("a local request failed")
            return Reply(500, _error("something went wrong; the agent's log says more"))

    def _health(self, asked: Asked) -> dict[str, Any]:
        takes = self._about().takes
        warm = self._asking.link.pid is not None
        return {"ok": True, "device": self._core.setup.name, "takes": takes, "warm": warm, "version": self._version()}

    def _status(self, asked: Asked) -> dict[str, Any]:
        """As the core has it now, or, while that is busy, as it wrote it last."""
        found: list[dict[str, Any]] = []
        done = threading.Event()

        def tell() -> None:
            found.append(self._core.status.record())
            done.set()

        self._core.call(tell)
        if not done.wait(STATUS_S):
            text = read_bytes(self._core.status.path, "the agent's status", STATUS_LIMIT_BYTES)
            found.append(dict(parse_json(text, finite=False)))
        return {**found[0], "local": {"requests": self._asking.answered, "warm": self._asking.link.pid is not None}}

    def _infer(self, asked: Asked) -> dict[str, Any]:
        about = self._labels("labels")
        wanted = read_infer(asked.body, asked.content_type, about.takes)
        found = self._asking.ask("infer", wanted.samples, top=wanted.top)["answers"]
        for sample in wanted.samples:
            self._remembered.add(sample)
        answers = [{"sample": sample.id, **one} for sample, one in zip(wanted.samples, found, strict=True)]
        return {"version": self._version(), "answers": answers}

    def _generate(self, asked: Asked) -> dict[str, Any]:
        from edge.local.sample import Sample

        if not self._about().generates:
            raise Refused(409, "expected a bundle that goes on from a text, found one that does not")
        wanted = read_generate(asked.body, asked.content_type)
        prompt = Sample("text", wanted.prompt.encode())
        found = self._asking.ask("generate", [prompt], max_new_tokens=wanted.max_new_tokens)
        return {"version": self._version(), **found}

    def _feedback(self, asked: Asked) -> dict[str, Any]:
        about = self._labels("learns from labels")
        told = read_feedback(asked.body, asked.content_type, about.takes)
        if told.label not in about.labels:
            some = ", ".join(about.labels[:12]) + (", ..." if len(about.labels) > 12 else "")
            raise Refused(400, f"expected one of the labels {some}, found {told.label[:80]!r}")
        sample = told.sample or self._remembered.get(told.name)
        if sample is None:
            raise Refused(404, f"expected a sample that was asked about lately, found {told.name[:12]}; send it itself")
        return self._kept(sample, told.label, new=told.sample is not None)

    def _kept(self, sample: Sample, label: str, *, new: bool) -> dict[str, Any]:
        """On disk, once it is sure that the model can read it."""
        if sample.kind == "arrays":
            raise Refused(400, "expected a text, a picture or a sound, found arrays; put their rows into the data")
        if new and sample.kind != "text":
            self._asking.ask("infer", [sample], top=1)
        with self._keeping:
            if self._corrections is None:
                self._corrections = Corrections(Path(self._core.setup.place.corrections))
            news = self._corrections.put(sample.kind, sample.data, sample.suffix, label)
            count = len(self._corrections)
        if news:
            self._core.call(self._core.data.again)
        return {"sample": sample.id, "label": label, "new": news, "corrected": count}

    def _labels(self, what: str) -> About:
        about = self._about()
        if not about.labels:
            raise Refused(409, f"expected a bundle that {what}, found one that does not")
        return about

    def _about(self) -> About:
        if self._core.setup.about is None:
            raise Refused(503, "expected a bundle, found that the hub has named none yet; ask again later")
        return self._core.setup.about

    def _version(self) -> dict[str, Any] | None:
        served = self._core.store.served_of(self._core.setup.model)
        return None if served is None else {"version": served.version, "digest": served.digest}


def _error(sentence: str) -> dict[str, Any]:
    return {"error": sentence}
