"""tshark as the oracle of the wire: it decrypts what two peers sent, sees what was asked for, and notices what is wrong.

Here the peers' claims are checked against somebody else's eyes: that a Retry was sent, that early data went in 0-RTT packets,
that the key phase changed. And the oracle itself is shown to notice a missing secret, a changed byte and a foreign datagram.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import netns
from tests.interop import peers, tshark
from tests.interop.test_peers import PAIRS, named, need, ring

PORT = 4433
STREAMS = 40
SIZE = 235
PCAP_HEADER = 24  # bytes of a classic capture file
RECORD_HEADER = 16
ETHERNET_IPV4_UDP = 42  # bytes before the payload

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module", autouse=True)
def oracle() -> None:
    if lacking := tshark.missing():
        if os.environ.get("CI"):
            pytest.fail(f"the oracle is missing, and CI is set: {lacking}")
        pytest.skip(lacking)


@pytest.fixture(scope="module")
def rig() -> Iterator[netns.Pair]:
    """Two namespaces between which every datagram is a frame of its own."""
    with netns.pair() as pair:
        tshark.segmented(pair.near, pair.far)
        yield pair


class Run:
    """A captured run of a client in `near` against a server in `far`."""

    def __init__(
        self,
        rig: netns.Pair,
        directory: Path,
        pair: tuple[str, str],
        server: list[str],
        client: list[str],
        streams: int,
        connections: int = 1,
    ) -> None:
        self.path = directory / "run.pcap"
        self.keylogs = [directory / "keys-server", directory / "keys-client"]  # some engines leave out one or the other
        logged = [["--keylog", str(path)] for path in self.keylogs]
        with (
            tshark.capture(rig.near.ifname, self.path, namespace=rig.near.name),
            peers.server(
                pair[1], *server, *logged[0], address=rig.far.ipv4, port=PORT, namespace=rig.far.name
            ) as listener,
        ):
            words = [*client, "--size", str(SIZE), *logged[1]]
            self.call = peers.exchange(pair[0], listener, *words, streams=streams * connections, connections=connections,
                                       address=rig.far.ipv4, namespace=rig.near.name)  # fmt: skip
            self.server = listener
        self.packets = tshark.read(self.path, *self.keylogs, port=PORT)


@pytest.fixture(params=PAIRS, ids=named)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    need(request.param[0], "client", "keylog")
    need(request.param[1], "server", "keylog")
    pair: tuple[str, str] = request.param
    return pair


def test_a_run_with_retry_and_key_update_is_clean(rig: netns.Pair, pair: tuple[str, str], tmp_path: Path) -> None:
    update = ["--key-update-after", "10"]
    by_client = peers.features(pair[0]).can("client", "key-update-after")
    # fmt: off
    run = Run(rig, tmp_path, pair, ["--retry", *(() if by_client else update)],
              ["--streams", str(STREAMS), "--interval", "5", *(update if by_client else ())], STREAMS)
    # fmt: on
    assert tshark.faults(run.packets) == []
    assert {packet.source[1] for packet in run.packets if packet.kind == "retry"} == {PORT}
    one = [packet for packet in run.packets if packet.kind == "1rtt"]
    assert {packet.key_phase for packet in one if packet.destination[1] == PORT} == {0, 1}
    assert {packet.key_phase for packet in one if packet.source[1] == PORT} == {0, 1}
    frames = [frame for packet in one if packet.destination[1] == PORT for frame in packet.frames]
    sent = {frame.number("stream.stream_id") for frame in frames if frame.name == "STREAM"}
    assert sent == {2 + 4 * index for index in range(STREAMS)}
    assert any("CONNECTION_CLOSE" in packet for packet in one)


@ring
def test_early_data_goes_in_packets_of_its_own(rig: netns.Pair, pair: tuple[str, str], tmp_path: Path) -> None:
    need(pair[0], "client", "zero-rtt")
    need(pair[1], "server", "zero-rtt")
    run = Run(rig, tmp_path, pair, ["--zero-rtt"], ["--streams", "3", "--count", "2", "--zero-rtt"], 3, 2)
    assert tshark.faults(run.packets) == []
    early = [frame for packet in run.packets if packet.kind == "0rtt" for frame in packet.frames]
    assert {frame.number("stream.stream_id") for frame in early if frame.name == "STREAM"} == {2, 6, 10}


@ring
def test_version_negotiation_is_seen(rig: netns.Pair, pair: tuple[str, str], tmp_path: Path) -> None:
    need(pair[0], "client", "version-negotiation")
    run = Run(rig, tmp_path, pair, [], ["--streams", "1", "--version-negotiation"], 1)
    assert [packet.source[1] for packet in run.packets if packet.kind == "version_negotiation"].count(PORT) >= 1


@pytest.fixture(scope="module")
def clean(rig: netns.Pair, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """aioquic and quinn, the run that the oracle itself is tried on."""
    need("quinn", "server")
    return Run(rig, tmp_path_factory.mktemp("clean"), ("aioquic", "quinn"), [], ["--streams", "5"], 5)


def test_a_clean_run_has_no_faults(clean: Run) -> None:
    assert tshark.faults(clean.packets) == []
    assert {packet.kind for packet in clean.packets} >= {"initial", "handshake", "1rtt"}


def test_without_secrets_everything_but_initials_is_a_fault(clean: Run, tmp_path: Path) -> None:
    nothing = tmp_path / "keys"
    nothing.write_bytes(b"")
    packets = tshark.read(clean.path, nothing, port=PORT)
    hidden = [packet for packet in packets if packet.kind in ("handshake", "1rtt")]
    assert hidden and tshark.faults(packets) == hidden


def records(data: bytes) -> list[tuple[int, int]]:
    """Offset and length of the frames of a classic capture file."""
    found, at = [], PCAP_HEADER
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        found.append((at + RECORD_HEADER, length))
        at += RECORD_HEADER + length
    return found


def broken(clean: Run, path: Path, change: int, mask: int, first: bool) -> tuple[int, list[tshark.Packet]]:
    """One byte of the payload of the client's last (or first) data packet changed: its datagram, and the faults then."""
    data = bytearray(clean.path.read_bytes())
    wanted = [packet for packet in clean.packets if packet.kind == "1rtt" and "STREAM" in packet]
    packet = wanted[0 if first else -1]
    offset, length = records(bytes(data))[packet.datagram - 1]
    data[offset + (ETHERNET_IPV4_UDP if change >= 0 else length) + change] ^= mask
    path.write_bytes(data)
    return packet.datagram, tshark.faults(tshark.read(path, *clean.keylogs, port=PORT))


@pytest.mark.parametrize(("change", "mask", "first"), [(-1, 0x01, False), (30, 0x80, True)], ids=["tag", "body"])
def test_a_changed_byte_is_a_fault(clean: Run, tmp_path: Path, change: int, mask: int, first: bool) -> None:
    changed, found = broken(clean, tmp_path / "changed.pcap", change, mask, first)
    assert {fault.datagram for fault in found} == {changed}


@pytest.mark.parametrize("mask", [0xFF, 0x80, 0x40, 0x1F, 0x04], ids=hex)
def test_what_is_no_quic_is_a_fault(clean: Run, tmp_path: Path, mask: int) -> None:
    """tshark takes a foreign first byte for a new version, connection or key phase, and then loses what follows as well."""
    changed, found = broken(clean, tmp_path / "foreign.pcap", 0, mask, first=False)
    assert found and found[0].faults
    assert min(fault.datagram for fault in found) == changed
