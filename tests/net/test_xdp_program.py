"""The XDP program, run frame by frame in the kernel (BPF_PROG_TEST_RUN), against the oracle and against the clock."""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from afterburnerd.abi.layout import STAMP_MAGIC, Bucket, BucketKey, Cid, PortKind, XdpCount, XdpMeta, XdpReason
from afterburnerd.native import lib
from afterburnerd.net.xdp import OBJECT, Budget, LocalPort, Settings, Sizes, Use, XdpProgram, mapped
from tests import netns
from tests.net import frames, make_packets, oracle
from tests.net.xsk import Xsk

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

SEED = int(os.environ.get("SEED", "20260101"))
VERDICTS = {1: "DROP", 2: "PASS", 4: "REDIRECT"}
HOUR = 3600 * 10**9
KERNEL = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])


@dataclass
class Bench:
    """A program in the world of frames.py, on no interface, and a way to see what one frame did."""

    bpf: lib.Bpf
    program: XdpProgram
    world: oracle.World

    def run(self, frame: bytes, **where: int) -> tuple[str, XdpReason]:
        before = self.bpf.counters()
        verdict, _data, _ns = self.bpf.test_run(frame, **where)
        after = self.bpf.counters()
        moved = [XdpReason(i) for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert len(moved) == 1, f"one reason a frame, but {moved}"
        packets, octets = (b - a for a, b in zip(before[moved[0]], after[moved[0]], strict=True))
        assert (packets, octets) == (1, len(frame))
        return VERDICTS[verdict], moved[0]

    def reason(self, frame: bytes, **where: int) -> str:
        verdict, reason = self.run(frame, **where)
        assert reason.name.startswith(verdict)
        return reason.name

    def owed(self, slot: int) -> int:
        """Nanoseconds until a global bucket is full again, from now."""
        data = self.bpf.map_lookup("gbuckets", slot.to_bytes(4, "little"))
        assert data is not None
        return Bucket.unpack(data).full_ns - time.monotonic_ns()


def configure(program: XdpProgram, world: oracle.World) -> None:
    uses = {
        "capture": Use(PortKind.CAPTURE),
        "quic": Use(PortKind.QUIC),
        "listen": Use(PortKind.QUIC, listen=True),
    }
    program.configure(Settings(mac=world.mac))
    program.set_ports({LocalPort(a, p, v): uses[rule.kind] for (a, p, v), rule in world.ports.items()})
    for cid in world.cids:
        program.set_cid(cid, Cid())


@pytest.fixture
def bench() -> Iterator[Bench]:
    bpf = lib.Bpf(OBJECT)
    with XdpProgram(Sizes(queues=4, cids=1024, flows=1024, sources=1024), kernel=bpf) as program:
        world = frames.world()
        configure(program, world)
        yield Bench(bpf, program, world)


# --- the parser ---


@pytest.mark.parametrize("path", sorted(make_packets.FOLDER.glob("*.txt")), ids=lambda p: p.stem)
def test_a_kept_frame_gets_its_kept_verdict(bench: Bench, path: Path) -> None:
    expect, frame = make_packets.read(path)
    assert bench.reason(frame) == expect
    assert oracle.judge(frame, bench.world).reason.name == expect


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_generated_frames_are_judged_as_the_rfcs_say(bench: Bench, seed: int) -> None:
    seen: set[XdpReason] = set()
    for number, frame in enumerate(frames.every(seed)):
        want = oracle.judge(frame, bench.world)
        verdict, reason = bench.run(frame)
        assert (reason, verdict) == (want.reason, want.verdict), f"seed {seed}, frame {number}: {frame.hex()}"
        seen.add(reason)
    # Every reason that a frame alone can bring about has come up; the rest need sockets, budgets, buffers or a race.
    others = {
        XdpReason.PASS_BUSY,
        XdpReason.PASS_NONLINEAR,
        XdpReason.REDIRECT_CID,
        XdpReason.REDIRECT_CAPTURE,
        XdpReason.DROP_INITIAL_SOURCE,
        XdpReason.DROP_INITIAL_GLOBAL,
        XdpReason.DROP_SHORT_GLOBAL,
    }
    assert seen == set(XdpReason) - others


def test_a_frame_cut_at_any_byte_is_never_redirected_nor_dropped(bench: Bench) -> None:
    for version in (4, 6):
        for tags in frames.VLANS:
            whole = frames.datagram(b"x" * 30, frames.CAPTURE, version, tags)
            assert bench.reason(whole) == "DROP_WORKER_DOWN"
            for length in range(14, len(whole)):
                assert bench.reason(whole[:length]) in ("PASS_TRUNCATED", "PASS_IP_LENGTH"), length


def test_the_address_must_be_exact(bench: Bench) -> None:
    bench.program.set_ports({LocalPort(frames.NEAR4, frames.CAPTURE, (5,)): Use(PortKind.CAPTURE)})
    expect = {(): "PASS_NOT_OURS", (5,): "DROP_WORKER_DOWN", (0, 5): "DROP_WORKER_DOWN", (5, 6): "PASS_NOT_OURS"}
    for tags, reason in expect.items():
        assert bench.reason(frames.datagram(b"x", frames.CAPTURE, 4, tags)) == reason, tags
    assert bench.reason(frames.datagram(b"x", frames.CAPTURE + 1, 4, (5,))) == "PASS_NOT_OURS"
    assert bench.reason(frames.datagram(b"x", frames.CAPTURE, 6, (5,))) == "PASS_NOT_OURS"


def test_before_it_is_configured_everything_passes() -> None:
    bpf = lib.Bpf(OBJECT)
    with XdpProgram(Sizes(queues=1, cids=1, flows=128, sources=128), kernel=bpf):
        for frame in frames.valid(random.Random(SEED)):
            assert bpf.test_run(frame)[0] == 2


# --- whom a frame goes to ---


def test_without_a_socket_on_its_queue_a_frame_is_dropped_and_counted(bench: Bench) -> None:
    captured = frames.datagram(b"x", frames.CAPTURE)
    known = frames.datagram(frames.short_header(frames.CID), frames.DIAL, 6)
    with netns.pair(queues=2) as rig, rig.near.entered():
        queue = {n: {"queue": n, "ifindex": rig.near.ifindex} for n in (0, 1)}
        with Xsk(rig.near.ifindex, 1) as socket:
            bench.program.set_xsk(1, socket.fileno())
            assert bench.reason(captured, **queue[1]) == "REDIRECT_CAPTURE"
            assert bench.reason(known, **queue[1]) == "REDIRECT_CID"
            assert bench.reason(captured, **queue[0]) == "DROP_WORKER_DOWN"
            assert bench.reason(known, **queue[0]) == "DROP_WORKER_DOWN"
            bench.program.set_xsk(1, None)
            assert bench.reason(captured, **queue[1]) == "DROP_WORKER_DOWN"
            bench.program.set_xsk(1, socket.fileno())
        # The socket is closed: the kernel took it out of the map, after a grace period.
        deadline = time.monotonic() + 10
        while bench.reason(captured, **queue[1]) != "DROP_WORKER_DOWN":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_queue_without_a_place_in_the_map_is_refused(bench: Bench) -> None:
    with pytest.raises(OSError, match="receive queue 4: the socket map was loaded for 4 queues"):
        bench.program.set_xsk(4, None)
    bench.program.set_xsk(3, None)  # nobody was there: nothing happens


def test_connection_ids_come_and_go(bench: Bench) -> None:
    other = bytes(range(8))
    packet = frames.datagram(frames.short_header(other), frames.LISTEN)
    assert bench.reason(packet) == "PASS_SHORT_UNKNOWN"
    bench.program.set_cid(other, Cid(worker=3, queue=1, flags=7))
    assert bench.reason(packet) == "DROP_WORKER_DOWN"
    assert bench.reason(frames.datagram(frames.short_header(other, 9), frames.LISTEN)) == "DROP_WORKER_DOWN"
    assert bench.reason(frames.datagram(frames.short_header(other, 8), frames.LISTEN)) == "PASS_SHORT_UNKNOWN"
    # ... and only on ports of QUIC:
    assert bench.reason(frames.datagram(frames.short_header(other), frames.NOBODY)) == "PASS_NOT_OURS"
    bench.program.set_cid(other, None)
    assert bench.reason(packet) == "PASS_SHORT_UNKNOWN"


@pytest.mark.parametrize("version", [4, 6])
def test_the_queue_of_a_flow_is_noted_from_long_headers_alone(bench: Bench, version: int) -> None:
    remote = (frames.FAR4 if version == 4 else frames.FAR6, 40000)
    local = (frames.NEAR4 if version == 4 else frames.NEAR6, frames.DIAL)
    with netns.pair(queues=4) as rig, rig.near.entered():
        assert bench.program.flow(remote, local) is None
        bench.run(
            frames.datagram(frames.short_header(bytes(8)), frames.DIAL, version), queue=1, ifindex=rig.near.ifindex
        )
        bench.run(frames.datagram(b"\xc0" * 20, frames.CAPTURE, version), queue=1, ifindex=rig.near.ifindex)
        assert bench.program.flow(remote, local) is None
        for queue in (3, 0, 2):
            before = time.monotonic_ns()
            handshake = frames.datagram(frames.long_header(2), frames.DIAL, version)
            bench.run(handshake, queue=queue, ifindex=rig.near.ifindex)
            flow = bench.program.flow(remote, local)
            assert flow is not None
            assert flow.rx_queue == queue
            assert before <= flow.seen_ns <= time.monotonic_ns()
        assert bench.program.flow((remote[0], 40001), local) is None


def test_flows_behind_vlans_are_the_same_flows(bench: Bench) -> None:
    bench.run(frames.datagram(frames.long_header(2), frames.DIAL, 4, (5, 6)))
    assert bench.program.flow((frames.FAR4, 40000), (frames.NEAR4, frames.DIAL)) is not None


# --- budgets ---


def settings(**budgets: Budget) -> Settings:
    return Settings(mac=frames.NEAR_MAC, **budgets)


def slow(burst: int) -> Budget:
    """So many, and the next one in an hour: exact counts, however slow the machine."""
    return Budget(rate=1 / 3600, burst=burst)


def initial_from(source: str, dport: int = frames.LISTEN) -> bytes:
    address = IPv6Address(source) if ":" in source else IPv4Address(source)
    if isinstance(address, IPv4Address):
        packet = frames.ipv4(frames.udp(frames.initial(), address, frames.NEAR4, dport), address)
        return frames.ethernet(packet, 0x0800)
    packet = frames.ipv6(frames.udp(frames.initial(), address, frames.NEAR6, dport), address)
    return frames.ethernet(packet, 0x86DD)


def test_a_source_gets_its_burst_and_no_more(bench: Bench) -> None:
    bench.program.configure(settings(source=slow(3)))
    reasons = [bench.reason(initial_from("10.77.0.1")) for _ in range(5)]
    assert reasons == ["PASS_INITIAL"] * 3 + ["DROP_INITIAL_SOURCE"] * 2
    assert bench.reason(initial_from("10.77.0.9")) == "PASS_INITIAL"  # another has its own


def test_an_ipv6_source_is_its_64_bit_prefix(bench: Bench) -> None:
    bench.program.configure(settings(source=slow(2)))
    same = ["2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::"]
    assert [bench.reason(initial_from(a)) for a in same] == ["PASS_INITIAL"] * 2 + ["DROP_INITIAL_SOURCE"]
    assert bench.reason(initial_from("2001:db8:0:2::1")) == "PASS_INITIAL"
    assert bench.reason(initial_from("2001:db8:1:1::1")) == "PASS_INITIAL"
    assert {BucketKey.unpack(key).prefix for key in bench.bpf.map_items("buckets")} == {
        IPv6Address(a).packed for a in ("2001:db8:0:1::", "2001:db8:0:2::", "2001:db8:1:1::")
    }


def test_the_global_budget_is_shared_by_all_sources(bench: Bench) -> None:
    bench.program.configure(settings(initial=slow(4), source=slow(100)))
    reasons = [bench.reason(initial_from(f"10.77.0.{n}")) for n in range(1, 7)]
    assert reasons == ["PASS_INITIAL"] * 4 + ["DROP_INITIAL_GLOBAL"] * 2


def test_a_source_over_its_budget_costs_the_others_nothing(bench: Bench) -> None:
    bench.program.configure(settings(initial=slow(3), source=slow(1)))
    assert [bench.reason(initial_from("10.77.0.1")) for _ in range(20)][1:] == ["DROP_INITIAL_SOURCE"] * 19
    assert [bench.reason(initial_from(f"10.77.0.{n}")) for n in (2, 3)] == ["PASS_INITIAL"] * 2


def test_made_up_sources_do_not_fill_the_table_once_the_global_budget_is_spent(bench: Bench) -> None:
    bench.program.configure(settings(initial=slow(2), source=slow(1)))
    for n in range(200):
        bench.bpf.test_run(initial_from(f"198.51.{n}.1"))
    assert len(bench.bpf.map_items("buckets")) == 2


def test_a_bucket_refills_at_its_rate(bench: Bench) -> None:
    """The bucket is moved back in time, instead of the test waiting for it."""
    bench.program.configure(settings(source=slow(3)))
    key = mapped(frames.FAR4)
    initial = initial_from("10.77.0.1")
    assert [bench.reason(initial) for _ in range(4)][-1] == "DROP_INITIAL_SOURCE"
    for hours, more in ((1, 1), (2, 2), (50, 3)):
        data = bench.bpf.map_lookup("buckets", key)
        assert data is not None
        bench.bpf.map_update("buckets", key, Bucket(max(0, Bucket.unpack(data).full_ns - hours * HOUR)).pack())
        reasons = [bench.reason(initial) for _ in range(more + 2)]
        assert reasons == ["PASS_INITIAL"] * more + ["DROP_INITIAL_SOURCE"] * 2, hours


def test_the_rate_holds_against_the_clock(bench: Bench) -> None:
    """A demand that never lets up gets the burst and then the rate. A refusal means that the bucket is empty, so between
    two refusals exactly the rate was given; the times before and after a call bound the moment at which it was made. The
    burst is ten seconds' worth, so that no pause of this machine makes the bucket overflow unseen."""
    budget = Budget(rate=2000, burst=20_000)
    initial = initial_from("10.77.0.1")
    start, admitted = time.monotonic(), 0
    bench.program.configure(settings(initial=budget))
    first: tuple[float, int] | None = None  # after the first refusal, and how many were admitted until then
    while True:
        before = time.monotonic()
        refused = bench.bpf.test_run(initial)[0] != 2
        after = time.monotonic()
        admitted += not refused
        if refused and first is None:
            first = (after, admitted)
        if refused and first is not None and after > first[0] + 0.5:
            break
        assert after < start + 60, "this machine is too slow to spend 2,000 a second"
    assert admitted <= budget.burst + budget.rate * (after - start) + 1
    assert admitted - first[1] >= budget.rate * (before - first[0]) - 2


def test_the_budget_is_exact_with_two_processors_spending_it(bench: Bench) -> None:
    """A fraction of a second of both at once: a lost update would give more than the burst."""
    burst, demand = 300_000, 400_000  # each
    bench.program.configure(settings(initial=slow(burst)))
    initial, before = initial_from("10.77.0.1"), bench.bpf.counters()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            os.write(go, b"x")
            bench.bpf.test_run(initial, repeat=demand)
            status = 0
        finally:
            os._exit(status)
    here = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(here)})
        os.read(ready, 1)
        bench.bpf.test_run(initial, repeat=demand)
    finally:
        os.sched_setaffinity(0, here)
        assert os.waitpid(child, 0)[1] == 0
        os.close(ready)
        os.close(go)
    delta = {XdpReason(i): b[0] - a[0] for i, (a, b) in enumerate(zip(before, bench.bpf.counters(), strict=True))}
    assert delta[XdpReason.PASS_INITIAL] == burst
    assert delta[XdpReason.DROP_INITIAL_GLOBAL] == 2 * demand - burst


