"""Generated from afterburnerd/abi/schema.py by `python -m afterburnerd.abi.generate`; do not edit.

Typed views of the shared layouts: `X.unpack(buffer, offset)` and `x.pack()`.
"""

# ruff: noqa: E501
from __future__ import annotations

import struct
from enum import IntEnum
from typing import ClassVar, Protocol, Self, TypeVar

import msgspec

Buffer = bytes | bytearray | memoryview

VERSION = 1
MAGIC = 0x3154415453424642
RECORD_MAGIC = 0x3143455253424642
HIST_SUB_BITS = 5
HIST_BUCKETS = 1152
CID_LEN = 8  # length of every connection ID that we mint: fixed, or XDP could not find them
MAX_QUEUES = 64  # receive queues of one interface that can be served
MAX_RULES = 64  # capture rules of one configuration
STAMP_MAGIC = 4702413677801590833  # second word of the metadata that XDP puts in front of a frame
XDP_STAMP = 1  # settings flag: put struct ab_xdp_meta in front of captured frames
PORT_LISTEN = 1  # port flag: we accept connections here, so Initials go through the buckets
QUIC_CIDS = 8  # connection IDs of each side that an adoption hands over at most
QUIC_EARLY = 16  # ranges of 0-RTT packet numbers that an adoption hands over at most
QUIC_TPARAMS = 512  # longest transport-parameter extension
QUIC_CRYPTO = 1024  # longest run of 1-RTT CRYPTO bytes of one command or event
QUIC_REASON = 256  # longest reason phrase that is sent or reported; a longer one is cut
QUIC_COMMAND_BYTES = 4096  # slot of the command ring
QUIC_EVENT_BYTES = 2048  # slot of the event ring
QUIC_RING_MAGIC = 3553712094509680194  # first word of a ring of commands or events
QUIC_ROWS_MAGIC = 6002822503909705282  # first word of a table of connections
QUIC_SEND_FIN = 1  # SEND flag: ends the stream (implied by UNI)
QUIC_SEND_MORE = 2  # SEND flag: the next SEND of this connection continues the message
QUIC_CLOSE_APP = 1  # CLOSE flag: the code is the application's (frame 0x1d)


class Packable(Protocol):
    SIZE: ClassVar[int]

    def pack(self) -> bytes: ...

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self: ...


T = TypeVar("T", bound=Packable)


def pack_array(items: tuple[T, ...], of: type[T], room: int) -> bytes:
    if len(items) > room:
        raise ValueError(f"{len(items)} of {of.__name__}, room for {room}")
    return b"".join(item.pack() for item in items)


def unpack_array(data: bytes, of: type[T]) -> tuple[T, ...]:
    return tuple(of.unpack(data, i) for i in range(0, len(data), of.SIZE))


class XdpReason(IntEnum):
    """What the XDP program did with a frame, and why; one pair of counters each; the first word is the verdict."""

    PASS_BUSY = 0  # passed: came while another frame was being classified (PREEMPT_RT)
    PASS_NOT_IP = 1  # passed: neither IPv4 nor IPv6
    PASS_MULTICAST = 2  # passed: sent to a multicast or broadcast MAC address
    PASS_OTHER_HOST = 3  # passed: sent to another MAC address than the interface's
    PASS_VLAN_DEPTH = 4  # passed: more than two VLAN tags
    PASS_TRUNCATED = 5  # passed: ends inside a header
    PASS_NONLINEAR = 6  # passed: headers reach behind the first buffer of a multi-buffer frame
    PASS_IP_VERSION = 7  # passed: IP version does not agree with the EtherType
    PASS_NOT_UDP = 8  # passed: not UDP
    PASS_IPV4_IHL = 9  # passed: IPv4 header length below 20 bytes
    PASS_IPV4_OPTIONS = 10  # passed: IPv4 with options
    PASS_FRAGMENT = 11  # passed: IPv4 fragment, or its reserved bit set
    PASS_IP_LENGTH = 12  # passed: IP length below its header, or beyond the frame
    PASS_IPV6_EXTENSION = 13  # passed: IPv6 extension header
    PASS_IPV6_MAPPED = 14  # passed: IPv4-mapped address in an IPv6 header
    PASS_UDP_SHORT = 15  # passed: UDP length below its header
    PASS_UDP_LENGTH = 16  # passed: UDP length does not agree with the IP length
    PASS_NOT_OURS = 17  # passed: address, port and VLANs are not in the table
    PASS_LONG = 18  # passed to the supervisor: QUIC long header that needs no budget
    PASS_INITIAL = 19  # passed to the supervisor: QUIC Initial, 0-RTT or foreign version, within budget
    PASS_SHORT_UNKNOWN = 20  # passed to the supervisor: QUIC short header without a known connection ID
    REDIRECT_CID = 21  # redirected: QUIC short header with a known connection ID
    REDIRECT_CAPTURE = 22  # redirected: capture rule
    DROP_WORKER_DOWN = 23  # dropped: for the data plane, but its queue has no socket
    DROP_INITIAL_SOURCE = 24  # dropped: QUIC Initial over the budget of its source
    DROP_INITIAL_GLOBAL = 25  # dropped: QUIC Initial over the global budget
    DROP_SHORT_GLOBAL = 26  # dropped: unknown QUIC short header over the global budget


class Gbucket(IntEnum):
    """The global token buckets."""

    INITIAL = 0  # Initial, 0-RTT and foreign versions on listening ports
    SHORT = 1  # short headers without a known connection ID


class PortKind(IntEnum):
    """What a local address and port is used for."""

    NONE = 0  # not ours
    QUIC = 1  # QUIC: long and short headers part ways
    CAPTURE = 2  # capture rule: everything to the data plane


class Drop(IntEnum):
    """Why a worker dropped a frame that XDP handed to it."""

    NONE = 0  # not dropped
    SHORT = 1  # shorter than its headers say
    NOT_IP = 2  # no IPv4 or IPv6 header behind the Ethernet and VLAN headers
    IP_HEADER = 3  # IP header with options, extension headers, a fragment or a wrong version
    IP_CHECKSUM = 4  # IPv4 header checksum wrong
    NOT_UDP = 5  # not UDP
    UDP_LENGTH = 6  # UDP length does not fit the packet
    UDP_CHECKSUM = 7  # UDP checksum wrong, or absent on IPv6 (checked when verify_udp_checksum is on)
    NO_RULE = 8  # no rule for its address and port: the rules changed while the frame was on its way
    MULTI_BUFFER = 9  # spans several frames and does not fit one: raise frame_size


class QueueMode(IntEnum):
    """How a queue receives and sends, from best to last resort."""

    CLOSED = 0  # not bound
    ZERO_COPY = 1  # AF_XDP, the driver writes into our memory
    COPY = 2  # AF_XDP in the driver, one copy
    GENERIC = 3  # AF_XDP behind the kernel's generic XDP, one copy and an skb
    SOCKET = 4  # UDP sockets, no AF_XDP


