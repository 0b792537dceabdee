"""The hub's HTTPS server: the one door to aiohttp. It runs in a thread of its own with an event loop of its own.

What aiohttp does not do, and what we do about it: it waits for ever for the end of a request's head, and counts no
connections, so this server accepts them itself, counts them before their handshake, and drops those that are late.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiohttp import web

from console.errors import BadData, EdgequiltError, HubError, SignatureError, StorageError, TransportError, UsageError
from hub.web.limits import Doors, Limits, Rate, counted_as
from hub.web.pace import Pace, Paces
from hub.web.ranges import part_of
from hub.web.routes import Answer, Asked, Refusal, Route, Within, find
from hub.web.who import admit

log = logging.getLogger("edgequilt.hub.web")
START_TIMEOUT_S = 15.0
BACKLOG = 128
HANDLERS = 4  # at a time; they wait for the one thread that owns the hub
STATUS = {UsageError: 400, BadData: 400, SignatureError: 403, HubError: 409, StorageError: 503}
Sent = Callable[[str, str, int, int, int], None]
ALWAYS = {"Cache-Control": "no-store", "Server": "edgequilt"}


class WebServer:
    """Serves a table of routes at HOST:PORT; port 0 takes a free one.

    Args:
        host, port: where to listen.
        identity: the server's certificate and key, and the authorities of its clients, as PEM files.
        routes: what is served.
        within: calls a function with the service, on the thread that owns it.
        limits: the bounds.
        paces: how fast files go out.
        sent: told of each file: the device, its name, the first byte, how many bytes of how many.

    Raises:
        TransportError: the port is in use, or the host is not one of this machine.
    """

    def __init__(
        self,
        host: str,
        port: int,
        identity: tuple[Path, Path, Path],
        routes: Sequence[Route],
        within: Within,
        limits: Limits | None = None,
        paces: Paces | None = None,
        sent: Sent = lambda device, file, begin, count, of: None,
    ) -> None:
        self._pace, self._sent = Pace(paces or Paces()), sent
        self._routes, self._within, self._limits = routes, within, limits or Limits()
        self._tls = _context(*identity)
        self._doors, self._rate = Doors(self._limits), Rate(self._limits)
        self._listener = _listen(host, port)
        self.host, self.port = host, int(self._listener.getsockname()[1])
        self._pool = ThreadPoolExecutor(HANDLERS, thread_name_prefix="web-request")
        self._ready, self._loop, self._stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
        self._greeting: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S):
            raise TransportError("expected the web server to start, it did not; start the hub again")

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening and end the thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._listener.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda loop, context: log.debug("%s", context.get("message")))
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:
            log.exception("the web server ended")
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = web.Server(self._handle)
        accepting = asyncio.create_task(self._accept(server))
        stopping = asyncio.create_task(self._stop.wait())
        self._ready.set()
        await asyncio.wait({accepting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            accepting.result()  # it never ends but by a fault, which ends the thread and is noticed
        accepting.cancel()
        await server.shutdown(1.0)

    async def _accept(self, server: web.Server) -> None:
        while True:
            try:
                connection, peer = await self._loop.sock_accept(self._listener)
            except OSError as error:  # no more file descriptors, say
                log.warning("no connection could be taken: %s", error)
                await asyncio.sleep(1.0)
                continue
            leave = self._doors.enter(counted_as(peer[0]))
            if leave is None:
                log.info("too many connections; one of %s was not taken", peer[0])
                connection.close()
                continue
            task = asyncio.create_task(self._greet(server, connection, leave))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, server: web.Server, connection: socket.socket, leave: Callable[[], None]) -> None:
        made = _Connection(server, self._loop, self._limits, leave)
        try:
            await self._loop.connect_accepted_socket(
                lambda: made, connection, ssl=self._tls, ssl_handshake_timeout=self._limits.handshake_s
            )
        except (OSError, asyncio.TimeoutError) as error:  # TLS errors are among the former
            log.debug("no handshake: %s", error)
            leave()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)  # noqa: S101  # `_greet` made it
        try:
            answer, route, device = await self._answer(connection, request)
            if answer.file is not None:
                return await self._send(connection, request, answer, route, device)
            response: web.StreamResponse = _response(answer)
        except Refusal as refusal:
            log.info("%s %s: %d, %s", request.method, request.path, refusal.status, refusal)
            response = _refused(refusal.status, str(refusal), refusal.headers)
        # Sent here, not after the return: only a complete answer ends the request's time.
        await response.prepare(request)
        await response.write_eof()
        connection.expect(self._limits.head_s)
        return response

    async def _send(
        self, connection: _Connection, request: web.BaseRequest, answer: Answer, route: Route, device: str
    ) -> web.StreamResponse:
        """Send a file or a part of it, no faster than agreed; whoever takes no block in time is dropped."""
        assert answer.file is not None  # noqa: S101  # the caller looked
        headers = {**ALWAYS, **answer.headers, "Content-Type": answer.kind, "Accept-Ranges": "bytes"}
        headers |= {"ETag": answer.etag} if answer.etag else {}
        with answer.file.open("rb") as file, self._pace.sending(device):
            size = os.fstat(file.fileno()).st_size
            wanted = request.headers.get("Range", ""), request.headers.get("If-Range", "")
            part = part_of(size, *wanted, answer.etag)
            begin, end = part or (0, size)
            headers |= {"Content-Length": str(end - begin)}
            headers |= {"Content-Range": f"bytes {begin}-{end - 1}/{size}"} if part else {}
            response = web.StreamResponse(status=206 if part else answer.status, headers=headers)
            await response.prepare(request)
            file.seek(begin)
            at, most = begin, self._pace.paces.block_bytes
            try:
                while at < end:
                    block = await self._loop.run_in_executor(self._pool, file.read, min(most, end - at))
                    await asyncio.sleep(self._pace.wait_s(device, len(block)))
                    connection.expect(route.deadline_s)
                    await response.write(block)
                    at += len(block)
                await response.write_eof()
            finally:
                self._sent(device, answer.file.name, begin, at - begin, size)
        connection.expect(self._limits.head_s)
        return response

    async def _answer(self, connection: _Connection, request: web.BaseRequest) -> tuple[Answer, Route, str]:
        route, found = find(self._routes, request.method, request.rel_url.raw_path)
        connection.expect(route.deadline_s)
        address = request.remote or ""
        wait_s = self._rate.wait_s(counted_as(address)) if route.limited else 0.0
        if wait_s:
            after = str(math.ceil(wait_s))
            raise Refusal(429, f"expected fewer requests; ask again in {after} s", {"Retry-After": after})
        device = _common_name(request)
        if route.identity and not device:
            raise Refusal(401, "expected a certificate of this fleet, found none; claim one, or renew it")
        body = await _body(request, route.body_bytes)
        asked = Asked(found, dict(request.query), body, address, device)
        return await self._loop.run_in_executor(self._pool, self._decide, route, asked), route, device

    def _decide(self, route: Route, asked: Asked) -> Answer:
        try:
            if route.identity:
                admit(self._within, asked.device)
            return route.handler(self._within, asked)
        except EdgequiltError as error:
            status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
            raise Refusal(status, str(error)) from error
        except Refusal:
            raise
        except Exception as error:
            log.exception("%s %s failed", route.method, route.path)
            raise Refusal(500, "expected to answer, the hub could not; see its log") from error


class _Connection(web.RequestHandler):
    """A connection that is dropped when it is late, and whose errors are JSON."""

    def __init__(
        self, server: web.Server, loop: asyncio.AbstractEventLoop, limits: Limits, leave: Callable[[], None]
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.head_s,
            access_log=None,  # type: ignore[arg-type]  # None means none; paths and queries stay out of the log
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            read_bufsize=65536,
            auto_decompress=False,  # a small body must stay small
            lingering_time=1.0,
        )
        self._limits, self._leave = limits, leave
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.expect(self._limits.head_s)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._leave()
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def expect(self, within_s: float) -> None:
        """Drop the connection unless the next thing happens in time."""
        if self._late is not None:
            self._late.cancel()
        self._late = self._loop.call_later(within_s, self._drop)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is no HTTP, or failed outside of a handler."""
        log.debug("no answer: %d, %s", status, type(exc).__name__)
        sentence = "the hub could not answer; see its log" if status >= 500 else "expected a request of HTTP/1.1"
        return _refused(status, sentence, {})

    def _drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def _response(answer: Answer) -> web.StreamResponse:
    headers = {**ALWAYS, **answer.headers, "Content-Type": answer.kind}
    return web.Response(body=answer.body, status=answer.status, headers=headers)


