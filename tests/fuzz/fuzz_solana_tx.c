/* libFuzzer target of the transaction decoder (afterburnerd/native/solana_tx.h).
 *
 * The input is the packet. It is copied to a heap block of exactly its size, so that AddressSanitizer sees a read of
 * even one byte beyond it; everything that the decoder says about it is then checked for being inside it and
 * consistent: parts in order, walks that end where the decoder says the section ends, as many steps as counted. What
 * the SDK would say of the same bytes is the business of tests/native/test_solana_tx.py. */
#include "solana_tx.h"

#include "fuzz.h"

/* Bytes that a compact-u16 of this value takes. */
static uint32_t count_bytes(uint32_t value)
{
    return value < 0x80 ? 1 : value < 0x4000 ? 2 : 3;
}

/* touch: reads every byte of a run, so that ASan judges the run and not only our arithmetic. */
static void touch(const uint8_t *p, uint32_t off, uint32_t len)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < len; i++)
        sum += p[off + i];
    __asm__ volatile("" : : "r"(sum)); /* keeps the loop */
}

/* check_v1_walks: heads in a row, and their bodies in a row behind them. */
static void check_v1_walks(const struct ab_tx *tx, const uint8_t *p)
{
    struct ab_tx_walk walk = ab_tx_instructions(tx);
    uint32_t steps = 0, head = tx->instructions_off, at = head + 4u * tx->num_instructions;
    struct ab_tx_instruction ix;
    struct ab_tx_lookup lookup;

    for (; ab_tx_instruction_next(&walk, tx, p, &ix); steps++, head += 4) {
        MUST(ix.program == p[head] && ix.num_accounts == p[head + 1]);
        MUST(ix.data_len == p[head + 2] + 256 * p[head + 3]);
        MUST(ix.accounts_off == at && ix.data_off == at + ix.num_accounts);
        at = (uint32_t)ix.data_off + ix.data_len;
        MUST(at <= tx->signatures_off);
        touch(p, ix.accounts_off, ix.num_accounts);
        touch(p, ix.data_off, ix.data_len);
    }
    MUST(steps == tx->num_instructions && at == tx->signatures_off);
    MUST(!ab_tx_instruction_next(&walk, tx, p, &ix));
    walk = ab_tx_lookups(tx);
    MUST(tx->lookups_off == 0 && tx->num_lookups == 0 && !ab_tx_lookup_next(&walk, tx, p, &lookup));
}

/* check_v1: parts that follow each other without a gap, every word of the configuration where its bit says. */
static void check_v1(const struct ab_tx *tx, const uint8_t *p)
{
    uint32_t at = 8, mask = p[4];
    struct ab_tx_config config;

    MUST(p[0] == 0x81 && tx->message_off == 0 && p[5] == 0 && p[6] == 0 && p[7] == 0);
    MUST(p[1] == tx->num_required && p[2] == tx->num_ro_signed && p[3] == tx->num_ro_unsigned);
    MUST(mask == tx->config_mask && mask < 32 && (mask & 1) == (mask >> 1 & 1));
    MUST(tx->blockhash_off == at);
    at += AB_TX_KEY_BYTES + 2;
    MUST(tx->num_instructions == p[at - 2] && tx->num_accounts == p[at - 1] && tx->accounts_off == at);
    at += (uint32_t)tx->num_accounts * AB_TX_KEY_BYTES;
    MUST(tx->config_off == at);
    ab_tx_config(tx, p, &config);
    MUST(mask & 1 ? memcmp(&config.priority_fee, p + at, 8) == 0 : config.priority_fee == 0);
    at += mask & 1 ? 8 : 0;
    MUST(mask & 4 ? memcmp(&config.compute_unit_limit, p + at, 4) == 0 : config.compute_unit_limit == 0);
    at += mask & 4 ? 4 : 0;
    MUST(mask & 8 ? memcmp(&config.loaded_accounts_size, p + at, 4) == 0 : config.loaded_accounts_size == 0);
    at += mask & 8 ? 4 : 0;
    MUST(mask & 16 ? memcmp(&config.heap_size, p + at, 4) == 0 : config.heap_size == 0);
    at += mask & 16 ? 4 : 0;
    MUST(tx->instructions_off == at);
    check_v1_walks(tx, p);
    MUST(tx->num_signatures == tx->num_required);
    MUST(tx->length == tx->signatures_off + (uint32_t)tx->num_signatures * AB_TX_SIGNATURE_BYTES);
    touch(p, 0, tx->length);
}

