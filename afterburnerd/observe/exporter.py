"""The Prometheus exporter: /metrics and /healthz on a local address, from shared memory, inside the supervisor's loop.

It asks no process: each scrape copies the statistics segment and renders it (a few milliseconds). It is the supervisor's
only because somebody has to answer; the figures of a hung data plane are as readable as those of a healthy one.

A reload may move it. The new address is bound before the old one is given up, and given up again if another part of the
reload fails:

    change = await exporter.prepare("127.0.0.1:9476")     OSError-like trouble surfaces here, nothing has changed
    ...the rest of the reload...
    await change.commit()   or   await change.rollback()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector, CollectorRegistry

from afterburnerd.abi.shm import ShmError
from afterburnerd.abi.stats import Snapshot, StatsReader
from afterburnerd.config import parse_listen

from .collector import HELP, PREFIX, families
from .connections import connection_families
from .health import Health, health
from .http import Responder, Response, reason

Clock = Callable[[], float]
ReaderFactory = Callable[[], StatsReader]


class ExporterError(Exception):
    """The exporter cannot listen where it was told to."""


class SegmentCollector(Collector):
    """What prometheus_client asks for the families. Keeps its reader open; opens it anew after trouble."""

    def __init__(self, name: str, reader_factory: ReaderFactory) -> None:
        self._name = name
        self._open = reader_factory
        self._reader: StatsReader | None = None
        self.scrapes = 0
        self.render_seconds = 0.0

    def snapshot(self) -> Snapshot:
        """ShmError where there is nothing to be read."""
        try:
            if self._reader is None:
                self._reader = self._open()
            return self._reader.read()
        except ShmError:
            self.close()
            raise

    def collect(self) -> Iterator[Metric]:
        yield from families(self.snapshot())
        yield from connection_families(self._name)
        yield CounterMetricFamily(f"{PREFIX}exporter_scrapes", HELP["exporter_scrapes_total"], value=self.scrapes)
        yield CounterMetricFamily(
            f"{PREFIX}exporter_render_seconds", HELP["exporter_render_seconds_total"], value=self.render_seconds
        )

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class Exporter:
    """`start`, then `prepare`/`commit` or `reconfigure`, then `stop`. `listen` is as in the configuration; "" is off."""

    def __init__(
        self, name: str, reader_factory: ReaderFactory | None = None, clock: Clock = time.perf_counter
    ) -> None:
        self._clock = clock
        self.name = name
        self._collector = SegmentCollector(name, reader_factory or partial(StatsReader.open, name))
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        self._responder: Responder | None = None
        self._listen = ""

    @property
    def listen(self) -> str:
        """The address in force, as configured."""
        return self._listen

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it really listens; None: off."""
        return self._responder.address if self._responder else None

    async def start(self, listen: str) -> None:
        await self.reconfigure(listen)

    async def prepare(self, listen: str) -> Change:
        """Binds the new address and answers there at once, beside the old one."""
        if listen == self._listen:
            return Change(self, listen, self._responder)
        return Change(self, listen, await self._bind(listen))

    async def reconfigure(self, listen: str) -> None:
        await (await self.prepare(listen)).commit()

    async def stop(self) -> None:
        await self._adopt("", None)
        self._collector.close()

    async def _bind(self, listen: str) -> Responder | None:
        try:
            parsed = parse_listen(listen)
        except ValueError as e:
            raise ExporterError(f"exporter.listen = {listen!r}: {e}") from e
        if parsed is None:
            return None
        responder = Responder(self.respond)
        try:
            await responder.listen(*parsed, beside=self._responder)
        except OSError as e:
            raise ExporterError(f"exporter.listen = {listen!r}: {reason(e)}") from e
        return responder

    async def _adopt(self, listen: str, responder: Responder | None) -> None:
        old, self._responder, self._listen = self._responder, responder, listen
        if old is not None and old is not responder:
            await old.close()

    def respond(self, path: str, headers: Mapping[str, str]) -> Response:
        match path:
            case "/metrics":
                return self.metrics(headers.get("accept", ""))
            case "/healthz":
                found = self.health()
                status = HTTPStatus.OK if found.serving else HTTPStatus.SERVICE_UNAVAILABLE
                return Response(status, f"{found.reason}\n".encode())
        return Response(HTTPStatus.NOT_FOUND, b"there are two pages here: /metrics and /healthz\n")

    def metrics(self, accept: str = "") -> Response:
        """The page, in the older text format unless the scraper asks for OpenMetrics."""
        began = self._clock()
        self._collector.scrapes += 1
        try:
            if "application/openmetrics-text" in accept:
                body = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
                content_type = openmetrics.CONTENT_TYPE_LATEST
            else:
                body, content_type = generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
        except ShmError as e:
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, f"{e}\n".encode())
        finally:
            self._collector.render_seconds += self._clock() - began
        return Response(HTTPStatus.OK, body, content_type)

    def health(self) -> Health:
        try:
            return health(self._collector.snapshot())
        except ShmError as e:
            return Health(False, str(e))


class Change:
    """A new address that is bound and not yet in force. Exactly one of `commit` and `rollback` is to be called."""

    def __init__(self, exporter: Exporter, listen: str, responder: Responder | None) -> None:
        self._exporter = exporter
        self._listen = listen
        self._responder = responder

    async def commit(self) -> None:
        await self._exporter._adopt(self._listen, self._responder)

    async def rollback(self) -> None:
        if self._responder is not None and self._responder is not self._exporter._responder:
            await self._responder.close()
