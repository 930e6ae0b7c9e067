"""Under a real systemd: start, status, reload good and bad, stop; who it runs as and with which rights."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.waiting import until

from .service import CONFIG, INTERFACE, NOTHING, UNIT, Service

# bits of linux/capability.h
RIGHTS = {"NET_ADMIN": 12, "NET_RAW": 13, "IPC_LOCK": 14, "SYS_NICE": 23, "BPF": 39}
pytestmark = pytest.mark.privileged


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    service.reset()
    service.start()
    yield service
    service.stop()


# -- start and status


def test_started_means_receiving(running: Service) -> None:
    assert running.state() == "active/running"
    running.serves()


@pytest.mark.bpf
def test_started_means_attached(running: Service) -> None:
    assert running.program() > 0


def test_status_tells_what_is_in_force(running: Service) -> None:
    line = running.machine.show(UNIT, "StatusText")["StatusText"]
    mode = running.ctl("status", check=False)["mode"]
    assert INTERFACE in line and mode in line, line
    shown = running.machine.run("systemctl", "status", "--no-pager", UNIT).stdout
    assert f'Status: "{line}"' in shown


@pytest.mark.bpf
def test_an_operator_sees_it_with_afterburnerctl(running: Service) -> None:
    assert running.machine.run("afterburnerctl", "status").returncode == 0


def test_a_started_service_is_watched(running: Service) -> None:
    shown = running.machine.show(UNIT, "Type", "NotifyAccess", "WatchdogUSec", "WatchdogTimestampMonotonic")
    assert (shown["Type"], shown["NotifyAccess"], shown["WatchdogUSec"]) == ("notify", "main", "10s")
    first = int(shown["WatchdogTimestampMonotonic"])
    until(
        lambda: int(running.machine.show(UNIT, "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]) > first,
        "the watchdog to be fed",
    )


# -- who, and with which rights


def test_every_process_runs_as_the_account(running: Service) -> None:
    uid = running.machine.run("id", "-u", "afterburner").stdout.strip()
    processes = running.processes()
    assert len(processes) >= 2
    for pid in processes:
        status = running.machine.status(pid)
        assert set(status["Uid"].split()) == {uid}, running.command_line(pid)
        assert status["NoNewPrivs"] == "1"


def test_the_supervisor_holds_the_rights_of_the_unit_and_no_other(running: Service) -> None:
    status = running.machine.status(running.main_pid())
    for which in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[which], 16) == sum(1 << bit for bit in RIGHTS.values()), which


def test_the_data_plane_holds_no_right_and_has_a_filter_of_its_own(running: Service) -> None:
    planes = running.data_planes()
    assert len(planes) == 1
    status = running.machine.status(planes[0])
    for which in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[which], 16) == 0, which
    supervisor = running.machine.status(running.main_pid())
    assert status["Seccomp"] == "2"
    assert int(status["Seccomp_filters"]) > int(supervisor["Seccomp_filters"])


def test_the_worker_has_its_nice_value_and_its_memory_locked(running: Service) -> None:
    (plane,) = running.data_planes()
    stat = running.machine.path(f"/proc/{plane}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[16]) == -10
    assert int(running.machine.status(plane)["VmLck"].split()[0]) > 0


def test_files_of_the_system_are_read_only_for_it(running: Service) -> None:
    mounts = running.machine.path(f"/proc/{running.main_pid()}/mountinfo").read_text()
    root = next(line for line in mounts.splitlines() if line.split()[4] == "/")
    assert "ro" in root.split()[5].split(",")


def test_the_metrics_page_is_for_this_machine_only(running: Service) -> None:
    listening = running.machine.run("ss", "-Hltnp").stdout
    assert [line.split()[3] for line in listening.splitlines()] == ["127.0.0.1:9475"]


def test_the_group_operates_and_nobody_else_does(running: Service) -> None:
    reload = ("afterburnerctl", "reload")
    as_user = ("setpriv", "--reuid=nobody", "--clear-groups")
    assert running.machine.run(*as_user, "--regid=afterburner", *reload, check=False).returncode == 0
    refused = running.machine.run(*as_user, "--regid=nogroup", *reload, check=False)
    assert refused.returncode == 77, refused.stderr
    # figures may be seen by everybody
    assert running.machine.run(*as_user, "--regid=nogroup", "afterburnerctl", "stats", check=False).returncode == 0


# -- reload


def test_a_good_reload_is_in_force_when_the_command_returns(running: Service) -> None:
    main, program = running.main_pid(), running.program()
    since = running.machine.now()
    running.configure(CONFIG + '[[capture]]\nname = "second"\nport = 8002\ndecoder = "raw"\n')
    assert running.reload() == 0
    running.serves(port=8002)
    assert (running.main_pid(), running.program()) == (main, program)
    assert len(running.entries(since, "RELOAD_APPLIED")) == 1


def test_a_bad_reload_fails_says_why_and_changes_nothing(running: Service) -> None:
    main, program, planes = running.main_pid(), running.program(), running.data_planes()
    before = running.ctl("config", "show", "--running")
    since = running.machine.now()
    running.configure(CONFIG.replace("port = 8001", 'port = "many"'))
    assert running.reload() != 0
    assert running.state() == "active/running"
    assert (running.main_pid(), running.program(), running.data_planes()) == (main, program, planes)
    assert running.ctl("config", "show", "--running") == before
    running.serves()
    log = running.log(since)
    assert re.search(r"50-test\.toml.*line \d+|50-test\.toml:\d+", log), log
    assert "capture" in log and "port" in log, log
    assert len(running.entries(since, "RELOAD_REFUSED")) == 1


def test_after_a_bad_reload_a_good_one_works(running: Service) -> None:
    running.configure("[")
    assert running.reload() != 0
    running.configure(CONFIG.replace("8001", "8003"))
    assert running.reload() == 0
    running.serves(port=8003)


def test_a_key_that_needs_a_restart_refuses_the_whole_reload_and_is_named(running: Service) -> None:
    since = running.machine.now()
    running.configure(CONFIG.replace("8001", "8004") + '[daemon]\nname = "other"\n')
    assert running.reload() != 0
    assert "daemon.name" in running.log(since)
    running.serves()  # still on the old port: nothing of it was applied


def test_sighup_reloads_too(running: Service) -> None:
    since = running.machine.now()
    running.configure(CONFIG.replace("8001", "8005"))
    running.machine.run("systemctl", "kill", "--signal=HUP", "--kill-who=main", UNIT)
    until(lambda: running.entries(since, "RELOAD_APPLIED"), "the reload in the journal")
    running.serves(port=8005)


# -- the journal


def test_messages_carry_identifier_priority_and_fields(running: Service) -> None:
    entries = running.machine.journal(f"_SYSTEMD_UNIT={UNIT}", "SYSLOG_IDENTIFIER=afterburnerd")
    by_name = {entry.get("AB_MESSAGE"): entry for entry in entries}
    for name in ("STARTING", "WORKER_STARTED", "EXPORTER_LISTENS"):
        assert re.fullmatch("[0-9a-f]{32}", by_name[name]["MESSAGE_ID"]), name
        assert by_name[name]["PRIORITY"] == "6"
    assert by_name["STARTING"]["AB_INTERFACE"] == INTERFACE
    assert int(by_name["WORKER_STARTED"]["AB_PID"]) > 0
    found = running.machine.journal(f"MESSAGE_ID={by_name['STARTING']['MESSAGE_ID']}")
    assert {entry["AB_MESSAGE"] for entry in found} == {"STARTING"}


@pytest.mark.bpf
def test_a_good_start_lacks_nothing_that_the_unit_could_have_granted(service: Service) -> None:
    service.reset()
    since = service.machine.now()
    service.start()
    assert [entry["MESSAGE"] for entry in service.entries(since) if int(entry["PRIORITY"]) < 5] == []
    lacking = [notice["text"] for notice in service.ctl("status")["notices"]]
    assert [text for text in lacking if "2 MiB pages" not in text] == []  # those are the machine's to have
    service.stop()


# -- stop


def test_a_stop_leaves_nothing(service: Service) -> None:
    service.reset()
    service.start()
    service.serves()
    program = service.program()
    assert service.shared_memory() != []
    service.stop()
    assert service.left_over() == NOTHING
    assert service.machine.show(UNIT, "Result")["Result"] == "success"
    shown = service.machine.run("bpftool", "-j", "prog", "show", "id", str(program), check=False)
    assert shown.returncode != 0, "the program is still loaded"


def test_a_restart_serves_again(running: Service) -> None:
    first = running.main_pid()
    running.machine.run("systemctl", "restart", UNIT)
    assert running.main_pid() != first
    running.serves()
