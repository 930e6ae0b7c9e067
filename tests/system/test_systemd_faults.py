"""Under a real systemd: processes stopped, killed, misconfigured; what is recovered, by whom, and what is left meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.waiting import until

from .service import CONFIG, NOTHING, UNIT, Service

pytestmark = pytest.mark.privileged


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    service.reset()
    service.start()
    yield service
    service.machine.run("systemctl", "stop", UNIT)


def signal(service: Service, name: str, pid: int) -> None:
    service.machine.run("kill", f"-{name}", str(pid))


def wait_for_another_plane(service: Service, old: int) -> int:
    return until(lambda: next((pid for pid in service.data_planes() if pid != old), 0), "another data plane")


# -- the data plane: the supervisor's business, systemd never notices


@pytest.mark.parametrize(("name", "message"), [("STOP", "WORKER_HUNG"), ("KILL", "WORKER_DIED")])
def test_a_lost_data_plane_is_replaced_and_the_program_stays(running: Service, name: str, message: str) -> None:
    (plane,) = running.data_planes()
    main, program, since = running.main_pid(), running.program(), running.machine.now()
    signal(running, name, plane)
    wait_for_another_plane(running, plane)
    until(lambda: running.entries(since, "WORKER_RECOVERED"), "the recovery in the journal")
    assert (running.main_pid(), running.program()) == (main, program)
    assert len(running.entries(since, message)) == 1
    assert running.machine.show(UNIT, "NRestarts")["NRestarts"] == "0"
    assert not running.machine.status(plane)
    running.serves()


# -- the supervisor: systemd's business


def test_the_watchdog_replaces_a_stopped_supervisor(service: Service) -> None:
    service.reset()
    service.unit_drop_in("[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
    service.start()
    main, since = service.main_pid(), service.machine.now()
    planes = service.data_planes()
    signal(service, "STOP", main)
    until(lambda: service.main_pid() not in (0, main) and service.state() == "active/running", "a new supervisor")
    log = service.log(since)
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log and "afterburnerd/supervisor/main.py" in log  # where it hung
    assert not any(service.machine.status(pid) for pid in [main, *planes])
    service.serves()
    service.stop()


def test_a_watchdog_outlives_a_data_plane_that_cannot_be_had(service: Service) -> None:
    """A bounded, announced recovery feeds it: the unit is not restarted for a worker that is being replaced."""
    service.reset()
    service.unit_drop_in(
        "[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\n"
    )  # less, and a busy machine is what it barks at
    service.start()
    main = service.main_pid()
    for _ in range(6):
        (plane,) = until(service.data_planes, "a data plane")
        signal(service, "STOP", plane)
        wait_for_another_plane(service, plane)
    service.serves()
    assert service.main_pid() == main
    assert service.machine.show(UNIT, "NRestarts")["NRestarts"] == "0"
    service.stop()


def test_after_the_supervisors_death_nothing_is_left_until_the_restart(service: Service) -> None:
    service.reset()
    service.unit_drop_in("[Service]\nRestartSec=5\n")
    service.start()
    main, planes = service.main_pid(), service.data_planes()
    assert service.shared_memory() and planes
    signal(service, "KILL", main)
    until(lambda: service.state() == "activating/auto-restart", "systemd to wait before the restart")
    assert service.left_over() == NOTHING
    assert not any(service.machine.status(pid) for pid in [main, *planes])
    until(lambda: service.state() == "active/running", "the restart")
    service.serves()
    service.stop()


def test_everything_killed_at_once_leaves_nothing(service: Service) -> None:
    service.reset()
    service.unit_drop_in("[Service]\nRestart=no\n")
    service.start()
    assert service.shared_memory()
    service.machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=all", UNIT)
    until(lambda: service.state() == "failed/failed", "the unit to fail")
    assert service.left_over() == NOTHING


def test_the_clean_up_is_the_commands_doing(service: Service) -> None:
    """Not only RemoveIPC's: the same with that switched off, and with a configuration that is broken by then."""
    service.reset()
    service.unit_drop_in("[Service]\nRestart=no\nRemoveIPC=no\n")
    service.start()
    since = service.machine.now()
    service.configure("[")
    service.machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT)
    until(lambda: service.state() == "failed/failed", "the unit to fail")
    assert service.left_over() == NOTHING
    assert "removed /dev/shm/afterburner.stats" in service.log(since)


def test_the_last_figures_outlive_both_processes_where_nothing_is_cleaned_up(service: Service) -> None:
    service.reset()
    service.unit_drop_in("[Service]\nRestart=no\nRemoveIPC=no\nExecStopPost=\n")
    service.start()
    service.serves(7)
    service.machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=all", UNIT)
    until(lambda: service.state() == "failed/failed", "the unit to fail")
    shown = service.machine.run("afterburnerctl", "stats", "rx_packets", check=False)
    assert shown.returncode == 3
    assert "is not running" in shown.stdout and " 7 " in shown.stdout, shown.stdout
    service.reset()
    service.start()  # replaces what is stale
    service.serves()
    service.stop()
    assert service.left_over() == NOTHING


def test_a_failing_start_is_not_tried_for_ever(service: Service) -> None:
    service.reset()
    service.unit_drop_in("[Unit]\nStartLimitBurst=3\n[Service]\nRestartSec=100ms\n")
    service.configure(CONFIG.replace("rx0", "absent0"))
    since = service.machine.now()
    assert service.machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    until(lambda: service.state() == "failed/failed", "systemd to give up")
    log = service.log(since)
    assert log.count("absent0") == 3
    assert "Start request repeated too quickly" in log
    assert service.left_over() == NOTHING


def test_a_bad_configuration_fails_the_start_once_and_says_where(service: Service) -> None:
    service.reset()
    since = service.machine.now()
    service.configure(CONFIG.replace("port = 8001", "prot = 8001"))
    assert service.machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    shown = service.machine.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    log = service.log(since)
    assert "50-test.toml" in log and "prot" in log and "port" in log, log


def test_a_second_daemon_on_the_interface_refuses_and_the_first_goes_on(running: Service) -> None:
    program, main = running.program(), running.main_pid()
    second = CONFIG + '[daemon]\nname = "second"\nrun_dir = "/run/second"\n[exporter]\nlisten = ""\n'
    running.machine.write("/etc/second/afterburner.toml", second)
    running.machine.run("install", "-d", "/run/second")
    done = running.machine.run("afterburnerd", "--config", "/etc/second/afterburner.toml", check=False)
    assert done.returncode == 69
    assert "rx0" in done.stderr, done.stderr
    assert [name for name in running.shared_memory() if name.startswith("second")] == []
    assert (running.program(), running.main_pid()) == (program, main)
    running.serves()
