"""Generated from afterburnerd/abi/schema.py by `python -m afterburnerd.abi.generate`; do not edit.

Typed views of the shared layouts: `X.unpack(buffer, offset)` and `x.pack()`.
"""

# ruff: noqa: E501
from __future__ import annotations

import struct
from enum import IntEnum
from typing import ClassVar

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
XDP_STAMP = 1  # settings flag: put struct ab_xdp_meta in front of redirected frames
PORT_LISTEN = 1  # port flag: we accept connections here, so Initials go through the buckets

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


class Decoder(IntEnum):
    """What a capture rule does with a datagram."""

    RAW = 0  # record its bytes
    SOLANA_TX = 1  # decode it as a Solana transaction
    COUNT = 2  # count it and nothing else
    ECHO = 3  # send it back where it came from (test rigs)


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
    def unpack(cls, data: Buffer, offset: int = 0) -> XdpBudget:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> Tx:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(version=v[0], reason=v[1], num_required=v[2], num_ro_signed=v[3], num_ro_unsigned=v[4], config_mask=v[5], num_signatures=v[6], num_accounts=v[7], num_instructions=v[8], num_lookups=v[9], length=v[10], signatures_off=v[11], message_off=v[12], accounts_off=v[13], blockhash_off=v[14], instructions_off=v[15], lookups_off=v[16], config_off=v[17])


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
    def unpack(cls, data: Buffer, offset: int = 0) -> XdpSettings:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> PortKey:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> Port:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> Cid:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> FlowKey:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> Flow:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> BucketKey:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> Bucket:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> XdpCount:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(packets=v[0], octets=v[1])


class XdpMeta(msgspec.Struct, frozen=True):
    """What stands in front of a redirected frame where XDP_STAMP is set."""

    ktime_ns: int = 0  # CLOCK_MONOTONIC
    magic: int = 0  # STAMP_MAGIC

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QQ")
    SIZE: ClassVar[int] = 16
    OFFSETS: ClassVar[dict[str, int]] = {"ktime_ns": 0, "magic": 8}

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.ktime_ns, self.magic)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> XdpMeta:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> Segment:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> Rule:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> RecordRing:
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
    def unpack(cls, data: Buffer, offset: int = 0) -> Record:
        v = cls.LAYOUT.unpack_from(data, offset)
        return cls(seq=v[0], time_ns=v[1], stamp_ns=v[2], mono_ns=v[3], src=v[4], dst=v[5], sport=v[6], dport=v[7], rule=v[8], kind=v[9], reason=v[10], queue=v[11], worker=v[12], length=v[13], stored=v[14], tx=Tx.unpack(v[15]))
