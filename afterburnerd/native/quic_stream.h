/* Streams: which of a peer's were here, and the objects of those that are more than one frame.
 *
 * A transaction that comes whole in one frame, or goes out within the credit that every stream has, never gets an
 * object:
 *
 *   struct ab_quic_idset   of a peer's streams of one type: a sliding window of bits, one a stream, set when it is over
 *
 *        base                          limit (what we told the peer)
 *         v                             v
 *      ...1 0 1 1 1 0 0 0 0 0 0 0 0 0 0 |             bits below base: all over; a late frame of such a stream says
 *           ^ being put together (object)             nothing new, whatever it says
 *
 *   struct ab_quic_stream  reassembly, longer sends, everything bidirectional; found by a hash over all connections
 *
 * The reassembly buffer is a ring of `stream_bytes` bytes with one bit a byte for what is there: whatever pieces a peer
 * cuts a stream into, memory and work stay the same. What comes in order never touches it. */
#ifndef AB_QUIC_STREAM_H
#define AB_QUIC_STREAM_H

#include "quic_slot.h"

/* Who opened a stream, and of which type, is in its ID (RFC 9000 2.1). */
#define AB_QUIC_ID_SERVER 1 /* bit: opened by the server */
#define AB_QUIC_ID_UNI 2    /* bit: unidirectional */

#define AB_QUIC_NO_SIZE UINT64_MAX

/* Objects linked by credit_next and credit_prev. */
struct ab_quic_credits {
    uint32_t head, tail;
};

struct ab_quic_idset {
    uint64_t base;   /* streams below are over */
    uint64_t over;   /* streams that are over, wherever */
    uint64_t limit;  /* streams that the peer may have opened so far: our MAX_STREAMS */
    uint64_t opened; /* streams that it has opened, by the highest seen */
    uint64_t *bits;  /* over, by number modulo window */
    uint32_t mask;   /* window - 1 */
    uint32_t credit; /* how many may be open at once: what our transport parameter promised */
};

static inline bool ab_quic_idset_over(const struct ab_quic_idset *s, uint64_t n)
{
    return n < s->base || (s->bits[(n & s->mask) / 64] >> (n % 64) & 1);
}

/* ab_quic_idset_end: stream n, below limit, is over. */
void ab_quic_idset_slide(struct ab_quic_idset *s);
static inline void ab_quic_idset_end(struct ab_quic_idset *s, uint64_t n)
{
    s->over++;
    if (ab_likely(n == s->base)) {
        /* In order: its bit was never set, and needs not be. */
        s->base++;
        if (ab_unlikely(s->bits[(s->base & s->mask) / 64] >> (s->base % 64) & 1))
            ab_quic_idset_slide(s);
        return;
    }
    s->bits[(n & s->mask) / 64] |= 1ULL << (n % 64);
}

/* ab_quic_idset_goal: the limit that the peer may be told: as many open streams as the credit says, as long as each has
 * its bit: one that stays open for ever stops the others when they are a whole window ahead of it. */
static inline uint64_t ab_quic_idset_goal(const struct ab_quic_idset *s)
{
    return AB_MIN(s->over + s->credit, s->base + s->mask + 1);
}

/* ab_quic_idset_due: whether so much of the credit was used up that the peer should be told of more; or all of it. */
static inline bool ab_quic_idset_due(const struct ab_quic_idset *s)
{
    uint64_t goal = ab_quic_idset_goal(s);

    return goal > s->limit + s->credit / 4 || ab_unlikely(goal > s->limit && s->opened >= s->limit);
}

enum ab_quic_tx_state {
    AB_QUIC_TX_NONE, /* not ours to send on, or all was acknowledged */
    AB_QUIC_TX_OPEN,
    AB_QUIC_TX_FIN,   /* its end is queued or sent */
    AB_QUIC_TX_RESET, /* RESET_STREAM is queued or sent */
};

enum ab_quic_rx_state {
    AB_QUIC_RX_NONE, /* not ours to receive on, or all was told */
    AB_QUIC_RX_OPEN,
};

