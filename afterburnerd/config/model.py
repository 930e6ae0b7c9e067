"""The configuration as data: one frozen struct a table, one annotated field a key.

This file is the only place where a key exists. Everything an operator reads about a key comes from its
annotation: the comment in `config/afterburner.toml`, the row in `docs/configuration.md`, the range in an error
message, and what a reload does with it.

    Annotated[int, key("what it is", reload=..., unit=..., why="reason of the default", ge=..., le=...)]
              |    |                                                                     |
              |    `- carried as msgspec.Meta(description, extra)                        `- checked by msgspec
              `- the TOML type

Conventions: an empty string means "choose for me" or "off" (the help says which), so that every key has a default
that can be written down; units are in the key's name (`_ms`, `_us`, `_bytes`). What one key alone cannot tell, such
as two rules on one port, is in `check.py`. What only the machine can tell, such as whether CPU 3 exists, is not
checked here at all: a file must be checkable on another machine than the one it is for; `afterburnerctl doctor` and
the start of the daemon look at the machine.

Reload classes, from cheap to expensive:

    live         applied to the running processes; no packet is lost for it
    data-plane   the reload restarts the data plane process; the XDP program stays, arriving packets of the
                 fast path are dropped and counted meanwhile (well under a second)
    restart      the whole daemon has to be restarted; a reload that changes such a key is refused as a whole
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Reload = Literal["live", "data-plane", "restart"]


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table: immutable, so a reload can compare and swap whole configurations."""


def key(
    text: str,
    *,
    reload: Reload,
    why: str = "",
    unit: str = "",
    example: str = "",
    ge: int | None = None,
    le: int | None = None,
    pattern: str | None = None,
    shape: str = "",
) -> Meta:
    """Describe one key.

    text:    what the key is, in sentences.
    why:     the reason of the default: a measurement, a source, or what it costs to be wrong.
    unit:    unit of the value, for the reference page.
    example: TOML text to show where the default says nothing (commented out in the shipped file).
    shape:   `pattern` in words, for messages.
    """
    extra: dict[str, Any] = {"reload": reload, "why": why, "unit": unit, "example": example, "shape": shape}
    limits: dict[str, Any] = {"ge": ge, "le": le, "pattern": pattern}
    meta: Meta = Meta(description=text, extra=extra, **{k: v for k, v in limits.items() if v is not None})
    return meta


MAX_QUEUES = 64
"""Receive queues that can be served (AB_MAX_QUEUES)."""
MAX_CAPTURES = 64
"""Capture rules of one configuration (AB_MAX_RULES)."""

QueueIndex = Annotated[int, Meta(ge=0, le=MAX_QUEUES - 1)]
VlanId = Annotated[int, Meta(ge=0, le=4094)]
Address = IPv4Address | IPv6Address


class Daemon(Table, frozen=True):
    """The daemon itself: its name, where it lives, what it says."""

    name: Annotated[
        str,
        key(
            "Name of this instance. Shared memory is called `/<name>.stats` and `/<name>.records.<worker>`, "
            "so two instances on one machine need two names.",
            reload="restart",
            why="one instance a machine is the usual case",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
            shape="at most 63 letters, digits, _ and -",
        ),
    ] = "afterburner"
    run_dir: Annotated[
        str,
        key(
            "Directory of the control socket (`control.sock`). It must exist and belong to the daemon's user.",
            reload="restart",
            why="systemd creates it (RuntimeDirectory=)",
            pattern=r"^/",
            shape="an absolute path",
        ),
    ] = "/run/afterburner"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        key("Least severity that is logged.", reload="live", why="info logs changes of state, never packets"),
    ] = "info"
    user: Annotated[
        str,
        key(
            "User that the data plane becomes when the daemon was started by root. Empty: it stays the user that "
            "the daemon runs as, without any capability.",
            reload="data-plane",
            why="the systemd unit already runs the daemon as a system user",
            example='"afterburner"',
            pattern=r"^([a-z_][a-z0-9_-]{0,31})?$",
            shape="a user name",
        ),
    ] = ""


