/* Generated from afterburnerd/abi/schema.py by `python -m afterburnerd.abi.generate`; do not edit.
 *
 * Layouts that a data plane shares with its supervisor and with readers of its shared memory. */
#ifndef AB_ABI_H
#define AB_ABI_H

#include <linux/types.h>
#include <stdint.h>

#include "afterburner.h"

#define AB_VERSION 1
#define AB_MAGIC 0x3154415453424642ULL
#define AB_RECORD_MAGIC 0x3143455253424642ULL
#define AB_QUIC_CIDS 8 /* connection IDs of each side that an adoption hands over at most */
#define AB_QUIC_EARLY 16 /* ranges of 0-RTT packet numbers that an adoption hands over at most */
#define AB_QUIC_TPARAMS 512 /* longest transport-parameter extension */
#define AB_QUIC_CRYPTO 1024 /* longest run of 1-RTT CRYPTO bytes of one command or event */
#define AB_QUIC_REASON 256 /* longest reason phrase that is sent or reported; a longer one is cut */
#define AB_QUIC_COMMAND_BYTES 4096 /* slot of the command ring */
#define AB_QUIC_EVENT_BYTES 2048 /* slot of the event ring */
#define AB_QUIC_RING_MAGIC 0x3151525253424642ULL /* first word of a ring of commands or events */
#define AB_QUIC_ROWS_MAGIC 0x534e4f4353424642ULL /* first word of a table of connections */
#define AB_QUIC_SEND_FIN 1 /* SEND flag: ends the stream (implied by UNI) */
#define AB_QUIC_SEND_MORE 2 /* SEND flag: the next SEND of this connection continues the message */
#define AB_QUIC_CLOSE_APP 1 /* CLOSE flag: the code is the application's (frame 0x1d) */

/* why a worker dropped a frame that XDP handed to it */
enum ab_drop {
    AB_DROP_NONE = 0, /* not dropped */
    AB_DROP_SHORT = 1, /* shorter than its headers say */
    AB_DROP_NOT_IP = 2, /* no IPv4 or IPv6 header behind the Ethernet and VLAN headers */
    AB_DROP_IP_HEADER = 3, /* IP header with options, extension headers, a fragment or a wrong version */
    AB_DROP_IP_CHECKSUM = 4, /* IPv4 header checksum wrong */
    AB_DROP_NOT_UDP = 5, /* not UDP */
    AB_DROP_UDP_LENGTH = 6, /* UDP length does not fit the packet */
    AB_DROP_UDP_CHECKSUM = 7, /* UDP checksum wrong, or absent on IPv6 (checked when verify_udp_checksum is on) */
    AB_DROP_NO_RULE = 8, /* no rule for its address and port: the rules changed while the frame was on its way */
    AB_DROP_MULTI_BUFFER = 9, /* spans several frames and does not fit one: raise frame_size */
    AB_DROP_END = 10,
};

/* how a queue receives and sends, from best to last resort */
enum ab_queue_mode {
    AB_QUEUE_MODE_CLOSED = 0, /* not bound */
    AB_QUEUE_MODE_ZERO_COPY = 1, /* AF_XDP, the driver writes into our memory */
    AB_QUEUE_MODE_COPY = 2, /* AF_XDP in the driver, one copy */
    AB_QUEUE_MODE_GENERIC = 3, /* AF_XDP behind the kernel's generic XDP, one copy and an skb */
    AB_QUEUE_MODE_SOCKET = 4, /* UDP sockets, no AF_XDP */
    AB_QUEUE_MODE_END = 5,
};

/* state of a worker */
enum ab_worker_state {
    AB_WORKER_STATE_DOWN = 0, /* no process */
    AB_WORKER_STATE_STARTING = 1, /* setting itself up */
    AB_WORKER_STATE_RUNNING = 2, /* in the loop */
    AB_WORKER_STATE_PAUSED = 3, /* reconfiguring outside the loop */
    AB_WORKER_STATE_STOPPED = 4, /* ended in order */
    AB_WORKER_STATE_END = 5,
};

/* state of the daemon */
enum ab_daemon_state {
    AB_DAEMON_STATE_STOPPED = 0, /* ended in order */
    AB_DAEMON_STATE_STARTING = 1, /* not yet serving */
    AB_DAEMON_STATE_SERVING = 2, /* every worker runs with every queue bound */
    AB_DAEMON_STATE_DEGRADED = 3, /* serving, but something configured is not in force */
    AB_DAEMON_STATE_RECOVERING = 4, /* a worker is being restarted, or the interface is being waited for */
    AB_DAEMON_STATE_STOPPING = 5, /* on the way down */
    AB_DAEMON_STATE_END = 6,
};

/* what a record holds */
enum ab_record_kind {
    AB_RECORD_NONE = 0, /* slot never written */
    AB_RECORD_TRANSACTION = 1, /* a decoded Solana transaction */
    AB_RECORD_MALFORMED = 2, /* bytes that should have been a transaction; `reason` says why not */
    AB_RECORD_DATAGRAM = 3, /* bytes that nobody was asked to decode */
    AB_RECORD_STREAM = 4, /* bytes of a QUIC stream; `quic_data` stands in place of `tx` */
    AB_RECORD_QUIC_DATAGRAM = 5, /* a QUIC DATAGRAM; `quic_data` stands in place of `tx` */
    AB_RECORD_END = 6,
};

/* what a capture rule does with a datagram */
enum ab_decoder {
    AB_DECODER_RAW = 0, /* record its bytes */
    AB_DECODER_SOLANA_TX = 1, /* decode it as a Solana transaction */
    AB_DECODER_COUNT = 2, /* count it and nothing else */
    AB_DECODER_ECHO = 3, /* send it back where it came from (test rigs) */
    AB_DECODER_QUIC = 4, /* give it to the QUIC engine */
    AB_DECODER_END = 5,
};

