/* What of packet protection only C can see: that it allocates nothing and calls nobody after init, and leaves no key.
 *
 *   | quic_crypto sealed|allocates|calls BACKEND      works where only write and exit are allowed, counting allocations
 *   | quic_crypto derived|wiped|kept BACKEND SUITE    looks for a key in all memory of the process: one that was wiped
 *   |                                                 as soon as it was derived, or after work, or not
 *   | quic_crypto backend BACKEND                     says which it is, and why
 *
 * "allocates", "calls" and "kept" do what must not be, to show that it is noticed. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "quic_crypto.h"

static unsigned long allocations;

static void ab_test_counted(void)
{
    allocations++;
}

#include "../../counted_malloc.h"

#define PACKETS 40
#define HEADER 11

static struct ab_quic_crypto crypto;
static uint8_t packets[PACKETS][1600];

static void die(const char *why)
{
    (void)!write(2, why, strlen(why));
    syscall(SYS_exit, 3);
}

/* rounds: generation after generation of a connection's life, every suite, good and broken packets. */
static void rounds(void)
{
    static struct ab_quic_key key;
    static struct ab_quic_hp hp;
    static struct ab_quic_op ops[PACKETS];
    uint8_t secret[AB_QUIC_SECRET_MAX];

    for (int round = 0; round < 90; round++) {
        enum ab_quic_suite suite = round % 3 + 1;

        memset(secret, round, sizeof(secret));
        if (ab_quic_hp_derive(&crypto, &hp, suite, secret) || ab_quic_secret_next(&crypto, suite, secret, secret) ||
            ab_quic_key_derive(&crypto, &key, suite, secret))
            die("a key could not be derived\n");
        for (int i = 0; i < PACKETS; i++) {
            packets[i][0] = 0x41;
            packets[i][9] = 0;
            packets[i][10] = (uint8_t)i;
            ops[i] = (struct ab_quic_op){.key = &key,
                                         .hp = &hp,
                                         .packet = packets[i],
                                         .payload = packets[i] + HEADER,
                                         .number = (uint64_t)i,
                                         .len = (uint32_t)(i * 37 + 2),
                                         .header_len = HEADER,
                                         .number_off = 9};
        }
        if (ab_quic_seal_batch(&crypto, ops, PACKETS) != PACKETS)
            die("not all were sealed\n");
        for (int i = 0; i < PACKETS; i++) {
            ops[i].len += HEADER + AB_QUIC_TAG_BYTES;
            packets[i][ops[i].len - 1] ^= i & 1;
        }
        if (ab_quic_unprotect_batch(&crypto, ops, PACKETS) != PACKETS)
            die("not all were bared\n");
        if (ab_quic_open_batch(&crypto, ops, PACKETS) != PACKETS / 2)
            die("not as many opened as should have\n");
        ab_quic_key_wipe(&crypto, &key);
        ab_quic_hp_wipe(&crypto, &hp);
    }
}

static int sealed(const char *mode)
{
    /* A filter, for strict mode is not to be had beneath a container's own filter. */
    struct sock_filter allow[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(allow) / sizeof(allow[0]), .filter = allow};
    unsigned long before;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        die("seccomp is not to be had\n");
    before = allocations;
    if (strcmp(mode, "allocates") == 0)
        free(malloc(100));
    if (strcmp(mode, "calls") == 0)
        (void)getppid();
    rounds();
    if (allocations != before) {
        (void)!write(2, "it allocated\n", 13);
        return 1;
    }
    (void)!write(1, "done\n", 5);
    return 0;
}

/* --- a key in memory --------------------------------------------------------------------------------------------- */

/* What is looked for: key, header protection key, secret. Never itself in memory: each byte is kept inverted. */
enum { KEY, HP, SECRET, NEEDLES };
static const char *const names[NEEDLES] = {"the key", "the header protection key", "the secret"};
static uint8_t inverted[NEEDLES][AB_QUIC_SECRET_MAX];
static uint32_t lengths[NEEDLES];

static void seek(int needle, const uint8_t *bytes, uint32_t len)
{
    lengths[needle] = len;
    for (uint32_t i = 0; i < len; i++)
        inverted[needle][i] = bytes[i] ^ 0xff;
}