class WorkerState(IntEnum):
    """State of a worker."""

    DOWN = 0  # no process
    STARTING = 1  # setting itself up
    RUNNING = 2  # in the loop
    PAUSED = 3  # reconfiguring outside the loop
    STOPPED = 4  # ended in order


class DaemonState(IntEnum):
    """State of the daemon."""

    STOPPED = 0  # ended in order
    STARTING = 1  # not yet serving
    SERVING = 2  # every worker runs with every queue bound
    DEGRADED = 3  # serving, but something configured is not in force
    RECOVERING = 4  # a worker is being restarted, or the interface is being waited for
    STOPPING = 5  # on the way down


class RecordKind(IntEnum):
    """What a record holds."""

    NONE = 0  # slot never written
    TRANSACTION = 1  # a decoded Solana transaction
    MALFORMED = 2  # bytes that should have been a transaction; `reason` says why not
    DATAGRAM = 3  # bytes that nobody was asked to decode
    STREAM = 4  # bytes of a QUIC stream; `quic_data` stands in place of `tx`
    QUIC_DATAGRAM = 5  # a QUIC DATAGRAM; `quic_data` stands in place of `tx`


class Decoder(IntEnum):
    """What a capture rule does with a datagram."""

    RAW = 0  # record its bytes
    SOLANA_TX = 1  # decode it as a Solana transaction
    COUNT = 2  # count it and nothing else
    ECHO = 3  # send it back where it came from (test rigs)
    QUIC = 4  # give it to the QUIC engine


class TxReason(IntEnum):
    """Why bytes are not a Solana transaction."""

    OK = 0  # a well-formed transaction
    EMPTY = 1  # no bytes
    TOO_LONG = 2  # longer than the 65,535 bytes that 16-bit offsets can describe
    UNKNOWN_VERSION = 3  # the first byte, or that of the message, names a version that does not exist there
    UNSUPPORTED_VERSION = 4  # names a version above 1, which this decoder does not read
    BAD_COMPACT_U16 = 5  # a compact-u16 count is not in its shortest form, or is above 65,535
    BAD_CONFIG_MASK = 6  # the configuration mask (v1) has unassigned bits, or half of the priority fee's
    TRUNCATED_SIGNATURES = 7  # ends inside the signatures
    TRUNCATED_HEADER = 8  # ends inside the message header
    TRUNCATED_ACCOUNTS = 9  # ends inside the account keys
    TRUNCATED_BLOCKHASH = 10  # ends inside the recent blockhash
    TRUNCATED_CONFIG = 11  # ends inside the configuration values (v1)
    TRUNCATED_INSTRUCTIONS = 12  # ends inside the instructions
    TRUNCATED_LOOKUPS = 13  # ends inside the address-table lookups
    TRAILING_BYTES = 14  # bytes left over behind the transaction


class TxSanitize(IntEnum):
    """Why a well-formed transaction cannot be executed: its counts or indices contradict each other."""

    OK = 0  # counts and indices agree
    TOO_MANY_SIGNATURES = 1  # more required signatures than the 12 that v1 allows
    TOO_MANY_INSTRUCTIONS = 2  # more instructions than the 64 that v1 allows
    READONLY_OVERLAP = 3  # signers and read-only accounts without signature are more than there are keys
    NO_FEE_PAYER = 4  # no writable account that signs
    EMPTY_LOOKUP = 5  # an address-table lookup that loads nothing
    TOO_MANY_ACCOUNTS = 6  # more keys than the 64 that v1 allows; v0: with those loaded, than the 256 that an index can tell apart
    DUPLICATE_ACCOUNT = 7  # two account keys are the same (v1)
    BAD_HEAP_SIZE = 8  # the heap size (v1) is not a multiple of 1 KiB from 32 to 256 KiB
    PROGRAM_INDEX = 9  # the program of an instruction is not among the static keys
    PROGRAM_IS_PAYER = 10  # the program of an instruction is the fee payer
    ACCOUNT_INDEX = 11  # an instruction names an account beyond the keys
    MISSING_SIGNATURES = 12  # fewer signatures than the header requires
    EXTRA_SIGNATURES = 13  # more signatures than the header requires


class QuicRole(IntEnum):
    """Which end of a connection we are."""

    CLIENT = 0  # we dialled
    SERVER = 1  # we accepted


class QuicRefusal(IntEnum):
    """Why a connection was not adopted."""

    NONE = 0  # adopted
    FULL = 1  # the connection table is full: answer CONNECTION_REFUSED
    DUPLICATE = 2  # a connection of this number, or one of its connection IDs, is there already
    VERSION = 3  # not QUIC version 1
    SUITE = 4  # not a cipher suite of ours
    TPARAMS = 5  # our own transport parameters cannot be read, or promise more than the engine has room for
    PEER_TPARAMS = 6  # the peer's transport parameters are wrong: close with TRANSPORT_PARAMETER_ERROR
    CIDS = 7  # no connection ID of one side, too many, or of a wrong length
    PATH = 8  # the path is not complete
    LENGTH = 9  # a length or count is beyond its room
    CRYPTO = 10  # keys could not be derived
    CLOSING = 11  # the worker is closing all its connections


class QuicOutcome(IntEnum):
    """What became of a message that was accepted for sending."""

    ACKNOWLEDGED = 0  # the peer has acknowledged every byte
    CLOSED = 1  # the connection was closed before all was acknowledged; it may or may not have arrived
    RESET = 2  # we reset the stream before all was acknowledged
    STOPPED = 3  # the peer asked to stop sending (STOP_SENDING)
    LOST = 4  # DATAGRAM: declared lost (it is not sent again)
    EXPIRED = 5  # waited in a queue beyond its time


class QuicClose(IntEnum):
    """How a connection ended."""

    LOCAL = 0  # we closed it, on command
    ERROR = 1  # we closed it for an error of the peer; the code says which
    PEER = 2  # the peer closed it
    IDLE = 3  # nothing was heard for the idle timeout
    RESET = 4  # stateless reset by the peer
    DROPPED = 5  # forgotten on command, without a packet


class QuicState(IntEnum):
    """State of a connection in the engine."""

    FREE = 0  # no connection
    HANDSHAKE = 1  # client: complete, not confirmed (HANDSHAKE_DONE has not come)
    OPEN = 2  # confirmed
    CLOSING = 3  # CONNECTION_CLOSE sent; repeats it for 3 PTO
    DRAINING = 4  # the peer closed: silent for 3 PTO


class QuicSend(IntEnum):
    """How a message travels."""

    UNI = 0  # a unidirectional stream of its own, with FIN: a transaction
    BIDI_OPEN = 1  # opens a bidirectional stream; its ID is told by the call, or by the event STREAM
    STREAM = 2  # on an open stream whose ID is given
    DATAGRAM = 3  # a DATAGRAM frame (RFC 9221), not repeated
    UNI_OPEN = 4  # opens a unidirectional stream that stays open


class QuicQlog(IntEnum):
    """What an event QLOG tells; in brackets its body."""

    NONE = 0  # nothing
    SENT = 1  # packet sent; number: of the packet, token: its bytes, by: key phase, is_app 1: cut [quic_qlog_frame ...]
    RECEIVED = 2  # packet received, likewise
    LOST = 3  # packet declared lost; number, token as above; by 0: reordering threshold, 1: time threshold
    METRICS = 4  # state of loss recovery and congestion control [quic_qlog_metrics]
    MISSED = 5  # events that found no room; number: how many


