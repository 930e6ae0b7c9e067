/* A load that the kernel refuses for want of a capability, and then words of libbpf that belong to no call of ours.
 *
 * argv: BPF object. libbpf's callback writes into the log of the call that listens; once the call has ended, its log is
 * gone, and a write into it is what AddressSanitizer reports. Prints the error text. */
#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "bpf.h"

int main(int argc, char **argv)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];
    struct ab_error err = {0};
    struct ab_bpf b;

    memset(none, 0, sizeof(none));
    if (argc != 2 || ab_bpf_open(&b, argv[1], &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (syscall(SYS_capset, &header, none) != 0 || ab_bpf_load(&b, &err) == 0) {
        fprintf(stderr, "the load was not refused\n");
        return 1;
    }
    puts(err.text);
    if (bpf_object__open_file("/nosuch/object", NULL)) /* libbpf warns of it */
        return 1;
    ab_bpf_close(&b);
    return 0;
}