/* found: what lies at p, as it is or with the bytes of each word turned round, as hashes keep them. */
static inline bool found(int needle, const uint8_t *p)
{
    bool plain = true, turned = true;

    for (uint32_t i = 0; i < lengths[needle] && (plain || turned); i++) {
        plain = plain && (p[i] ^ inverted[needle][i]) == 0xff;
        turned = turned && (p[i ^ 3] ^ inverted[needle][i]) == 0xff;
    }
    return plain || turned;
}

/* The memory to search, listed before there is a key: what is called between its wiping and the search would write over
 * what dead stack frames still hold. */
static struct {
    const uint8_t *from, *to;
} ranges[200];
static int range_count;

static void list(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];

    while (maps && fgets(line, sizeof(line), maps) && range_count < (int)AB_ARRAY_LEN(ranges)) {
        unsigned long from, to;
        char may[8];

        if (sscanf(line, "%lx-%lx %7s", &from, &to, may) == 3 && strncmp(may, "rw", 2) == 0) {
            ranges[range_count].from = (const uint8_t *)from;
            ranges[range_count++].to = (const uint8_t *)to;
        }
    }
    if (maps)
        fclose(maps);
}

static int search(void)
{
    int hits[NEEDLES] = {0};

    for (int i = 0; i < range_count; i++)
        for (const uint8_t *p = ranges[i].from; p + AB_QUIC_SECRET_MAX < ranges[i].to; p++)
            for (int needle = 0; needle < NEEDLES; needle++)
                hits[needle] += found(needle, p);
    for (int needle = 0; needle < NEEDLES; needle++)
        if (hits[needle])
            printf("%s is in memory, %d times\n", names[needle], hits[needle]);
    return hits[KEY] + hits[HP] + hits[SECRET];
}

/* use: a key from a secret, in work and wiped; of keys and secret only the inverted bytes remain. */
static void use(int suite, const char *how)
{
    static struct ab_quic_key key;
    static struct ab_quic_hp hp;
    static struct ab_quic_op op;
    uint8_t secret[AB_QUIC_SECRET_MAX], bytes[AB_QUIC_KEY_MAX];
    FILE *random = fopen("/dev/urandom", "r");

    setbuf(random, NULL);
    if (fread(secret, sizeof(secret), 1, random) != 1)
        exit(3);
    fclose(random);
    seek(SECRET, secret, ab_quic_secret_bytes(suite));
    ab_quic_secret_expand(&crypto, suite, secret, "quic key", bytes, ab_quic_key_bytes(suite));
    seek(KEY, bytes, ab_quic_key_bytes(suite));
    ab_quic_secret_expand(&crypto, suite, secret, "quic hp", bytes, ab_quic_key_bytes(suite));
    seek(HP, bytes, ab_quic_key_bytes(suite));
    explicit_bzero(bytes, sizeof(bytes));
    ab_quic_hp_derive(&crypto, &hp, suite, secret);
    ab_quic_key_derive(&crypto, &key, suite, secret);
    ab_quic_secret_wipe(secret);
    if (strcmp(how, "derived") == 0)
        goto wipe;
    op = (struct ab_quic_op){.key = &key,
                             .hp = &hp,
                             .packet = packets[0],
                             .payload = packets[0] + HEADER,
                             .len = 1200,
                             .header_len = HEADER,
                             .number_off = 9};
    packets[0][0] = 0x41;
    if (ab_quic_seal(&crypto, &op) != 0)
        exit(3);
    op.len += HEADER + AB_QUIC_TAG_BYTES;
    if (ab_quic_unprotect(&crypto, &op) != 0)
        exit(3);
    op.number = 0;
    if (ab_quic_open(&crypto, &op) != 0)
        exit(3);
    if (strcmp(how, "kept") == 0)
        return;
wipe:
    ab_quic_key_wipe(&crypto, &key);
    ab_quic_hp_wipe(&crypto, &hp);
}

int main(int argc, char **argv)
{
    struct ab_error err = {0};
    int code = 64;

    if (argc < 3 || ab_quic_crypto_init(&crypto, argv[2], &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return 3;
    }
    if (strcmp(argv[1], "backend") == 0) {
        printf("%s: %s\n", crypto.name, crypto.reason);
        code = 0;
    } else if (argc > 3) {
        list();
        use(atoi(argv[3]), argv[1]);
        code = search() != 0;
    } else {
        syscall(SYS_exit, sealed(argv[1]));
    }
    ab_quic_crypto_fini(&crypto);
    return code;
}
