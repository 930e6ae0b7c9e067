"""One data-plane process as whoever started it holds it (the supervisor; the lab): started, given orders, watched for its end, stopped.

    Plane.start() --spawn--> process        socket pair: orders out, reports in, in order, one report an order
       |                       |            doorbell page: a word that brings the process out of its loop
       '-- pidfd readable <----'            pidfd: its end is an event, not something to poll for

No policy lives here: when to start again, how long to wait, which queues to give it are its owner's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import msgspec

from afterburnerd.abi import orders


class PlaneGone(Exception):
    """The process ended (or was ended) before it answered; the text says how it ended."""


class OrderFailed(Exception):
    """The data plane could not carry out an order; the text is its own."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


class Plane:
    """Handle of one process. Not reusable: after its end make another."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()  # how it ended, as a sentence
        self.waiting = False  # an order is out and not yet answered
        self._loop = loop
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._sock: socket.socket | None = None
        self._reports: asyncio.Queue[orders.AnyReport] = asyncio.Queue()
        self._next = 0
        self._lock = asyncio.Lock()
        self._bell_fd = os.memfd_create("afterburner-doorbell", os.MFD_CLOEXEC)
        os.ftruncate(self._bell_fd, mmap.PAGESIZE)
        self._bell = mmap.mmap(self._bell_fd, mmap.PAGESIZE)
        self._word = memoryview(self._bell).cast("Q")

    @property
    def pid(self) -> int:
        """Its process ID, also after its end; 0 before its start."""
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and not self.ended.done()

    async def start(self, setup: orders.Setup, stats_fd: int, records_fd: int | None, timeout: float) -> orders.Ready:
        """Spawns the process and sets it up. Raises OrderFailed, PlaneGone or TimeoutError; the process is gone then."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork and an exec of milliseconds, a few times a life
                # Isolated: no PYTHON* variable and no current directory decide what a privileged process imports.
                [sys.executable, "-I", "-m", "afterburnerd.dataplane", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C on the terminal is the supervisor's to deal with
            )
        self._sock = ours
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._on_end)
        self._loop.add_reader(ours.fileno(), self._on_report)
        fds = (stats_fd, self._bell_fd) + (() if records_fd is None else (records_fd,))
        try:
            report = await self._ask(setup, fds, timeout)
        except BaseException:
            self.kill()
            raise
        if not isinstance(report, orders.Ready):
            self.kill()
            raise OrderFailed(0, f"a data plane answered its set-up with {type(report).__name__}")
        return report

    async def order(self, order: orders.AnyOrder, fds: tuple[int, ...] = (), timeout: float = 5.0) -> orders.Done:
        """Has one order carried out. The loop of the worker stands still meanwhile."""
        report = await self._ask(order, fds, timeout)
        if not isinstance(report, orders.Done):
            raise OrderFailed(0, f"a data plane answered an order with {type(report).__name__}")
        return report

    async def _ask(self, order: orders.AnyOrder, fds: tuple[int, ...], timeout: float) -> orders.AnyReport:
        async with self._lock:  # one at a time: the worker serves packets between two
            if self._sock is None or self.ended.done():
                raise PlaneGone(f"the data plane is gone: {self._how()}")
            self._next += 1
            numbered = msgspec.structs.replace(order, id=self._next)
            self.waiting = True
            try:
                try:
                    orders.send_order(self._sock, numbered, fds)
                except OSError as error:
                    raise PlaneGone(f"its socket is closed ({error.strerror})") from None
                self._word[0] += 1  # after the message: who sees the bell finds it
                report = await self._report(timeout)
            finally:
                self.waiting = False
        if report.id != numbered.id:
            raise OrderFailed(0, f"a data plane answered order {report.id} instead of {numbered.id}")
        if isinstance(report, orders.Failed):
            raise OrderFailed(report.number, report.text)
        return report

    async def _report(self, timeout: float) -> orders.AnyReport:
        get = asyncio.ensure_future(self._reports.get())
        try:
            pending: set[asyncio.Future[Any]] = {get, self.ended}
            await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if get.done():
                return get.result()
            if self.ended.done():
                raise PlaneGone(f"the data plane is gone: {self._how()}")
            raise TimeoutError(f"the data plane (process {self.pid}) did not answer within {timeout:g} s")
        finally:
            get.cancel()

    def _how(self) -> str:
        return self.ended.result() if self.ended.done() else "it was never started"

    def _on_report(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(orders.MESSAGE_MAX)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:  # its end follows on the pidfd
            self._loop.remove_reader(self._sock.fileno())
            return
        self._reports.put_nowait(orders.decode_report(data))

    def _on_end(self) -> None:
        assert self._process is not None
        self._loop.remove_reader(self._pidfd)
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            reason = f"killed by {name}"
            if -code == signal.SIGSYS:
                reason += " (it made a system call that its sandbox forbids)"
        else:
            reason = f"it ended by itself with exit code {code}"
        if not self.ended.done():
            self.ended.set_result(reason)

    def kill(self) -> None:
        """Ends it at once. Safe at any time, also twice."""
        if self._pidfd >= 0 and not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def stop(self, timeout: float) -> None:
        """Asks it to give everything back, and ends it where it does not within `timeout`."""
        if not self.ended.done() and self._sock is not None:
            with contextlib.suppress(PlaneGone, OrderFailed, TimeoutError):
                await self.order(orders.Stop(), timeout=timeout)
                await asyncio.wait({self.ended}, timeout=timeout)
        await self.close()

    async def close(self) -> None:
        """Ends the process if it lives, and gives back what this handle holds."""
        self.kill()
        if self._pidfd >= 0:
            # Not `await self.ended`: who is cancelled while awaiting a future cancels the future, for everybody.
            await asyncio.wait({self.ended})
            os.close(self._pidfd)
            self._pidfd = -1
        if self._sock is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
        if self._bell_fd >= 0:
            self._word.release()
            self._bell.close()
            os.close(self._bell_fd)
            self._bell_fd = -1
