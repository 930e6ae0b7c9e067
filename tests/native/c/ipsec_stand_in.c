/* libIPSec_MB with one fault, chosen with -DFAULT_...: stands in the real one's place (LD_LIBRARY_PATH), and calls it.
 */
#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <string.h>

static void *real(const char *name)
{
    static void *library;

    if (!library)
        library = dlopen("/usr/lib/x86_64-linux-gnu/libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL);
    return library ? dlsym(library, name) : 0;
}

unsigned imb_get_version(void)
{
#ifdef FAULT_OLD
    return IMB_VERSION(1, 2, 0);
#else
    return ((unsigned (*)(void))real("imb_get_version"))();
#endif
}

IMB_MGR *alloc_mb_mgr(uint64_t flags)
{
    IMB_MGR *manager = ((IMB_MGR * (*)(uint64_t)) real("alloc_mb_mgr"))(flags);

#ifdef FAULT_NO_AES
    manager->features &= ~IMB_FEATURE_AESNI;
#endif
#ifdef FAULT_NO_MEMORY
    ((void (*)(IMB_MGR *))real("free_mb_mgr"))(manager);
    manager = 0;
#endif
    return manager;
}

void free_mb_mgr(IMB_MGR *manager)
{
    ((void (*)(IMB_MGR *))real("free_mb_mgr"))(manager);
}

#ifdef FAULT_SEALS_WRONGLY
static aes_gcm_enc_dec_t right;

static void wrong(const struct gcm_key_data *key, struct gcm_context_data *context, uint8_t *out, const uint8_t *in,
                  uint64_t len, const uint8_t *iv, const uint8_t *aad, uint64_t aad_len, uint8_t *tag, uint64_t tag_len)
{
    right(key, context, out, in, len, iv, aad, aad_len, tag, tag_len);
    if (len > 1500)
        out[1500] ^= 1;
}
#endif
#ifdef FAULT_OPENS_WRONGLY
static aes_gcm_enc_dec_t right;

static void wrong(const struct gcm_key_data *key, struct gcm_context_data *context, uint8_t *out, const uint8_t *in,
                  uint64_t len, const uint8_t *iv, const uint8_t *aad, uint64_t aad_len, uint8_t *tag, uint64_t tag_len)
{
    right(key, context, out, in, len, iv, aad, aad_len, tag, tag_len);
    if (len > 1400)
        out[len - 1] ^= 1;
}
#endif
#ifdef FAULT_OPENS_ANYTHING
static aes_gcm_enc_dec_t right;

static void wrong(const struct gcm_key_data *key, struct gcm_context_data *context, uint8_t *out, const uint8_t *in,
                  uint64_t len, const uint8_t *iv, const uint8_t *aad, uint64_t aad_len, uint8_t *tag, uint64_t tag_len)
{
    right(key, context, out, in, len, iv, aad, aad_len, tag, tag_len);
    memcpy(tag, in + len, tag_len);
}
#endif
#ifdef FAULT_MASKS_WRONGLY
static keyexp_t right;

static void wrong(const void *key, void *rounds, void *inverse)
{
    right(key, rounds, inverse);
    ((uint8_t *)rounds)[10 * 16] ^= 1;
}
#endif
#ifdef FAULT_WRITES_BEYOND_ITS_PLACE
static aes_gcm_pre_t right;

static void wrong(const void *key, struct gcm_key_data *data)
{
    right(key, data);
    ((uint8_t *)data)[sizeof(data->expanded_keys) + sizeof(data->ghash_keys) + 3] ^= 1;
}
#endif

void init_mb_mgr_auto(IMB_MGR *manager, IMB_ARCH *arch)
{
    ((void (*)(IMB_MGR *, IMB_ARCH *))real("init_mb_mgr_auto"))(manager, arch);
#ifdef FAULT_SEALS_WRONGLY
    right = manager->gcm128_enc;
    manager->gcm128_enc = wrong;
#endif
#if defined(FAULT_OPENS_ANYTHING) || defined(FAULT_OPENS_WRONGLY)
    right = manager->gcm256_dec;
    manager->gcm256_dec = wrong;
#endif
#ifdef FAULT_MASKS_WRONGLY
    right = manager->keyexp_128;
    manager->keyexp_128 = wrong;
#endif
#ifdef FAULT_WRITES_BEYOND_ITS_PLACE
    right = manager->gcm128_pre;
    manager->gcm128_pre = wrong;
#endif
#ifdef FAULT_SELF_TEST_FAILS
    manager->imb_errno = 2022;
#endif
}
