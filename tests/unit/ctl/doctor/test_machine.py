"""Each fault of kernel, CPUs and memory is found, alone, with its level and the command that mends it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from afterburnerd.ctl.doctor.machine import cpu_list, kernel_version
from afterburnerd.ctl.doctor.model import IdleState
from tests.unit.ctl.doctor.patient import (
    HEALTHY,
    absent,
    configured,
    cpu,
    daemon,
    found,
    link,
    machine,
    process,
    troubles,
)


def test_a_healthy_machine_has_no_troubles() -> None:
    assert troubles(HEALTHY) == set()


@pytest.mark.parametrize(
    ("release", "level"),
    [("6.12.48-amd64", "ok"), ("6.6.0", "ok"), ("6.1.0-40-amd64", "info"), ("5.18.0", "info"), ("5.10.0", "fail")],
)
def test_kernel_version(release: str, level: str) -> None:
    assert found(machine(release=release), "kernel-version").level == level


def test_the_socket_mode_runs_on_any_kernel_without_xdp_and_without_rights() -> None:
    facts = replace(
        machine(release="4.19.0", af_xdp="EAFNOSUPPORT", huge_total=0, huge_free=0, btf=True),
        process=replace(HEALTHY.process, capabilities=frozenset(), memlock=65536),
    )
    assert troubles(configured(facts, interface={"mode": "socket"})) == {"xdp-mode"}
    assert {"kernel-version", "af-xdp", "huge-pages", "capabilities", "memlock"} <= troubles(facts)


def test_no_af_xdp() -> None:
    finding = found(machine(af_xdp="EAFNOSUPPORT", config={"XDP_SOCKETS": "n"}), "af-xdp")
    assert finding.level == "fail" and "CONFIG_XDP_SOCKETS=n" in finding.what
    assert found(machine(af_xdp="EPERM"), "af-xdp").level == "ok"


def test_interpreted_bpf() -> None:
    ill = machine(sysctls={"net.core.bpf_jit_enable": "0"})
    finding = found(ill, "bpf-jit")
    assert finding.level == "warn" and troubles(ill) == {"bpf-jit"}
    assert finding.commands[0] == "sysctl -w net.core.bpf_jit_enable=1"
    compiled = machine(sysctls={"net.core.bpf_jit_enable": "0"}, config={"BPF_JIT_ALWAYS_ON": "y"})
    assert found(compiled, "bpf-jit").level == "ok"


def test_unreadable_sysctls_are_not_guessed() -> None:
    facts = machine(sysctls={})
    assert absent(facts, "bpf-jit") and absent(facts, "unprivileged-bpf")


def test_bpf_for_everybody() -> None:
    ill = machine(sysctls={**HEALTHY.machine.sysctls, "kernel.unprivileged_bpf_disabled": "0"})
    assert troubles(ill) == {"unprivileged-bpf"}
    assert "sysctl -w kernel.unprivileged_bpf_disabled=2" in found(ill, "unprivileged-bpf").commands


def test_no_btf_is_only_worth_knowing() -> None:
    assert found(machine(btf=False), "btf").level == "info"


def test_a_slow_clock() -> None:
    finding = found(machine(clocksource="hpet"), "clocksource")
    assert finding.level == "warn"
    assert finding.commands == ("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",)
    assert found(machine(clocksource="hpet", clocksources=("hpet",)), "clocksource").commands == ()


def test_a_worker_on_a_cpu_that_is_not_there() -> None:
    ill = configured(worker={"cpu": 99})
    finding = found(ill, "worker-cpu")
    assert finding.level == "fail" and "worker.cpu = 99" in finding.what and "0-7" in finding.what


def test_a_worker_on_a_cpu_that_is_forbidden() -> None:
    ill = process(cpus=frozenset({0, 1, 2}))
    finding = found(ill, "worker-cpu")
    assert finding.level == "fail" and "may use (0-2)" in finding.what
    assert troubles(ill) == {"worker-cpu"}


def test_a_worker_far_from_the_device() -> None:
    ill = link(numa_node=1)
    finding = found(ill, "numa")
    assert finding.level == "warn" and "node 0" in finding.what and "4-7" in finding.fix
    assert troubles(ill) == {"numa"}
    assert absent(link(numa_node=None), "numa")


def test_a_worker_on_a_cpu_that_is_not_isolated() -> None:
    ill = machine(isolated=frozenset(), nohz_full=frozenset())
    finding = found(ill, "isolation")
    assert finding.level == "warn" and "CPU 3" in finding.what
    assert "isolcpus=managed_irq,domain,3 nohz_full=3 rcu_nocbs=3" in finding.commands[0]
    assert troubles(ill) == {"isolation"}


def test_an_automatic_worker_without_an_isolated_cpu_is_proposed_one_near_the_device() -> None:
    """Not 0, not 1 and not 0 again, which serve interrupts, and not 4-7, which are far."""
    ill = configured(machine(isolated=frozenset(), nohz_full=frozenset()), worker={"cpu": "auto"})
    finding = found(ill, "isolation")
    assert finding.what == "no CPU is isolated for the worker" and "domain,3 " in finding.commands[0]


def test_an_automatic_worker_takes_an_isolated_cpu() -> None:
    assert found(configured(worker={"cpu": "auto"}), "isolation").what == "the worker's CPU 3 is isolated"


def test_a_machine_too_small_to_isolate_is_only_told() -> None:
    small = configured(machine(isolated=frozenset(), nohz_full=frozenset(), cpus=(cpu(0), cpu(1))), worker={"cpu": 1})
    assert found(small, "isolation").level == "info"


def test_a_sleeping_worker_needs_no_cpu_of_its_own() -> None:
    assert absent(configured(machine(isolated=frozenset()), worker={"idle": "sleep"}), "isolation")


def test_fifo_on_a_shared_cpu_is_refused() -> None:
    ill = configured(machine(isolated=frozenset(), nohz_full=frozenset()), worker={"fifo": 10})
    assert found(ill, "isolation").level == "fail"
    assert found(configured(worker={"fifo": 10}), "isolation").level == "ok"


def test_a_tick_on_an_isolated_cpu() -> None:
    ill = machine(nohz_full=frozenset())
    assert found(ill, "nohz-full").level == "info" and troubles(ill) == {"nohz-full"}


def test_a_busy_hardware_thread_beside_the_worker() -> None:
    cpus = tuple(
        cpu(index, siblings=frozenset({3, 7}) if index in (3, 7) else frozenset({index})) for index in range(8)
    )
    ill = machine(cpus=cpus)
    assert found(ill, "smt").commands == ("echo 0 > /sys/devices/system/cpu/cpu7/online",)
    assert troubles(ill) == {"smt"}
    assert absent(machine(cpus=cpus, isolated=frozenset({3, 7}), nohz_full=frozenset({3, 7})), "smt")


def test_a_frequency_governor_that_saves_power() -> None:
    cpus = tuple(cpu(index, governor="powersave" if index in (3, 5) else "performance") for index in range(8))
    finding = found(machine(cpus=cpus), "governor")
    assert finding.what == "the frequency governor of CPU 3 is powersave"  # no packet passes CPU 5
    assert finding.commands == ("echo performance > /sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",)


def test_no_frequency_scaling_to_be_seen_is_no_finding() -> None:
    assert absent(machine(cpus=tuple(cpu(index, governor=None) for index in range(8))), "governor")


def deep(*indices: int) -> tuple[object, ...]:
    state = IdleState(index=2, name="C6", exit_us=133, disabled=False)
    return tuple(cpu(index, idle_states=(state,) if index in indices else ()) for index in range(8))


def test_deep_sleep_of_a_cpu_that_serves_interrupts() -> None:
    ill = machine(cpus=deep(0, 5))
    finding = found(ill, "c-states")
    assert finding.level == "warn" and "CPU 0 may sleep as deep as C6, 133 us" in finding.what
    assert finding.commands == ("echo 1 > /sys/devices/system/cpu/cpu0/cpuidle/state2/disable",)


def test_deep_sleep_of_a_cpu_whose_worker_spins_or_sleeps() -> None:
    ill = machine(cpus=deep(3))
    assert absent(ill, "c-states")
    assert "CPU 3" in found(configured(ill, worker={"idle": "sleep"}), "c-states").what


def test_too_few_huge_pages() -> None:
    ill = machine(huge_total=6, huge_free=3)
    finding = found(ill, "huge-pages")
    assert finding.level == "warn" and troubles(ill) == {"huge-pages"}
    assert finding.what == "3 of 6 huge pages (2 MiB) are free, packet memory needs 8 (2 queues x 8 MiB)"
    assert finding.commands[0] == "sysctl -w vm.nr_hugepages=11"


def test_required_huge_pages_that_are_missing_are_a_failure_and_unwanted_ones_nothing() -> None:
    ill = machine(huge_total=0, huge_free=0)
    assert found(configured(ill, memory={"huge_pages": "require"}), "huge-pages").level == "fail"
    assert absent(configured(ill, memory={"huge_pages": "off"}), "huge-pages")
    assert found(machine(huge_total=None, huge_free=None), "huge-pages").commands == ()


def test_more_memory_needs_more_huge_pages() -> None:
    large = configured(memory={"frames": 65536})  # 256 MiB a queue
    assert (
        found(large, "huge-pages").what
        == "64 of 64 huge pages (2 MiB) are free, packet memory needs 256 (2 queues x 256 MiB)"
    )


def test_a_running_daemon_has_its_huge_pages_or_could_have_them() -> None:
    running = {"segment": "alive", "state": "serving", "interface": "eth0", "worker_cpus": (3,)}
    served = replace(daemon(**running, huge_pages=True), machine=replace(HEALTHY.machine, huge_free=0))
    assert found(served, "huge-pages").level == "ok"
    late = found(daemon(**running), "huge-pages")
    assert late.level == "warn" and late.commands == ("systemctl restart afterburner",)


@pytest.mark.parametrize(("cpus", "text"), [({0, 1, 2, 5}, "0-2,5"), ({3}, "3"), (set(), ""), ({1, 3}, "1,3")])
def test_cpu_list(cpus: set[int], text: str) -> None:
    assert cpu_list(cpus) == text


def test_kernel_releases() -> None:
    assert kernel_version("6.18.44-fc-v669") == (6, 18)
    assert kernel_version("5.10-rc1") == (5, 10)
