"""What keys must be together: the checks that no key can fail alone.

Each check looks at a whole `Config` and yields findings. A finding names every key that takes part in it: the loader
points at the first of them that a file sets, and drops the finding when one of them is wrong by itself already (a
ring of "lots" has no size that could be compared with anything).

Nothing here asks the machine; see `model.py` for why.
"""

import itertools
from collections.abc import Iterator
from ipaddress import ip_address

from msgspec import Struct

from afterburnerd import base58
from afterburnerd.config.locate import Path
from afterburnerd.config.model import MAX_CAPTURES, Capture, Config, Connect, Listen, Worker, parse_listen

SOCKET_PATH_MAX = 107
"""Longest path of a unix socket (sockaddr_un.sun_path without its final zero)."""


class Finding(Struct, frozen=True):
    """One thing that is wrong, and the keys that it involves (the one to change first).

    Where a finding is about two elements of an array, `message` says "{other}" for the last of `paths`: only the loader
    knows where that one is written.
    """

    message: str
    paths: tuple[Path, ...]


def check(config: Config) -> Iterator[Finding]:
    """Find what is wrong with a configuration whose keys are right one by one."""
    yield from _daemon(config)
    yield from _memory(config)
    yield from _interface(config)
    yield from _workers(config)
    yield from _watch(config)
    yield from _exporter(config)
    yield from _captures(config)
    yield from _quic(config)


def _daemon(config: Config) -> Iterator[Finding]:
    length = len(config.daemon.run_dir.rstrip("/").encode()) + len("/control.sock")
    if length > SOCKET_PATH_MAX:
        yield Finding(
            f"is too long: the path of a unix socket has room for {SOCKET_PATH_MAX} bytes, "
            f"and {config.daemon.run_dir}/control.sock has {length}",
            (("daemon", "run_dir"),),
        )


def _memory(config: Config) -> Iterator[Finding]:
    memory, records = config.memory, config.records
    for section, name, value in (
        ("memory", "frames", memory.frames),
        ("memory", "ring", memory.ring),
        ("records", "slots", records.slots),
    ):
        if value & (value - 1):
            low = 1 << (value.bit_length() - 1)
            yield Finding(f"{value} is not a power of two; the nearest are {low} and {low * 2}", ((section, name),))
    if memory.ring > memory.frames:
        yield Finding(
            f"a ring of {memory.ring} can never be filled from {memory.frames} frames; "
            "memory.frames must be at least memory.ring",
            (("memory", "ring"), ("memory", "frames")),
        )
    if records.slot_bytes % 64:
        up = (records.slot_bytes + 63) // 64 * 64
        yield Finding(
            f"{records.slot_bytes} is not a multiple of 64 (a cache line); the next one is {up}",
            (("records", "slot_bytes"),),
        )


def _interface(config: Config) -> Iterator[Finding]:
    queues = config.interface.queues
    if queues != "all":
        yield from _queue_list(queues, ("interface", "queues"))


def _queue_list(queues: tuple[int, ...], path: Path) -> Iterator[Finding]:
    if not queues:
        yield Finding('an empty list serves nothing; write "all" or the indices', (path,))
    for queue in sorted({q for q in queues if queues.count(q) > 1}):
        yield Finding(f"names queue {queue} twice", (path,))


def _workers(config: Config) -> Iterator[Finding]:
    workers, served = config.workers, config.interface.queues
    for number, worker in enumerate(workers):
        yield from _worker(worker, number)
        if len(workers) > 1 and worker.queues == "all":
            yield Finding(
                f'there are {len(workers)} workers, so each needs its own list of queues instead of "all"',
                (("worker", number, "queues"),),
            )
        if worker.queues != "all" and served != "all":
            for queue in sorted(set(worker.queues) - set(served)):
                yield Finding(
                    f"queue {queue} is not among interface.queues",
                    (("worker", number, "queues"), ("interface", "queues")),
                )
    for (one, first), (two, second) in itertools.combinations(enumerate(workers), 2):
        if first.queues != "all" and second.queues != "all":
            for queue in sorted(set(first.queues) & set(second.queues)):
                yield Finding(
                    f"queue {queue} already belongs to {{other}}; a queue has exactly one worker",
                    (("worker", two, "queues"), ("worker", one, "queues")),
                )
        if first.cpu == second.cpu != "auto":
            yield Finding(
                f"CPU {second.cpu} already belongs to {{other}}; each worker needs a CPU of its own",
                (("worker", two, "cpu"), ("worker", one, "cpu")),
            )
    if served != "all" and all(w.queues != "all" for w in workers):
        owned = {q for w in workers for q in w.queues}
        for queue in sorted(set(served) - owned):
            yield Finding(
                f"queue {queue} has no worker; add it to the queues of one",
                (("interface", "queues"), *(("worker", n, "queues") for n in range(len(workers)))),
            )


def _worker(worker: Worker, number: int) -> Iterator[Finding]:
    if worker.queues != "all":
        yield from _queue_list(worker.queues, ("worker", number, "queues"))
    if worker.fifo and worker.cpu == "auto":
        yield Finding(
            "a SCHED_FIFO worker needs a fixed CPU; set cpu to an isolated one as well",
            (("worker", number, "fifo"), ("worker", number, "cpu")),
        )


