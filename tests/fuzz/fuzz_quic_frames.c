/* libFuzzer target of the frames of a 1-RTT packet (afterburnerd/native/quic_frame.h).
 *
 * First byte: bit 0, we are the server; the rest is what stands in a packet, as it would be after decryption. What is
 * read must lie inside; an ACK's ranges descend and end at or above packet 0; what was read can be written, into
 * exactly as much room as it takes and no less, reads the same again, and is written the same from then on. */
#include "quic_frame.h"

#include "fuzz.h"

#define LIMIT AB_QUIC_VARINT_MAX

static const uint8_t *begin, *end; /* of the payload that is being read */

static void inside(const uint8_t *p, uint64_t len)
{
    MUST(p >= begin && p <= end && len <= (uint64_t)(end - p));
    for (uint64_t i = 0; i < len; i++)
        __asm__ volatile("" ::"r"(p[i])); /* AddressSanitizer has its say */
}

static void check_ack(const struct ab_quic_frame *f)
{
    struct ab_quic_ack_walk walk;
    uint64_t count = 0, below;

    MUST(f->ack.first <= f->ack.largest && f->ack.largest <= LIMIT && f->ack.delay <= LIMIT);
    MUST(f->ack.end >= f->ack.ranges && 2 * f->ack.count <= (uint64_t)(f->ack.end - f->ack.ranges));
    inside(f->ack.ranges, (uint64_t)(f->ack.end - f->ack.ranges));
    ab_quic_ack_walk_start(&walk, f);
    MUST(walk.first == f->ack.first && walk.last == f->ack.largest);
    for (below = walk.first; ab_quic_ack_walk_next(&walk); below = walk.first, count++)
        MUST(walk.first <= walk.last && walk.last < below && below - walk.last >= 2);
    MUST(count == f->ack.count && walk.r.p == f->ack.end);
}

static void check(const struct ab_quic_frame *f, bool server)
{
    switch (f->type) {
    case AB_QUIC_FRAME_PADDING:
        MUST(f->padding.len == f->size && f->size > 0);
        break;
    case AB_QUIC_FRAME_ACK:
    case AB_QUIC_FRAME_ACK_ECN:
        check_ack(f);
        break;
    case AB_QUIC_FRAME_CRYPTO:
        inside(f->crypto.data, f->crypto.len);
        MUST(f->crypto.offset <= LIMIT && f->crypto.offset + f->crypto.len <= LIMIT);
        break;
    case AB_QUIC_FRAME_NEW_TOKEN:
        MUST(!server && f->blob.len > 0);
        inside(f->blob.data, f->blob.len);
        break;
    case AB_QUIC_FRAME_DATAGRAM:
    case AB_QUIC_FRAME_DATAGRAM_LEN:
        inside(f->blob.data, f->blob.len);
        break;
    case AB_QUIC_FRAME_NEW_CONNECTION_ID:
        MUST(f->new_cid.len >= 1 && f->new_cid.len <= AB_QUIC_CID_BYTES);
        MUST(f->new_cid.retire_prior_to <= f->new_cid.sequence);
        inside(f->new_cid.cid, f->new_cid.len);
        inside(f->new_cid.token, AB_QUIC_TOKEN_BYTES);
        break;
    case AB_QUIC_FRAME_PATH_CHALLENGE:
    case AB_QUIC_FRAME_PATH_RESPONSE:
        inside(f->path.data, 8);
        break;
    case AB_QUIC_FRAME_CLOSE:
    case AB_QUIC_FRAME_CLOSE_APP:
        inside(f->close.reason, f->close.len);
        break;
    case AB_QUIC_FRAME_HANDSHAKE_DONE:
        MUST(!server);
        break;
    case AB_QUIC_FRAME_MAX_STREAMS_BIDI:
    case AB_QUIC_FRAME_MAX_STREAMS_UNI:
    case AB_QUIC_FRAME_STREAMS_BLOCKED_BIDI:
    case AB_QUIC_FRAME_STREAMS_BLOCKED_UNI:
        MUST(f->limit.value <= AB_QUIC_STREAMS_MAX);
        break;
    default:
        if ((f->type & ~7ULL) == AB_QUIC_FRAME_STREAM) {
            inside(f->stream.data, f->stream.len);
            MUST(f->stream.id <= LIMIT && f->stream.offset + f->stream.len <= LIMIT);
            MUST(f->stream.fin == (f->type & AB_QUIC_STREAM_FIN));
        } else {
            MUST(f->type <= AB_QUIC_FRAME_HANDSHAKE_DONE);
        }
    }
}

/* written: the frame in a block of exactly its bytes. */
static uint8_t *written(const struct ab_quic_frame *f, size_t *len)
{
    uint8_t *large = malloc(f->size + 16), *p;
    struct ab_quic_writer w = {large, large + f->size};

    MUST(large && ab_quic_frame_write(&w, f));
    *len = (size_t)(w.p - large);
    MUST(*len > 0 && *len <= f->size); /* the shortest form is never longer than what was read */
    p = exact(large, *len);
    free(large);

    large = exact(p, *len - 1);
    w = (struct ab_quic_writer){large, large + *len - 1};
    MUST(!ab_quic_frame_write(&w, f) && w.p == large);
    free(large);
    return p;
}

static void check_again(const struct ab_quic_frame *f, bool server)
{
    size_t len, len2;
    uint8_t *p = written(f, &len), *p2;
    struct ab_quic_reader r = {p, p + len};
    struct ab_quic_frame again;

    MUST(ab_quic_frame_next(&r, server, &again) == 0 && r.p == r.end && again.size == len);
    begin = p;
    end = p + len;
    check(&again, server);
    MUST(again.type == f->type);
    p2 = written(&again, &len2);
    MUST(len2 == len && memcmp(p, p2, len) == 0);
    free(p2);
    free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool server = size && data[0] & 1;
    size_t len = size ? size - 1 : 0;
    uint8_t *p = exact(data + (size != 0), len);
    struct ab_quic_reader r = {p, p + len};
    struct ab_quic_frame f;
    const uint8_t *at;
    int code;

    do {
        memset(&f, 0xa5, sizeof(f));
        at = r.p;
        code = ab_quic_frame_next(&r, server, &f);
        if (code) {
            MUST(r.p == at && r.end == p + len);
            MUST(code == AB_QUIC_ERROR_FRAME_ENCODING || code == AB_QUIC_ERROR_PROTOCOL_VIOLATION);
            MUST(f.type <= LIMIT);
            break;
        }
        MUST(r.p > at && r.p <= p + len && f.size == (uint64_t)(r.p - at) && *at == f.type);
        begin = at;
        end = r.p;
        check(&f, server);
        check_again(&f, server);
    } while (r.p < r.end);
    free(p);
    return 0;
}
