"""The exporter over HTTP: hostile peers, a crowd, moving house and moving back, and what a scrape costs."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.segment import Segment
from afterburnerd.observe import http
from afterburnerd.observe.exporter import Exporter, ExporterError
from tests.unit.observe.segments import INFO, fill, segment
from tests.waiting import eventually


@pytest.fixture
def filled() -> Iterator[Segment]:
    with segment() as s:
        fill(s)
        s.set("daemon", 0, "heartbeat_ns", time.monotonic_ns())
        yield s


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as s:
        s.bind((host, 0))
        port: int = s.getsockname()[1]
        return port


@asynccontextmanager
async def running(s: Segment) -> AsyncIterator[tuple[Exporter, int]]:
    exporter, port = Exporter(s.name), free_port()
    await exporter.start(f"127.0.0.1:{port}")
    try:
        yield exporter, port
    finally:
        await exporter.stop()


async def ask(port: int, request: bytes, host: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to these bytes."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
    return int(line.split()[1]), headers, body


def get(path: str, method: str = "GET", extra: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()


async def test_the_two_pages(filled: Segment) -> None:
    async with running(filled) as (_, port):
        status, headers, body = await ask(port, get("/metrics"))
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert int(headers["content-length"]) == len(body)
        assert b'afterburner_build_info{version="0.1.0"} 1.0\n' in body
        assert await ask(port, get("/healthz?x=1")) == (200, {**headers_of(b"serving\n")}, b"serving\n")


def headers_of(body: bytes) -> dict[str, str]:
    return {
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "connection": "close",
    }


async def test_head_is_get_without_the_body(filled: Segment) -> None:
    async with running(filled) as (_, port):
        status, headers, body = await ask(port, get("/metrics", "HEAD"))
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 10_000


async def test_openmetrics_is_negotiated(filled: Segment) -> None:
    async with running(filled) as (_, port):
        _, headers, body = await ask(
            port, get("/metrics", extra="Accept: application/openmetrics-text; version=1.0.0\r\n")
        )
        assert headers["content-type"].startswith("application/openmetrics-text")
        assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), 404),
        (get("/metrics/../etc/passwd"), 404),
        (get("/metrics", "POST"), 405),
        (get("/metrics", "DELETE"), 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),  # a TLS client
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\0" * 100 + b"\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nfolded: a\r\n b: c\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 404),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * 1_000_000, 431),
        (os.urandom(200_000).replace(b"\r\n\r\n", b"...."), 431),
    ],
    ids=lambda v: None if isinstance(v, bytes) else str(v),
)
async def test_a_bad_request_gets_a_clear_answer_and_the_next_one_its_page(
    filled: Segment, request_: bytes, status: int
) -> None:
    async with running(filled) as (_, port):
        got, headers, body = await ask(port, request_)
        assert got == status
        assert headers["connection"] == "close"
        assert body.endswith(b"\n")
        if status == 405:
            assert headers["allow"] == "GET, HEAD"
        assert (await ask(port, get("/metrics")))[0] == 200


async def test_a_slow_loris_is_shown_the_door_and_hinders_nobody(
    filled: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.5)
    async with running(filled) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def drip() -> None:
            for byte in get("/metrics")[:-1] * 1000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        assert (await ask(port, get("/metrics")))[0] == 200
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer.startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        writer.close()


async def test_silent_connections_by_the_hundred_do_not_lock_out_a_scraper(
    filled: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CONNECTIONS", 20)
    async with running(filled) as (_, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        assert (await ask(port, get("/metrics")))[0] == 200
        # the oldest made room: closed long before their time
        assert await asyncio.wait_for(idle[0][0].read(), http.REQUEST_SECONDS / 2) == b""
        for _, writer in idle:
            writer.close()


async def test_one_that_does_not_take_its_answer_is_dropped(filled: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.3)
    big = http.Response(http.HTTPStatus.OK, b"x" * 30_000_000)
    responder = http.Responder(lambda path, headers: big)
    await responder.listen("127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*responder.address, limit=1024)
    writer.write(get("/"))
    await eventually(lambda: len(responder._open) == 1, "one connection is open")
    await eventually(lambda: not responder._open, "it is closed")
    writer.close()
    await responder.close()


async def test_a_whole_answer_reaches_one_that_takes_it_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.01)
    body = os.urandom(3_000_000)
    responder = http.Responder(lambda path, headers: http.Response(http.HTTPStatus.OK, body))
    await responder.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*responder.address, limit=1024)
    writer.write(get("/"))
    got = bytearray()
    await asyncio.sleep(0.3)
    while part := await reader.read(100_000):
        got += part
        await asyncio.sleep(0.01)
    assert bytes(got).partition(b"\r\n\r\n")[2] == body
    writer.close()
    await responder.close()


async def test_one_that_says_too_much_can_say_it_and_then_read_why_not(filled: Segment) -> None:
    def shout(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
            s.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 8_000_000)
            return s.recv(100)

    async with running(filled) as (_, port):
        assert (await asyncio.to_thread(shout, port)).startswith(b"HTTP/1.1 431 ")


async def test_a_hundred_scrapes_at_once(filled: Segment) -> None:
    async with running(filled) as (_, port):
        answers = await asyncio.gather(*(ask(port, get("/metrics")) for _ in range(100)))
        assert [status for status, _, _ in answers] == [200] * 100
        numbers = {body.partition(b"\nafterburner_exporter_scrapes_total ")[2].split()[0] for _, _, body in answers}
        assert len(numbers) == 100  # each was rendered for itself
        assert (await ask(port, get("/healthz")))[0] == 200


async def test_nothing_to_read_is_503_with_the_reason_until_there_is() -> None:
    exporter, port = Exporter("abtest-nobody-yet"), free_port()
    await exporter.start(f"127.0.0.1:{port}")
    status, _, body = await ask(port, get("/metrics"))
    assert status == 503
    assert b"/dev/shm/abtest-nobody-yet.stats" in body
    made = Segment.create("abtest-nobody-yet", 1, 1, 1, Info(workers=(WorkerInfo(),)))
    try:
        assert (await ask(port, get("/metrics")))[0] == 200
    finally:
        made.unlink()
        made.close()
        await exporter.stop()


async def test_it_follows_a_segment_made_anew(filled: Segment) -> None:
    async with running(filled) as (_, port):
        await ask(port, get("/metrics"))
        filled.unlink()
        assert (await ask(port, get("/metrics")))[0] == 503
        with_new = Segment.create(filled.name, 1, 1, 1, Info(version="9.9", workers=(WorkerInfo(),)))
        assert b'version="9.9"' in (await ask(port, get("/metrics")))[2]
        with_new.close()


async def test_a_move_binds_the_new_address_before_the_old_one_goes(filled: Segment) -> None:
    async with running(filled) as (exporter, old):
        new = free_port()
        change = await exporter.prepare(f"127.0.0.1:{new}")
        assert (await ask(old, get("/healthz")))[0] == (await ask(new, get("/healthz")))[0] == 200
        await change.commit()
        assert (await ask(new, get("/healthz")))[0] == 200
        with pytest.raises(ConnectionRefusedError):
            await ask(old, get("/healthz"))
        assert exporter.address == ("127.0.0.1", new)


async def test_a_move_that_is_called_off_leaves_the_old_address(filled: Segment) -> None:
    async with running(filled) as (exporter, old):
        new = free_port()
        await (await exporter.prepare(f"127.0.0.1:{new}")).rollback()
        assert (await ask(old, get("/healthz")))[0] == 200
        with pytest.raises(ConnectionRefusedError):
            await ask(new, get("/healthz"))
        await (await exporter.prepare(exporter.listen)).rollback()  # a reload that changed something else
        assert (await ask(old, get("/healthz")))[0] == 200


async def test_a_move_that_cannot_be_says_why_and_changes_nothing(filled: Segment) -> None:
    async with running(filled) as (exporter, old):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            for listen, why in (
                (f"127.0.0.1:{taken}", "the address is in use"),
                ("192.0.2.1:9475", "this host has no such address"),
                ("localhost", "has no port"),
            ):
                with pytest.raises(ExporterError, match=why):
                    await exporter.reconfigure(listen)
        assert exporter.listen == f"127.0.0.1:{old}"
        assert (await ask(old, get("/healthz")))[0] == 200


async def test_it_moves_between_overlapping_addresses(filled: Segment) -> None:
    async with running(filled) as (exporter, port):
        for host in ("0.0.0.0", "127.0.0.1", "0.0.0.0"):
            await exporter.reconfigure(f"{host}:{port}")
            assert (await ask(port, get("/healthz")))[0] == 200


async def test_a_second_daemon_does_not_share_the_port_unnoticed(filled: Segment) -> None:
    async with running(filled) as (exporter, port):
        await exporter.reconfigure(f"0.0.0.0:{port}")
        async with running(filled) as (second, _):
            for host in ("127.0.0.1", "0.0.0.0"):
                with pytest.raises(ExporterError, match="in use"):
                    await Exporter(filled.name).start(f"{host}:{port}")
                with pytest.raises(ExporterError, match="in use"):
                    await second.reconfigure(f"{host}:{port}")


async def test_off_is_off_and_on_again(filled: Segment) -> None:
    async with running(filled) as (exporter, port):
        await exporter.reconfigure("")
        assert exporter.address is None
        with pytest.raises(ConnectionRefusedError):
            await ask(port, get("/healthz"))
        await exporter.reconfigure(f"127.0.0.1:{port}")
        assert (await ask(port, get("/healthz")))[0] == 200


async def test_ipv6(filled: Segment) -> None:
    exporter, port = Exporter(filled.name), free_port()
    await exporter.start(f"[::1]:{port}")
    assert (await ask(port, get("/healthz"), "::1"))[0] == 200
    await exporter.stop()


async def test_stopping_leaves_no_descriptor_and_no_task(filled: Segment) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with running(filled) as (_, port):
        idle = await asyncio.open_connection("127.0.0.1", port)
        await ask(port, get("/metrics"))
    idle[1].close()
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(("workers", "queues"), [(1, 1), (2, 4), (8, 8)])
async def test_what_a_scrape_costs(workers: int, queues: int) -> None:
    """Printed for the record; the machine that tests run on is too noisy to judge by."""
    info = Info(
        workers=tuple(WorkerInfo(w, tuple(range(w * queues, (w + 1) * queues))) for w in range(workers)),
        rules=INFO.rules,
    )
    with segment(workers, queues, 2, info) as s:
        fill(s)
        async with running(s) as (_, port):
            times = []
            for _ in range(20):
                began = time.perf_counter()
                _, _, body = await ask(port, get("/metrics"))
                times.append(time.perf_counter() - began)
    times.sort()
    lines = body.count(b"\n")
    print(
        f"scrape with {workers} workers of {queues} queues: {lines} lines, {len(body)} bytes, "
        f"median {times[10] * 1e3:.1f} ms, worst of 20 {times[-1] * 1e3:.1f} ms"
    )
    assert lines > 300
