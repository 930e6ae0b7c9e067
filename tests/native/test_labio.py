"""The lab's C program: what it is given on the command line and in files is checked before it is used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from afterburnerd.lab import labio


def send(*options: str) -> subprocess.CompletedProcess[str]:
    command = [labio.PROGRAM, "socket-send", "--from", "127.0.0.1", "--to", "127.0.0.1", "--dport", "9", "--count", "1"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no payload in it"),
        (b"\5\0four", "payload 0 is cut off"),
        (b"\1\0a" + b"\2\0b", "payload 1 is cut off"),
        (b"\xff\xff" + bytes(65535), "payload 0 is cut off or longer than the 4054 bytes"),
    ],
)
def test_a_file_that_is_none_of_payloads_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "payloads"
    path.write_bytes(content)
    done = send("--payloads", str(path))
    assert done.returncode == 64
    assert fault in done.stderr


def test_a_file_without_an_end_is_refused() -> None:
    """Its size says 0, and it gives for ever."""
    done = send("--payloads", "/dev/zero")
    assert done.returncode == 64, done.stderr
    assert "/dev/zero: payload 0 is cut off" in done.stderr


def test_a_file_is_sent_to_its_last_byte(tmp_path: Path) -> None:
    path = tmp_path / "payloads"
    path.write_bytes(b"\0\0" + b"\3\0abc" + (4054).to_bytes(2, "little") + bytes(4054))
    done = send("--payloads", str(path))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--size", "8951"), ("--size", "-1"), ("--size", "18446744073709551617"), ("--flows", "0"), ("--flows", "4097"),
        ("--batch", "1025"), ("--frame-size", "3000"), ("--ring", "96"), ("--dport", "0"), ("--smac", "02:00:00:00:00"),
        ("--to", "::1"), ("--to", "nowhere"), ("--nice", "20"), ("--cpu",), ("--nosuch",), ("stray",),
    ],
)  # fmt: skip
def test_options_out_of_bounds_are_refused(options: tuple[str, ...]) -> None:
    done = send(*options)
    assert done.returncode == 64, done.stderr
    assert done.stderr.startswith("afterburner-labio: ")