class QuicCommandKind(IntEnum):
    """What a command asks for; in brackets the body behind struct quic_command."""

    NONE = 0  # nothing
    ADOPT = 1  # adopt a connection [quic_adopt]; answered by ADOPTED with the same number
    INJECT = 2  # a datagram that reached the kernel socket [quic_inject, then its bytes]
    STOCK = 3  # more connection IDs of ours [quic_cid, any number]
    SEND = 4  # a message [its bytes]; how: enum quic_send; token, stream, flags SEND_*
    CLOSE = 5  # close [reason phrase]; code, flags CLOSE_APP
    RESET_STREAM = 6  # reset our side of a stream; stream, code
    STOP_SENDING = 7  # ask the peer to stop a stream; stream, code
    PATH = 8  # our side of the path changed: neighbour, route, MTU [path]
    UPDATE_KEYS = 9  # update keys now
    PING = 10  # send a PING
    TRACE = 11  # code: bit 0 qlog, bit 1 key log
    DROP = 12  # forget the connection without a packet
    CLOSE_ALL = 13  # close every connection [reason phrase]; code, flags CLOSE_APP; no more are adopted
    CRYPTO = 14  # more 1-RTT CRYPTO bytes to send, behind those sent before [bytes]
    TOKEN = 15  # server: a token for the client's next connection, in NEW_TOKEN [token]


class QuicEventKind(IntEnum):
    """What an event tells; in brackets the body behind struct quic_event."""

    NONE = 0  # nothing
    ADOPTED = 1  # answer to ADOPT: number; code: enum quic_refusal
    CONFIRMED = 2  # client: the handshake is confirmed: Initial and Handshake keys may go
    CRYPTO = 3  # 1-RTT CRYPTO bytes in order (session tickets); number: offset [bytes]
    TOKEN = 4  # NEW_TOKEN [token]
    RESET_TOKEN = 5  # a connection ID of the peer is in use or was given up (code 1) [quic_cid]
    CID_RETIRED = 6  # the peer retired a connection ID of ours [quic_cid]
    CIDS_LOW = 7  # the stock of connection IDs is low; number: how many are wanted
    MIGRATED = 8  # the peer's address changed and is validated [path]
    DONE = 9  # fate of a message: token, code: enum quic_outcome, number: when it was first sent, ns
    CLOSED = 10  # by: enum quic_close, code, is_app, number: frame type [quic_closed, then reason]
    KEYS = 11  # for a key log; number: generation, code 1: our sending secret, 0: the peer's [secret]
    QLOG = 12  # what happened, for qlog; code: enum quic_qlog, which says what else
    STREAM = 13  # answer to SEND of BIDI_OPEN or UNI_OPEN: token, number: stream ID
    REFUSED = 14  # a command was refused: number, code: negated AB_QUIC_E..., token of a SEND
    EARLY = 15  # 0-RTT packets were acknowledged (code 0) or lost (code 1) [quic_range]
    STRAY = 16  # came to a socket of the data plane and is not for its engine: a long header, an unknown connection ID [quic_inject, then its bytes]
    KEY_UPDATE = 17  # a key update took place; number: generation, code 1: started by us


class XdpBudget(msgspec.Struct, frozen=True):
    """A rate and a burst, as the XDP program counts them; all zero: no limit."""

    interval_ns: int = 0  # what one packet costs: 1e9 / rate
    window_ns: int = 0  # how far ahead of now the costs may run: burst * interval_ns

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQ")
    SIZE: ClassVar[int] = 16
    OFFSETS: ClassVar[dict[str, int]] = {"interval_ns": 0, "window_ns": 8}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.interval_ns, self.window_ns)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(interval_ns=v[0], window_ns=v[1])


class Tx(msgspec.Struct, frozen=True):
    """Where the parts of a decoded transaction lie, as offsets from the first byte of the datagram."""

    version: int = 0  # 0xff legacy, else the message version
    reason: int = 0  # enum tx_reason
    num_required: int = 0  # message header: required signatures
    num_ro_signed: int = 0  # message header: read-only signed accounts
    num_ro_unsigned: int = 0  # message header: read-only unsigned accounts
    config_mask: int = 0  # which configuration values there are (v1): the mask, whose upper bits are zero
    num_signatures: int = 0  # signatures
    num_accounts: int = 0  # static account keys
    num_instructions: int = 0  # instructions
    num_lookups: int = 0  # address-table lookups (v0)
    length: int = 0  # bytes that the transaction takes; malformed: the byte at which reading stopped
    signatures_off: int = 0  # first signature
    message_off: int = 0  # first byte of what is signed; that ends where the transaction does (v1: at the signatures)
    accounts_off: int = 0  # first account key
    blockhash_off: int = 0  # recent blockhash
    instructions_off: int = 0  # first instruction (v1: its head; behind the heads come the bodies)
    lookups_off: int = 0  # first lookup, 0: none
    config_off: int = 0  # where the configuration values begin (v1), 0: a version without them

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BBBBBBHHHHHHHHHHHH2x")
    SIZE: ClassVar[int] = 32
    OFFSETS: ClassVar[dict[str, int]] = {"version": 0, "reason": 1, "num_required": 2, "num_ro_signed": 3, "num_ro_unsigned": 4, "config_mask": 5, "num_signatures": 6, "num_accounts": 8, "num_instructions": 10, "num_lookups": 12, "length": 14, "signatures_off": 16, "message_off": 18, "accounts_off": 20, "blockhash_off": 22, "instructions_off": 24, "lookups_off": 26, "config_off": 28}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.version, self.reason, self.num_required, self.num_ro_signed, self.num_ro_unsigned, self.config_mask, self.num_signatures, self.num_accounts, self.num_instructions, self.num_lookups, self.length, self.signatures_off, self.message_off, self.accounts_off, self.blockhash_off, self.instructions_off, self.lookups_off, self.config_off)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(version=v[0], reason=v[1], num_required=v[2], num_ro_signed=v[3], num_ro_unsigned=v[4], config_mask=v[5], num_signatures=v[6], num_accounts=v[7], num_instructions=v[8], num_lookups=v[9], length=v[10], signatures_off=v[11], message_off=v[12], accounts_off=v[13], blockhash_off=v[14], instructions_off=v[15], lookups_off=v[16], config_off=v[17])


