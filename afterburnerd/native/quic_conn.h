/* One connection and the engine around it: the structs that the files quic_*.c share. Outside, quic.h is all there is.
 *
 * The order of a connection's fields is the order in which a packet needs them. Timers are deadlines in the struct;
 * their least one stands in the engine's heap. Whoever changes something that may make a packet necessary calls
 * ab_quic_conn_ready: ab_quic_tx looks at the connection then, sends what there is, and winds its timer.
 *
 * What a peer did wrong is a positive enum ab_quic_error that travels up to quic_recv.c, which closes the connection.
 */
#ifndef AB_QUIC_CONN_H
#define AB_QUIC_CONN_H

#include "quic.h"
#include "quic_ack.h"
#include "quic_cc.h"
#include "quic_cids.h"
#include "quic_ecn.h"
#include "quic_frame.h"
#include "quic_keys.h"
#include "quic_mtu.h"
#include "quic_pacer.h"
#include "quic_path.h"
#include "quic_rtt.h"
#include "quic_sent.h"
#include "quic_slot.h"
#include "quic_stream.h"
#include "quic_timer.h"
#include "quic_tparams.h"

#define AB_QUIC_BATCH 64         /* packets that are opened or sealed together */
#define AB_QUIC_TOKEN_MAX 512    /* bytes of a NEW_TOKEN of ours: beside an ACK in a packet of 1200 */
#define AB_QUIC_CONTROL_MAX 64   /* control frames of a connection queued or under way; more is a flood */
#define AB_QUIC_CRYPTO_ROOM 4096 /* bytes of CRYPTO that are put together (RFC 9000 7.5: at least 4096) */
#define AB_QUIC_SKIPPED 4        /* packet numbers left out that are remembered */
#define AB_QUIC_EVENTS_MAX 4     /* event slots that wait for the sink; further tokens are let go */
/* "Dynamic thresholds" (Choudhury and Hahne 1998): nobody has more than so many times what is left of a pool for the
 * others. Alone a connection has two thirds of it, and each greedy one leaves a third of what it finds. */
#define AB_QUIC_SHARE 2

/* All memory is a multiple of this, for large pages. Fuzzers make an engine an input: clearing those took longer. */
#ifdef AB_QUIC_FUZZED
#define AB_QUIC_HUGE 4096u
#else
#define AB_QUIC_HUGE (2u << 20)
#endif

/* Frames that are made from state whenever they are due: a bit in `control`, and in the record of the packet. */
enum ab_quic_control {
    AB_QUIC_CTL_PING = 1 << 0,
    AB_QUIC_CTL_HANDSHAKE_DONE = 1 << 1,
    AB_QUIC_CTL_MAX_DATA = 1 << 2,
    AB_QUIC_CTL_MAX_STREAMS_UNI = 1 << 3,
    AB_QUIC_CTL_MAX_STREAMS_BIDI = 1 << 4,
    AB_QUIC_CTL_DATA_BLOCKED = 1 << 5,
    AB_QUIC_CTL_STREAMS_BLOCKED_UNI = 1 << 6,
    AB_QUIC_CTL_STREAMS_BLOCKED_BIDI = 1 << 7,
    AB_QUIC_CTL_MAX_STREAM_DATA = 1 << 8, /* of the objects in `credits_due` */
};

/* Events that are owed to the sink and can be made from state. */
enum ab_quic_owed {
    AB_QUIC_OWED_CONFIRMED = 1 << 0,
    AB_QUIC_OWED_CRYPTO = 1 << 1,
    AB_QUIC_OWED_PEER_CIDS = 1 << 2,
    AB_QUIC_OWED_OUR_CIDS = 1 << 3,
    AB_QUIC_OWED_CIDS_LOW = 1 << 4,
    AB_QUIC_OWED_MIGRATED = 1 << 5,
    AB_QUIC_OWED_KEY_UPDATE = 1 << 6,
    AB_QUIC_OWED_SLOTS = 1 << 7, /* the queue `events` */
    AB_QUIC_OWED_CLOSED = 1 << 8,
};

/* What data that is there waits for. */
enum ab_quic_blocked {
    AB_QUIC_BLOCKED_NOT = 0,
    AB_QUIC_BLOCKED_CREDIT = 1,  /* bytes that the peer allows, on the connection or a stream */
    AB_QUIC_BLOCKED_WINDOW = 2,  /* the congestion window */
    AB_QUIC_BLOCKED_STREAMS = 3, /* streams that the peer allows */
};