class Interface(Table, frozen=True):
    """The network device and the way packets are taken from it."""

    name: Annotated[
        str,
        key(
            "Network device to serve. Empty: the device of the default route, if there is exactly one.",
            reload="restart",
            why="most trading hosts have one uplink; with more the daemon refuses to guess",
            example='"eth0"',
            pattern=r"^[^\s/:]{0,15}$",
            shape="a device name of at most 15 characters",
        ),
    ] = ""
    mode: Annotated[
        Literal["auto", "zero-copy", "copy", "generic", "socket"],
        key(
            "How packets are taken from the device. `auto` goes down the ladder zero-copy, copy, generic, socket and "
            "takes the first that works; any other value takes that one or refuses to start. `socket` needs no "
            "privileges. The mode in force is shown by `afterburnerctl status`.",
            reload="restart",
            why="the best that a device can do is found by trying, not by its name",
        ),
    ] = "auto"
    queues: Annotated[
        Literal["all"] | tuple[QueueIndex, ...],
        key(
            'Receive queues to serve: "all", or a list of indices. Packets for us that arrive on a queue that is not '
            "served are dropped and counted, so a list belongs together with a steering rule (ethtool -N).",
            reload="data-plane",
            why="RSS may put a flow on any queue",
        ),
    ] = "all"
    verify_udp_checksum: Annotated[
        bool,
        key(
            "Verify the UDP checksum of received packets in software. Leave it off on veth and other virtual devices "
            "whose sender does not fill in the checksum.",
            reload="data-plane",
            why="NICs verify it; virtual devices leave it partial, and every packet would be dropped",
        ),
    ] = False
    timestamps: Annotated[
        bool,
        key(
            "Stamp packets in the XDP program, so that the time from the driver to the worker is measured.",
            reload="data-plane",
            why="one clock read a packet buys the latency histogram that everything is judged by",
        ),
    ] = True
    busy_poll: Annotated[
        bool,
        key(
            "Let the worker drive the NIC's NAPI itself (SO_PREFER_BUSY_POLL). For real NICs, together with "
            "napi_defer_hard_irqs and gro_flush_timeout; `afterburnerctl doctor` prints the commands.",
            reload="data-plane",
            why="virtual devices have no NAPI worth driving, and without the two settings it gains nothing",
        ),
    ] = False
    busy_poll_us: Annotated[
        int,
        key(
            "Longest time of one busy poll (SO_BUSY_POLL).",
            reload="data-plane",
            unit="microseconds",
            why="64 us with a budget of 64 is a published good start for AF_XDP",
            ge=1,
            le=10_000,
        ),
    ] = 64
    busy_poll_budget: Annotated[
        int,
        key(
            "Most packets of one busy poll (SO_BUSY_POLL_BUDGET).",
            reload="data-plane",
            unit="packets",
            why="one NAPI budget",
            ge=1,
            le=65_535,
        ),
    ] = 64
    jumbo: Annotated[
        Literal["auto", "off"],
        key(
            "Packets larger than one frame. `auto` accepts them in several frames (XDP_USE_SG) where kernel and "
            "driver can; `off` refuses to start on a device whose MTU needs it.",
            reload="restart",
            why="a 9000 byte MTU on either end of a link makes native XDP fail without it",
        ),
    ] = "auto"


class Memory(Table, frozen=True):
    """Packet memory (UMEM) and rings. Each queue has its own: `frames` times `frame_size` bytes."""

    frame_size: Annotated[
        Literal[2048, 4096],
        key(
            "Size of one packet frame. With 2048 and an MTU of at most 1,500 a message over AF_XDP takes 0.2 us less, one way: "
            "frames of a page lie alike in their pages, so all first bytes want the same places of the cache.",
            reload="data-plane",
            unit="bytes",
            why="one page: no packet of a usual MTU is ever split, with tags and metadata, and every driver accepts it",
        ),
    ] = 4096
    frames: Annotated[
        int,
        key(
            "Frames of each queue, for both directions. A power of two, and at least as many as `ring`.",
            reload="data-plane",
            unit="frames",
            why="8 MiB a queue: 1.7 ms of packets at 1.2 Mpps",
            ge=128,
            le=1_048_576,
        ),
    ] = 2048
    ring: Annotated[
        int,
        key(
            "Depth of the RX, TX, FILL and COMPLETION rings of each queue. A power of two, whatever the NIC reports "
            "for its own rings.",
            reload="data-plane",
            unit="descriptors",
            why="as deep as there are frames: no burst is lost while frames are free",
            ge=64,
            le=65_536,
        ),
    ] = 2048
    huge_pages: Annotated[
        Literal["auto", "require", "off"],
        key(
            "2 MiB pages for packet memory. `auto` falls back to normal pages and says how to get huge ones; "
            "`require` refuses to start without them.",
            reload="data-plane",
            why="fewer TLB misses where they are reserved, and a start where they are not",
        ),
    ] = "auto"


