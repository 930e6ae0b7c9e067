"""The control socket's server half: one line in, one line out (abi/control.py says which).

Permissions of the socket decide who may ask: 0660, owner and group of the daemon. A client that says nothing, too much or
nonsense costs only its own connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from afterburnerd.abi import control
from afterburnerd.cli import EXIT_PERMISSION, EXIT_UNREACHABLE
from afterburnerd.supervisor.refusal import Refusal

log = logging.getLogger(__name__)

# A request is one short line; nobody needs longer to write it, and a reload is waited for by its asker, not by this.
IDLE_SECONDS = 30.0
REQUEST_MAX = 64 * 1024
CLIENTS_MAX = 64

Handler = Callable[[control.Request], Awaitable[control.Reply]]


class ControlServer:
    """Listens on <run_dir>/control.sock from `start` to `stop`."""

    def __init__(self, run_dir: str, handler: Handler) -> None:
        self.path = Path(run_dir) / control.SOCKET_NAME
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Takes the path over from a dead daemon, never from a living one."""
        try:
            self.path.parent.mkdir(mode=0o755, exist_ok=True)
            if self.path.is_socket() and _answers(self.path):
                raise Refusal(
                    f"{self.path}: a daemon answers there already; stop it, or choose another daemon.run_dir",
                    EXIT_UNREACHABLE,
                )
            self.path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, self.path, limit=REQUEST_MAX)
            self.path.chmod(0o660)
        except PermissionError as error:
            raise Refusal(
                f"control socket {self.path}: {error.strerror}; create {self.path.parent} for the daemon's user, or "
                "set daemon.run_dir to a directory of yours",
                EXIT_PERMISSION,
            ) from None
        except OSError as error:
            raise Refusal(f"control socket {self.path}: {error.strerror or error}", EXIT_UNREACHABLE) from None

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._server = None
        self.path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > CLIENTS_MAX:
                writer.write(control.encode(control.Failure(message=f"more than {CLIENTS_MAX} clients at once")))
            else:
                await self._serve(reader, writer)
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(writer.drain(), IDLE_SECONDS)
        except (ConnectionError, TimeoutError):
            pass  # hung up, or said nothing: nobody is left to tell
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await asyncio.wait_for(reader.readuntil(b"\n"), IDLE_SECONDS)
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                writer.write(control.encode(control.Failure(message=f"a request is at most {REQUEST_MAX} bytes")))
                return
            try:
                request = control.decode_request(line)
            except msgspec.MsgspecError as error:
                reply: control.Reply = control.Failure(
                    message=f"not understood: {error}; are daemon and tools of the same version?"
                )
            else:
                try:
                    reply = await self._handler(request)
                except Refusal as refusal:
                    reply = control.Failure(message=str(refusal), exit_code=refusal.code)
            writer.write(control.encode(reply))
            await asyncio.wait_for(writer.drain(), IDLE_SECONDS)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
        return True
