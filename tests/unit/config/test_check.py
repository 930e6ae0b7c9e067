"""Keys that contradict each other are found, and keys that do not are left alone."""

from __future__ import annotations

import pytest

from afterburnerd.abi import layout
from afterburnerd.config import Config, Source, model, parse, schema
from afterburnerd.config.check import check


def problems(text: str) -> list[str]:
    _, found = parse([Source("f", text)])
    return [str(p) for p in found]


def rule(name: str, port: int = 8001, more: str = "") -> str:
    return f'[[capture]]\nname = "{name}"\nport = {port}\n{more}\n'


def test_the_defaults_agree_with_each_other() -> None:
    assert list(check(Config())) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[memory]\nring = 1000", "f:2: memory.ring: 1000 is not a power of two; the nearest are 512 and 1024"),
        ("[memory]\nframes = 3000", "f:2: memory.frames: 3000 is not a power of two; the nearest are 2048 and 4096"),
        ("[records]\nslots = 100", "f:2: records.slots: 100 is not a power of two; the nearest are 64 and 128"),
        (
            "[records]\nslot_bytes = 1400",
            "f:2: records.slot_bytes: 1400 is not a multiple of 64 (a cache line); the next one is 1408",
        ),
        (
            "[memory]\nring = 4096",
            "f:2: memory.ring: a ring of 4096 can never be filled from 2048 frames; memory.frames must be at least memory.ring",
        ),
        (
            "[memory]\nframes = 1024",
            "f:2: memory.frames: a ring of 2048 can never be filled from 1024 frames; memory.frames must be at least memory.ring",
        ),
        ("[interface]\nqueues = []", 'f:2: interface.queues: an empty list serves nothing; write "all" or the indices'),
        ("[interface]\nqueues = [1, 1]", "f:2: interface.queues: names queue 1 twice"),
        (
            "[[worker]]\nfifo = 5",
            "f:2: worker[0].fifo: a SCHED_FIFO worker needs a fixed CPU; set cpu to an isolated one as well",
        ),
        (
            "[watch]\nbackoff_min_ms = 6000",
            "f:2: watch.backoff_min_ms: the shortest pause (6000 ms) is longer than the longest (5000 ms, backoff_max_ms)",
        ),
        ('[exporter]\nlisten = "9475"', "f:2: exporter.listen: has no port; write it as address:port"),
        ('[exporter]\nlisten = "::1:9475"', "f:2: exporter.listen: an IPv6 address needs brackets, as in [::1]:9475"),
        (
            '[exporter]\nlisten = "localhost:1"',
            'f:2: exporter.listen: "localhost" is not an IP address (names are not resolved)',
        ),
        ('[exporter]\nlisten = "127.0.0.1:0"', 'f:2: exporter.listen: "0" is not a port; ports are 1 to 65535'),
        (
            rule("a", more='address = "10.0.0"'),
            'f:4: capture[0].address: "10.0.0" is neither "any" nor an IPv4 or IPv6 address',
        ),
        (rule("a", more='address = "0.0.0.0"'), 'f:4: capture[0].address: 0.0.0.0 means any address; write "any"'),
        (
            rule("a", more='address = "fe80::1%eth0"'),
            "f:4: capture[0].address: fe80::1%eth0: leave out the zone (%...); the device is interface.name",
        ),
        (
            rule("a", more="vlan = [1]"),
            "f:4: capture[0].vlan: [1] is not a pair; write one VLAN as a plain number, two as [outer, inner]",
        ),
        (
            rule("a", more="vlan = [0, 1]"),
            "f:4: capture[0].vlan: 0 means no tag, and a pair has two; write one VLAN as a plain number",
        ),
        (rule("a") + rule("a", 2), 'f:6: capture[1].name: "a" is already the name of capture[0] (f:2)'),
        (
            rule("a") + rule("b"),
            "f:7: capture[1].port: any port 8001 already belongs to capture[0] (f:3); a packet follows one rule only",
        ),
        (
            rule("a", more='address = "::ffff:10.0.0.1"') + rule("b", more='address = "10.0.0.1"'),
            "f:8: capture[1].address: 10.0.0.1 port 8001 already belongs to capture[0] (f:3); a packet follows one rule only",
        ),
    ],
)
def test_one_contradiction(text: str, message: str) -> None:
    assert problems(text) == [message]


