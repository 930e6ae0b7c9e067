/* The decoder behind solana_tx.h: one pass, one cursor, every advance checked against the end.
 *
 * All positions are 32-bit and below 65,536; the largest step is 65,535 elements of 64 bytes, so sums and products
 * cannot wrap. Order of reading and of refusal follows the SDK (solana-transaction 4.1, solana-message 4.4,
 * solana-short-vec 3.2), because the tests compare more than yes and no. Headings of SIMD-0385 are quoted at what is
 * peculiar to v1. */
#include "solana_tx.h"

#include <string.h>

/* First bytes above 0x7f name a version; solana-message calls this MESSAGE_VERSION_PREFIX. */
#define VERSION_BIT 0x80
#define V1_PREFIX (VERSION_BIT | 1)
#define OFFCHAIN_PREFIX 0xff /* begins what is signed and is no transaction: "\xffsolana offchain" */

/* v1, "Transaction V1 Specification": what comes before the first count. */
#define V1_MASK_AT 4
#define V1_HEADER_BYTES 8
#define V1_HEAD_BYTES 4 /* of an instruction */
#define V1_CONFIG_KNOWN                                                                                                \
    (AB_TX_CONFIG_PRIORITY_FEE | AB_TX_CONFIG_COMPUTE_UNIT_LIMIT | AB_TX_CONFIG_LOADED_ACCOUNTS_SIZE |                 \
     AB_TX_CONFIG_HEAP_SIZE)
/* v1, "Transaction Constraints": what one fails to sanitize beyond. */
#define V1_MAX_SIGNATURES 12
#define V1_MAX_INSTRUCTIONS 64
#define V1_MAX_ACCOUNTS 64
/* "TransactionConfigMask" names the least heap; the rest is MIN_HEAP_SIZE and MAX_HEAP_SIZE of solana-message. */
#define V1_HEAP_UNIT 1024
#define V1_MIN_HEAP (32 * 1024)
#define V1_MAX_HEAP (256 * 1024)

/* A place in the packet. at <= len always. */
struct cursor {
    const uint8_t *p;
    uint32_t at;
    uint32_t len;
};

static inline bool skip(struct cursor *c, uint32_t bytes)
{
    if (ab_unlikely(bytes > c->len - c->at))
        return false;
    c->at += bytes;
    return true;
}

static inline int at_end(const struct cursor *c)
{
    return c->at == c->len ? AB_TX_OK : AB_TX_TRAILING_BYTES;
}

static inline uint32_t load_u16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t load_u32(const uint8_t *p)
{
    return load_u16(p) | load_u16(p + 2) << 16;
}

/* refuse_version: what to say of a version byte that cannot be read where it stands. Versions above 1 may exist one
 * day, except for 127, whose byte is taken. */
static inline int refuse_version(uint8_t prefix)
{
    return prefix > V1_PREFIX && prefix != OFFCHAIN_PREFIX ? AB_TX_UNSUPPORTED_VERSION : AB_TX_UNKNOWN_VERSION;
}

/* take_count: reads a compact-u16 (one to three bytes, seven bits each, low ones first). There is one spelling for
 * every number: a last byte of zero is an alias of a shorter spelling and refused, as is what exceeds 16 bits. Returns
 * 0, or `truncated` where the packet ends inside it, or AB_TX_BAD_COMPACT_U16. */
static inline int take_count(struct cursor *c, uint32_t *count, int truncated)
{
    const uint8_t *b = c->p + c->at;
    uint32_t left = c->len - c->at;

    if (ab_unlikely(left < 1))
        return truncated;
    if (ab_likely(b[0] < 0x80)) {
        *count = b[0];
        c->at += 1;
        return 0;
    }
    if (left < 2)
        return truncated;
    if (b[1] == 0)
        return AB_TX_BAD_COMPACT_U16;
    if (b[1] < 0x80) {
        *count = (b[0] & 0x7fu) | (uint32_t)b[1] << 7;
        c->at += 2;
        return 0;
    }
    if (left < 3)
        return truncated;
    if (b[2] == 0 || b[2] > 3)
        return AB_TX_BAD_COMPACT_U16;
    *count = (b[0] & 0x7fu) | (b[1] & 0x7fu) << 7 | (uint32_t)b[2] << 14;
    c->at += 3;
    return 0;
}