struct ab_quic_conn {
    /* What ab_quic_tx asks first. */
    uint64_t id;
    uint32_t index;
    uint32_t ready_next; /* in the engine's list of those that have something to do */
    uint8_t state;       /* enum ab_quic_state */
    bool server;
    bool ready;     /* in that list */
    bool notifying; /* in the engine's list of those that owe events */
    bool confirmed;
    bool close_due; /* CONNECTION_CLOSE is to be sent (again) */
    bool unpaired;  /* something ack-eliciting was sent since the last packet that came */
    uint8_t probes; /* packets that may be sent regardless of the window */
    uint8_t pto_count;
    uint32_t control; /* AB_QUIC_CTL_* that are due */
    uint32_t owed;    /* AB_QUIC_OWED_* */
    uint32_t notify_next;
    uint64_t loss_ns;              /* when the time threshold makes a packet lost; UINT64_MAX none */
    uint64_t eliciting_ns;         /* when the last ack-eliciting packet was sent */
    struct ab_quic_queue again;    /* was lost: goes first */
    struct ab_quic_queue controls; /* control frames that must arrive */
    struct ab_quic_queue crypto;
    struct ab_quic_queue datagrams;
    struct ab_quic_queue uni; /* transactions, in order */
    uint32_t send_ring;       /* last of the ring of stream objects that have something to send */

    /* Credit that the peer has given. */
    uint64_t uni_next, uni_limit; /* streams opened, allowed */
    uint64_t bidi_next, bidi_limit;
    uint64_t tx_data, tx_limit; /* bytes of new stream data sent, allowed */
    uint64_t early_uni;         /* unidirectional streams that the peer knows from 0-RTT, sent again here or not */
    uint64_t uni_stream_limit;  /* bytes that every unidirectional stream may have from the start */
    uint64_t next_skip;         /* packet number that is left out next; UINT64_MAX never */

    /* Credit that we give. */
    struct ab_quic_idset uni_in, bidi_in; /* of the peer's streams */
    uint64_t rx_data, rx_limit;           /* bytes by highest offsets, allowed */
    uint64_t rx_told;                     /* bytes that were told, or will never be: what makes room for more */
    uint32_t rx_window;                   /* how far rx_limit runs ahead of rx_told */
    uint32_t uni_window; /* bytes that the peer may send on a unidirectional stream ahead of what was told */
    uint32_t objects;    /* first of our stream objects */
    uint32_t object_count;
    struct ab_quic_credits credits_due;  /* objects whose MAX_STREAM_DATA is to be sent */
    struct ab_quic_credits credits_told; /* ... was sent, by number of the packet; may hold some that have arrived */

    struct ab_quic_rtt rtt;
    struct ab_quic_cc cc;
    struct ab_quic_pacer pacer;
    struct ab_quic_mtu mtu;
    struct ab_quic_ecn ecn;
    struct ab_quic_sent sent;
    struct ab_quic_ack ack;
    struct ab_quic_keys keys;
    struct ab_quic_path paths[AB_QUIC_PATHS];
    struct ab_quic_cids cids;

    /* Time. */
    uint64_t adopted_ns;
    uint64_t pto_ns;        /* when the PTO expired last */
    uint64_t idle_from_ns;  /* the idle timeout counts from here */
    uint64_t idle_ns;       /* of both sides the least; 0 none */
    uint64_t keep_alive_ns; /* 0 none */
    uint64_t closed_ns;     /* when it was over for the caller */
    uint64_t end_ns;        /* CLOSING, DRAINING: when it is over */
    uint64_t repeat_ns;     /* CLOSING: no repetition before; */
    uint64_t repeat_gap_ns; /* and then so long none */
    uint64_t blocked_ns;    /* since when data waits for ... */
    uint8_t blocked_by;     /* enum ab_quic_blocked: ... what for */
    bool starved;           /* waits for records that others have */
    bool pace_blocked;      /* waits for the pacer */
    uint8_t exponent;       /* the peer's ack_delay_exponent */
    uint8_t trace;          /* bits of ab_quic_trace */
    uint32_t qlog_missed;   /* events QLOG that found no room, and were not told of yet */
    uint32_t acks_alone;    /* packets sent since one that demanded an ACK */
    uint32_t path_epoch;    /* counts new beginnings of congestion control: packets of former ones do not concern it */
    uint32_t reorder;       /* how many later packets must be acknowledged for one to be lost (kPacketThreshold) */