def test_a_run_directory_must_leave_room_for_the_socket() -> None:
    assert problems(f'[daemon]\nrun_dir = "/{"x" * 93}"') == []  # 94 + len("/control.sock") == 107
    (problem,) = problems(f'[daemon]\nrun_dir = "/{"x" * 94}"')
    assert "is too long: the path of a unix socket has room for 107 bytes" in problem


@pytest.mark.parametrize("address", ["224.0.0.1", "ff02::1", "255.255.255.255"])
def test_group_addresses_are_never_captured(address: str) -> None:
    (problem,) = problems(rule("a", more=f'address = "{address}"'))
    assert "is not an address of a host" in problem


@pytest.mark.parametrize("more", ["port = 2", "vlan = 5", 'address = "10.0.0.1"'])
def test_rules_that_differ_in_one_thing_live_together(more: str) -> None:
    second = '[[capture]]\nname = "b"\n' + more + ("" if "port" in more else "\nport = 8001")
    assert problems(rule("a") + second) == []


def test_no_more_rules_than_the_data_plane_has_room_for() -> None:
    text = "".join(rule(f"r{n}", n + 1) for n in range(model.MAX_CAPTURES))
    assert problems(text) == []
    (problem,) = problems(text + rule("last", 9000))
    assert "there are 65 rules; 64 is the most" in problem


def worker(queues: str, more: str = "") -> str:
    return f"[[worker]]\nqueues = {queues}\n{more}\n"


def test_several_workers_divide_the_queues() -> None:
    assert problems("interface.queues = [0, 1, 2]\n" + worker("[0, 2]") + worker("[1]")) == []
    assert problems(worker("[0]", "cpu = 1") + worker("[1]", "cpu = 2")) == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (worker("[0]") + worker("[0]"), ["worker[1].queues: queue 0 already belongs to worker[0] (f:2)"]),
        (worker('"all"') + worker("[1]"), ["worker[0].queues: there are 2 workers"]),
        (
            worker("[0]", "cpu = 1") + worker("[1]", "cpu = 1"),
            ["worker[1].cpu: CPU 1 already belongs to worker[0] (f:3)"],
        ),
        ("interface.queues = [0]\n" + worker("[0, 1]"), ["worker[0].queues: queue 1 is not among interface.queues"]),
        ("interface.queues = [0, 1]\n" + worker("[0]"), ["interface.queues: queue 1 has no worker"]),
    ],
)
def test_workers_that_contradict_each_other(text: str, parts: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(parts)
    assert all(part in problem for part, problem in zip(parts, found, strict=True))


def test_limits_and_words_are_those_of_the_data_plane() -> None:
    """config imports nothing of ours, so what it repeats is compared here."""
    assert model.MAX_QUEUES == layout.MAX_QUEUES
    assert model.MAX_CAPTURES == layout.MAX_RULES
    section = schema.section("capture")
    assert section is not None
    key = section.key("decoder")
    assert key is not None
    assert set(schema.choices(key.type)) == {
        d.name.lower().replace("_", "-")
        for d in layout.Decoder
        if d is not layout.Decoder.QUIC  # not of a capture rule
    }


def connect(name: str, more: str = "") -> str:
    return f'[[connect]]\nname = "{name}"\naddress = "192.0.2.7"\nport = 8009\n{more}\n'


def listen(name: str, port: int = 8009, more: str = "") -> str:
    return f'[[listen]]\nname = "{name}"\nport = {port}\n{more}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (connect("a") + connect("a"), 'connect[1].name: "a" is already the name of connect[0]'),
        (listen("a") + listen("a", 1), 'listen[1].name: "a" is already the name of listen[0]'),
        (listen("a") + listen("b"), "any port 8009 already belongs to listen[0]"),
        (rule("a", 8009) + listen("b"), "any port 8009 already belongs to capture[0]"),
        (connect("a").replace("192.0.2.7", "any"), '"any" is not an IP address (names are not resolved)'),
        (connect("a").replace("192.0.2.7", "224.0.0.1"), "224.0.0.1 is not an address of a host"),
        (listen("a", more='address = "localhost"'), '"localhost" is neither "any" nor an IPv4 or IPv6 address'),
        (connect("a", 'pin = "1111111111111111111111111111111111111111"'), "40 bytes; a public key has 32"),
        ("[quic]\nmax_stream_bytes = 5000", "5000 is not a power of two; the nearest are 4096 and 8192"),
        ("[quic]\nmax_data = 16384\nmax_stream_bytes = 32768", "must be at least quic.max_stream_bytes"),
    ],
)
def test_one_contradiction_of_quic(text: str, expected: str) -> None:
    (problem,) = problems(text)
    assert expected in problem