/* take_run: a compact-u16 count and as many elements of `size` bytes. */
static inline int take_run(struct cursor *c, uint32_t *count, uint32_t size, int truncated)
{
    int reason = take_count(c, count, truncated);

    if (ab_unlikely(reason != 0))
        return reason;
    return skip(c, *count * size) ? 0 : truncated;
}

static inline int skip_instructions(struct cursor *c, uint32_t count)
{
    uint32_t run;
    int reason;

    for (; count; count--) {
        if (!skip(c, 1))
            return AB_TX_TRUNCATED_INSTRUCTIONS;
        reason = take_run(c, &run, 1, AB_TX_TRUNCATED_INSTRUCTIONS);
        if (ab_unlikely(reason != 0))
            return reason;
        reason = take_run(c, &run, 1, AB_TX_TRUNCATED_INSTRUCTIONS);
        if (ab_unlikely(reason != 0))
            return reason;
    }
    return 0;
}

static int skip_lookups(struct cursor *c, uint32_t count)
{
    uint32_t run;
    int reason;

    for (; count; count--) {
        if (!skip(c, AB_TX_KEY_BYTES))
            return AB_TX_TRUNCATED_LOOKUPS;
        reason = take_run(c, &run, 1, AB_TX_TRUNCATED_LOOKUPS);
        if (reason)
            return reason;
        reason = take_run(c, &run, 1, AB_TX_TRUNCATED_LOOKUPS);
        if (reason)
            return reason;
    }
    return 0;
}

/* decode_v0: legacy and v0, which differ by one byte in front of the header and by the lookups at the end. */
static inline int decode_v0(struct ab_tx *out, struct cursor *c)
{
    uint32_t count;
    int reason;

    /* The first byte is below 0x80 here: a compact-u16 of one byte, the only size in which the SDK takes it. */
    count = c->p[0];
    c->at = 1;
    out->num_signatures = (uint16_t)count;
    out->signatures_off = (uint16_t)c->at;
    if (ab_unlikely(!skip(c, count * AB_TX_SIGNATURE_BYTES)))
        return AB_TX_TRUNCATED_SIGNATURES;

    out->message_off = (uint16_t)c->at;
    if (ab_unlikely(c->at == c->len))
        return AB_TX_TRUNCATED_HEADER;
    out->version = AB_TX_LEGACY;
    if (c->p[c->at] & VERSION_BIT) {
        out->version = c->p[c->at] & ~VERSION_BIT;
        if (out->version != 0) /* v1 is unknown here: its signatures cannot come first */
            return refuse_version(c->p[c->at]);
        c->at += 1;
    }

    if (ab_unlikely(c->len - c->at < 3))
        return AB_TX_TRUNCATED_HEADER;
    out->num_required = c->p[c->at];
    out->num_ro_signed = c->p[c->at + 1];
    out->num_ro_unsigned = c->p[c->at + 2];
    c->at += 3;

    reason = take_count(c, &count, AB_TX_TRUNCATED_ACCOUNTS);
    if (ab_unlikely(reason != 0))
        return reason;
    out->num_accounts = (uint16_t)count;
    out->accounts_off = (uint16_t)c->at;
    if (ab_unlikely(!skip(c, count * AB_TX_KEY_BYTES)))
        return AB_TX_TRUNCATED_ACCOUNTS;

    out->blockhash_off = (uint16_t)c->at;
    if (ab_unlikely(!skip(c, AB_TX_KEY_BYTES)))
        return AB_TX_TRUNCATED_BLOCKHASH;

    reason = take_count(c, &count, AB_TX_TRUNCATED_INSTRUCTIONS);
    if (ab_unlikely(reason != 0))
        return reason;
    out->num_instructions = (uint16_t)count;
    out->instructions_off = (uint16_t)c->at;
    reason = skip_instructions(c, count);
    if (ab_unlikely(reason != 0))
        return reason;

    if (out->version == 0) {
        reason = take_count(c, &count, AB_TX_TRUNCATED_LOOKUPS);
        if (reason)
            return reason;
        out->num_lookups = (uint16_t)count;
        out->lookups_off = (uint16_t)c->at;
        reason = skip_lookups(c, count);
        if (reason)
            return reason;
    }
    return at_end(c);
}

/* decode_v1: SIMD-0385. Out of line, so that the other versions, which are many more, need no registers for it.
 *
 * The mask is checked here and not in sanitize, as the SDK does it: "For 2 bit fields, such as priority-fee, both bits
 * MUST be set", and whoever does not know a bit cannot know where the instructions begin. */
