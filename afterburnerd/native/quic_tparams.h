/* Transport parameters (RFC 9000 section 18): what a peer's TLS extension promises, checked.
 *
 * The supervisor's TLS stack hands over the raw body of the extension, since it drops some parameters; here it is read
 * in full and judged by every rule that needs nothing but the body and the role. What depends on the handshake, whether
 * the connection IDs in it are the ones that were used (7.3), is for whoever knows them: the fields are given out. */
#ifndef AB_QUIC_TPARAMS_H
#define AB_QUIC_TPARAMS_H

#include "quic_error.h"
#include "quic_frame.h"
#include "quic_varint.h"

/* What holds where a peer says nothing (RFC 9000 18.2). */
#define AB_QUIC_TPARAMS_ACK_DELAY_EXPONENT 3
#define AB_QUIC_TPARAMS_MAX_ACK_DELAY_MS 25
#define AB_QUIC_TPARAMS_UDP_PAYLOAD 65527
#define AB_QUIC_TPARAMS_CIDS 2

/* A connection ID that may be absent, which is not the same as empty. */
struct ab_quic_tparams_cid {
    bool present;
    uint8_t len;
    uint8_t bytes[AB_QUIC_CID_BYTES];
};

struct ab_quic_tparams {
    uint64_t max_idle_timeout_ms;                 /* 0: none */
    uint64_t max_udp_payload_size;                /* bytes, 1200 to 65527 (more is the same as that) */
    uint64_t initial_max_data;                    /* bytes of all streams */
    uint64_t initial_max_stream_data_bidi_local;  /* bytes of a bidi stream that the parameters' sender opens */
    uint64_t initial_max_stream_data_bidi_remote; /* bytes of a bidi stream that is opened towards it */
    uint64_t initial_max_stream_data_uni;         /* bytes of a uni stream that is opened towards it */
    uint64_t initial_max_streams_bidi;            /* streams that may be opened towards it, at most 2^60 */
    uint64_t initial_max_streams_uni;
    uint64_t active_connection_id_limit; /* connection IDs that it stores, at least 2 */
    uint64_t max_datagram_frame_size;    /* bytes of a whole DATAGRAM frame, 0: it takes none (RFC 9221) */
    uint16_t max_ack_delay_ms;           /* below 2^14 */
    uint8_t ack_delay_exponent;          /* at most 20 */
    bool disable_active_migration;
    bool has_reset_token;       /* a server's alone, like what follows; for its connection ID with sequence number 0 */
    bool has_preferred_address; /* then its connection ID has sequence number 1 */
    struct ab_quic_tparams_cid original_destination_cid;
    struct ab_quic_tparams_cid initial_source_cid; /* of either role; always present in what was parsed */
    struct ab_quic_tparams_cid retry_source_cid;
    uint8_t reset_token[AB_QUIC_TOKEN_BYTES];
    struct {
        uint8_t ipv4[4], ipv6[16];      /* network order; all zero where the family is not offered */
        uint16_t port4, port6;          /* host order */
        struct ab_quic_tparams_cid cid; /* at least one byte */
        uint8_t token[AB_QUIC_TOKEN_BYTES];
    } preferred_address;
};

/* ab_quic_tparams_init: the defaults, as if nothing was said. */
void ab_quic_tparams_init(struct ab_quic_tparams *t);

/* ab_quic_tparams_parse: reads p[0..len) as sent by a server (from_server) or a client. Returns 0, or
 * AB_QUIC_ERROR_TRANSPORT_PARAMETER with *why a sentence fit for the reason phrase: a parameter twice, truncated, of a
 * wrong length or range (18.2), a server's from a client (18.2); initial_source_connection_id absent, or a server's
 * original_destination_connection_id (7.3). Unknown ones are skipped (7.4.2). *t is written whole in every case. */
int ab_quic_tparams_parse(struct ab_quic_tparams *t, const uint8_t *p, uint32_t len, bool from_server,
                          const char **why);

/* ab_quic_tparams_write: *t as an extension body; defaults are left out, and a server's parameters unless `server`.
 * False where there is no room (nothing is written then). */
bool ab_quic_tparams_write(struct ab_quic_writer *w, const struct ab_quic_tparams *t, bool server);

#endif
