/* world.h - two engines, the network between them, and what must hold whatever happens.
 *
 *     plan (drawn) --> end[0] client: struct ab_quic --> watch --> net --> end[1] server: struct ab_quic <-- plan
 * (drawn) sink: data, done, events                            sink: data, done, events
 *                                \------------------- ledger ---------------------/
 *
 * One world is one connection under one draw of everything: cipher, limits, windows, pools, network, what each end
 * sends and when, resets, key updates, rebindings, and how it ends. Every byte is known from (flow, offset), so a byte
 * that comes twice, too early or wrong is found when it comes. The ledger holds for each message what became of it.
 *
 *   flow     one direction of a stream, or one DATAGRAM, as its sender thinks of it; its first two bytes carry its key
 *   message  one ab_quic_send that was accepted; its fate must be told exactly once
 *   excuse   why bytes may be missing: something that the plan did (closed early, reset, stopped, darkness for ever) */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "net.h"
#include "quic.h"
#include "watch.h"

enum { FLOWS = 4096, MESSAGES = 6000, STREAM_TYPES = 4, SERVER_CRYPTO = 1024 };

enum { DONE_NOT = -1 }; /* a message whose fate is not told */

struct flow {
    enum ab_quic_send how;
    uint64_t id;      /* of the stream, UINT64_MAX: not known to the sender */
    uint64_t sent;    /* bytes accepted */
    uint64_t got;     /* bytes that the other end was given */
    uint32_t pending; /* messages without a fate */
    bool fin;         /* its last byte was accepted */
    bool got_fin, got_reset;
    bool reset, stopped; /* by the plan, at this end or the other */
    bool failed;         /* a message of it expired or was lost: nobody waits for the rest */
};

struct message {
    uint16_t flow;
    int outcome; /* enum ab_quic_outcome, or DONE_NOT */
    bool expires;
};

/* incoming: a stream of the other end as this one sees it. */
struct incoming {
    uint64_t next; /* offset of the next byte */
    uint32_t key;  /* flow of the sender; built from its first two bytes */
    bool fin, reset, known;
};

/* promises: what an end gives in its transport parameters; kept so that both adoptions say the same. */
struct promises {
    uint64_t idle_ms, max_data, stream_data[3], streams_bidi, streams_uni, ack_exponent, ack_delay, cids, datagram, udp;
};

struct end {
    struct world *w;
    uint32_t index; /* 0 client, 1 server */
    uint64_t id;    /* of the connection in its engine */
    struct ab_quic *q;
    struct ab_quic_conn *c;
    struct watch watch; /* on what this end sends */
    struct flow flows[FLOWS];
    uint32_t flow_count; /* keys begin at 0 */
    struct message messages[MESSAGES];
    uint32_t message_count, undone;
    struct incoming *in[STREAM_TYPES]; /* by stream number */
    uint32_t in_room[STREAM_TYPES];
    uint64_t told;                  /* times that data of a stream was told */
    uint32_t short_sent, short_got; /* streams of fewer than two bytes, which carry no key */
    /* the plan */
    uint32_t actions; /* left */
    uint64_t next_action, action_gap;
    bool ended;       /* its open streams have been given their ends */
    bool pushed_back; /* the last send found no room */
    double refuses;   /* share of `done` and `event` calls that this end's sink refuses */
    /* what was told */
    bool adopted, confirmed, closed;
    uint8_t closed_by;
    bool closed_app;
    uint64_t closed_code, closed_frame;
    uint64_t crypto_got;
    uint32_t cids_wanted, cid_next;
    bool closing; /* the plan closed it here */
    uint64_t close_code;
    bool close_app;
    struct ab_quic_counts counts;
};