static __attribute__((noinline)) int decode_v1(struct ab_tx *out, struct cursor *c)
{
    const uint8_t *p = c->p;
    uint32_t mask, half, bodies = 0;

    out->version = V1_PREFIX & ~VERSION_BIT;
    if (!skip(c, V1_HEADER_BYTES))
        return AB_TX_TRUNCATED_HEADER;
    out->num_required = p[1];
    out->num_ro_signed = p[2];
    out->num_ro_unsigned = p[3];
    mask = load_u32(p + V1_MASK_AT);
    half = mask & AB_TX_CONFIG_PRIORITY_FEE;
    if ((mask & ~(uint32_t)V1_CONFIG_KNOWN) != 0 || (half != 0 && half != AB_TX_CONFIG_PRIORITY_FEE)) {
        c->at = V1_MASK_AT;
        return AB_TX_BAD_CONFIG_MASK;
    }
    out->config_mask = (uint8_t)mask;

    out->blockhash_off = (uint16_t)c->at; /* called the lifetime specifier */
    if (!skip(c, AB_TX_KEY_BYTES))
        return AB_TX_TRUNCATED_BLOCKHASH;

    if (!skip(c, 2))
        return AB_TX_TRUNCATED_ACCOUNTS;
    out->num_instructions = p[c->at - 2];
    out->num_accounts = p[c->at - 1];
    out->accounts_off = (uint16_t)c->at;
    if (!skip(c, (uint32_t)out->num_accounts * AB_TX_KEY_BYTES))
        return AB_TX_TRUNCATED_ACCOUNTS;

    out->config_off = (uint16_t)c->at;
    if (!skip(c, (uint32_t)__builtin_popcount(mask) * 4))
        return AB_TX_TRUNCATED_CONFIG;

    out->instructions_off = (uint16_t)c->at;
    if (!skip(c, (uint32_t)out->num_instructions * V1_HEAD_BYTES))
        return AB_TX_TRUNCATED_INSTRUCTIONS;
    for (const uint8_t *head = p + out->instructions_off; head < p + c->at; head += V1_HEAD_BYTES)
        bodies += head[1] + load_u16(head + 2);
    if (!skip(c, bodies))
        return AB_TX_TRUNCATED_INSTRUCTIONS;

    out->num_signatures = out->num_required; /* "Signatures": they have no count of their own */
    out->signatures_off = (uint16_t)c->at;
    if (!skip(c, (uint32_t)out->num_signatures * AB_TX_SIGNATURE_BYTES))
        return AB_TX_TRUNCATED_SIGNATURES;
    return at_end(c);
}

/* decode: put into both of its callers by force: with v1 in it the compiler would rather call it, and a call costs a
 * batch of mixed transactions 3 %. */
static inline __attribute__((always_inline)) int decode(struct ab_tx *out, const uint8_t *p, uint32_t len)
{
    struct cursor c = {p, 0, len};
    int reason;

    memset(out, 0, sizeof *out);
    if (ab_unlikely(len == 0))
        reason = AB_TX_EMPTY;
    else if (ab_unlikely(len > AB_TX_MAX_BYTES))
        reason = AB_TX_TOO_LONG;
    else if (ab_likely(p[0] < VERSION_BIT))
        reason = decode_v0(out, &c);
    else if (p[0] == V1_PREFIX)
        reason = decode_v1(out, &c);
    else
        reason = refuse_version(p[0]);
    out->length = (uint16_t)c.at;
    out->reason = (uint8_t)reason;
    return reason;
}

int ab_tx_decode(struct ab_tx *out, const uint8_t *p, uint32_t len)
{
    return decode(out, p, len);
}

uint32_t ab_tx_decode_many(struct ab_tx *out, const uint8_t *packed, const uint32_t *ends, uint32_t count)
{
    uint32_t at = 0, good = 0;

    for (uint32_t i = 0; i < count; i++) {
        good += decode(&out[i], packed + at, ends[i] - at) == AB_TX_OK;
        at = ends[i];
    }
    return good;
}

/* --- walks
 * ------------------------------------------------------------------------------------------------------------
 *
 * The decoder has proven every count and every length, so nothing here looks for the end of the packet. */

