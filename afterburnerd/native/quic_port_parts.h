/* What the files of the port share. Each is one direction of it (see quic_port.h):
 *
 *   quic_port.c           life: engine, rings and worker are tied together
 *   quic_port_commands.c  supervisor -> engine
 *   quic_port_sink.c      engine -> supervisor (events), applications (records)
 *   quic_port_io.c        packets in and out: the hot path, whole
 *   quic_port_pass.c      packets that are somebody else's: strays for the supervisor, other workers' connections
 *   quic_port_seen.c      counters and rows of connections
 */
#ifndef AB_QUIC_PORT_PARTS_H
#define AB_QUIC_PORT_PARTS_H

#include <string.h>
#include <unistd.h>

#include "quic_port.h"

#define AB_QUIC_PORT_STRAY_SHARE 2 /* strays, and what is only good to know, may fill half of the event ring */
#define AB_QUIC_PORT_LONG 0x80     /* long header, RFC 9000 17.2 */

/* ab_quic_port_tell puts an event into the supervisor's ring. False: no room. */
static inline bool ab_quic_port_tell(struct ab_quic_port *p, const struct ab_quic_event *e, const void *body)
{
    if (ab_unlikely(!ab_quic_ring_put(&p->events, e, body)))
        return false;
    p->events_told++;
    if (ab_unlikely(ab_quic_ring_wakes(&p->events)) && p->news_bell >= 0)
        (void)!write(p->news_bell, &(uint64_t){1}, sizeof(uint64_t)); /* full: it is rung already */
    return true;
}

/* ab_quic_port_plenty: there is room in the event ring for what may be left out. */
static inline bool ab_quic_port_plenty(struct ab_quic_port *p)
{
    uint64_t wanted = (p->events.mask + 1) / AB_QUIC_PORT_STRAY_SHARE + 1;

    return ab_quic_ring_room(&p->events, wanted) >= wanted;
}

/* ab_quic_port_way_out: the source that a path leaves through; NULL: there is none of its kind in that slot. */
static inline struct ab_io *ab_quic_port_way_out(const struct ab_quic_port *p, const struct ab_path *path)
{
    struct ab_io *io = path->slot < AB_MAX_QUEUES ? p->worker->ios[path->slot] : NULL;
    enum ab_io_kind kind = path->io == 0 ? AB_IO_XSK : AB_IO_UDP;

    return io && io->kind == kind && (kind == AB_IO_XSK || io->udp.quic) ? io : NULL;
}

/* ab_quic_port_sink: what the engine calls; its ctx is the port. */
extern const struct ab_quic_sink ab_quic_port_sink;

/* ab_quic_port_commands carries out what lies in the command ring and in those of other workers, a bounded number.
 * These four are calls of struct ab_guest. */
uint32_t ab_quic_port_commands(void *port, uint64_t now);
void ab_quic_port_rx(void *port, uint32_t slot, struct ab_dgram *d, uint32_t count, uint64_t now);
uint32_t ab_quic_port_tx(void *port, uint64_t now);
/* ab_quic_port_closing: a source goes away, and with it the buffers reserved from it. */
void ab_quic_port_closing(void *port, uint32_t slot);
/* ab_quic_port_beat publishes counters and rows; a bounded number of connections each time. */
void ab_quic_port_beat(void *port, uint64_t now);

/* ab_quic_port_stray: for the supervisor, best effort: a long header in a unit with short ones, a connection ID that we
 * do not know. */
void ab_quic_port_stray(struct ab_quic_port *p, const struct ab_dgram *d);
/* ab_quic_port_hand_over: for whichever other worker knows it. Where its ring is full the packet is lost, as in a queue
 * that overflows. */
void ab_quic_port_hand_over(struct ab_quic_port *p, const struct ab_dgram *d);
/* ab_quic_port_take_in: a datagram that came elsewhere, as struct ab_quic_inject and its bytes, `length` in all. False:
 * it is none. */
bool ab_quic_port_take_in(struct ab_quic_port *p, uint8_t *body, uint32_t length);
/* ab_quic_port_handed_over takes what another worker has received for us. Returns how many. */
uint32_t ab_quic_port_handed_over(struct ab_quic_port *p, struct ab_quic_ring_end *ring);

/* ab_quic_port_last_look: the last words of a connection: it may be gone before its turn comes to be looked at. */
void ab_quic_port_last_look(struct ab_quic_port *p, uint64_t id, const struct ab_quic_closed *closed);

#endif
