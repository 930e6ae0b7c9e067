#include "quic_rows.h"

#include <string.h>

int ab_quic_rows_open(struct ab_quic_rows_writer *w, void *memory, uint64_t bytes, struct ab_error *err)
{
    struct ab_quic_rows *head = memory, said;

    *w = (struct ab_quic_rows_writer){0};
    if (bytes < sizeof(said) || (uintptr_t)memory % AB_CACHELINE)
        return ab_fail(err, AB_ELAYOUT,
                       "table of connections: %llu bytes of shared memory at %p are too few or not aligned",
                       (unsigned long long)bytes, memory);
    /* Copied once, then judged: whoever else can write it shall not change it in between. */
    memcpy(&said, head, sizeof(said));
    __asm__ volatile("" : : "r"(&said) : "memory"); /* nor the compiler read it again */
    if (said.magic != AB_QUIC_ROWS_MAGIC || said.version != AB_VERSION)
        return ab_fail(err, AB_ELAYOUT, "table of connections: none of layout version %d in %llu bytes of memory",
                       AB_VERSION, (unsigned long long)bytes);
    if (said.row_bytes != sizeof(struct ab_quic_row) || said.rows == 0 || said.rows > UINT32_MAX ||
        said.rows > (bytes - sizeof(said)) / sizeof(struct ab_quic_row))
        return ab_fail(err, AB_ELAYOUT, "table of connections: %llu rows of %llu bytes do not fit %llu bytes",
                       (unsigned long long)said.rows, (unsigned long long)said.row_bytes, (unsigned long long)bytes);
    *w = (struct ab_quic_rows_writer){
        .head = head, .rows = (struct ab_quic_row *)(head + 1), .count = (uint32_t)said.rows};
    for (uint32_t i = 0; i < w->count; i++)
        if (w->rows[i].id || w->rows[i].seq & 1) /* odd: a process was killed in the middle of a row */
            ab_quic_rows_free(w, i, 0);
    return 0;
}

static uint64_t begin(struct ab_quic_row *row)
{
    uint64_t seq = (__atomic_load_n(&row->seq, __ATOMIC_RELAXED) + 1) | 1;

    __atomic_store_n(&row->seq, seq, __ATOMIC_RELAXED);
    /* Publishes "being written" to readers before any byte of it can be seen. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return seq;
}

/* The sequence word comes first and is written apart. */
static void publish(struct ab_quic_row *row, const struct ab_quic_row *from)
{
    uint64_t seq = begin(row);

    memcpy((uint8_t *)row + sizeof(row->seq), (const uint8_t *)from + sizeof(row->seq),
           sizeof(*row) - sizeof(row->seq));
    /* Publishes the whole row to whoever reads its sequence word. */
    __atomic_store_n(&row->seq, seq + 1, __ATOMIC_RELEASE);
}

void ab_quic_rows_write(struct ab_quic_rows_writer *w, uint32_t index, const struct ab_quic_conn *c, uint64_t now)
{
    struct ab_quic_row row;

    if (ab_unlikely(index >= w->count))
        return;
    ab_quic_conn_row(c, &row);
    row.time_ns = now;
    publish(&w->rows[index], &row);
}

void ab_quic_rows_free(struct ab_quic_rows_writer *w, uint32_t index, uint64_t now)
{
    if (index < w->count)
        publish(&w->rows[index], &(struct ab_quic_row){.time_ns = now});
}