/* why bytes are not a Solana transaction */
enum ab_tx_reason {
    AB_TX_OK = 0, /* a well-formed transaction */
    AB_TX_EMPTY = 1, /* no bytes */
    AB_TX_TOO_LONG = 2, /* longer than the 65,535 bytes that 16-bit offsets can describe */
    AB_TX_UNKNOWN_VERSION = 3, /* the first byte, or that of the message, names a version that does not exist there */
    AB_TX_UNSUPPORTED_VERSION = 4, /* names a version above 1, which this decoder does not read */
    AB_TX_BAD_COMPACT_U16 = 5, /* a compact-u16 count is not in its shortest form, or is above 65,535 */
    AB_TX_BAD_CONFIG_MASK = 6, /* the configuration mask (v1) has unassigned bits, or half of the priority fee's */
    AB_TX_TRUNCATED_SIGNATURES = 7, /* ends inside the signatures */
    AB_TX_TRUNCATED_HEADER = 8, /* ends inside the message header */
    AB_TX_TRUNCATED_ACCOUNTS = 9, /* ends inside the account keys */
    AB_TX_TRUNCATED_BLOCKHASH = 10, /* ends inside the recent blockhash */
    AB_TX_TRUNCATED_CONFIG = 11, /* ends inside the configuration values (v1) */
    AB_TX_TRUNCATED_INSTRUCTIONS = 12, /* ends inside the instructions */
    AB_TX_TRUNCATED_LOOKUPS = 13, /* ends inside the address-table lookups */
    AB_TX_TRAILING_BYTES = 14, /* bytes left over behind the transaction */
    AB_TX_END = 15,
};

/* why a well-formed transaction cannot be executed: its counts or indices contradict each other */
enum ab_tx_sanitize {
    AB_TX_SANITIZE_OK = 0, /* counts and indices agree */
    AB_TX_SANITIZE_TOO_MANY_SIGNATURES = 1, /* more required signatures than the 12 that v1 allows */
    AB_TX_SANITIZE_TOO_MANY_INSTRUCTIONS = 2, /* more instructions than the 64 that v1 allows */
    AB_TX_SANITIZE_READONLY_OVERLAP = 3, /* signers and read-only accounts without signature are more than there are keys */
    AB_TX_SANITIZE_NO_FEE_PAYER = 4, /* no writable account that signs */
    AB_TX_SANITIZE_EMPTY_LOOKUP = 5, /* an address-table lookup that loads nothing */
    AB_TX_SANITIZE_TOO_MANY_ACCOUNTS = 6, /* more keys than the 64 that v1 allows; v0: with those loaded, than the 256 that an index can tell apart */
    AB_TX_SANITIZE_DUPLICATE_ACCOUNT = 7, /* two account keys are the same (v1) */
    AB_TX_SANITIZE_BAD_HEAP_SIZE = 8, /* the heap size (v1) is not a multiple of 1 KiB from 32 to 256 KiB */
    AB_TX_SANITIZE_PROGRAM_INDEX = 9, /* the program of an instruction is not among the static keys */
    AB_TX_SANITIZE_PROGRAM_IS_PAYER = 10, /* the program of an instruction is the fee payer */
    AB_TX_SANITIZE_ACCOUNT_INDEX = 11, /* an instruction names an account beyond the keys */
    AB_TX_SANITIZE_MISSING_SIGNATURES = 12, /* fewer signatures than the header requires */
    AB_TX_SANITIZE_EXTRA_SIGNATURES = 13, /* more signatures than the header requires */
    AB_TX_SANITIZE_END = 14,
};

/* which end of a connection we are */
enum ab_quic_role {
    AB_QUIC_CLIENT = 0, /* we dialled */
    AB_QUIC_SERVER = 1, /* we accepted */
    AB_QUIC_END = 2,
};

/* why a connection was not adopted */
enum ab_quic_refusal {
    AB_QUIC_REFUSED_NONE = 0, /* adopted */
    AB_QUIC_REFUSED_FULL = 1, /* the connection table is full: answer CONNECTION_REFUSED */
    AB_QUIC_REFUSED_DUPLICATE = 2, /* a connection of this number, or one of its connection IDs, is there already */
    AB_QUIC_REFUSED_VERSION = 3, /* not QUIC version 1 */
    AB_QUIC_REFUSED_SUITE = 4, /* not a cipher suite of ours */
    AB_QUIC_REFUSED_TPARAMS = 5, /* our own transport parameters cannot be read, or promise more than the engine has room for */
    AB_QUIC_REFUSED_PEER_TPARAMS = 6, /* the peer's transport parameters are wrong: close with TRANSPORT_PARAMETER_ERROR */
    AB_QUIC_REFUSED_CIDS = 7, /* no connection ID of one side, too many, or of a wrong length */
    AB_QUIC_REFUSED_PATH = 8, /* the path is not complete */
    AB_QUIC_REFUSED_LENGTH = 9, /* a length or count is beyond its room */
    AB_QUIC_REFUSED_CRYPTO = 10, /* keys could not be derived */
    AB_QUIC_REFUSED_CLOSING = 11, /* the worker is closing all its connections */
    AB_QUIC_REFUSED_END = 12,
};

/* what became of a message that was accepted for sending */
enum ab_quic_outcome {
    AB_QUIC_OUTCOME_ACKNOWLEDGED = 0, /* the peer has acknowledged every byte */
    AB_QUIC_OUTCOME_CLOSED = 1, /* the connection was closed before all was acknowledged; it may or may not have arrived */
    AB_QUIC_OUTCOME_RESET = 2, /* we reset the stream before all was acknowledged */
    AB_QUIC_OUTCOME_STOPPED = 3, /* the peer asked to stop sending (STOP_SENDING) */
    AB_QUIC_OUTCOME_LOST = 4, /* DATAGRAM: declared lost (it is not sent again) */
    AB_QUIC_OUTCOME_EXPIRED = 5, /* waited in a queue beyond its time */
    AB_QUIC_OUTCOME_END = 6,
};

/* how a connection ended */
enum ab_quic_close {
    AB_QUIC_CLOSE_LOCAL = 0, /* we closed it, on command */
    AB_QUIC_CLOSE_ERROR = 1, /* we closed it for an error of the peer; the code says which */
    AB_QUIC_CLOSE_PEER = 2, /* the peer closed it */
    AB_QUIC_CLOSE_IDLE = 3, /* nothing was heard for the idle timeout */
    AB_QUIC_CLOSE_RESET = 4, /* stateless reset by the peer */
    AB_QUIC_CLOSE_DROPPED = 5, /* forgotten on command, without a packet */
    AB_QUIC_CLOSE_END = 6,
};

/* state of a connection in the engine */
enum ab_quic_state {
    AB_QUIC_STATE_FREE = 0, /* no connection */
    AB_QUIC_STATE_HANDSHAKE = 1, /* client: complete, not confirmed (HANDSHAKE_DONE has not come) */
    AB_QUIC_STATE_OPEN = 2, /* confirmed */
    AB_QUIC_STATE_CLOSING = 3, /* CONNECTION_CLOSE sent; repeats it for 3 PTO */
    AB_QUIC_STATE_DRAINING = 4, /* the peer closed: silent for 3 PTO */
    AB_QUIC_STATE_END = 5,
};

