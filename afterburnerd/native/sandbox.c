#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "name the audit architecture of this machine"
#endif

int ab_sandbox_parent_death(pid_t parent, struct ab_error *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return ab_fail(err, -errno, "prctl(PR_SET_PDEATHSIG) failed: %s", strerror(errno));
    if (getppid() != parent) /* it died before the call */
        return ab_fail(err, -ESRCH, "the supervisor (process %d) is gone", (int)parent);
    return 0;
}

int ab_sandbox_drop(uid_t uid, gid_t gid, struct ab_error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    const pid_t parent = getppid();

    /* The bounding set needs CAP_SETPCAP to shrink; without it nothing can be regained either, thanks to no_new_privs.
     */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap);
    if (gid != (gid_t)-1 && (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0))
        return ab_fail(err, -errno, "becoming group %u failed: %s", (unsigned)gid, strerror(errno));
    if (uid != (uid_t)-1 && setresuid(uid, uid, uid) != 0)
        return ab_fail(err, -errno, "becoming user %u failed: %s", (unsigned)uid, strerror(errno));
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return ab_fail(err, -errno, "clearing ambient capabilities failed: %s", strerror(errno));
    if (syscall(SYS_capset, &header, none) != 0)
        return ab_fail(err, -errno, "capset() to nothing failed: %s", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return ab_fail(err, -errno, "prctl(PR_SET_NO_NEW_PRIVS) failed: %s", strerror(errno));
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        return ab_fail(err, -errno, "prctl(PR_SET_DUMPABLE) failed: %s", strerror(errno));
    /* setresuid clears it: say it again, and see whether the parent died in between. */
    return ab_sandbox_parent_death(parent, err);
}

/* Allowed calls, most frequent first: the filter is a line of comparisons. */
static const unsigned allowed[] = {
    /* the loop */
    SYS_sendto,
    SYS_recvfrom,
    SYS_recvmmsg,
    SYS_sendmmsg,
    SYS_ppoll,
    SYS_clock_gettime,
    /* messages of the supervisor, with descriptors */
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_read,
    SYS_write,
    SYS_close,
    SYS_fcntl,
    /* opening and closing queues: memory, rings, bind, a pause while a queue is still busy */
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_mprotect,
    SYS_brk,
    SYS_mlock,
    SYS_setsockopt,
    SYS_getsockopt,
    SYS_getsockname,
    SYS_bind,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_fstat,
    SYS_lseek,
    /* Python and the C library between two stays in the loop */
    SYS_futex,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_getpid,
    SYS_gettid,
    SYS_getrandom,
#ifdef SYS_poll
    SYS_poll,
#endif
    SYS_sched_yield,
    SYS_restart_syscall,
    SYS_tgkill,
    SYS_exit,
    SYS_exit_group,
};

int ab_sandbox_seal(struct ab_error *err)
{
    enum { COUNT = AB_ARRAY_LEN(allowed) };
    _Static_assert(COUNT <= UINT8_MAX, "a jump of classic BPF skips 255 instructions at most");
    struct sock_filter code[COUNT + 6];
    struct sock_fprog program = {.filter = code};
    unsigned n = 0;

    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < COUNT; i++)
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (uint8_t)(COUNT - i), 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    program.len = (unsigned short)n;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return ab_fail(err, -errno, "prctl(PR_SET_SECCOMP) failed: %s; the kernel needs CONFIG_SECCOMP_FILTER",
                       strerror(errno));
    return 0;
}