class Path(msgspec.Struct, frozen=True):
    """Everything needed to put a datagram on the way to a peer."""

    local: bytes = bytes(16)  # our address, IPv4 mapped
    remote: bytes = bytes(16)  # the peer's address, IPv4 mapped
    local_port: int = 0  # our port, host order
    remote_port: int = 0  # the peer's port, host order
    vlan_outer: int = 0  # outer VLAN ID, 0: untagged
    vlan_inner: int = 0  # inner VLAN ID, 0: none
    dmac: bytes = bytes(6)  # MAC address of the next hop
    smac: bytes = bytes(6)  # our MAC address
    family: int = 0  # 4 or 6
    ttl: int = 0  # TTL or hop limit
    dscp: int = 0  # DSCP, 0 to 63
    io: int = 0  # how datagrams leave: 0 AF_XDP, 1 socket
    mtu: int = 0  # largest UDP payload that the interface allows, bytes
    slot: int = 0  # source of the worker that sends: index of its ios
    generation: int = 0  # counts changes; set by whoever changes the path

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<16s16sHHHH6s6sBBBBHHI")
    SIZE: ClassVar[int] = 64
    OFFSETS: ClassVar[dict[str, int]] = {"local": 0, "remote": 16, "local_port": 32, "remote_port": 34, "vlan_outer": 36, "vlan_inner": 38, "dmac": 40, "smac": 46, "family": 52, "ttl": 53, "dscp": 54, "io": 55, "mtu": 56, "slot": 58, "generation": 60}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.local, self.remote, self.local_port, self.remote_port, self.vlan_outer, self.vlan_inner, self.dmac, self.smac, self.family, self.ttl, self.dscp, self.io, self.mtu, self.slot, self.generation)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(local=v[0], remote=v[1], local_port=v[2], remote_port=v[3], vlan_outer=v[4], vlan_inner=v[5], dmac=v[6], smac=v[7], family=v[8], ttl=v[9], dscp=v[10], io=v[11], mtu=v[12], slot=v[13], generation=v[14])


class QuicCid(msgspec.Struct, frozen=True):
    """A connection ID with its stateless reset token."""

    seq: int = 0  # sequence number
    len: int = 0  # bytes of `cid` in use, 0 to 20
    has_token: int = 0  # 1: `token` is set
    cid: bytes = bytes(20)  # the connection ID
    token: bytes = bytes(16)  # stateless reset token

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QBB6x20s4x16s")
    SIZE: ClassVar[int] = 56
    OFFSETS: ClassVar[dict[str, int]] = {"seq": 0, "len": 8, "has_token": 9, "cid": 16, "token": 40}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.seq, self.len, self.has_token, self.cid, self.token)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(seq=v[0], len=v[1], has_token=v[2], cid=v[3], token=v[4])


class QuicRange(msgspec.Struct, frozen=True):
    """A range of packet numbers."""

    first: int = 0  # lowest
    last: int = 0  # highest, inclusive

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQ")
    SIZE: ClassVar[int] = 16
    OFFSETS: ClassVar[dict[str, int]] = {"first": 0, "last": 8}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.first, self.last)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(first=v[0], last=v[1])


class QuicCounts(msgspec.Struct, frozen=True):
    """What a connection counted over its life."""

    packets_sent: int = 0  # packets
    packets_received: int = 0  # packets that could be opened
    packets_lost: int = 0  # packets of ours declared lost
    packets_spurious: int = 0  # of those, packets that were acknowledged later
    packets_duplicate: int = 0  # packets that came again
    packets_undecryptable: int = 0  # packets that could not be opened
    bytes_sent: int = 0  # UDP payload
    bytes_received: int = 0  # UDP payload of packets that could be opened
    messages_sent: int = 0  # messages accepted for sending
    messages_acked: int = 0  # messages acknowledged whole
    messages_failed: int = 0  # messages with another fate
    messages_resent: int = 0  # messages, or parts, that were sent again after a loss
    streams_received: int = 0  # streams of the peer that ended whole
    stream_bytes_received: int = 0  # their bytes, and those of streams still open
    datagrams_sent: int = 0  # DATAGRAM frames
    datagrams_received: int = 0  # DATAGRAM frames
    ptos: int = 0  # probe timeouts
    congestion_events: int = 0  # reductions of the window
    blocked_credit_ns: int = 0  # time with data but no bytes that the peer allows (flow control)
    blocked_streams_ns: int = 0  # time with data but no stream that the peer allows
    blocked_window_ns: int = 0  # time with data but no room in the congestion window
    key_updates: int = 0  # generations, both directions
    migrations: int = 0  # changes of the peer's address that were validated

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQQQQQQQQQQQQQQQQQQ")
    SIZE: ClassVar[int] = 184
    OFFSETS: ClassVar[dict[str, int]] = {"packets_sent": 0, "packets_received": 8, "packets_lost": 16, "packets_spurious": 24, "packets_duplicate": 32, "packets_undecryptable": 40, "bytes_sent": 48, "bytes_received": 56, "messages_sent": 64, "messages_acked": 72, "messages_failed": 80, "messages_resent": 88, "streams_received": 96, "stream_bytes_received": 104, "datagrams_sent": 112, "datagrams_received": 120, "ptos": 128, "congestion_events": 136, "blocked_credit_ns": 144, "blocked_streams_ns": 152, "blocked_window_ns": 160, "key_updates": 168, "migrations": 176}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.packets_sent, self.packets_received, self.packets_lost, self.packets_spurious, self.packets_duplicate, self.packets_undecryptable, self.bytes_sent, self.bytes_received, self.messages_sent, self.messages_acked, self.messages_failed, self.messages_resent, self.streams_received, self.stream_bytes_received, self.datagrams_sent, self.datagrams_received, self.ptos, self.congestion_events, self.blocked_credit_ns, self.blocked_streams_ns, self.blocked_window_ns, self.key_updates, self.migrations)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(packets_sent=v[0], packets_received=v[1], packets_lost=v[2], packets_spurious=v[3], packets_duplicate=v[4], packets_undecryptable=v[5], bytes_sent=v[6], bytes_received=v[7], messages_sent=v[8], messages_acked=v[9], messages_failed=v[10], messages_resent=v[11], streams_received=v[12], stream_bytes_received=v[13], datagrams_sent=v[14], datagrams_received=v[15], ptos=v[16], congestion_events=v[17], blocked_credit_ns=v[18], blocked_streams_ns=v[19], blocked_window_ns=v[20], key_updates=v[21], migrations=v[22])


class XdpSettings(msgspec.Struct, frozen=True):
    """What the supervisor tells the XDP program (map `settings`, one element); an update is not seen as one."""

    initial_global: XdpBudget  # Initial, 0-RTT and foreign versions on listening ports, all sources
    initial_source: XdpBudget  # the same, for each IPv4 address or IPv6 /64
    short_global: XdpBudget  # short headers without a known connection ID
    mac: bytes = bytes(6)  # address of the interface: frames to any other pass
    flags: int = 0  # XDP_STAMP

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<6sH16s16s16s")
    SIZE: ClassVar[int] = 56
    OFFSETS: ClassVar[dict[str, int]] = {"mac": 0, "flags": 6, "initial_global": 8, "initial_source": 24, "short_global": 40}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.mac, self.flags, self.initial_global.pack(), self.initial_source.pack(), self.short_global.pack())

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(mac=v[0], flags=v[1], initial_global=XdpBudget.unpack(v[2]), initial_source=XdpBudget.unpack(v[3]), short_global=XdpBudget.unpack(v[4]))