/* how a message travels */
enum ab_quic_send {
    AB_QUIC_SEND_UNI = 0, /* a unidirectional stream of its own, with FIN: a transaction */
    AB_QUIC_SEND_BIDI_OPEN = 1, /* opens a bidirectional stream; its ID is told by the call, or by the event STREAM */
    AB_QUIC_SEND_STREAM = 2, /* on an open stream whose ID is given */
    AB_QUIC_SEND_DATAGRAM = 3, /* a DATAGRAM frame (RFC 9221), not repeated */
    AB_QUIC_SEND_UNI_OPEN = 4, /* opens a unidirectional stream that stays open */
    AB_QUIC_SEND_END = 5,
};

/* what an event QLOG tells; in brackets its body */
enum ab_quic_qlog {
    AB_QUIC_QLOG_NONE = 0, /* nothing */
    AB_QUIC_QLOG_SENT = 1, /* packet sent; number: of the packet, token: its bytes, by: key phase, is_app 1: cut [quic_qlog_frame ...] */
    AB_QUIC_QLOG_RECEIVED = 2, /* packet received, likewise */
    AB_QUIC_QLOG_LOST = 3, /* packet declared lost; number, token as above; by 0: reordering threshold, 1: time threshold */
    AB_QUIC_QLOG_METRICS = 4, /* state of loss recovery and congestion control [quic_qlog_metrics] */
    AB_QUIC_QLOG_MISSED = 5, /* events that found no room; number: how many */
    AB_QUIC_QLOG_END = 6,
};

/* what a command asks for; in brackets the body behind struct quic_command */
enum ab_quic_command_kind {
    AB_QUIC_COMMAND_NONE = 0, /* nothing */
    AB_QUIC_COMMAND_ADOPT = 1, /* adopt a connection [quic_adopt]; answered by ADOPTED with the same number */
    AB_QUIC_COMMAND_INJECT = 2, /* a datagram that reached the kernel socket [quic_inject, then its bytes] */
    AB_QUIC_COMMAND_STOCK = 3, /* more connection IDs of ours [quic_cid, any number] */
    AB_QUIC_COMMAND_SEND = 4, /* a message [its bytes]; how: enum quic_send; token, stream, flags SEND_* */
    AB_QUIC_COMMAND_CLOSE = 5, /* close [reason phrase]; code, flags CLOSE_APP */
    AB_QUIC_COMMAND_RESET_STREAM = 6, /* reset our side of a stream; stream, code */
    AB_QUIC_COMMAND_STOP_SENDING = 7, /* ask the peer to stop a stream; stream, code */
    AB_QUIC_COMMAND_PATH = 8, /* our side of the path changed: neighbour, route, MTU [path] */
    AB_QUIC_COMMAND_UPDATE_KEYS = 9, /* update keys now */
    AB_QUIC_COMMAND_PING = 10, /* send a PING */
    AB_QUIC_COMMAND_TRACE = 11, /* code: bit 0 qlog, bit 1 key log */
    AB_QUIC_COMMAND_DROP = 12, /* forget the connection without a packet */
    AB_QUIC_COMMAND_CLOSE_ALL = 13, /* close every connection [reason phrase]; code, flags CLOSE_APP; no more are adopted */
    AB_QUIC_COMMAND_CRYPTO = 14, /* more 1-RTT CRYPTO bytes to send, behind those sent before [bytes] */
    AB_QUIC_COMMAND_TOKEN = 15, /* server: a token for the client's next connection, in NEW_TOKEN [token] */
    AB_QUIC_COMMAND_END = 16,
};

/* what an event tells; in brackets the body behind struct quic_event */
enum ab_quic_event_kind {
    AB_QUIC_EVENT_NONE = 0, /* nothing */
    AB_QUIC_EVENT_ADOPTED = 1, /* answer to ADOPT: number; code: enum quic_refusal */
    AB_QUIC_EVENT_CONFIRMED = 2, /* client: the handshake is confirmed: Initial and Handshake keys may go */
    AB_QUIC_EVENT_CRYPTO = 3, /* 1-RTT CRYPTO bytes in order (session tickets); number: offset [bytes] */
    AB_QUIC_EVENT_TOKEN = 4, /* NEW_TOKEN [token] */
    AB_QUIC_EVENT_RESET_TOKEN = 5, /* a connection ID of the peer is in use or was given up (code 1) [quic_cid] */
    AB_QUIC_EVENT_CID_RETIRED = 6, /* the peer retired a connection ID of ours [quic_cid] */
    AB_QUIC_EVENT_CIDS_LOW = 7, /* the stock of connection IDs is low; number: how many are wanted */
    AB_QUIC_EVENT_MIGRATED = 8, /* the peer's address changed and is validated [path] */
    AB_QUIC_EVENT_DONE = 9, /* fate of a message: token, code: enum quic_outcome, number: when it was first sent, ns */
    AB_QUIC_EVENT_CLOSED = 10, /* by: enum quic_close, code, is_app, number: frame type [quic_closed, then reason] */
    AB_QUIC_EVENT_KEYS = 11, /* for a key log; number: generation, code 1: our sending secret, 0: the peer's [secret] */
    AB_QUIC_EVENT_QLOG = 12, /* what happened, for qlog; code: enum quic_qlog, which says what else */
    AB_QUIC_EVENT_STREAM = 13, /* answer to SEND of BIDI_OPEN or UNI_OPEN: token, number: stream ID */
    AB_QUIC_EVENT_REFUSED = 14, /* a command was refused: number, code: negated AB_QUIC_E..., token of a SEND */
    AB_QUIC_EVENT_EARLY = 15, /* 0-RTT packets were acknowledged (code 0) or lost (code 1) [quic_range] */
    AB_QUIC_EVENT_STRAY = 16, /* came to a socket of the data plane and is not for its engine: a long header, an unknown connection ID [quic_inject, then its bytes] */
    AB_QUIC_EVENT_KEY_UPDATE = 17, /* a key update took place; number: generation, code 1: started by us */
    AB_QUIC_EVENT_END = 18,
};

/* first bytes of the statistics segment; the blocks follow, described by the JSON text at its end */
struct ab_segment {
    uint64_t magic; /* MAGIC */
    uint64_t version; /* schema version */
    uint64_t total_bytes; /* size of the segment */
    uint64_t created_ns; /* CLOCK_REALTIME of creation */
    uint64_t text_offset; /* where the description begins */
    uint64_t text_capacity; /* bytes that it may take */
    uint64_t text_bytes; /* bytes that it takes */
    uint64_t text_seq; /* seqlock of the description: odd while it is being written */
    uint64_t pad[8]; /* zero */
};
_Static_assert(sizeof(struct ab_segment) == 128, "struct ab_segment changed size");

