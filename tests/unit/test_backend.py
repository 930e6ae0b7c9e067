"""By what QUIC packets come in and go out: what is configured, what the interface allows, what the test found."""

from __future__ import annotations

import pytest

from afterburnerd.config import Quic
from afterburnerd.net.selftest import Verdict
from afterburnerd.supervisor.backend import choose

GOOD, BAD, UNKNOWN = Verdict(True, "all came back"), Verdict(False, "none came back"), Verdict(None, "no pair")


@pytest.mark.parametrize(
    ("receive", "send", "rung", "test", "expected"),
    [
        ("auto", "auto", "native", GOOD, ("afxdp", "afxdp")),
        ("auto", "auto", "generic", GOOD, ("afxdp", "afxdp")),
        ("auto", "auto", "native", None, ("afxdp", "afxdp")),
        ("auto", "auto", "native", UNKNOWN, ("afxdp", "afxdp")),  # what could not be tried says nothing
        ("auto", "auto", "native", BAD, ("socket", "socket")),
        ("auto", "socket", "native", GOOD, ("afxdp", "socket")),
        ("socket", "auto", "native", GOOD, ("socket", "afxdp")),
        ("afxdp", "auto", "native", BAD, ("afxdp", "socket")),  # who says so means it
        ("afxdp", "afxdp", "socket", None, ("socket", "socket")),  # there is nothing else
    ],
)
def test_the_choice(receive: str, send: str, rung: str, test: Verdict | None, expected: tuple[str, str]) -> None:
    chosen = choose(Quic(receive=receive, send=send), rung, test)  # type: ignore[arg-type]
    assert (chosen.receive, chosen.send) == expected
    assert chosen.mixed is ("socket" in expected)


def test_the_reason_says_what_was_found() -> None:
    both = choose(Quic(), "native", GOOD).reason
    assert both == "AF_XDP in native mode has the lowest latency; tested: all came back"
    assert "failed its test (none came back)" in choose(Quic(), "native", BAD).reason
    assert choose(Quic(), "native", UNKNOWN).reason.endswith("; no pair")
    assert choose(Quic(send="socket"), "native", GOOD).reason.endswith("send as configured")
