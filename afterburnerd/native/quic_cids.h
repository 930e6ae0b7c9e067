/* Connection IDs of both sides (RFC 9000 section 5.1).
 *
 *   ours     minted by the supervisor, which has put them into the map `cids` before they come here. In stock until the
 *            peer may have another one, then announced (NEW_CONNECTION_ID), then retired by the peer: told, and still
 *            good for 3 PTO, because what was sent to it before may come after (5.1.2); a peer may well retire the one
 *            of the handshake before we have seen all that it sent to that
 *   peer's   announced by it; one is in use. Retired when it asks for it, or when a path changes (9.5)
 *
 *            FREE -> STOCK -> ANNOUNCED -> GONE (event CID_RETIRED is owed) -> GONE (told, until its time is over) ->
 * FREE FREE ------------> ANNOUNCED -> GONE (event RESET_TOKEN is owed) -> FREE
 *
 * Both tables are small and of fixed size: a flood of NEW_CONNECTION_ID meets its limit, not our memory. */
#ifndef AB_QUIC_CIDS_H
#define AB_QUIC_CIDS_H

#include "abi.h"
#include "quic_frame.h"

/* Entries of each side: AB_QUIC_CIDS that are good, and as many whose end the supervisor has not heard of yet. Our
 * active_connection_id_limit must not promise more than AB_QUIC_CIDS. */
#define AB_QUIC_CIDS_MAX (2 * AB_QUIC_CIDS)

#define AB_QUIC_NO_ROOM (-1) /* a frame cannot be taken now: the packet is dropped, and sent again by the peer */

enum ab_quic_cid_state {
    AB_QUIC_CID_FREE,
    AB_QUIC_CID_STOCK,
    AB_QUIC_CID_ANNOUNCED,
    AB_QUIC_CID_GONE,
};

struct ab_quic_cid_entry {
    uint64_t until; /* ours, GONE: packets to it are taken until then; each packet needs this and the next word */
    struct ab_quic_cid cid;
    uint8_t state; /* enum ab_quic_cid_state */
    bool told;     /* the event of it was taken */
    uint8_t pad[6];
};

struct ab_quic_cids {
    struct ab_quic_cid_entry ours[AB_QUIC_CIDS_MAX];
    struct ab_quic_cid_entry peers[AB_QUIC_CIDS_MAX];
    uint64_t next_ours;       /* lowest sequence number of ours that was never announced */
    uint64_t retire_prior_to; /* highest that the peer asked for */
    uint64_t seen_base;       /* peer: sequence numbers below were all seen */
    uint64_t seen;            /* peer: bit i: seen_base + i was seen */
    uint8_t in_use;           /* index in peers */
    uint8_t limit_ours;       /* how many of ours the peer stores: its active_connection_id_limit, cut to our table */
    uint8_t limit_peers;      /* ours, promised to the peer */
    bool low;                 /* CIDS_LOW was told and no stock has come since */
};

/* ab_quic_cids_init: false where what was handed over contradicts itself. */
bool ab_quic_cids_init(struct ab_quic_cids *c, const struct ab_quic_adopt *a, uint64_t limit_ours,
                       uint64_t limit_peers);

/* ab_quic_cids_decline: the peer offered a connection ID that is not taken; the caller retires it. */
void ab_quic_cids_decline(struct ab_quic_cids *c, uint64_t seq);

static inline const struct ab_quic_cid *ab_quic_cids_peer(const struct ab_quic_cids *c)
{
    return &c->peers[c->in_use].cid;
}

/* ab_quic_cids_announce: the next of ours that the peer may have, which counts as announced now; NULL: none. */
const struct ab_quic_cid *ab_quic_cids_announce(struct ab_quic_cids *c);
uint32_t ab_quic_cids_active(const struct ab_quic_cids *c); /* of ours, announced and not retired */
uint32_t ab_quic_cids_wanted(const struct ab_quic_cids *c); /* how many more the stock should have */

/* ab_quic_cids_stock: another one of ours; false where the table is full or the ID is not new. */
bool ab_quic_cids_stock(struct ab_quic_cids *c, const struct ab_quic_cid *cid);

/* ab_quic_cids_new: NEW_CONNECTION_ID. 0, AB_QUIC_NO_ROOM (and nothing has changed) or the transport error. Sequence
 * numbers to be retired are written to `retire` (room for AB_QUIC_CIDS_MAX + 1), *count of them. */
int ab_quic_cids_new(struct ab_quic_cids *c, const struct ab_quic_frame *f, uint64_t *retire, uint32_t *count);

/* ab_quic_cids_retire: RETIRE_CONNECTION_ID in a packet that came to `used` (sequence number). 0 or the transport
 * error; *index: of the entry that went, AB_QUIC_CIDS_MAX where it was gone already. Packets to it are taken `until`.
 */
int ab_quic_cids_retire(struct ab_quic_cids *c, uint64_t seq, uint64_t used, uint64_t until, uint32_t *index);

/* ab_quic_cids_buried: one of ours that is gone for good, because its time is over or, with `room`, because its entry
 * is needed; AB_QUIC_CIDS_MAX: none. The caller forgets it everywhere else, then calls ab_quic_cids_free. */
uint32_t ab_quic_cids_buried(const struct ab_quic_cids *c, bool room, uint64_t now);
void ab_quic_cids_free(struct ab_quic_cids *c, uint32_t index);

/* ab_quic_cids_rotate: another connection ID of the peer, for another path (9.5); false where there is none to spare.
 * The former one is to be retired: *retire. */
bool ab_quic_cids_rotate(struct ab_quic_cids *c, uint64_t *retire);

#endif
