"""Makes the kept frames in tests/net/packets/: `python -m tests.net.make_packets` (root; writes over what is there).

Two kinds. *Specified* frames carry the packets printed in RFCs, computed here from the inputs that the RFC gives and
checked against the bytes it prints, or follow a figure of a standard by hand. *Captured* frames were sent by the
kernel's own stack over a veth pair and recorded on the other end: what a real sender makes of fragments, options,
extension headers, multicast. A captured file differs a little each time it is made (identifiers, ports, sequence
numbers), which is why the files are kept and not made anew by the tests.

A file holds comments with the provenance, one line `expect: REASON` for the world of frames.py without any socket, and
the frame in hex.
"""

from __future__ import annotations

import socket
import struct
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests import netns
from tests.net import frames

FOLDER = Path(__file__).parent / "packets"
ETH_P_ALL, IP_OPTIONS, IPV6_DSTOPTS, IPV6_HOPOPTS = 0x0003, 4, 59, 54


def write(name: str, expect: str, provenance: str, frame: bytes) -> None:
    lines = [f"# {line}" for line in textwrap.wrap(provenance, 110)]
    lines += [f"expect: {expect}", *(frame[i : i + 32].hex() for i in range(0, len(frame), 32))]
    (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n")


def read(path: Path) -> tuple[str, bytes]:
    """The expected reason and the frame of a kept file."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    key, _, expect = lines[0].partition(": ")
    assert key == "expect", f"{path}: the first line behind the comments must be `expect: REASON`"
    return expect, bytes.fromhex("".join(lines[1:]))


# --- RFC 9001, Appendix A ---


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    info = struct.pack("!HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


def _protect(side: bytes, header: bytes, payload: bytes, number_length: int) -> bytes:
    """An Initial packet of A.1's connection, sealed and its header protected."""
    extract = hmac.HMAC(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), hashes.SHA256())
    extract.update(bytes.fromhex("8394c8f03e515708"))
    secret = _expand(extract.finalize(), side, 32)
    key, iv, hp = (_expand(secret, b"quic " + what, n) for what, n in ((b"key", 16), (b"iv", 12), (b"hp", 16)))
    number = int.from_bytes(header[-number_length:], "big")
    nonce = bytes(a ^ b for a, b in zip(iv, number.to_bytes(12, "big"), strict=True))
    sealed = AESGCM(key).encrypt(nonce, payload, header)
    at = 4 - number_length
    mask = Cipher(algorithms.AES(hp), modes.ECB()).encryptor().update(sealed[at : at + 16])
    head = bytearray(header)
    head[0] ^= mask[0] & 0x0F
    for i in range(number_length):
        head[len(head) - number_length + i] ^= mask[1 + i]
    return bytes(head) + sealed


def client_initial() -> bytes:
    crypto = bytes.fromhex(
        "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c0000041301"
        "1302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007"
        "000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f5"
        "0f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00"
        "024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f0"
        "3e51570806048000ffff"
    )
    packet = _protect(
        b"client in",
        bytes.fromhex("c300000001088394c8f03e5157080000449e00000002"),
        crypto + bytes(1162 - len(crypto)),
        4,
    )
    assert len(packet) == 1200
    assert packet[:32].hex() == "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11"
    assert packet[-16:].hex() == "e221af44860018ab0856972e194cd934"
    return packet


def server_initial() -> bytes:
    payload = bytes.fromhex(
        "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a12"
        "00130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a00"
        "2b00020304"
    )
    packet = _protect(b"server in", bytes.fromhex("c1000000010008f067a5502a4262b50040750001"), payload, 2)
    assert packet[:32].hex() == "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a"
    return packet


