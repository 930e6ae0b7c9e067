"""Afterburner as a service of the booted machine: its network, its configuration, and looks at it from outside.

    network namespace `peer`        the machine itself
      tx0 10.77.0.2/24  <--veth-->  rx0 10.77.0.1/24  <- afterburner.service (XDP program, AF_XDP)

The configuration is the one that `make install` put there, with one drop-in: the interface and one capture rule.
Looks from outside use what an operator has (ip, systemctl, /proc, journalctl), not the daemon's own word.
"""

from __future__ import annotations

import json
from typing import Any

from tests.waiting import until

from .container import Container

UNIT = "afterburner.service"
INTERFACE, PEER = "rx0", "tx0"
ADDRESS = "10.77.0.1"
PORT = 8001
DROP_IN = "/etc/afterburner/conf.d/50-test.toml"
# The machine has few processors, and others use them: nobody spins here.
CONFIG = f"""
[interface]
name = "{INTERFACE}"

[[worker]]
idle = "sleep"

[[capture]]
name = "tpu"
port = {PORT}
decoder = "raw"
"""

NOTHING = {"program": 0, "shared memory": [], "run directory": False, "processes": [], "interface": 0}
"""What is left over of a daemon that ended well."""

SEND = """
import socket, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for i in range(count):
        sock.sendto(b"%6d" % i, (address, port))
"""


class Service:
    def __init__(self, machine: Container) -> None:
        self.machine = machine
        self.config = CONFIG
        for command in (
            f"ip link add {INTERFACE} type veth peer name {PEER}",
            "ip netns add peer",
            f"ip link set {PEER} netns peer",
            f"ip address add {ADDRESS}/24 dev {INTERFACE}",
            f"ip link set {INTERFACE} up",
            f"ip -n peer address add 10.77.0.2/24 dev {PEER}",
            f"ip -n peer link set {PEER} up",
        ):
            machine.run(*command.split())

    # -- what an operator does

    def configure(self, text: str) -> None:
        self.machine.write(DROP_IN, text)

    def unit_drop_in(self, text: str) -> None:
        """Changes the unit as `systemctl edit` would; an empty text takes the change back."""
        directory = f"/etc/systemd/system/{UNIT}.d"
        if text:
            self.machine.write(f"{directory}/test.conf", text)
        else:
            self.machine.run("rm", "-rf", directory)
        self.machine.run("systemctl", "daemon-reload")

    def reset(self) -> None:
        """Stopped, with the first configuration and the unit as shipped, whatever the last test did."""
        self.machine.run("systemctl", "stop", UNIT, check=False)
        self.machine.run("systemctl", "reset-failed", UNIT, check=False)
        self.unit_drop_in("")
        self.configure(CONFIG)

    def start(self) -> None:
        done = self.machine.run("systemctl", "start", UNIT, check=False)
        assert done.returncode == 0, done.stderr + self.log()

    def stop(self) -> None:
        self.machine.run("systemctl", "stop", UNIT)

    def reload(self) -> int:
        return self.machine.run("systemctl", "reload", UNIT, check=False).returncode

    def ctl(self, *arguments: str, check: bool = True) -> Any:
        done = self.machine.run("afterburnerctl", "--json", *arguments, check=check)
        return json.loads(done.stdout)

    # -- what can be seen from outside

    def state(self) -> str:
        shown = self.machine.show(UNIT, "ActiveState", "SubState")
        return f"{shown['ActiveState']}/{shown['SubState']}"

    def main_pid(self) -> int:
        return int(self.machine.show(UNIT, "MainPID")["MainPID"])

    def processes(self) -> list[int]:
        return self.machine.processes(UNIT)

    def data_planes(self) -> list[int]:
        """Processes of the unit whose parent is the supervisor and that run the data plane."""
        main = self.main_pid()
        return [
            pid
            for pid in self.processes()
            if pid != main and "afterburnerd.dataplane" in self.command_line(pid) and self.parent(pid) == main
        ]

    def parent(self, pid: int) -> int:
        return int(self.machine.status(pid).get("PPid", 0))

    def command_line(self, pid: int) -> str:
        try:
            return self.machine.path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return ""

    def program(self) -> int:
        """ID of the XDP program on the interface, as the kernel tells; 0: none is attached."""
        link = json.loads(self.machine.run("ip", "-json", "link", "show", INTERFACE).stdout)[0]
        return int(link.get("xdp", {}).get("prog", {}).get("id", 0))

    def shared_memory(self) -> list[str]:
        return sorted(path.name for path in self.machine.path("/dev/shm").iterdir())

    def left_over(self) -> dict[str, object]:
        """Everything that a daemon that is gone must not leave. Empty values are good."""
        return {
            "program": self.program(),
            "shared memory": self.shared_memory(),
            "run directory": self.machine.path("/run/afterburner").exists(),
            "processes": self.processes(),
            "interface": self.machine.run("ip", "link", "show", INTERFACE).returncode,
        }

    # -- traffic and what became of it

    def send(self, count: int, port: int = PORT) -> None:
        self.machine.run(
            *("ip", "netns", "exec", "peer", "/usr/bin/python3", "-c", SEND, ADDRESS, str(port), str(count))
        )

    def captured(self) -> int:
        """Datagrams that matched a capture rule since the statistics were made."""
        page = self.machine.run(
            *(
                "/usr/bin/python3",
                "-c",
                "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9475/metrics').read().decode())",
            )
        ).stdout
        return sum(
            int(float(line.rsplit(" ", 1)[1]))
            for line in page.splitlines()
            if line.startswith("afterburner_rule_packets_total")
        )

    def serves(self, count: int = 50, port: int = PORT) -> None:
        """Asserts that datagrams sent now are captured."""
        before = self.captured()
        self.send(count, port)
        until(lambda: self.captured() >= before + count, f"{count} datagrams to be captured on port {port}")

    # -- the journal

    def log(self, since: int = 0) -> str:
        return "\n".join(entry.get("MESSAGE", "") for entry in self.entries(since))

    def entries(self, since: int = 0, message: str = "") -> list[dict[str, str]]:
        """Entries of the unit, and of systemd about it; `message`: only those of this name in the catalogue."""
        match = ["--unit", UNIT] if not message else [f"_SYSTEMD_UNIT={UNIT}", f"AB_MESSAGE={message}"]
        return self.machine.journal(*match, since=since)
