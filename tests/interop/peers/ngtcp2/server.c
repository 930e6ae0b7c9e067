/* New connections of a server: what comes before ngtcp2 has a connection at all. */
#include "peer.h"

#include <stdlib.h>
#include <string.h>

#define TOKEN_LIFE (10 * NGTCP2_SECONDS)

static uint8_t token_secret[32]; /* of this process */

static void answer(int socket, const ngtcp2_path *path, const uint8_t *data, ngtcp2_ssize len)
{
    if (len > 0)
        sendto(socket, data, (size_t)len, 0, path->remote.addr, path->remote.addrlen);
}

static void other_versions(int socket, const ngtcp2_path *path, const ngtcp2_version_cid *v)
{
    static const uint32_t VERSIONS[] = {QUIC_V1};
    uint8_t packet[256], bits; /* those of the first byte that mean nothing (RFC 8999 6) */
    conn_random(&bits, 1);
    answer(socket, path, packet,
           ngtcp2_pkt_write_version_negotiation(packet, sizeof packet, bits, v->scid, v->scidlen, v->dcid, v->dcidlen,
                                                VERSIONS, 1));
}

static void retry(int socket, const ngtcp2_path *path, const ngtcp2_pkt_hd *hd)
{
    uint8_t packet[512], token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN];
    ngtcp2_cid scid = {.datalen = CID_LEN};
    conn_random(scid.data, CID_LEN);
    ngtcp2_ssize n =
        ngtcp2_crypto_generate_retry_token(token, token_secret, sizeof token_secret, hd->version, path->remote.addr,
                                           path->remote.addrlen, &scid, &hd->dcid, now());
    if (n > 0)
        answer(socket, path, packet,
               ngtcp2_crypto_write_retry(packet, sizeof packet, hd->version, &hd->scid, &scid, &hd->dcid, token,
                                         (size_t)n));
}

struct conn *server_accept(const struct options *o, struct sums *sums, int *socket, const ngtcp2_path *path,
                           const uint8_t *data, size_t len, uint64_t number)
{
    static bool seeded;
    if (!seeded)
        conn_random(token_secret, sizeof token_secret);
    seeded = true;
    ngtcp2_version_cid version;
    int code = ngtcp2_pkt_decode_version_cid(&version, data, len, CID_LEN);
    bool initial = len >= NGTCP2_MAX_UDP_PAYLOAD_SIZE; /* RFC 9000 14.1: smaller ones get no answer */
    if (code == NGTCP2_ERR_VERSION_NEGOTIATION || (!code && version.version && version.version != QUIC_V1)) {
        if (initial)
            other_versions(*socket, path, &version);
        return NULL;
    }
    ngtcp2_pkt_hd hd;
    if (code || !initial || ngtcp2_accept(&hd, data, len))
        return NULL;
    ngtcp2_cid original = hd.dcid;
    if (o->retry) {
        if (!hd.token.len) {
            retry(*socket, path, &hd);
            return NULL;
        }
        if (ngtcp2_crypto_verify_retry_token(&original, hd.token.base, hd.token.len, token_secret, sizeof token_secret,
                                             hd.version, path->remote.addr, path->remote.addrlen, &hd.dcid, TOKEN_LIFE,
                                             now())) {
            uint8_t packet[256];
            answer(*socket, path, packet,
                   ngtcp2_crypto_write_connection_close(packet, sizeof packet, hd.version, &hd.scid, &hd.dcid,
                                                        NGTCP2_INVALID_TOKEN, NULL, 0));
            return NULL;
        }
    }
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        fail(EX_INCOMPLETE, "out of memory");
    c->options = o;
    c->sums = sums;
    c->number = number;
    c->socket = socket;
    c->original = hd.dcid;
    if (o->qlog && !number)
        c->qlog = fopen(o->qlog, "w");
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    conn_settings(c, &settings, &params);
    settings.token = hd.token;
    params.original_dcid = original;
    if (o->retry) {
        params.retry_scid = hd.dcid;
        params.retry_scid_present = 1;
    }
    ngtcp2_cid scid = {.datalen = CID_LEN};
    conn_random(scid.data, CID_LEN);
    conn_random(params.stateless_reset_token, sizeof params.stateless_reset_token);
    params.stateless_reset_token_present = 1;
    if (ngtcp2_conn_server_new(&c->quic, &hd.scid, &scid, path, hd.version, &conn_callbacks, &settings, &params, NULL,
                               c)) {
        free(c);
        return NULL;
    }
    tls_server(c);
    return c;
}

void server_turn(struct conn *c)
{
    const struct options *o = c->options;
    if (!c->connected || !conn_open_still(c))
        return;
    while (c->opened < o->push) {
        uint8_t *data = payload(c->opened, o->push_size);
        if (!conn_open(c, false, data, o->push_size)) {
            free(data);
            break; /* no credit: once more when something came */
        }
    }
    if (o->key_update_after >= 0 && (int64_t)(c->received + c->acked) >= o->key_update_after)
        conn_update_key(c);
    if (o->close_after >= 0 && (int64_t)(c->received + c->acked) >= o->close_after)
        conn_close(c, o->close_code, "enough");
}
