"""The configuration as data: one frozen struct a table, one annotated field a key.

    Config (here) --> tables/daemon.py      [daemon], [exporter]
                  --> tables/interface.py   [interface], [memory]
                  --> tables/worker.py      [[worker]], [records], [watch]
                  --> tables/capture.py     [[capture]], [xdp]
                  --> tables/quic.py        [quic]
                  `-> tables/peers.py       [[connect]], [[listen]]

A key exists in one place, its field there; `key.py` says what its annotation carries. The order of the tables in the
shipped file and in the reference is that of the fields of `Config`.

Conventions: an empty string means "choose for me" or "off" (the help says which), so that every key has a default
that can be written down; units are in the key's name (`_ms`, `_us`, `_bytes`). What one key alone cannot tell, such
as two rules on one port, is in `check.py`. What only the machine can tell, such as whether CPU 3 exists, is not
checked here at all: a file must be checkable on another machine than the one it is for; `afterburnerctl doctor` and
the start of the daemon look at the machine.
"""

from msgspec import field

from afterburnerd.config.key import MAX_CAPTURES, MAX_QUEUES, Reload, Table
from afterburnerd.config.tables.capture import Capture, Xdp
from afterburnerd.config.tables.daemon import Daemon, Exporter, parse_listen
from afterburnerd.config.tables.interface import Interface, Memory
from afterburnerd.config.tables.peers import Connect, Listen
from afterburnerd.config.tables.quic import Quic
from afterburnerd.config.tables.worker import Records, Watch, Worker

__all__ = [
    "MAX_CAPTURES",
    "MAX_QUEUES",
    "Capture",
    "Config",
    "Connect",
    "Daemon",
    "Exporter",
    "Interface",
    "Listen",
    "Memory",
    "Quic",
    "Records",
    "Reload",
    "Table",
    "Watch",
    "Worker",
    "Xdp",
    "parse_listen",
]


class Config(Table, frozen=True):
    """The whole configuration. `Config()` is the default one."""

    daemon: Daemon = Daemon()
    interface: Interface = Interface()
    memory: Memory = Memory()
    workers: tuple[Worker, ...] = field(default=(Worker(),), name="worker")
    records: Records = Records()
    watch: Watch = Watch()
    exporter: Exporter = Exporter()
    xdp: Xdp = Xdp()
    captures: tuple[Capture, ...] = field(default=(), name="capture")
    quic: Quic = Quic()
    connects: tuple[Connect, ...] = field(default=(), name="connect")
    listens: tuple[Listen, ...] = field(default=(), name="listen")
