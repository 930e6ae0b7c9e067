/* The frames of a 1-RTT packet (RFC 9000 section 19, RFC 9221), read where they lie and written where they go.
 *
 *   opened payload  [frame][frame]...[frame]            struct ab_quic_reader walks it
 *                      |
 *                      v  ab_quic_frame_next             0, or the transport error that the connection dies of
 *                   struct ab_quic_frame                 type and fields; data, tokens and ranges point into the
 * payload
 *
 * Nothing is copied and nothing is applied here. What a single frame can do wrong is judged completely, so whoever
 * applies it only asks what depends on the connection: windows, stream states, whether DATAGRAM was agreed on. An ACK
 * is walked once to its end before it is given out: a negative range deep inside must not leave half of it applied.
 *
 * A loop over a payload is
 *
 *     do {
 *         code = ab_quic_frame_next(&r, server, &f);
 *         ...
 *     } while (r.p < r.end);
 *
 * and begins without asking whether there is anything, for a packet without frames is an error too (RFC 9000 12.4).
 *
 * STREAM and ACK are nearly everything that travels: the first is read inline here, and the header of one is written
 * by ab_quic_stream_put. */
#ifndef AB_QUIC_FRAME_H
#define AB_QUIC_FRAME_H

#include "quic_error.h"
#include "quic_varint.h"

enum ab_quic_frame_type {
    AB_QUIC_FRAME_PADDING = 0x00,
    AB_QUIC_FRAME_PING = 0x01,
    AB_QUIC_FRAME_ACK = 0x02,
    AB_QUIC_FRAME_ACK_ECN = 0x03,
    AB_QUIC_FRAME_RESET_STREAM = 0x04,
    AB_QUIC_FRAME_STOP_SENDING = 0x05,
    AB_QUIC_FRAME_CRYPTO = 0x06,
    AB_QUIC_FRAME_NEW_TOKEN = 0x07,
    AB_QUIC_FRAME_STREAM = 0x08, /* up to 0x0f: with the three bits below */
    AB_QUIC_FRAME_MAX_DATA = 0x10,
    AB_QUIC_FRAME_MAX_STREAM_DATA = 0x11,
    AB_QUIC_FRAME_MAX_STREAMS_BIDI = 0x12,
    AB_QUIC_FRAME_MAX_STREAMS_UNI = 0x13,
    AB_QUIC_FRAME_DATA_BLOCKED = 0x14,
    AB_QUIC_FRAME_STREAM_DATA_BLOCKED = 0x15,
    AB_QUIC_FRAME_STREAMS_BLOCKED_BIDI = 0x16,
    AB_QUIC_FRAME_STREAMS_BLOCKED_UNI = 0x17,
    AB_QUIC_FRAME_NEW_CONNECTION_ID = 0x18,
    AB_QUIC_FRAME_RETIRE_CONNECTION_ID = 0x19,
    AB_QUIC_FRAME_PATH_CHALLENGE = 0x1a,
    AB_QUIC_FRAME_PATH_RESPONSE = 0x1b,
    AB_QUIC_FRAME_CLOSE = 0x1c,     /* CONNECTION_CLOSE of the transport */
    AB_QUIC_FRAME_CLOSE_APP = 0x1d, /* CONNECTION_CLOSE of the application */
    AB_QUIC_FRAME_HANDSHAKE_DONE = 0x1e,
    AB_QUIC_FRAME_DATAGRAM = 0x30,     /* the rest of the packet (RFC 9221) */
    AB_QUIC_FRAME_DATAGRAM_LEN = 0x31, /* with a length */
};

#define AB_QUIC_STREAM_FIN 0x01 /* the last byte of the stream is in it */
#define AB_QUIC_STREAM_LEN 0x02 /* has a length; without one it takes the rest of the packet */
#define AB_QUIC_STREAM_OFF 0x04 /* has an offset; without one it is 0 */

#define AB_QUIC_STREAMS_MAX (1ULL << 60) /* a count of streams that can be written as stream IDs (RFC 9000 4.6) */
#define AB_QUIC_CID_BYTES 20             /* the longest connection ID (RFC 9000 17.2) */
#define AB_QUIC_TOKEN_BYTES 16           /* a stateless reset token */

/* What a frame's type alone tells, asked for by ab_quic_frame_is: the columns of RFC 9000 table 3. */
enum ab_quic_frame_kind {
    AB_QUIC_ACK_ELICITING, /* all but PADDING, ACK, CONNECTION_CLOSE */
    AB_QUIC_IN_FLIGHT,     /* counts towards bytes in flight: all but ACK and CONNECTION_CLOSE (RFC 9002 section 2) */
    AB_QUIC_PROBING,       /* may travel on a new path without moving the connection there (RFC 9000 9.1) */
};