def specified() -> None:
    def v4(payload: bytes, dport: int) -> bytes:
        return frames.datagram(payload, dport, sport=49152)

    write("rfc9001-a2-client-initial", "PASS_INITIAL",
          "RFC 9001 A.2: client Initial, 1,200 bytes, computed from A.1 and A.2; to the listening port over IPv4",
          v4(client_initial(), frames.LISTEN))  # fmt: skip
    write("rfc9001-a2-client-initial-ipv6-qinq", "PASS_INITIAL",
          "RFC 9001 A.2 over IPv6 behind an IEEE 802.1ad tag (VID 5) and an 802.1Q tag (VID 6)",
          frames.datagram(client_initial(), frames.LISTEN, 6, (5, 6), sport=49152))  # fmt: skip
    write("rfc9001-a3-server-initial", "PASS_LONG",
          "RFC 9001 A.3: server Initial, computed; to a port that only dials, where no budget applies",
          v4(server_initial(), frames.DIAL))  # fmt: skip
    retry = bytes.fromhex("ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba")
    write("rfc9001-a4-retry", "PASS_LONG", "RFC 9001 A.4: Retry, as printed; Retry opens no connection",
          v4(retry, frames.LISTEN))  # fmt: skip
    chacha = bytes.fromhex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb")
    write("rfc9001-a5-chacha20-short", "PASS_SHORT_UNKNOWN",
          "RFC 9001 A.5: ChaCha20-Poly1305 short header packet, as printed; its connection ID is empty, so what stands "
          "in the place of ours is unknown", v4(chacha, frames.LISTEN))  # fmt: skip
    write("rfc8999-version-negotiation", "PASS_LONG",
          "RFC 8999 6: Version Negotiation (version 0), offering versions 1 and 2, to a port that dials",
          v4(bytes.fromhex("8000000000") + b"\x08" + bytes(8) + b"\x08" + frames.CID + bytes.fromhex("000000016b3343cf"),
             frames.DIAL))  # fmt: skip
    write("quic-short-known-cid", "DROP_WORKER_DOWN",
          "RFC 9000 17.3.1: 1-RTT packet with a connection ID of ours, padded by Ethernet to 60 bytes",
          v4(frames.short_header(frames.CID, 10), frames.LISTEN).ljust(60, b"\0"))  # fmt: skip
    write("quic-short-cid-in-padding", "PASS_SHORT_UNKNOWN",
          "a short header of 5 bytes; the rest of a known connection ID stands in the Ethernet padding behind it",
          (v4(frames.short_header(frames.CID, 5), frames.LISTEN) + frames.CID[4:]).ljust(60, b"\0"))  # fmt: skip
    write("udp-options-surplus", "PASS_UDP_LENGTH",
          "RFC 9868 7: UDP options in the surplus area between the end of the datagram and that of the IP packet",
          frames.ethernet(frames.ipv4(frames.udp(b"data", frames.FAR4, frames.NEAR4, frames.CAPTURE)
                                      + bytes.fromhex("0000" "01" "00")), 0x0800))  # fmt: skip
    write("priority-tag", "DROP_WORKER_DOWN",
          "IEEE 802.1Q 9.6: tag with VID 0 and PCP 5, which is a priority and no VLAN",
          frames.datagram(b"priority", frames.CAPTURE, 4, (0xA000,)))  # fmt: skip


# --- from the kernel's own stack ---


def _sockets(rig: netns.Pair, family: int) -> socket.socket:
    with rig.far.entered():
        return socket.socket(family, socket.SOCK_DGRAM)


