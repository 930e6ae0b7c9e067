/* The QUIC engine: 1-RTT connections whose handshakes others have made (RFC 9000, 9001, 9002, 9221). Sans-I/O.
 *
 *                 ab_quic_adopt, _send, _close ...          commands of the supervisor, a bounded number a turn
 *                            |
 *                            v                             sink:
 *   datagrams --> ab_quic_rx .                              data, reset, datagram   what peers sent
 *                        [ struct ab_quic ] ------------->  done                    the fate of what we sent
 *   datagrams <-- ab_quic_tx .                              event                   what the supervisor must know
 *
 *                 ab_quic_deadline                           how long a caller may sleep
 *
 * No system call, no clock (time is an argument: u64 ns, monotonic), no allocation after ab_quic_new, no globals but
 * constants. One engine belongs to one thread. The pools are shared by all connections: a warm connection costs its
 * struct and nothing else, a hot one takes from the pools what it needs, and whoever finds a pool empty is pushed back.
 *
 * Rooms behind this header, one concept each:
 *
 *   | quic_engine   the table of connections, bursts
 *   | quic_adopt    adoption, and what the supervisor adds later
 *   | quic_conn     one connection: state, limits, timers; its death
 *   | quic_recv     packets in: protection, numbers, frames by type
 *   | quic_in       what peers' streams bring
 *   | quic_acked    acknowledgement, loss, probes
 *   | quic_send     what goes into the next packet
 *   | quic_build    header, frames, record: a packet being written
 *   | quic_message  what callers want to have sent
 *   | quic_out      fates of what is on its way; streams, sending
 *   | quic_events   what the sink is owed
 *   | quic_qlog     what happened, for qlog
 *   | quic_slot     data on its way, in slots
 *   | quic_sent     records of sent packets
 *   | quic_stream   windows and objects of streams
 *   | quic_cids     connection IDs of both sides
 *   | quic_path     paths, validation, migration
 *   | quic_keys     generations of keys
 *   | quic_timer    which connection is due next
 *
 * Leaves without state of a connection: quic_varint, quic_frame, quic_tparams, quic_ack, quic_rtt, quic_cc, quic_mtu,
 * quic_ecn, quic_crypto. */
#ifndef AB_QUIC_H
#define AB_QUIC_H

#include "abi.h"
#include "base.h"
#include "eth.h"

/* Why a call was refused. Nothing of the call took place. */
#define AB_QUIC_EFULL (-1021)    /* no room now: try again when something was acknowledged (push back) */
#define AB_QUIC_ECLOSED (-1022)  /* the connection is closing, or not there */
#define AB_QUIC_ETOOLONG (-1023) /* longer than can ever be sent: all slots, or a DATAGRAM over its limit */
#define AB_QUIC_ESTREAM (-1024)  /* no such stream, or it cannot be sent on (any more) */
#define AB_QUIC_EABSENT (-1025)  /* the peer does not take it: DATAGRAM not negotiated */
#define AB_QUIC_EEARLY                                                                                                 \
    (-1026) /* not yet: a key update before the former one is acknowledged or before confirmation                      \
             */

struct ab_quic;
struct ab_quic_conn;

enum ab_quic_cc_kind {
    AB_QUIC_CUBIC = 0,   /* RFC 9438 */
    AB_QUIC_NEWRENO = 1, /* RFC 9002 section 7 */
};

/* ab_quic_config: zero means the default in brackets, where there is one. */
struct ab_quic_config {
    uint32_t connections;       /* size of the table [64]; a full one refuses with AB_QUIC_REFUSED_FULL */
    uint32_t connections_limit; /* how many its owner fills; the other rows are for those that are ending. Told, not
                                   enforced */
    uint32_t messages;          /* slots for data to be sent and not yet acknowledged, all connections [16384] */
    uint32_t message_bytes;     /* room of a slot [1280]; longer data takes several */
    uint32_t packets;           /* records of sent packets, all connections, dealt out in blocks of 64 [65536] */
    uint32_t streams;        /* objects of streams that are more than one frame: reassembly, long sends, bidi [256] */
    uint32_t stream_bytes;   /* reassembly room of such an object, a power of two [16384]; our initial_max_stream_data_*
                                are cut to it (RFC: a promise that is not kept costs the peer nothing but credit) */
    uint32_t uni_window;     /* unidirectional streams of a peer that may be open at once, a power of two [16384] */
    uint32_t bidi_window;    /* the same, bidirectional [128] */
    uint32_t pack;           /* transactions in one packet at most, 0: as many as fit */
    uint32_t burst_packets;  /* packets that one connection may send before the next one has its turn [16] */
    enum ab_quic_cc_kind cc; /* [CUBIC] */
    uint32_t initial_window; /* bytes [128 * 1232] */
    bool hystart;            /* leave slow start when the round trip grows, too (HyStart++, RFC 9406) */
    bool pacing;             /* spread what the window allows over the round trip (RFC 9002 7.7) */
    bool ecn;                /* mark our packets ECT(0) and validate that the marks arrive (RFC 9000 13.4) */
    bool no_mtu_discovery;   /* stay at 1200 bytes or what the peer's max_udp_payload_size says */
    uint32_t skip_packets;   /* a packet number is left out every so many on average, 0: never (RFC 9000 21.4) */
    uint32_t keep_alive_ms;  /* PING after so long without a packet, or up to a half sooner; 0: never */
    uint32_t ack_threshold; /* packets that one ACK waits for at most, a quarter of a round trip at the longest [32]; 2:
                               what RFC 9000 13.2.2 recommends, 1: none waits */
    uint64_t confidentiality_limit; /* packets sealed with one key, 0: of the suite (RFC 9001 6.6) */
    uint64_t integrity_limit;       /* packets that could not be opened, all keys, 0: of the suite */
    uint64_t key_update_packets;    /* own update after so many, 0: at half of the confidentiality limit */
    uint64_t seed;                  /* of what must be unpredictable: skips, path challenges; drawn by the supervisor */
    const char *crypto;             /* backend of quic_crypto.h, NULL: auto */
};