class Worker(Table, frozen=True):
    """A data plane process. Without any `[[worker]]` there is one, with these defaults."""

    cpu: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=0, le=8191)],
        key(
            'CPU that the worker is pinned to. "auto": the last isolated one, else the last that the daemon may use; the '
            "next worker gets the one before. CPU 0 only where there is no other.",
            reload="data-plane",
            why="the machine knows better than a file which of its CPUs are isolated",
        ),
    ] = "auto"
    queues: Annotated[
        Literal["all"] | tuple[QueueIndex, ...],
        key(
            'Receive queues of this worker: "all" that `interface.queues` names, or a list. With several workers each '
            "needs its own list, and every queue exactly one worker.",
            reload="data-plane",
            why="one worker serves everything until it is the bottleneck",
        ),
    ] = "all"
    nice: Annotated[
        int,
        key(
            "Nice value of the worker.",
            reload="data-plane",
            why="ahead of ordinary processes, behind the kernel's own threads",
            ge=-20,
            le=19,
        ),
    ] = -10
    fifo: Annotated[
        int,
        key(
            "SCHED_FIFO priority; 0: off. Only with a fixed `cpu`, and the daemon refuses it unless that CPU is "
            "isolated.",
            reload="data-plane",
            why="a spinning FIFO thread starves ksoftirqd of its CPU, and with it the very packets it waits for",
            ge=0,
            le=98,
        ),
    ] = 0
    idle: Annotated[
        Literal["spin", "sleep"],
        key(
            "What the worker does when there is nothing to do: `spin` takes a whole CPU and reacts in well under a "
            "microsecond, `sleep` waits in the kernel.",
            reload="data-plane",
            why="latency is what this daemon is for; choose sleep on a shared or battery-powered machine",
        ),
    ] = "spin"


class Records(Table, frozen=True):
    """The ring of decoded records in shared memory that `afterburnerctl inspect` and clients follow."""

    slots: Annotated[
        int,
        key(
            "Records that the ring of each worker holds. A power of two. A reader that falls further behind than this "
            "loses records, and learns how many.",
            reload="data-plane",
            unit="records",
            why="12.5 MiB a worker; 8 ms of records at a million a second",
            ge=64,
            le=4_194_304,
        ),
    ] = 8192
    slot_bytes: Annotated[
        int,
        key(
            "Bytes of one record, header included. A multiple of 64. A longer payload is cut, and says so: a version 1 "
            "transaction loses its signatures then, which stand at its end. The longest one takes 4224.",
            reload="data-plane",
            unit="bytes",
            why="header (128 bytes) and all that one datagram carries where the MTU is 1500",
            ge=256,
            le=65_536,
        ),
    ] = 1600


class Watch(Table, frozen=True):
    """How the supervisor watches the data plane, and how it brings it back."""

    hang_ms: Annotated[
        int,
        key(
            "A data plane whose heartbeat stands still for this long is killed and started again. (A dead one is "
            "noticed at once.)",
            reload="live",
            unit="milliseconds",
            why="longer than any pause that a busy machine causes, shorter than an operator's patience",
            ge=50,
            le=60_000,
        ),
    ] = 500
    start_ms: Annotated[
        int,
        key(
            "Longest time that a data plane may take from its start to its first heartbeat.",
            reload="live",
            unit="milliseconds",
            why="registering and zeroing large packet memory takes time; serving again takes well under a second",
            ge=500,
            le=120_000,
        ),
    ] = 5_000
    backoff_min_ms: Annotated[
        int,
        key(
            "Pause before the second restart in a row; it doubles with each further one. The first restart is "
            "immediate.",
            reload="live",
            unit="milliseconds",
            why="one crash is an accident, and costs no pause",
            ge=10,
            le=60_000,
        ),
    ] = 100
    backoff_max_ms: Annotated[
        int,
        key(
            "Longest pause between restarts.",
            reload="live",
            unit="milliseconds",
            why="a fault that repeats is logged often enough to be seen and seldom enough to be read",
            ge=10,
            le=600_000,
        ),
    ] = 5_000
    steady_ms: Annotated[
        int,
        key(
            "A data plane that has run for this long is healthy again: its next failure counts as the first.",
            reload="live",
            unit="milliseconds",
            why="twice the longest pause",
            ge=100,
            le=3_600_000,
        ),
    ] = 10_000


