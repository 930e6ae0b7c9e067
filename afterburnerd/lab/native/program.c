#include <string.h>

#include "program.h"

int ab_lab_program_load(struct ab_bpf *bpf, const struct ab_lab_options *o, enum ab_port_kind kind, uint32_t cids,
                        struct ab_error *err)
{
    struct ab_port_key key = {0};
    struct ab_port port = {.kind = kind};
    struct ab_xdp_settings settings = {.flags = AB_XDP_STAMP};
    struct ab_bpf_map map;
    uint32_t zero = 0;
    int rc;

    memcpy(key.addr, &o->from.sin6_addr, sizeof(key.addr));
    memcpy(key.port, &o->from.sin6_port, sizeof(key.port));
    memcpy(settings.mac, o->smac, sizeof(settings.mac));
    if ((rc = ab_bpf_open(bpf, o->bpf, err)) || (cids && (rc = ab_bpf_resize(bpf, "cids", cids, err))) ||
        (rc = ab_bpf_load(bpf, err)) || (rc = ab_bpf_map(bpf, "settings", &map, err)) ||
        (rc = ab_bpf_set(&map, &zero, &settings, err)) || (rc = ab_bpf_map(bpf, "ports", &map, err)))
        return rc;
    return ab_bpf_set(&map, &key, &port, err);
}

int ab_lab_program_attach(struct ab_bpf *bpf, const struct ab_lab_options *o, int fd, unsigned ifindex,
                          struct ab_error *err)
{
    int rc = ab_bpf_set_xsk(bpf, o->queue, fd, err);

    return rc ? rc : ab_bpf_attach(bpf, (int)ifindex, o->generic ? AB_BPF_GENERIC : AB_BPF_NATIVE, err);
}