/* One frame. Pointers lead into the payload that was read; a frame to be written is filled in likewise. */
struct ab_quic_frame {
    uint64_t type; /* enum ab_quic_frame_type; STREAM with its bits; what CONNECTION_CLOSE has to name */
    uint32_t size; /* bytes of the whole frame on the wire (RFC 9221 bounds a DATAGRAM by it); set by reading */
    union {
        struct {
            uint64_t id, offset; /* offset + len <= AB_QUIC_VARINT_MAX */
            const uint8_t *data;
            uint32_t len; /* bytes */
            bool fin;     /* the same as the bit in type */
        } stream;
        struct {
            uint64_t largest;        /* largest packet number acknowledged */
            uint64_t delay;          /* as sent: microseconds >> the sender's ack_delay_exponent */
            uint64_t first;          /* smallest packet number of the first range [first, largest] */
            const uint8_t *ranges;   /* the (gap, length) pairs behind it, checked: for ab_quic_ack_walk_* alone */
            const uint8_t *end;      /* behind the pairs */
            uint64_t count;          /* ranges behind the first */
            uint64_t ect0, ect1, ce; /* counts of ACK_ECN, else 0 */
        } ack;
        struct {
            uint64_t id, code, final_size;
        } reset_stream;
        struct {
            uint64_t id, code;
        } stop_sending;
        struct {
            uint64_t offset; /* offset + len <= AB_QUIC_VARINT_MAX */
            const uint8_t *data;
            uint32_t len;
        } crypto;
        struct {
            const uint8_t *data; /* NEW_TOKEN: the token; DATAGRAM: what it carries */
            uint32_t len;
        } blob;
        struct {
            uint64_t id;    /* MAX_STREAM_DATA, STREAM_DATA_BLOCKED: of which stream */
            uint64_t value; /* MAX_DATA and the like: bytes; MAX_STREAMS and the like: streams <= AB_QUIC_STREAMS_MAX */
        } limit;
        struct {
            uint64_t sequence, retire_prior_to; /* retire_prior_to <= sequence */
            const uint8_t *cid;                 /* `len` bytes, 1 to AB_QUIC_CID_BYTES */
            const uint8_t *token;               /* AB_QUIC_TOKEN_BYTES */
            uint32_t len;
        } new_cid;
        struct {
            uint64_t sequence;
        } retire_cid;
        struct {
            const uint8_t *data; /* 8 bytes */
        } path;
        struct {
            uint64_t code;
            uint64_t frame_type; /* of CLOSE: the frame that was wrong, 0 unknown */
            const uint8_t *reason;
            uint32_t len;
        } close;
        struct {
            uint32_t len; /* PADDING: bytes, all that stood in a row */
        } padding;
    };
};

/* ab_quic_frame_next_any: ab_quic_frame_next without its fast path. */
int ab_quic_frame_next_any(struct ab_quic_reader *r, bool server, struct ab_quic_frame *f);

/* ab_quic_frame_next: reads the next frame into *f and moves on behind it. `server`: we are the server.
 * Returns 0, or an enum ab_quic_error with *f holding nothing but `type` (0 where not even that can be read):
 *   FRAME_ENCODING      truncated; an unknown type; a value or a sum that cannot be; an ACK range below packet 0; an
 *                       empty NEW_TOKEN; NEW_CONNECTION_ID with 0 or more than 20 bytes, or that retires beyond itself
 *   PROTOCOL_VIOLATION  nothing to read (RFC 9000 12.4); a type that is not written in its shortest form (12.4); what
 *                       only a server may send, HANDSHAKE_DONE (19.20) and NEW_TOKEN (19.7), arriving at one
 * The reader then stands where it stood. */
static inline int ab_quic_frame_next(struct ab_quic_reader *r, bool server, struct ab_quic_frame *f)
{
    struct ab_quic_reader at = *r;
    uint64_t len;
    uint8_t type;

    if (ab_unlikely(at.p >= at.end || (*at.p & 0xf8) != AB_QUIC_FRAME_STREAM))
        return ab_quic_frame_next_any(r, server, f);
    type = *at.p++;
    f->type = type;
    f->stream.offset = 0;
    if (ab_unlikely(!ab_quic_varint_read(&at, &f->stream.id)))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    if (type & AB_QUIC_STREAM_OFF && ab_unlikely(!ab_quic_varint_read(&at, &f->stream.offset)))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    len = ab_quic_reader_left(&at);
    if (type & AB_QUIC_STREAM_LEN && ab_unlikely(!ab_quic_varint_read(&at, &len)))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    /* RFC 9000 19.8: the last byte of a stream must have an offset that can be written. */
    if (ab_unlikely(len > ab_quic_reader_left(&at) || f->stream.offset + len > AB_QUIC_VARINT_MAX))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    f->stream.data = at.p;
    f->stream.len = (uint32_t)len;
    f->stream.fin = type & AB_QUIC_STREAM_FIN;
    at.p += len;
    f->size = (uint32_t)(at.p - r->p);
    r->p = at.p;
    return 0;
}

