"""What the daemon says of itself: its state, a sentence, what is not as configured, and the whole answer to `status`.

    facts, device, workers, troubles --> follow --> statistics segment   (exporter, anyone who reads it)
                                            |-----> STATUS line          (systemctl status)
                                            '-----> journal              (serving, degraded)

Nothing here decides anything: who changes something calls `follow` afterwards.
"""

from __future__ import annotations

import os
import time

import msgspec

from afterburnerd import __version__
from afterburnerd.abi import control
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.layout import DaemonState
from afterburnerd.abi.segment import Segment
from afterburnerd.config import Config, Loaded
from afterburnerd.net.facts import Facts
from afterburnerd.net.watch import Watcher
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.observe.notify import Notifier
from afterburnerd.supervisor import capture, hugepages
from afterburnerd.supervisor.device import PORTS, Device
from afterburnerd.supervisor.manager import tell
from afterburnerd.supervisor.workers import Workers


def describe(config: Config, facts: Facts, workers: tuple[WorkerInfo, ...] = ()) -> Info:
    """What the segment says about the daemon, in words."""
    return Info(
        version=__version__,
        interface=facts.interface,
        driver=facts.link.driver if facts.link is not None else "",
        workers=workers,
        rules=tuple(c.name for c in config.captures),
    )