/* one expanded capture rule: exact local address and port (the data plane's copy of what XDP matches) */
struct ab_rule {
    uint8_t addr[16]; /* local address, IPv4 mapped; all zero: any (socket backend only) */
    uint16_t port; /* local port, host order */
    uint16_t vlan_outer; /* outer VLAN ID, 0: untagged */
    uint16_t vlan_inner; /* inner VLAN ID, 0: none */
    uint16_t rule; /* index of the rule in the configuration */
    uint8_t decoder; /* enum decoder */
    uint8_t pad[7]; /* zero */
};
_Static_assert(sizeof(struct ab_rule) == 32, "struct ab_rule changed size");

/* where the parts of a decoded transaction lie, as offsets from the first byte of the datagram */
struct ab_tx {
    uint8_t version; /* 0xff legacy, else the message version */
    uint8_t reason; /* enum tx_reason */
    uint8_t num_required; /* message header: required signatures */
    uint8_t num_ro_signed; /* message header: read-only signed accounts */
    uint8_t num_ro_unsigned; /* message header: read-only unsigned accounts */
    uint8_t config_mask; /* which configuration values there are (v1): the mask, whose upper bits are zero */
    uint16_t num_signatures; /* signatures */
    uint16_t num_accounts; /* static account keys */
    uint16_t num_instructions; /* instructions */
    uint16_t num_lookups; /* address-table lookups (v0) */
    uint16_t length; /* bytes that the transaction takes; malformed: the byte at which reading stopped */
    uint16_t signatures_off; /* first signature */
    uint16_t message_off; /* first byte of what is signed; that ends where the transaction does (v1: at the signatures) */
    uint16_t accounts_off; /* first account key */
    uint16_t blockhash_off; /* recent blockhash */
    uint16_t instructions_off; /* first instruction (v1: its head; behind the heads come the bodies) */
    uint16_t lookups_off; /* first lookup, 0: none */
    uint16_t config_off; /* where the configuration values begin (v1), 0: a version without them */
    uint16_t pad; /* zero */
};
_Static_assert(sizeof(struct ab_tx) == 32, "struct ab_tx changed size");

/* first bytes of a record ring: one writer, any number of readers that cannot slow it down */
struct ab_record_ring {
    uint64_t magic; /* RECORD_MAGIC */
    uint64_t version; /* schema version */
    uint64_t slot_bytes; /* bytes of a slot, header included */
    uint64_t slots; /* number of slots, a power of two */
    uint64_t worker; /* index of the writing worker */
    uint64_t created_ns; /* CLOCK_REALTIME of creation: tells a reader that the ring was made anew */
    uint64_t pad[10]; /* zero */
    uint64_t head; /* sequence number of the next record; on a cache line of its own */
    uint64_t pad2[15]; /* zero */
};
_Static_assert(sizeof(struct ab_record_ring) == 256, "struct ab_record_ring changed size");

/* head of a slot; `stored` bytes of the datagram follow */
struct ab_record {
    uint64_t seq; /* seqlock: 2n+1 while record n is being written, 2n+2 when it is whole */
    uint64_t time_ns; /* CLOCK_REALTIME when it was taken off the ring */
    uint64_t stamp_ns; /* CLOCK_MONOTONIC when XDP saw it, 0: unknown */
    uint64_t mono_ns; /* CLOCK_MONOTONIC when it was taken off the ring */
    uint8_t src[16]; /* source address, IPv4 mapped */
    uint8_t dst[16]; /* destination address, IPv4 mapped */
    uint16_t sport; /* source port */
    uint16_t dport; /* destination port */
    uint16_t rule; /* index of the capture rule */
    uint8_t kind; /* enum record_kind */
    uint8_t reason; /* enum tx_reason */
    uint16_t queue; /* receive queue */
    uint16_t worker; /* worker */
    uint16_t length; /* bytes of the datagram */
    uint16_t stored; /* bytes of it that follow here (fewer where a slot is too small) */
    uint64_t pad[2]; /* zero */
    struct ab_tx tx; /* the decoded transaction */
};
_Static_assert(sizeof(struct ab_record) == 128, "struct ab_record changed size");

/* everything needed to put a datagram on the way to a peer */
struct ab_path {
    uint8_t local[16]; /* our address, IPv4 mapped */
    uint8_t remote[16]; /* the peer's address, IPv4 mapped */
    uint16_t local_port; /* our port, host order */
    uint16_t remote_port; /* the peer's port, host order */
    uint16_t vlan_outer; /* outer VLAN ID, 0: untagged */
    uint16_t vlan_inner; /* inner VLAN ID, 0: none */
    uint8_t dmac[6]; /* MAC address of the next hop */
    uint8_t smac[6]; /* our MAC address */
    uint8_t family; /* 4 or 6 */
    uint8_t ttl; /* TTL or hop limit */
    uint8_t dscp; /* DSCP, 0 to 63 */
    uint8_t io; /* how datagrams leave: 0 AF_XDP, 1 socket */
    uint16_t mtu; /* largest UDP payload that the interface allows, bytes */
    uint16_t slot; /* source of the worker that sends: index of its ios */
    uint32_t generation; /* counts changes; set by whoever changes the path */
};
_Static_assert(sizeof(struct ab_path) == 64, "struct ab_path changed size");

/* a connection ID with its stateless reset token */
struct ab_quic_cid {
    uint64_t seq; /* sequence number */
    uint8_t len; /* bytes of `cid` in use, 0 to 20 */
    uint8_t has_token; /* 1: `token` is set */
    uint8_t pad[6]; /* zero */
    uint8_t cid[20]; /* the connection ID */
    uint8_t pad2[4]; /* zero */
    uint8_t token[16]; /* stateless reset token */
};
_Static_assert(sizeof(struct ab_quic_cid) == 56, "struct ab_quic_cid changed size");

/* a range of packet numbers */
struct ab_quic_range {
    uint64_t first; /* lowest */
    uint64_t last; /* highest, inclusive */
};
_Static_assert(sizeof(struct ab_quic_range) == 16, "struct ab_quic_range changed size");

