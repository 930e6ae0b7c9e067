#include "quic_frame.h"

/* The values of all readers below are checked here once: false is "truncated". */
static bool three(struct ab_quic_reader *r, uint64_t *a, uint64_t *b, uint64_t *c)
{
    return ab_quic_varint_read(r, a) && ab_quic_varint_read(r, b) && ab_quic_varint_read(r, c);
}

static bool two(struct ab_quic_reader *r, uint64_t *a, uint64_t *b)
{
    return ab_quic_varint_read(r, a) && ab_quic_varint_read(r, b);
}

/* counted: a length, and as many bytes. */
static bool counted(struct ab_quic_reader *r, const uint8_t **data, uint32_t *len)
{
    uint64_t said;

    if (!ab_quic_varint_read(r, &said) || !(*data = ab_quic_bytes_read(r, said)))
        return false;
    *len = (uint32_t)said;
    return true;
}

static int read_ack(struct ab_quic_reader *r, struct ab_quic_frame *f)
{
    uint64_t smallest, gap, len;

    if (!three(r, &f->ack.largest, &f->ack.delay, &f->ack.count) || !ab_quic_varint_read(r, &len))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    if (len > f->ack.largest) /* RFC 9000 19.3.1: a computed packet number is negative */
        return AB_QUIC_ERROR_FRAME_ENCODING;
    f->ack.first = smallest = f->ack.largest - len;
    f->ack.ranges = r->p;
    for (uint64_t i = 0; i < f->ack.count; i++) { /* ends with the payload, whatever count says */
        if (!two(r, &gap, &len) || gap + 2 > smallest || len > smallest - gap - 2)
            return AB_QUIC_ERROR_FRAME_ENCODING;
        smallest -= gap + 2 + len;
    }
    f->ack.end = r->p;
    f->ack.ect0 = f->ack.ect1 = f->ack.ce = 0;
    if (f->type == AB_QUIC_FRAME_ACK_ECN && !three(r, &f->ack.ect0, &f->ack.ect1, &f->ack.ce))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    return 0;
}

static int read_new_cid(struct ab_quic_reader *r, struct ab_quic_frame *f)
{
    const uint8_t *len;

    if (!two(r, &f->new_cid.sequence, &f->new_cid.retire_prior_to) || !(len = ab_quic_bytes_read(r, 1)))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    /* RFC 9000 19.15 */
    if (*len < 1 || *len > AB_QUIC_CID_BYTES || f->new_cid.retire_prior_to > f->new_cid.sequence)
        return AB_QUIC_ERROR_FRAME_ENCODING;
    f->new_cid.len = *len;
    f->new_cid.cid = ab_quic_bytes_read(r, *len);
    if (!f->new_cid.cid || !(f->new_cid.token = ab_quic_bytes_read(r, AB_QUIC_TOKEN_BYTES)))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    return 0;
}

static int read_close(struct ab_quic_reader *r, struct ab_quic_frame *f)
{
    f->close.frame_type = 0;
    if (!ab_quic_varint_read(r, &f->close.code) ||
        (f->type == AB_QUIC_FRAME_CLOSE && !ab_quic_varint_read(r, &f->close.frame_type)) ||
        !counted(r, &f->close.reason, &f->close.len))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    return 0;
}

