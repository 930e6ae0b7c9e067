"""Messages reach a real journal with identifier, priority and fields; and through plain standard error, priorities at least."""

from __future__ import annotations

import pytest

from afterburnerd.observe import messages

from .container import Container

pytestmark = pytest.mark.privileged

PYTHON = "/usr/local/lib/afterburner/bin/python"
SAY = (
    "import sys\n"
    "if sys.argv[1] == 'plain': sys.modules['systemd.journal'] = None\n"
    "from afterburnerd.observe import log, messages\n"
    "print(log.setup('info'), flush=True)\n"
    "log.say(messages.WORKER_DIED, worker=3, pid=4711, how='signal 9')\n"
)


def say(machine: Container, unit: str, way: str) -> list[dict[str, str]]:
    machine.write(f"/run/{unit}.py", SAY)
    machine.write(
        f"/run/systemd/system/{unit}.service", f"[Service]\nType=oneshot\nExecStart={PYTHON} /run/{unit}.py {way}\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", unit)
    return machine.journal(f"_SYSTEMD_UNIT={unit}.service")


def test_an_entry_has_identifier_priority_and_fields(machine: Container) -> None:
    entries = say(machine, "abtest-log", "fields")
    assert "journal" in [e["MESSAGE"] for e in entries]
    (entry,) = machine.journal(f"MESSAGE_ID={messages.WORKER_DIED.id}", "_SYSTEMD_UNIT=abtest-log.service")
    assert entry["MESSAGE"] == "worker 3 (process 4711) died: signal 9"
    assert (entry["PRIORITY"], entry["AB_MESSAGE"], entry["AB_WORKER"], entry["AB_HOW"]) == (
        "3",
        "WORKER_DIED",
        "3",
        "signal 9",
    )
    assert entry["SYSLOG_IDENTIFIER"] == "afterburnerd"


def test_without_systemd_python_priorities_arrive(machine: Container) -> None:
    entries = {e["MESSAGE"]: e for e in say(machine, "abtest-plain", "plain")}
    assert "stderr, read by the journal" in entries
    assert entries["worker 3 (process 4711) died: signal 9"]["PRIORITY"] == "3"
