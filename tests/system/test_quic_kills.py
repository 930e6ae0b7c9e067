"""Real SIGKILLs at any moment of a handover: no nonce is used twice, and every message arrives and is told so.

The daemon dials a server of aioquic's, on a plain socket: whatever leaves the daemon arrives there, is kept, and is opened with
the secrets that the daemon's supervisor noted (tests/keylog_site). Longer: AFTERBURNER_KILLS=300.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest
from aioquic.quic.crypto import CryptoError, CryptoPair
from aioquic.tls import CipherSuite

from afterburnerd.abi import control
from afterburnerd.quic.tokens import Address
from afterburnerd.quic.wire import INITIAL, is_short, parse_long
from tests import netns
from tests.system.daemonrig import Daemon
from tests.unit.quic.rig import Plain

pytestmark = [pytest.mark.privileged, pytest.mark.bpf, pytest.mark.timeout(1200)]

PORT = 8009
KILLS = int(os.environ.get("AFTERBURNER_KILLS") or 24)
SITE = Path(__file__).resolve().parents[1] / "keylog_site"
QUICK = "[watch]\nbackoff_min_ms = 10\nbackoff_max_ms = 10\n"


class Server:
    """aioquic, any number of connections on one socket, with everything that came in."""

    def __init__(self, rig: netns.Pair) -> None:
        with rig.far.entered():
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self.sock.bind((rig.far.ipv4, PORT))
        self.sock.setblocking(False)
        self.connections: list[tuple[Plain, Address, bytes]] = []
        self.came: list[bytes] = []
        self.began = 0
        self.streams: Counter[bytes] = Counter()
        self.tickets = Plain()

    def turn(self) -> None:
        now = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = self.sock.recvfrom(2048)
                self.came.append(data)
                self._deal(data, address, now)
        for plain, address, _ in self.connections:
            due = plain.due()
            if due is not None and due <= now:
                plain.timer(now)
            for data in plain.outgoing(now):
                self.sock.sendto(data, address)
        for plain, _, _ in self.connections:
            for event in plain.events:
                if type(event).__name__ == "StreamDataReceived" and event.end_stream:
                    self.streams[event.data] += 1
            plain.events.clear()

    def _deal(self, data: bytes, address: Address, now: float) -> None:
        header = None if is_short(data) else parse_long(data)
        dcid = data[1:9] if header is None else header.dcid
        for plain, _, first in self.connections:
            connection = plain.connection
            if connection is None or dcid == first or any(c.cid == dcid for c in connection._host_cids):
                plain.receive(data, address, now)
                return
        if header is not None and header.kind == INITIAL:
            plain = Plain()
            plain.tickets = self.tickets.tickets
            self.connections.append((plain, address, dcid))
            self.connections = self.connections[-4:]
            self.began += 1
            plain.receive(data, address, now)


def nonces_are_unique(came: list[bytes], secrets: Path) -> int:
    """Opens every 1-RTT packet with one of the noted secrets; how many could be."""
    keys: dict[bytes, CryptoPair] = {}
    for line in secrets.read_text().splitlines():
        direction, suite, secret = line.split()
        if direction == "ENCRYPT":
            pair = CryptoPair()
            pair.recv.setup(cipher_suite=CipherSuite(int(suite)), secret=bytes.fromhex(secret), version=1)
            keys[bytes.fromhex(secret)] = pair
    seen: dict[tuple[bytes, int], bytes] = {}
    last: list[bytes] = []  # packets of one connection come together: the key of the last one first
    for packet in came:
        if not is_short(packet):
            continue
        for secret in [*last, *keys]:
            try:
                _, _, number, _ = keys[secret].recv.decrypt_packet(packet, 9, 0)
            except CryptoError:
                continue
            last = [secret]
            other = seen.setdefault((secret, number), packet)
            assert other == packet, f"packet number {number} was sealed twice with one key"
            break
    return len(seen)


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
def test_killed_at_any_moment(tmp_path: Path, seed: int, victim: str) -> None:
    dice = random.Random(seed)
    kills = KILLS if victim == "worker" else max(3, KILLS // 8)
    secrets = tmp_path / "secrets"
    env = {"PYTHONPATH": str(SITE), "AFTERBURNER_TEST_SECRETS": str(secrets)}
    connect = '[quic]\nconnections = 16\n[[connect]]\nname = "peer"\nport = %d\naddress = "%s"\n'
    with netns.pair() as rig:
        server = Server(rig)
        configuration = connect % (PORT, rig.far.ipv4)
        with Daemon(rig, tmp_path, configuration, rest=QUICK, env=env) as daemon:

            def until(condition: object, what: str, seconds: float = 30) -> None:
                assert callable(condition)
                deadline = time.monotonic() + seconds
                while not condition():
                    assert time.monotonic() < deadline, f"{what}; {daemon.log()}"
                    server.turn()
                    time.sleep(0.0003)

            sent: list[bytes] = []
            for n in range(kills):
                began = server.began
                # A handshake that no worker had yet is not lost with one: it goes on, and nothing is dialled
                limit = time.monotonic() + (3 if n else 30)
                until(
                    lambda began=began, n=n, limit=limit: (
                        server.began > (began if n else 0) or time.monotonic() > limit
                    ),
                    "a dial",
                    40,
                )
                pause = (
                    time.monotonic() + dice.random() * 0.02
                )  # from the first Initial on: some handshakes get through
                until(lambda pause=pause: time.monotonic() > pause, "a moment")
                if victim == "worker":
                    with contextlib.suppress(control.ControlError), daemon.client() as client:
                        data = b"message %d" % n
                        client.ask(control.SendRequest(connection="peer", data=data), control.Accepted)
                        sent.append(data)
                    pid = daemon.plane_pid_from_stats()
                    if pid:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                else:
                    daemon.kill()
                    daemon.start()

            def rest() -> int:
                with daemon.client() as client:
                    rows = client.ask(control.ConnectionsRequest(), control.Connections).connections
                return sum(row.waiting for row in rows) + sum(row.state != "open" for row in rows)

            until(lambda: rest() == 0, "every message to be acknowledged")
            # Where nothing was sent on a connection, its acknowledgement of the handshake's end may still be on its way
            until(lambda: any(is_short(packet) for packet in server.came), "a 1-RTT packet")
            assert set(sent) <= set(server.streams), "a message is lost"
    opened = nonces_are_unique(server.came, secrets)
    print(f"{kills} kills of the {victim}: {server.began} connections, {opened} 1-RTT packets, no nonce twice")
    assert opened > 0
