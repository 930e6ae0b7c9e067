"""The page is what a person was promised to see; JSON holds the same; the exit code tells whether anything needs attention."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from afterburnerd.config import Capture, Config, Interface, Worker
from afterburnerd.ctl.doctor import report
from afterburnerd.ctl.doctor.model import Daemon, Finding, Level
from afterburnerd.net.facts import XdpProgram
from afterburnerd.net.queues import Interrupt
from tests.unit.ctl.doctor.patient import HEALTHY, cpu, link

ILL = link(
    replace(
        HEALTHY,
        config=Config(
            interface=Interface(name="eth0", queues=(0,), busy_poll=True),
            workers=(Worker(cpu=3, fifo=10),),
            captures=(Capture(name="tpu", port=8001, address="198.51.100.9", vlan=100),),
        ),
        machine=replace(
            HEALTHY.machine,
            release="6.1.0-40-amd64",
            sysctls={"net.core.bpf_jit_enable": "0", "kernel.unprivileged_bpf_disabled": "0"},
            clocksource="hpet",
            cpus=tuple(cpu(index, governor="powersave") for index in range(8)),
            isolated=frozenset(),
            huge_total=0,
            huge_free=0,
            irqbalance=True,
        ),
        device=replace(
            HEALTHY.device,
            master="bond0",
            offloads={"rx-lro": True, "rx-vlan-hw-parse": True},
            interrupts=(Interrupt(number=120, name="eth0-0", cpus=frozenset({3}), effective=frozenset({3})),),
        ),
        process=replace(HEALTHY.process, capabilities=frozenset({"CAP_NET_RAW"}), memlock=65536, nofile=64),
        daemon=Daemon(name="afterburner", segment="stale", systemd=True),
    ),
    mtu=9000,
    numa_node=1,
    xdp=XdpProgram(mode="generic", program=9),
)


def finding(level: Level) -> Finding:
    return Finding(id="x", section="kernel", level=level, what="w")


def test_the_page_of_a_machine_in_bad_health(golden: Callable[[str, str], None]) -> None:
    golden("doctor_ill.txt", report.page(ILL, report.examine(ILL)).plain)


def test_the_page_of_a_machine_in_good_health(golden: Callable[[str, str], None]) -> None:
    golden("doctor_healthy.txt", report.page(HEALTHY, report.examine(HEALTHY)).plain)


def test_problems_alone() -> None:
    page = report.page(ILL, report.examine(ILL), problems_only=True).plain
    assert "\n  ok" not in page and "  fail  " in page
    assert (
        report.page(HEALTHY, report.examine(HEALTHY), problems_only=True).plain
        == "eth0: 20 ok, 0 info, 0 warn, 0 fail\n"
    )


def test_exit_codes() -> None:
    assert report.exit_code([finding("ok"), finding("info")]) == 0
    assert report.exit_code([finding("ok"), finding("warn")]) == 1
    assert report.exit_code([finding("fail")]) == 1


def test_whatever_needs_attention_says_why_and_what_to_do() -> None:
    for each in report.examine(ILL):
        assert each.level == "ok" or (each.why and each.what), each
        assert each.level not in ("warn", "fail") or each.fix, each
        assert each.why == "" or each.why.rstrip().endswith((".", ")")), each


def test_the_document() -> None:
    document = msgspec.json.decode(msgspec.json.encode(report.document(ILL, report.examine(ILL))))
    assert document["interface"] == "eth0"
    assert document["counts"] == report.counts(report.examine(ILL))
    assert sum(document["counts"].values()) == len(document["findings"])
    jit = next(each for each in document["findings"] if each["id"] == "bpf-jit")
    assert jit["commands"][0] == "sysctl -w net.core.bpf_jit_enable=1"
