"""The interface of the default route is found where there is exactly one."""

from __future__ import annotations

from pathlib import Path

import pytest

from afterburnerd.net.default import default_interface

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
ETH0 = "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
LAN = "eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
ETH1 = ETH0.replace("eth0", "eth1")
ZERO = "0" * 32
V6_ETH0 = f"{ZERO} 00 {ZERO} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"
V6_NOWHERE = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"


@pytest.mark.parametrize(
    ("v4", "v6", "expected"),
    [
        (HEAD + LAN + ETH0, V6_NOWHERE, "eth0"),
        (HEAD + ETH0, V6_ETH0, "eth0"),
        (HEAD, V6_ETH0 + V6_NOWHERE, "eth0"),
        (HEAD + ETH0 + ETH1, "", ""),
        (HEAD + ETH1, V6_ETH0, ""),
        (HEAD + LAN, V6_NOWHERE, ""),
    ],
)
def test_exactly_one_device_is_a_default(tmp_path: Path, v4: str, v6: str, expected: str) -> None:
    (tmp_path / "route").write_text(v4)
    (tmp_path / "ipv6_route").write_text(v6)
    assert default_interface(tmp_path) == expected


def test_a_kernel_without_an_address_family_is_no_error(tmp_path: Path) -> None:
    assert default_interface(tmp_path) == ""