class PortKey(msgspec.Struct, frozen=True):
    """A local address and port, as it stands in the packet (map `ports`)."""

    addr: bytes = bytes(16)  # local address, IPv4 mapped
    port: bytes = bytes(2)  # local port, network order
    vlan_outer: int = 0  # outer VLAN ID, 0: untagged (a priority tag, VID 0, counts as none)
    vlan_inner: int = 0  # inner VLAN ID, 0: none

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<16s2sHH2x")
    SIZE: ClassVar[int] = 24
    OFFSETS: ClassVar[dict[str, int]] = {"addr": 0, "port": 16, "vlan_outer": 18, "vlan_inner": 20}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.addr, self.port, self.vlan_outer, self.vlan_inner)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(addr=v[0], port=v[1], vlan_outer=v[2], vlan_inner=v[3])


class Port(msgspec.Struct, frozen=True):
    """What is done with packets to a local address and port (map `ports`)."""

    kind: int = 0  # enum port_kind
    flags: int = 0  # PORT_LISTEN
    rule: int = 0  # index of the capture rule

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BBH")
    SIZE: ClassVar[int] = 4
    OFFSETS: ClassVar[dict[str, int]] = {"kind": 0, "flags": 1, "rule": 2}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.kind, self.flags, self.rule)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(kind=v[0], flags=v[1], rule=v[2])


class Cid(msgspec.Struct, frozen=True):
    """Who owns a connection ID (map `cids`; its key is the connection ID itself)."""

    worker: int = 0  # worker that has the connection
    queue: int = 0  # receive queue that the connection was adopted on
    flags: int = 0  # zero; the XDP program redirects whatever stands here

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<HHI")
    SIZE: ClassVar[int] = 8
    OFFSETS: ClassVar[dict[str, int]] = {"worker": 0, "queue": 2, "flags": 4}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.worker, self.queue, self.flags)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(worker=v[0], queue=v[1], flags=v[2])


class FlowKey(msgspec.Struct, frozen=True):
    """A remote and a local address and port (map `flows`)."""

    src: bytes = bytes(16)  # remote address, IPv4 mapped
    dst: bytes = bytes(16)  # local address, IPv4 mapped
    sport: bytes = bytes(2)  # remote port, network order
    dport: bytes = bytes(2)  # local port, network order

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<16s16s2s2s4x")
    SIZE: ClassVar[int] = 40
    OFFSETS: ClassVar[dict[str, int]] = {"src": 0, "dst": 16, "sport": 32, "dport": 34}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.src, self.dst, self.sport, self.dport)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(src=v[0], dst=v[1], sport=v[2], dport=v[3])


class Flow(msgspec.Struct, frozen=True):
    """Where the latest long-header packet of a flow came in (map `flows`)."""

    rx_queue: int = 0  # receive queue
    seen_ns: int = 0  # CLOCK_MONOTONIC

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<I4xQ")
    SIZE: ClassVar[int] = 16
    OFFSETS: ClassVar[dict[str, int]] = {"rx_queue": 0, "seen_ns": 8}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.rx_queue, self.seen_ns)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(rx_queue=v[0], seen_ns=v[1])


class BucketKey(msgspec.Struct, frozen=True):
    """A source, for budgets (map `buckets`)."""

    prefix: bytes = bytes(16)  # IPv4 address, mapped; or the /64 of an IPv6 address, the rest zero

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<16s")
    SIZE: ClassVar[int] = 16
    OFFSETS: ClassVar[dict[str, int]] = {"prefix": 0}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.prefix)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(prefix=v[0])


class Bucket(msgspec.Struct, frozen=True):
    """A token bucket in one word (maps `buckets` and `gbuckets`)."""

    full_ns: int = 0  # CLOCK_MONOTONIC at which it will be full again

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<Q")
    SIZE: ClassVar[int] = 8
    OFFSETS: ClassVar[dict[str, int]] = {"full_ns": 0}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.full_ns)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(full_ns=v[0])


class XdpCount(msgspec.Struct, frozen=True):
    """Frames that one processor counted for one reason (map `counters`)."""

    packets: int = 0  # frames
    octets: int = 0  # their bytes, Ethernet header included

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQ")
    SIZE: ClassVar[int] = 16
    OFFSETS: ClassVar[dict[str, int]] = {"packets": 0, "octets": 8}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.packets, self.octets)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(packets=v[0], octets=v[1])


class XdpMeta(msgspec.Struct, frozen=True):
    """What stands in front of a captured frame where XDP_STAMP is set."""

    ktime_ns: int = 0  # CLOCK_MONOTONIC
    magic: int = 0  # STAMP_MAGIC

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQ")
    SIZE: ClassVar[int] = 16
    OFFSETS: ClassVar[dict[str, int]] = {"ktime_ns": 0, "magic": 8}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.ktime_ns, self.magic)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(ktime_ns=v[0], magic=v[1])


class Segment(msgspec.Struct, frozen=True):
    """First bytes of the statistics segment; the blocks follow, described by the JSON text at its end."""

    magic: int = 0  # MAGIC
    version: int = 0  # schema version
    total_bytes: int = 0  # size of the segment
    created_ns: int = 0  # CLOCK_REALTIME of creation
    text_offset: int = 0  # where the description begins
    text_capacity: int = 0  # bytes that it may take
    text_bytes: int = 0  # bytes that it takes
    text_seq: int = 0  # seqlock of the description: odd while it is being written

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQQQ64x")
    SIZE: ClassVar[int] = 128
    OFFSETS: ClassVar[dict[str, int]] = {"magic": 0, "version": 8, "total_bytes": 16, "created_ns": 24, "text_offset": 32, "text_capacity": 40, "text_bytes": 48, "text_seq": 56}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.magic, self.version, self.total_bytes, self.created_ns, self.text_offset, self.text_capacity, self.text_bytes, self.text_seq)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(magic=v[0], version=v[1], total_bytes=v[2], created_ns=v[3], text_offset=v[4], text_capacity=v[5], text_bytes=v[6], text_seq=v[7])


class Rule(msgspec.Struct, frozen=True):
    """One expanded capture rule: exact local address and port (the data plane's copy of what XDP matches)."""

    addr: bytes = bytes(16)  # local address, IPv4 mapped; all zero: any (socket backend only)
    port: int = 0  # local port, host order
    vlan_outer: int = 0  # outer VLAN ID, 0: untagged
    vlan_inner: int = 0  # inner VLAN ID, 0: none
    rule: int = 0  # index of the rule in the configuration
    decoder: int = 0  # enum decoder

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<16sHHHHB7x")
    SIZE: ClassVar[int] = 32
    OFFSETS: ClassVar[dict[str, int]] = {"addr": 0, "port": 16, "vlan_outer": 18, "vlan_inner": 20, "rule": 22, "decoder": 24}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.addr, self.port, self.vlan_outer, self.vlan_inner, self.rule, self.decoder)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(addr=v[0], port=v[1], vlan_outer=v[2], vlan_inner=v[3], rule=v[4], decoder=v[5])


