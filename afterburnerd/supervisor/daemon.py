"""The composition root: builds the rooms of a running daemon, connects them, starts and ends them in order.

              watch(interface) --- facts ---> Follower
                                                 |
    config --> Device (ladder, XDP program) --> Workers --> data-plane processes
       |            |                            |
       |            '---- statistics segment ----+--> Exporter --> Prometheus
       |                                         '--> StatusBoard --> systemd, journal, `afterburnerctl status`
       '-- Reloader (whole or not at all) <-- control socket, SIGHUP

One lock serialises everything that changes what is in force: a reload, a change of the interface, the end. What one room
knows stays there; this file only decides the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from afterburnerd import __version__
from afterburnerd.abi import control
from afterburnerd.abi.layout import MAX_QUEUES, MAX_RULES, DaemonState
from afterburnerd.abi.segment import Segment
from afterburnerd.cli import EXIT_UNREACHABLE
from afterburnerd.config import Loaded
from afterburnerd.net.watch import Watcher
from afterburnerd.observe import messages
from afterburnerd.observe.exporter import Exporter, ExporterError
from afterburnerd.observe.log import say
from afterburnerd.observe.notify import Notifier
from afterburnerd.supervisor import garbage
from afterburnerd.supervisor.control import ControlServer
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.follow import Follower
from afterburnerd.supervisor.manager import tell
from afterburnerd.supervisor.pulse import Pulse
from afterburnerd.supervisor.quic_off import quic_of
from afterburnerd.supervisor.refusal import Refusal
from afterburnerd.supervisor.reload import Reloader
from afterburnerd.supervisor.status import StatusBoard, describe
from afterburnerd.supervisor.workers import Workers

# Rows of the segment are made once: so many workers can be configured by a reload without a restart.
WORKER_ROWS = 8


class Wishes:
    """What signals want of a daemon, from before it starts."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()


