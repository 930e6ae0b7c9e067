#include "quic_crypto_backend.h"

const struct ab_quic_backend *ab_quic_ipsec_init(struct ab_quic_crypto *c, const char *arch, struct ab_error *err)
{
    (void)c;
    (void)arch;
    ab_fail(err, AB_EINVAL, "libIPSec_MB: built without");
    return NULL;
}

void ab_quic_ipsec_fini(struct ab_quic_crypto *c)
{
    (void)c;
}