def _refused(status: int, sentence: str, headers: Any) -> web.StreamResponse:
    body = json.dumps({"error": sentence}).encode()
    response = web.Response(body=body, status=status, headers={**ALWAYS, **headers, "Content-Type": "application/json"})
    response.force_close()  # the rest of the request, if any, is not read
    return response


async def _body(request: web.BaseRequest, limit: int) -> bytes:
    too_long = Refusal(413, f"expected a body of at most {limit} bytes, found a longer one")
    if (request.content_length or 0) > limit:
        raise too_long
    body = b""
    while block := await request.content.readany():
        body += block
        if len(body) > limit:
            raise too_long
    return body


def _common_name(request: web.BaseRequest) -> str:
    """Whose certificate the client showed; OpenSSL has checked that it is of the fleet and of today."""
    peer = request.get_extra_info("peercert") or {}
    pairs = dict(pair for part in peer.get("subject", ()) for pair in part)
    return str(pairs.get("commonName", ""))


def _context(certificate: Path, key: Path, authorities: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authorities))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(str(certificate), str(key))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _listen(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        made = socket.create_server((bare, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise TransportError(
            f"expected to serve HTTPS on {host}:{port}, could not ({reason}); stop what uses the port, or choose "
            f"another one with --web-port"
        ) from error
    made.setblocking(False)
    return made
