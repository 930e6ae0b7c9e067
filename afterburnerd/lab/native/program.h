/* The XDP program as the supervisor would set it up, for one local address and port of ours (--from, --smac).
 *
 *   ab_lab_program_load --> (connection IDs, by whoever has any) --> ab_lab_program_attach */
#ifndef AB_LAB_PROGRAM_H
#define AB_LAB_PROGRAM_H

#include "bpf.h"
#include "options.h"

#include "afterburner.h"

/* ab_lab_program_load: settings and the port, stamps on. `cids`: room for connection IDs, 0: as the program has it. */
int ab_lab_program_load(struct ab_bpf *bpf, const struct ab_lab_options *o, enum ab_port_kind kind, uint32_t cids,
                        struct ab_error *err);
/* ab_lab_program_attach: what is ours of queue --queue goes to the AF_XDP socket `fd` from here on. */
int ab_lab_program_attach(struct ab_bpf *bpf, const struct ab_lab_options *o, int fd, unsigned ifindex,
                          struct ab_error *err);

#endif