/* a connection whose handshake is complete, as it goes to the engine; nothing of it is kept by the supervisor after ADOPTED */
struct ab_quic_adopt {
    struct ab_path path; /* validated path */
    struct ab_quic_cid local_cids[8]; /* connection IDs of ours, all in the map `cids`, by sequence number */
    struct ab_quic_cid peer_cids[8]; /* connection IDs of the peer, by sequence number */
    struct ab_quic_range early[16]; /* 0-RTT packets sent and not yet acknowledged */
    uint64_t id; /* the supervisor's number of the connection, never 0 */
    uint32_t version; /* QUIC version: 1 */
    uint8_t role; /* enum quic_role */
    uint8_t suite; /* 1 AES-128-GCM, 2 AES-256-GCM, 3 ChaCha20-Poly1305 (enum ab_quic_suite) */
    uint8_t confirmed; /* 1: the handshake is confirmed (a server's is on adoption) */
    uint8_t early_accepted; /* 1: 0-RTT was accepted */
    uint8_t tx_secret[48]; /* our 1-RTT traffic secret of generation 0 */
    uint8_t rx_secret[48]; /* the peer's */
    uint64_t next_pn; /* lowest packet number that was never used in the application space */
    uint64_t crypto_rx_offset; /* 1-RTT CRYPTO bytes of the peer that TLS has consumed already */
    uint64_t idle_deadline_ns; /* CLOCK_MONOTONIC at which the idle timeout of the handshake ends, 0: count from now */
    uint64_t rtt_hint_ns; /* round-trip time seen by the handshake, 0: none */
    uint64_t peer_cid_in_use; /* sequence number of the peer's connection ID to send to */
    uint64_t early_uni; /* unidirectional streams that the peer has seen in 0-RTT; the same messages are sent again, on the same streams */
    uint8_t spare[16]; /* zero */
    uint32_t local_count; /* connection IDs in local_cids */
    uint32_t peer_count; /* connection IDs in peer_cids */
    uint32_t early_count; /* ranges in early */
    uint32_t crypto_len; /* bytes in crypto */
    uint32_t local_tparams_len; /* bytes in local_tparams */
    uint32_t remote_tparams_len; /* bytes in remote_tparams */
    uint8_t local_tparams[512]; /* our transport parameters, as in the TLS extension */
    uint8_t remote_tparams[512]; /* the peer's, as in the TLS extension */
    uint8_t crypto[1024]; /* 1-RTT CRYPTO bytes to send from offset 0 (server: session tickets) */
};
_Static_assert(sizeof(struct ab_quic_adopt) == 3464, "struct ab_quic_adopt changed size");

/* where an injected datagram came from */
struct ab_quic_inject {
    uint8_t local[16]; /* address that it came to, IPv4 mapped */
    uint8_t remote[16]; /* address that it came from */
    uint16_t local_port; /* host order */
    uint16_t remote_port; /* host order */
    uint8_t family; /* 4 or 6 */
    uint8_t tos; /* DSCP and ECN, 0: unknown */
    uint16_t len; /* bytes of the datagram */
};
_Static_assert(sizeof(struct ab_quic_inject) == 40, "struct ab_quic_inject changed size");

/* head of a slot of the command ring; `length` bytes of body follow */
struct ab_quic_command {
    uint64_t number; /* of the command, counted by who writes it; answers repeat it */
    uint64_t conn; /* the supervisor's number of the connection */
    uint64_t stream; /* stream ID */
    uint64_t token; /* names a message in its DONE; 0: no DONE is wanted */
    uint64_t code; /* error code, or as the kind says */
    uint32_t kind; /* enum quic_command_kind */
    uint32_t length; /* bytes of body */
    uint32_t how; /* SEND: enum quic_send */
    uint32_t flags; /* SEND_*, CLOSE_* */
    uint64_t pad; /* zero */
};
_Static_assert(sizeof(struct ab_quic_command) == 64, "struct ab_quic_command changed size");

/* head of a slot of the event ring; `length` bytes of body follow */
struct ab_quic_event {
    uint64_t conn; /* the supervisor's number of the connection */
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t number; /* as the kind says */
    uint64_t code; /* as the kind says */
    uint64_t token; /* of a message */
    uint32_t kind; /* enum quic_event_kind */
    uint32_t length; /* bytes of body */
    uint8_t by; /* CLOSED: enum quic_close */
    uint8_t is_app; /* CLOSED: 1 if the code is the application's */
    uint8_t pad[14]; /* zero */
};
_Static_assert(sizeof(struct ab_quic_event) == 64, "struct ab_quic_event changed size");

/* what a connection counted over its life */
struct ab_quic_counts {
    uint64_t packets_sent; /* packets */
    uint64_t packets_received; /* packets that could be opened */
    uint64_t packets_lost; /* packets of ours declared lost */
    uint64_t packets_spurious; /* of those, packets that were acknowledged later */
    uint64_t packets_duplicate; /* packets that came again */
    uint64_t packets_undecryptable; /* packets that could not be opened */
    uint64_t bytes_sent; /* UDP payload */
    uint64_t bytes_received; /* UDP payload of packets that could be opened */
    uint64_t messages_sent; /* messages accepted for sending */
    uint64_t messages_acked; /* messages acknowledged whole */
    uint64_t messages_failed; /* messages with another fate */
    uint64_t messages_resent; /* messages, or parts, that were sent again after a loss */
    uint64_t streams_received; /* streams of the peer that ended whole */
    uint64_t stream_bytes_received; /* their bytes, and those of streams still open */
    uint64_t datagrams_sent; /* DATAGRAM frames */
    uint64_t datagrams_received; /* DATAGRAM frames */
    uint64_t ptos; /* probe timeouts */
    uint64_t congestion_events; /* reductions of the window */
    uint64_t blocked_credit_ns; /* time with data but no bytes that the peer allows (flow control) */
    uint64_t blocked_streams_ns; /* time with data but no stream that the peer allows */
    uint64_t blocked_window_ns; /* time with data but no room in the congestion window */
    uint64_t key_updates; /* generations, both directions */
    uint64_t migrations; /* changes of the peer's address that were validated */
};
_Static_assert(sizeof(struct ab_quic_counts) == 184, "struct ab_quic_counts changed size");

/* last words on a connection; the reason phrase follows */
struct ab_quic_closed {
    struct ab_quic_counts counts; /* what it counted */
    uint64_t srtt_ns; /* smoothed round-trip time */
    uint64_t min_rtt_ns; /* smallest round-trip time */
    uint64_t cwnd; /* congestion window, bytes */
    uint64_t age_ns; /* time since adoption */
};
_Static_assert(sizeof(struct ab_quic_closed) == 216, "struct ab_quic_closed changed size");

/* what stands in a record in place of `tx` where its kind is STREAM or QUIC_DATAGRAM */
struct ab_quic_data {
    uint64_t conn; /* the supervisor's number of the connection */
    uint64_t stream; /* stream ID */
    uint64_t offset; /* of the first byte in its stream */
    uint8_t fin; /* 1: the stream ends with these bytes */
    uint8_t reset; /* 1: the peer reset the stream; no bytes, `offset` is the error code */
    uint8_t pad[6]; /* zero */
};
_Static_assert(sizeof(struct ab_quic_data) == 32, "struct ab_quic_data changed size");

