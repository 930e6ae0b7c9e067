/* One end of QUIC connections that nobody shook hands for: worker, port and engine of the product, and secrets that
 * both ends make of the same numbers. What is measured is what the data plane does; what is left out is what happens
 * once a connection.
 *
 *   [ lab's loop ] -> ab_quic_send -> [ engine | port | worker ] -> AF_XDP or socket -> the other end
 *
 * Both ends are told the same --conns and --suite, and opposite roles and addresses. No secret of any worth is here.
 *
 * With --adopt the other end is an engine of somebody else's: the one connection is adopted from a file, as a worker
 * adopts it from a command; only our side of the way is filled in here. */
#ifndef AB_LAB_QUIC_END_H
#define AB_LAB_QUIC_END_H

#include "bpf.h"
#include "options.h"
#include "quic_port.h"

struct ab_lab_quic_end {
    struct ab_worker worker;
    struct ab_stats_worker worker_stats;
    struct ab_stats_queue queue_stats[2]; /* slot 0 receives; slot 1 sends where that is of another kind */
    struct ab_stats_rule rule_stats[AB_MAX_RULES];
    struct ab_doorbell bell;
    struct ab_bpf bpf;
    struct ab_quic_port *port;
    struct ab_quic_conn **conns; /* o->conns of them */
    struct ab_quic_adopt *given; /* the connection that others have shaken hands for, NULL: none */
    struct ab_quic_ring *commands, *events;
    uint64_t closed;    /* connections that ended */
    uint64_t waited_ns; /* for a CPU that others had, before it opened */
};

/* ab_lab_quic_end_open makes an end with all its connections adopted. */
int ab_lab_quic_end_open(struct ab_lab_quic_end **end, const struct ab_lab_options *o, struct ab_error *err);
void ab_lab_quic_end_close(struct ab_lab_quic_end *e);

/* ab_lab_quic_end_awake: what is measured begins; what the end has waited for a CPU before does not count. */
void ab_lab_quic_end_awake(struct ab_lab_quic_end *e);

/* ab_lab_quic_end_listen takes the events that have come; an error where a connection has ended. */
int ab_lab_quic_end_listen(struct ab_lab_quic_end *e, struct ab_error *err);

/* ab_lab_quic_end_print: what the end counted, as members of a JSON object without its braces. */
void ab_lab_quic_end_print(const struct ab_lab_quic_end *e);

#endif