@pytest.mark.parametrize(
    ("payload", "budgeted"),
    [
        (frames.initial(), True),
        (frames.long_header(1), True),  # 0-RTT
        (frames.long_header(2), False),  # Handshake
        (frames.long_header(3), False),  # Retry
        (frames.long_header(2, version=0x6B3343CF), True),  # a Version Negotiation would have to answer
        (frames.long_header(3, version=0), True),
        (b"\xe0\x00\x00\x00\x01", True),  # too short to be anything
    ],
    ids=["initial", "0-rtt", "handshake", "retry", "version-2", "version-0", "runt"],
)
def test_only_what_could_open_a_connection_is_charged(bench: Bench, payload: bytes, budgeted: bool) -> None:
    bench.program.configure(settings(initial=slow(1)))
    listening, dialling = frames.datagram(payload, frames.LISTEN), frames.datagram(payload, frames.DIAL)
    expect = ["PASS_INITIAL", "DROP_INITIAL_GLOBAL"] if budgeted else ["PASS_LONG"] * 2
    assert [bench.reason(dialling) for _ in range(3)] == ["PASS_LONG"] * 3
    assert [bench.reason(listening) for _ in range(2)] == expect


def test_a_dropped_initial_leaves_no_note_of_its_flow(bench: Bench) -> None:
    bench.program.configure(settings(initial=slow(1)))
    for source in ("10.77.0.1", "10.77.0.9"):
        bench.run(initial_from(source))
    local = (frames.NEAR4, frames.LISTEN)
    assert bench.program.flow((IPv4Address("10.77.0.1"), 40000), local) is not None
    assert bench.program.flow((IPv4Address("10.77.0.9"), 40000), local) is None


