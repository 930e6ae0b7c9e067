"""`afterburner-lab bench tps --peer COMMAND`: our sender against an engine of somebody else's, to see who waits for whom.

    quic-send, CPU s   one connection, sockets or AF_XDP -->   COMMAND server, kernel sockets, CPU w (third.py)

A transaction counts when the peer has acknowledged it, and the peer must have received every one of them, whole, by its own count
at the end. Beside the rate stands what our sender did meanwhile: the share of its time in which it worked, and the share in
which it had something to send and could not, for want of streams or bytes that the peer allows, or of congestion window. A sender
that is busy all the time is the bottleneck; one that is blocked is not.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec

from ..cli import EXIT_UNREACHABLE, ToolError
from . import quic_pair, report, rig, third
from .cores import Cores
from .labio import Labio
from .quic_pair import AFXDP, SOCKET, End, Load

WAYS = {"afxdp": AFXDP, "socket": SOCKET}
STREAMS = 8192  # that the peer may let us have open at a time
BUSY_MOST = 90.0  # percent: more, and it is we who hold the peer up


class Delivered(msgspec.Struct, frozen=True):
    sender: End
    received: third.Said

    @property
    def rate(self) -> float:
        return self.sender.acknowledged / (self.sender.elapsed_ns / 1e9)


def one(standing: rig.Rig, chosen: Cores, load: Load, command: str, name: str) -> Delivered:
    """A run against a peer that was started for it."""
    if name == "socket":
        quic_pair.offloads(standing, True)
    try:
        with third.server(
            command, standing.daemon, chosen.receiver, "--quiet", "--max-uni", str(STREAMS)
        ) as peer, third.dialled(
            standing.sender, quic_pair.CLIENT_PORT, (standing.daemon.ipv4, peer.port)
        ) as adopt:  # fmt: skip
            options = quic_pair.options(standing, chosen, load, WAYS[name], is_server=False, sends=True)
            with Labio("quic-send", **{**options, "dport": peer.port, "adopt": str(adopt)}) as sender:
                sent = quic_pair.last(sender, load.seconds + 30)
            received = peer.end()
    finally:
        if name == "socket":
            quic_pair.offloads(standing, False)
    if (
        sent.failed
        or not sent.accepted == sent.acknowledged == received.streams
        or received.bytes != sent.accepted * load.size
    ):
        raise ToolError(
            f"{name}: {sent.accepted} messages were accepted, {sent.acknowledged} acknowledged, {sent.failed} failed; the peer "
            f"counted {received.streams} with {received.bytes} bytes",
            EXIT_UNREACHABLE,
        )
    return Delivered(sent, received)


def measure(
    standing: rig.Rig, chosen: Cores, load: Load, command: str, ways: list[str], rounds: int
) -> list[report.Result]:
    found: dict[str, list[Delivered]] = {name: [] for name in ways}
    for n in range(rounds):
        for name in ways[n % len(ways) :] + ways[: n % len(ways)]:
            found[name].append(one(standing, chosen, load, command, name))
        spoken = ", ".join(f"{name} {found[name][-1].rate / 1e6:.3f} M/s" for name in ways)
        report.say(f"round {n + 1} of {rounds}: {spoken}")
    return [result for name in ways for result in results(name, found[name])]


def results(name: str, runs: list[Delivered]) -> list[report.Result]:
    def of(what: Callable[[End], float]) -> float:
        return statistics.median(what(one.sender) for one in runs)

    def share(what: Callable[[End], int]) -> float:
        return of(lambda s: 100 * what(s) / s.run_ns)

    return [
        report.result(f"peer_{name}", "transactions/s", statistics.median(one.rate for one in runs)),
        report.result(
            f"peer_{name}_sender_busy", "%", share(lambda s: s.busy_ns), reference="we are not the bottleneck", goal=BUSY_MOST,
            better="lower",
        ),
        report.result(f"peer_{name}_blocked_on_window", "%", share(lambda s: s.blocked_window_ns)),
        report.result(f"peer_{name}_blocked_on_streams", "%", share(lambda s: s.blocked_streams_ns)),
        report.result(f"peer_{name}_blocked_on_credit", "%", share(lambda s: s.blocked_credit_ns)),
        report.result(f"peer_{name}_per_packet", "transactions", of(lambda s: s.accepted / s.quic_sent)),
        report.result(f"peer_{name}_lost_packets", "packets", of(lambda s: s.quic_lost)),
        report.result(f"peer_{name}_sender_time", "s", of(lambda s: s.busy_ns / 1e9 / s.accepted)),
        report.result(f"peer_{name}_sender_calls", "", of(lambda s: s.kicks / s.accepted)),
    ]  # fmt: skip