/* Where a stream's MAX_STREAM_DATA is, and so in which list of its connection the object stands, if in any. */
enum ab_quic_credit {
    AB_QUIC_CREDIT_NONE, /* nowhere: never sent, or it has arrived for all we know */
    AB_QUIC_CREDIT_DUE,  /* is to be sent */
    AB_QUIC_CREDIT_TOLD, /* sent in packet `credit_pn` */
};

struct ab_quic_stream {
    uint64_t id;
    uint32_t conn;       /* index of its connection */
    uint32_t hash_next;  /* next object in the bucket, or in the free list */
    uint32_t next, prev; /* objects of the connection */
    uint32_t send_next;  /* ring of objects that have something to send */
    uint8_t rx, tx;      /* enum ab_quic_rx_state, ab_quic_tx_state */
    bool sending;        /* in that ring */
    bool stopped;        /* we sent STOP_SENDING */
    bool blocked_told;   /* STREAM_DATA_BLOCKED was sent for tx_limit */
    uint8_t fate;        /* TX_RESET: enum ab_quic_outcome of what was not acknowledged */
    uint8_t credit;      /* enum ab_quic_credit: its MAX_STREAM_DATA */
    bool transaction;    /* a whole message that is longer than the credit of a new stream */
    /* receiving: bytes, offsets in the stream */
    uint64_t rx_told;                  /* told to the sink up to here */
    uint64_t rx_highest;               /* highest offset seen */
    uint64_t rx_limit;                 /* what we allow */
    uint64_t rx_final;                 /* final size, AB_QUIC_NO_SIZE while it is not known */
    uint32_t rx_held;                  /* bytes in the buffer */
    uint32_t rx_window;                /* how far ahead of rx_told the peer may send */
    uint32_t credit_next, credit_prev; /* in the list that `credit` says */
    uint64_t credit_pn;                /* CREDIT_TOLD: the newest packet with its MAX_STREAM_DATA */
    uint8_t *buffer;
    uint64_t *present; /* a bit for each byte of the buffer */
    /* sending */
    uint64_t tx_written;        /* accepted from the caller */
    uint64_t tx_framed;         /* sent at least once */
    uint64_t tx_limit;          /* what the peer allows */
    uint32_t tx_pending;        /* slots queued or under way */
    struct ab_quic_queue queue; /* slots never sent */
};

/* The pool of objects, all connections. */
struct ab_quic_streams {
    struct ab_quic_stream *objects;
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t total, used;
    uint32_t free; /* head of the free list */
    uint32_t room; /* bytes of a reassembly buffer, a power of two */
    uint64_t hash_seed;
};

uint64_t ab_quic_streams_bytes(uint32_t total, uint32_t room);
void ab_quic_streams_init(struct ab_quic_streams *s, void *memory, uint32_t total, uint32_t room, uint64_t seed);

/* ab_quic_stream_find: AB_QUIC_NIL where there is none. */
uint32_t ab_quic_stream_find(const struct ab_quic_streams *s, uint32_t conn, uint64_t id);

/* ab_quic_stream_make: a new object, all zero but its ID and links; AB_QUIC_NIL where none is free. */
uint32_t ab_quic_stream_make(struct ab_quic_streams *s, uint32_t conn, uint64_t id);
void ab_quic_stream_free(struct ab_quic_streams *s, uint32_t index);

/* ab_quic_stream_store: bytes ahead of rx_told go into the buffer; they lie within rx_told + room. */
void ab_quic_stream_store(const struct ab_quic_streams *s, struct ab_quic_stream *t, uint64_t offset,
                          const uint8_t *data, uint32_t len);

/* ab_quic_stream_ready: bytes from rx_told on that lie in one piece in the buffer, 0 none; *data points to them. */
uint32_t ab_quic_stream_ready(const struct ab_quic_streams *s, const struct ab_quic_stream *t, const uint8_t **data);

/* ab_quic_stream_forget: bytes [from, to) of the buffer were told, by whatever way. */
void ab_quic_stream_forget(const struct ab_quic_streams *s, struct ab_quic_stream *t, uint64_t from, uint64_t to);

#endif