class Exporter(Table, frozen=True):
    """The page that Prometheus scrapes (`/metrics`) and the health page (`/healthz`)."""

    listen: Annotated[
        str,
        key(
            'Address and port, "127.0.0.1:9475" or "[::1]:9475". Empty: no exporter.',
            reload="live",
            why="figures about a trading host are nobody else's business: open it deliberately",
        ),
    ] = "127.0.0.1:9475"


class Xdp(Table, frozen=True):
    """Protection of the slow path: token buckets in the XDP program, before a packet costs the host anything."""

    initial_rate: Annotated[
        int,
        key(
            "Connection attempts (QUIC Initial and 0-RTT packets on a listening port) admitted a second, from all "
            "sources together. 0: no limit.",
            reload="live",
            unit="packets/second",
            why="several times what the supervisor can shake hands with; above it Retry is on anyway",
            ge=0,
            le=10_000_000,
        ),
    ] = 2_000
    initial_burst: Annotated[
        int,
        key(
            "Connection attempts admitted at once, from all sources together.",
            reload="live",
            unit="packets",
            why="a cluster's validators reconnecting together after a restart",
            ge=1,
            le=10_000_000,
        ),
    ] = 4_000
    source_rate: Annotated[
        int,
        key(
            "Connection attempts admitted a second from one source (IPv4 address or IPv6 /64). 0: no limit.",
            reload="live",
            unit="packets/second",
            why="an honest peer needs two or three packets a handshake",
            ge=0,
            le=10_000_000,
        ),
    ] = 50
    source_burst: Annotated[
        int,
        key(
            "Connection attempts admitted at once from one source.",
            reload="live",
            unit="packets",
            why="a peer that opens its eight connections together, with repeats",
            ge=1,
            le=10_000_000,
        ),
    ] = 100
    short_rate: Annotated[
        int,
        key(
            "Packets of unknown connections (short header) that reach the supervisor a second. 0: no limit.",
            reload="live",
            unit="packets/second",
            why="strays deserve a stateless reset, floods of them do not",
            ge=0,
            le=10_000_000,
        ),
    ] = 1_000
    short_burst: Annotated[
        int,
        key(
            "Packets of unknown connections that reach the supervisor at once.",
            reload="live",
            unit="packets",
            why="the peers of a restarted daemon all send at once",
            ge=1,
            le=10_000_000,
        ),
    ] = 2_000
    max_cids: Annotated[
        int,
        key(
            "Size of the table of local connection IDs. Each connection has up to eight, and retired ones stay for "
            "three probe timeouts.",
            reload="restart",
            unit="entries",
            why="some eight thousand connections",
            ge=256,
            le=16_777_216,
        ),
    ] = 65_536


class Capture(Table, frozen=True):
    """A rule: datagrams to this local address and port are ours, and this is what is done with them."""

    name: Annotated[
        str,
        key(
            "Name of the rule, in metrics and records. Unique.",
            reload="live",
            example='"tpu"',
            pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$",
            shape="at most 31 small letters, digits, _ and -",
        ),
    ]
    port: Annotated[
        int,
        key("Local UDP port.", reload="live", example="8001", ge=1, le=65_535),
    ]
    address: Annotated[
        str,
        key(
            'Local address, IPv4 or IPv6, or "any": every address of the device, followed as they change. Where both '
            "match, the rule with the address wins.",
            reload="live",
            why="only packets to the host itself are ever taken, never forwarded or multicast ones",
        ),
    ] = "any"
    vlan: Annotated[
        # Not tuple[VlanId, VlanId]: msgspec 0.22 crashes in the garbage collector on a union of a bounded integer and
        # a tuple of fixed length. check.py sees to the length.
        VlanId | tuple[VlanId, ...],
        key(
            "VLAN of the packets as they arrive: 0 for untagged, an ID, or [outer, inner]. A NIC that strips tags "
            "(ethtool rxvlan) makes them untagged.",
            reload="live",
            why="untagged",
        ),
    ] = 0
    decoder: Annotated[
        Literal["solana-tx", "raw", "count", "echo"],
        key(
            "What is done with the datagrams: `solana-tx` decodes a Solana transaction, `raw` records them as they "
            "are, `count` counts them and nothing else, `echo` sends them back to their sender (for measuring; never "
            "on an open network).",
            reload="live",
            why="transactions are what this daemon is for",
        ),
    ] = "solana-tx"

    @property
    def vlans(self) -> tuple[int, int]:
        """(outer, inner) VLAN IDs, 0 where there is no tag."""
        outer, inner = (self.vlan, 0) if isinstance(self.vlan, int) else self.vlan
        return outer, inner

    @property
    def ip(self) -> Address | None:
        """The address, or None for "any". An IPv4-mapped IPv6 address is the IPv4 address it means."""
        if self.address == "any":
            return None
        ip = ip_address(self.address)
        return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


