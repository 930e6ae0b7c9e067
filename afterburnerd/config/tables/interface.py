"""The network device and its packet memory: `[interface]`, `[memory]`.

Both say how packets come off the device; who then works on them is in `worker.py`, which packets are ours in
`capture.py`.
"""

from typing import Annotated, Literal

from afterburnerd.config.key import QueueIndex, Shape, Table, key


class Interface(Table, frozen=True):
    """The network device and the way packets are taken from it."""

    name: Annotated[
        str,
        key(
            "Network device to serve. Empty: the device of the default route, if there is exactly one.",
            reload="restart",
            why="most trading hosts have one uplink; with more the daemon refuses to guess",
            example='"eth0"',
            shape=Shape(r"^[^\s/:]{0,15}$", "a device name of at most 15 characters"),
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
            "Packets larger than one frame. `auto` receives and sends them in several frames (XDP_USE_SG) where kernel "
            "and driver can; `off` refuses to start on a device whose MTU needs it.",
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