class RecordRing(msgspec.Struct, frozen=True):
    """First bytes of a record ring: one writer, any number of readers that cannot slow it down."""

    magic: int = 0  # RECORD_MAGIC
    version: int = 0  # schema version
    slot_bytes: int = 0  # bytes of a slot, header included
    slots: int = 0  # number of slots, a power of two
    worker: int = 0  # index of the writing worker
    created_ns: int = 0  # CLOCK_REALTIME of creation: tells a reader that the ring was made anew
    head: int = 0  # sequence number of the next record; on a cache line of its own

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQ80xQ120x")
    SIZE: ClassVar[int] = 256
    OFFSETS: ClassVar[dict[str, int]] = {"magic": 0, "version": 8, "slot_bytes": 16, "slots": 24, "worker": 32, "created_ns": 40, "head": 128}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.magic, self.version, self.slot_bytes, self.slots, self.worker, self.created_ns, self.head)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(magic=v[0], version=v[1], slot_bytes=v[2], slots=v[3], worker=v[4], created_ns=v[5], head=v[6])


class Record(msgspec.Struct, frozen=True):
    """Head of a slot; `stored` bytes of the datagram follow."""

    tx: Tx  # the decoded transaction
    seq: int = 0  # seqlock: 2n+1 while record n is being written, 2n+2 when it is whole
    time_ns: int = 0  # CLOCK_REALTIME when it was taken off the ring
    stamp_ns: int = 0  # CLOCK_MONOTONIC when XDP saw it, 0: unknown
    mono_ns: int = 0  # CLOCK_MONOTONIC when it was taken off the ring
    src: bytes = bytes(16)  # source address, IPv4 mapped
    dst: bytes = bytes(16)  # destination address, IPv4 mapped
    sport: int = 0  # source port
    dport: int = 0  # destination port
    rule: int = 0  # index of the capture rule
    kind: int = 0  # enum record_kind
    reason: int = 0  # enum tx_reason
    queue: int = 0  # receive queue
    worker: int = 0  # worker
    length: int = 0  # bytes of the datagram
    stored: int = 0  # bytes of it that follow here (fewer where a slot is too small)

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQ16s16sHHHBBHHHH16x32s")
    SIZE: ClassVar[int] = 128
    OFFSETS: ClassVar[dict[str, int]] = {"seq": 0, "time_ns": 8, "stamp_ns": 16, "mono_ns": 24, "src": 32, "dst": 48, "sport": 64, "dport": 66, "rule": 68, "kind": 70, "reason": 71, "queue": 72, "worker": 74, "length": 76, "stored": 78, "tx": 96}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.seq, self.time_ns, self.stamp_ns, self.mono_ns, self.src, self.dst, self.sport, self.dport, self.rule, self.kind, self.reason, self.queue, self.worker, self.length, self.stored, self.tx.pack())

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(seq=v[0], time_ns=v[1], stamp_ns=v[2], mono_ns=v[3], src=v[4], dst=v[5], sport=v[6], dport=v[7], rule=v[8], kind=v[9], reason=v[10], queue=v[11], worker=v[12], length=v[13], stored=v[14], tx=Tx.unpack(v[15]))


class QuicAdopt(msgspec.Struct, frozen=True):
    """A connection whose handshake is complete, as it goes to the engine; nothing of it is kept by the supervisor after ADOPTED."""

    path: Path  # validated path
    local_cids: tuple[QuicCid, ...] = ()  # connection IDs of ours, all in the map `cids`, by sequence number
    peer_cids: tuple[QuicCid, ...] = ()  # connection IDs of the peer, by sequence number
    early: tuple[QuicRange, ...] = ()  # 0-RTT packets sent and not yet acknowledged
    id: int = 0  # the supervisor's number of the connection, never 0
    version: int = 0  # QUIC version: 1
    role: int = 0  # enum quic_role
    suite: int = 0  # 1 AES-128-GCM, 2 AES-256-GCM, 3 ChaCha20-Poly1305 (enum ab_quic_suite)
    confirmed: int = 0  # 1: the handshake is confirmed (a server's is on adoption)
    early_accepted: int = 0  # 1: 0-RTT was accepted
    tx_secret: bytes = bytes(48)  # our 1-RTT traffic secret of generation 0
    rx_secret: bytes = bytes(48)  # the peer's
    next_pn: int = 0  # lowest packet number that was never used in the application space
    crypto_rx_offset: int = 0  # 1-RTT CRYPTO bytes of the peer that TLS has consumed already
    idle_deadline_ns: int = 0  # CLOCK_MONOTONIC at which the idle timeout of the handshake ends, 0: count from now
    rtt_hint_ns: int = 0  # round-trip time seen by the handshake, 0: none
    peer_cid_in_use: int = 0  # sequence number of the peer's connection ID to send to
    early_uni: int = 0  # unidirectional streams that the peer has seen in 0-RTT; the same messages are sent again, on the same streams
    spare: bytes = bytes(16)  # zero
    local_count: int = 0  # connection IDs in local_cids
    peer_count: int = 0  # connection IDs in peer_cids
    early_count: int = 0  # ranges in early
    crypto_len: int = 0  # bytes in crypto
    local_tparams_len: int = 0  # bytes in local_tparams
    remote_tparams_len: int = 0  # bytes in remote_tparams
    local_tparams: bytes = bytes(512)  # our transport parameters, as in the TLS extension
    remote_tparams: bytes = bytes(512)  # the peer's, as in the TLS extension
    crypto: bytes = bytes(1024)  # 1-RTT CRYPTO bytes to send from offset 0 (server: session tickets)

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<64s448s448s256sQIBBBB48s48sQQQQQQ16sIIIIII512s512s1024s")
    SIZE: ClassVar[int] = 3464
    OFFSETS: ClassVar[dict[str, int]] = {"path": 0, "local_cids": 64, "peer_cids": 512, "early": 960, "id": 1216, "version": 1224, "role": 1228, "suite": 1229, "confirmed": 1230, "early_accepted": 1231, "tx_secret": 1232, "rx_secret": 1280, "next_pn": 1328, "crypto_rx_offset": 1336, "idle_deadline_ns": 1344, "rtt_hint_ns": 1352, "peer_cid_in_use": 1360, "early_uni": 1368, "spare": 1376, "local_count": 1392, "peer_count": 1396, "early_count": 1400, "crypto_len": 1404, "local_tparams_len": 1408, "remote_tparams_len": 1412, "local_tparams": 1416, "remote_tparams": 1928, "crypto": 2440}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.path.pack(), pack_array(self.local_cids, QuicCid, 8), pack_array(self.peer_cids, QuicCid, 8), pack_array(self.early, QuicRange, 16), self.id, self.version, self.role, self.suite, self.confirmed, self.early_accepted, self.tx_secret, self.rx_secret, self.next_pn, self.crypto_rx_offset, self.idle_deadline_ns, self.rtt_hint_ns, self.peer_cid_in_use, self.early_uni, self.spare, self.local_count, self.peer_count, self.early_count, self.crypto_len, self.local_tparams_len, self.remote_tparams_len, self.local_tparams, self.remote_tparams, self.crypto)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(path=Path.unpack(v[0]), local_cids=unpack_array(v[1], QuicCid), peer_cids=unpack_array(v[2], QuicCid), early=unpack_array(v[3], QuicRange), id=v[4], version=v[5], role=v[6], suite=v[7], confirmed=v[8], early_accepted=v[9], tx_secret=v[10], rx_secret=v[11], next_pn=v[12], crypto_rx_offset=v[13], idle_deadline_ns=v[14], rtt_hint_ns=v[15], peer_cid_in_use=v[16], early_uni=v[17], spare=v[18], local_count=v[19], peer_count=v[20], early_count=v[21], crypto_len=v[22], local_tparams_len=v[23], remote_tparams_len=v[24], local_tparams=v[25], remote_tparams=v[26], crypto=v[27])


