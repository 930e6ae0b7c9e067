#include "bpf.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* --- What libbpf says. Its end is what explains a failure: the verifier's log closes with the objection. --- */

#define LOG_BYTES 2048
#define LOG_LINES 3 /* of it that a person is shown: with the verifier, usually instruction, registers, objection */

struct log {
    char text[LOG_BYTES]; /* the last of it, always terminated */
    size_t used;
};

static _Thread_local struct log *listening; /* NULL: nobody asked. libbpf's callback carries no context of its own */

static int log_print(enum libbpf_print_level level, const char *format, va_list args)
{
    struct log *log = listening;
    char *said;
    size_t n, keep;
    int length;

    if (!log || level > LIBBPF_INFO || (length = vasprintf(&said, format, args)) < 0)
        return 0;
    n = AB_MIN((size_t)length, sizeof(log->text) - 1); /* the verifier's log comes in one piece, up to megabytes */
    keep = AB_MIN(log->used, sizeof(log->text) - 1 - n);
    memmove(log->text, log->text + log->used - keep, keep);
    memcpy(log->text + keep, said + length - n, n + 1);
    log->used = keep + n;
    free(said);
    return 0;
}

static void log_listen(struct log *log)
{
    log->text[0] = '\0';
    log->used = 0;
    listening = log;
    libbpf_set_print(log_print);
}

/* log_end: the last lines that say something, joined by " | ". What libbpf adds around the verifier's log is left out
 * where there is one. */
static const char *log_end(struct log *log)
{
    char *text = log->text, *end = strstr(text, "-- END PROG LOAD LOG --"), *from;
    int lines = 0;

    if (end) {
        *end = '\0';
        /* "processed N insns ..." closes every log of the verifier. */
        if ((from = strstr(text, "\nprocessed ")) != NULL)
            from[1] = '\0';
    }
    end = text + strlen(text);
    while (end > text && (end[-1] == '\n' || end[-1] == ' '))
        *--end = '\0';
    for (from = end; from > text; from--)
        if (from[-1] == '\n' && ++lines == LOG_LINES)
            break;
    for (char *p = from; *p; p++)
        if (*p == '\n')
            *p = '|';
    return *from ? from : "libbpf gave no reason";
}

/* --- Permissions --- */

