"""The doctor on real devices: what it says of a veth is true, whatever state the veth is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from afterburnerd.ctl.main import main
from tests.net.rig import Lan, lan

pytestmark = pytest.mark.privileged


@pytest.fixture
def network() -> Iterator[Lan]:
    with lan() as made:
        yield made


class Doctor:
    """afterburnerctl doctor -j, and its findings by id."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self._capsys = capsys
        self._file = directory / "afterburner.toml"
        self.code = 0

    def __call__(self, text: str = '[interface]\nname = "ab0"\n', *words: str) -> dict[str, dict[str, Any]]:
        self._file.write_text(text)
        self.code = main(["doctor", "-j", "--config", str(self._file), "--name", "test-doctor-nobody", *words])
        document = msgspec.json.decode(self._capsys.readouterr().out)
        return {finding["id"]: finding for finding in document["findings"]}


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Doctor:
    return Doctor(capsys, tmp_path)


def test_a_veth_that_is_well(network: Lan, doctor: Doctor) -> None:
    found = doctor()
    assert found["device"]["what"] == "ab0 is there: veth, MTU 1500, 2 receive queues"
    assert found["link"]["level"] == "ok"
    assert "192.0.2.1" in found["addresses"]["what"]
    assert (found["xdp-mode"]["level"], found["xdp-mode"]["what"]) == (
        "info",
        "the driver of ab0 (veth) has native XDP, without zero-copy",
    )
    assert found["mtu"]["level"] == "ok"
    assert found["capabilities"]["level"] == "ok"
    assert doctor.code == int(any(each["level"] in ("warn", "fail") for each in found.values()))


def test_a_veth_that_is_ill_in_many_ways(network: Lan, doctor: Doctor) -> None:
    network.here.ip("link set ab0 down mtu 9000")
    network.here.ip("addr flush dev ab0")
    network.here.run("ethtool -K ab0 rx-gro-list on")
    found = doctor(
        """
        [interface]
        name = "ab0"
        mode = "zero-copy"
        queues = [0, 3]
        jumbo = "off"
        verify_udp_checksum = true
        [[capture]]
        name = "elsewhere"
        address = "198.51.100.1"
        port = 8001
        """
    )
    assert {id for id in found if found[id]["section"] == "device" and found[id]["level"] in ("warn", "fail")} == {
        "link", "addresses", "rule-address", "xdp-mode", "mtu", "queues", "merging", "tx-checksum",
    }  # fmt: skip
    assert found["queues"]["commands"] == ["ethtool -L ab0 rx 4"]
    assert doctor.code == 1


def test_the_commands_mend_what_they_say(network: Lan, doctor: Doctor) -> None:
    """Every command of a finding about the device is carried out, and the finding is gone."""
    network.here.ip("link set ab0 down mtu 9000")
    network.here.run("ethtool -K ab0 rx-gro-list on")
    text = '[interface]\nname = "ab0"\nqueues = [0, 1, 2]\njumbo = "off"\n'
    ill = doctor(text)
    for id in ("link", "mtu", "queues", "merging"):
        assert ill[id]["level"] in ("warn", "fail"), id
        for command in ill[id]["commands"]:
            network.here.run(command)
    well = doctor(text)
    assert [id for id in ("link", "mtu", "offloads") if well[id]["level"] != "ok"] == []
    assert "queues" not in well and "merging" not in well


@pytest.mark.bpf
@pytest.mark.parametrize(("word", "mode"), [("xdpgeneric", "generic"), ("xdpdrv", "native")])
def test_a_foreign_xdp_program(network: Lan, doctor: Doctor, word: str, mode: str) -> None:
    program = Path(__file__).parents[2] / "afterburnerd/bpf/afterburner.bpf.o"
    assert "xdp-program" not in doctor()
    network.here.ip(f"link set dev ab0 {word} obj {program} sec xdp.frags")
    finding = doctor()["xdp-program"]
    assert finding["level"] == "fail" and finding["what"].endswith(mode)
    network.here.run(finding["commands"][0])  # bpftool finds the program by the id that was named
    network.here.run(finding["commands"][2])
    assert "xdp-program" not in doctor()


def test_without_a_name_the_one_uplink_is_examined(network: Lan, doctor: Doctor) -> None:
    network.wire("ab1", "peer1", "198.51.100", "2001:db8:1:")
    none = doctor("")
    assert none["device"]["level"] == "fail" and "no default route" in none["device"]["what"]
    network.here.ip("route add default via 198.51.100.2")
    assert doctor("")["device"]["what"].startswith("ab1 is there")
    network.here.ip("-6 route add default via 2001:db8::2")
    assert "2 uplinks (ab0, ab1)" in doctor("")["device"]["what"]
    assert doctor("", "--interface", "ab0")["device"]["level"] == "ok"


def test_a_device_that_is_not_there(network: Lan, doctor: Doctor) -> None:
    assert "there is no device nosuch" in doctor("", "--interface", "nosuch")["device"]["what"]
    assert doctor.code == 1


def test_a_broken_configuration_is_78(network: Lan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text("[interface]\nnam = 1\n")
    assert main(["doctor", "--config", str(tmp_path / "a.toml")]) == 78
    captured = capsys.readouterr()
    assert captured.out == "" and "a.toml:2" in captured.err
