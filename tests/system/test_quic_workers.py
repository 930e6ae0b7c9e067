"""Several workers: a connection whose packets come in on another worker's queue works as any other.

A handshake's packets are spread over the queues by the kernels of both sides, those of the connection by the engines: over a veth
pair every second connection or so has its packets come in where it does not live.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from afterburnerd.abi import control
from tests import netns
from tests.system.daemonrig import Daemon
from tests.system.test_quic import QUIC, connections

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

PORTS = range(8009, 8025)
TWO_WORKERS = 'idle = "sleep"\nnice = 0\nqueues = [0]\n[[worker]]\nidle = "sleep"\nnice = 0\nqueues = [1]'


def total(daemon: Daemon, name: str) -> int:
    return sum(row.value(name) for row in daemon.snapshot().rows("worker"))


def test_connections_of_two_workers_are_served_wherever_their_packets_come_in(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "client").mkdir()
    with netns.pair(queues=2) as rig:
        rig.near.ethtool("-L", "rx", "2", "tx", "2")
        rig.far.ethtool("-L", "rx", "2", "tx", "2")
        listen = "".join(f'[[listen]]\nname = "l{port}"\nport = {port}\n' for port in PORTS)
        connect = "".join(
            f'[[connect]]\nname = "c{port}"\naddress = "{rig.near.ipv4}"\nport = {port}\n' for port in PORTS
        )
        with (
            Daemon(rig, tmp_path / "server", QUIC + listen, worker=TWO_WORKERS) as server,
            Daemon(netns.Pair(near=rig.far, far=rig.near), tmp_path / "client", QUIC + connect, worker=TWO_WORKERS) as client,
        ):  # fmt: skip

            def all_open() -> bool:
                rows = [c for c in connections(client).connections if c.name.startswith("c")]
                return len(rows) == len(PORTS) and all(row.state == "open" for row in rows)

            def send_to_all(count: int) -> None:
                with client.client() as asked:
                    for port in PORTS:
                        for n in range(count):
                            request = control.SendRequest(connection=f"c{port}", data=b"%d of %d" % (n, port))
                            asked.ask(request, control.Accepted)
                client.wait(lambda: all(c.waiting == 0 for c in connections(client).connections), "acknowledgements")

            client.wait(all_open, "every connection to be open", 30)
            send_to_all(5)
            # statistics are written now and then
            server.wait(lambda: total(server, "quic_streams_received") == 5 * len(PORTS), "all to be counted")
            server.wait(
                lambda: total(server, "quic_handovers_out") == total(server, "quic_handovers_in"), "and handed over"
            )
            handed = total(server, "quic_handovers_out"), total(server, "quic_handovers_in")
            assert handed[0] > 0, "no packet came in on the other worker's queue: the test shows nothing"
            # A worker that dies takes its own connections along, and the rings to and from it stay in use.
            victim = server.plane_pid(1)
            os.kill(victim, signal.SIGKILL)
            server.wait(lambda: server.plane_pid(1) not in (0, victim) and server.state() == "serving", "recovery")
            client.wait(all_open, "every connection to be open again", 30)
            send_to_all(5)
            server.wait(lambda: total(server, "quic_streams_received") >= 10 * len(PORTS), "everything to be counted")
            server.assert_frames_add_up()