/* ab_quic_sink: what the engine tells. Called from within rx, tx, adopt and the calls about one connection; of the
 * engine's functions only ab_quic_send and those that read may be called from inside. */
struct ab_quic_sink {
    void *ctx;
    /* Stream data in order, each byte once; `data` is valid during the call. A unidirectional stream that came whole in
     * one frame is one call with offset 0 and fin. Streams have no order among each other. */
    void (*data)(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data, uint32_t len,
                 bool fin);
    /* The peer reset the stream; no more data of it will be told. */
    void (*reset)(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t code, uint64_t final_size);
    void (*datagram)(void *ctx, struct ab_quic_conn *c, const uint8_t *data, uint32_t len);
    /* The fate of a message that ab_quic_send accepted, exactly once for each, also when the connection dies. false: no
     * room now; it is told again. first_sent_ns is 0 where it never left. */
    bool (*done)(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome,
                 uint64_t first_sent_ns);
    /* Control events; `body` is e->length bytes. false: no room now; it is told again, nothing is lost. CLOSED is the
     * last event of a connection: after it `conn` may stand for another one. */
    bool (*event)(void *ctx, const struct ab_quic_event *e, const void *body);
};

/* ab_quic_msg: one message to be sent. */
struct ab_quic_msg {
    enum ab_quic_send how;
    bool fin;         /* STREAM, BIDI_OPEN, UNI_OPEN: end the stream behind these bytes; UNI always does */
    uint64_t stream;  /* STREAM: which. BIDI_OPEN, UNI_OPEN: the call writes it here */
    uint64_t token;   /* comes back with `done` */
    uint64_t expires; /* ns; a message of which nothing has been sent by then is given up (EXPIRED), 0: never */
    const uint8_t *data;
    uint32_t len;
};

/* ab_quic_out: one datagram to be sent. The caller sets data and room, ab_quic_tx the rest. */
struct ab_quic_out {
    uint8_t *data;
    uint32_t room;              /* bytes at `data`; fewer than the path's MTU make smaller datagrams */
    uint32_t len;               /* bytes written */
    const struct ab_path *path; /* where to; valid until the next call into the engine */
    struct ab_quic_conn *conn;
    uint8_t ecn; /* 0 not-ECT, 2 ECT(0) */
    bool probe;  /* tests the path's MTU: must not be fragmented, may vanish */
};

/* ab_quic_info: a connection as others may show it, and what is too dear to look at often. */
struct ab_quic_info {
    struct ab_quic_row row; /* seq and time are 0 */
    uint64_t next_pn;       /* next packet number */
    uint64_t queued;        /* slots that wait to be sent (again) */
    uint64_t unacked;       /* slots that are under way */
    const struct ab_path *path;
};

/* ab_quic_totals: the engine's pools and what no connection can be charged with. */
struct ab_quic_totals {
    uint64_t connections;           /* in the table */
    uint64_t adopted;               /* ever */
    uint64_t refused;               /* adoptions refused */
    uint64_t refused_full;          /* of those, for a full table */
    uint64_t rx_datagrams;          /* looked at */
    uint64_t rx_unknown;            /* connection ID not ours: `mine` 0 */
    uint64_t rx_malformed;          /* too short, or the fixed bit is not set */
    uint64_t tx_datagrams;          /* built */
    uint64_t slots, slots_used;     /* message slots */
    uint64_t blocks, blocks_used;   /* of sent-packet records */
    uint64_t objects, objects_used; /* streams */
    uint64_t pushed_back;           /* calls refused with AB_QUIC_EFULL */
    uint64_t memory_bytes;          /* all of the engine's */
    uint64_t connection_bytes;      /* what one more connection costs, without pools */
};

/* ab_quic_size: bytes that a struct ab_quic takes, for callers that allocate it; ab_quic_new and ab_quic_free do it. */
int ab_quic_new(struct ab_quic **q, const struct ab_quic_config *config, const struct ab_quic_sink *sink,
                struct ab_error *err);