/* in front of each frame of a packet in an event QLOG; `len` bytes of the frame follow, those before its data */
struct ab_quic_qlog_frame {
    uint16_t len; /* bytes of the frame's head, which follow */
    uint16_t data; /* bytes of data behind it, left out (of PADDING: all bytes but one) */
};
_Static_assert(sizeof(struct ab_quic_qlog_frame) == 4, "struct ab_quic_qlog_frame changed size");

/* recovery and congestion control */
struct ab_quic_qlog_metrics {
    uint64_t srtt_ns; /* smoothed round-trip time */
    uint64_t rttvar_ns; /* its variation */
    uint64_t min_rtt_ns; /* smallest round-trip time */
    uint64_t latest_rtt_ns; /* latest round-trip time */
    uint64_t cwnd; /* congestion window, bytes */
    uint64_t in_flight; /* bytes under way */
    uint64_t pto_count; /* probe timeouts in a row */
};
_Static_assert(sizeof(struct ab_quic_qlog_metrics) == 56, "struct ab_quic_qlog_metrics changed size");

/* first bytes of a worker's table of connections in shared memory (connections.py); rows follow */
struct ab_quic_rows {
    uint64_t magic; /* QUIC_ROWS_MAGIC */
    uint64_t version; /* schema version */
    uint64_t row_bytes; /* bytes of a row */
    uint64_t rows; /* number of rows */
    uint64_t worker; /* index of the worker */
    uint64_t created_ns; /* Unix time at which the table was laid out */
    uint64_t pad[2]; /* zero */
    uint64_t written_ns; /* CLOCK_MONOTONIC of the worker's latest look at its connections */
    uint64_t pad2[7]; /* zero */
    uint8_t crypto[32]; /* who protects packets: text, filled up with zero */
    uint8_t crypto_reason[224]; /* why that one: text, filled up with zero */
};
_Static_assert(sizeof(struct ab_quic_rows) == 384, "struct ab_quic_rows changed size");

/* a connection as everybody may see it: no key, no connection ID, no token */
struct ab_quic_row {
    uint64_t seq; /* odd while the row is being written */
    uint64_t id; /* the supervisor's number of the connection, 0: the row is free */
    uint64_t time_ns; /* CLOCK_MONOTONIC at which the row was written */
    uint64_t adopted_ns; /* CLOCK_MONOTONIC of the adoption */
    uint8_t local[16]; /* our address, IPv4 mapped */
    uint8_t remote[16]; /* the peer's address, IPv4 mapped */
    uint16_t local_port; /* our port, host order */
    uint16_t remote_port; /* the peer's port, host order */
    uint8_t role; /* enum quic_role */
    uint8_t state; /* enum quic_state */
    uint8_t suite; /* 1 AES-128-GCM, 2 AES-256-GCM, 3 ChaCha20-Poly1305 */
    uint8_t io; /* how datagrams leave: 0 AF_XDP, 1 socket */
    uint16_t slot; /* source of the worker that sends */
    uint16_t mtu; /* bytes of UDP payload that the path is known to take */
    uint8_t ecn; /* validation of ECN on the path (quic_ecn.h) */
    uint8_t trace; /* what is being traced: bit 0 qlog, bit 1 key log */
    uint8_t pad[2]; /* zero */
    uint32_t tx_generation; /* of our keys; its lowest bit is the key phase */
    uint32_t rx_generation; /* of the peer's keys */
    uint64_t srtt_ns; /* smoothed round-trip time */
    uint64_t rttvar_ns; /* its variation */
    uint64_t min_rtt_ns; /* smallest round-trip time */
    uint64_t latest_rtt_ns; /* latest round-trip time */
    uint64_t pto_ns; /* probe timeout */
    uint64_t cwnd; /* congestion window, bytes */
    uint64_t in_flight; /* bytes under way */
    uint64_t slots; /* message slots held: what waits to be sent or to be acknowledged */
    uint64_t uni_opened; /* unidirectional streams that we opened */
    uint64_t uni_limit; /* the peer's limit for those */
    uint64_t bidi_opened; /* bidirectional streams that we opened */
    uint64_t bidi_limit; /* the peer's limit for those */
    uint64_t data_sent; /* bytes of stream data sent */
    uint64_t data_limit; /* the peer's limit for those */
    uint64_t streams; /* stream objects held */
    struct ab_quic_counts counts; /* what it counted */
    uint64_t pad2[7]; /* zero */
};
_Static_assert(sizeof(struct ab_quic_row) == 448, "struct ab_quic_row changed size");

/* first bytes of a ring of commands or events: one producer, one consumer; slots follow */
struct ab_quic_ring {
    uint64_t magic; /* QUIC_RING_MAGIC */
    uint64_t version; /* schema version */
    uint64_t slot_bytes; /* bytes of a slot */
    uint64_t slots; /* number of slots, a power of two */
    uint64_t asleep; /* 1: the consumer sleeps and wants to be woken; whoever wakes it writes 0 */
    uint64_t pad[11]; /* zero */
    uint64_t head; /* slots ever written; the producer's cache line */
    uint64_t pad2[15]; /* zero */
    uint64_t tail; /* slots ever consumed; the consumer's cache line */
    uint64_t pad3[15]; /* zero */
};
_Static_assert(sizeof(struct ab_quic_ring) == 384, "struct ab_quic_ring changed size");

/* log-linear histogram: geometry in kinds.py, arithmetic in hist.h */
#define AB_HIST_SUB_BITS 5
#define AB_HIST_MAX_BITS 40
#define AB_HIST_BUCKETS 1152
struct ab_hist {
    uint64_t count; /* values recorded */
    uint64_t sum; /* their sum */
    uint64_t min; /* smallest, meaningless while count is 0 */
    uint64_t max; /* largest */
    uint64_t buckets[AB_HIST_BUCKETS];
};