    uint64_t peer_udp_payload;                                 /* the peer's max_udp_payload_size */
    uint64_t peer_max_datagram, our_max_datagram;              /* bytes of a whole DATAGRAM frame; 0: not taken */
    uint64_t peer_bidi_local, peer_bidi_remote;                /* the peer's initial_max_stream_data_bidi_* */
    uint64_t our_bidi_local, our_bidi_remote;                  /* ours */
    uint64_t data_blocked_at, uni_blocked_at, bidi_blocked_at; /* limits for which a BLOCKED frame was sent */
    uint64_t skipped[AB_QUIC_SKIPPED];
    uint64_t first_pn; /* the first one that is ours; those below were the supervisor's */
    uint32_t early;    /* slot with the ranges of its 0-RTT packets; AB_QUIC_NIL none */
    uint32_t early_count;
    uint32_t early_told;    /* bits of ranges of which EARLY was told */
    uint32_t control_count; /* control slots queued or under way */
    uint32_t slot_count;    /* slots that are this connection's, of any kind */
    uint32_t untold;        /* messages whose fate the sink had no room for */
    uint8_t skipped_at;

    /* CRYPTO of the peer: put together here, then told. The buffer is a stream object's. */
    uint32_t crypto_in;          /* object, AB_QUIC_NIL none */
    uint64_t crypto_told;        /* bytes told when there is no object */
    uint64_t crypto_written;     /* bytes ever queued to be sent */
    struct ab_quic_queue events; /* slots with events for the sink */
    uint64_t cid_seq;            /* connection ID of ours that the newest packet came to */
    uint64_t rx_phase_last;      /* largest packet number opened with the present key */
    uint64_t update_pn;          /* generation that the event KEY_UPDATE is about */
    bool update_ours;

    /* The end. */
    uint8_t closed_by; /* enum ab_quic_close */
    bool close_app;    /* of the frame that is sent or was received */
    bool close_told;
    uint64_t close_code, close_frame;
    uint32_t close_len;
    char close_reason[AB_QUIC_REASON];

    struct ab_quic_counts counts;
};

struct ab_quic_hashed {
    uint64_t key;  /* connection ID, or the supervisor's number */
    uint32_t conn; /* AB_QUIC_NIL: free */
    uint32_t cid;  /* index in cids.ours */
};

struct ab_quic_table {
    struct ab_quic_hashed *entries;
    uint64_t mask;
    uint64_t seed;
};

struct ab_quic {
    struct ab_quic_config config;
    struct ab_quic_sink sink;
    struct ab_quic_crypto crypto;
    struct ab_quic_conn *conns;
    struct ab_quic_slots slots;
    struct ab_quic_blocks blocks;
    struct ab_quic_streams streams;
    struct ab_quic_timers timers;
    struct ab_quic_table by_cid, by_id;
    uint32_t *free_conns; /* stack */
    uint32_t conn_count;
    uint32_t ready_head, ready_tail; /* connections with something to do */
    struct ab_quic_queue untold;     /* heads whose fate the sink had no room for; `object` is the connection then */
    uint32_t notify, notify_tail;    /* connections that owe events, in the order in which they began to */
    uint32_t slot_reserve;           /* slots that messages must leave to control frames and repetitions */
    uint64_t random;                 /* state of the generator */
    bool closing;                    /* ab_quic_close_all was called */
    uint32_t sealing;                /* packets built and not yet sealed */
    struct ab_quic_op ops[AB_QUIC_BATCH];
    struct ab_quic_totals totals;
    void *memory;
    uint64_t memory_bytes;
};

/* --- quic_engine.c ---------------------------------------------------------------------------------------------- */

/* ab_quic_random: not for keys; unpredictable for whoever does not know the seed. */
uint64_t ab_quic_random(struct ab_quic *q);

void ab_quic_table_put(struct ab_quic_table *t, uint64_t key, uint32_t conn, uint32_t cid);
void ab_quic_table_del(struct ab_quic_table *t, uint64_t key);
const struct ab_quic_hashed *ab_quic_table_get(const struct ab_quic_table *t, uint64_t key);