def test_unknown_short_headers_have_a_budget_and_known_ones_have_none(bench: Bench) -> None:
    bench.program.configure(settings(short=slow(2)))
    strays = [frames.short_header(bytes(8)), b"\x40", b"", frames.short_header(bytes(8))]
    reasons = [bench.reason(frames.datagram(stray, frames.DIAL)) for stray in strays]
    assert reasons == ["PASS_SHORT_UNKNOWN"] * 2 + ["DROP_SHORT_GLOBAL"] * 2
    known = frames.datagram(frames.short_header(frames.CID), frames.DIAL)
    assert [bench.reason(known) for _ in range(3)] == ["DROP_WORKER_DOWN"] * 3


# --- buffers, metadata, speed ---


def test_a_frame_that_comes_while_another_is_classified_passes(bench: Bench) -> None:
    """PREEMPT_RT can do that; here the mark that a frame in progress leaves is set by hand, on every processor."""
    captured, first = frames.datagram(b"x", frames.CAPTURE), bytes(4)
    data = bench.bpf.map_lookup("counters", first)
    assert data is not None
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().split("-")[-1]
    stride = len(data) // (int(last) + 1)
    mark = len(XdpReason) * XdpCount.SIZE  # the word behind the counters
    busy = bytearray(data)
    for at in range(mark, len(data), stride):
        assert busy[at : at + 8] == bytes(8)
        busy[at] = 1
    bench.bpf.map_update("counters", first, bytes(busy))
    assert [bench.reason(captured) for _ in range(2)] == ["PASS_BUSY"] * 2
    bench.bpf.map_update("counters", first, data)
    assert bench.reason(captured) == "DROP_WORKER_DOWN"


