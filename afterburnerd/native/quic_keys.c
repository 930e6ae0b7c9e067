#include <string.h>

#include "quic_keys.h"

int ab_quic_keys_init(struct ab_quic_keys *k, struct ab_quic_crypto *crypto, const struct ab_quic_adopt *a)
{
    int rc;

    memset(k, 0, sizeof(*k));
    k->suite = a->suite;
    k->rx_first = UINT64_MAX;
    k->former_until = UINT64_MAX;
    k->tx_first = a->next_pn;
    memcpy(k->tx_secret, a->tx_secret, sizeof(k->tx_secret));
    memcpy(k->rx_secret, a->rx_secret, sizeof(k->rx_secret));
    if ((rc = ab_quic_secret_derive(crypto, k->suite, k->tx_secret, &k->tx, &k->tx_hp, NULL)) ||
        (rc = ab_quic_secret_derive(crypto, k->suite, k->rx_secret, &k->rx[0], &k->rx_hp, k->rx_secret)) ||
        (rc = ab_quic_secret_derive(crypto, k->suite, k->rx_secret, &k->rx[1], NULL, NULL)))
        ab_quic_keys_fini(k, crypto);
    k->ahead = rc == 0;
    return rc;
}

void ab_quic_keys_fini(struct ab_quic_keys *k, struct ab_quic_crypto *crypto)
{
    ab_quic_key_wipe(crypto, &k->tx);
    ab_quic_key_wipe(crypto, &k->rx[0]);
    ab_quic_key_wipe(crypto, &k->rx[1]);
    ab_quic_hp_wipe(crypto, &k->tx_hp);
    ab_quic_hp_wipe(crypto, &k->rx_hp);
    ab_quic_secret_wipe(k->tx_secret);
    ab_quic_secret_wipe(k->rx_secret);
}

void ab_quic_keys_advance_rx(struct ab_quic_keys *k, uint64_t pn, uint64_t former_until)
{
    k->rx_generation++;
    k->rx_first = pn;
    k->ahead = false;
    k->former_until = former_until;
}

int ab_quic_keys_advance_tx(struct ab_quic_keys *k, struct ab_quic_crypto *crypto, uint64_t first)
{
    int rc = ab_quic_secret_next(crypto, k->suite, k->tx_secret, k->tx_secret);

    if (rc)
        return rc;
    ab_quic_key_wipe(crypto, &k->tx);
    rc = ab_quic_key_derive(crypto, &k->tx, k->suite, k->tx_secret);
    k->tx_generation++;
    k->tx_first = first;
    k->sealed = 0;
    k->confirmed = false;
    k->wanted = false;
    return rc;
}

int ab_quic_keys_ahead(struct ab_quic_keys *k, struct ab_quic_crypto *crypto)
{
    struct ab_quic_key *other = &k->rx[(k->rx_generation + 1) & 1];
    int rc = ab_quic_secret_next(crypto, k->suite, k->rx_secret, k->rx_secret);

    ab_quic_key_wipe(crypto, other);
    if (rc == 0)
        rc = ab_quic_key_derive(crypto, other, k->suite, k->rx_secret);
    k->ahead = rc == 0;
    k->former_until = UINT64_MAX;
    return rc;
}