class Quic(Table, frozen=True):
    """QUIC connections: who we are in them, what we promise, how we send. In force where `[[connect]]` or `[[listen]]` is."""

    identity: Annotated[
        str,
        key(
            "Solana keypair file (JSON, as solana-keygen writes it) whose key our certificate carries. Empty: a key made "
            "with each start.",
            reload="restart",
            why="stake-weighted service goes by this key; without stake any key does",
            example='"/etc/afterburner/identity.json"',
            pattern=r"^(/.*)?$",
            shape="an absolute path",
        ),
    ] = ""
    reset_key: Annotated[
        str,
        key(
            "File with the key of our stateless reset tokens; made if it is not there. Empty: `reset.key` in "
            "`daemon.run_dir`.",
            reload="restart",
            why="peers of a daemon that was restarted believe its resets and dial anew at once",
            pattern=r"^(/.*)?$",
            shape="an absolute path",
        ),
    ] = ""
    alpn: Annotated[
        str,
        key(
            "Application protocol (ALPN) of dials and listeners.",
            reload="restart",
            why="what validators' TPU ports speak",
            pattern=r"^[\x21-\x7e]{1,32}$",
            shape="1 to 32 printable ASCII characters without spaces",
        ),
    ] = "solana-tpu"
    idle_timeout_ms: Annotated[
        int,
        key(
            "A connection on which nothing arrives for so long is over. Each side may ask for less.",
            reload="restart",
            unit="milliseconds",
            why="Agave's servers have 30 s, Firedancer's 10 s",
            ge=1_000,
            le=600_000,
        ),
    ] = 30_000
    keep_alive_ms: Annotated[
        int,
        key(
            "A connection that has been still for so long is kept alive with a PING; 0: never.",
            reload="data-plane",
            unit="milliseconds",
            why="some servers give up after 2 s; the validators' own client sends one a second",
            ge=0,
            le=600_000,
        ),
    ] = 1_000
    connections: Annotated[
        int,
        key(
            "Connections of one worker, ours and those of our listeners; more are refused with CONNECTION_REFUSED.",
            reload="data-plane",
            unit="connections",
            why="as many as there are validators, twice over",
            ge=1,
            le=32_768,
        ),
    ] = 4_096
    max_streams: Annotated[
        int,
        key(
            "Unidirectional streams that a peer may have open towards us; each carries one transaction.",
            reload="restart",
            unit="streams",
            why="what Agave grants a staked peer at 100 ms",
            ge=0,
            le=16_384,
        ),
    ] = 2_048
    max_stream_bytes: Annotated[
        int,
        key(
            "Bytes of one stream that a peer may have under way towards us. A power of two.",
            reload="restart",
            unit="bytes",
            why="the longest transaction (4,096 bytes) several times over",
            ge=4_096,
            le=1_048_576,
        ),
    ] = 16_384
    max_data: Annotated[
        int,
        key(
            "Bytes of all streams of a connection that a peer may have under way towards us.",
            reload="restart",
            unit="bytes",
            why="what Agave grants",
            ge=16_384,
            le=1_073_741_824,
        ),
    ] = 8_388_608
    receive: Annotated[
        Literal["auto", "afxdp", "socket"],
        key(
            "How packets of connections come in: `afxdp` takes them off the interface's queues, `socket` off UDP sockets, "
            "`auto` decides by the interface's mode and a test on a private virtual pair. `afterburnerctl status` shows "
            "what is in force, and why. Where the interface is served by sockets altogether, this is too.",
            reload="restart",
            why="AF_XDP has the lower latency wherever it works",
        ),
    ] = "auto"
    send: Annotated[
        Literal["auto", "afxdp", "socket"],
        key(
            "How packets of connections go out, as `receive`. On devices without zero-copy `socket` sends several times "
            "as many packets a second (UDP GSO), each a microsecond later.",
            reload="restart",
            why="a transaction is worth most when it leaves at once",
        ),
    ] = "auto"
    congestion: Annotated[
        Literal["cubic", "newreno"],
        key("Congestion control.", reload="data-plane", why="what the validators' own client uses"),
    ] = "cubic"
    initial_window: Annotated[
        int,
        key(
            "Congestion window of a fresh connection.",
            reload="data-plane",
            unit="bytes",
            why="128 packets of 1,232 bytes, as the validators' own client has it",
            ge=2_464,
            le=16_777_216,
        ),
    ] = 157_696
    hystart: Annotated[
        bool,
        key(
            "Leave slow start when the round trip grows, before packets are lost (HyStart++, RFC 9406).",
            reload="data-plane",
            why="round trips of a loaded host vary more than a queue on the way adds; for long paths with deep queues",
        ),
    ] = False
    ack_threshold: Annotated[
        int,
        key(
            "Packets of a peer that one acknowledgement waits for at most, and a quarter of the round trip (1 ms) at the "
            "longest. 2 is what RFC 9000 recommends; what comes out of order is acknowledged at once.",
            reload="data-plane",
            unit="packets",
            why="an acknowledgement costs either end about as much as a packet of data",
            ge=1,
            le=1024,
        ),
    ] = 32
    pacing: Annotated[
        bool,
        key(
            "Spread packets over the round trip instead of sending what the window allows at once.",
            reload="data-plane",
            why="a transaction is worth most when it leaves at once, and windows are seldom full",
        ),
    ] = False
    ecn: Annotated[
        bool,
        key(
            "Mark packets as capable of ECN (ECT(0)), towards peers that prove to report the marks, and slow down where the "
            "network marks congestion.",
            reload="data-plane",
            why="a router that would drop a packet marks it instead; a path that loses or clears marks is noticed",
        ),
    ] = True
    trace_dir: Annotated[
        str,
        key(
            "Where `afterburnerctl qlog` and `afterburnerctl keylog` write, for each connection that is traced. Empty: "
            "`trace` in `daemon.run_dir`.",
            reload="live",
            why="goes with the daemon; choose a place on a disk to keep them",
            pattern=r"^(/.*)?$",
            shape="an absolute path",
        ),
    ] = ""
    trace_bytes: Annotated[
        int,
        key(
            "Largest size of each such file, together with the one before it (`.1`).",
            reload="live",
            unit="bytes",
            why="some 20,000 packets; 64 files are kept at most",
            ge=65_536,
            le=1 << 40,
        ),
    ] = 4_194_304
    allow_keylog: Annotated[
        bool,
        key(
            "Allow `afterburnerctl keylog`, which writes the keys of connections to files.",
            reload="live",
            why="whoever has them reads, from a capture, all that was said: for test networks",
        ),
    ] = False
    early_data: Annotated[
        bool,
        key(
            "Send waiting messages in 0-RTT where a server's ticket allows it. What is sent so can be replayed by "
            "others; transactions are idempotent by their signature.",
            reload="live",
            why="a round trip sooner",
        ),
    ] = True


