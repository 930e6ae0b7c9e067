/* Table of connections: what everybody may see of them, in named shared memory, one row for each place in the engine's
 * table. The worker alone writes; a reader copies and looks at the row's sequence word before and after, as with
 * records (record.h). Nothing secret is in a row: no key, no connection ID, no token.
 *
 *   writer   seq = odd | release fence | fill | seq = even (release)
 *   reader   seq even ? copy | acquire fence | the same seq ? whole : again */
#ifndef AB_QUIC_ROWS_H
#define AB_QUIC_ROWS_H

#include "quic.h"

struct ab_quic_rows_writer {
    struct ab_quic_rows *head; /* shared memory, NULL: no table */
    struct ab_quic_row *rows;
    uint32_t count;
};

/* ab_quic_rows_open takes a mapped table of `bytes` bytes that the supervisor has laid out, checks the layout, and
 * empties every row: what a former process had is gone. */
int ab_quic_rows_open(struct ab_quic_rows_writer *w, void *memory, uint64_t bytes, struct ab_error *err);

/* ab_quic_rows_write: the connection as it is now; ab_quic_rows_free: it is no more. An index that the table has no row
 * for is left out. */
void ab_quic_rows_write(struct ab_quic_rows_writer *w, uint32_t index, const struct ab_quic_conn *c, uint64_t now);
void ab_quic_rows_free(struct ab_quic_rows_writer *w, uint32_t index, uint64_t now);

#endif
