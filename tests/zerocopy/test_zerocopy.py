"""Zero-copy is proven, not assumed: the data plane between two NICs whose driver does it, in a guest.

The guest (guest.py) boots once; what ran in it (harness.py) is then held against what must be, number by number. Where
no suitable kernel can be had, everything here is skipped and says why. Anything else that goes wrong is red, with the
guest's console in the message.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from . import guest, kernel, stack

CACHE = stack.TREE / "build/zerocopy"
# Most of a minute on two busy cores. The bounds, from the inside out: the guest powers itself off, then QEMU is killed.
GUEST_S = 400.0
QEMU_S = GUEST_S + 20.0
SIDES = ("left", "right")

Report = dict[str, Any]

pytestmark = pytest.mark.timeout(900)  # a download over a slow line comes on top


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> guest.Outcome:
    """Boots the guest, once."""
    try:
        linux = kernel.obtain(CACHE)
    except kernel.Unavailable as why:
        pytest.skip(f"zero-copy is NOT tested: no kernel for the guest: {why}")
    scratch = tmp_path_factory.mktemp("guest")
    try:
        root = guest.Root(scratch / "root")
        stack.collect(root, linux, deadline_s=GUEST_S)
        root.pack(scratch / "initramfs")
        return guest.boot(linux, scratch / "initramfs", scratch, timeout_s=QEMU_S)
    finally:
        shutil.rmtree(scratch)  # 150 MB that nobody looks at again


@pytest.fixture
def report(outcome: guest.Outcome) -> Report:
    """What the harness measured."""
    try:
        found: Report = json.loads(outcome.report)
    except json.JSONDecodeError:
        pytest.skip("the guest gave no report: test_the_guest_runs_to_its_end failed and shows why")
    print(console(outcome))  # pytest shows it where the test fails
    return found


def console(outcome: guest.Outcome) -> str:
    return f"{outcome.seconds:.1f} s\n--- console of the guest ---\n{outcome.console}\n--- end of console ---"


def volumes(report: Report, side: str) -> tuple[int, int]:
    """What must have passed a side's data plane: transactions sent back by its echo, and decoded on their way home."""
    echoed = sum(v["sent"] for v in report["volleys"] if v["from"] != side)
    home = sum(v["sent"] for v in report["volleys"] if v["from"] == side)
    return echoed, home


def only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(rows) == 1, rows
    return rows[0]


def test_the_guest_runs_to_its_end(outcome: guest.Outcome) -> None:
    if not outcome.ended:
        pytest.fail(f"the guest did not end by itself: {console(outcome)}", pytrace=False)
    if not outcome.report:
        pytest.fail(f"the guest ended without a report: {console(outcome)}", pytrace=False)


@pytest.mark.parametrize("side", SIDES)
def test_the_kernel_confirms_zero_copy(report: Report, side: str) -> None:
    found = report["sides"][side]
    assert only(found["sockets"])["zero_copy"] is True  # XDP_OPTIONS of the data plane's own socket
    assert only(found["statistics"]["queue"])["mode"] == "zero_copy"
    assert found["xdp_mode"] == 1  # XDP_ATTACHED_DRV: in the driver, not generic


def test_every_transaction_comes_home(report: Report) -> None:
    assert len(report["volleys"]) == 5
    for volley in report["volleys"]:
        assert volley["sent"] > 0
        assert volley["home"] == volley["sent"], volley


@pytest.mark.parametrize("side", SIDES)
def test_what_was_sent_is_received_is_decoded(report: Report, side: str) -> None:
    echoed, home = volumes(report, side)
    figures = report["sides"][side]["statistics"]
    queue, worker = only(figures["queue"]), only(figures["worker"])
    assert queue["rx_packets"] == report["sides"][side]["redirected"] == echoed + home
    assert queue["tx_packets"] == queue["tx_completed"] == echoed
    assert worker["decoded"] == home
    rules = {row["labels"]["rule"]: row for row in figures["rule"]}
    assert (rules["transactions"]["packets"], rules["transactions"]["decoded"]) == (home, home)
    assert rules["transactions"]["malformed"] == 0
    assert rules["echo"]["packets"] == echoed


@pytest.mark.parametrize("side", SIDES)
def test_nothing_is_dropped_anywhere(report: Report, side: str) -> None:
    found = report["sides"][side]
    queue, worker = only(found["statistics"]["queue"]), only(found["statistics"]["worker"])
    # Among them the UDP checksum, which both sides verify: zero-copy damaged no byte.
    assert {name: value for name, value in worker.items() if name.startswith("drop_") and value} == {}
    assert "drop_checksum" in worker or any("checksum" in name for name in worker), worker
    assert queue["tx_dropped"] == queue["kick_errors"] == 0
    kernel_says = only(found["sockets"])
    assert {n: kernel_says[n] for n in ("rx_dropped", "rx_invalid_descs", "tx_invalid_descs", "rx_ring_full")} == {
        "rx_dropped": 0,
        "rx_invalid_descs": 0,
        "tx_invalid_descs": 0,
        "rx_ring_full": 0,
    }


@pytest.mark.parametrize("side", SIDES)
def test_every_frame_is_in_exactly_one_place(report: Report, side: str) -> None:
    queue = only(report["sides"][side]["statistics"]["queue"])
    assert queue["frame_errors"] == 0  # compared by the worker at each turn that moved packets
    assert queue["frames_rx"] + queue["frames_worker"] + queue["frames_tx"] == queue["frames"] > 0
    assert queue["frames_tx"] == 0  # all came back from the NIC


def test_steps_of_the_clock_disturb_nothing(report: Report) -> None:
    # While transactions went both ways, all of which came home. The one restart is that after the kill.
    assert len(report["steps"]) >= 4
    assert {abs(seconds) for seconds in report["steps"]} == {86400, 2 * 86400}
    for side, killed in (("left", 1), ("right", 0)):
        daemon = only(report["sides"][side]["statistics"]["daemon"])
        assert {what: daemon[f"restart_{what}"] for what in ("killed", "hung", "config")} == {
            "killed": killed,
            "hung": 0,
            "config": 0,
        }
        assert daemon["rebinds"] == 0


def test_a_killed_data_plane_is_replaced(report: Report) -> None:
    # The mode that the other tests see on the left is that of the second one: the last volley went through it.
    assert report["killed"]["before"] != report["killed"]["after"] != 0
    assert report["sides"]["left"]["statistics"]["worker"][0]["pid"] == report["killed"]["after"]
    assert report["volleys"][-1]["from"] == "left"


@pytest.mark.parametrize("side", SIDES)
def test_the_daemon_ends_and_leaves_nothing(report: Report, side: str) -> None:
    assert report["sides"][side]["exit"] == 0
    assert report["sides"][side]["left"] == {"xdp": 0, "shared_memory": [], "sockets": []}
