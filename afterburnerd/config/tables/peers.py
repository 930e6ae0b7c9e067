"""Whom we speak QUIC to: servers that are dialled (`[[connect]]`), ports that accept (`[[listen]]`)."""

from typing import Annotated, Literal

from afterburnerd.config.key import NAME, Shape, Table, key


class Connect(Table, frozen=True):
    """A QUIC server that is dialled, and dialled again whenever its connection ends."""

    name: Annotated[
        str,
        key(
            "Name of the connection, in metrics and commands. Unique among `[[connect]]`.",
            reload="live",
            example='"leader"',
            shape=NAME,
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
            shape=Shape(r"^[A-Za-z0-9._-]{0,253}$", "a host name"),
        ),
    ] = ""
    pin: Annotated[
        str,
        key(
            "Public key (base58) that the server must prove to have. Empty: any key.",
            reload="live",
            why="the identity of a leader is known from the cluster, of others it is not",
            shape=Shape(r"^([1-9A-HJ-NP-Za-km-z]{32,44})?$", "a Solana public key"),
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
            shape=NAME,
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
