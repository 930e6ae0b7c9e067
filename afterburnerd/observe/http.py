"""A responder for two small pages. Not a web server: no bodies, no keep-alive, no routes but what one function answers.

Why not aiohttp: importing it costs the supervisor 17 MiB of memory and 120 ms of start (asyncio alone: 0), for pages
that a scraper asks for every few seconds. Command: python -c "import resource as r, aiohttp; print(r.getrusage(0).ru_maxrss)"
against the same without aiohttp.

A peer is untrusted. What it may cost is bounded: bytes of its request, time until the request is whole, time to take
the answer, and the number of connections; when that is reached the oldest one, which by then is nobody who wants a page,
makes room for the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

import msgspec

HEADER_LIMIT = 8192  # bytes; Prometheus sends about 300
REQUEST_SECONDS = 5.0  # for the whole request: one byte at a time does not stretch it
ANSWER_SECONDS = 10.0  # for taking a page of some 100 KiB
LINGER_SECONDS = 1.0
CONNECTIONS = 256
BACKLOG = 128

Handler = Callable[[str, Mapping[str, str]], "Response"]


class Response(msgspec.Struct, frozen=True):
    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class BadRequest(Exception):
    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.response = Response(status, f"{text}\n".encode())


class Responder:
    """One listening address. `handler(path, headers)` answers GET and HEAD."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}  # in order of arrival

    async def listen(self, host: str, port: int, beside: Responder | None = None) -> None:
        """Binds; OSError where that cannot be. Port 0 takes a free one.

        `beside`: one of ours that may hold an overlapping address (127.0.0.1:9475 and 0.0.0.0:9475) until it is closed.
        """
        bound = bind(host, port, beside._server.sockets if beside is not None and beside._server else ())
        self._server = await asyncio.start_server(self._serve, sock=bound, limit=HEADER_LIMIT, backlog=BACKLOG)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("not listening")
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Stops listening, lets answers under way finish for a moment, ends the rest."""
        if self._server is None:
            return
        self._server.close()
        if self._open:
            await asyncio.wait(self._open, timeout=LINGER_SECONDS)
        for task, writer in self._open.items():
            writer.transport.abort()
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        while len(self._open) >= CONNECTIONS:
            oldest = next(iter(self._open))
            self._open.pop(oldest).transport.abort()
            oldest.cancel()
        self._open[task] = writer
        try:
            await self._exchange(reader, writer)
        except (ConnectionError, TimeoutError):
            pass  # the peer went away, or did not take its answer: its own affair
        finally:
            self._open.pop(task, None)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = "GET"
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                method, path, headers = parse(await self._head(reader))
            response = self._handler(path, headers)
        except TimeoutError:
            response = BadRequest(
                HTTPStatus.REQUEST_TIMEOUT, f"no whole request within {REQUEST_SECONDS:.0f} s"
            ).response
        except BadRequest as e:
            response = e.response
        except asyncio.IncompleteReadError:
            return  # closed without a whole request
        writer.transport.set_write_buffer_limits(high=0)  # drain() then waits for the last byte
        writer.write(render(response, with_body=method != "HEAD"))
        async with asyncio.timeout(ANSWER_SECONDS):
            await writer.drain()
            # Closing with unread bytes sends a reset, which can overtake the answer: say that we are done, and read on a bit.
            with contextlib.suppress(OSError):
                writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await reader.read(HEADER_LIMIT):
                    pass

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise BadRequest(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request head may have {HEADER_LIMIT} bytes here"
            ) from None


def bind(host: str, port: int, ours: Iterable[socket.socket]) -> socket.socket:
    """A socket bound to the address. SO_REUSEPORT is set only while we bind beside a socket of our own on the same port:
    otherwise two daemons of one user would share a port unnoticed instead of being told that it is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    together = [sock, *(s for s in ours if s.getsockname()[1] == port)]
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if len(together) > 1:
            for s in together:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        together.remove(sock)
        raise
    finally:
        for s in together:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    return sock


def parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path without query, header fields in lower case. BadRequest says what is wrong with it."""
    line, *fields = head[:-4].split(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/"):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "this is no HTTP request")
    if not words[2].startswith(b"HTTP/1."):
        raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.0 or HTTP/1.1 only")
    headers = {}
    for field in fields:
        name, colon, value = field.partition(b":")
        if not colon or not name or name != name.strip():
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a header field without a name and a colon")
        headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    if words[0] not in (b"GET", b"HEAD"):
        e = BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only")
        e.response = msgspec.structs.replace(e.response, headers=(("Allow", "GET, HEAD"),))
        raise e
    return words[0].decode(), words[1].partition(b"?")[0].decode("latin-1"), headers


def render(response: Response, with_body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(f"{name}: {value}" for name, value in response.headers),
        "Connection: close",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (response.body if with_body else b"")


def reason(e: OSError) -> str:
    """Why an address could not be listened on, and what can be done."""
    match e.errno:
        case errno.EADDRINUSE:
            return "the address is in use: `ss -ltnp` shows by whom"
        case errno.EADDRNOTAVAIL:
            return "this host has no such address: `ip address` lists them"
        case errno.EACCES:
            return "ports below 1024 need a privilege that this daemon does not have: choose a higher one"
    return e.strerror or str(e)