static inline void ab_quic_conn_ready(struct ab_quic *q, struct ab_quic_conn *c)
{
    if (c->ready)
        return;
    c->ready = true;
    c->ready_next = AB_QUIC_NIL;
    if (q->ready_head == AB_QUIC_NIL)
        q->ready_head = c->index;
    else
        q->conns[q->ready_tail].ready_next = c->index;
    q->ready_tail = c->index;
}

/* --- quic_conn.c ------------------------------------------------------------------------------------------------ */

static inline uint64_t ab_quic_conn_pto(const struct ab_quic_conn *c)
{
    return ab_quic_rtt_pto(&c->rtt);
}

static inline bool ab_quic_conn_open(const struct ab_quic_conn *c)
{
    return c->state == AB_QUIC_STATE_OPEN || c->state == AB_QUIC_STATE_HANDSHAKE;
}

/* ab_quic_conn_confirm: the handshake is confirmed. */
void ab_quic_conn_confirm(struct ab_quic *q, struct ab_quic_conn *c);

/* ab_quic_conn_end: the connection is over, for whatever reason; its messages are settled and its pools emptied. What
 * follows depends on `by`: CONNECTION_CLOSE, silence, or nothing at all. */
void ab_quic_conn_end(struct ab_quic *q, struct ab_quic_conn *c, enum ab_quic_close by, bool app, uint64_t code,
                      uint64_t frame, const char *reason, uint32_t len, uint64_t now);

/* ab_quic_conn_error: we close for an error of the peer's. */
void ab_quic_conn_error(struct ab_quic *q, struct ab_quic_conn *c, uint64_t code, uint64_t frame, const char *reason,
                        uint64_t now);

/* ab_quic_conn_timers: does what is due; the connection may be gone (state FREE) after it. */
void ab_quic_conn_timers(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now);

/* ab_quic_conn_deadline: the next time at which ab_quic_conn_timers has something to do. */
uint64_t ab_quic_conn_deadline(const struct ab_quic *q, const struct ab_quic_conn *c);

/* ab_quic_conn_reset_path: congestion control, RTT and MTU begin anew (RFC 9000 9.4). */
void ab_quic_conn_reset_path(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now);

/* ab_quic_conn_announce: NEW_CONNECTION_ID for what is in stock, as many as the peer stores. 0 or an error. */
int ab_quic_conn_announce(struct ab_quic *q, struct ab_quic_conn *c);
/* ab_quic_conn_bury forgets what the peer has retired and whose time is over; `room`: and one more where a free entry
 * is needed. */
void ab_quic_conn_bury(struct ab_quic *q, struct ab_quic_conn *c, bool room, uint64_t now);

/* ab_quic_cid_key: a connection ID of ours as a number: 8 bytes as they lie. */
static inline uint64_t ab_quic_cid_key(const struct ab_quic_cid *cid)
{
    uint64_t key;

    memcpy(&key, cid->cid, sizeof(key));
    return key;
}

/* ab_quic_conn_random_skip: which packet number is left out next. */
void ab_quic_conn_next_skip(struct ab_quic *q, struct ab_quic_conn *c);

/* --- quic_events.c ---------------------------------------------------------------------------------------------- */

void ab_quic_owe(struct ab_quic *q, struct ab_quic_conn *c, uint32_t owed);
/* ab_quic_notify tells the sink what it is owed, as far as it has room. */
void ab_quic_notify(struct ab_quic *q, uint64_t now);
/* ab_quic_event_queue: an event with a body, told soon; let go where too many wait. */
bool ab_quic_event_queue(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_event *e, const void *body);
void ab_quic_event_keys(struct ab_quic *q, struct ab_quic_conn *c, bool ours);

/* --- quic_out.c: data and control frames on their way out ------------------------------------------------------- */

/* ab_quic_slot_end: a slot that is in no queue has met its fate; the message's is told with its last one. */
void ab_quic_slot_end_slow(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index, enum ab_quic_outcome outcome);
void ab_quic_message_end(struct ab_quic *q, struct ab_quic_conn *c, uint32_t head);