def test_frames_of_several_buffers_are_judged_by_their_whole_length(bench: Bench) -> None:
    for version in (4, 6):
        jumbo = frames.datagram(bytes(8900), frames.CAPTURE, version)
        assert bench.reason(jumbo) == "DROP_WORKER_DOWN"
        assert bench.reason(jumbo[:-1]) == "PASS_IP_LENGTH"
        assert bench.reason(jumbo + b"pad") == "DROP_WORKER_DOWN"


@pytest.mark.skipif(KERNEL < (6, 18), reason="BPF_PROG_TEST_RUN takes a short first buffer since Linux 6.18")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tags", frames.VLANS, ids=len)
def test_headers_behind_the_first_buffer_are_left_to_the_kernel(
    bench: Bench, version: int, tags: tuple[int, ...]
) -> None:
    captured = frames.datagram(bytes(6000), frames.CAPTURE, version, tags)
    quic = frames.datagram(frames.short_header(frames.CID, 200) + bytes(6000), frames.DIAL, version, tags)
    headers = 14 + 4 * len(tags) + (20 if version == 4 else 40) + 8
    for linear in range(14, headers):
        assert bench.reason(captured, linear=linear) == "PASS_NONLINEAR", linear
    for linear in range(headers, headers + 9):
        assert bench.reason(captured, linear=linear) == "DROP_WORKER_DOWN", linear
        assert bench.reason(quic, linear=linear) == "PASS_NONLINEAR", linear
    assert bench.reason(quic, linear=headers + 9) == "DROP_WORKER_DOWN"


