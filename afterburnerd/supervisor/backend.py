"""By what QUIC packets come in and go out: AF_XDP or sockets, each direction for itself, and why.

    configuration ──► named? it is that, as far as the interface allows
                      auto?  ──► rung of the interface (device.py): sockets only ──► socket
                             ──► self-test on a private pair (net/selftest.py): AF_XDP does not work ──► socket
                             ──► else AF_XDP: it has the lower latency on every rung

Sockets need nothing and send more packets a second where there is no zero-copy, so who wants bulk configures
`send = "socket"`. The reason that is shown says what was found.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from afterburnerd.abi.control import QuicBackend
from afterburnerd.config import Quic
from afterburnerd.net.selftest import Verdict

By = Literal["afxdp", "socket"]


class Backend(msgspec.Struct, frozen=True):
    receive: By
    send: By
    reason: str

    @property
    def mixed(self) -> bool:
        """Some packets go by sockets of a worker, though there is an XDP program."""
        return "socket" in (self.receive, self.send)

    def status(self) -> QuicBackend:
        return QuicBackend(receive=self.receive, send=self.send, reason=self.reason)


def choose(config: Quic, rung: str, test: Verdict | None) -> Backend:
    """`rung` as in device.py; `test` None: not run, because nothing depends on it."""
    if rung == "socket":
        return Backend("socket", "socket", "the interface is served by sockets")
    found: dict[str, By] = {}
    reasons = []
    for direction, wanted in (("receive", config.receive), ("send", config.send)):
        if wanted != "auto":
            found[direction] = wanted
            reasons.append(f"{direction} as configured")
        elif test is not None and test.works is False:
            found[direction] = "socket"
            reasons.append(f"{direction}: AF_XDP failed its test ({test.text})")
        else:
            found[direction] = "afxdp"
            tested = "" if test is None else f"; {test.text}" if test.works is None else f"; tested: {test.text}"
            reasons.append(f"{direction}: AF_XDP in {rung} mode has the lowest latency{tested}")
    if reasons[0].partition(": ")[2] and reasons[0].partition(": ")[2] == reasons[1].partition(": ")[2]:
        reasons = [reasons[0].partition(": ")[2]]
    return Backend(found["receive"], found["send"], "; ".join(reasons))