class Connect(Table, frozen=True):
    """A QUIC server that is dialled, and dialled again whenever its connection ends."""

    name: Annotated[
        str,
        key(
            "Name of the connection, in metrics and commands. Unique among `[[connect]]`.",
            reload="live",
            example='"leader"',
            pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$",
            shape="at most 31 small letters, digits, _ and -",
        ),
    ]
    address: Annotated[
        str, key("IPv4 or IPv6 address of the server. Names are not resolved.", reload="live", example='"192.0.2.7"')
    ]
    port: Annotated[int, key("UDP port of the server.", reload="live", example="8009", ge=1, le=65_535)]
    server_name: Annotated[
        str,
        key(
            "Name that is asked for (SNI). Empty: `{address}.{port}.sol`, as validators expect it.",
            reload="live",
            why="tokens and tickets stay with the server that gave them",
            pattern=r"^[A-Za-z0-9._-]{0,253}$",
            shape="a host name",
        ),
    ] = ""
    pin: Annotated[
        str,
        key(
            "Public key (base58) that the server must prove to have. Empty: any key.",
            reload="live",
            why="the identity of a leader is known from the cluster, of others it is not",
            pattern=r"^([1-9A-HJ-NP-Za-km-z]{32,44})?$",
            shape="a Solana public key",
        ),
    ] = ""
    timeout_ms: Annotated[
        int,
        key(
            "Longest time for a handshake.",
            reload="live",
            unit="milliseconds",
            why="the validators' own client gives up then",
            ge=100,
            le=60_000,
        ),
    ] = 4_000
    messages: Annotated[
        int,
        key(
            "Messages that are kept until the server has acknowledged them. More are pushed back.",
            reload="live",
            unit="messages",
            why="a second's worth at 4,000 a second",
            ge=1,
            le=1_048_576,
        ),
    ] = 4_096
    streams: Annotated[
        Literal["uni", "kept"],
        key(
            "What messages travel on: `uni` gives each a unidirectional stream of its own that ends with it; `kept` puts them "
            "one behind the other on the bidirectional streams 0, 4, 8 and 12, in turn, which stay open.",
            reload="live",
            why="what validators read; on streams that are kept a message has no borders, and none goes in 0-RTT",
        ),
    ] = "uni"


