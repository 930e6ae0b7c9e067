"""What a person asks of QUIC through `afterburnerctl`: close, trace, connections. Each answer is a message of abi/control.py, or a
Refusal that says what there is instead.

A connection is named by its link's name, where it has one, or by its number; both stand in `afterburnerctl connections`.
"""

from __future__ import annotations

from collections.abc import Callable

from afterburnerd import base58
from afterburnerd.abi import control
from afterburnerd.cli import EXIT_CONFIG, EXIT_PERMISSION, EXIT_UNREACHABLE
from afterburnerd.config import Config
from afterburnerd.quic.connection import Connection, Step
from afterburnerd.quic.handover import Handover
from afterburnerd.quic.link import Link
from afterburnerd.quic.tokens import unpacked
from afterburnerd.quic.trace import Forbidden as KeylogForbidden
from afterburnerd.quic.trace import Tracer
from afterburnerd.supervisor.quic_chores import Chores, clock
from afterburnerd.supervisor.quic_links import Links
from afterburnerd.supervisor.quic_ports import Ports
from afterburnerd.supervisor.refusal import Refusal

ROWS_MAX = 2000  # of one answer to `connections`: a message of the control socket has an end


class Desk:
    """Answers; what it asks for is done by others."""

    def __init__(
        self,
        config: Callable[[], Config],
        links: Links,
        ports: Ports,
        handover: Handover,
        tracer: Tracer,
        chores: Chores,
        trouble: dict[str, str],
    ) -> None:
        self._config = config
        self._links = links
        self._ports = ports
        self._handover = handover
        self._tracer = tracer
        self._chores = chores
        self._trouble = trouble  # as in Ports

    def close_named(self, what: str, code: int, reason: str) -> None:
        """A link by its name (it is not dialled again until the next reload), or a connection by its number."""
        if what in self._links.all:
            self._links.drop(what, code, reason)
        elif not (what.isdigit() and self._ports.close_number(int(what), code, reason)):
            raise _unknown(what)

    def trace(self, request: control.TraceRequest) -> control.Traced:
        """Refusal where it is not allowed, or there is no such connection, or the files cannot be made."""
        known, links = self._handover.connections, self._links.all
        chosen = dict(known) if request.every else {}
        for what in request.connections:
            number = links[what].number if what in links else int(what) if what.isdigit() else None
            if number is None or number not in known:
                raise _unknown(what)
            chosen[number] = known[number]
        try:
            if request.new:
                self._tracer.switch_new(request.kind, on=request.on)
            files = self._tracer.switch(request.kind, list(chosen.values()), on=request.on)
        except KeylogForbidden as error:
            raise Refusal(str(error), EXIT_PERMISSION) from None
        except OSError as error:
            where = error.filename or self._config().quic.trace_dir
            raise Refusal(f"{where}: {error.strerror}", EXIT_CONFIG) from None
        self._chores.wake()
        return control.Traced(files=tuple(str(path) for path in files), connections=len(chosen))

    def connections(self) -> control.Connections:
        now = clock()
        named = {link.number: link for link in self._links.all.values() if link.number is not None}
        rows = [_row(c, named.get(c.number), now) for c in self._handover.connections.values()]
        for link in self._links.all.values():
            if link.number is None or link.number not in self._handover.connections:
                rows.append(_row_unconnected(link))
        listeners = tuple(
            control.ListenerStatus(
                name=p.listen.name,
                address=address[0],
                port=address[1],
                counts=p.port.counts(),
                handshakes=len(p.port.endpoint.shakes),
            )
            for address, p in self._ports.all.items()
            if p.listen is not None
        )
        return control.Connections(
            connections=tuple(rows[:ROWS_MAX]), total=len(rows), listeners=listeners, trouble=dict(self._trouble)
        )


def _row(c: Connection, link: Link | None, now: float) -> control.ConnectionStatus:
    return control.ConnectionStatus(
        number=c.number,
        name=link.name if link is not None else "",
        role="client" if c.is_client else "server",
        state="open" if c.step >= Step.RELEASED else c.step.name.lower(),
        address=c.remote[0],
        port=c.remote[1],
        local=unpacked(c.path.local),
        local_port=c.path.local_port,
        identity=base58.encode(c.peer) if c.peer else "",
        worker=c.engine.worker if c.engine is not None else -1,
        io="socket" if c.path.io else "afxdp",
        waiting=len(link) if link is not None else 0,
        age=now - c.began,
        adoption=c.routed_at - c.began if c.routed_at is not None else 0.0,
        datagram_max=c.datagram_max,
    )


def _row_unconnected(link: Link) -> control.ConnectionStatus:
    return control.ConnectionStatus(
        name=link.name,
        role="client",
        state=link.state.value,
        address=link.target.address[0],
        port=link.target.address[1],
        waiting=len(link),
    )


def _unknown(what: str) -> Refusal:
    return Refusal(f'there is no connection "{what}"; `afterburnerctl connections` lists them', EXIT_UNREACHABLE)
