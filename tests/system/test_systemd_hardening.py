"""Each right that the unit grants is needed: without it something fails, and says which right it was."""

from __future__ import annotations

import pytest

from tests.hugepages import free

from .service import CONFIG, UNIT, Service

pytestmark = pytest.mark.privileged
GRANTED = "CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_IPC_LOCK CAP_SYS_NICE"


def drop_in(capabilities: str) -> str:
    return (
        f"[Service]\nAmbientCapabilities=\nAmbientCapabilities={capabilities}\n"
        f"CapabilityBoundingSet=\nCapabilityBoundingSet={capabilities}\n"
    )


def without(capability: str) -> str:
    rest = [name for name in GRANTED.split() if name != capability]
    assert len(rest) == len(GRANTED.split()) - 1
    return drop_in(" ".join(rest))


def notices(service: Service) -> str:
    status = service.ctl("status", check=False)
    return "\n".join(f"{notice['text']}; {notice.get('hint', '')}" for notice in status["notices"])


def test_the_unit_grants_what_is_tested_here(service: Service) -> None:
    shown = service.machine.show(UNIT, "AmbientCapabilities", "CapabilityBoundingSet")
    for granted in shown.values():
        assert sorted(granted.upper().split()) == sorted(GRANTED.split())


@pytest.mark.bpf
@pytest.mark.parametrize("capability", ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"])
def test_without_it_sockets_serve_and_the_journal_names_it(service: Service, capability: str) -> None:
    service.reset()
    service.unit_drop_in(without(capability))
    since = service.machine.now()
    service.start()
    assert capability in service.log(since)
    assert "socket" in service.machine.show(UNIT, "StatusText")["StatusText"]
    assert service.program() == 0
    service.serves()
    service.stop()


def test_without_it_the_workers_nice_value_is_refused(service: Service) -> None:
    service.reset()
    service.unit_drop_in(without("CAP_SYS_NICE") + "LimitNICE=0\n")
    service.start()
    assert "CAP_SYS_NICE" in notices(service)
    service.serves()
    service.stop()


@pytest.mark.bpf
def test_without_it_memory_is_locked_only_within_the_limit(service: Service) -> None:
    """The limit is what a container's systemd has where it cannot raise it."""
    service.reset()
    service.unit_drop_in(without("CAP_IPC_LOCK") + "LimitMEMLOCK=8M\n")
    service.start()
    assert "memory is not locked" in notices(service)
    service.stop()


@pytest.mark.bpf
def test_a_mode_that_cannot_be_had_is_a_refusal(service: Service) -> None:
    service.reset()
    service.configure(CONFIG.replace("[interface]", '[interface]\nmode = "copy"'))
    service.unit_drop_in(without("CAP_NET_RAW"))
    since = service.machine.now()
    assert service.machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    shown = service.machine.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "77", "NRestarts": "0"}
    assert "CAP_NET_RAW" in service.log(since)


@pytest.mark.bpf
def test_huge_pages_are_used_in_the_sandbox(service: Service) -> None:
    with free(8) as there:
        if not there:
            pytest.skip("this machine has no 8 free huge pages to give")
        service.reset()
        service.configure(CONFIG + '[memory]\nhuge_pages = "require"\n')
        service.start()
        (plane,) = service.data_planes()
        assert int(service.machine.status(plane)["HugetlbPages"].split()[0]) >= 8 << 10
        service.serves()
        service.stop()


def test_fifo_on_a_processor_that_is_not_isolated_is_refused(service: Service) -> None:
    service.reset()
    service.configure(CONFIG.replace("[[worker]]", "[[worker]]\ncpu = 0\nfifo = 10"))
    since = service.machine.now()
    assert service.machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    assert "isolated" in service.log(since)
