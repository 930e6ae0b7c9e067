"""The wire oracle: captures what engines send one another, and has tshark decrypt and judge it.

    with tshark.capture(rig.near.ifname, directory / "run.pcapng", namespace=rig.near.name):
        ...                                                  a run with --keylog
    packets = tshark.read(directory / "run.pcapng", keylog, port=4433)
    assert tshark.faults(packets) == []                      nothing malformed, nothing that cannot be decrypted
    assert any(packet.kind == "retry" for packet in packets)
    packets[7].frames[0].name                                "STREAM"

tshark is nobody's engine: it takes the secrets from the key log and follows key phases, connection IDs and Retry by itself. What
it calls a warning or an error, and every packet whose frames it does not see, is a fault. Its notes are none ("retransmission?").

Capture where datagrams are what goes over the wire. With segmentation offload (GSO) a sender hands the device several datagrams in
one frame, on veth and on loopback too, and a capture shows that one frame: `segmented()` turns it off.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import netns, waiting

WARNING = 0x600000  # tshark's severities: note 0x400000, warning 0x600000, error 0x800000
BUFFER_MIB = 64  # of the kernel's capture ring: a burst does not overrun it
SETTLE = 0.6  # seconds: dumpcap fetches what the kernel holds back at least every 0.25, and not at all when it is told to end
# A client whose Initial takes several datagrams may get several Retry packets: tshark knows what the first one answered, and
# has no opinion on the others.
NO_OPINION = "Cannot verify Retry Packet due to unknown ODCID"
LONG_KINDS = ("initial", "0rtt", "handshake", "retry")
UNPROTECTED = ("retry", "version_negotiation")
NO_OFFLOADS = ("-K", "tx-udp-segmentation", "off", "generic-receive-offload", "off", "rx-udp-gro-forwarding", "off")

# RFC 9000 19 and RFC 9221 4
FRAMES = {
    0x00: "PADDING",
    0x01: "PING",
    0x02: "ACK",
    0x03: "ACK",
    0x04: "RESET_STREAM",
    0x05: "STOP_SENDING",
    0x06: "CRYPTO",
    0x07: "NEW_TOKEN",
    **dict.fromkeys(range(8, 16), "STREAM"),
    0x10: "MAX_DATA",
    0x11: "MAX_STREAM_DATA",
    0x12: "MAX_STREAMS",
    0x13: "MAX_STREAMS",
    0x14: "DATA_BLOCKED",
    0x15: "STREAM_DATA_BLOCKED",
    0x16: "STREAMS_BLOCKED",
    0x17: "STREAMS_BLOCKED",
    0x18: "NEW_CONNECTION_ID",
    0x19: "RETIRE_CONNECTION_ID",
    0x1A: "PATH_CHALLENGE",
    0x1B: "PATH_RESPONSE",
    0x1C: "CONNECTION_CLOSE",
    0x1D: "CONNECTION_CLOSE",
    0x1E: "HANDSHAKE_DONE",
    0x30: "DATAGRAM",
    0x31: "DATAGRAM",
}


@dataclass(frozen=True)
class Frame:
    """A frame; `fields` are tshark's, without "quic.": {"stream.stream_id": "2", ..}; the first of each name."""

    type: int
    fields: dict[str, str]

    @property
    def name(self) -> str:
        return FRAMES.get(self.type, f"0x{self.type:x}")

    def number(self, name: str) -> int:
        return int(self.fields[name], 0)


@dataclass(frozen=True)
class Packet:
    """One QUIC packet; a datagram may hold several."""

    datagram: int  # number of the frame in the capture, from 1
    time: float  # seconds since the epoch
    source: tuple[str, int]
    destination: tuple[str, int]
    kind: str  # initial, 0rtt, handshake, retry, version_negotiation, 1rtt; padding: zeros behind packets; "": no QUIC
    version: int | None
    dcid: bytes
    scid: bytes
    number: int | None
    key_phase: int | None
    length: int  # bytes
    ecn: int  # of the IP header
    frames: tuple[Frame, ...] = ()
    faults: tuple[str, ...] = field(default=())

    def __contains__(self, name: str) -> bool:
        return any(frame.name == name for frame in self.frames)