static inline uint16_t next_count(const uint8_t *p, uint32_t *at)
{
    const uint8_t *b = p + *at;

    if (b[0] < 0x80) {
        *at += 1;
        return b[0];
    }
    if (b[1] < 0x80) {
        *at += 2;
        return (uint16_t)((b[0] & 0x7f) | b[1] << 7);
    }
    *at += 3;
    return (uint16_t)((b[0] & 0x7f) | (b[1] & 0x7f) << 7 | b[2] << 14);
}

struct ab_tx_walk ab_tx_instructions(const struct ab_tx *tx)
{
    bool known = ab_tx_decoded(tx);

    return (struct ab_tx_walk){
        .at = tx->instructions_off,
        .body = tx->instructions_off + (uint32_t)tx->num_instructions * V1_HEAD_BYTES,
        .left = known ? tx->num_instructions : 0,
    };
}

bool ab_tx_instruction_next(struct ab_tx_walk *walk, const struct ab_tx *tx, const uint8_t *p,
                            struct ab_tx_instruction *out)
{
    uint32_t at = walk->at;

    if (walk->left == 0)
        return false;
    out->program = p[at++];
    if (tx->version == 1) { /* "InstructionHeaders", "InstructionPayloads" */
        out->num_accounts = p[at];
        out->data_len = (uint16_t)load_u16(p + at + 1);
        out->accounts_off = (uint16_t)walk->body;
        out->data_off = out->accounts_off + out->num_accounts;
        walk->at += V1_HEAD_BYTES;
        walk->body += (uint32_t)out->num_accounts + out->data_len;
        walk->left--;
        return true;
    }
    out->num_accounts = next_count(p, &at);
    out->accounts_off = (uint16_t)at;
    at += out->num_accounts;
    out->data_len = next_count(p, &at);
    out->data_off = (uint16_t)at;
    walk->at = at + out->data_len;
    walk->left--;
    return true;
}

struct ab_tx_walk ab_tx_lookups(const struct ab_tx *tx)
{
    bool known = ab_tx_decoded(tx);

    return (struct ab_tx_walk){.at = tx->lookups_off, .left = known ? tx->num_lookups : 0};
}

bool ab_tx_lookup_next(struct ab_tx_walk *walk, const struct ab_tx *tx, const uint8_t *p, struct ab_tx_lookup *out)
{
    uint32_t at = walk->at;

    (void)tx;
    if (walk->left == 0)
        return false;
    out->table_off = (uint16_t)at;
    at += AB_TX_KEY_BYTES;
    out->num_writable = next_count(p, &at);
    out->writable_off = (uint16_t)at;
    at += out->num_writable;
    out->num_readonly = next_count(p, &at);
    out->readonly_off = (uint16_t)at;
    walk->at = at + out->num_readonly;
    walk->left--;
    return true;
}

void ab_tx_config(const struct ab_tx *tx, const uint8_t *p, struct ab_tx_config *out)
{
    uint32_t mask = ab_tx_decoded(tx) ? tx->config_mask : 0;
    const uint8_t *value;

    memset(out, 0, sizeof *out);
    if (mask == 0)
        return;
    value = p + tx->config_off;
    if (mask & AB_TX_CONFIG_PRIORITY_FEE) {
        out->priority_fee = load_u32(value) | (uint64_t)load_u32(value + 4) << 32;
        value += 8;
    }
    if (mask & AB_TX_CONFIG_COMPUTE_UNIT_LIMIT) {
        out->compute_unit_limit = load_u32(value);
        value += 4;
    }
    if (mask & AB_TX_CONFIG_LOADED_ACCOUNTS_SIZE) {
        out->loaded_accounts_size = load_u32(value);
        value += 4;
    }
    if (mask & AB_TX_CONFIG_HEAP_SIZE)
        out->heap_size = load_u32(value);
}

/* --- sanitize
 * -----------------------------------------------------------------------------------------------------------
 *
 * The checks and their order are those of Message::sanitize in the modules legacy, v0 and v1 of solana-message, then
 * those of VersionedTransaction::sanitize_signatures. Some of the SDK's checks cannot fail behind the others and are
 * left out: "no account keys" (the fee payer check wants a signer, the overlap check a key for it), "more signatures
 * than keys" (signatures equal the required ones, which the overlap check compared with the keys), and the sizes of a
 * v1 instruction (its head has no room for more). */

