"""What a network driver says of itself: the handful of SIOCETHTOOL ioctls that we read.

The ioctl, not ethtool's netlink family, because it works on every kernel and driver, in whichever network namespace the
socket was opened in (sysfs shows the namespace it was mounted in), and takes 2 us. pyroute2 has an ethtool class, too, but
without driver names and on ctypes, whose types cost as much memory as the rest of this package's code.

Reading only. What should be different is said by `afterburnerctl doctor` with the command for it; this daemon changes no
setting of a NIC.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct

from afterburnerd.net.facts import Queues, Rings

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GRINGPARAM, _GSTRINGS, _GSSET_INFO, _GFEATURES, _GCHANNELS = 0x03, 0x10, 0x1B, 0x37, 0x3A, 0x3C
_SS_FEATURES = 4
_STRING_BYTES = 32

# The driver has no such thing, or the device is gone meanwhile.
_ABSENT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV)


class Ethtool:
    """An ioctl socket in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Ethtool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def driver(self, name: str) -> str:
        """The driver's name, "" if it has none."""
        # struct ethtool_drvinfo: cmd, driver[32], version[32], fw_version[32], bus_info[32], erom_version[32], reserved[12], 5 u32
        answer = self._ask(name, struct.pack("I192x", _GDRVINFO))
        return answer[4:36].split(b"\0", 1)[0].decode("ascii", "replace") if answer else ""

    def queues(self, name: str) -> Queues | None:
        """Queues in use. A combined channel is one receive and one transmit queue."""
        answer = self._ask(name, struct.pack("I32x", _GCHANNELS))
        if answer is None:
            return None
        _, max_rx, max_tx, _, max_combined, rx, tx, _, combined = struct.unpack("9I", answer)
        return Queues(
            rx=rx + combined,
            tx=tx + combined,
            max_rx=max_rx + max_combined,
            max_tx=max_tx + max_combined,
            combined=max_combined > 0,
        )

    def rings(self, name: str) -> Rings | None:
        answer = self._ask(name, struct.pack("I32x", _GRINGPARAM))
        if answer is None:
            return None
        _, max_rx, _, _, max_tx, rx, _, _, tx = struct.unpack("9I", answer)
        return Rings(rx=rx, tx=tx, max_rx=max_rx, max_tx=max_tx)

    def features(self, name: str) -> dict[str, bool]:
        """Offloads by the kernel's names (`ethtool -k` shows some under older ones), and whether each is on."""
        info = self._ask(name, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
        if info is None:
            return {}
        count = struct.unpack("=IIQI", info)[3]
        strings = self._ask(name, struct.pack("III", _GSTRINGS, _SS_FEATURES, count) + bytes(count * _STRING_BYTES))
        blocks = (count + 31) // 32
        states = self._ask(name, struct.pack("II", _GFEATURES, blocks) + bytes(blocks * 16))
        if strings is None or states is None:
            return {}
        found = {}
        for bit in range(count):
            text = (
                strings[12 + bit * _STRING_BYTES : 12 + (bit + 1) * _STRING_BYTES]
                .split(b"\0", 1)[0]
                .decode("ascii", "replace")
            )
            # struct ethtool_get_features_block: available, requested, active, never_changed
            (active,) = struct.unpack_from("I", states, 8 + bit // 32 * 16 + 8)
            if text:
                found[text] = bool(active >> (bit % 32) & 1)
        return found

    def _ask(self, name: str, request: bytes) -> bytes | None:
        """Send `request`, which begins with its command, and return what the kernel made of it; None: no such thing."""
        encoded = name.encode()
        if len(encoded) > 15:
            return None
        buffer = array.array("B", request)
        # struct ifreq: the name and a pointer to the request; 40 bytes in all on every 64-bit Linux
        try:
            fcntl.ioctl(self._socket, _SIOCETHTOOL, struct.pack("16sP16x", encoded, buffer.buffer_info()[0]))
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        return buffer.tobytes()