/* Where a walk through the ranges of an ACK stands: [first, last] is the current one, the largest comes first. */
struct ab_quic_ack_walk {
    uint64_t first, last;    /* packet numbers */
    struct ab_quic_reader r; /* the pairs to come */
    uint64_t left;           /* how many of them */
};

/* ab_quic_ack_walk_start: the walk at the first range, which always exists. */
static inline void ab_quic_ack_walk_start(struct ab_quic_ack_walk *walk, const struct ab_quic_frame *f)
{
    walk->first = f->ack.first;
    walk->last = f->ack.largest;
    walk->r = (struct ab_quic_reader){f->ack.ranges, f->ack.end};
    walk->left = f->ack.count;
}

/* ab_quic_ack_walk_next: the next range below; false behind the last one. */
static inline bool ab_quic_ack_walk_next(struct ab_quic_ack_walk *walk)
{
    uint64_t gap, len;

    if (walk->left == 0 || !ab_quic_varint_read(&walk->r, &gap) || !ab_quic_varint_read(&walk->r, &len))
        return false;
    walk->left--;
    walk->last = walk->first - gap - 2; /* RFC 9000 19.3.1; none is negative, as was checked in reading */
    walk->first = walk->last - len;
    return true;
}

/* ab_quic_frame_is: what the type of a frame that was read without error tells. */
static inline bool ab_quic_frame_is(uint64_t type, enum ab_quic_frame_kind kind)
{
    uint64_t bit = 1ULL << (type & 63);
    const uint64_t none = 1ULL << AB_QUIC_FRAME_ACK | 1ULL << AB_QUIC_FRAME_ACK_ECN | 1ULL << AB_QUIC_FRAME_CLOSE |
                          1ULL << AB_QUIC_FRAME_CLOSE_APP;

    if (kind == AB_QUIC_IN_FLIGHT)
        return !(bit & none);
    if (kind == AB_QUIC_ACK_ELICITING)
        return !(bit & (none | 1ULL << AB_QUIC_FRAME_PADDING));
    return bit & (1ULL << AB_QUIC_FRAME_PADDING | 1ULL << AB_QUIC_FRAME_PATH_CHALLENGE |
                  1ULL << AB_QUIC_FRAME_PATH_RESPONSE | 1ULL << AB_QUIC_FRAME_NEW_CONNECTION_ID);
}

/* ab_quic_stream_overhead: bytes of a STREAM frame beside its data. `len`: bytes of data; with_len: whether the length
 * is written (all but the last frame of a packet need it). */
static inline uint32_t ab_quic_stream_overhead(uint64_t id, uint64_t offset, uint32_t len, bool with_len)
{
    return 1 + ab_quic_varint_size(id) + (offset ? ab_quic_varint_size(offset) : 0) +
           (with_len ? ab_quic_varint_size(len) : 0);
}

/* ab_quic_stream_put: the header of a STREAM frame, where ab_quic_stream_overhead() bytes are known to be free; returns
 * the byte behind it, where `len` bytes of data belong. */
static inline uint8_t *ab_quic_stream_put(uint8_t *p, uint64_t id, uint64_t offset, uint32_t len, bool with_len,
                                          bool fin)
{
    *p++ = (uint8_t)(AB_QUIC_FRAME_STREAM | (offset ? AB_QUIC_STREAM_OFF : 0) | (with_len ? AB_QUIC_STREAM_LEN : 0) |
                     (fin ? AB_QUIC_STREAM_FIN : 0));
    p = ab_quic_varint_put(p, id);
    if (offset)
        p = ab_quic_varint_put(p, offset);
    return with_len ? ab_quic_varint_put(p, len) : p;
}

/* ab_quic_datagram_put: the header of a DATAGRAM frame, 1 byte, or up to 9 with its length; else as above. */
static inline uint8_t *ab_quic_datagram_put(uint8_t *p, uint32_t len, bool with_len)
{
    *p++ = with_len ? AB_QUIC_FRAME_DATAGRAM_LEN : AB_QUIC_FRAME_DATAGRAM;
    return with_len ? ab_quic_varint_put(p, len) : p;
}

/* ab_quic_frame_write: writes any frame as *f says, whole or (false: no room) not at all. Of STREAM and DATAGRAM the
 * bits of `type` decide which fields are written; one without a length must be the last of the packet. An ACK's ranges
 * are copied as they lie (ab_quic_ack_write makes one from what was received). A frame that ab_quic_frame_next would
 * not have given out (a reason or data that is too long to be said, a connection ID of 0 bytes) is refused as well. */
bool ab_quic_frame_write(struct ab_quic_writer *w, const struct ab_quic_frame *f);

#endif