def missing() -> str:
    """What is missing to capture and to read; "" where nothing is."""
    for tool in ("tshark", "dumpcap"):
        try:
            subprocess.run([tool, "-v"], capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as why:
            return f"{tool}: {why}: apt-get install tshark"
    return ""


def segmented(*ends: netns.End) -> None:
    """Has these interfaces carry datagrams one by one."""
    for end in ends:
        end.ethtool(*NO_OFFLOADS)


@contextlib.contextmanager
def capture(ifname: str, path: Path, namespace: str | None = None, only: str = "udp") -> Iterator[None]:
    """Captures what passes an interface while the block runs; an AssertionError where anything was lost."""
    inside = ("ip", "netns", "exec", namespace) if namespace else ()
    line = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        *inside,
        "dumpcap",
        "-q",
        "-P",
        "-B",
        str(BUFFER_MIB),
        "-i",
        ifname,
        "-f",
        only,
    ]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([*line, "-w", str(path)], stdin=subprocess.DEVNULL, stdout=said, stderr=said)

        def told() -> str:
            return os.pread(said.fileno(), 1 << 16, 0).decode(errors="replace")

        try:
            # It names the file once it captures.
            waiting.until(lambda: "File:" in told() or process.poll() is not None, "dumpcap to capture")
            assert process.poll() is None, f"dumpcap: {told()}"
            yield
            time.sleep(SETTLE)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        counts = re.search(r"received/dropped on interface .*: (\d+)/(\d+)", told())
        assert counts, f"dumpcap did not say what it lost: {told()}"
        assert counts[2] == "0", f"the capture lost packets: {told()}"


def read(path: Path, *keylogs: Path, port: int | Sequence[int]) -> list[Packet]:
    """Every QUIC packet of a capture from or to these UDP ports, decrypted with these key logs."""
    ports = [port] if isinstance(port, int) else list(port)
    with tempfile.TemporaryDirectory(prefix="afterburner-tshark-") as directory:
        secrets, page = Path(directory, "keys"), Path(directory, "page.pdml")
        known = [line for log in keylogs for line in log.read_text().splitlines()]
        decode = [word for number in ports for word in ("-d", f"udp.port=={number},quic")]
        wanted = " || ".join(f"udp.port=={number}" for number in ports)
        hellos = [
            "tshark",
            "-n",
            "-r",
            str(path),
            *decode,
            "-Y",
            f"({wanted}) && tls.handshake.type == 1",
            "-T",
            "fields",
        ]
        seen = _tshark(*hellos, "-e", "tls.handshake.random").split()
        secrets.write_text("\n".join([*known, *_again(known, seen)]) + "\n")
        # fmt: off
        line = ["tshark", "-n", "-r", str(path), "-o", f"tls.keylog_file:{secrets}", *decode, "-Y", wanted,
                "-T", "pdml", "-J", "frame ip ipv6 udp quic"]
        # fmt: on
        page.write_text(_tshark(*line))
        return list(_packets(page))


def _tshark(*line: str) -> str:
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"tshark: {done.stderr}"
    return done.stdout


def _again(known: list[str], seen: list[str]) -> list[str]:
    """Secrets under the random by which tshark looks for them. Some clients make another ClientHello after a Retry, though RFC
    9000 17.2.5.3 wants the same one: tshark keeps to the first, and their key log to the last. Those without a partner are
    matched in the order of their appearance."""
    logged = list(dict.fromkeys(line.split()[1] for line in known if len(line.split()) == 3))
    partners = dict(zip((r for r in logged if r not in seen), (r for r in seen if r not in logged), strict=False))
    lines = [line.split() for line in known if len(line.split()) == 3]
    return [f"{label} {partners[random]} {secret}" for label, random, secret in lines if random in partners]


def faults(packets: Iterable[Packet]) -> list[Packet]:
    """The packets that are malformed, that cannot be decrypted, or that are no QUIC."""
    return [packet for packet in packets if packet.faults]