static bool capable(int capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

    if (syscall(SYS_capget, &header, data) < 0)
        return false;
    return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

/* why_forbidden: what stands behind an EPERM of bpf(2). */
static const char *why_forbidden(void)
{
    bool bpf = capable(CAP_BPF) || capable(CAP_SYS_ADMIN), net = capable(CAP_NET_ADMIN);

    if (!bpf && !net)
        return "this process lacks CAP_BPF and CAP_NET_ADMIN: run it as root, or let systemd grant them "
               "(AmbientCapabilities=CAP_BPF CAP_NET_ADMIN)";
    if (!bpf)
        return "this process lacks CAP_BPF: run it as root, or let systemd grant it (AmbientCapabilities=CAP_BPF)";
    if (!net)
        return "this process lacks CAP_NET_ADMIN: run it as root, or let systemd grant it "
               "(AmbientCapabilities=CAP_NET_ADMIN)";
    return "CAP_BPF and CAP_NET_ADMIN are there, so something else forbids it: a user namespace (rootless container), "
           "seccomp, a security module or kernel lockdown; the journal of the kernel may say";
}

/* --- Load --- */

int ab_bpf_open(struct ab_bpf *b, const char *path, struct ab_error *err)
{
    struct log log;
    int code;

    *b = (struct ab_bpf){.link_fd = -1};
    if (access(path, R_OK) < 0)
        return ab_fail(err, -errno, "BPF object %s: %s: build it (make build) or install the package again", path,
                       strerror(errno));
    log_listen(&log);
    b->object = bpf_object__open_file(path, NULL);
    listening = NULL;
    code = errno < 4000 ? -errno : -ENOEXEC; /* libbpf has errors of its own from 4000 on */
    if (!b->object)
        return ab_fail(err, code, "BPF object %s is not one (%s): build it again (make build)", path, log_end(&log));
    b->program = bpf_object__next_program(b->object, NULL);
    if (!b->program) {
        ab_bpf_close(b);
        return ab_fail(err, -EINVAL, "BPF object %s has no program in it: build it again (make build)", path);
    }
    return 0;
}

/* map_find: a map of the object, or NULL with `err` filled. */
static struct bpf_map *map_find(const struct ab_bpf *b, const char *name, struct ab_error *err)
{
    struct bpf_map *map = b->object ? bpf_object__find_map_by_name(b->object, name) : NULL;

    if (!map)
        ab_fail(err, -ENOENT, "no BPF map \"%s\": %s", name, b->object ? "the object has none of that name" : "closed");
    return map;
}

int ab_bpf_resize(struct ab_bpf *b, const char *name, uint32_t max_entries, struct ab_error *err)
{
    struct bpf_map *map = map_find(b, name, err);
    int code;

    if (!map)
        return -ENOENT;
    code = bpf_map__set_max_entries(map, max_entries);
    if (code < 0 || max_entries == 0)
        return ab_fail(err, code ? code : -EINVAL, "BPF map \"%s\" cannot get %u entries: %s", name, max_entries,
                       max_entries == 0 ? "it needs one at least" : "it is loaded already");
    return 0;
}

int ab_bpf_load(struct ab_bpf *b, struct ab_error *err)
{
    struct log log;
    int code;

    if (!b->object || b->loaded)
        return ab_fail(err, -EINVAL, "the BPF object is %s", b->object ? "loaded already" : "closed");
    log_listen(&log);
    code = bpf_object__load(b->object);
    listening = NULL; /* on every way out: `log` ends with this call */
    if (code == -EPERM)
        return ab_fail(err, code, "loading the XDP program: not permitted: %s", why_forbidden());
    if (code < 0)
        return ab_fail(err, code, "loading the XDP program: %s: %s", strerror(-code), log_end(&log));
    b->loaded = true;
    return 0;
}

/* --- Attach --- */

/* occupied: who has the interface. Its program's id is for everyone to see, its name takes CAP_SYS_ADMIN. */
static int occupied(int ifindex, const char *ifname, struct ab_error *err)
{
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    struct bpf_prog_info info = {0};
    uint32_t id, size = sizeof(info);
    const char *where;
    char name[64] = "";
    int fd;

    if (bpf_xdp_query(ifindex, 0, &query) < 0)
        query.attach_mode = XDP_ATTACHED_NONE;
    id = query.drv_prog_id ? query.drv_prog_id : query.skb_prog_id ? query.skb_prog_id : query.hw_prog_id;
    where = query.drv_prog_id ? "native" : query.skb_prog_id ? "generic" : "hardware";
    if (!id)
        return ab_fail(err, -EBUSY,
                       "interface %s (index %d) was occupied by another XDP program a moment ago: try again", ifname,
                       ifindex);
    fd = bpf_prog_get_fd_by_id(id);
    if (fd >= 0) {
        if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.name[0])
            snprintf(name, sizeof(name), " \"%s\"", info.name);
        close(fd);
    }
    if (strstr(name, "afterburner"))
        return ab_fail(err, -EBUSY,
                       "interface %s (index %d) is occupied by XDP program %u%s (%s mode), which stays: another "
                       "afterburnerd serves it; stop that one, or configure another interface",
                       ifname, ifindex, id, name, where);
    return ab_fail(
        err, -EBUSY,
        "interface %s (index %d) is occupied by XDP program %u%s (%s mode), which stays: stop the daemon that "
        "holds it%s (`bpftool prog show id %u` and `bpftool link` tell more), or, if none does, "
        "`ip link set dev %s xdp off`; or configure another interface",
        ifname, ifindex, id, name, where, *name ? "" : ", perhaps another afterburnerd", id, ifname);
}

