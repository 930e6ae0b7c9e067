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
    AB_RECORD_END = 4,
};

/* what a capture rule does with a datagram */
enum ab_decoder {
    AB_DECODER_RAW = 0, /* record its bytes */
    AB_DECODER_SOLANA_TX = 1, /* decode it as a Solana transaction */
    AB_DECODER_COUNT = 2, /* count it and nothing else */
    AB_DECODER_ECHO = 3, /* send it back where it came from (test rigs) */
    AB_DECODER_END = 4,
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
    uint64_t pad[6];
};
_Static_assert(sizeof(struct ab_stats_daemon) == 256, "struct ab_stats_daemon changed size");

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
    uint64_t memory_bytes; /* packet memory [bytes] */
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
    struct ab_hist gap; /* time between two turns of the loop [ns] */
    struct ab_hist latency; /* time from the XDP program seeing a frame to its record being readable [ns] */
    uint64_t pad[1];
};
_Static_assert(sizeof(struct ab_stats_worker) == 18816, "struct ab_stats_worker changed size");

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