/* read_body: what follows the type. 0, or the error. */
static int read_body(struct ab_quic_reader *r, bool server, struct ab_quic_frame *f)
{
    bool whole;

    switch (f->type) {
    case AB_QUIC_FRAME_PADDING:
        f->padding.len = 1;
        while (r->p < r->end && *r->p == 0) {
            r->p++;
            f->padding.len++;
        }
        return 0;
    case AB_QUIC_FRAME_PING:
        return 0;
    case AB_QUIC_FRAME_ACK:
    case AB_QUIC_FRAME_ACK_ECN:
        return read_ack(r, f);
    case AB_QUIC_FRAME_RESET_STREAM:
        whole = three(r, &f->reset_stream.id, &f->reset_stream.code, &f->reset_stream.final_size);
        break;
    case AB_QUIC_FRAME_STOP_SENDING:
        whole = two(r, &f->stop_sending.id, &f->stop_sending.code);
        break;
    case AB_QUIC_FRAME_CRYPTO:
        /* RFC 9000 19.6 leaves the choice between this error and CRYPTO_BUFFER_EXCEEDED. */
        whole = ab_quic_varint_read(r, &f->crypto.offset) && counted(r, &f->crypto.data, &f->crypto.len) &&
                f->crypto.offset + f->crypto.len <= AB_QUIC_VARINT_MAX;
        break;
    case AB_QUIC_FRAME_NEW_TOKEN:
        if (server)
            return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
        whole = counted(r, &f->blob.data, &f->blob.len) && f->blob.len > 0;
        break;
    case AB_QUIC_FRAME_MAX_DATA:
    case AB_QUIC_FRAME_DATA_BLOCKED:
        f->limit.id = 0;
        whole = ab_quic_varint_read(r, &f->limit.value);
        break;
    case AB_QUIC_FRAME_MAX_STREAM_DATA:
    case AB_QUIC_FRAME_STREAM_DATA_BLOCKED:
        whole = two(r, &f->limit.id, &f->limit.value);
        break;
    case AB_QUIC_FRAME_MAX_STREAMS_BIDI:
    case AB_QUIC_FRAME_MAX_STREAMS_UNI:
    case AB_QUIC_FRAME_STREAMS_BLOCKED_BIDI:
    case AB_QUIC_FRAME_STREAMS_BLOCKED_UNI:
        f->limit.id = 0;
        /* RFC 9000 19.11, and 19.14 which leaves the choice between this error and STREAM_LIMIT_ERROR. */
        whole = ab_quic_varint_read(r, &f->limit.value) && f->limit.value <= AB_QUIC_STREAMS_MAX;
        break;
    case AB_QUIC_FRAME_NEW_CONNECTION_ID:
        return read_new_cid(r, f);
    case AB_QUIC_FRAME_RETIRE_CONNECTION_ID:
        whole = ab_quic_varint_read(r, &f->retire_cid.sequence);
        break;
    case AB_QUIC_FRAME_PATH_CHALLENGE:
    case AB_QUIC_FRAME_PATH_RESPONSE:
        whole = (f->path.data = ab_quic_bytes_read(r, 8)) != NULL;
        break;
    case AB_QUIC_FRAME_CLOSE:
    case AB_QUIC_FRAME_CLOSE_APP:
        return read_close(r, f);
    case AB_QUIC_FRAME_HANDSHAKE_DONE:
        return server ? AB_QUIC_ERROR_PROTOCOL_VIOLATION : 0;
    case AB_QUIC_FRAME_DATAGRAM:
        f->blob.len = (uint32_t)ab_quic_reader_left(r);
        whole = (f->blob.data = ab_quic_bytes_read(r, f->blob.len)) != NULL;
        break;
    case AB_QUIC_FRAME_DATAGRAM_LEN:
        whole = counted(r, &f->blob.data, &f->blob.len);
        break;
    default:
        return AB_QUIC_ERROR_FRAME_ENCODING; /* RFC 9000 12.4: an unknown type */
    }
    return whole ? 0 : AB_QUIC_ERROR_FRAME_ENCODING;
}

int ab_quic_frame_next_any(struct ab_quic_reader *r, bool server, struct ab_quic_frame *f)
{
    struct ab_quic_reader at = *r;
    int code;

    f->type = 0;
    if (at.p >= at.end)
        return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
    if (ab_likely(*at.p < 0x40))
        f->type = *at.p++;
    else if (!ab_quic_varint_read(&at, &f->type))
        return AB_QUIC_ERROR_FRAME_ENCODING;
    else if ((uint32_t)(at.p - r->p) != ab_quic_varint_size(f->type))
        return AB_QUIC_ERROR_PROTOCOL_VIOLATION;
    /* A type of 0x08 to 0x0f in one byte is read inline and does not come here. */
    code = read_body(&at, server, f);
    if (code)
        return code;
    f->size = (uint32_t)(at.p - r->p);
    r->p = at.p;
    return 0;
}

static bool write_counted(struct ab_quic_writer *w, const uint8_t *data, uint32_t len)
{
    return ab_quic_varint_write(w, len) && ab_quic_bytes_write(w, data, len);
}

static bool write_two(struct ab_quic_writer *w, uint64_t a, uint64_t b)
{
    return ab_quic_varint_write(w, a) && ab_quic_varint_write(w, b);
}

static bool write_three(struct ab_quic_writer *w, uint64_t a, uint64_t b, uint64_t c)
{
    return write_two(w, a, b) && ab_quic_varint_write(w, c);
}

static bool write_stream(struct ab_quic_writer *w, const struct ab_quic_frame *f)
{
    bool off = f->type & AB_QUIC_STREAM_OFF;

    if (f->stream.offset > AB_QUIC_VARINT_MAX - f->stream.len || (!off && f->stream.offset))
        return false;
    return ab_quic_varint_write(w, f->stream.id) && (!off || ab_quic_varint_write(w, f->stream.offset)) &&
           (!(f->type & AB_QUIC_STREAM_LEN) || ab_quic_varint_write(w, f->stream.len)) &&
           ab_quic_bytes_write(w, f->stream.data, f->stream.len);
}

