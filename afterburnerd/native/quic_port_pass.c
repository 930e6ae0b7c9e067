/* Packets that are somebody else's: strays, for the supervisor, and those of other workers' connections.
 *
 *   not ours, from a socket --> event ring (STRAY) --> supervisor: a handshake, or INJECT to whose it is
 *   not ours, from AF_XDP   --> ring to each other worker --> whose it is takes it, nobody passes it on again
 *
 * Both are rare: the first packets of a connection, and those after a peer's move. So they are copied. */
#include "quic_port_parts.h"

_Static_assert(offsetof(struct ab_quic_command, length) == offsetof(struct ab_quic_event, length) &&
                   offsetof(struct ab_quic_command, kind) == offsetof(struct ab_quic_event, kind),
               "rings between workers: one puts events, the other takes commands");

/* A datagram as the body of an event, or false where it is too long for one. */
static bool pack(struct ab_quic_port *p, const struct ab_dgram *d, struct ab_quic_event *e)
{
    struct ab_quic_inject *from = (struct ab_quic_inject *)p->passed_on;

    if (d->len == 0 || d->len > sizeof(p->passed_on) - sizeof(*from))
        return false;
    *from = (struct ab_quic_inject){
        .local_port = d->dport, .remote_port = d->sport, .family = d->family, .tos = d->tos, .len = (uint16_t)d->len};
    memcpy(from->local, d->dst, sizeof(from->local));
    memcpy(from->remote, d->src, sizeof(from->remote));
    memcpy(from + 1, d->data, d->len);
    *e = (struct ab_quic_event){
        .time_ns = p->now, .kind = AB_QUIC_EVENT_STRAY, .length = (uint32_t)sizeof(*from) + d->len};
    return true;
}

void ab_quic_port_stray(struct ab_quic_port *p, const struct ab_dgram *d)
{
    struct ab_quic_event e;

    if (ab_quic_port_plenty(p) && pack(p, d, &e) && ab_quic_port_tell(p, &e, p->passed_on))
        p->strays++;
    else
        p->strays_dropped++;
}

void ab_quic_port_hand_over(struct ab_quic_port *p, const struct ab_dgram *d)
{
    struct ab_quic_event e;

    if (!pack(p, d, &e)) {
        p->handovers_dropped++;
        return;
    }
    for (uint32_t i = 0; i < p->to_count; i++) {
        bool put = ab_quic_ring_put(p->to[i], &e, p->passed_on);

        p->handed_out += put;
        p->handovers_dropped += !put;
    }
}

bool ab_quic_port_take_in(struct ab_quic_port *p, uint8_t *body, uint32_t length)
{
    const struct ab_quic_inject *from = (const struct ab_quic_inject *)body;
    struct ab_dgram d = {0};

    if (length < sizeof(*from) || from->len == 0 || from->len > length - sizeof(*from))
        return false;
    memcpy(d.src, from->remote, sizeof(d.src));
    memcpy(d.dst, from->local, sizeof(d.dst));
    d.sport = from->remote_port;
    d.dport = from->local_port;
    d.family = from->family;
    d.tos = from->tos;
    d.data = body + sizeof(*from);
    d.len = from->len;
    if (!(d.data[0] & AB_QUIC_PORT_LONG))
        ab_quic_rx(p->quic, &d, NULL, 1, p->now);
    return true;
}

uint32_t ab_quic_port_handed_over(struct ab_quic_port *p, struct ab_quic_ring_end *ring)
{
    struct ab_quic_command head; /* alike where a ring looks */
    uint32_t count = 0;
    uint8_t *body;

    for (; ab_quic_ring_ready(ring) && count < AB_QUIC_PORT_HANDED && ab_quic_ring_take(ring, &head, &body); count++)
        (void)ab_quic_port_take_in(p, body, head.length);
    p->handed_in += count;
    return count;
}
