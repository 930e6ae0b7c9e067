"""NewReno and CUBIC move the window as RFC 9002 section 7 and RFC 9438 say; integers, held against formulas in floats."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

import pytest

from .quic_leaves import MS, NONE, S, load

lib = load()

CUBIC, NEWRENO = 0, 1
KINDS = pytest.mark.parametrize("kind", [CUBIC, NEWRENO])
NOTHING, REDUCED, COLLAPSED = range(3)
MTU = 1200
INITIAL = 128 * 1232
WINDOW, IN_FLIGHT, SSTHRESH, EVENTS, IN_RECOVERY, W_MAX, K_NS, W_EST, CSS = range(9)
MAX = 1 << 32


class Flow:
    """One end of a path with a round trip of `rtt` ns: what it sends is acknowledged `rtt` later, two packets an ACK."""

    def __init__(self, kind: int, window: int = 0, rtt: int = 100 * MS, hystart: bool = False, mtu: int = MTU) -> None:
        self.cc = lib.cc_new(kind, hystart, window, mtu)
        self.estimate = lib.rtt_new(0, 25 * MS)
        self.rtt, self.mtu = rtt, mtu
        self.now = 1 * S
        self.way: deque[tuple[int, int]] = deque()  # sent at, bytes
        self.acks: deque[tuple[int, int]] = deque()

    def __getitem__(self, which: int) -> int:
        return lib.numbers(lib.cc_show, self.cc)[which]

    @property
    def window(self) -> int:
        return self[WINDOW]

    def send(self, packets: int = 1 << 40, size: int = 0) -> int:
        """As many as the window allows, at most `packets`; how many."""
        size, sent = size or self.mtu, 0
        while sent < packets and lib.cc_room(self.cc) >= size:
            lib.cc_sent(self.cc, size, 3 * self.rtt, self.now)
            self.way.append((self.now, size))
            sent += 1
        return sent

    def ack(self, packets: int = 2, ce: bool = False) -> int:
        """The oldest packets are acknowledged; what it did."""
        last = 0
        for _ in range(min(packets, len(self.way))):
            last, size = self.way.popleft()
            lib.cc_ack(self.cc, size, last)
        lib.rtt_sample(self.estimate, self.now - last, 0, 1, self.now)
        return lib.cc_update(self.cc, self.estimate, last, ce, 0, self.now)

    def lose(self, packets: int = 1, persistent: bool = False) -> int:
        for _ in range(min(packets, len(self.way))):
            sent, size = self.way.popleft()
            lib.cc_lose(self.cc, size, sent)
        return lib.cc_update(self.cc, self.estimate, 0, 0, persistent, self.now)

    def lose_and_recover(self, after: int) -> None:
        """The first window loses one packet `after` ns after it was sent; congestion avoidance, with a full window."""
        self.send()
        self.now += after
        self.lose(1)
        while self.way:
            self.ack(2)
        self.now += self.rtt
        self.send()

    def round(self) -> None:
        """A round trip of one who always has something to send: each ACK lets go as much as it acknowledges."""
        begin, left = self.now, len(self.way)
        step = self.rtt // max(1, (left + 1) // 2)
        while left > 0:
            self.now += step
            self.ack(2)
            left -= 2
            self.send()
        self.now = begin + self.rtt
        self.send()


@KINDS
def test_the_window_begins_as_configured_and_never_below_two_packets(kind: int) -> None:
    assert Flow(kind).window == INITIAL
    assert Flow(kind, window=50_000).window == 50_000
    assert Flow(kind, window=1).window == 2 * MTU
    flow = Flow(kind, window=10 * MTU)
    assert flow.send() == 10 and lib.cc_room(flow.cc) == 0
    flow.lose(8)
    for _ in range(20):
        flow.send()
        flow.now += 1
        flow.lose(100)
    assert flow.window == 2 * MTU
    lib.cc_set_mtu(flow.cc, 1472)
    assert flow.window == 2 * 1472


@KINDS
def test_slow_start_doubles_the_window_each_round_trip(kind: int) -> None:
    flow = Flow(kind, window=10 * MTU)
    flow.send()
    for packets in (20, 40, 80, 160):
        flow.now += flow.rtt
        flow.ack(1000)
        assert flow.window == packets * MTU
        assert flow.send() == packets


@KINDS
def test_a_window_that_is_not_used_does_not_grow(kind: int) -> None:
    flow = Flow(kind, window=100 * MTU)
    for _ in range(50):
        flow.send(30)
        flow.now += flow.rtt
        flow.ack(100)
    assert flow.window == 100 * MTU
    flow.send(100)  # now it is full; what was under way then counts, once
    flow.now += flow.rtt
    flow.ack(60)
    assert flow.window == 160 * MTU
    flow.send(1)
    flow.now += flow.rtt
    flow.ack(40)
    assert flow.window == 200 * MTU
    flow.now += 1
    flow.ack(1)
    assert flow.window == 200 * MTU


@KINDS
def test_what_pacing_holds_back_counts_as_sent(kind: int) -> None:
    for backlog, grown in ((70 * MTU, True), (70 * MTU - 1, False), (NONE, True)):
        flow = Flow(kind, window=100 * MTU)
        flow.send(30)
        lib.cc_blocked(flow.cc, backlog, flow.now)
        flow.now += flow.rtt
        flow.ack(30)
        assert flow.window == (130 if grown else 100) * MTU


@KINDS
def test_one_loss_of_a_round_trip_is_answered(kind: int) -> None:
    flow = Flow(kind, window=100 * MTU)
    flow.send()
    flow.now += flow.rtt
    flow.ack(10)
    before = flow.window
    assert flow.lose(1) == REDUCED
    after = before * 7 // 10 if kind == CUBIC else before // 2
    assert flow.window == flow[SSTHRESH] == after and flow[EVENTS] == 1 and flow[IN_RECOVERY]
    flow.now += 1
    assert flow.lose(5) == NOTHING  # sent before the recovery period
    assert flow.ack(20, ce=True) == NOTHING
    assert flow.window == after and flow[EVENTS] == 1
    while flow.way:
        flow.ack(2)
    assert flow.window == after and flow[IN_RECOVERY]  # nor does it grow by what was sent before
    flow.now += 1
    flow.send()
    flow.now += flow.rtt
    flow.ack(2)
    assert not flow[IN_RECOVERY]
    assert flow.lose(1) == REDUCED and flow[EVENTS] == 2


@KINDS
def test_a_congestion_mark_counts_as_a_loss(kind: int) -> None:
    flow = Flow(kind, window=100 * MTU)
    flow.send()
    flow.now += flow.rtt
    assert flow.ack(2, ce=True) == REDUCED
    assert flow.window == (70 if kind == CUBIC else 50) * MTU


@KINDS
def test_persistent_congestion_leaves_the_minimum(kind: int) -> None:
    flow = Flow(kind, window=100 * MTU)
    flow.send()
    flow.now += 10 * flow.rtt
    assert flow.lose(100, persistent=True) == COLLAPSED
    assert flow.window == 2 * MTU and not flow[IN_RECOVERY]
    # Slow start up to the former half (or 0.7), and then it goes on slowly.
    half = flow[SSTHRESH]
    for _ in range(6):
        flow.send()
        flow.now += flow.rtt
        flow.ack(1000)
    assert half <= flow.window <= half + 2 * MTU


@KINDS
def test_what_is_forgotten_says_nothing_of_congestion(kind: int) -> None:
    flow = Flow(kind)
    flow.send(10)
    lib.cc_forget(flow.cc, 1472)
    lib.cc_forget(flow.cc, 1 << 31)  # a caller that is mistaken: nothing wraps
    assert flow.window == INITIAL and flow[IN_FLIGHT] == 0


@KINDS
def test_after_idleness_the_window_is_the_initial_one(kind: int) -> None:
    flow = Flow(kind, window=10 * MTU)
    flow.send()
    for _ in range(3):
        flow.now += flow.rtt
        flow.ack(1000)
        flow.send()
    flow.ack(1000)
    grown = flow.window
    assert grown > 50 * MTU
    flow.now += 3 * flow.rtt  # not longer than a PTO
    flow.send(1)
    assert flow.window == grown
    flow.ack(1)
    flow.now += 3 * flow.rtt + 1
    flow.send(1)
    assert flow.window == 10 * MTU
    flow.now += 100 * flow.rtt  # something was under way: no idleness but loss, which is told otherwise
    flow.send(1)
    assert flow.window == 10 * MTU


def test_reno_adds_a_packet_for_each_window() -> None:
    flow = Flow(NEWRENO, window=100 * MTU)
    flow.send()
    flow.now += 1
    flow.lose(1)
    while flow.way:
        flow.ack(2)
    assert flow.window == 50 * MTU
    flow.now += flow.rtt
    flow.send()
    for packets in range(51, 70):
        flow.round()
        assert abs(flow.window - packets * MTU) <= MTU


# --- CUBIC --------------------------------------------------------------------------------------------------------------


def test_the_cube_root_is_exact(seed: int) -> None:
    rng = random.Random(seed)
    values = [0, 1, 7, 8, 9, 26, 27, (1 << 64) - 1, 2642245**3, 2642245**3 - 1]
    values += [rng.getrandbits(rng.randint(1, 64)) for _ in range(3000)]
    values += [n**3 + d for n in (rng.randint(2, 2642244) for _ in range(1000)) for d in (-1, 0, 1)]
    for v in values:
        root = lib.cc_cube_root(v)
        assert root**3 <= v < (root + 1) ** 3, v


@dataclass
class Model:
    """RFC 9438, in packets and seconds, in floats. Told the same as the real one, ACK by ACK."""

    window: float
    w_max: float = 0
    prior: float = 0
    ssthresh: float = float("inf")
    epoch: float | None = None
    k: float = 0
    origin: float = 0
    w_est: float = 0

    def acked(self, packets: float, now: float, rtt: float) -> None:
        if self.window < self.ssthresh:
            self.window += packets
            return
        if self.epoch is None:
            self.epoch, self.w_est = now, self.window
            self.origin = max(self.w_max, self.window)
            self.k = ((self.origin - self.window) / 0.4) ** (1 / 3)
        alpha = 3 * 0.3 / 1.7 if self.w_est < self.prior else 1.0
        self.w_est += alpha * packets / self.window
        t = now - self.epoch

        def cubic(t: float) -> float:
            return 0.4 * (t - self.k) ** 3 + self.origin

        if cubic(t) < self.w_est:
            self.window = max(self.window, self.w_est)
        else:
            target = min(max(cubic(t + rtt), self.window), 1.5 * self.window)
            self.window += (target - self.window) / self.window * packets

    def lost(self) -> None:
        self.prior = self.window
        self.w_max = self.window * 1.7 / 2 if self.window < self.w_max else self.window
        self.window *= 0.7
        self.ssthresh, self.epoch = self.window, None


@pytest.mark.parametrize("rtt", [1 * MS, 20 * MS, 100 * MS, 300 * MS])
@pytest.mark.parametrize("packets", [40, 700])
def test_cubic_follows_its_formula(packets: int, rtt: int, seed: int) -> None:
    """Through several losses, over the concave and the convex part; one percent is what rounding may cost."""
    rng = random.Random(seed)
    flow = Flow(CUBIC, window=packets * MTU, rtt=rtt, mtu=1472)
    model = Model(packets * MTU / 1472)
    regions = set()
    for _ in range(4):
        flow.now += rtt
        flow.send()
        flow.lose(1)
        model.lost()
        assert abs(flow.window / 1472 / model.window - 1) < 0.01
        flow.now += 1  # the recovery period ends with what is sent from here on
        while flow.way:
            flow.ack(2)
        flow.now += rtt
        flow.send()
        # Whole round trips, each acknowledged in a few steps, as long as it takes to come well past W_max.
        until = flow.now + int((flow[W_MAX] * 0.3 / 1472 / 0.4) ** (1 / 3) * 1.6 * S)
        for _ in range(150):
            left, pieces = len(flow.way), rng.randint(3, 12)
            for i in range(pieces):
                flow.now += rtt // pieces
                count = left * (i + 1) // pieces - left * i // pieces
                if count == 0:
                    continue
                flow.ack(count)
                model.acked(count, flow.now / S, lib.numbers(lib.rtt_show, flow.estimate)[2] / S)
                flow.send()
                ratio = flow.window / 1472 / model.window
                assert abs(ratio - 1) < 0.01, f"{flow.window / 1472} packets instead of {model.window}"
            shown = lib.numbers(lib.cc_show, flow.cc)
            regions.add("reno" if shown[W_EST] >= shown[WINDOW] else "cubic")
            if flow.now > until:
                break
    assert "reno" in regions or rtt > 20 * MS
    assert "cubic" in regions or rtt < 100 * MS or packets == 40


def test_cubic_is_friendly_to_reno_where_reno_is_faster_and_scales_where_it_is_not() -> None:
    short, long = (Flow(CUBIC, window=100 * MTU, rtt=rtt) for rtt in (1 * MS, 100 * MS))
    for flow in (short, long):
        flow.send()
        flow.now += flow.rtt
        flow.lose(1)
        while flow.way:
            flow.ack(2)
        flow.now += flow.rtt
        flow.send()
        for _ in range(40):
            flow.round()
    assert short.window == short[W_EST] > short[W_MAX] * 0.85  # 0.53 packets a round trip
    assert long.window > long[W_EST]


def test_fast_convergence_gives_way_to_a_newcomer() -> None:
    flow = Flow(CUBIC, window=1000 * MTU)
    flow.send()
    flow.now += 1
    flow.lose(1)
    assert flow[W_MAX] == 1000 * MTU
    flow.now += 1
    flow.send()
    while flow.way:
        flow.ack(100)
    flow.now += 1
    flow.send()
    flow.now += 1
    flow.lose(1)  # at 700, below the former maximum
    assert flow[W_MAX] == flow.window * 10 // 7 * 17 // 20


def test_after_persistent_congestion_cubic_begins_without_a_memory() -> None:
    """RFC 9438 4.8: K is 0 and W_max the window at which congestion avoidance begins."""
    flow = Flow(CUBIC, window=1000 * MTU)
    flow.send()
    flow.now += 1
    flow.lose(1000, persistent=True)
    assert flow[W_MAX] == 0
    for _ in range(12):
        flow.send()
        flow.now += flow.rtt
        flow.ack(2000)
    assert flow.window >= flow[SSTHRESH] and flow[K_NS] == 0


def test_cubic_never_leaps_by_more_than_half_a_window_in_a_round_trip() -> None:
    """RFC 9438 4.2: the target is bounded by 1.5 times the window. Seconds-long round trips get there."""
    flow = Flow(CUBIC, window=10 * MTU, rtt=3 * S)
    flow.lose_and_recover(1)
    steepest = 0.0
    for _ in range(15):
        before = flow.window
        flow.round()
        steepest = max(steepest, flow.window / before)
    assert 1.45 < steepest <= 1.51


def test_time_without_enough_to_send_does_not_count() -> None:
    flow = Flow(CUBIC, window=400 * MTU)
    flow.lose_and_recover(flow.rtt)
    for _ in range(5):
        flow.round()
    flow.now += flow.rtt
    while flow.way:
        flow.ack(2)
    before = flow.window
    for _ in range(300):  # half a minute of little to do
        flow.now += flow.rtt
        flow.send(2)
        flow.ack(2)
    assert flow.window == before
    flow.send()
    flow.round()
    assert flow.window < before * 1.05  # no leap along the curve


# --- HyStart++ ----------------------------------------------------------------------------------------------------------


def ramp(flow: Flow, delay: int, rounds: int) -> None:
    """Rounds of slow start in each of which the round trip takes `delay` longer than in the one before."""
    for _ in range(rounds):
        flow.rtt += delay
        flow.now += flow.rtt
        for _ in range(len(flow.way) // 2):
            flow.ack(2)
        flow.now += 1
        flow.send()


def test_hystart_leaves_slow_start_when_the_delay_grows_for_five_rounds() -> None:
    flow = Flow(CUBIC, window=20 * MTU, hystart=True, rtt=40 * MS)
    flow.send()
    ramp(flow, 0, 2)
    assert flow.window == 80 * MTU and not flow[CSS]
    ramp(flow, 6 * MS, 1)  # above 40/8 ms: a queue fills
    assert flow[CSS] and flow[SSTHRESH] == NONE
    conservative = flow.window
    ramp(flow, 0, 1)
    assert flow.window < 1.3 * conservative  # a quarter of slow start's growth
    ramp(flow, 0, 5)
    assert flow[SSTHRESH] != NONE and not flow[CSS] and flow[EVENTS] == 0


def test_hystart_goes_on_when_the_delay_was_a_passing_one() -> None:
    flow = Flow(CUBIC, window=20 * MTU, hystart=True, rtt=40 * MS)
    flow.send()
    ramp(flow, 0, 2)
    ramp(flow, 6 * MS, 1)
    assert flow[CSS]
    ramp(flow, -6 * MS, 1)
    assert not flow[CSS] and flow[SSTHRESH] == NONE
    before = flow.window
    ramp(flow, 0, 1)
    assert flow.window > 1.9 * before


def test_without_hystart_no_delay_ends_slow_start() -> None:
    flow = Flow(CUBIC, window=20 * MTU, rtt=40 * MS)
    flow.send()
    ramp(flow, 20 * MS, 4)
    assert flow[SSTHRESH] == NONE and flow.window == 320 * MTU


# --- whatever happens -----------------------------------------------------------------------------------------------------


@KINDS
def test_whatever_happens_the_window_stays_within_bounds(kind: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        mtu = rng.choice([1200, 1472, 8972])
        flow = Flow(kind, rng.choice([0, 1, 10**6, 10**12]), rng.choice([10_000, MS, S]), rng.random() < 0.5, mtu)
        for _ in range(300):
            flow.now += rng.choice([0, 1, flow.rtt // 3, flow.rtt, 100 * flow.rtt, 3600 * S])
            match rng.randrange(6):
                case 0 | 1:
                    flow.send(rng.choice([1, 50, 3000]), rng.choice([mtu, rng.randint(50, mtu)]))
                case 2:
                    lib.cc_blocked(flow.cc, rng.choice([0, NONE, rng.getrandbits(33)]), flow.now)
                case 3 | 4:
                    flow.ack(rng.choice([1, 2, 100, 4000]), rng.random() < 0.02)
                case 5:
                    flow.lose(rng.choice([1, 5, 1000]), rng.random() < 0.05)
            shown = lib.numbers(lib.cc_show, flow.cc)
            assert 2 * mtu <= shown[WINDOW] <= MAX
            assert shown[IN_FLIGHT] == sum(size for _, size in flow.way)
            assert shown[SSTHRESH] >= 2 * mtu