/* the daemon as its supervisor sees it; written by the supervisor alone */
struct ab_stats_daemon {
    uint64_t state; /* state of the daemon */
    uint64_t pid; /* process ID of the supervisor */
    uint64_t pid_start_ticks; /* start time of that process (field 22 of /proc/PID/stat): tells a reused process ID */
    uint64_t pid_namespace; /* inode of the PID namespace that those two belong to: a reader elsewhere judges by the heartbeat */
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of the supervisor's latest tick [ns] */
    uint64_t start_time_ns; /* Unix time at which the supervisor started [ns] */
    uint64_t config_generation; /* how many configurations have been in force since the start */
    uint64_t config_loaded_ns; /* Unix time at which the configuration in force was loaded [ns] */
    uint64_t reload_ok; /* reloads asked for, by result */
    uint64_t reload_unchanged; /* reloads asked for, by result */
    uint64_t reload_refused; /* reloads asked for, by result */
    uint64_t restart_killed; /* restarts of a data plane, by reason */
    uint64_t restart_hung; /* restarts of a data plane, by reason */
    uint64_t restart_config; /* restarts of a data plane, by reason */
    uint64_t recovery_ns; /* time from noticing the latest loss of a data plane to serving again [ns] */
    uint64_t rebinds; /* queues bound anew after a change of the interface */
    uint64_t ifindex; /* index of the interface */
    uint64_t interface_up; /* 1 while the interface is up and has a carrier */
    uint64_t interface_mtu; /* MTU of the interface [bytes] */
    uint64_t interface_queues; /* receive queues that the interface has */
    uint64_t interface_queues_wanted; /* receive queues (sockets, where there is no AF_XDP) that the configuration asks us to serve */
    uint64_t xdp_attached; /* 1 while our XDP program is attached */
    uint64_t xdp_generic; /* 1 where the program runs in generic instead of native mode */
    uint64_t cpu_ns; /* processor time that the supervisor has used [ns] */
    uint64_t rss_bytes; /* resident memory of the supervisor [bytes] */
    uint64_t event_lag_ns; /* by how much the supervisor's latest tick came late [ns] */
    struct ab_hist quic_adoption; /* time from the completion of a QUIC handshake until XDP gives the connection's packets to its worker [ns] */
    uint64_t pad[2];
};
_Static_assert(sizeof(struct ab_stats_daemon) == 9472, "struct ab_stats_daemon changed size");

/* verdicts of the XDP program, summed over the processors; written by the supervisor alone */
struct ab_stats_xdp {
    uint64_t packets; /* frames seen by the XDP program, by verdict and reason [packets] */
    uint64_t bytes; /* bytes seen by the XDP program, by verdict and reason [bytes] */
    uint64_t pad[14];
};
_Static_assert(sizeof(struct ab_stats_xdp) == 128, "struct ab_stats_xdp changed size");

/* what the kernel counts of an AF_XDP socket (XDP_STATISTICS, asked for by the supervisor on its copy of the socket); written by the supervisor alone */
struct ab_stats_kernel {
    uint64_t rx_dropped; /* frames that the kernel dropped, by reason [packets] */
    uint64_t rx_invalid_descs; /* descriptors that the kernel refused, by ring */
    uint64_t tx_invalid_descs; /* descriptors that the kernel refused, by ring */
    uint64_t rx_ring_full; /* frames that the kernel dropped, by reason [packets] */
    uint64_t rx_fill_ring_empty; /* times the kernel found the FILL ring empty */
    uint64_t tx_ring_empty; /* times the kernel found the TX ring empty */
    uint64_t pad[10];
};
_Static_assert(sizeof(struct ab_stats_kernel) == 128, "struct ab_stats_kernel changed size");