/* ab_quic_touch: has the kernel back all memory with pages, now. Else the first packets that reach a large page wait
 * while it is found and zeroed: 5 ms in a guest whose host has to find one, too. */
void ab_quic_touch(struct ab_quic *q);
void ab_quic_free(struct ab_quic *q); /* wipes keys; tells nothing to the sink */

/* ab_quic_adopt: NULL and the reason in `why`. The parameters of both sides are parsed here. `a` is not kept. */
struct ab_quic_conn *ab_quic_adopt(struct ab_quic *q, const struct ab_quic_adopt *a, uint64_t now,
                                   enum ab_quic_refusal *why);

/* ab_quic_find: by the supervisor's number; ab_quic_at: by index below `connections`, NULL where there is none. */
struct ab_quic_conn *ab_quic_find(struct ab_quic *q, uint64_t id);
struct ab_quic_conn *ab_quic_at(struct ab_quic *q, uint32_t index);
uint64_t ab_quic_conn_id(const struct ab_quic_conn *c);
uint32_t ab_quic_conn_index(const struct ab_quic_conn *c);
/* ab_quic_conn_path, ab_quic_conn_counts: what info has too, where that is too dear; valid while the connection is. */
const struct ab_path *ab_quic_conn_path(const struct ab_quic_conn *c);
const struct ab_quic_counts *ab_quic_conn_counts(const struct ab_quic_conn *c);
/* ab_quic_conn_row: what the table of connections shows, but for its sequence word and time. */
void ab_quic_conn_row(const struct ab_quic_conn *c, struct ab_quic_row *row);
void ab_quic_conn_info(const struct ab_quic *q, const struct ab_quic_conn *c, struct ab_quic_info *info);
void ab_quic_totals(const struct ab_quic *q, struct ab_quic_totals *t);
const char *ab_quic_crypto_name(const struct ab_quic *q, const char **reason);

/* ab_quic_rx: datagrams that begin with a short header, of any number of connections; they are decrypted in place.
 * `mine` (may be NULL) becomes 1 for those whose connection ID is known here. */
void ab_quic_rx(struct ab_quic *q, struct ab_dgram *d, uint8_t *mine, uint32_t count, uint64_t now);

/* ab_quic_tx fills out[0..n) and returns n, at most `max`. Call it after ab_quic_rx, after commands, and when the
 * deadline has come, until it returns less than `max`. What it filled counts as sent at `now`. Timers run in here. */
uint32_t ab_quic_tx(struct ab_quic *q, struct ab_quic_out *out, uint32_t max, uint64_t now);

/* ab_quic_deadline: when ab_quic_tx has something to do; 0: now, UINT64_MAX: not before something else happens. */
uint64_t ab_quic_deadline(const struct ab_quic *q);

/* ab_quic_send copies the message into slots. 0, or AB_QUIC_EFULL, _ECLOSED, _ETOOLONG, _ESTREAM, _EABSENT. What the
 * peer's limits do not allow yet is queued, in order. */
int ab_quic_send(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_msg *m, uint64_t now);
int ab_quic_send_crypto(struct ab_quic *q, struct ab_quic_conn *c, const uint8_t *data, uint32_t len);
/* ab_quic_send_token: a server's NEW_TOKEN, which arrives as surely as data (RFC 9000 13.3). AB_EINVAL of a client. */
int ab_quic_send_token(struct ab_quic *q, struct ab_quic_conn *c, const uint8_t *token, uint32_t len);
int ab_quic_reset_stream(struct ab_quic *q, struct ab_quic_conn *c, uint64_t stream, uint64_t code);
int ab_quic_stop_sending(struct ab_quic *q, struct ab_quic_conn *c, uint64_t stream, uint64_t code);
int ab_quic_update_keys(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now);
void ab_quic_ping(struct ab_quic *q, struct ab_quic_conn *c);
/* ab_quic_stock adds connection IDs of ours; returns how many were taken. */
uint32_t ab_quic_stock(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_cid *cids, uint32_t count);
/* ab_quic_set_path: our side of the way changed (MAC, source, MTU ...), not the peer's address: that is migration. */
int ab_quic_set_path(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_path *path, uint64_t now);
/* ab_quic_trace: bit 0 events QLOG, bit 1 events KEYS. */
void ab_quic_trace(struct ab_quic *q, struct ab_quic_conn *c, uint32_t bits);

/* ab_quic_close sends CONNECTION_CLOSE and repeats it, at a limited rate, to whoever still sends; CLOSED comes at once,
 * the struct is free 3 PTO later. ab_quic_drop forgets without a packet. */
void ab_quic_close(struct ab_quic *q, struct ab_quic_conn *c, bool app, uint64_t code, const char *reason, uint32_t len,
                   uint64_t now);
void ab_quic_drop(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now);
/* ab_quic_close_all closes every connection and adopts no more. */
void ab_quic_close_all(struct ab_quic *q, bool app, uint64_t code, const char *reason, uint32_t len, uint64_t now);

#endif