int ab_bpf_attach(struct ab_bpf *b, int ifindex, enum ab_bpf_mode mode, struct ab_error *err)
{
    LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = mode == AB_BPF_NATIVE ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
    const char *mode_name = mode == AB_BPF_NATIVE ? "native" : "generic";
    char ifname[IF_NAMESIZE] = "?";
    int fd;

    if (!b->loaded || b->link_fd >= 0)
        return ab_fail(err, -EINVAL, "the XDP program is %s", b->loaded ? "attached already" : "not loaded");
    if (!if_indextoname((unsigned)ifindex, ifname))
        return ab_fail(err, -ENODEV, "there is no interface with index %d: `ip link` lists them", ifindex);
    fd = bpf_link_create(bpf_program__fd(b->program), ifindex, BPF_XDP, &opts);
    switch (fd < 0 ? -fd : 0) {
    case 0:
        b->link_fd = fd;
        return 0;
    case EBUSY:
    case EEXIST: /* somebody has a program there in the other mode */
        return occupied(ifindex, ifname, err);
    case EPERM:
        return ab_fail(err, fd, "attaching the XDP program to %s: not permitted: %s", ifname, why_forbidden());
    default:
        return ab_fail(err, fd, "attaching the XDP program to %s in %s mode: bpf(BPF_LINK_CREATE, ifindex=%d): %s",
                       ifname, mode_name, ifindex, strerror(-fd));
    }
}

void ab_bpf_detach(struct ab_bpf *b)
{
    if (b->link_fd >= 0)
        close(b->link_fd);
    b->link_fd = -1;
}

int ab_bpf_attached(const struct ab_bpf *b)
{
    struct bpf_link_info info = {0};
    uint32_t size = sizeof(info);

    if (b->link_fd < 0 || bpf_obj_get_info_by_fd(b->link_fd, &info, &size) < 0)
        return 0;
    return (int)info.xdp.ifindex;
}

void ab_bpf_close(struct ab_bpf *b)
{
    ab_bpf_detach(b);
    bpf_object__close(b->object);
    *b = (struct ab_bpf){.link_fd = -1};
}

/* --- Maps --- */

int ab_bpf_map(const struct ab_bpf *b, const char *name, struct ab_bpf_map *out, struct ab_error *err)
{
    struct bpf_map *map = map_find(b, name, err);
    enum bpf_map_type type;

    if (!map)
        return -ENOENT;
    if (!b->loaded)
        return ab_fail(err, -EINVAL, "BPF map \"%s\": the object is not loaded yet", name);
    *out = (struct ab_bpf_map){
        .fd = bpf_map__fd(map),
        .key_bytes = bpf_map__key_size(map),
        .value_bytes = bpf_map__value_size(map),
        .max_entries = bpf_map__max_entries(map),
        .name = bpf_map__name(map),
    };
    type = bpf_map__type(map);
    if (type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_LRU_PERCPU_HASH) {
        int cpus = libbpf_num_possible_cpus();

        if (cpus < 0)
            return ab_fail(err, cpus, "BPF map \"%s\": how many processors there may be is not known: %s: %s", name,
                           strerror(-cpus), "/sys/devices/system/cpu/possible says so, where /sys is mounted");
        out->value_bytes = (out->value_bytes + 7) / 8 * 8 * (uint32_t)cpus;
    }
    return 0;
}

static int map_fail(const struct ab_bpf_map *map, const char *verb, int code, struct ab_error *err)
{
    const char *hint = "";

    if (code == -EPERM)
        hint = why_forbidden();
    else if (code == -E2BIG)
        hint = "it is full";
    else if (code == -ENOMEM)
        hint = "the kernel has no memory for it";
    return ab_fail(err, code, "BPF map \"%s\" (%u entries): %s: %s%s%s", map->name, map->max_entries, verb,
                   strerror(-code), *hint ? ": " : "", hint);
}

int ab_bpf_set(const struct ab_bpf_map *map, const void *key, const void *value, struct ab_error *err)
{
    int code = bpf_map_update_elem(map->fd, key, value, BPF_ANY);

    return code < 0 ? map_fail(map, "update", code, err) : 0;
}

int ab_bpf_get(const struct ab_bpf_map *map, const void *key, void *value, struct ab_error *err)
{
    int code = bpf_map_lookup_elem(map->fd, key, value);

    if (code == -ENOENT)
        return 0;
    return code < 0 ? map_fail(map, "lookup", code, err) : 1;
}

int ab_bpf_delete(const struct ab_bpf_map *map, const void *key, struct ab_error *err)
{
    int code = bpf_map_delete_elem(map->fd, key);

    if (code == -ENOENT)
        return 0;
    return code < 0 ? map_fail(map, "delete", code, err) : 1;
}

