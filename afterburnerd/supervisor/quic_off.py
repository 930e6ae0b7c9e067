"""QUIC where the configuration has none: nothing is imported, opened or spent for it.

aioquic alone is some 40 MiB of a process; a daemon that only captures does not pay for it. `QuicOff` is what the other rooms
of the supervisor know of QUIC; `QuicService` (quic.py) is the same with something in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from afterburnerd.abi import control
from afterburnerd.cli import EXIT_UNREACHABLE
from afterburnerd.config import Config
from afterburnerd.net.watch import Watcher
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.refusal import Refusal

if TYPE_CHECKING:
    from afterburnerd.supervisor.keeper import Keeper
    from afterburnerd.supervisor.seat import Seat

HOW = "QUIC is off, because the configuration has neither [[connect]] nor [[listen]]: add one and restart the daemon"


class QuicOff:
    """Does nothing, and says so to who asks."""

    wanted = False

    def __init__(self) -> None:
        self.trouble: dict[str, str] = {}  # listeners that could not be had, by name: why

    def backend(self) -> control.QuicBackend | None:
        """By what packets come in and go out; None: QUIC is off."""
        return None

    def prepare(self) -> None:
        """Before any worker starts."""

    async def run(self) -> None:
        """For the daemon's life."""

    async def leave(self) -> None:
        """Before all workers are replaced on purpose: peers are told, within a bound."""

    async def stop(self) -> None:
        """Before the workers end."""

    def close(self) -> None:
        """After they have."""

    def workers_made(self, keepers: list[Keeper], republish: Callable[[], Awaitable[None]]) -> None:
        """There are other keepers than before."""

    def rules(self) -> bytes:
        """What the workers' tables have beside capture rules: struct Rule of layout.py, packed."""
        return b""

    def seat(self, worker: int) -> Seat | None:
        """The place of an engine beside a worker's process."""
        return None

    def check(self, config: Config) -> None:
        """Refusal where a reload cannot bring this configuration into force."""
        if config.connects or config.listens:
            raise Refusal(
                "the first [[connect]] or [[listen]] takes a restart (`systemctl restart afterburner`)",
                EXIT_UNREACHABLE,
            )

    def configure(self, config: Config) -> None:
        """A reload."""

    def addresses_changed(self) -> None:
        """The interface has other addresses than before."""

    def mtu_changed(self) -> None:
        """The interface has another MTU."""

    def submit(self, name: str, data: bytes, datagram: bool = False) -> int:
        raise Refusal(HOW, EXIT_UNREACHABLE)

    def dial(self, name: str, address: str, port: int, server_name: str, pin: str) -> None:
        raise Refusal(HOW, EXIT_UNREACHABLE)

    def close_named(self, what: str, code: int, reason: str) -> None:
        raise Refusal(HOW, EXIT_UNREACHABLE)

    def trace(self, request: control.TraceRequest) -> control.Traced:
        raise Refusal(HOW, EXIT_UNREACHABLE)

    def connections(self) -> control.Connections:
        return control.Connections()


def quic_of(config: Config, device: Device, watcher: Watcher, adopted: Callable[[int], None]) -> QuicOff:
    """What the configuration asks for. `adopted` is told how long each adoption took, ns."""
    if not (config.connects or config.listens):
        return QuicOff()
    from afterburnerd.supervisor.quic import QuicService

    return QuicService(config, device, watcher, adopted)