def _watch(config: Config) -> Iterator[Finding]:
    watch = config.watch
    if watch.backoff_min_ms > watch.backoff_max_ms:
        yield Finding(
            f"the shortest pause ({watch.backoff_min_ms} ms) is longer than the longest "
            f"({watch.backoff_max_ms} ms, backoff_max_ms)",
            (("watch", "backoff_min_ms"), ("watch", "backoff_max_ms")),
        )


def _exporter(config: Config) -> Iterator[Finding]:
    try:
        parse_listen(config.exporter.listen)
    except ValueError as error:
        yield Finding(str(error), (("exporter", "listen"),))


def _captures(config: Config) -> Iterator[Finding]:
    if len(config.captures) > MAX_CAPTURES:
        yield Finding(
            f"there are {len(config.captures)} rules; {MAX_CAPTURES} is the most that there is room for",
            (("capture", MAX_CAPTURES), ("capture",)),
        )
    names: dict[str, int] = {}
    places: dict[tuple[object, int, tuple[int, int]], int] = {}
    for number, rule in enumerate(config.captures):
        wrong = list(_capture(rule, number))
        yield from wrong
        first = names.setdefault(rule.name, number)
        if first != number:
            yield Finding(
                f'"{rule.name}" is already the name of {{other}}',
                (("capture", number, "name"), ("capture", first, "name")),
            )
        if wrong:
            continue
        first = places.setdefault((rule.ip, rule.port, rule.vlans), number)
        if first != number:
            vlan = f" on VLAN {rule.vlan}" if rule.vlans != (0, 0) else ""
            keys = ("address", "vlan", "port")
            yield Finding(
                f"{rule.address} port {rule.port}{vlan} already belongs to {{other}}; a packet follows one rule only",
                tuple(("capture", n, k) for n, k in itertools.product((number, first), keys)),
            )


def _capture(rule: Capture, number: int) -> Iterator[Finding]:
    path: Path = ("capture", number, "address")
    if rule.address != "any":
        try:
            ip = ip_address(rule.address)
        except ValueError:
            yield Finding(f'"{rule.address}" is neither "any" nor an IPv4 or IPv6 address', (path,))
        else:
            if ip.is_multicast or str(ip) == "255.255.255.255":
                yield Finding(f"{ip} is not an address of a host; multicast and broadcast are never taken", (path,))
            elif ip.is_unspecified:
                yield Finding(f'{ip} means any address; write "any"', (path,))
            elif getattr(ip, "scope_id", None):
                yield Finding(f"{ip}: leave out the zone (%...); the device is interface.name", (path,))
    if isinstance(rule.vlan, tuple) and len(rule.vlan) != 2:
        yield Finding(
            f"{list(rule.vlan)} is not a pair; write one VLAN as a plain number, two as [outer, inner]",
            (("capture", number, "vlan"),),
        )
    elif isinstance(rule.vlan, tuple) and 0 in rule.vlan:
        yield Finding(
            "0 means no tag, and a pair has two; write one VLAN as a plain number", (("capture", number, "vlan"),)
        )


def _quic(config: Config) -> Iterator[Finding]:
    size = config.quic.max_stream_bytes
    if size & (size - 1):
        low = 1 << (size.bit_length() - 1)
        yield Finding(
            f"{size} is not a power of two; the nearest are {low} and {low * 2}", (("quic", "max_stream_bytes"),)
        )
    if config.quic.max_data < size:
        yield Finding(
            "a connection must have room for one stream: quic.max_data must be at least quic.max_stream_bytes",
            (("quic", "max_data"), ("quic", "max_stream_bytes")),
        )
    connects: tuple[Connect | Listen, ...] = config.connects
    listens: tuple[Connect | Listen, ...] = config.listens
    for section, rows in (("connect", connects), ("listen", listens)):
        names: dict[str, int] = {}
        for number, row in enumerate(rows):
            first = names.setdefault(row.name, number)
            if first != number:
                yield Finding(
                    f'"{row.name}" is already the name of {{other}}',
                    ((section, number, "name"), (section, first, "name")),
                )
            if row.address != "any" or section == "connect":
                yield from _quic_address(row.address, (section, number, "address"), local=section == "listen")
    for number, connect in enumerate(config.connects):
        try:
            pinned = base58.decode(connect.pin)
        except ValueError:
            pinned = b""
        if connect.pin and len(pinned) != 32:
            yield Finding(f"{len(pinned)} bytes; a public key has 32", (("connect", number, "pin"),))
    yield from _places(config)


def _quic_address(text: str, path: Path, *, local: bool) -> Iterator[Finding]:
    try:
        ip = ip_address(text)
    except ValueError:
        what = 'neither "any" nor an IPv4 or IPv6 address' if local else "not an IP address (names are not resolved)"
        yield Finding(f'"{text}" is {what}', (path,))
        return
    if ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255":
        yield Finding(f"{ip} is not an address of a host", (path,))
    elif ip.version == 6 and ip.is_link_local:
        yield Finding(f"{ip} is link-local: connections go by addresses that are routed", (path,))


def _places(config: Config) -> Iterator[Finding]:
    """A port belongs to one listener or rule."""
    taken: dict[tuple[str, int], Path] = {}
    for number, rule in enumerate(config.captures):
        if rule.vlan == 0:
            taken.setdefault((rule.address, rule.port), ("capture", number, "port"))
    for number, listen in enumerate(config.listens):
        path: Path = ("listen", number, "port")
        first = taken.setdefault((listen.address, listen.port), path)
        if first != path:
            yield Finding(f"{listen.address} port {listen.port} already belongs to {{other}}", (path, first))
