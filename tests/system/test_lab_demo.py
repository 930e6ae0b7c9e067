"""The demo, whole: it ends in a summary, its figures agree, and it leaves nothing behind, interrupted or not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afterburnerd.lab.broken import SENDABLE

pytestmark = pytest.mark.privileged
COMMAND = [sys.executable, "-m", "afterburnerd.lab.main", "demo"]


def left_of(pid: int) -> list[str]:
    """Traces of the demo that ran as this process, looked for without its help."""
    name = f"abd{pid}"
    found = [
        str(p) for folder in ("/run/netns", "/dev/shm", "/tmp", "/sys/class/net") for p in Path(folder).glob(f"{name}*")
    ]
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if name.encode() in cmdline.read_bytes():
                found.append(str(cmdline))
        except OSError:
            continue
    return found


def play(*args: str) -> tuple[subprocess.CompletedProcess[str], int]:
    process = subprocess.Popen(
        [*COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "130"},
    )
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err), process.pid


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"│ {name}"))
    return [cell.strip() for cell in line.strip("│").split("│")[1:]]


@pytest.mark.parametrize(
    ("mode", "shown"),
    [pytest.param("auto", "AF_XDP in the driver", marks=pytest.mark.bpf), ("socket", "UDP sockets")],
)
def test_it_shows_everything_and_leaves_nothing(mode: str, shown: str, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    done, pid = play("--seconds", "2", "--mode", mode, *(["--svg", str(picture)] if mode == "auto" else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "afterburnerd ended by" not in done.stderr, done.stderr
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert f"received by {shown}" in text
    sent, flooded = (int(cell.replace(",", "")) for cell in row(text, "sent"))
    assert 900 <= sent <= 1000 and flooded > 100_000  # 500 a second for 2 s, less what a busy machine kept back
    # What is lost, is lost to this machine's other work; the sums must agree whatever happened.
    for i, total in enumerate((sent, flooded)):
        parts = [int(row(text, name)[i].replace(",", "")) for name in ("decoded", "malformed", "lost")]
        assert sum(parts) == total and parts[2] >= 0
    for reason in SENDABLE:  # a tenth of 1,000 in turns
        assert int(row(text, reason)[0]) in (100 // len(SENDABLE), 100 // len(SENDABLE) + 1)
    for expected in (
        "$ afterburnerctl inspect",
        "$ afterburnerctl status",
        'afterburner_daemon_state{state="serving"} 1.0',
        "  nothing: no namespace",
    ):
        assert expected in text, text
    assert left_of(pid) == []
    if mode == "auto":
        assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", ["a rig:", "the daemon", " sent, "])
def test_an_interrupted_demo_leaves_nothing(at: str, number: signal.Signals) -> None:
    process = subprocess.Popen([*COMMAND, "--seconds", "30"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    try:
        assert process.stdout
        said, until = b"", time.monotonic() + 60
        while at.encode() not in said and time.monotonic() < until:
            said += os.read(process.stdout.fileno(), 65536)
        process.send_signal(number)
        time.sleep(0.03)  # of two that come together, Python takes the lower number first
        process.send_signal(signal.SIGINT)  # somebody is impatient
        out, err = process.communicate(timeout=30)
        said += out
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number, (said + err).decode()
    assert b"nothing: no namespace" in said, (said + err).decode()
    assert b"afterburnerd ended by" not in err, err.decode()
    assert left_of(process.pid) == []


def test_without_root_it_says_what_to_do() -> None:
    script = (
        "import os, sys; os.geteuid = lambda: 1000; from afterburnerd.lab.main import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 77
    assert "sudo make demo" in done.stderr
