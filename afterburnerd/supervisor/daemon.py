"""The composition root: wires configuration, network facts, device, workers, exporter and control socket together.

              watch(interface) ----- facts -----.
                                                v
    config --> Device (ladder, XDP program) --> Keeper x workers --> data-plane processes
       |            |                             |
       |            '------ statistics segment ---'--> Exporter --> Prometheus
       '-- reload (whole or not at all) <-- control socket, SIGHUP

One lock serialises everything that changes what is in force: a reload, a change of the interface, the end. What one room
knows stays there; this file only decides the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import logging
import os
import pwd
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from afterburnerd import __version__
from afterburnerd.abi import control
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.layout import MAX_QUEUES, MAX_RULES, DaemonState, QueueMode
from afterburnerd.abi.records import Ring, remove_rings
from afterburnerd.abi.segment import Segment
from afterburnerd.config import Change, Config, ConfigError, Loaded, Records, diff, load
from afterburnerd.net.facts import (
    AddressesChanged,
    Event,
    Facts,
    Link,
    LinkBack,
    LinkChanged,
    LinkGone,
    QueuesChanged,
)
from afterburnerd.net.watch import Watcher
from afterburnerd.observe import messages
from afterburnerd.observe.exporter import Exporter, ExporterError
from afterburnerd.observe.log import say
from afterburnerd.observe.notify import Notifier, NotifyError
from afterburnerd.supervisor import capture
from afterburnerd.supervisor.control import ControlServer
from afterburnerd.supervisor.device import Address, Device, open_udp
from afterburnerd.supervisor.flap import FlapGuard
from afterburnerd.supervisor.keeper import Keeper
from afterburnerd.supervisor.plane import OrderFailed, PlaneGone
from afterburnerd.supervisor.refusal import EXIT_CONFIG, EXIT_UNAVAILABLE, Refusal

TICK = 1.0  # seconds between two looks at counters, memory and the watchdog
STOP_SECONDS = 2.0  # longest that a worker may take to give everything back
# Rows of the segment are made once: so many workers can be configured by a reload without a restart.
WORKER_ROWS = 8
# A recovery that is under way feeds the watchdog for so long; then systemd may judge for itself.
RECOVERY_SECONDS = 30.0
# A worker whose heart has not been heard for so long, and whose keeper has not acted, is no sign of health.
HEARTBEAT_SECONDS = 5
# A link that goes down and up, or changes its MTU, may have dropped the rings (facts/link.restarts).
SETTLE_SECONDS = 0.05


class Daemon:
    """A running daemon. `start`, then `run` until `stop_wanted` is set, then `stop`; each exactly once."""

    def __init__(self, loaded: Loaded, config_path: Path, watcher: Watcher, notifier: Notifier) -> None:
        self.loaded = loaded
        self.config: Config = loaded.config
        self.config_path = config_path
        self.watcher = watcher
        self.notifier = notifier
        self.stop_wanted = asyncio.Event()
        self.reload_wanted = asyncio.Event()
        self.generation = 1
        self.started_ns = time.time_ns()
        self.keepers: list[Keeper] = []
        self.device = Device(self.config, watcher.facts)
        self._changing = asyncio.Lock()
        self._segment: Segment | None = None
        self._rings: list[Ring] = []
        self._ring_shape: Records | None = None  # of the rings there are
        self._sockets: dict[Address, socket.socket] = {}
        self._exporter: Exporter | None = None
        self._exporter_trouble = ""
        self._program_trouble = ""
        self._guard = FlapGuard()
        self._control = ControlServer(self.config.daemon.run_dir, self.answer)
        self._keeping: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._state = DaemonState.STARTING
        self._ticked = time.monotonic()
        self._stopping = False
        self._broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._status_line = ""

    @property
    def segment(self) -> Segment:
        assert self._segment is not None
        return self._segment

    @property
    def facts(self) -> Facts:
        return self.watcher.facts

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything up, or Refusal with nothing left behind."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        if self.facts.link is None:
            raise Refusal(
                f"there is no interface {self.facts.interface!r}; `ip -br link` lists what there is; set interface.name",
                EXIT_UNAVAILABLE,
            )
        _raise_limits()
        # The name first: who has it is the daemon; everybody else refuses here without having touched anything.
        name = self.config.daemon.name
        self._segment = Segment.create(
            name, max(WORKER_ROWS, len(self.config.workers)), MAX_QUEUES, MAX_RULES, self._info()
        )
        self._set("start_time_ns", self.started_ns)
        self._set_state(DaemonState.STARTING)
        say(messages.STARTING, version=__version__, interface=self.facts.interface, name=name)
        await self._control.start()
        self.device.open()
        for text in self.device.fallbacks:
            self._say_fallback(text)
        self._make_rings(self.config)
        await self._start_workers()
        await self._start_exporter(name)
        self._loaded_now()
        self._follow_state()
        self._tasks = [
            self._spawn(self._follow_network(), "network"),
            self._spawn(self._tick(), "tick"),
            self._spawn(self._follow_reloads(), "reload"),
            self._spawn(self._follow_keepers(), "state"),
        ]
        self._tell(self.notifier.ready, self.status_text())
        self._say_state()

    async def _start_exporter(self, name: str) -> None:
        """Without its page the daemon serves all the same: packets matter more, and the state says degraded."""
        self._exporter = Exporter(name)
        try:
            await self._exporter.start(self.config.exporter.listen)
        except ExporterError as error:
            self._exporter_trouble = str(error)
            say(messages.EXPORTER_FAILED, reason=str(error))
        else:
            if self.config.exporter.listen:
                say(messages.EXPORTER_LISTENS, listen=self.config.exporter.listen)

    def _say_fallback(self, why: str) -> None:
        say(messages.MODE_FALLBACK, interface=self.facts.interface, reason=why, mode=self.device.rung)

    def _say_state(self) -> None:
        if self._state is DaemonState.SERVING:
            say(messages.SERVING, interface=self.facts.interface, summary=self.summary())
        elif self._state is DaemonState.DEGRADED:
            degraded = [notice.text for notice in self.notices() if notice.degraded]
            say(messages.DEGRADED, reason="; ".join(degraded))

    def _make_rings(self, config: Config) -> None:
        """A ring for each worker. Those that have their size already stay, with what is in them."""
        name, records = config.daemon.name, config.records
        keep = min(len(self._rings), len(config.workers)) if records == self._ring_shape else 0
        for ring in self._rings[keep:]:
            ring.close()
        del self._rings[keep:]
        for index in range(keep, len(config.workers)):
            self._rings.append(Ring.create(name, index, records.slots, records.slot_bytes))
        self._ring_shape = records
        remove_rings(name, keep=len(config.workers))

    async def _start_workers(self) -> None:
        """First start: down the ladder until every worker has every queue, or a refusal."""
        while True:
            self._make_keepers()
            try:
                for keeper in self.keepers:
                    await keeper.up()
                break
            except (OrderFailed, PlaneGone, TimeoutError) as error:
                for keeper in self.keepers:
                    await keeper.stop(STOP_SECONDS)
                # A queue that another socket holds is a conflict for a person to resolve, not a reason for a worse mode.
                taken = isinstance(error, OrderFailed) and error.number == errno.EBUSY
                if taken or not self.device.step_down(str(error)):
                    raise Refusal(f"the data plane cannot start: {error}", EXIT_UNAVAILABLE) from None
                self._say_fallback(str(error))
        self._keep()

    def _keep(self) -> None:
        """Every worker has its keeper at work from now on."""
        busy = {task.get_name() for task in self._keeping if not task.done()}
        for keeper in self.keepers:
            name = f"worker {keeper.index}"
            if name not in busy:
                self._keeping.append(self._spawn(keeper.keep(), name))

    def _make_keepers(self) -> None:
        uid_gid = _user(self.config.daemon.user)
        self.keepers = []
        for index in range(len(self.config.workers)):
            keeper = Keeper(index, self.config, self.device, self.segment, self._rings[index].fd)
            keeper.become(*uid_gid)
            self.keepers.append(keeper)
        self._share_out()

    def _share_out(self) -> None:
        """Gives every worker its queues (or sockets) and rules, and XDP its table."""
        config, count = self.config, self.device.queue_count
        wanted = config.interface.queues
        served = tuple(range(count)) if wanted == "all" else wanted
        missing = [q for q in served if q >= count]
        if missing and self.device.rung != "socket":
            raise Refusal(
                f"interface.queues names queue {missing[0]}, and {self.facts.interface} has {count}; "
                f"`ethtool -L {self.facts.interface} combined N` changes that",
                EXIT_CONFIG,
            )
        if len(served) > MAX_QUEUES:
            raise Refusal(
                f"{self.facts.interface} has {len(served)} queues and {MAX_QUEUES} can be served: name them in "
                "interface.queues, or reduce them with ethtool -L",
                EXIT_CONFIG,
            )
        for keeper in self.keepers:
            own = config.workers[keeper.index].queues
            keeper.queues = served if own == "all" else tuple(q for q in own if q in served)
        if self.device.rung == "socket":
            sockets = open_udp(config.captures, self._sockets)
            for address in self._sockets.keys() - sockets.keys():
                self._sockets[address].close()
            self._sockets = sockets
            rules = capture.pack_for_sockets(config.captures)
            for keeper in self.keepers:
                keeper.sockets = list(sockets.values())[keeper.index :: len(self.keepers)]
                keeper.rules = rules
        else:
            entries = capture.expand(config.captures, self.facts.local_addresses())
            rules = capture.pack(entries)
            for keeper in self.keepers:
                keeper.rules = rules
            self.device.publish(entries)

    # --- while it runs -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until somebody wants it to stop, or a part of it fails in a way that nobody foresaw."""
        stop = asyncio.create_task(self.stop_wanted.wait())
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

    async def _follow_network(self) -> None:
        async for event in self.watcher.events(self.device.facts):
            async with self._changing:
                if self._stopping:
                    return
                try:
                    await self._network_changed(event)
                except (Refusal, OrderFailed, PlaneGone, TimeoutError, OSError) as error:
                    # The keeper of the worker concerned, or the next event, goes on from here; the state says degraded.
                    say(messages.REBIND_FAILED, interface=self.facts.interface, reason=str(error))
                    for keeper in self.keepers:
                        keeper.restart(f"the interface changed and it could not follow: {error}")
                self._follow_state()

    async def _network_changed(self, event: Event) -> None:
        self.device.facts = self.watcher.facts
        match event:
            case LinkGone():
                say(
                    messages.INTERFACE_DOWN,
                    interface=self.facts.interface,
                    reason="there is no such interface any more",
                )
                for keeper in self.keepers:
                    if keeper.running:
                        await keeper.unbind()
                if self.device.program is not None:
                    self.device.program.detach()
            case LinkBack():
                say(messages.INTERFACE_UP, interface=self.facts.interface)
                self.device.refresh()
                await self._rebind()
            case QueuesChanged(old=old, new=new):
                say(messages.INTERFACE_CHANGED, interface=new.name, changes=_queue_change(old, new))
                await self._rebind()
            case LinkChanged(old=old, new=new, fields=fields):
                if "mac" in fields:
                    self.device.refresh()
                if new.usable and not old.usable:
                    say(messages.INTERFACE_UP, interface=new.name)
                elif old.usable and not new.usable:
                    why = "it has no carrier" if new.up else "somebody took it down"
                    say(messages.INTERFACE_DOWN, interface=new.name, reason=why)
                if "mtu" in fields:
                    say(messages.INTERFACE_CHANGED, interface=new.name, changes=f"MTU {old.mtu} -> {new.mtu}")
                if "restarts" in fields and new.usable and ("mtu" in fields or self._guard.follow(time.monotonic())):
                    # Drivers rebuild their rings on these: sockets bound before may be dead without saying so.
                    await self._rebind()
            case AddressesChanged():
                await self._republish()

    async def _rebind(self) -> None:
        """Every queue anew, on the interface as it is now."""
        if self.device.rung == "socket":
            return
        for keeper in self.keepers:
            if keeper.running:
                await keeper.unbind()
        self._share_out()
        for keeper in self.keepers:
            if keeper.running:
                await keeper.set_rules(keeper.rules)
                await keeper.bind()
                self._guard.bound(time.monotonic())
                self.segment.add("daemon", 0, "rebinds", len(keeper.queues))
            else:
                keeper.nudge()

    async def _republish(self) -> None:
        if self.device.rung == "socket":
            return
        entries = capture.expand(self.config.captures, self.facts.local_addresses())
        rules = capture.pack(entries)
        # Workers first: a frame for a new entry finds its rule; one for an old entry is dropped and counted.
        for keeper in self.keepers:
            await keeper.set_rules(rules)
        self.device.publish(entries)

    async def _follow_reloads(self) -> None:
        while True:
            await self.reload_wanted.wait()
            self.reload_wanted.clear()
            await self.reload()

    async def _follow_keepers(self) -> None:
        while True:
            waits = [asyncio.ensure_future(k.changed.wait()) for k in self.keepers]
            try:
                await asyncio.wait(waits, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            for keeper in self.keepers:
                keeper.changed.clear()
            self._follow_state()

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self._ticked = time.monotonic()
            self._set("event_lag_ns", max(0, int((self._ticked - due) * 1e9)))
            self._set("heartbeat_ns", time.monotonic_ns())
            self.device.count(self.segment)
            for keeper in self.keepers:
                keeper.count()
            usage = resource.getrusage(resource.RUSAGE_SELF)
            self._set("cpu_ns", int((usage.ru_utime + usage.ru_stime) * 1e9))
            self._set("rss_bytes", _resident_bytes())
            await self._look_after_program()
            if self._alive():
                self._tell(self.notifier.watchdog)

    def _alive(self) -> bool:
        """Whether systemd may believe that we are well: hearts beat, or a bounded, announced recovery is under way."""
        if self.facts.link is None:
            return True  # nothing is wrong with us: the state says what we wait for
        now, now_ns = time.monotonic(), time.monotonic_ns()
        silence = max(HEARTBEAT_SECONDS * 1_000_000_000, 4 * self.config.watch.hang_ms * 1_000_000)
        return all(
            keeper.beats(now_ns, silence)
            and (not keeper.failing_since or now - keeper.failing_since <= RECOVERY_SECONDS)
            for keeper in self.keepers
        )

    async def _look_after_program(self) -> None:
        """Somebody may have taken our program off (bpftool link detach): put it on again."""
        program = self.device.program
        if program is None or self.facts.link is None or program.attached() or self._changing.locked():
            return
        async with self._changing:
            say(messages.PROGRAM_LOST, interface=self.facts.interface)
            try:
                self.device.ensure_attached()
            except Refusal as refusal:
                self._program_trouble = str(refusal)
            else:
                self._program_trouble = ""
            self._follow_state()

    def _tell(self, what: Callable[..., bool], *words: str) -> None:
        """systemd, where it listens. A manager that cannot be reached is no reason to stop serving: it will say so."""
        try:
            what(*words)
        except NotifyError as error:
            say(messages.MANAGER_UNREACHABLE, reason=str(error))

    # --- state -------------------------------------------------------------------------------------------------------

    def _set(self, name: str, value: int) -> None:
        self.segment.set("daemon", 0, name, value)

    def _set_state(self, state: DaemonState) -> None:
        self._state = state
        self._set("state", state)

    def _follow_state(self) -> None:
        if self._stopping:
            return
        link = self.facts.link
        self._set("ifindex", link.index if link is not None else 0)
        self._set("interface_up", int(link is not None and link.usable))
        self._set("interface_mtu", link.mtu if link is not None else 0)
        self._set("interface_queues", link.queues.rx if link is not None and link.queues is not None else 0)
        self._set("interface_queues_wanted", sum(len(k.numbers) for k in self.keepers))
        attached = self.device.program is not None and self.device.program.attached()
        self._set("xdp_attached", int(attached))
        self._set("xdp_generic", int(attached and self.device.rung == "generic"))
        before = self._state
        if link is None or not all(k.serving for k in self.keepers):
            self._set_state(DaemonState.RECOVERING)
        elif any(notice.degraded for notice in self.notices()):
            self._set_state(DaemonState.DEGRADED)
        else:
            self._set_state(DaemonState.SERVING)
        self.segment.set_info(self._info())
        text = self.status_text()
        if text != self._status_line:
            self._status_line = text
            self._tell(self.notifier.status, text)
        if before not in (self._state, DaemonState.STARTING):
            self._say_state()

    def mode(self) -> str:
        """The mode in force, in the configuration's words: the worst of all queues."""
        modes = [mode for k in self.keepers for mode in k.modes.values()]
        return max(modes, default=QueueMode.CLOSED).name.lower().replace("_", "-")

    def status_text(self) -> str:
        """One sentence: systemd's STATUS line, `afterburnerctl status`."""
        name = self.facts.interface
        if self.facts.link is None:
            return f"Waiting for interface {name}"
        down = [k for k in self.keepers if not k.serving]
        if down:
            return f"Recovering worker {down[0].index} on {name}: {down[0].last_failure or 'restarting'}"
        text = f"Serving {name}: {self.summary()}"
        degraded = [notice.text for notice in self.notices() if notice.degraded]
        return f"{text}; degraded: {degraded[0]}" if degraded else text

    def summary(self) -> str:
        """Who serves what, in which mode."""
        what = "socket" if self.device.rung == "socket" else "queue"
        sources = sum(len(k.modes) for k in self.keepers)
        return f"{_count(len(self.keepers), 'worker')}, {_count(sources, what)} in {self.mode()} mode"

    def notices(self) -> tuple[control.Notice, ...]:
        """What is configured and not in force, or costs speed."""
        found: list[control.Notice] = []
        link = self.facts.link
        if link is not None and not link.usable:
            found.append(
                control.Notice(
                    text=f"{link.name} is down or has no carrier", hint=f"ip link set {link.name} up", degraded=True
                )
            )
        if self.config.interface.mode == "auto" and self.device.rung == "socket":
            why = self.device.fallbacks[-1] if self.device.fallbacks else "AF_XDP cannot be had"
            found.append(
                control.Notice(
                    text=f"receiving by UDP sockets instead of AF_XDP: {why}",
                    hint='afterburnerctl doctor says what is missing; interface.mode = "socket" accepts it',
                    degraded=True,
                )
            )
        elif self.config.interface.mode == "auto" and self.device.rung == "generic":
            found.append(
                control.Notice(
                    text=f"generic XDP instead of the driver's: {self.device.fallbacks[-1]}",
                    hint="a driver with native XDP is several times faster",
                )
            )
        if self._program_trouble:
            found.append(
                control.Notice(text=f"the XDP program is not attached: {self._program_trouble}", degraded=True)
            )
        if self._exporter_trouble:
            found.append(
                control.Notice(
                    text=f"no metrics page: {self._exporter_trouble}",
                    hint="free the address or set exporter.listen, then afterburnerctl reload",
                    degraded=True,
                )
            )
        for rule in capture.unmatched(self.config.captures, self.facts.local_addresses()):
            found.append(
                control.Notice(
                    text=f"capture.{rule.name}: {rule.address} is no address of {self.facts.interface}",
                    hint=f"ip addr add {rule.address}/... dev {self.facts.interface}, or correct the rule",
                    degraded=True,
                )
            )
        if self.device.rung != "socket" and self.config.memory.huge_pages == "auto":
            memory = self.config.memory
            pages = sum(len(k.queues) for k in self.keepers) * max(1, memory.frames * memory.frame_size >> 21)
            if any(k.serving and not k.huge_pages for k in self.keepers):
                found.append(
                    control.Notice(
                        text="packet memory lies in normal pages: no free 2 MiB pages",
                        hint=f"sysctl vm.nr_hugepages={pages} (at least), then restart",
                    )
                )
        for keeper in self.keepers:
            found += [control.Notice(text=f"worker {keeper.index}: {text}") for text in keeper.notices]
        return tuple(found)

    def _info(self) -> Info:
        link = self.facts.link
        return Info(
            version=__version__,
            interface=self.facts.interface,
            driver=link.driver if link is not None else "",
            workers=tuple(WorkerInfo(cpu=k.cpu, queues=k.numbers) for k in self.keepers),
            rules=tuple(c.name for c in self.config.captures),
        )

    # --- requests ----------------------------------------------------------------------------------------------------

    async def answer(self, request: control.Request) -> control.Reply:
        match request:
            case control.PingRequest():
                return control.Pong(version=__version__, pid=os.getpid())
            case control.StatusRequest():
                return self.status()
            case control.ReloadRequest():
                return await self.reload()
            case control.ConfigRequest():
                return control.RunningConfig(
                    generation=self.generation,
                    files=tuple(str(f) for f in self.loaded.files),
                    config=msgspec.Raw(msgspec.json.encode(self.config)),
                )

    def status(self) -> control.Status:
        link = self.facts.link
        state = self._state.name.lower()
        return control.Status(
            version=__version__,
            pid=os.getpid(),
            name=self.config.daemon.name,
            state=state,  # type: ignore[arg-type]
            detail=self.status_text(),
            started_ns=self.started_ns,
            generation=self.generation,
            config_files=tuple(str(f) for f in self.loaded.files),
            exporter=self.config.exporter.listen,
            interface=control.InterfaceStatus(
                name=self.facts.interface,
                index=link.index if link is not None else 0,
                driver=link.driver if link is not None else "",
                mac=link.mac.hex(":") if link is not None else "",
                mtu=link.mtu if link is not None else 0,
                up=link is not None and link.usable,
                addresses=tuple(str(a.address) for a in self.facts.local_addresses()),
                queues=link.queues.rx if link is not None and link.queues is not None else 0,
                mode=self.mode(),
                xdp="" if self.device.program is None or not self.device.program.attached() else self.device.rung,
            ),
            workers=tuple(
                control.WorkerStatus(
                    index=k.index,
                    pid=k.plane.pid if k.plane is not None and k.plane.alive else 0,
                    state="running" if k.serving else "starting" if k.plane is not None else "down",
                    cpu=k.cpu,
                    queues=k.queues,
                    restarts=k.restarts,
                    last_failure=k.last_failure,
                )
                for k in self.keepers
            ),
            captures=tuple(
                control.CaptureStatus(index=i, name=c.name, address=c.address, port=c.port, decoder=c.decoder)
                for i, c in enumerate(self.config.captures)
            ),
            notices=self.notices(),
        )

    # --- reload ------------------------------------------------------------------------------------------------------

    async def reload(self) -> control.ReloadResult:
        """Reads the configuration again and applies it, whole or not at all."""
        async with self._changing:
            self._tell(self.notifier.reloading)
            try:
                result = await self._reload()
            finally:
                self._tell(self.notifier.ready, self.status_text())
        if not result.ok:
            self.segment.add("daemon", 0, "reload_refused")
            say(messages.RELOAD_REFUSED, reason="; ".join(result.errors))
        elif result.changes:
            self.segment.add("daemon", 0, "reload_ok")
            changes = ", ".join(f"{c.path}: {c.old} -> {c.new}" for c in result.changes)
            say(messages.RELOAD_APPLIED, generation=result.generation, changes=changes)
        else:
            self.segment.add("daemon", 0, "reload_unchanged")
            say(messages.RELOAD_UNCHANGED)
        return result

    async def _reload(self) -> control.ReloadResult:
        try:
            loaded = load(self.config_path)
        except ConfigError as error:
            return self._refuse((), tuple(str(p) for p in error.problems))
        changes = diff(self.config, loaded.config)
        shown = tuple(control.ConfigChange(path=c.path, old=c.old, new=c.new, reload=c.reload) for c in changes)
        if not changes:
            self.loaded = loaded
            return control.ReloadResult(ok=True, generation=self.generation)
        fixed = tuple(c.path for c in changes if c.reload == "restart")
        if fixed:
            line = f"{', '.join(fixed)}: takes a restart (`systemctl restart afterburner`); nothing was applied"
            return self._refuse(shown, (line,), fixed)
        before = self.loaded
        try:
            restarted = await self._apply(loaded, changes)
        except (Refusal, OrderFailed, PlaneGone, TimeoutError, OSError) as error:
            await self._undo(before, diff(loaded.config, before.config))
            return self._refuse(shown, (f"{error}; the former configuration stays in force",))
        self.generation += 1
        self._loaded_now()
        self._follow_state()
        return control.ReloadResult(ok=True, generation=self.generation, changes=shown, data_plane_restarted=restarted)

    async def _undo(self, before: Loaded, changes: tuple[Change, ...]) -> None:
        """Puts the former configuration in force again. What still fails is brought back by its keeper, with back-off."""
        try:
            await self._apply(before, changes)
        except (Refusal, OrderFailed, PlaneGone, TimeoutError, OSError) as error:
            say(messages.REBIND_FAILED, interface=self.facts.interface, reason=str(error))
            self._keep()

    def _refuse(
        self, changes: tuple[control.ConfigChange, ...], errors: tuple[str, ...], restart: tuple[str, ...] = ()
    ) -> control.ReloadResult:
        return control.ReloadResult(
            ok=False, generation=self.generation, changes=changes, errors=errors, needs_restart=restart
        )

    async def _apply(self, loaded: Loaded, changes: tuple[Change, ...]) -> bool:
        """Puts a configuration in force; whatever fails is undone by applying the former one."""
        new, tables = loaded.config, {c.path.split(".")[0].split("[")[0] for c in changes}
        restart = any(c.reload == "data-plane" for c in changes)
        if len(new.workers) > self.segment.description.workers:
            raise Refusal(
                f"{len(new.workers)} workers: this run has room for {self.segment.description.workers}; more take a restart",
                EXIT_CONFIG,
            )
        if "exporter" in tables and self._exporter is not None:
            try:
                await self._exporter.reconfigure(new.exporter.listen)
            except ExporterError as error:
                raise Refusal(str(error), EXIT_UNAVAILABLE) from None
            self._exporter_trouble = ""
        self.loaded, self.config = loaded, new
        self.device.config = new
        for keeper in self.keepers:
            keeper.config = new
        if "daemon" in tables:
            logging.getLogger("afterburnerd").setLevel(new.daemon.log_level.upper())
        if tables & {"xdp", "interface"} and self.device.program is not None:
            self.device.program.configure(self.device.settings())
        if "capture" in tables and self.device.rung == "socket":
            restart = True  # other sockets: the worker gets them when it starts
        if restart:
            await self._restart_workers()
        elif "capture" in tables:
            await self._republish()
        return restart

    async def _restart_workers(self) -> None:
        """Ends every data plane and starts the ones of the new configuration. The XDP program stays attached."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        self._keeping = []
        restarts = {k.index: (k.restarts, k.last_failure) for k in self.keepers}
        for keeper in self.keepers:
            await keeper.stop(STOP_SECONDS)
            self.segment.add("daemon", 0, "restart_config")
        self._make_rings(self.config)
        self._make_keepers()
        for keeper in self.keepers:
            keeper.restarts, keeper.last_failure = restarts.get(keeper.index, (0, ""))
            await keeper.up()
        self._keep()

    def _loaded_now(self) -> None:
        self._set("config_generation", self.generation)
        self._set("config_loaded_ns", time.time_ns())

    # --- end ---------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Gives everything back: processes, program, sockets, shared memory. In order, and bounded."""
        if self._stopping:
            return
        began = self._segment is not None
        self._stopping = True
        self._tell(self.notifier.stopping, "Stopping")
        async with self._changing:
            for task in (*self._tasks, *self._keeping):
                task.cancel()
            await asyncio.gather(*self._tasks, *self._keeping, return_exceptions=True)
            if self._segment is not None:
                self._set_state(DaemonState.STOPPING)
            steps: list[Callable[[], Awaitable[None]]] = [lambda k=k: k.stop(STOP_SECONDS) for k in self.keepers]  # type: ignore[misc]
            if self._exporter is not None:
                steps.append(self._exporter.stop)
            steps.append(self._control.stop)
            for step in steps:
                try:
                    await step()
                except OSError as error:
                    say(messages.STOP_FAILED, reason=str(error))
            self.device.close()
            for sock in self._sockets.values():
                sock.close()
            for ring in self._rings:
                ring.unlink()
                ring.close()
            if self._segment is not None:
                self._set_state(DaemonState.STOPPED)
                self._segment.unlink()
                self._segment.close()
                self._segment = None
        if began:
            say(messages.STOPPED)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _queue_change(old: Link, new: Link) -> str:
    parts = []
    if old.queues != new.queues and old.queues is not None and new.queues is not None:
        parts.append(f"receive queues {old.queues.rx} -> {new.queues.rx}")
    if old.rings != new.rings and old.rings is not None and new.rings is not None:
        parts.append(f"receive ring {old.rings.rx} -> {new.rings.rx}")
    return ", ".join(parts) or "queues or rings"


def _raise_limits() -> None:
    """Packet memory is locked memory: as much of it as we may have, for us and for the workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))


def _user(name: str) -> tuple[int, int]:
    """The user and group that workers become; (-1, -1): they stay who they are."""
    if not name or os.geteuid() != 0:
        return -1, -1
    try:
        entry = pwd.getpwnam(name)
        grp.getgrgid(entry.pw_gid)
    except KeyError:
        raise Refusal(
            f'daemon.user = "{name}": there is no such user; `systemd-sysusers` makes it from the installed file',
            EXIT_CONFIG,
        ) from None
    return entry.pw_uid, entry.pw_gid


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