static inline void ab_quic_slot_end(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index,
                                    enum ab_quic_outcome outcome)
{
    struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, index);

    if (ab_likely(slot->kind == AB_QUIC_SLOT_UNI && slot->head == index && slot->parts == 1)) {
        if (ab_unlikely(outcome != AB_QUIC_OUTCOME_ACKNOWLEDGED))
            slot->outcome = (uint8_t)outcome;
        slot->parts = 0;
        ab_quic_message_end(q, c, index);
        return;
    }
    ab_quic_slot_end_slow(q, c, index, outcome);
}

/* ab_quic_queue_end settles all of a queue. */
void ab_quic_queue_end(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_queue *queue,
                       enum ab_quic_outcome outcome);

/* ab_quic_control_push queues a frame that must arrive. 0, or the error that the connection dies of: too many.
 * ab_quic_control_room: whether it would. */
static inline bool ab_quic_control_room(const struct ab_quic *q, const struct ab_quic_conn *c)
{
    return c->control_count < AB_QUIC_CONTROL_MAX && ab_quic_slots_left(&q->slots) > 0;
}
int ab_quic_control_push(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f);

/* ab_quic_chain_lost: what a lost packet carried is queued again, or settled. */
void ab_quic_chain_lost(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_sent_packet *p, uint64_t pn);

void ab_quic_stream_sending(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index);
/* ab_quic_stream_credit: where the stream's MAX_STREAM_DATA is from now on. */
void ab_quic_stream_credit(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index, enum ab_quic_credit credit);
/* ab_quic_stream_reset_tx: our side of a stream ends with RESET_STREAM. */
int ab_quic_stream_reset_tx(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index, uint64_t code,
                            enum ab_quic_outcome outcome);
/* ab_quic_uni_expire: the first transaction, of which nothing was sent, is given up. */
void ab_quic_uni_expire(struct ab_quic *q, struct ab_quic_conn *c);
/* ab_quic_uni_stop: STOP_SENDING, or reset, of a transaction's stream that has no object. */
int ab_quic_uni_stop(struct ab_quic *q, struct ab_quic_conn *c, uint64_t id, uint64_t code,
                     enum ab_quic_outcome outcome);
uint32_t ab_quic_conn_stream_make(struct ab_quic *q, struct ab_quic_conn *c, uint64_t id);
/* ab_quic_conn_stream_over: frees the object if both directions are over. */
void ab_quic_conn_stream_over(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index);
/* ab_quic_conn_streams_end frees every object, with what waits in it; what is under way must be settled before. */
void ab_quic_conn_streams_end(struct ab_quic *q, struct ab_quic_conn *c);

/* --- quic_in.c: frames of the peer ------------------------------------------------------------------------------ */

/* Each applies one frame: 0, AB_QUIC_NO_ROOM, or the error that the connection dies of. */
int ab_quic_in_stream(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f);
int ab_quic_in_reset(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f);
int ab_quic_in_stop(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f);
int ab_quic_in_max_stream_data(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f);
int ab_quic_in_stream_blocked(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f);
/* ab_quic_in_blocked: the peer waits for credit: it hears of what there is, even if that is little. */
void ab_quic_in_blocked(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f);
int ab_quic_in_crypto(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f);

/* --- quic_acked.c: fate of sent packets ------------------------------------------------------------------------- */

/* generation: of the key that the packet with the ACK was opened with. */
int ab_quic_in_ack(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f, uint32_t generation,
                   uint64_t now);
/* ab_quic_detect_loss: after an ACK, and when loss_ns has come. */
void ab_quic_detect_loss(struct ab_quic *q, struct ab_quic_conn *c, uint64_t largest_sent_ns, bool ce, uint64_t now);
/* ab_quic_pto: the probe timeout has come. */
void ab_quic_pto(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now);
/* ab_quic_sent_evict: no record is left for an ACK or a probe, and without them none would ever come free: what is
 * under way in this connection's oldest block counts as lost. False: it has no block. */
bool ab_quic_sent_evict(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now);

/* ab_quic_sent_settle: every record's slots are settled and all blocks returned. */
void ab_quic_sent_settle(struct ab_quic *q, struct ab_quic_conn *c, enum ab_quic_outcome outcome);

/* --- quic_send.c ------------------------------------------------------------------------------------------------ */

/* ab_quic_build: the next datagram of a connection into *out; false: nothing (more) to send now. */
bool ab_quic_build(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_out *out, uint64_t now);
/* ab_quic_seal_pending seals what was built. To be called before a key changes or goes. */
void ab_quic_seal_pending(struct ab_quic *q);

#endif