class Listen(Table, frozen=True):
    """A local UDP port on which QUIC connections are accepted; what arrives goes to the record ring."""

    name: Annotated[
        str,
        key(
            "Name of the listener, in metrics. Unique among `[[listen]]`.",
            reload="live",
            example='"tpu"',
            pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$",
            shape="at most 31 small letters, digits, _ and -",
        ),
    ]
    port: Annotated[int, key("Local UDP port.", reload="live", example="8009", ge=1, le=65_535)]
    address: Annotated[
        str,
        key(
            'Local address, IPv4 or IPv6, or "any": every address of the device.',
            reload="live",
            why="packets to the host itself, whatever its addresses are",
        ),
    ] = "any"
    retry: Annotated[
        Literal["auto", "always", "never"],
        key(
            "Whether clients have to prove their address by a Retry first: `auto` from `retry_from` handshakes under "
            "way on.",
            reload="live",
            why="a Retry costs honest clients a round trip, and only a flood makes it worth that",
        ),
    ] = "auto"
    retry_from: Annotated[
        int,
        key(
            "Handshakes under way from which on `auto` asks for Retry.",
            reload="live",
            unit="handshakes",
            why="a tenth of a second's worth of handshakes",
            ge=0,
            le=65_536,
        ),
    ] = 32
    handshakes: Annotated[
        int,
        key(
            "Handshakes under way at once; more are refused.",
            reload="live",
            unit="handshakes",
            why="about a second's worth, at 100 KiB each",
            ge=1,
            le=65_536,
        ),
    ] = 256
    per_source: Annotated[
        int,
        key(
            "Handshakes under way at once from one source (IPv4 address or IPv6 /64).",
            reload="live",
            unit="handshakes",
            why="an honest peer opens eight connections",
            ge=1,
            le=65_536,
        ),
    ] = 32
    connections: Annotated[
        int,
        key("Connections at once; more are refused.", reload="live", why="the table of one worker", ge=1, le=65_536),
    ] = 4_096
    timeout_ms: Annotated[
        int,
        key(
            "Longest time for a handshake.",
            reload="live",
            unit="milliseconds",
            why="what validators give a client",
            ge=100,
            le=60_000,
        ),
    ] = 2_000


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


def parse_listen(text: str) -> tuple[str, int] | None:
    """Split "host:port" or "[v6]:port" of an exporter; None when it is empty (off). ValueError says what is wrong."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("has no port; write it as address:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets, as in [::1]:9475")
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f'"{host}" is not an IP address (names are not resolved)') from None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f'"{port}" is not a port; ports are 1 to 65535')
    return host, int(port)
