/* Placeholder that passes every frame: replaced by the classifier. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "afterburner.h"

SEC("xdp.frags")
int afterburner_xdp(struct xdp_md *ctx)
{
    (void)ctx;
    return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