def captured() -> None:
    with netns.pair(macs=(frames.NEAR_MAC, frames.FAR_MAC)) as rig:
        rig.far.ethtool("-K", "tx", "off")  # whole checksums, as on a wire
        with rig.near.entered():
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        tap.bind((rig.near.ifname, ETH_P_ALL))
        tap.settimeout(5)
        kernel = (
            "captured on a veth pair, sent by Linux " + Path("/proc/sys/kernel/osrelease").read_text().split("-")[0]
        )

        def catch(
            name: str, expect: str, what: str, send: Callable[[], object], wanted: Callable[[bytes], bool]
        ) -> None:
            send()
            while True:
                frame, address = tap.recvfrom(65536)
                if address[2] != socket.PACKET_OUTGOING and wanted(frame):
                    break
            write(name, expect, f"{kernel}: {what}", frame)

        four, six = _sockets(rig, socket.AF_INET), _sockets(rig, socket.AF_INET6)
        near4, near6 = (rig.near.ipv4, frames.CAPTURE), (rig.near.ipv6, frames.CAPTURE)

        def is_udp4(frame: bytes) -> bool:
            return frame[12:14] == b"\x08\x00" and frame[23] == 17

        def is_ipv6(next_header: int) -> Callable[[bytes], bool]:
            return lambda frame: frame[12:14] == b"\x86\xdd" and frame[20] == next_header

        catch("kernel-udp4", "DROP_WORKER_DOWN", "UDP over IPv4 to the capture port",
              lambda: four.sendto(b"hello over four", near4), is_udp4)  # fmt: skip
        catch("kernel-udp6", "DROP_WORKER_DOWN", "UDP over IPv6 to the capture port",
              lambda: six.sendto(b"hello over six", near6), is_ipv6(17))  # fmt: skip
        big = bytes(range(256)) * 12
        catch("kernel-udp4-fragment-first", "PASS_FRAGMENT", "first fragment of a 3,072 byte datagram, IPv4",
              lambda: four.sendto(big, near4), lambda f: is_udp4(f) and f[20:22] == b"\x20\x00")  # fmt: skip
        catch("kernel-udp4-fragment-last", "PASS_FRAGMENT", "last fragment of a 3,072 byte datagram, IPv4",
              lambda: four.sendto(big, near4), lambda f: is_udp4(f) and 0 < f[20] < 0x20)  # fmt: skip
        catch("kernel-udp6-fragment", "PASS_IPV6_EXTENSION", "first fragment of a 3,072 byte datagram, IPv6",
              lambda: six.sendto(big, near6), is_ipv6(44))  # fmt: skip
        with _sockets(rig, socket.AF_INET) as options:
            options.setsockopt(socket.IPPROTO_IP, IP_OPTIONS, b"\x94\x04\x00\x00")
            catch("kernel-udp4-router-alert", "PASS_IPV4_OPTIONS", "UDP with the router alert option (RFC 2113)",
                  lambda: options.sendto(b"alert", near4), is_udp4)  # fmt: skip
        with _sockets(rig, socket.AF_INET6) as extended:
            extended.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, b"\x00\x00\x01\x04\x00\x00\x00\x00")
            catch("kernel-udp6-destination-options", "PASS_IPV6_EXTENSION", "UDP behind destination options",
                  lambda: extended.sendto(b"destination", near6), is_ipv6(60))  # fmt: skip
        with _sockets(rig, socket.AF_INET6) as extended:
            extended.setsockopt(socket.IPPROTO_IPV6, IPV6_HOPOPTS, b"\x00\x00\x01\x04\x00\x00\x00\x00")
            catch("kernel-udp6-hop-by-hop", "PASS_IPV6_EXTENSION", "UDP behind hop-by-hop options",
                  lambda: extended.sendto(b"hops", near6), is_ipv6(0))  # fmt: skip
        four.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        catch("kernel-udp4-broadcast", "PASS_MULTICAST", "UDP to the subnet's broadcast address, capture port",
              lambda: four.sendto(b"all", ("10.77.0.255", frames.CAPTURE)), is_udp4)  # fmt: skip
        catch("kernel-udp6-all-nodes", "PASS_MULTICAST", "UDP to ff02::1, capture port",
              lambda: six.sendto(b"all", ("ff02::1", frames.CAPTURE, 0, rig.far.ifindex)), is_ipv6(17))  # fmt: skip
        catch("kernel-arp-request", "PASS_MULTICAST", "ARP request for an address without a static neighbour",
              lambda: four.sendto(b"who", ("10.77.0.9", 9)), lambda f: f[12:14] == b"\x08\x06")  # fmt: skip
        with rig.far.entered():
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setblocking(False)
        catch("kernel-tcp-syn", "PASS_NOT_UDP", "TCP SYN to the number of the capture port",
              lambda: tcp.connect_ex(near4), lambda f: f[12:14] == b"\x08\x00" and f[23] == 6)  # fmt: skip
        with rig.far.entered():
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        echo = bytes.fromhex("0800") + b"\0\0" + b"ping"
        echo = echo[:2] + struct.pack("!H", frames.ones_complement(echo)) + echo[4:]
        catch("kernel-icmp-echo", "PASS_NOT_UDP", "ICMP echo request",
              lambda: raw.sendto(echo, (rig.near.ipv4, 0)),
              lambda f: f[12:14] == b"\x08\x00" and f[23] == 1)  # fmt: skip
        for sock in (four, six, tcp, raw, tap):
            sock.close()


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    specified()
    captured()
    print(f"{len(list(FOLDER.glob('*.txt')))} frames in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
