/* bpf.h - load the XDP program, hang it on an interface, keep its maps.
 *
 * The program is compiled ahead of time and loaded by libbpf. It is attached by a bpf_link of our own and not by
 * libxdp's dispatcher, whose links are pinned and outlive their makers: here the file descriptor is the attachment.
 * When the supervisor goes, however it goes, the kernel closes the descriptor and the interface is as it was.
 *
 *      ab_bpf_open -> ab_bpf_resize ... -> ab_bpf_load -> ab_bpf_set, ab_bpf_attach -> ab_bpf_detach -> ab_bpf_close
 *                     before the load        |  settings and ports are written before the attach,
 *                                            |  so that the first frame already meets them
 *                                            v
 *                                     ab_bpf_map: a map by name; ab_bpf_get, _set, _delete, _next on it
 *
 * One owner, one thread at a time. Everything here may sleep; nothing of it belongs into a worker's loop. Needs CAP_BPF
 * and CAP_NET_ADMIN, and nothing else.
 *
 * libbpf speaks through one callback for the whole process. Its words go into the error text of the call that made it
 * speak (kept for each thread) and never to stderr. */
#ifndef AB_BPF_H
#define AB_BPF_H

#include "base.h"

struct bpf_object;
struct bpf_program;

enum ab_bpf_mode {
    AB_BPF_NATIVE = 1, /* in the driver, before an skb exists */
    AB_BPF_GENERIC,    /* behind the driver, on any device */
};

struct ab_bpf {
    struct bpf_object *object;   /* maps and program; NULL: closed */
    struct bpf_program *program; /* the only one in the object */
    int link_fd;                 /* the attachment, -1: none */
    bool loaded;
};

/* A map of a loaded object, as the calls below want it. */
struct ab_bpf_map {
    int fd;
    uint32_t key_bytes;
    uint32_t value_bytes; /* as user space sees it: per-CPU maps have one value, padded to 8, for every possible CPU */
    uint32_t max_entries;
    const char *name;
};

/* ab_bpf_open reads the object file. `b` need not be initialised; it may be closed whatever is returned. */
int ab_bpf_open(struct ab_bpf *b, const char *path, struct ab_error *err);
/* ab_bpf_resize sets max_entries of a map that is not yet loaded. */
int ab_bpf_resize(struct ab_bpf *b, const char *map, uint32_t max_entries, struct ab_error *err);
int ab_bpf_load(struct ab_bpf *b, struct ab_error *err);
/* ab_bpf_attach: -EBUSY where the interface has a program already (the text says which), -EPERM names the capability
 * that is missing. Any other failure of AB_BPF_NATIVE means that the driver does not want the program: try generic. */
int ab_bpf_attach(struct ab_bpf *b, int ifindex, enum ab_bpf_mode mode, struct ab_error *err);
void ab_bpf_detach(struct ab_bpf *b);
/* ab_bpf_attached: interface that the program hangs on; 0: on none, also where the interface went away under it. */
int ab_bpf_attached(const struct ab_bpf *b);
void ab_bpf_close(struct ab_bpf *b);

int ab_bpf_map(const struct ab_bpf *b, const char *name, struct ab_bpf_map *map, struct ab_error *err);
int ab_bpf_set(const struct ab_bpf_map *map, const void *key, const void *value, struct ab_error *err);
/* ab_bpf_get and ab_bpf_delete: 1 found, 0 not there. */
int ab_bpf_get(const struct ab_bpf_map *map, const void *key, void *value, struct ab_error *err);
int ab_bpf_delete(const struct ab_bpf_map *map, const void *key, struct ab_error *err);
/* ab_bpf_next: the key after `key` (NULL: the first); 1 there is one, 0 that was the last. A key deleted meanwhile
 * makes the kernel begin again: bound the walk by max_entries. */
int ab_bpf_next(const struct ab_bpf_map *map, const void *key, void *next, struct ab_error *err);

/* ab_bpf_set_xsk gives the frames of a receive queue to an AF_XDP socket; fd -1: to nobody. The kernel takes the entry
 * out by itself when the socket is closed. */
int ab_bpf_set_xsk(const struct ab_bpf *b, uint32_t queue, int fd, struct ab_error *err);
/* ab_bpf_count sums the counters over the processors. */
int ab_bpf_count(const struct ab_bpf *b, struct ab_xdp_count out[AB_XDP_END], struct ab_error *err);

/* A frame to run the program on without an interface sending it (BPF_PROG_TEST_RUN). */
struct ab_bpf_run {
    const void *frame;
    uint32_t length;     /* of the frame: at least 14 */
    uint32_t linear;     /* bytes of it in the first buffer, 0: as many as fit (Linux 6.18) */
    uint32_t queue;      /* receive queue that it came in on ... */
    uint32_t ifindex;    /* ... of this interface; 0: the loopback's queue 0 */
    uint32_t repeat;     /* how often */
    void *out;           /* frame afterwards, metadata in front included; NULL: not wanted */
    uint32_t out_length; /* in: room, out: bytes */
    uint32_t verdict;    /* out: XDP_PASS ... */
    uint32_t ns;         /* out: average of one run */
};
int ab_bpf_run(const struct ab_bpf *b, struct ab_bpf_run *run, struct ab_error *err);

#endif
