/* What a client was asked for: connections one after the other, each a sequence of steps that wait for one another.
 *
 *   dial -> [early data] -> connected -> streams, DATAGRAMs, rebinding, key update -> all delivered -> ticket -> hold
 * -> close
 *
 * Nothing here blocks: client_turn() takes whatever steps can be taken, says when it wants to be woken, and is called
 * again. */
#include "peer.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    uint64_t number; /* of the connection */
    bool version_done, early, done, moved, said, go;
    ngtcp2_tstamp deadline, next_open, hold_until;
    struct session session;
} client;

static void session_load(const char *name)
{
    FILE *file = fopen(name, "rb");
    if (!file)
        return; /* the first time there is none */
    struct session *s = &client.session;
    uint32_t lengths[2];
    if (fread(lengths, sizeof lengths, 1, file) == 1 && lengths[0] <= sizeof s->params && lengths[1] < 1 << 20) {
        s->data.data = gnutls_malloc(lengths[1]);
        s->data.size = lengths[1];
        s->params_len = lengths[0];
        if (fread(s->params, 1, lengths[0], file) != lengths[0] ||
            fread(s->data.data, 1, lengths[1], file) != lengths[1])
            fail(EX_USAGE, "--resume %s: cut short", name);
    }
    fclose(file);
}

static void session_store(const char *name)
{
    const struct session *s = &client.session;
    uint32_t lengths[2] = {(uint32_t)s->params_len, s->data.size};
    FILE *file = fopen(name, "wb");
    if (!file || fwrite(lengths, sizeof lengths, 1, file) != 1 ||
        fwrite(s->params, 1, lengths[0], file) != lengths[0] ||
        fwrite(s->data.data, 1, lengths[1], file) != lengths[1] || fclose(file))
        fail(EX_USAGE, "--resume %s cannot be written", name);
}

static struct conn *dial(const struct options *o, struct sums *sums, int *socket)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        fail(EX_INCOMPLETE, "out of memory");
    c->options = o;
    c->sums = sums;
    c->number = client.number;
    c->socket = socket;
    c->session = &client.session;
    ngtcp2_cid dcid = {.datalen = 18}, scid = {.datalen = CID_LEN};
    conn_random(dcid.data, dcid.datalen);
    conn_random(scid.data, scid.datalen);
    c->original = dcid;
    if (o->qlog && !client.number)
        c->qlog = fopen(o->qlog, "w");
    struct sockaddr_storage local;
    ngtcp2_path path = {.remote = {(struct sockaddr *)&o->address, address_len(&o->address)}};
    local_address(*socket, &local, &path.local);
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    conn_settings(c, &settings, &params);
    uint32_t version = o->version_negotiation && !client.version_done ? RESERVED_VERSION : QUIC_V1;
    if (ngtcp2_conn_client_new(&c->quic, &dcid, &scid, &path, version, &conn_callbacks, &settings, &params, NULL, c))
        fail(EX_USAGE, "ngtcp2_conn_client_new refused");
    client.early = o->zero_rtt && client.session.params_len && version == QUIC_V1;
    tls_client(c, &client.session, client.early);
    ngtcp2_transport_params old;
    if (client.early && !ngtcp2_decode_transport_params(&old, NGTCP2_TRANSPORT_PARAMS_TYPE_ENCRYPTED_EXTENSIONS,
                                                        client.session.params, client.session.params_len))
        ngtcp2_conn_set_early_remote_transport_params(c->quic, &old);
    client.deadline = now() + o->timeout * MS;
    client.done = client.moved = client.said = client.go = false;
    client.next_open = client.hold_until = 0;
    return c;
}

/* A NAT forgets its binding: the same connection IDs come from another port from now on. */
static void move(struct conn *c)
{
    struct sockaddr_storage local;
    ngtcp2_addr address;
    client.moved = true;
    local_address(*c->socket, &local, &address);
    ((struct sockaddr_in *)&local)->sin_port = 0; /* at the same place in both families */
    int fresh = open_socket(&local);
    close(*c->socket);
    *c->socket = fresh;
    local_address(fresh, &local, &address);
    ngtcp2_conn_set_local_addr(c->quic, &address);
    say("rebound", ", \"conn\": %lu, \"port\": %u", c->number, socket_port(fresh));
}

static void sooner(ngtcp2_tstamp *wake, ngtcp2_tstamp at)
{
    if (at < *wake)
        *wake = at;
}

/* Opens what may be opened now; true once everything is sent and delivered. */
static bool work(const struct options *o, struct conn *c, ngtcp2_tstamp *wake)
{
    ngtcp2_tstamp ts = now();
    if (!c->connected && !client.early)
        return false;
    while (c->opened < o->streams) {
        if (o->rebind_after >= 0 && !client.moved && c->opened >= (uint64_t)o->rebind_after)
            break;
        if (ts < client.next_open) {
            sooner(wake, client.next_open);
            break;
        }
        uint8_t *data = payload(c->opened, o->size);
        if (!conn_open(c, o->bidi, data, o->size)) {
            free(data);
            break; /* no credit: once more when something came */
        }
        client.next_open = o->interval ? ts + o->interval * MS : 0;
    }
    if (!c->connected)
        return false;
    if (c->opened == o->streams)
        c->wanted_datagrams = o->datagrams;
    if (o->rebind_after >= 0 && !client.moved && c->acked >= (uint64_t)o->rebind_after) {
        move(c);
        sooner(wake, ts);
    }
    if (o->key_update_after >= 0 && (int64_t)(c->received + c->acked) >= o->key_update_after)
        conn_update_key(c);
    return c->acked >= o->streams && c->received >= o->expect + (o->bidi ? o->streams : 0) &&
           c->sent_datagrams >= o->datagrams && (o->rebind_after < 0 || client.moved);
}

void client_go(void)
{
    client.go = true;
}

int client_turn(const struct options *o, struct sums *sums, int *socket, struct conn **conn, ngtcp2_tstamp *wake)
{
    struct conn *c = *conn;
    if (!c) {
        if (o->resume && !client.number && !client.version_done)
            session_load(o->resume);
        c = *conn = dial(o, sums, socket);
    }
    if (c->ending == END_VERSION) {
        conn_free(c);
        client.version_done = true;
        c = *conn = dial(o, sums, socket);
    }
    if (!conn_open_still(c)) {
        sooner(wake, c->gone);
        if (now() < c->gone)
            return -1;
        int code = client.done ? 0 : c->connected ? EX_INCOMPLETE : EX_UNREACHABLE;
        conn_free(c);
        *conn = NULL;
        client.version_done = false;
        if (!code && o->resume && client.session.data.data)
            session_store(o->resume);
        *wake = now();
        return code || ++client.number == o->count ? code : -1;
    }
    if (!client.done)
        client.done = work(o, c, wake);
    if (client.done && !((o->count > 1 || o->resume) && !c->new_session)) {
        if (!client.said)
            say("done", ", \"conn\": %lu", c->number);
        client.said = true;
        if (o->wait && !client.go)
            return -1;
        if (!client.hold_until)
            client.hold_until = now() + o->hold * MS;
        sooner(wake, client.hold_until);
        if (now() >= client.hold_until)
            conn_close(c, 0, "done");
    } else {
        sooner(wake, client.deadline);
        if (now() >= client.deadline)
            conn_close(c, 0, client.done ? "done" : "not done");
    }
    if (!conn_open_still(c))
        sooner(wake, now());
    return -1;
}
