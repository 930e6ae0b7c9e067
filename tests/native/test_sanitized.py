"""The tests of the C code once more, on a build under AddressSanitizer and UBSan: not one report, in any process.

`python -m tests.sanitized` runs whatever tests one likes on that build. The decoder's hypothesis tests are left out here, for
its fuzz target does the same work under the same sanitizers, faster.
"""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests import cc, sanitized

pytestmark = pytest.mark.skipif(bool(cc.SANITIZED), reason="this is the sanitized run")

FAULTS = "tests/system/test_daemon_faults.py"
RELOAD = "tests/system/test_daemon_reload.py"
PAIR = "tests/net/test_quic_pair.py"
FLOOD = "tests/system/test_lab_flood.py"
TESTS = [
    "tests/native",
    "tests/sanitized_site/inside.py",
    # A daemon, its data plane and the lab's program, each in a way of its own through the C code.
    f"{FAULTS}::test_jumbo_frames_arrive_whole",
    f"{FAULTS}::test_generic_mode_serves",
    f"{FAULTS}::test_down_and_up",
    f"{FAULTS}::test_several_workers_share_the_queues",
    f"{RELOAD}::test_a_reload_in_socket_mode_opens_and_closes_only_what_changes",
    f"{FAULTS}::test_more_queues_are_served_when_the_interface_gets_them",
    *(
        f"{PAIR}::test_{name}"
        for name in (
            "messages_arrive_both_ways[client-afxdp-socket-server-socket-afxdp-4]",
            "messages_arrive_both_ways[client-socket-socket-server-afxdp-afxdp-6]",
            "few_frames_slow_it_down_and_lose_nothing",
            "a_socket_that_is_full_pushes_back_and_loses_nothing",
            "packets_on_another_workers_queue_are_handed_over",
            "a_source_that_is_closed_and_opened_anew_serves_on",
        )
    ),
    f"{FLOOD}::test_a_closed_port_is_reported",  # first: the kernel sends few ICMP errors a second
    f"{FLOOD}::test_a_stock_goes_round_and_is_counted_right",
    f"{FLOOD}::test_emitted_transactions_decode_as_the_summary_says[afxdp]",
]
# Slow, or waiting, for the same code.
LEFT_OUT = [
    "tests/native/test_solana_tx.py::test_mutated_transactions_are_judged_as_the_sdk_judges_them",
    "tests/native/test_record_ring.py::test_no_torn_record_surfaces_and_losses_add_up[2]",
    "tests/native/test_record_ring.py::test_no_torn_record_surfaces_and_losses_add_up[16]",
]


@pytest.fixture(scope="module")
def tree() -> Path:
    return sanitized.build()


@pytest.fixture
def reports(tree: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    return folder


@pytest.mark.timeout(600)
def test_the_tests_of_the_c_code_pass_without_a_report(
    reports: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERBURNER_SEED", str(seed))
    left_out = [f"--deselect={test}" for test in LEFT_OUT]
    done = sanitized.python(
        reports, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not hypothesis", *left_out, *TESTS
    )
    assert sanitized.told(reports) == ""
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 100, done.stdout[-2000:]


def test_it_is_the_sanitized_module_that_runs(tree: Path, reports: Path) -> None:
    code = (
        "from afterburnerd.native import lib; from afterburnerd.lab import labio; import os;"
        "print(lib.__file__, labio.PROGRAM, os.environ.get('LD_PRELOAD'))"
    )
    done = sanitized.python(reports, "-c", code)
    assert done.stdout.split() == [f"{tree}/_native.abi3.so", f"{tree}/afterburner-labio", "None"], done.stderr
    for made in ("_native.abi3.so", "afterburner-labio"):
        symbols = subprocess.run(["nm", "-D", tree / made], capture_output=True, text=True, check=True).stdout
        assert "__asan_report_load" in symbols
        assert "__ubsan_handle_pointer_overflow_abort" in symbols


@pytest.mark.parametrize("where", ["here", "in a child", "behind a seal"])
def test_an_access_that_is_forbidden_is_reported(reports: Path, where: str) -> None:
    """Bytes that AddressSanitizer was told to guard are read by the module: what it says ends up in `reports`."""
    code = (
        "import ctypes; from afterburnerd.native import lib;"
        "data = bytes(96); at = ctypes.c_void_p(id(data) + 32);"
        "ctypes.CDLL(None).__asan_poison_memory_region(at, ctypes.c_size_t(96)); lib.tx_decode(data)"
    )
    if where == "behind a seal":  # where a data plane spends its life: no file can be opened there
        code = code.replace("; lib.tx_decode", "; lib.sandbox_drop(-1, -1); lib.sandbox_seal(); lib.tx_decode")
    if where == "in a child":
        code = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    done = sanitized.python(reports, "-c", code)
    assert "use-after-poison" in sanitized.told(reports)
    if where == "behind a seal":  # looking up the lines of the source is its end
        assert done.returncode == -signal.SIGSYS
    else:
        assert done.returncode == cc.REPORTED
        assert "solana_tx.c" in sanitized.told(reports)


LEAK = """
import ctypes, mmap, os, socket
from tests.native.test_module import Parts, ring, udp
def use(keep):
    parts = Parts()
    parts.worker.set_records(ring())
    parts.worker.set_rules(bytes(16) + bytes([1]) + bytes(15))
    parts.worker.open_udp(0, udp())
    parts.worker.open_udp(1, udp())
    parts.worker.run(3)
    parts.worker.close_slot(1)
    parts.worker.open_udp(1, udp())
    if keep:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(parts.worker))
for _ in range(10):
    use(keep={keep})
"""


def test_nothing_is_leaked(reports: Path) -> None:
    """LeakSanitizer tells of the interpreter's own as well; what counts is memory that the C code asked for."""
    sanitized.python(reports, "-c", LEAK.format(keep=True), leaks=True)
    kept = sanitized.told(reports)
    if "LeakSanitizer has encountered a fatal error" in kept:
        pytest.skip("LeakSanitizer needs ptrace, which is forbidden here")
    assert ours(kept) >= 10, kept[:4000]  # it does tell
    for path in reports.iterdir():
        path.unlink()
    done = sanitized.python(reports, "-c", LEAK.format(keep=False), leaks=True)
    assert done.returncode == 0, done.stderr
    sanitized.python(
        reports, "-m", "pytest", "-q", "tests/native/test_bpf.py", "tests/native/test_starvation.py", leaks=True
    )
    assert ours(sanitized.told(reports)) == 0, sanitized.told(reports)[:8000]
    assert "ERROR: AddressSanitizer" not in sanitized.told(reports), sanitized.told(reports)[:8000]


def ours(text: str) -> int:
    """Leaked blocks that were asked for by code of ours."""
    found = re.findall(r"leak of \d+ byte\(s\) in (\d+) object\(s\) allocated from:\n((?:    #.*\n)+)", text)
    return sum(int(count) for count, stack in found if "afterburnerd/native/" in stack)
