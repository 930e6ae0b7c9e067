"""A tree of /proc and /sys files becomes the facts that stand in it; what is not there stays unknown."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from afterburnerd.ctl.doctor.gather import read_daemon, read_machine, read_process
from afterburnerd.ctl.doctor.model import Cpu, IdleState
from tests.unit.ctl.conftest import FakeDaemon

FILES = {
    "proc/sys/net/core/bpf_jit_enable": "1",
    "proc/sys/kernel/unprivileged_bpf_disabled": "2",
    "proc/812/comm": "irqbalance",
    "proc/1/comm": "systemd",
    "sys/kernel/btf/vmlinux": "\x9f",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "64",
    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "60",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm ",
    "sys/devices/system/cpu/online": "0-1",
    "sys/devices/system/cpu/isolated": "1",
    "sys/devices/system/cpu/nohz_full": "(null)",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
    "sys/devices/system/cpu/cpu0/topology/thread_siblings_list": "0-1",
    "sys/devices/system/cpu/cpu0/node0/cpulist": "0-1",
    "sys/devices/system/cpu/cpu0/cpuidle/state0/name": "POLL",
    "sys/devices/system/cpu/cpu0/cpuidle/state0/latency": "0",
    "sys/devices/system/cpu/cpu0/cpuidle/state0/disable": "0",
    "sys/devices/system/cpu/cpu0/cpuidle/state10/name": "C10",
    "sys/devices/system/cpu/cpu0/cpuidle/state10/latency": "890",
    "sys/devices/system/cpu/cpu0/cpuidle/state10/disable": "1",
    "sys/devices/system/cpu/cpu0/cpuidle/state2/name": "C6",
    "sys/devices/system/cpu/cpu0/cpuidle/state2/latency": "133",
    "sys/devices/system/cpu/cpu0/cpuidle/state2/disable": "0",
    "proc/7/status": "Name:\tafterburnerd\nCapPrm:\t0000000000000000\nCapEff:\t0000008000807000\nCpus_allowed_list:\t0,2-3",
    "proc/7/limits": "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max open files            16384                524288               files     \n"
    "Max locked memory         unlimited            unlimited            bytes     ",
    "proc/self/limits": "Max locked memory         8388608              8388608              bytes     ",
    "run/systemd/system/transient": "",
    "lib/systemd/system/afterburner.service": "[Unit]",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_a_machine(root: Path) -> None:
    (root / "proc/config.gz").write_bytes(gzip.compress(b"# comment\nCONFIG_XDP_SOCKETS=y\n# CONFIG_NOPE is not set\n"))
    found = read_machine(root, "6.1.0", "x86_64", "")
    assert found.sysctls == {"net.core.bpf_jit_enable": "1", "kernel.unprivileged_bpf_disabled": "2"}
    assert (found.huge_total, found.huge_free, found.btf, found.irqbalance) == (64, 60, True, True)
    assert (found.clocksource, found.clocksources) == ("tsc", ("tsc", "hpet", "acpi_pm"))
    assert (found.isolated, found.nohz_full) == (frozenset({1}), frozenset())
    assert found.config == {"XDP_SOCKETS": "y"}
    assert found.cpus == (
        Cpu(
            index=0,
            governor="performance",
            idle_states=(
                IdleState(index=0, name="POLL", exit_us=0, disabled=False),
                IdleState(index=2, name="C6", exit_us=133, disabled=False),
                IdleState(index=10, name="C10", exit_us=890, disabled=True),
            ),
            siblings=frozenset({0, 1}),
            node=0,
        ),
        Cpu(index=1),
    )


def test_the_kernel_configuration_of_debian(root: Path) -> None:
    (root / "boot").mkdir()
    (root / "boot/config-6.1.0").write_text('CONFIG_XDP_SOCKETS=m\nCONFIG_NAME="x"\n')
    assert read_machine(root, "6.1.0", "x86_64", "").config == {"XDP_SOCKETS": "m", "NAME": '"x"'}
    assert read_machine(root, "6.2.0", "x86_64", "").config is None


def test_an_empty_root_knows_nothing(tmp_path: Path) -> None:
    found = read_machine(tmp_path, "6.1.0", "x86_64", "EPERM")
    assert (found.config, found.sysctls, found.cpus, found.huge_total, found.clocksource) == (None, {}, (), None, "")
    assert read_process(None, tmp_path).capabilities == frozenset()


def test_the_rights_of_a_process(root: Path) -> None:
    found = read_process(7, root)
    assert found.capabilities == {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_SYS_NICE", "CAP_BPF"}
    assert (found.memlock, found.nofile, found.cpus) == (None, 16384, {0, 2, 3})
    assert read_process(None, root).memlock == 8 << 20


def test_no_daemon(root: Path, name: str) -> None:
    found, pid = read_daemon(name, root)
    assert (found.segment, pid) == ("absent", None)
    assert (found.unit, found.systemd) == ("/lib/systemd/system/afterburner.service", True)


def test_a_daemon_that_lives_and_one_that_was_killed(daemon: FakeDaemon, root: Path) -> None:
    daemon.segment.set("worker", 0, "huge_pages", 1)
    found, pid = read_daemon(daemon.name, root)
    assert (found.segment, found.state, found.interface) == ("alive", "serving", "ve0")
    assert (found.worker_cpus, found.huge_pages) == ((3,), True)
    assert pid is not None
    daemon.die()
    found, pid = read_daemon(daemon.name, root)
    assert (found.segment, pid) == ("stale", None)


def test_a_strangers_file(name: str, root: Path) -> None:
    path = Path(f"/dev/shm/{name}.stats")
    path.write_bytes(bytes(4096))
    try:
        found, _ = read_daemon(name, root)
    finally:
        path.unlink()
    assert found.segment == "unreadable" and "not the statistics of a daemon" in found.detail
