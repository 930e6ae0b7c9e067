/* The port: where the QUIC engine, which knows no I/O, meets the worker, which knows no QUIC.
 *
 *   command ring --> commands --.                          .--> event ring      (supervisor)
 *   sources --> bursts --> rx --+--> [ engine ] -- sink ---+--> record ring     (applications)
 *   sources <-- buffers <-- tx -'                          '--> statistics
 *
 * Buffers to send from are reserved ahead from one source, the lead: that which the latest packets left through. A
 * packet whose path names another source is copied to a buffer of that one, and when most are, the lead changes: with
 * one source for sending, the usual case, nothing is ever copied, and sources for receiving and sending may be of
 * different kinds, as each connection's path says.
 *
 * A connection belongs to one worker, but its packets may come in on a queue of another's: the peer's address has
 * changed, or the table by which the NIC spreads flows (an AF_XDP socket takes its own queue's packets only). XDP lets
 * in nothing but known connection IDs, so what our engine does not know is another worker's: it goes into a ring to
 * each of them (single producer, single consumer, like those of the supervisor), and whose it is takes it. It goes no
 * further.
 *
 * What the supervisor must learn waits in the engine while the event ring is full, and no command is taken then: so
 * each command has its answer. Datagrams that are not for the engine (STRAY) are passed on while there is plenty of
 * room. */
#ifndef AB_QUIC_PORT_H
#define AB_QUIC_PORT_H

#include "quic.h"
#include "quic_ring.h"
#include "quic_rows.h"
#include "worker.h"

#define AB_QUIC_PORT_BATCH 64                  /* datagrams that leave in one turn at most: as many as a burst brings */
#define AB_QUIC_PORT_COMMANDS 16               /* commands of one turn */
#define AB_QUIC_PORT_PEERS (AB_MAX_QUEUES - 1) /* other workers: each has a queue at least */
#define AB_QUIC_PORT_HANDED 64                 /* packets handed over that are taken from each of them in a turn */
#define AB_QUIC_PORT_TABLE 64                  /* connections of an engine that is not told how many (quic.h) */
#define AB_QUIC_PORT_MESSAGE 65536             /* longest message that comes in several commands */
#define AB_QUIC_PORT_LOOKS 4                   /* connections that are looked at in 100 us at most: 2 us of them */
#define AB_QUIC_PORT_LOOKS_MOST 8              /* the same, of a worker that slept: 8 us */
#define AB_QUIC_PORT_PLACES 16                 /* places of the engine's table, taken or free, in 100 us at most */
#define AB_QUIC_PORT_PLACES_MOST 128
#define AB_QUIC_PORT_LOOK_NS 100000
#define AB_QUIC_PORT_ROW_NS 100000000 /* a row is not written anew sooner than this */

/* ab_quic_tap: who else hears what the engine tells, for programs that have the port in their own process (the lab).
 * The functions may be NULL; of the engine's they may call ab_quic_send. */
struct ab_quic_tap {
    void *ctx;
    void (*data)(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data, uint32_t len,
                 bool fin);
    void (*done)(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome,
                 uint64_t first_sent_ns);
};

struct ab_quic_port_seen {
    uint64_t id;       /* of the connection, 0: none */
    uint64_t shown_ns; /* when its row was written */
    uint32_t state;    /* as the row has it */
    struct ab_quic_counts counts;
};

struct ab_quic_port {
    struct ab_worker *worker;
    struct ab_quic *quic;
    int news_bell; /* eventfd: the supervisor sleeps on it, -1: none */
    uint64_t now;  /* of the call that is under way */
    uint32_t slot; /* source of the datagrams under way */
    /* Buffers reserved from source `lead`; outs[i] writes to buffers[i]. */
    uint32_t lead;  /* AB_MAX_QUEUES: none */
    uint32_t ready; /* how many */
    struct ab_txbuf buffers[AB_QUIC_PORT_BATCH];
    struct ab_quic_out outs[AB_QUIC_PORT_BATCH];
    uint8_t mine[AB_WORKER_BURST];
    /* A message that comes in several commands. */
    uint8_t *message;
    uint32_t message_len;
    uint64_t message_conn; /* 0: none */
    /* Counters that the engine does not keep. */
    uint64_t outcomes[AB_QUIC_OUTCOME_END];
    uint64_t commands_done, events_told, strays, send_drops, refused_other;
    /* Connections are looked at in turn, a few at a time, and at their end. What they counted since goes into sums over
     * all connections that there ever were, and their row is written. */
    struct ab_quic_counts counts;
    struct ab_quic_port_seen *seen; /* by index in the engine's table: what was summed up */
    uint32_t connections, look_at;  /* size of the table, next one to look at */
    uint32_t connections_limit;     /* of ab_quic_config, for the statistics */
    uint64_t looked_ns;
    struct ab_quic_rows_writer rows;
    struct ab_quic_tap tap;
    /* Rings to and from other workers: slots like those of events. */
    struct ab_quic_ring_end *to[AB_QUIC_PORT_PEERS], *from[AB_QUIC_PORT_PEERS];
    uint32_t to_count, from_count;
    uint64_t handed_out, handed_in;
    uint64_t strays_dropped, handovers_dropped; /* they found no room in the ring */
    _Alignas(8) uint8_t passed_on[AB_QUIC_EVENT_BYTES - sizeof(struct ab_quic_event)]; /* body of what is passed on */
    struct ab_stats_worker base; /* what the counters stood at when this process began */
    struct ab_quic_ring_end commands, events;
};

/* ab_quic_port_new makes engine and port and ties them to `w`; the rings' memory must outlive them. The worker must be
 * closed (ab_worker_fini) before ab_quic_port_free. */
int ab_quic_port_new(struct ab_quic_port **port, struct ab_worker *w, const struct ab_quic_config *config,
                     void *commands, uint64_t command_bytes, void *events, uint64_t event_bytes, struct ab_error *err);
/* ab_quic_port_show: rows of all connections go to this memory from here on; it must outlive the port. */
int ab_quic_port_show(struct ab_quic_port *p, void *memory, uint64_t bytes, struct ab_error *err);
void ab_quic_port_free(struct ab_quic_port *p);

/* ab_quic_port_bells: eventfds, non-blocking, by which the two sides wake one another when one of them sleeps: `work`
 * is rung by the supervisor, `news` by us. They must outlive the port. */
void ab_quic_port_bells(struct ab_quic_port *p, int work, int news);

/* ab_quic_port_peer adds a ring to (`outgoing`) or from another worker; its memory must outlive the port. */
int ab_quic_port_peer(struct ab_quic_port *p, void *memory, uint64_t bytes, bool outgoing, struct ab_error *err);

#endif