def test_a_stamp_stands_in_front_of_captured_frames_and_of_no_others(bench: Bench) -> None:
    captured, stray = frames.datagram(b"x" * 20, frames.CAPTURE), frames.datagram(b"x" * 20, frames.NOBODY)
    known = frames.datagram(b"\x40" + frames.CID + b"x" * 20, frames.LISTEN)
    bench.program.configure(Settings(mac=frames.NEAR_MAC, stamp=True))
    assert bench.bpf.test_run(captured)[1] == captured  # worker down: nobody to read a stamp
    with netns.pair() as rig, rig.near.entered(), Xsk(rig.near.ifindex) as socket:
        bench.program.set_xsk(0, socket.fileno())
        before = time.monotonic_ns()
        verdict, data, _ = bench.bpf.test_run(captured, ifindex=rig.near.ifindex)
        assert VERDICTS[verdict] == "REDIRECT"
        assert data[XdpMeta.SIZE :] == captured
        meta = XdpMeta.unpack(data)
        assert meta.magic == STAMP_MAGIC
        assert before <= meta.ktime_ns <= time.monotonic_ns()
        assert bench.bpf.test_run(stray, ifindex=rig.near.ifindex)[1] == stray
        verdict, data, _ = bench.bpf.test_run(known, ifindex=rig.near.ifindex)
        assert VERDICTS[verdict] == "REDIRECT" and data == known
        bench.program.configure(Settings(mac=frames.NEAR_MAC))
        assert bench.bpf.test_run(captured, ifindex=rig.near.ifindex)[1] == captured


def test_the_fast_path_stores_nothing_on_the_stack() -> None:
    """Without CAP_PERFMON every such store costs a speculation barrier (see the head of the program)."""
    listing = subprocess.run(
        ["llvm-objdump", "--disassemble", "--section=xdp.frags", OBJECT], capture_output=True, text=True, check=True
    ).stdout
    assert "<afterburner_xdp>:" in listing
    stores = [line for line in listing.splitlines() if re.search(r"\*\(u\d+ \*\)\(r10 - \d+\) = ", line)]
    assert stores == []
