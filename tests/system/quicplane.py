"""A side of tests/net/quicpair.py whose worker is a real data-plane process: spawned, set up by orders, sealed.

What the supervisor does with a data plane that has a QUIC engine, in the order in which it does it. The process runs by itself, so
a turn of this side is a short wait.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

from afterburnerd.abi import lone, orders
from tests.net.quicpair import Side

PATIENCE = 20  # seconds for an answer: the machine may be busy


class Remote:
    """The process, with the calls of a Worker. Descriptors that are given are closed here, as a Worker does."""

    def __init__(self, shared: dict[str, int], bell: memoryview, env: dict[str, str] | None = None) -> None:
        self.bell = bell
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE)
        self.sealed = False
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "afterburnerd.dataplane", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **(env or {})},
            )
        setup = orders.Setup(
            worker=0, parent=os.getpid(), cpu=-1, nice=0, fifo=0, sleeps=False, records=True,
            **lone.OFFSETS,
        )  # fmt: skip
        report = self.ask(setup, (shared["stats"], shared["bell"], shared["records"]))
        assert isinstance(report, orders.Ready), report

    def ask(self, order: orders.AnyOrder, fds: tuple[int, ...] = ()) -> orders.AnyReport:
        orders.send_order(self.sock, order, fds)
        self.bell[0] += 1
        return orders.decode_report(self.sock.recv(orders.MESSAGE_MAX))

    def order(self, order: orders.AnyOrder, fds: tuple[int, ...] = ()) -> None:
        report = self.ask(order, fds)
        assert isinstance(report, orders.Done), report

    def set_rules(self, rules: bytes, /) -> None:
        self.order(orders.SetRules(rules=rules))

    def open_udp(self, slot: int, fd: int, quic: bool = False, mtu: int = 0, /) -> None:
        self.order(orders.OpenSocket(slot=slot, quic=quic, mtu=mtu), (fd,))
        os.close(fd)

    def open_xsk(
        self, slot: int, fd: int, ifindex: int, queue: int, frames: int, frame_size: int, ring: int, huge_pages: int,
        mode: int, generic: bool, multi_buffer: bool, busy_poll: bool, busy_usecs: int, busy_budget: int,
        verify_udp: bool,
    ) -> None:  # fmt: skip
        self.order(
            orders.OpenQueue(
                slot=slot, ifindex=ifindex, queue=queue, frames=frames, frame_size=frame_size, ring=ring,
                huge_pages=huge_pages, mode=mode, generic=generic, multi_buffer=multi_buffer, busy_poll=busy_poll,
                busy_usecs=busy_usecs, busy_budget=busy_budget, verify_udp=verify_udp,
            ),
            (fd,),
        )  # fmt: skip
        os.close(fd)

    def close_slot(self, slot: int, /) -> None:
        self.order(orders.CloseSlot(slot=slot))

    def run(self, turns: int = 0, /) -> None:
        assert self.process.poll() is None, f"the data plane has ended: {self.process.returncode}"
        time.sleep(0.0005)

    def close(self) -> None:
        if self.process.poll() is None:
            self.ask(orders.Stop())
        self.sock.close()
        self.bell.release()
        assert self.process.wait(PATIENCE) == 0


class PlaneSide(Side):
    """A side in a process of its own. `env` is its environment beside ours."""

    env: dict[str, str] | None = None

    def make_worker(self) -> Remote:
        return Remote(self.shared, memoryview(self.bell).cast("Q"), self.env)

    def open_engine(self, config: dict[str, int]) -> None:
        assert isinstance(self.worker, Remote)
        self.worker.order(orders.OpenEngine(**config), (self.command_ring.fd, self.event_ring.fd))
        self.worker.order(orders.Seal(uid=65534, gid=65534))

    @property
    def pid(self) -> int:
        assert isinstance(self.worker, Remote)
        return self.worker.process.pid
