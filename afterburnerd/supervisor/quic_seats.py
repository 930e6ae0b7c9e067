"""The workers as QUIC sees them: a seat beside each, with the rings to its engine, and the keeper that can restart it.

    Keeper starts a process ──► Seat up   ──► changed(seat, True):  connections may be adopted
    worker ──► event ring   ──► take()    ──► (event, body) to whoever looks (quic_news.py)
    Keeper sees it dead     ──► Seat down ──► changed(seat, False): what it had is lost

Seats outlast processes and reloads; keepers are made anew with the workers, and take the halves of shared ports from those
before them. A ring that makes no sense means that its worker is not to be believed any more: it is restarted.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

from afterburnerd.abi.layout import QuicEvent
from afterburnerd.abi.rings import RingBroken
from afterburnerd.config import Config
from afterburnerd.supervisor.crossing import Crossings
from afterburnerd.supervisor.keeper import Keeper
from afterburnerd.supervisor.seat import Seat


class Seats:
    """By index of worker."""

    def __init__(
        self, config: Callable[[], Config], changed: Callable[[Seat, bool], None], told: Callable[[], None]
    ) -> None:
        self._config = config
        self._changed = changed
        self._told = told  # some worker rang: it has events
        self._crossings = Crossings()
        self._seats: dict[int, Seat] = {}
        self.keepers: list[Keeper] = []

    @property
    def any_up(self) -> bool:
        return any(seat.is_up for seat in self._seats.values())

    def seat(self, worker: int) -> Seat:
        """For a keeper, before its process starts."""
        config = self._config()
        seat = self._seats.get(worker)
        if seat is None:
            seat = self._seats[worker] = Seat(
                config.daemon.name, worker, config.quic, self._changed, self._told, self._crossings
            )
        seat.config = config.quic
        seat.workers = len(config.workers)
        return seat

    def made(self, keepers: list[Keeper]) -> None:
        """Other keepers than before: the halves of shared ports are theirs to have."""
        before = {k.index: k.quic_sockets for k in self.keepers}
        self.keepers = keepers
        for keeper in keepers:
            keeper.quic_sockets = before.get(keeper.index, [])

    def take(self) -> Iterator[tuple[QuicEvent, bytes]]:
        """The events that are there, each worker's in their order."""
        for seat in list(self._seats.values()):
            try:
                yield from seat.take()
            except RingBroken as error:
                keeper = next((k for k in self.keepers if k.index == seat.worker), None)
                if keeper is not None:
                    keeper.restart(f"its event ring is broken: {error}", keeper.plane)
                seat.down()

    # --- sleep and waking ---

    def doze(self) -> bool:
        """Workers ring from here on when they have something to tell. False: there is something already."""
        asleep = [seat.doze() for seat in self._seats.values()]  # every one, also where the first has something
        if all(asleep):
            return True
        self.wake()
        return False

    def wake(self) -> None:
        for seat in self._seats.values():
            seat.wake()

    @property
    def sleeping(self) -> bool:
        """Some worker slept when it was given its latest command."""
        return any(seat.woke for seat in self._seats.values())

    def await_news(self, seconds: float) -> None:
        """Waits for a bell, asleep. The event loop stands still meanwhile, so not for long."""
        bells = [seat.news_bell for seat in self._seats.values() if seat.news_bell >= 0]
        if not self.doze():
            return
        rung, _, _ = select.select(bells, [], [], seconds)
        self.wake()
        for seat in self._seats.values():
            if seat.news_bell in rung:
                seat.silence()

    def close(self) -> None:
        """No worker lives any more."""
        for seat in self._seats.values():
            seat.close()
        self._crossings.close()
        for keeper in self.keepers:
            for sock in keeper.quic_sockets:
                sock.close()
            keeper.quic_sockets.clear()