class QuicInject(msgspec.Struct, frozen=True):
    """Where an injected datagram came from."""

    local: bytes = bytes(16)  # address that it came to, IPv4 mapped
    remote: bytes = bytes(16)  # address that it came from
    local_port: int = 0  # host order
    remote_port: int = 0  # host order
    family: int = 0  # 4 or 6
    tos: int = 0  # DSCP and ECN, 0: unknown
    len: int = 0  # bytes of the datagram

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<16s16sHHBBH")
    SIZE: ClassVar[int] = 40
    OFFSETS: ClassVar[dict[str, int]] = {"local": 0, "remote": 16, "local_port": 32, "remote_port": 34, "family": 36, "tos": 37, "len": 38}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.local, self.remote, self.local_port, self.remote_port, self.family, self.tos, self.len)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(local=v[0], remote=v[1], local_port=v[2], remote_port=v[3], family=v[4], tos=v[5], len=v[6])


class QuicCommand(msgspec.Struct, frozen=True):
    """Head of a slot of the command ring; `length` bytes of body follow."""

    number: int = 0  # of the command, counted by who writes it; answers repeat it
    conn: int = 0  # the supervisor's number of the connection
    stream: int = 0  # stream ID
    token: int = 0  # names a message in its DONE; 0: no DONE is wanted
    code: int = 0  # error code, or as the kind says
    kind: int = 0  # enum quic_command_kind
    length: int = 0  # bytes of body
    how: int = 0  # SEND: enum quic_send
    flags: int = 0  # SEND_*, CLOSE_*

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQQIIII8x")
    SIZE: ClassVar[int] = 64
    OFFSETS: ClassVar[dict[str, int]] = {"number": 0, "conn": 8, "stream": 16, "token": 24, "code": 32, "kind": 40, "length": 44, "how": 48, "flags": 52}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.number, self.conn, self.stream, self.token, self.code, self.kind, self.length, self.how, self.flags)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(number=v[0], conn=v[1], stream=v[2], token=v[3], code=v[4], kind=v[5], length=v[6], how=v[7], flags=v[8])


class QuicEvent(msgspec.Struct, frozen=True):
    """Head of a slot of the event ring; `length` bytes of body follow."""

    conn: int = 0  # the supervisor's number of the connection
    time_ns: int = 0  # CLOCK_MONOTONIC
    number: int = 0  # as the kind says
    code: int = 0  # as the kind says
    token: int = 0  # of a message
    kind: int = 0  # enum quic_event_kind
    length: int = 0  # bytes of body
    by: int = 0  # CLOSED: enum quic_close
    is_app: int = 0  # CLOSED: 1 if the code is the application's

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQQIIBB14x")
    SIZE: ClassVar[int] = 64
    OFFSETS: ClassVar[dict[str, int]] = {"conn": 0, "time_ns": 8, "number": 16, "code": 24, "token": 32, "kind": 40, "length": 44, "by": 48, "is_app": 49}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.conn, self.time_ns, self.number, self.code, self.token, self.kind, self.length, self.by, self.is_app)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(conn=v[0], time_ns=v[1], number=v[2], code=v[3], token=v[4], kind=v[5], length=v[6], by=v[7], is_app=v[8])


class QuicClosed(msgspec.Struct, frozen=True):
    """Last words on a connection; the reason phrase follows."""

    counts: QuicCounts  # what it counted
    srtt_ns: int = 0  # smoothed round-trip time
    min_rtt_ns: int = 0  # smallest round-trip time
    cwnd: int = 0  # congestion window, bytes
    age_ns: int = 0  # time since adoption

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<184sQQQQ")
    SIZE: ClassVar[int] = 216
    OFFSETS: ClassVar[dict[str, int]] = {"counts": 0, "srtt_ns": 184, "min_rtt_ns": 192, "cwnd": 200, "age_ns": 208}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.counts.pack(), self.srtt_ns, self.min_rtt_ns, self.cwnd, self.age_ns)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(counts=QuicCounts.unpack(v[0]), srtt_ns=v[1], min_rtt_ns=v[2], cwnd=v[3], age_ns=v[4])


class QuicData(msgspec.Struct, frozen=True):
    """What stands in a record in place of `tx` where its kind is STREAM or QUIC_DATAGRAM."""

    conn: int = 0  # the supervisor's number of the connection
    stream: int = 0  # stream ID
    offset: int = 0  # of the first byte in its stream
    fin: int = 0  # 1: the stream ends with these bytes
    reset: int = 0  # 1: the peer reset the stream; no bytes, `offset` is the error code

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQBB6x")
    SIZE: ClassVar[int] = 32
    OFFSETS: ClassVar[dict[str, int]] = {"conn": 0, "stream": 8, "offset": 16, "fin": 24, "reset": 25}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.conn, self.stream, self.offset, self.fin, self.reset)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(conn=v[0], stream=v[1], offset=v[2], fin=v[3], reset=v[4])


class QuicQlogFrame(msgspec.Struct, frozen=True):
    """In front of each frame of a packet in an event QLOG; `len` bytes of the frame follow, those before its data."""

    len: int = 0  # bytes of the frame's head, which follow
    data: int = 0  # bytes of data behind it, left out (of PADDING: all bytes but one)

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<HH")
    SIZE: ClassVar[int] = 4
    OFFSETS: ClassVar[dict[str, int]] = {"len": 0, "data": 2}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.len, self.data)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(len=v[0], data=v[1])


class QuicQlogMetrics(msgspec.Struct, frozen=True):
    """Recovery and congestion control."""

    srtt_ns: int = 0  # smoothed round-trip time
    rttvar_ns: int = 0  # its variation
    min_rtt_ns: int = 0  # smallest round-trip time
    latest_rtt_ns: int = 0  # latest round-trip time
    cwnd: int = 0  # congestion window, bytes
    in_flight: int = 0  # bytes under way
    pto_count: int = 0  # probe timeouts in a row

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQQ")
    SIZE: ClassVar[int] = 56
    OFFSETS: ClassVar[dict[str, int]] = {"srtt_ns": 0, "rttvar_ns": 8, "min_rtt_ns": 16, "latest_rtt_ns": 24, "cwnd": 32, "in_flight": 40, "pto_count": 48}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.srtt_ns, self.rttvar_ns, self.min_rtt_ns, self.latest_rtt_ns, self.cwnd, self.in_flight, self.pto_count)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(srtt_ns=v[0], rttvar_ns=v[1], min_rtt_ns=v[2], latest_rtt_ns=v[3], cwnd=v[4], in_flight=v[5], pto_count=v[6])