def _packets(page: Path) -> Iterator[Packet]:
    for _, element in ET.iterparse(page):
        if element.tag == "packet":
            yield from _datagram(element)
            element.clear()


def _show(element: ET.Element, name: str) -> str | None:
    found = element.find(f".//field[@name='{name}']")
    return None if found is None else found.get("show", "")


def _int(element: ET.Element, name: str) -> int | None:
    text = _show(element, name)
    return None if text is None else int(text, 0)


def _cid(element: ET.Element, name: str) -> bytes:
    return bytes.fromhex((_show(element, name) or "").replace(":", ""))


def _datagram(element: ET.Element) -> Iterator[Packet]:
    protocols = {proto.get("name", ""): proto for proto in element.findall("proto")}
    network, udp = protocols.get("ip", protocols.get("ipv6")), protocols.get("udp")
    if network is None or udp is None:
        return
    family = "ip" if "ip" in protocols else "ipv6"
    number, when = int(_show(element, "frame.number") or 0), float(_show(element, "frame.time_epoch") or 0)
    source = (_show(network, f"{family}.src") or "", _int(udp, "udp.srcport") or 0)
    destination = (_show(network, f"{family}.dst") or "", _int(udp, "udp.dstport") or 0)
    ecn = _int(network, "ip.dsfield.ecn" if family == "ip" else "ipv6.tclass.ecn") or 0
    found = [proto for proto in element.findall("proto") if proto.get("name") == "quic"]
    strange = tuple(f"tshark: {name}" for name in protocols if name.startswith("_ws.") or name == "data")
    for proto in found:
        kind, frames = _kind(proto), tuple(_frames(proto))
        said = tuple(_complaints(proto)) + strange
        if proto.find(".//field[@name='quic.coalesced_padding_data']") is not None:
            kind = "padding"
            if any(_behind(udp, proto)):
                said = ("bytes behind the last packet that are neither packet nor zero", *said)
        elif not frames and kind not in UNPROTECTED:
            said = ("its frames cannot be seen: not decrypted", *said)
        # fmt: off
        yield Packet(number, when, source, destination, kind, _int(proto, "quic.version"),
                     _cid(proto, "quic.dcid"), _cid(proto, "quic.scid"), _int(proto, "quic.packet_number"),
                     _int(proto, "quic.key_phase"), _int(proto, "quic.packet_length") or 0, ecn, frames, said)
        # fmt: on
    if not found:
        length = _int(udp, "udp.length") or 0
        yield Packet(number, when, source, destination, "", None, b"", b"", None, None, length, ecn, (), ("no QUIC", *strange))  # fmt: skip


def _behind(udp: ET.Element, proto: ET.Element) -> bytes:
    """The bytes of a datagram from the beginning of a protocol of it on."""
    field = udp.find(".//field[@name='udp.payload']")
    assert field is not None
    payload = bytes.fromhex(field.get("show", "").replace(":", ""))
    return payload[int(proto.get("pos", "0")) - int(field.get("pos", "0")) :]


def _kind(proto: ET.Element) -> str:
    if _int(proto, "quic.header_form") == 0:
        return "1rtt"
    if _int(proto, "quic.version") == 0:
        return "version_negotiation"
    kind = _int(proto, "quic.long.packet_type")
    return "" if kind is None else LONG_KINDS[kind]


def _frames(proto: ET.Element) -> Iterator[Frame]:
    for element in proto.iter("field"):
        if element.get("name") != "quic.frame":
            continue
        kind = _int(element, "quic.frame_type")
        if kind is None:
            continue
        fields: dict[str, str] = {}
        for inner in element.iter("field"):
            name = inner.get("name", "")
            if name.startswith("quic."):
                fields.setdefault(name.removeprefix("quic."), inner.get("show", ""))
        yield Frame(kind, fields)


def _complaints(proto: ET.Element) -> Iterator[str]:
    for element in proto.iter("field"):
        if element.get("name") == "_ws.expert" and (_int(element, "_ws.expert.severity") or 0) >= WARNING:
            message = _show(element, "_ws.expert.message") or element.get("showname") or "?"
            if message != NO_OPINION:
                yield message