class StatusBoard:
    """`follow` after every change; `exporter_trouble` and `program_trouble` are set by whom they concern, "" is none."""

    def __init__(
        self, device: Device, workers: Workers, watcher: Watcher, segment: Segment, notifier: Notifier
    ) -> None:
        self.state = DaemonState.STARTING
        self.exporter_trouble = ""
        self.program_trouble = ""
        self.frozen = True  # before its start is complete and when it ends, the state is not read off its parts
        self.started_ns = time.time_ns()
        self._device = device
        self._workers = workers
        self._watcher = watcher
        self._segment = segment
        self._notifier = notifier
        self._line = ""
        self._set("start_time_ns", self.started_ns)
        self.set_state(DaemonState.STARTING)

    @property
    def _facts(self) -> Facts:
        return self._watcher.facts

    @property
    def _config(self) -> Config:
        return self._workers.config

    def _set(self, name: str, value: int) -> None:
        self._segment.set("daemon", 0, name, value)

    def set_state(self, state: DaemonState) -> None:
        self.state = state
        self._set("state", state)

    def follow(self) -> None:
        """Reads the state off the parts, and tells whoever wants to know."""
        if self.frozen:
            return
        link = self._facts.link
        self._set("ifindex", link.index if link is not None else 0)
        self._set("interface_up", int(link is not None and link.usable))
        self._set("interface_mtu", link.mtu if link is not None else 0)
        self._set("interface_queues", link.queues.rx if link is not None and link.queues is not None else 0)
        self._set("interface_queues_wanted", sum(len(k.numbers) for k in self._workers.keepers))
        attached = self._device.program is not None and self._device.program.attached()
        self._set("xdp_attached", int(attached))
        self._set("xdp_generic", int(attached and self._device.rung == "generic"))
        before, shortcomings = self.state, self._shortcomings()
        if link is None or not self._workers.serving:
            self.set_state(DaemonState.RECOVERING)
        elif shortcomings:
            self.set_state(DaemonState.DEGRADED)
        else:
            self.set_state(DaemonState.SERVING)
        self._segment.set_info(self._info())
        text = self._text(shortcomings)
        if text != self._line:
            self._line = text
            tell(self._notifier.status, text)
        if before not in (self.state, DaemonState.STARTING):
            self.say_state()

    def say_state(self) -> None:
        """To the journal, where it is news."""
        if self.state is DaemonState.SERVING:
            say(messages.SERVING, interface=self._facts.interface, summary=self.summary())
        elif self.state is DaemonState.DEGRADED:
            say(messages.DEGRADED, reason="; ".join(notice.text for notice in self._shortcomings()))

    def text(self) -> str:
        """One sentence: systemd's STATUS line, `afterburnerctl status`."""
        return self._text(self._shortcomings())

    def _text(self, shortcomings: list[control.Notice]) -> str:
        name = self._facts.interface
        if self._facts.link is None:
            return f"Waiting for interface {name}"
        down = [k for k in self._workers.keepers if not k.serving]
        if down:
            return f"Recovering worker {down[0].index} on {name}: {down[0].last_failure or 'restarting'}"
        text = f"Serving {name}: {self.summary()}"
        if not shortcomings:
            return text
        more = f" (and {len(shortcomings) - 1} more: afterburnerctl status)" if len(shortcomings) > 1 else ""
        return f"{text}; degraded: {shortcomings[0].text}{more}"

    def summary(self) -> str:
        """Who serves what, in which mode."""
        what = "socket" if self._device.rung == "socket" else "queue"
        sources = sum(len(k.modes) for k in self._workers.keepers)
        if what == "socket" and not sources:
            return f"{_count(len(self._workers.keepers), 'worker')}, no captures, in socket mode"
        return f"{_count(len(self._workers.keepers), 'worker')}, {_count(sources, what)} in {self._workers.mode} mode"

    def notices(self) -> tuple[control.Notice, ...]:
        """What is configured and not in force, and what costs speed."""
        return (*self._shortcomings(), *self._costs())

    def _shortcomings(self) -> list[control.Notice]:
        """What is configured and not in force. Looked for once a second."""
        found: list[control.Notice] = []
        link = self._facts.link
        if link is not None and not link.usable:
            found.append(
                control.Notice(
                    text=f"{link.name} is down or has no carrier", hint=f"ip link set {link.name} up", degraded=True
                )
            )
        if self._config.interface.mode == "auto" and self._device.rung == "socket":
            why = self._device.fallbacks[-1] if self._device.fallbacks else "AF_XDP cannot be had"
            found.append(
                control.Notice(
                    text=f"receiving by UDP sockets instead of AF_XDP: {why}",
                    hint='afterburnerctl doctor says what is missing; interface.mode = "socket" accepts it',
                    degraded=True,
                )
            )
        if self.program_trouble:
            found.append(control.Notice(text=f"the XDP program is not attached: {self.program_trouble}", degraded=True))
        if self.exporter_trouble:
            found.append(
                control.Notice(
                    text=f"no metrics page: {self.exporter_trouble}",
                    hint="free the address or set exporter.listen, then afterburnerctl reload",
                    degraded=True,
                )
            )
        for name, why in self._workers.quic_trouble.items():
            found.append(
                control.Notice(
                    text=f"listen.{name} is not to be had: {why}",
                    hint="free the port (`ss -lunp` shows whose it is) or correct the address, then afterburnerctl reload",
                    degraded=True,
                )
            )
        named = [c for c in self._config.captures if c.address != "any"]
        for rule in capture.unmatched(named, self._facts.local_addresses()) if named else ():
            found.append(
                control.Notice(
                    text=f"capture.{rule.name}: {rule.address} is no address of {self._facts.interface}",
                    hint=f"ip addr add {rule.address}/... dev {self._facts.interface}, or correct the rule",
                    degraded=True,
                )
            )
        without_room, unserved = self._workers.without_room, self._workers.unserved
        if without_room and self._device.rung != "socket":
            found.append(
                control.Notice(
                    text=f"{without_room} of {without_room + PORTS} matches (capture rules times addresses of "
                    f"{self._facts.interface}) are not captured: the XDP program has room for {PORTS}",
                    hint='name addresses instead of "any" in the rules, then afterburnerctl reload',
                    degraded=True,
                )
            )
        if unserved and self._device.rung != "socket":
            found.append(
                control.Notice(
                    text=f"no worker has queue{'s' if len(unserved) > 1 else ''} {', '.join(map(str, unserved))} of "
                    f"{self._facts.interface}: packets for us that arrive there are dropped",
                    hint="give it to a worker (worker.queues), or leave it out of interface.queues and steer around it "
                    "(ethtool -N)",
                    degraded=True,
                )
            )
        return found

    def _costs(self) -> list[control.Notice]:
        """What costs speed. For those who ask: some of it is read from files."""
        found: list[control.Notice] = []
        if self._config.interface.mode == "auto" and self._device.rung == "generic":
            found.append(
                control.Notice(
                    text=f"generic XDP instead of the driver's: {self._device.fallbacks[-1]}",
                    hint="a driver with native XDP is several times faster",
                )
            )
        if self._device.rung != "socket" and self._config.memory.huge_pages == "auto":
            memory = self._config.memory
            small = sum(len(k.small_pages) for k in self._workers.keepers)
            if small:
                pages = small * max(1, memory.frames * memory.frame_size >> 21)
                found.append(
                    control.Notice(
                        text=f"packet memory of {_count(small, 'queue')} lies in normal pages: there were not enough free "
                        "2 MiB pages",
                        hint=hugepages.advice(pages, *hugepages.reserved()),
                    )
                )
        for keeper in self._workers.keepers:
            found += [control.Notice(text=f"worker {keeper.index}: {text}") for text in keeper.notices]
        return found

    def _info(self) -> Info:
        workers = tuple(WorkerInfo(cpu=k.cpu, queues=k.numbers) for k in self._workers.keepers)
        return describe(self._config, self._facts, workers)

    def answer(self, loaded: Loaded, generation: int) -> control.Status:
        """The whole of it, for `afterburnerctl status`."""
        link = self._facts.link
        return control.Status(
            version=__version__,
            pid=os.getpid(),
            name=self._config.daemon.name,
            state=msgspec.convert(self.state.name.lower(), control.DaemonState),
            detail=self.text(),
            started_ns=self.started_ns,
            generation=generation,
            config_files=tuple(str(f) for f in loaded.files),
            exporter=self._config.exporter.listen,
            interface=control.InterfaceStatus(
                name=self._facts.interface,
                index=link.index if link is not None else 0,
                driver=link.driver if link is not None else "",
                mac=link.mac.hex(":") if link is not None else "",
                mtu=link.mtu if link is not None else 0,
                up=link is not None and link.usable,
                addresses=tuple(str(a.address) for a in self._facts.local_addresses()),
                queues=link.queues.rx if link is not None and link.queues is not None else 0,
                mode=self._workers.mode,
                xdp="" if self._device.program is None or not self._device.program.attached() else self._device.rung,
            ),
            quic=self._workers.quic_backend,
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
                for k in self._workers.keepers
            ),
            captures=tuple(
                control.CaptureStatus(
                    index=i,
                    name=c.name,
                    address=c.address,
                    port=c.port,
                    vlans=tuple(vid for vid in c.vlans if vid),
                    decoder=c.decoder,
                )
                for i, c in enumerate(self._config.captures)
            ),
            notices=self.notices(),
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
