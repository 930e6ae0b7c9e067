"""Entry of a data-plane process: `python -m afterburnerd.dataplane FD`, started by the supervisor and by nobody else.

FD is one end of a SOCK_SEQPACKET pair; orders come in over it (see abi/orders.py). The life of the process:

    tie its life to the parent's -> Setup: map shared memory, pin, nice
        -> open the first queues -> Seal: lock memory, drop capabilities, seccomp
        -> { carry out orders -> C loop until the doorbell rings } -> end

It ends when it is told to, when its parent hangs up or dies, and at once by SIGKILL. SIGTERM and SIGINT mean the daemon as a
whole and are the supervisor's business, so they are ignored here.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from afterburnerd.abi import orders
from afterburnerd.abi.layout import WorkerState
from afterburnerd.abi.process import Identity
from afterburnerd.native import lib


class DataPlane:
    """One worker with its shared memory, between two stays in the loop."""

    def __init__(self, sock: socket.socket, setup: orders.Setup, fds: list[int]) -> None:
        self.sock = sock
        self.stopped = False
        self.sealed = False
        self.notices: list[str] = []
        stats_fd, bell_fd, *records_fd = fds
        self.stats = mmap.mmap(stats_fd, 0)
        self.bell = mmap.mmap(bell_fd, 0)
        self.worker = lib.Worker(
            index=setup.worker,
            stats=self.stats,
            bell=self.bell,
            worker_off=setup.worker_off,
            rule_off=setup.rule_off,
            queue_off=setup.queue_off,
            queue_stride=setup.queue_stride,
        )
        self.worker.set_state(WorkerState.STARTING)
        self.worker.set_sleeps(setup.sleeps)
        if setup.records:
            self.worker.set_records(mmap.mmap(records_fd[0], 0))
        for fd in fds:
            os.close(fd)
        self.schedule(setup)
        self.cpu = min(os.sched_getaffinity(0))
        self.pid = os.getpid()
        self.worker.identify(self.pid, Identity.own().start_ticks, self.cpu)
        sock.setblocking(False)

    def seal(self, order: orders.Seal) -> tuple[str, ...]:
        """From here on: no privilege, no file, no new socket. Returns notices."""
        notices = []
        # What a limit allows later (a queue bound anew) must still be had, so the future is locked only without one.
        unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
        try:
            lib.lock_memory(unlimited)
        except OSError as error:
            notices.append(
                f"memory is not locked (mlockall: {error.strerror}): a page fault can delay a packet; "
                "set LimitMEMLOCK=infinity in the unit"
            )
        # Whatever Python keeps is kept for good: no collection ever looks at it again.
        gc.collect()
        gc.freeze()
        gc.disable()
        lib.sandbox_drop(order.uid, order.gid)
        lib.sandbox_seal()
        self.sealed = True
        return tuple(notices)

    def schedule(self, setup: orders.Setup) -> None:
        if setup.cpu >= 0:
            os.sched_setaffinity(0, {setup.cpu})
        with self.note(f"nice value {setup.nice} is refused", "give the service CAP_SYS_NICE"):
            os.setpriority(os.PRIO_PROCESS, 0, setup.nice)
        if setup.sleeps:
            # The kernel wakes sleepers up to 50 us late, so as to wake several at once; timers of QUIC would be late with it.
            with self.note("a timer slack of 1 ns is refused", "allow the process to write /proc/self/timerslack_ns"):
                Path("/proc/self/timerslack_ns").write_text("1")
        if setup.fifo:
            with self.note(f"SCHED_FIFO {setup.fifo} is refused", "give the service CAP_SYS_NICE or LimitRTPRIO"):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(setup.fifo))

    @contextlib.contextmanager
    def note(self, what: str, remedy: str) -> Iterator[None]:
        """Turns a refusal of the kernel into a notice for the operator: slower, but serving."""
        try:
            yield
        except PermissionError as error:
            self.notices.append(f"{what} ({error.strerror}): {remedy}")

    def serve(self) -> None:
        """Carries out orders whenever the doorbell rings, until Stop or until the supervisor hangs up."""
        while not self.stopped:
            self.drain()
            if self.sealed and not self.stopped:
                self.worker.run()
            elif not self.stopped:
                select.select([self.sock], [], [])

    def drain(self) -> None:
        """All orders that are there. They are few: the loop stands still meanwhile."""
        while not self.stopped:
            try:
                received = orders.receive_order(self.sock)
            except BlockingIOError:
                return
            if received is None:
                self.stopped = True
                return
            order, fds = received
            try:
                report: orders.AnyReport = self.carry_out(order, fds)
            except (OSError, ValueError) as error:
                number = error.errno or 0 if isinstance(error, OSError) else 0
                text = error.args[1] if isinstance(error, OSError) and len(error.args) > 1 else str(error)
                report = orders.Failed(id=order.id, number=number, text=str(text))
            orders.send_report(self.sock, report)

    def carry_out(self, order: orders.AnyOrder, fds: list[int]) -> orders.Done:
        match order:
            case orders.OpenQueue():
                mode, huge = self.worker.open_xsk(
                    slot=order.slot,
                    fd=fds[0],
                    ifindex=order.ifindex,
                    queue=order.queue,
                    frames=order.frames,
                    frame_size=order.frame_size,
                    ring=order.ring,
                    huge_pages=order.huge_pages,
                    mode=order.mode,
                    generic=order.generic,
                    multi_buffer=order.multi_buffer,
                    busy_poll=order.busy_poll,
                    busy_usecs=order.busy_usecs,
                    busy_budget=order.busy_budget,
                    verify_udp=order.verify_udp,
                )
                return orders.Done(id=order.id, mode=mode, huge_pages=huge)
            case orders.OpenSocket():
                self.worker.open_udp(order.slot, fds[0], order.quic, order.mtu)
            case orders.CloseSlot():
                self.worker.close_slot(order.slot)
            case orders.SetRules():
                self.worker.set_rules(order.rules)
            case orders.OpenEngine():
                commands, events, *table = (mmap.mmap(fd, 0) for fd in fds)
                for ring in (commands, events):
                    ring.madvise(mmap.MADV_DONTDUMP)
                for fd in fds:
                    os.close(fd)
                self.worker.open_engine(commands, events, **order.settings())
                for shown in table:
                    self.worker.show_connections(shown)
            case orders.OpenPeer():
                self.worker.open_peer(mmap.mmap(fds[0], 0), order.outgoing)
                os.close(fds[0])
            case orders.OpenBells():
                self.worker.set_bells(*fds)  # kept open as long as we live
            case orders.Seal():
                return orders.Done(id=order.id, notices=self.seal(order))
            case orders.Stop():
                self.worker.set_state(WorkerState.STOPPED)
                self.worker.close()
                self.stopped = True
            case orders.Setup():
                raise ValueError("a data plane is set up once")
        return orders.Done(id=order.id)


def last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An unforeseen error, without the source lines: opening files is what the seal forbids."""
    where = []
    while trace is not None:
        where.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    os.write(2, f"afterburner data plane: {kind.__name__}: {error}; at {' > '.join(where)}\n".encode())
    os._exit(70)


def main() -> None:
    sys.excepthook = last_words
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    received = orders.receive_order(sock)
    setup, fds = received if received is not None else (None, [])
    if not isinstance(setup, orders.Setup):
        sys.exit("afterburnerd.dataplane is started by afterburnerd, not by hand")
    lib.parent_death(setup.parent)
    try:
        plane = DataPlane(sock, setup, fds)
    except (OSError, ValueError) as error:
        orders.send_report(sock, orders.Failed(id=setup.id, number=getattr(error, "errno", 0) or 0, text=str(error)))
        sys.exit(1)
    orders.send_report(sock, orders.Ready(id=setup.id, pid=plane.pid, cpu=plane.cpu, notices=tuple(plane.notices)))
    plane.serve()
    # No interpreter shutdown: it would want system calls that the seal forbids, and there is nothing left to give back.
    os._exit(0)


if __name__ == "__main__":
    main()
