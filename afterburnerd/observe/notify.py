"""What we tell systemd: ready, reloading, stopping, a status line, the watchdog (sd_notify(3)).

Goes through systemd-python where that is installed, else as the same datagram by our own hand. Without NOTIFY_SOCKET nobody
wants to know, and every call is a no-op that says so by returning False: a machine without systemd is no special case.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

SEND_SECONDS = 2.0  # a service manager that does not take a datagram for so long has other troubles than ours
STATUS_LIMIT = 512

Send = Callable[[str], None]


class NotifyError(Exception):
    """The service manager could not be reached."""


class Notifier:
    """Each method returns whether there was somebody to tell."""

    def __init__(self, send: Send | None) -> None:
        self._send = send

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        address = environment.get("NOTIFY_SOCKET", "")
        if not address:
            return cls(None)
        return cls(_library(address, environment) or _datagram(address))

    @property
    def wanted(self) -> bool:
        return self._send is not None

    def ready(self, status: str = "") -> bool:
        """Start, or the reload announced before, is complete."""
        return self._tell("READY=1", *_status(status))

    def reloading(self, status: str = "", monotonic_ns: int | None = None) -> bool:
        """A reload has begun; `ready` ends it. systemd wants to know when, to tell this reload from an earlier one."""
        at = time.monotonic_ns() if monotonic_ns is None else monotonic_ns
        return self._tell("RELOADING=1", f"MONOTONIC_USEC={at // 1000}", *_status(status))

    def stopping(self, status: str = "") -> bool:
        return self._tell("STOPPING=1", *_status(status))

    def status(self, text: str) -> bool:
        """The line that `systemctl status` shows."""
        return self._tell(*_status(text))

    def watchdog(self) -> bool:
        """We are well, until the next one is due."""
        return self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> bool:
        if self._send is None:
            return False
        self._send("\n".join(lines))
        return True


def _status(text: str) -> list[str]:
    """One line, whatever is in it: a line feed would begin another assignment."""
    return [f"STATUS={' '.join(text.split())[:STATUS_LIMIT]}"] if text else []


def _library(address: str, environment: Mapping[str, str]) -> Send | None:
    """systemd-python, where it is installed. It reads the process's own environment, and no other."""
    if environment is not os.environ:
        return None
    try:
        import systemd.daemon as daemon
    except ImportError:
        return None

    def send(text: str) -> None:
        try:
            sent = daemon.notify(text)
        except OSError as e:
            raise _unreachable(address, e) from e
        if not sent:
            raise NotifyError(f"NOTIFY_SOCKET={address}: systemd-python knows no such socket")

    return send


def _datagram(address: str) -> Send:
    """The protocol itself: one datagram to a unix socket, "@" standing for the zero byte of an abstract one."""
    if address[0] not in "@/":
        raise NotifyError(f"NOTIFY_SOCKET={address}: must begin with / or @")
    target = "\0" + address[1:] if address[0] == "@" else address

    def send(text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(SEND_SECONDS)
            try:
                sock.sendto(text.encode(), target)
            except OSError as e:
                raise _unreachable(address, e) from e

    return send


def _unreachable(address: str, e: OSError) -> NotifyError:
    return NotifyError(f"NOTIFY_SOCKET={address}: {e.strerror or e}")