class Daemon:
    """A running daemon. `start` it, `run` until somebody wishes its stop, then `stop`; each exactly once."""

    def __init__(
        self, loaded: Loaded, path: Path, watcher: Watcher, notifier: Notifier, wishes: Wishes, segment: Segment
    ) -> None:
        changing = asyncio.Lock()
        self.segment = segment
        self.device = Device(loaded.config, watcher.facts)
        self.quic = quic_of(
            loaded.config, self.device, watcher, lambda ns: segment.record("daemon", 0, "quic_adoption", ns)
        )
        self.workers = Workers(loaded.config, self.device, watcher, segment, self._spawn, self.quic)
        self.board = StatusBoard(self.device, self.workers, watcher, segment, notifier)
        self.workers.changed = self.board.follow
        self.exporter = Exporter(loaded.config.daemon.name)
        self.reloader = Reloader(
            loaded,
            path,
            self.device,
            self.workers,
            self.exporter,
            self.board,
            segment,
            notifier,
            wishes.reload,
            changing,
            self.quic,
        )
        self.follower = Follower(watcher, self.device, self.workers, self.board, segment, changing, self.quic)
        self.pulse = Pulse(self.device, self.workers, self.follower, self.board, segment, notifier)
        self.control = ControlServer(loaded.config.daemon.run_dir, self.answer)
        self._notifier = notifier
        self._wishes = wishes
        self._changing = changing
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    # --- start -------------------------------------------------------------------------------------------------------

    @classmethod
    async def start(cls, loaded: Loaded, path: Path, watcher: Watcher, notifier: Notifier, wishes: Wishes) -> Daemon:
        """Everything up, or Refusal with nothing left behind."""
        config, facts = loaded.config, watcher.facts
        if facts.link is None:
            raise Refusal(
                f"there is no interface {facts.interface!r}; `ip -br link` lists what there is; set interface.name",
                EXIT_UNREACHABLE,
            )
        _raise_limits()
        # The name first: who has it is the daemon; everybody else refuses here without having touched anything.
        name, rows = config.daemon.name, max(WORKER_ROWS, len(config.workers))
        segment = Segment.create(name, rows, MAX_QUEUES, MAX_RULES, describe(config, facts))
        daemon = cls(loaded, path, watcher, notifier, wishes, segment)
        say(messages.STARTING, version=__version__, interface=facts.interface, name=name)
        if segment.replaced:
            say(messages.STALE_REPLACED, detail=segment.replaced)
        try:
            await daemon._start()
        except BaseException:
            await daemon.stop()
            raise
        return daemon

    async def _start(self) -> None:
        await self.control.start()
        self.device.open()
        for text in self.device.fallbacks:
            self.device.say_fallback(text)
        self.workers.make_rings()
        self.quic.prepare()
        await self.workers.start()
        await self._start_exporter()
        self.reloader.note_loaded()
        self.board.frozen = False
        self.board.follow()
        self._tasks = [
            self._spawn(self.follower.run(), "network"),
            self._spawn(self.pulse.run(), "pulse"),
            self._spawn(self.reloader.run(), "reload"),
        ]
        if self.quic.wanted:
            self._tasks.append(self._spawn(self.quic.run(), "quic"))
        garbage.settle()
        tell(self._notifier.ready, self.board.text())
        self.board.say_state()

    async def _start_exporter(self) -> None:
        """Without its page the daemon serves all the same: packets matter more, and the state says degraded."""
        listen = self.reloader.config.exporter.listen
        try:
            await self.exporter.start(listen)
        except ExporterError as error:
            self.board.exporter_trouble = str(error)
            say(messages.EXPORTER_FAILED, reason=str(error))
        else:
            if listen:
                say(messages.EXPORTER_LISTENS, listen=listen)

    # --- while it runs -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until somebody wants it to stop, or a part of it fails in a way that nobody foresaw."""
        stop = asyncio.create_task(self._wishes.stop.wait())
        try:
            either: set[asyncio.Future[Any]] = {stop, self._broken}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                raise self._broken.result()
        finally:
            stop.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task whose failure ends the daemon: systemd starts it again, and the journal has the traceback."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None and not self._broken.done():
                self._broken.set_result(error)

        task = asyncio.create_task(work, name=name)
        task.add_done_callback(ended)
        return task

    async def answer(self, request: control.Request) -> control.Reply:
        """What the control socket's clients get."""
        match request:
            case control.PingRequest():
                return control.Pong(version=__version__, pid=os.getpid())
            case control.StatusRequest():
                return self.board.answer(self.reloader.loaded, self.reloader.generation)
            case control.ReloadRequest():
                return await self.reloader.reload()
            case control.ConfigRequest():
                return self.reloader.running_config()
            case control.ConnectionsRequest():
                return self.quic.connections()
            case control.DialRequest():
                self.quic.dial(request.name, request.address, request.port, request.server_name, request.pin)
                return control.Accepted()
            case control.CloseRequest():
                self.quic.close_named(request.connection, request.code, request.reason)
                return control.Accepted()
            case control.SendRequest():
                return control.Accepted(token=self.quic.submit(request.connection, request.data, request.datagram))
            case control.TraceRequest():
                return self.quic.trace(request)

    # --- end ---------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Gives everything back: processes, program, sockets, shared memory. In order, and bounded."""
        if self._stopping:
            return
        self._stopping = self.board.frozen = True
        tell(self._notifier.stopping, "Stopping")
        async with self._changing:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, self.workers.let_go(), return_exceptions=True)
            self.board.set_state(DaemonState.STOPPING)
            await self.quic.stop()
            await self.workers.stop()
            self.quic.close()
            for step in (self.exporter.stop, self.control.stop):
                try:
                    await step()
                except OSError as error:
                    say(messages.STOP_FAILED, reason=str(error))
            self.device.close()
            self.workers.close()
            self.board.set_state(DaemonState.STOPPED)
            self.segment.unlink()
            self.segment.close()
        say(messages.STOPPED)


def _raise_limits() -> None:
    """Packet memory is locked memory: as much of it as we may have, for us and for the workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