/* one pinned worker; written by the data plane alone */
struct ab_stats_worker {
    uint64_t state; /* state of the worker */
    uint64_t pid; /* process ID */
    uint64_t pid_start_ticks; /* start time of that process (field 22 of /proc/PID/stat) */
    uint64_t cpu; /* processor that the worker is pinned to */
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of a recent loop turn (the loop writes it every 64 turns and when it sleeps) [ns] */
    uint64_t turns; /* turns of the loop */
    uint64_t busy_turns; /* turns that moved at least one packet */
    uint64_t busy_ns; /* time spent in turns that moved packets [ns] */
    uint64_t run_ns; /* time spent in the loop; busy ratio = busy / run [ns] */
    uint64_t gap_max_ns; /* longest time between two turns since the worker started [ns] */
    uint64_t control_turns; /* times the loop was left for a control message */
    uint64_t sleeps; /* times an idle worker slept (idle = "sleep") */
    uint64_t huge_pages; /* 1 where all packet memory lies in 2 MiB pages */
    uint64_t memory_bytes; /* packet memory: frames of AF_XDP and buffers of sockets [bytes] */
    uint64_t records; /* records written to the record ring */
    uint64_t decoded; /* transactions decoded */
    uint64_t malformed_empty; /* datagrams that are not a transaction: no bytes */
    uint64_t malformed_too_long; /* datagrams that are not a transaction: longer than the 65,535 bytes that 16-bit offsets can describe */
    uint64_t malformed_unknown_version; /* datagrams that are not a transaction: the first byte, or that of the message, names a version that does not exist there */
    uint64_t malformed_unsupported_version; /* datagrams that are not a transaction: names a version above 1, which this decoder does not read */
    uint64_t malformed_bad_compact_u16; /* datagrams that are not a transaction: a compact-u16 count is not in its shortest form, or is above 65,535 */
    uint64_t malformed_bad_config_mask; /* datagrams that are not a transaction: the configuration mask (v1) has unassigned bits, or half of the priority fee's */
    uint64_t malformed_truncated_signatures; /* datagrams that are not a transaction: ends inside the signatures */
    uint64_t malformed_truncated_header; /* datagrams that are not a transaction: ends inside the message header */
    uint64_t malformed_truncated_accounts; /* datagrams that are not a transaction: ends inside the account keys */
    uint64_t malformed_truncated_blockhash; /* datagrams that are not a transaction: ends inside the recent blockhash */
    uint64_t malformed_truncated_config; /* datagrams that are not a transaction: ends inside the configuration values (v1) */
    uint64_t malformed_truncated_instructions; /* datagrams that are not a transaction: ends inside the instructions */
    uint64_t malformed_truncated_lookups; /* datagrams that are not a transaction: ends inside the address-table lookups */
    uint64_t malformed_trailing_bytes; /* datagrams that are not a transaction: bytes left over behind the transaction */
    uint64_t drop_short; /* frames dropped by the worker: shorter than its headers say [packets] */
    uint64_t drop_not_ip; /* frames dropped by the worker: no IPv4 or IPv6 header behind the Ethernet and VLAN headers [packets] */
    uint64_t drop_ip_header; /* frames dropped by the worker: IP header with options, extension headers, a fragment or a wrong version [packets] */
    uint64_t drop_ip_checksum; /* frames dropped by the worker: IPv4 header checksum wrong [packets] */
    uint64_t drop_not_udp; /* frames dropped by the worker: not UDP [packets] */
    uint64_t drop_udp_length; /* frames dropped by the worker: UDP length does not fit the packet [packets] */
    uint64_t drop_udp_checksum; /* frames dropped by the worker: UDP checksum wrong, or absent on IPv6 (checked when verify_udp_checksum is on) [packets] */
    uint64_t drop_no_rule; /* frames dropped by the worker: no rule for its address and port: the rules changed while the frame was on its way [packets] */
    uint64_t drop_multi_buffer; /* frames dropped by the worker: spans several frames and does not fit one: raise frame_size [packets] */
    uint64_t quic_connections; /* QUIC connections in the worker's table */
    uint64_t quic_connections_limit; /* QUIC connections that the worker may have */
    uint64_t quic_adopted; /* QUIC connections adopted */
    uint64_t quic_refused_full; /* QUIC connections that were not adopted, by reason */
    uint64_t quic_refused_other; /* QUIC connections that were not adopted, by reason */
    uint64_t quic_packets_sent; /* QUIC packets sent [packets] */
    uint64_t quic_packets_received; /* QUIC packets opened [packets] */
    uint64_t quic_packets_lost; /* QUIC packets of ours declared lost [packets] */
    uint64_t quic_packets_spurious; /* QUIC packets declared lost and acknowledged later [packets] */
    uint64_t quic_packets_duplicate; /* QUIC packets received that were not used, by reason [packets] */
    uint64_t quic_aead_failures; /* QUIC packets received that were not used, by reason [packets] */
    uint64_t quic_unknown_cids; /* QUIC packets received that were not used, by reason [packets] */
    uint64_t quic_malformed; /* QUIC packets received that were not used, by reason [packets] */
    uint64_t quic_strays_dropped; /* QUIC packets received that were not used, by reason [packets] */
    uint64_t quic_handovers_dropped; /* QUIC packets received that were not used, by reason [packets] */
    uint64_t quic_handovers_out; /* QUIC packets that came to another worker than their connection's, by direction [packets] */
    uint64_t quic_handovers_in; /* QUIC packets that came to another worker than their connection's, by direction [packets] */
    uint64_t quic_strays; /* QUIC packets passed on to the supervisor [packets] */
    uint64_t quic_bytes_sent; /* bytes of QUIC packets sent [bytes] */
    uint64_t quic_bytes_received; /* bytes of QUIC packets opened [bytes] */
    uint64_t quic_messages_sent; /* messages accepted for sending over QUIC */
    uint64_t quic_messages_acked; /* messages whose fate is known, by outcome */
    uint64_t quic_failed_closed; /* messages whose fate is known, by outcome */
    uint64_t quic_failed_reset; /* messages whose fate is known, by outcome */
    uint64_t quic_failed_stopped; /* messages whose fate is known, by outcome */
    uint64_t quic_failed_lost; /* messages whose fate is known, by outcome */
    uint64_t quic_failed_expired; /* messages whose fate is known, by outcome */
    uint64_t quic_retransmitted; /* messages, or parts, that were sent again after a loss */
    uint64_t quic_streams_received; /* streams of peers that ended whole */
    uint64_t quic_stream_bytes_received; /* bytes received on streams [bytes] */
    uint64_t quic_datagrams_received; /* DATAGRAM frames received */
    uint64_t quic_ptos; /* probe timeouts */
    uint64_t quic_congestion; /* reductions of a congestion window */
    uint64_t quic_key_updates; /* key updates, both directions */
    uint64_t quic_migrations; /* changes of a peer's address that were validated */
    uint64_t quic_blocked_credit_ns; /* time in which connections had data to send and could not, by reason [ns] */
    uint64_t quic_blocked_streams_ns; /* time in which connections had data to send and could not, by reason [ns] */
    uint64_t quic_blocked_window_ns; /* time in which connections had data to send and could not, by reason [ns] */
    uint64_t quic_pushed_back; /* messages refused for want of room */
    uint64_t quic_commands; /* commands of the supervisor carried out */
    uint64_t quic_events; /* events reported to the supervisor */
    uint64_t quic_send_drops; /* QUIC packets without a way out [packets] */
    uint64_t quic_slots; /* message slots */
    uint64_t quic_slots_used; /* message slots in use */
    uint64_t quic_memory_bytes; /* memory of the QUIC engine [bytes] */
    struct ab_hist gap; /* time between two turns of the loop [ns] */
    struct ab_hist adoption; /* time for which the adoption of a QUIC connection held the loop up [ns] */
    struct ab_hist latency; /* time from the XDP program seeing a frame to its record being readable [ns] */
};
_Static_assert(sizeof(struct ab_stats_worker) == 28416, "struct ab_stats_worker changed size");

/* one receive and transmit queue as its worker sees it; written by the data plane alone */
struct ab_stats_queue {
    uint64_t mode; /* how the queue is bound */
    uint64_t queue; /* number of the queue on the interface */
    uint64_t rx_packets; /* frames received [packets] */
    uint64_t rx_bytes; /* bytes received [bytes] */
    uint64_t tx_packets; /* frames handed to the kernel [packets] */
    uint64_t tx_bytes; /* bytes handed to the kernel [bytes] */
    uint64_t tx_completed; /* frames that the kernel reported as sent [packets] */
    uint64_t tx_dropped; /* frames not sent for lack of room in the TX ring or of a frame [packets] */
    uint64_t rx_bursts; /* non-empty receive bursts; packets / bursts is the batch size */
    uint64_t tx_kicks; /* system calls that told the kernel to send or receive */
    uint64_t rx_kicks; /* system calls that told the kernel to send or receive */
    uint64_t kick_errors; /* kicks that failed for a reason other than a full queue */
    uint64_t frames; /* frames of the packet memory */
    uint64_t frames_rx; /* frames by owner; they add up to queue_frames */
    uint64_t frames_worker; /* frames by owner; they add up to queue_frames */
    uint64_t frames_tx; /* frames by owner; they add up to queue_frames */
    uint64_t frame_errors; /* turns at whose end the frames did not add up; must stay 0 */
    uint64_t fill_level; /* entries waiting in a ring */
    uint64_t rx_level; /* entries waiting in a ring */
    uint64_t tx_level; /* entries waiting in a ring */
    uint64_t completion_level; /* entries waiting in a ring */
    uint64_t ring_size; /* depth of each ring */
    uint64_t pad[10];
};
_Static_assert(sizeof(struct ab_stats_queue) == 256, "struct ab_stats_queue changed size");

/* one capture rule on one worker; written by the data plane alone */
struct ab_stats_rule {
    uint64_t packets; /* datagrams that matched the rule [packets] */
    uint64_t bytes; /* bytes of their payloads [bytes] */
    uint64_t decoded; /* transactions decoded under the rule */
    uint64_t malformed; /* datagrams under the rule that are not a transaction */
    uint64_t pad[12];
};
_Static_assert(sizeof(struct ab_stats_rule) == 128, "struct ab_stats_rule changed size");

#endif