/* check_lookups: what v0 adds. Counts the keys that lookups load into *keys. */
static int check_lookups(const struct ab_tx *tx, const uint8_t *p, uint32_t *keys)
{
    struct ab_tx_walk walk = ab_tx_lookups(tx);
    struct ab_tx_lookup lookup;

    while (ab_tx_lookup_next(&walk, tx, p, &lookup)) {
        if (lookup.num_writable + lookup.num_readonly == 0)
            return AB_TX_SANITIZE_EMPTY_LOOKUP;
        *keys += lookup.num_writable + lookup.num_readonly;
    }
    return *keys > 256 ? AB_TX_SANITIZE_TOO_MANY_ACCOUNTS : 0; /* account indices are one byte */
}

/* check_limits: v1, "Transaction Constraints". They come before all else, so the rest deals with at most 64 keys. */
static int check_limits(const struct ab_tx *tx)
{
    if (tx->num_required > V1_MAX_SIGNATURES)
        return AB_TX_SANITIZE_TOO_MANY_SIGNATURES;
    if (tx->num_instructions > V1_MAX_INSTRUCTIONS)
        return AB_TX_SANITIZE_TOO_MANY_INSTRUCTIONS;
    return tx->num_accounts > V1_MAX_ACCOUNTS ? AB_TX_SANITIZE_TOO_MANY_ACCOUNTS : 0;
}

/* check_v1: what v1 adds behind the header's checks: "It is a sanitization failure for this array to contain any
 * duplicates" ("Addresses"), and a heap size that the runtime can give. */
static int check_v1(const struct ab_tx *tx, const uint8_t *p)
{
    const uint8_t *keys = p + tx->accounts_off, *end = keys + (uint32_t)tx->num_accounts * AB_TX_KEY_BYTES;
    struct ab_tx_config config;

    for (const uint8_t *a = keys; a < end; a += AB_TX_KEY_BYTES)
        for (const uint8_t *b = keys; b < a; b += AB_TX_KEY_BYTES)
            if (memcmp(a, b, AB_TX_KEY_BYTES) == 0)
                return AB_TX_SANITIZE_DUPLICATE_ACCOUNT;
    if (!(tx->config_mask & AB_TX_CONFIG_HEAP_SIZE))
        return 0;
    ab_tx_config(tx, p, &config);
    if (config.heap_size % V1_HEAP_UNIT || config.heap_size < V1_MIN_HEAP || config.heap_size > V1_MAX_HEAP)
        return AB_TX_SANITIZE_BAD_HEAP_SIZE;
    return 0;
}

int ab_tx_sanitize(const struct ab_tx *tx, const uint8_t *p)
{
    struct ab_tx_instruction instruction;
    struct ab_tx_walk walk;
    uint32_t keys = tx->num_accounts;
    int found = 0;

    if (!ab_tx_decoded(tx))
        return AB_EINVAL;
    if (tx->version == 1)
        found = check_limits(tx);
    if (found)
        return found;
    if ((uint32_t)tx->num_required + tx->num_ro_unsigned > keys)
        return AB_TX_SANITIZE_READONLY_OVERLAP;
    if (tx->num_ro_signed >= tx->num_required)
        return AB_TX_SANITIZE_NO_FEE_PAYER;

    if (tx->version == 0)
        found = check_lookups(tx, p, &keys);
    else if (tx->version == 1)
        found = check_v1(tx, p);
    if (found)
        return found;

    walk = ab_tx_instructions(tx);
    while (ab_tx_instruction_next(&walk, tx, p, &instruction)) {
        uint32_t highest = 0;

        if (instruction.program >= tx->num_accounts) /* a program cannot come from a lookup */
            return AB_TX_SANITIZE_PROGRAM_INDEX;
        if (instruction.program == 0)
            return AB_TX_SANITIZE_PROGRAM_IS_PAYER;
        for (uint32_t i = 0; i < instruction.num_accounts; i++) {
            uint32_t index = p[instruction.accounts_off + i];

            highest = index > highest ? index : highest;
        }
        if (highest >= keys) /* keys is at least 1 here */
            return AB_TX_SANITIZE_ACCOUNT_INDEX;
    }

    if (tx->num_signatures < tx->num_required)
        return AB_TX_SANITIZE_MISSING_SIGNATURES;
    if (tx->num_signatures > tx->num_required)
        return AB_TX_SANITIZE_EXTRA_SIGNATURES;
    return AB_TX_SANITIZE_OK;
}
