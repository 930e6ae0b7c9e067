/* Solana transactions, read where they lie.
 *
 * A transaction reaches us as one UDP payload or one QUIC stream, and nothing promises that its bytes are one. The
 * decoder walks them once and writes down where the parts begin (struct ab_tx, 32 bytes, generated from the schema): it
 * copies nothing, allocates nothing, and keeps no pointer, so the result can be put beside the bytes in a record ring
 * and be used by another process at another address.
 *
 *   legacy, v0 (signatures first)
 *
 *     signatures_off      message_off  accounts_off   blockhash_off  instructions_off           lookups_off
 *     |                   |            |              |              |                          |
 *   [n][64 n bytes ......][0x80?][3 B][n][32 n bytes][32 bytes ....][n][program, accounts, data][n][table, w, r ...]
 *    ^ compact-u16         ^ v0 only   ^ compact-u16                 ^                           ^ v0 only
 *      below 128             header: required, read-only signed, read-only unsigned
 *
 *   v1 (SIMD-0385; message first, signatures last, up to 4,096 bytes by SIMD-0296): begins with 0x81, which no
 *   signature count of the other two can be. Recognised, and refused as AB_TX_UNSUPPORTED_VERSION: see decode_v1().
 *
 * Two questions are kept apart, as the validators do. ab_tx_decode() asks whether the bytes have the shape of a
 * transaction; its yes is the yes of the Solana SDK's deserializer (the tests compare the two on every input they can
 * think of). ab_tx_sanitize() asks whether the indices inside point at something, as the SDK's sanitize() does. Neither
 * verifies a signature.
 *
 * Bytes behind a transaction are the one place where the SDK is of two minds: its deserializer ignores them, while a
 * validator reading packets rejects them. So they have a reason of their own, AB_TX_TRAILING_BYTES, and a complete
 * struct ab_tx: whoever asks "would the SDK read this?" takes it for a yes, the data plane takes it for a no. */
#ifndef AB_SOLANA_TX_H
#define AB_SOLANA_TX_H

#include "base.h"

#define AB_TX_SIGNATURE_BYTES 64
#define AB_TX_KEY_BYTES 32
#define AB_TX_LEGACY 0xff     /* `version` of a message that carries none */
#define AB_TX_MAX_BYTES 65535 /* what the 16-bit offsets of struct ab_tx can say; more than any UDP payload */

/* ab_tx_decode: reads the transaction in p[0..len) and describes it in *out.
 * Returns out->reason: AB_TX_OK, or why not. *out is always written whole. Where the transaction is not well-formed it
 * describes the parts before the fault, and out->length is the byte at which reading stopped; otherwise out->length is
 * the number of bytes that the transaction takes. Never reads outside p[0..len); p may be NULL when len is 0. */
int ab_tx_decode(struct ab_tx *out, const uint8_t *p, uint32_t len);

/* ab_tx_decode_many: decodes `count` transactions that lie one behind the other, the i-th from ends[i - 1] (0 for the
 * first) up to ends[i], into out[0..count). Returns how many are AB_TX_OK. `ends` must not decrease. */
uint32_t ab_tx_decode_many(struct ab_tx *out, const uint8_t *packed, const uint32_t *ends, uint32_t count);

/* ab_tx_decoded: true where *tx describes a whole transaction, with or without bytes behind it. What follows below may
 * be asked of such a one only, and with the bytes it was decoded from. */
static inline bool ab_tx_decoded(const struct ab_tx *tx)
{
    return tx->reason == AB_TX_OK || tx->reason == AB_TX_TRAILING_BYTES;
}

/* ab_tx_sanitize: AB_TX_SANITIZE_OK, or the first enum ab_tx_sanitize that the SDK's sanitize() would stumble over.
 * AB_EINVAL where the transaction was not decoded. */
int ab_tx_sanitize(const struct ab_tx *tx, const uint8_t *p);

/* One instruction, as offsets from the first byte of the transaction. `accounts` are one-byte indices into the static
 * account keys followed by the keys that lookups load. */
struct ab_tx_instruction {
    uint16_t accounts_off; /* first account index */
    uint16_t num_accounts; /* account indices, one byte each */
    uint16_t data_off;     /* first byte of the instruction data */
    uint16_t data_len;     /* bytes of it */
    uint8_t program;       /* index of the program's key */
};

/* One address-table lookup (v0). The indices are one byte each, into the table that lies in the account `table_off`. */
struct ab_tx_lookup {
    uint16_t table_off;    /* key of the table */
    uint16_t writable_off; /* first index of a writable account */
    uint16_t num_writable; /* indices of writable accounts */
    uint16_t readonly_off; /* first index of a read-only account */
    uint16_t num_readonly; /* indices of read-only accounts */
};

/* Where a walk stands. One struct for both kinds of walk; v1 will need `data`, since it keeps the fixed-size heads of
 * all instructions in front of their bodies. */
struct ab_tx_walk {
    uint32_t at;   /* next byte to be read */
    uint32_t data; /* v1: body of the next instruction */
    uint16_t left; /* elements still to come */
};

/* ab_tx_instructions, ab_tx_lookups: a walk at the first instruction or lookup; empty where the transaction was not
 * decoded. ab_tx_instruction_next, ab_tx_lookup_next: the next one in *out, false behind the last. */
struct ab_tx_walk ab_tx_instructions(const struct ab_tx *tx);
bool ab_tx_instruction_next(struct ab_tx_walk *walk, const struct ab_tx *tx, const uint8_t *p,
                            struct ab_tx_instruction *out);
struct ab_tx_walk ab_tx_lookups(const struct ab_tx *tx);
bool ab_tx_lookup_next(struct ab_tx_walk *walk, const struct ab_tx *tx, const uint8_t *p, struct ab_tx_lookup *out);

#endif
