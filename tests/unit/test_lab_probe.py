"""What the probe prints of figures that are known: the seeds' line, the histogram, and loss in its two senses."""

from __future__ import annotations

from afterburnerd.lab import probe
from afterburnerd.lab.labio import Samples

FOUND = probe.Probed(
    direction="down",
    by="afxdp",
    sent=125_000,
    received=124_998,
    acknowledged=125_000,
    gaps=2,
    packets_sent=125_400,
    packets_lost=7,
    packets_spurious=3,
    latency=Samples(
        count=1001, lost=0, beyond=0, min=42_100, p50=69_000, p90=80_000, p99=99_000, p999=150_000, max=156_200, mean=70_512,
        buckets=((30_000, 50_000, 100), (50_000, 70_000, 800), (70_000, 100_000, 100), (150_000, 200_000, 1)),
    ),
)  # fmt: skip


def test_the_line_of_the_seeds() -> None:
    assert probe.stats_line(FOUND) == "[STATS] Lat(us) Avg=70.5 Min=42.1 Max=156.2 | RX: 124998 | Lost: 2"


def test_bars_are_as_long_as_their_share_of_the_fullest_and_none_vanishes() -> None:
    lines = probe.histogram(FOUND.latency)
    assert [line.count("#") for line in lines] == [5, 40, 5, 1]
    assert lines[1].split() == ["50", "to", "70", "us", "#" * 40, "800", "79.92", "%"]
    assert len({len(line) for line in lines}) == 1


def test_gaps_of_the_application_and_packets_lost_are_kept_apart() -> None:
    lines = probe.render(FOUND).splitlines()
    assert lines[0] == "server to client, by afxdp" and lines[1].endswith("| Lost: 2")
    assert lines[-2].split(None, 1)[1] == "125000 sent, 124998 received, 125000 acknowledged, 2 gaps"
    assert lines[-1].split(None, 1)[1] == "125400 sent, 7 lost and mended, 3 of them too early"