int ab_bpf_next(const struct ab_bpf_map *map, const void *key, void *next, struct ab_error *err)
{
    int code = bpf_map_get_next_key(map->fd, key, next);

    if (code == -ENOENT)
        return 0;
    return code < 0 ? map_fail(map, "next key", code, err) : 1;
}

int ab_bpf_set_xsk(const struct ab_bpf *b, uint32_t queue, int fd, struct ab_error *err)
{
    struct ab_bpf_map map = {0};
    int code = ab_bpf_map(b, "xsks", &map, err);

    if (code < 0)
        return code;
    if (map.key_bytes != sizeof(queue) || map.value_bytes != sizeof(fd))
        return ab_fail(err, AB_ELAYOUT, "BPF map \"xsks\" is no socket map: build the object again (make build)");
    if (queue >= map.max_entries)
        return ab_fail(err, -EINVAL, "receive queue %u: the socket map was loaded for %u queues", queue,
                       map.max_entries);
    if (fd >= 0)
        return ab_bpf_set(&map, &queue, &fd, err);
    /* An array of sockets: deleting what is not there is EINVAL, not ENOENT (net/xdp/xskmap.c). */
    code = bpf_map_delete_elem(map.fd, &queue);
    return code < 0 && code != -EINVAL && code != -ENOENT ? map_fail(&map, "delete", code, err) : 0;
}

int ab_bpf_count(const struct ab_bpf *b, struct ab_xdp_count out[AB_XDP_END], struct ab_error *err)
{
    struct ab_bpf_map map = {0};
    uint32_t first = 0;
    size_t stride;
    char *each;
    int code = ab_bpf_map(b, "counters", &map, err), cpus = libbpf_num_possible_cpus();

    if (code < 0)
        return code;
    stride = map.value_bytes / (size_t)AB_MAX(cpus, 1);
    if (map.key_bytes != sizeof(first) || cpus < 1 || stride < AB_XDP_END * sizeof(*out))
        return ab_fail(err, AB_ELAYOUT,
                       "BPF map \"counters\" has %zu bytes for each of %d processors, the counters take %zu: build the "
                       "object again (make build)",
                       stride, cpus, AB_XDP_END * sizeof(*out));
    each = malloc(map.value_bytes);
    if (!each)
        return ab_fail(err, AB_ENOMEM, "no memory for the counters of %d processors", cpus);
    code = ab_bpf_get(&map, &first, each, err);
    /* The element of each processor begins with its counters; behind them is the program's scratch. */
    memset(out, 0, AB_XDP_END * sizeof(*out));
    for (int cpu = 0; code > 0 && cpu < cpus; cpu++) {
        const struct ab_xdp_count *counts = (const void *)(each + (size_t)cpu * stride);

        for (int reason = 0; reason < AB_XDP_END; reason++) {
            out[reason].packets += counts[reason].packets;
            out[reason].octets += counts[reason].octets;
        }
    }
    free(each);
    return AB_MIN(code, 0);
}

int ab_bpf_run(const struct ab_bpf *b, struct ab_bpf_run *run, struct ab_error *err)
{
    struct xdp_md ctx = {
        .data_end = run->linear ? run->linear : run->length,
        .ingress_ifindex = run->ifindex,
        .rx_queue_index = run->queue,
    };
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = run->frame, .data_size_in = run->length, .data_out = run->out,
                .data_size_out = run->out ? run->out_length : 0, .ctx_in = &ctx, .ctx_size_in = sizeof(ctx),
                .repeat = (int)run->repeat);
    int code;

    if (!b->loaded)
        return ab_fail(err, -EINVAL, "the XDP program is not loaded");
    code = bpf_prog_test_run_opts(bpf_program__fd(b->program), &opts);
    if (code == -EPERM)
        return ab_fail(err, code, "bpf(BPF_PROG_TEST_RUN): not permitted: %s", why_forbidden());
    if (code < 0)
        return ab_fail(err, code, "bpf(BPF_PROG_TEST_RUN, %u bytes, queue %u of interface index %u): %s", run->length,
                       run->queue, run->ifindex, strerror(-code));
    run->out_length = opts.data_size_out;
    run->verdict = opts.retval;
    run->ns = opts.duration;
    return 0;
}
