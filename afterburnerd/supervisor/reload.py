"""The configuration in force, and how another one takes its place: whole or not at all.

    load --> diff --> nothing, or refused: takes a restart
                  '-> apply --> in force (generation + 1)
                        '-fails-> the former one applied again, refused with the reason

Each key says what its change takes (config/key.py): `live` keys are applied to what runs, `data-plane` keys end the data
planes and start new ones, `restart` keys refuse the reload.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import msgspec

from afterburnerd.abi import control
from afterburnerd.abi.segment import Segment
from afterburnerd.cli import EXIT_CONFIG, EXIT_UNREACHABLE
from afterburnerd.config import Change, Config, ConfigError, Loaded, diff, load
from afterburnerd.observe import messages
from afterburnerd.observe.exporter import Exporter, ExporterError
from afterburnerd.observe.log import say
from afterburnerd.observe.notify import Notifier
from afterburnerd.plane import OrderFailed, PlaneGone
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.manager import tell
from afterburnerd.supervisor.quic_off import QuicOff
from afterburnerd.supervisor.refusal import Refusal
from afterburnerd.supervisor.status import StatusBoard
from afterburnerd.supervisor.workers import Workers


class Reloader:
    """`reload` does one and says how it went; `run` does one whenever `wanted` is set (SIGHUP)."""

    def __init__(
        self,
        loaded: Loaded,
        path: Path,
        device: Device,
        workers: Workers,
        exporter: Exporter,
        board: StatusBoard,
        segment: Segment,
        notifier: Notifier,
        wanted: asyncio.Event,
        changing: asyncio.Lock,
        quic: QuicOff,
    ) -> None:
        self._quic = quic
        self.loaded = loaded
        self.generation = 1
        self._path = path
        self._device = device
        self._workers = workers
        self._exporter = exporter
        self._board = board
        self._segment = segment
        self._notifier = notifier
        self._wanted = wanted
        self._changing = changing

    @property
    def config(self) -> Config:
        return self.loaded.config

    def running_config(self) -> control.RunningConfig:
        return control.RunningConfig(
            generation=self.generation,
            files=tuple(str(f) for f in self.loaded.files),
            config=msgspec.Raw(msgspec.json.encode(self.config)),
        )

    def note_loaded(self) -> None:
        """The configuration of this generation is in force since now."""
        self._segment.set("daemon", 0, "config_generation", self.generation)
        self._segment.set("daemon", 0, "config_loaded_ns", time.time_ns())

    async def run(self) -> None:
        """Reloads whenever somebody wants it."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.reload()

    async def reload(self) -> control.ReloadResult:
        """Reads the configuration again and applies it, whole or not at all."""
        async with self._changing:
            tell(self._notifier.reloading)
            try:
                result = await self._reload()
            finally:
                tell(self._notifier.ready, self._board.text())
        if not result.ok:
            self._segment.add("daemon", 0, "reload_refused")
            say(messages.RELOAD_REFUSED, reason="; ".join(result.errors))
        elif result.changes:
            self._segment.add("daemon", 0, "reload_ok")
            changes = [Change(c.path, c.old, c.new, c.reload) for c in result.changes]
            say(messages.RELOAD_APPLIED, generation=result.generation, changes=", ".join(map(str, changes)))
        else:
            self._segment.add("daemon", 0, "reload_unchanged")
            say(messages.RELOAD_UNCHANGED)
        return result

    async def _reload(self) -> control.ReloadResult:
        try:
            loaded = load(self._path)
        except ConfigError as error:
            return self._refuse((), tuple(str(p) for p in error.problems))
        changes = diff(self.config, loaded.config)
        shown = tuple(control.ConfigChange(path=c.path, old=c.old, new=c.new, reload=c.reload) for c in changes)
        if not changes:
            self.loaded = loaded
            await self._retry()
            return control.ReloadResult(ok=True, generation=self.generation)
        fixed = tuple(c.path for c in changes if c.reload == "restart")
        if fixed:
            line = f"{', '.join(fixed)}: takes a restart (`systemctl restart afterburner`); nothing was applied"
            return self._refuse(shown, (line,), fixed)
        try:
            self._workers.check_room(loaded.config)
            self._quic.check(loaded.config)
        except Refusal as refusal:
            return self._refuse(shown, (str(refusal),))
        before = self.loaded
        try:
            restarted = await self._apply(loaded, changes)
        except (Refusal, OrderFailed, PlaneGone, TimeoutError, OSError) as error:
            await self._undo(before, diff(loaded.config, before.config))
            return self._refuse(shown, (f"{error}; the former configuration stays in force",))
        self.generation += 1
        self.note_loaded()
        self._board.follow()
        return control.ReloadResult(ok=True, generation=self.generation, changes=shown, data_plane_restarted=restarted)

    async def _retry(self) -> None:
        """The same configuration once more: what could not be had of it may be there by now."""
        trouble = bool(self._quic.trouble)
        self._quic.configure(self.config)  # what was closed by command is dialled again, too
        if trouble:
            self._board.follow()
        if not self._board.exporter_trouble:
            return
        try:
            await self._exporter.reconfigure(self.config.exporter.listen)
        except ExporterError as error:
            self._board.exporter_trouble = str(error)
            say(messages.EXPORTER_FAILED, reason=str(error))
        else:
            self._board.exporter_trouble = ""
            say(messages.EXPORTER_LISTENS, listen=self.config.exporter.listen)
        self._board.follow()

    async def _undo(self, before: Loaded, changes: tuple[Change, ...]) -> None:
        """Puts the former configuration in force again. What still fails is brought back by its keeper, with back-off."""
        try:
            await self._apply(before, changes)
        except (Refusal, OrderFailed, PlaneGone, TimeoutError, OSError) as error:
            say(messages.REBIND_FAILED, interface=self._device.facts.interface, reason=str(error))
            self._workers.keep()

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
        if len(new.workers) > self._segment.description.workers:
            raise Refusal(
                f"{len(new.workers)} workers: this run has room for {self._segment.description.workers}; more take a restart",
                EXIT_CONFIG,
            )
        if "exporter" in tables:
            try:
                await self._exporter.reconfigure(new.exporter.listen)
            except ExporterError as error:
                raise Refusal(str(error), EXIT_UNREACHABLE) from None
            self._board.exporter_trouble = ""
        self.loaded = loaded
        self._device.config = new
        self._workers.configure(new)
        if tables & {"quic", "connect", "listen"}:
            self._quic.configure(new)
        if "daemon" in tables:
            logging.getLogger("afterburnerd").setLevel(new.daemon.log_level.upper())
        if tables & {"xdp", "interface"} and self._device.program is not None:
            self._device.program.configure(self._device.settings())
        if "capture" in tables and self._device.rung == "socket":
            restart = True  # other sockets: the worker gets them when it starts
        if restart:
            await self._workers.restart()
        elif "capture" in tables:
            await self._workers.republish()
        return restart
