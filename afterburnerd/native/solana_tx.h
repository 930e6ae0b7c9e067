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
 *   v1 (SIMD-0385 "Transaction V1 Specification": message first, counts of one byte, no lookups, signatures last)
 *
 *     message_off   blockhash_off     accounts_off  config_off   instructions_off           signatures_off
 *     |             |                 |             |            |                          |
 *   [0x81][3 B][4 B][32 bytes ..][i][n][32 n bytes][values ....][4 B heads: i][bodies: i ..][64 B each]
 *          header    called the   ^ instructions,   4 bytes a    program,      accounts,     as many as the header
 *               mask lifetime       keys            bit of mask  their counts  data          requires
 *
 *   The first byte tells them apart: 0x81 cannot be a signature count.
 *
 *   A transaction has at most 1,232 bytes, v1 at most 4,096 (SIMD-0296). That is a limit of what carries it and of the
 *   cluster: neither the SDK's deserializer nor its sanitize() asks for the size, and so nothing here does.
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

/* What a v1 transaction says in front of its instructions, where the other versions call the compute budget program
 * (SIMD-0385 "TransactionConfigMask"). What it does not say is zero here, and zero for a cluster, except for the heap,
 * of which it has 32 KiB then. */
struct ab_tx_config {
    uint64_t priority_fee;         /* lamports, for the whole transaction */
    uint32_t compute_unit_limit;   /* compute units */
    uint32_t loaded_accounts_size; /* most bytes of account data to be loaded */
    uint32_t heap_size;            /* bytes */
};

/* Bits of tx->config_mask: which of them it says. The priority fee takes two bits since it takes two words. */
#define AB_TX_CONFIG_PRIORITY_FEE 0x03
#define AB_TX_CONFIG_COMPUTE_UNIT_LIMIT 0x04
#define AB_TX_CONFIG_LOADED_ACCOUNTS_SIZE 0x08
#define AB_TX_CONFIG_HEAP_SIZE 0x10

/* ab_tx_config: reads them. All zero where the transaction has none, is of another version, or was not decoded. */
void ab_tx_config(const struct ab_tx *tx, const uint8_t *p, struct ab_tx_config *out);

/* Where a walk stands. One struct for both kinds of walk. */
struct ab_tx_walk {
    uint32_t at;   /* next byte to be read */
    uint32_t body; /* v1: accounts and data of the next instruction, whose head is at `at` */
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
