"""Missing rights, a missing unit, and what a killed daemon left are found, each with what to do."""

from __future__ import annotations

from msgspec.structs import replace

from tests.unit.ctl.doctor.patient import HEALTHY, absent, configured, daemon, device, found, process, troubles

ALL = HEALTHY.process.capabilities


def test_a_shell_without_rights_where_the_unit_has_them() -> None:
    finding = found(process(capabilities=frozenset()), "capabilities")
    assert finding.level == "info" and finding.commands == ("systemctl start afterburner",)
    assert all(name in finding.what for name in ("CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF", "CAP_SYS_NICE"))


def test_a_shell_without_rights_and_without_the_unit() -> None:
    poor = process(capabilities=ALL - {"CAP_BPF"})
    finding = found(replace(poor, daemon=replace(poor.daemon, unit=None)), "capabilities")
    assert finding.level == "warn" and finding.what == "this shell lacks CAP_BPF (load the XDP program, make maps)"


def test_a_daemon_that_lost_a_right() -> None:
    finding = found(process(pid=4711, capabilities=ALL - {"CAP_NET_RAW"}), "capabilities")
    assert finding.level == "fail" and finding.what.startswith("the daemon (process 4711) lacks CAP_NET_RAW")


def test_sys_admin_stands_for_bpf() -> None:
    assert troubles(process(capabilities=ALL - {"CAP_BPF"} | {"CAP_SYS_ADMIN"})) == set()


def test_sys_nice_is_needed_for_a_nice_worker_only() -> None:
    poor = process(capabilities=ALL - {"CAP_SYS_NICE"})
    assert troubles(poor) == {"capabilities"}
    assert troubles(configured(poor, worker={"nice": 0})) == set()


def test_locked_memory() -> None:
    little = process(memlock=8 << 20)
    assert found(little, "memlock").level == "fail"
    assert found(little, "memlock").what == "this shell may lock 8192 KiB of memory; packet memory alone is 16384 KiB"
    assert found(process(memlock=64 << 20), "memlock").level == "warn"
    assert found(process(memlock=0, capabilities=ALL | {"CAP_IPC_LOCK"}), "memlock").level == "ok"


def test_open_files() -> None:
    few = process(nofile=256)
    assert found(few, "nofile").level == "warn" and troubles(few) == {"nofile"}
    assert absent(process(nofile=None), "nofile")


def test_no_unit() -> None:
    assert found(daemon(unit=None), "unit").level == "info"
    assert absent(daemon(unit=None, systemd=False), "unit")


def test_what_a_killed_daemon_left() -> None:
    stale = daemon(segment="stale")
    finding = found(stale, "segment")
    assert finding.level == "warn" and "afterburnerd --clean-up" in finding.commands
    assert troubles(stale) == {"segment"}


def test_a_strangers_file_in_shared_memory() -> None:
    finding = found(daemon(segment="unreadable", detail="not the statistics of a daemon"), "segment")
    assert finding.level == "fail" and finding.commands == ("ls -l /dev/shm/afterburner.stats",)


def test_a_daemon_that_runs() -> None:
    running = {"segment": "alive", "interface": "eth0", "worker_cpus": (3,), "huge_pages": True}
    assert found(daemon(**running, state="serving"), "segment").level == "ok"
    assert troubles(daemon(**running, state="serving")) == set()
    degraded = found(daemon(**running, state="degraded"), "segment")
    assert degraded.level == "warn" and degraded.commands[0] == "afterburnerctl status"


def test_a_daemon_on_another_device() -> None:
    facts = daemon(segment="alive", state="serving", interface="eth1", worker_cpus=(3,))
    assert found(facts, "other-device").level == "info"
    assert absent(replace(facts, device=device(name="eth1").device), "other-device")