static bool write_ack(struct ab_quic_writer *w, const struct ab_quic_frame *f)
{
    return write_three(w, f->ack.largest, f->ack.delay, f->ack.count) &&
           ab_quic_varint_write(w, f->ack.largest - f->ack.first) &&
           ab_quic_bytes_write(w, f->ack.ranges, (size_t)(f->ack.end - f->ack.ranges)) &&
           (f->type == AB_QUIC_FRAME_ACK || write_three(w, f->ack.ect0, f->ack.ect1, f->ack.ce));
}

static bool write_new_cid(struct ab_quic_writer *w, const struct ab_quic_frame *f)
{
    uint8_t len = (uint8_t)f->new_cid.len;

    if (f->new_cid.len < 1 || f->new_cid.len > AB_QUIC_CID_BYTES || f->new_cid.retire_prior_to > f->new_cid.sequence)
        return false;
    return write_two(w, f->new_cid.sequence, f->new_cid.retire_prior_to) && ab_quic_bytes_write(w, &len, 1) &&
           ab_quic_bytes_write(w, f->new_cid.cid, len) && ab_quic_bytes_write(w, f->new_cid.token, AB_QUIC_TOKEN_BYTES);
}

static bool write_padding(struct ab_quic_writer *w, uint32_t len)
{
    if (len == 0 || ab_quic_writer_room(w) < len)
        return false;
    memset(w->p, 0, len);
    w->p += len;
    return true;
}

static bool write_body(struct ab_quic_writer *w, const struct ab_quic_frame *f)
{
    switch (f->type) {
    case AB_QUIC_FRAME_PING:
    case AB_QUIC_FRAME_HANDSHAKE_DONE:
        return true;
    case AB_QUIC_FRAME_ACK:
    case AB_QUIC_FRAME_ACK_ECN:
        return write_ack(w, f);
    case AB_QUIC_FRAME_RESET_STREAM:
        return write_three(w, f->reset_stream.id, f->reset_stream.code, f->reset_stream.final_size);
    case AB_QUIC_FRAME_STOP_SENDING:
        return write_two(w, f->stop_sending.id, f->stop_sending.code);
    case AB_QUIC_FRAME_CRYPTO:
        return f->crypto.offset <= AB_QUIC_VARINT_MAX - f->crypto.len && ab_quic_varint_write(w, f->crypto.offset) &&
               write_counted(w, f->crypto.data, f->crypto.len);
    case AB_QUIC_FRAME_NEW_TOKEN:
        return f->blob.len > 0 && write_counted(w, f->blob.data, f->blob.len);
    case AB_QUIC_FRAME_MAX_DATA:
    case AB_QUIC_FRAME_DATA_BLOCKED:
        return ab_quic_varint_write(w, f->limit.value);
    case AB_QUIC_FRAME_MAX_STREAM_DATA:
    case AB_QUIC_FRAME_STREAM_DATA_BLOCKED:
        return write_two(w, f->limit.id, f->limit.value);
    case AB_QUIC_FRAME_MAX_STREAMS_BIDI:
    case AB_QUIC_FRAME_MAX_STREAMS_UNI:
    case AB_QUIC_FRAME_STREAMS_BLOCKED_BIDI:
    case AB_QUIC_FRAME_STREAMS_BLOCKED_UNI:
        return f->limit.value <= AB_QUIC_STREAMS_MAX && ab_quic_varint_write(w, f->limit.value);
    case AB_QUIC_FRAME_NEW_CONNECTION_ID:
        return write_new_cid(w, f);
    case AB_QUIC_FRAME_RETIRE_CONNECTION_ID:
        return ab_quic_varint_write(w, f->retire_cid.sequence);
    case AB_QUIC_FRAME_PATH_CHALLENGE:
    case AB_QUIC_FRAME_PATH_RESPONSE:
        return ab_quic_bytes_write(w, f->path.data, 8);
    case AB_QUIC_FRAME_CLOSE:
        return write_two(w, f->close.code, f->close.frame_type) && write_counted(w, f->close.reason, f->close.len);
    case AB_QUIC_FRAME_CLOSE_APP:
        return ab_quic_varint_write(w, f->close.code) && write_counted(w, f->close.reason, f->close.len);
    case AB_QUIC_FRAME_DATAGRAM:
        return ab_quic_bytes_write(w, f->blob.data, f->blob.len);
    case AB_QUIC_FRAME_DATAGRAM_LEN:
        return write_counted(w, f->blob.data, f->blob.len);
    default:
        return (f->type & ~7ULL) == AB_QUIC_FRAME_STREAM && write_stream(w, f);
    }
}

bool ab_quic_frame_write(struct ab_quic_writer *w, const struct ab_quic_frame *f)
{
    uint8_t *begin = w->p;
    bool written;

    if (f->type == AB_QUIC_FRAME_PADDING)
        return write_padding(w, f->padding.len); /* its type is the first of its bytes */
    written = ab_quic_varint_write(w, f->type) && write_body(w, f);
    if (!written)
        w->p = begin;
    return written;
}