struct world {
    struct rng rng; /* of the plan; the network has its own */
    /* fleet.c, several worlds in the same two engines: */
    uint32_t number;                     /* of this one; in connection IDs and addresses */
    const struct ab_quic_config *shared; /* of both engines; NULL: they are this world's own */
    uint64_t begins;                     /* 0: drawn */
    /* drawn */
    struct promises promised[2];
    struct ab_quic_config configs[2];
    uint8_t secrets[2][48];
    uint32_t local_cids[2];
    uint16_t mtus[2];
    struct net net;
    struct end end[2];
    uint64_t now, start, limit; /* limit: virtual time by which all must be over */
    uint8_t suite;
    uint32_t rebinds; /* left */
    uint64_t next_rebind;
    uint16_t valid_port;        /* the client's port that the server has validated, or began with */
    uint64_t port_in, port_out; /* bytes from and to the newest port, while it is not validated */
    bool dead;                  /* excuse: darkness for ever begins */
    uint64_t dead_at;
    bool early_close; /* excuse: the plan closes before all has arrived */
    uint64_t close_at;
    bool idle_end;    /* nobody closes: the idle timeout does */
    bool closing;     /* the plan has closed, at one end or both */
    uint64_t idle_ns; /* effective idle timeout, 0: none */
    uint32_t room;    /* of the buffers that datagrams are built in */
    bool drop_end;    /* ends by ab_quic_drop instead of close */
    uint8_t crypto[SERVER_CRYPTO];
    uint32_t crypto_len;
    struct net_flight *held[512]; /* what reached the server before it was adopted */
    uint32_t held_count;
    uint64_t turns, packets;
    uint64_t moved, moved_at; /* what was done and told so far, and when that changed last */
};

/* world_run: one seed from adoption to empty pools; ends the process where something does not hold. A fuzzer's input
 * decides the draws as long as it lasts. */
void world_init(struct world *w);
void world_run(struct world *w, uint64_t seed, const uint8_t *choices, size_t len);
void world_fini(struct world *w);

/* The steps of the loop, for who runs several. */
struct arrival {
    struct end *e;
    struct net_flight *f;
};

enum { WORLD_BURST = 32 };

void world_reset(struct world *w, uint64_t seed, const uint8_t *choices, size_t len);
/* world_receive: what has arrived for ends of one engine, a batch as a backend would bring it; gives the flights back.
 */
void world_receive(struct ab_quic *q, const struct arrival *a, uint32_t count);
void world_leave(struct world *w, struct end *e, const struct ab_quic_out *out); /* a datagram leaves */
bool world_act(struct world *w);                                                 /* what the plan wants at this time */
uint64_t world_earliest(struct world *w);

/* fleet_run: one seed of several worlds, side by side and one after the other, in the same two engines. */
void fleet_init(void);
void fleet_run(uint64_t seed);
void fleet_fini(void);
extern uint64_t fleet_packets;

/* scenario.c: draws, and makes both engines and the adoption. */
void scenario_draw(struct world *w);
void scenario_config(struct rng *r, struct ab_quic_config *c);
void scenario_engine(struct ab_quic **q, const struct ab_quic_config *config, const struct ab_quic_sink *sink);
void scenario_adopt(struct world *w, struct end *e);
enum ab_quic_refusal scenario_try(struct world *w, struct end *e); /* e->adopted is not touched */
void scenario_stock(struct world *w, struct end *e);               /* the connection IDs that CIDS_LOW asked for */
/* ledger.c: what the sinks hear, and what must be true at the end. */
extern const struct ab_quic_sink ledger_sink;
uint8_t flow_byte(const struct end *sender, uint32_t key, uint64_t offset);
bool ledger_quiet(const struct world *w); /* nothing is under way any more */
void ledger_explain(const struct world *w);
void ledger_settle(const struct world *w);
/* plan.c: what an end does next. */
void plan_act(struct world *w, struct end *e);
void plan_finish(struct world *w);

/* Frame types that were seen over all runs, for the coverage that a test asks for. */
extern uint64_t world_kinds[WATCH_KINDS];
extern uint64_t world_closes[8];
extern uint64_t world_outcomes[8];
enum { WORLD_TALLY = 27 };
extern uint64_t world_tally[WORLD_TALLY]; /* see main.c */

#endif
