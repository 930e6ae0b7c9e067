/* What a data plane gives up before it enters the loop: capabilities, new privileges, core dumps, most system calls.
 *
 * Order: everything that needs a privilege first (pinning, nice value, locking memory), then ab_sandbox_drop, then
 * ab_sandbox_seal. From then on a call outside the list ends the process (SECCOMP_RET_KILL_PROCESS): a data plane that
 * opens a file or a socket is not ours any more. */
#ifndef AB_SANDBOX_H
#define AB_SANDBOX_H

#include <sys/types.h>

#include "base.h"

/* ab_sandbox_parent_death: this process gets SIGKILL when its parent dies; fails when `parent` is dead already. */
int ab_sandbox_parent_death(pid_t parent, struct ab_error *err);

/* ab_sandbox_drop becomes `uid` and `gid` (-1: stays who it is), then drops every capability from every set and makes
 * the process undumpable. */
int ab_sandbox_drop(uid_t uid, gid_t gid, struct ab_error *err);

/* ab_sandbox_seal installs the allow-list of system calls. */
int ab_sandbox_seal(struct ab_error *err);

#endif
