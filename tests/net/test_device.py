"""What a real driver says of itself, by ioctl and by netlink, agrees with what the ethtool and ip programs say."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from afterburnerd.net.default import default_interface, default_interfaces
from afterburnerd.net.ethtool import Ethtool
from afterburnerd.net.facts import Queues
from afterburnerd.net.netdev import xdp_features
from tests.net.rig import Lan, lan

pytestmark = pytest.mark.privileged


@pytest.fixture
def network() -> Iterator[Lan]:
    with lan() as made:
        yield made


def test_ethtool(network: Lan) -> None:
    with Ethtool() as ethtool:
        assert ethtool.driver("ab0") == "veth"
        assert ethtool.queues("ab0") == Queues(rx=2, tx=2, max_rx=4, max_tx=4)
        assert ethtool.rings("ab0") is None  # veth has none
        assert ethtool.queues("nosuch") is None and ethtool.driver("nosuch") == "" and ethtool.features("nosuch") == {}
        assert ethtool.driver("a-name-that-is-too-long-for-linux") == ""


def test_offloads_are_those_of_the_ethtool_program(network: Lan) -> None:
    """By the names that both know, those that the program does not rename and does not merge."""
    with Ethtool() as ethtool:
        for state in ("on", "off"):
            network.here.run(f"ethtool -K ab0 rx-gro-list {state} rx-udp-gro-forwarding off")
            found = ethtool.features("ab0")
            said = dict(re.findall(r"^\s*([a-z0-9-]+): (on|off)", network.here.run("ethtool -k ab0"), re.MULTILINE))
            both = found.keys() & said.keys()
            assert len(both) > 20 and "rx-gro-list" in both
            assert {name: found[name] for name in both} == {name: said[name] == "on" for name in both}
            assert found["rx-gro-list"] == (state == "on")


async def test_xdp_features(network: Lan) -> None:
    """veth takes redirected frames once its peer has a NAPI, that is, with GRO on."""
    index = socket.if_nametoindex("ab0")
    network.there.run("ethtool -K peer0 gro off")
    before = await xdp_features(index)
    network.there.run("ethtool -K peer0 gro on")
    after = await xdp_features(index)
    assert before is not None and after is not None
    assert (before.native, before.zero_copy, before.fragments) == (True, False, True)
    assert (before.transmit, after.transmit) == (False, True)
    loopback = await xdp_features(socket.if_nametoindex("lo"))
    assert loopback is not None and not loopback.native
    assert await xdp_features(999_999) is None


async def test_the_devices_of_default_routes(network: Lan) -> None:
    network.wire("ab1", "peer1", "198.51.100", "2001:db8:1:")
    assert (await default_interfaces(), await default_interface()) == ([], "")
    network.here.ip("route add default via 192.0.2.2 table 77")
    network.here.ip("-6 route add default via 2001:db8::2 table 77")
    assert await default_interfaces() == []
    network.here.ip("-6 route add default via 2001:db8::2")
    assert (await default_interfaces(), await default_interface()) == (["ab0"], "ab0")
    network.here.ip("route add default nexthop via 192.0.2.2 nexthop via 198.51.100.2")
    assert (await default_interfaces(), await default_interface()) == (["ab0", "ab1"], "")
    network.here.ip("route del default")
    network.here.ip("-6 route replace default nexthop via 2001:db8::2 nexthop via 2001:db8:1::2")
    assert await default_interfaces() == ["ab0", "ab1"]
    network.here.ip("-6 route del default")
    network.here.ip("route add unreachable default")
    assert await default_interfaces() == []
