"""Serves one NIC of the guest: program attached natively, one queue bound in zero-copy mode, the worker's loop.

side.py NAME DEVICE IPV4 IPV6        statistics in /dev/shm/NAME.stats; SIGTERM ends it
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path

import afterburnerd
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.layout import Decoder, Port, PortKey, PortKind, Rule, XdpBudget, XdpSettings
from afterburnerd.abi.segment import Segment
from afterburnerd.native import lib

RULES = (("transactions", 8001, Decoder.SOLANA_TX), ("echo", 8002, Decoder.ECHO))
ZERO_COPY_OR_FAIL = 1


def main(name: str, device: str, ipv4: str, ipv6: str) -> None:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ifindex = socket.if_nametoindex(device)
    mac = bytes.fromhex(Path(f"/sys/class/net/{device}/address").read_text().strip().replace(":", ""))
    addresses = (bytes(10) + b"\xff\xff" + socket.inet_aton(ipv4), socket.inet_pton(socket.AF_INET6, ipv6))
    info = Info(interface=device, workers=(WorkerInfo(queues=(0,)),), rules=tuple(rule[0] for rule in RULES))
    segment = Segment.create(name, workers=1, queues=1, rules=len(RULES), info=info)

    bpf = lib.Bpf(Path(afterburnerd.__file__).parent / "bpf/afterburner.bpf.o")
    bpf.load()
    none = XdpBudget()
    settings = XdpSettings(mac=mac, flags=1, initial_global=none, initial_source=none, short_global=none)
    bpf.map_update("settings", bytes(4), settings.pack())
    rules = b""
    for index, (_, port, decoder) in enumerate(RULES):
        for address in addresses:
            key = PortKey(addr=address, port=struct.pack("!H", port))
            bpf.map_update("ports", key.pack(), Port(kind=PortKind.CAPTURE, rule=index).pack())
            rules += Rule(addr=address, port=port, rule=index, decoder=decoder).pack()
    bpf.attach(ifindex, "native")

    bell = mmap.mmap(-1, mmap.PAGESIZE)
    stats = mmap.mmap(segment.fd, segment.size)
    stride = next(b.stride for b in segment.description.blocks if b.name == "queue")
    worker = lib.Worker(
        index=0,
        stats=stats,
        bell=bell,
        worker_off=segment.offset("worker"),
        rule_off=segment.offset("rule"),
        queue_off=segment.offset("queue"),
        queue_stride=stride,
    )
    sock = socket.socket(44, socket.SOCK_RAW)
    for_map = os.dup(sock.fileno())
    worker.open_xsk(
        slot=0,
        fd=sock.detach(),
        ifindex=ifindex,
        queue=0,
        frames=2048,
        frame_size=4096,
        ring=2048,
        huge_pages=0,
        mode=ZERO_COPY_OR_FAIL,
        generic=False,
        multi_buffer=False,
        busy_poll=False,
        busy_usecs=0,
        busy_budget=0,
        verify_udp=True,
    )
    bpf.set_xsk(0, for_map)
    os.close(for_map)
    worker.set_rules(rules)
    worker.set_sleeps(True)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    while not stopped:
        worker.run(64)
    worker.close()
    bpf.close()
    segment.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