class QuicRows(msgspec.Struct, frozen=True):
    """First bytes of a worker's table of connections in shared memory (connections.py); rows follow."""

    magic: int = 0  # QUIC_ROWS_MAGIC
    version: int = 0  # schema version
    row_bytes: int = 0  # bytes of a row
    rows: int = 0  # number of rows
    worker: int = 0  # index of the worker
    created_ns: int = 0  # Unix time at which the table was laid out
    written_ns: int = 0  # CLOCK_MONOTONIC of the worker's latest look at its connections
    crypto: bytes = bytes(32)  # who protects packets: text, filled up with zero
    crypto_reason: bytes = bytes(224)  # why that one: text, filled up with zero

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQQQ16xQ56x32s224s")
    SIZE: ClassVar[int] = 384
    OFFSETS: ClassVar[dict[str, int]] = {"magic": 0, "version": 8, "row_bytes": 16, "rows": 24, "worker": 32, "created_ns": 40, "written_ns": 64, "crypto": 128, "crypto_reason": 160}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.magic, self.version, self.row_bytes, self.rows, self.worker, self.created_ns, self.written_ns, self.crypto, self.crypto_reason)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(magic=v[0], version=v[1], row_bytes=v[2], rows=v[3], worker=v[4], created_ns=v[5], written_ns=v[6], crypto=v[7], crypto_reason=v[8])


class QuicRow(msgspec.Struct, frozen=True):
    """A connection as everybody may see it: no key, no connection ID, no token."""

    counts: QuicCounts  # what it counted
    seq: int = 0  # odd while the row is being written
    id: int = 0  # the supervisor's number of the connection, 0: the row is free
    time_ns: int = 0  # CLOCK_MONOTONIC at which the row was written
    adopted_ns: int = 0  # CLOCK_MONOTONIC of the adoption
    local: bytes = bytes(16)  # our address, IPv4 mapped
    remote: bytes = bytes(16)  # the peer's address, IPv4 mapped
    local_port: int = 0  # our port, host order
    remote_port: int = 0  # the peer's port, host order
    role: int = 0  # enum quic_role
    state: int = 0  # enum quic_state
    suite: int = 0  # 1 AES-128-GCM, 2 AES-256-GCM, 3 ChaCha20-Poly1305
    io: int = 0  # how datagrams leave: 0 AF_XDP, 1 socket
    slot: int = 0  # source of the worker that sends
    mtu: int = 0  # bytes of UDP payload that the path is known to take
    ecn: int = 0  # validation of ECN on the path (quic_ecn.h)
    trace: int = 0  # what is being traced: bit 0 qlog, bit 1 key log
    tx_generation: int = 0  # of our keys; its lowest bit is the key phase
    rx_generation: int = 0  # of the peer's keys
    srtt_ns: int = 0  # smoothed round-trip time
    rttvar_ns: int = 0  # its variation
    min_rtt_ns: int = 0  # smallest round-trip time
    latest_rtt_ns: int = 0  # latest round-trip time
    pto_ns: int = 0  # probe timeout
    cwnd: int = 0  # congestion window, bytes
    in_flight: int = 0  # bytes under way
    slots: int = 0  # message slots held: what waits to be sent or to be acknowledged
    uni_opened: int = 0  # unidirectional streams that we opened
    uni_limit: int = 0  # the peer's limit for those
    bidi_opened: int = 0  # bidirectional streams that we opened
    bidi_limit: int = 0  # the peer's limit for those
    data_sent: int = 0  # bytes of stream data sent
    data_limit: int = 0  # the peer's limit for those
    streams: int = 0  # stream objects held

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQ16s16sHHBBBBHHBB2xIIQQQQQQQQQQQQQQQ184s56x")
    SIZE: ClassVar[int] = 448
    OFFSETS: ClassVar[dict[str, int]] = {"seq": 0, "id": 8, "time_ns": 16, "adopted_ns": 24, "local": 32, "remote": 48, "local_port": 64, "remote_port": 66, "role": 68, "state": 69, "suite": 70, "io": 71, "slot": 72, "mtu": 74, "ecn": 76, "trace": 77, "tx_generation": 80, "rx_generation": 84, "srtt_ns": 88, "rttvar_ns": 96, "min_rtt_ns": 104, "latest_rtt_ns": 112, "pto_ns": 120, "cwnd": 128, "in_flight": 136, "slots": 144, "uni_opened": 152, "uni_limit": 160, "bidi_opened": 168, "bidi_limit": 176, "data_sent": 184, "data_limit": 192, "streams": 200, "counts": 208}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.seq, self.id, self.time_ns, self.adopted_ns, self.local, self.remote, self.local_port, self.remote_port, self.role, self.state, self.suite, self.io, self.slot, self.mtu, self.ecn, self.trace, self.tx_generation, self.rx_generation, self.srtt_ns, self.rttvar_ns, self.min_rtt_ns, self.latest_rtt_ns, self.pto_ns, self.cwnd, self.in_flight, self.slots, self.uni_opened, self.uni_limit, self.bidi_opened, self.bidi_limit, self.data_sent, self.data_limit, self.streams, self.counts.pack())

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(seq=v[0], id=v[1], time_ns=v[2], adopted_ns=v[3], local=v[4], remote=v[5], local_port=v[6], remote_port=v[7], role=v[8], state=v[9], suite=v[10], io=v[11], slot=v[12], mtu=v[13], ecn=v[14], trace=v[15], tx_generation=v[16], rx_generation=v[17], srtt_ns=v[18], rttvar_ns=v[19], min_rtt_ns=v[20], latest_rtt_ns=v[21], pto_ns=v[22], cwnd=v[23], in_flight=v[24], slots=v[25], uni_opened=v[26], uni_limit=v[27], bidi_opened=v[28], bidi_limit=v[29], data_sent=v[30], data_limit=v[31], streams=v[32], counts=QuicCounts.unpack(v[33]))


class QuicRing(msgspec.Struct, frozen=True):
    """First bytes of a ring of commands or events: one producer, one consumer; slots follow."""

    magic: int = 0  # QUIC_RING_MAGIC
    version: int = 0  # schema version
    slot_bytes: int = 0  # bytes of a slot
    slots: int = 0  # number of slots, a power of two
    asleep: int = 0  # 1: the consumer sleeps and wants to be woken; whoever wakes it writes 0
    head: int = 0  # slots ever written; the producer's cache line
    tail: int = 0  # slots ever consumed; the consumer's cache line

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQQQQ88xQ120xQ120x")
    SIZE: ClassVar[int] = 384
    OFFSETS: ClassVar[dict[str, int]] = {"magic": 0, "version": 8, "slot_bytes": 16, "slots": 24, "asleep": 32, "head": 128, "tail": 256}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.magic, self.version, self.slot_bytes, self.slots, self.asleep, self.head, self.tail)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(magic=v[0], version=v[1], slot_bytes=v[2], slots=v[3], asleep=v[4], head=v[5], tail=v[6])
