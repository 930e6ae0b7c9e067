/* The parent dies just when a new user has cleared the signal for its death: the process must learn of it.
 *
 * setresuid() is ours here (-Wl,--wrap): it waits until the parent is gone and clears the signal, as the kernel does.
 * Prints what ab_sandbox_drop returned. */
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox.h"

int __wrap_setresuid(uid_t, uid_t, uid_t);

static pid_t parent;

int __wrap_setresuid(uid_t r, uid_t e, uid_t s)
{
    (void)r;
    (void)e;
    (void)s;
    prctl(PR_SET_PDEATHSIG, 0);
    if (kill(parent, SIGKILL) != 0)
        abort();
    while (getppid() == parent)
        usleep(100);
    return 0;
}

int main(void)
{
    struct ab_error err = {0};
    int ends[2], rc = 1;

    if (pipe(ends) != 0)
        return 1;
    if (fork() == 0) { /* the parent-to-be, who dies */
        parent = getpid();
        if (fork() == 0) {
            rc = ab_sandbox_parent_death(parent, &err);
            if (rc == 0)
                rc = ab_sandbox_drop(getuid(), (gid_t)-1, &err);
            if (write(ends[1], &rc, sizeof(rc)) != sizeof(rc))
                abort();
            _exit(0);
        }
        for (;;)
            pause();
    }
    close(ends[1]);
    if (read(ends[0], &rc, sizeof(rc)) != sizeof(rc))
        return 1;
    wait(NULL);
    printf("%d\n", rc == -ESRCH ? ESRCH : rc);
    return 0;
}
