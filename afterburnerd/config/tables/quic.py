"""QUIC as all our connections speak it: `[quic]`. Whom we speak to is in `peers.py`."""

from typing import Annotated, Literal

from afterburnerd.config.key import PATH, Shape, Table, key


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
            shape=PATH,
        ),
    ] = ""
    reset_key: Annotated[
        str,
        key(
            "File with the key of our stateless reset tokens; made if it is not there. Empty: `reset.key` in "
            "`daemon.run_dir`.",
            reload="restart",
            why="peers of a daemon that was restarted believe its resets and dial anew at once",
            shape=PATH,
        ),
    ] = ""
    alpn: Annotated[
        str,
        key(
            "Application protocol (ALPN) of dials and listeners.",
            reload="restart",
            why="what validators' TPU ports speak",
            shape=Shape(r"^[\x21-\x7e]{1,32}$", "1 to 32 printable ASCII characters without spaces"),
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
            shape=PATH,
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