static void check_walks(const struct ab_tx *tx, const uint8_t *p)
{
    struct ab_tx_walk walk = ab_tx_instructions(tx);
    struct ab_tx_instruction ix;
    struct ab_tx_lookup lookup;
    uint32_t steps = 0, at = tx->instructions_off;

    for (; ab_tx_instruction_next(&walk, tx, p, &ix); steps++) {
        MUST(ix.program == p[at]);
        MUST(ix.accounts_off == at + 1 + count_bytes(ix.num_accounts));
        MUST(ix.data_off == ix.accounts_off + ix.num_accounts + count_bytes(ix.data_len));
        at = (uint32_t)ix.data_off + ix.data_len;
        MUST(at <= tx->length);
        touch(p, ix.accounts_off, ix.num_accounts);
        touch(p, ix.data_off, ix.data_len);
    }
    MUST(steps == tx->num_instructions);
    MUST(!ab_tx_instruction_next(&walk, tx, p, &ix));
    if (tx->version == AB_TX_LEGACY) {
        MUST(at == tx->length && tx->lookups_off == 0 && tx->num_lookups == 0);
        return;
    }

    MUST(tx->lookups_off == at + count_bytes(tx->num_lookups));
    walk = ab_tx_lookups(tx);
    for (steps = 0, at = tx->lookups_off; ab_tx_lookup_next(&walk, tx, p, &lookup); steps++) {
        MUST(lookup.table_off == at);
        MUST(lookup.writable_off == at + AB_TX_KEY_BYTES + count_bytes(lookup.num_writable));
        MUST(lookup.readonly_off == lookup.writable_off + lookup.num_writable + count_bytes(lookup.num_readonly));
        at = (uint32_t)lookup.readonly_off + lookup.num_readonly;
        MUST(at <= tx->length);
        touch(p, lookup.table_off, AB_TX_KEY_BYTES);
        touch(p, lookup.writable_off, lookup.num_writable);
        touch(p, lookup.readonly_off, lookup.num_readonly);
    }
    MUST(steps == tx->num_lookups && at == tx->length);
}

static void check_decoded(const struct ab_tx *tx, const uint8_t *p, uint32_t len)
{
    uint32_t at = tx->signatures_off;

    MUST(tx->version == AB_TX_LEGACY || tx->version == 0 || tx->version == 1);
    MUST(tx->length <= len && (tx->reason == AB_TX_OK) == (tx->length == len));
    if (tx->version == 1) {
        check_v1(tx, p);
        return;
    }
    MUST(tx->config_mask == 0 && tx->config_off == 0);
    MUST(at == 1 && p[0] == tx->num_signatures);
    at += (uint32_t)tx->num_signatures * AB_TX_SIGNATURE_BYTES;
    MUST(tx->message_off == at);
    at += tx->version == AB_TX_LEGACY ? 3 : 4;
    MUST(p[at - 3] == tx->num_required && p[at - 2] == tx->num_ro_signed && p[at - 1] == tx->num_ro_unsigned);
    at += count_bytes(tx->num_accounts);
    MUST(tx->accounts_off == at);
    at += (uint32_t)tx->num_accounts * AB_TX_KEY_BYTES;
    MUST(tx->blockhash_off == at);
    at += AB_TX_KEY_BYTES + count_bytes(tx->num_instructions);
    MUST(tx->instructions_off == at);
    check_walks(tx, p);
    touch(p, 0, tx->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *p = size ? exact(data, size) : NULL;
    uint32_t len = (uint32_t)size;
    struct ab_tx tx, again;
    int reason;

    memset(&tx, 0xa5, sizeof(tx));
    reason = ab_tx_decode(&tx, p, len);
    MUST(reason == tx.reason && reason >= 0 && reason < AB_TX_END);
    MUST(tx.length <= len);

    if (ab_tx_decoded(&tx)) {
        int found = ab_tx_sanitize(&tx, p);

        MUST(found >= 0 && found < AB_TX_SANITIZE_END);
        check_decoded(&tx, p, len);
        /* Without what is behind it, it is the same transaction; without its last byte, it is none. */
        ab_tx_decode(&again, p, tx.length);
        MUST(again.reason == AB_TX_OK);
        again.reason = tx.reason;
        MUST(memcmp(&again, &tx, sizeof(tx)) == 0);
        MUST(!(ab_tx_decode(&again, p, tx.length - 1u) == AB_TX_OK || again.reason == AB_TX_TRAILING_BYTES));
    } else {
        struct ab_tx_walk walk = ab_tx_instructions(&tx);
        struct ab_tx_instruction ix;
        struct ab_tx_lookup lookup;
        struct ab_tx_config config;

        MUST(ab_tx_sanitize(&tx, p) == AB_EINVAL);
        ab_tx_config(&tx, p, &config);
        MUST(config.priority_fee == 0 && config.compute_unit_limit == 0);
        MUST(config.loaded_accounts_size == 0 && config.heap_size == 0);
        MUST(!ab_tx_instruction_next(&walk, &tx, p, &ix));
        walk = ab_tx_lookups(&tx);
        MUST(!ab_tx_lookup_next(&walk, &tx, p, &lookup));
    }
    free(p);
    return 0;
}
