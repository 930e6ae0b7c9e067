"""Each right that the unit grants is needed: without it something fails, and says which right it was."""

from __future__ import annotations

import pytest

from .container import Container
from .service import CONFIG, UNIT, Service

pytestmark = pytest.mark.privileged
GRANTED = "CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_IPC_LOCK CAP_SYS_NICE"


@pytest.fixture(scope="module")
def service(machine: Container) -> Service:
    return Service(machine)


def without(service: Service, capability: str) -> str:
    """Starts the service without one of its rights; returns what the journal says since then."""
    service.reset()
    rest = " ".join(name for name in GRANTED.split() if name != capability)
    assert rest != GRANTED
    service.unit_drop_in(
        f"[Service]\nAmbientCapabilities=\nAmbientCapabilities={rest}\n"
        f"CapabilityBoundingSet=\nCapabilityBoundingSet={rest}\nRestart=no\n"
    )
    cursor = service.machine.cursor()
    service.machine.run("systemctl", "start", UNIT, check=False)
    return service.log(cursor)


@pytest.mark.parametrize("capability", ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"])
def test_without_it_the_rings_are_refused_by_name(service: Service, capability: str) -> None:
    service.reset()
    log = without(service, capability)
    assert capability in log, log
    # "auto" ends at the socket backend, which needs no right at all
    assert service.state() == "active/running"
    assert "socket" in service.machine.show(UNIT, "StatusText")["StatusText"]
    assert service.program() == 0
    service.serves()
    service.stop()


@pytest.mark.parametrize("capability", ["CAP_IPC_LOCK", "CAP_SYS_NICE"])
def test_without_it_the_daemon_serves_and_names_it(service: Service, capability: str) -> None:
    log = without(service, capability)
    assert capability in log, log
    service.serves()
    service.stop()


def test_a_mode_that_cannot_be_had_is_a_refusal(service: Service) -> None:
    service.reset()
    service.configure(CONFIG.replace("[interface]", '[interface]\nmode = "copy"'))
    rest = GRANTED.replace("CAP_NET_RAW ", "")
    service.unit_drop_in(
        f"[Service]\nAmbientCapabilities=\nAmbientCapabilities={rest}\n"
        f"CapabilityBoundingSet=\nCapabilityBoundingSet={rest}\n"
    )
    cursor = service.machine.cursor()
    assert service.machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    shown = service.machine.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "77", "NRestarts": "0"}
    assert "CAP_NET_RAW" in service.log(cursor)
