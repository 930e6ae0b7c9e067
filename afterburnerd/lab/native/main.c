#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "modes.h"

volatile sig_atomic_t ab_lab_stop;

static void on_signal(int number)
{
    (void)number;
    ab_lab_stop = 1;
}

static int enter_netns(const char *name, struct ab_error *err)
{
    char path[256];
    int fd, rc = 0;

    snprintf(path, sizeof(path), "/run/netns/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ab_fail(err, -errno, "no network namespace %s: open(%s): %s", name, path, strerror(errno));
    if (setns(fd, CLONE_NEWNET))
        rc = ab_fail(err, -errno, "setns(%s): %s", path, strerror(errno));
    close(fd);
    return rc;
}

static int prepare(const struct ab_lab_options *o, struct ab_error *err)
{
    struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    struct sigaction act = {.sa_handler = on_signal};
    cpu_set_t set;
    int rc;

    /* Nothing here may outlive the one who started it: a forgotten spinning process takes a core for good. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    if (o->netns && (rc = enter_netns(o->netns, err)))
        return rc;
    if (o->cpu >= 0) {
        CPU_ZERO(&set);
        CPU_SET(o->cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set))
            return ab_fail(err, -errno, "sched_setaffinity(CPU %d): %s", o->cpu, strerror(errno));
    }
    if (o->nice && setpriority(PRIO_PROCESS, 0, o->nice))
        return ab_fail(err, -errno, "setpriority(%d): %s", o->nice, strerror(errno));
    setrlimit(RLIMIT_MEMLOCK, &unlimited); /* fails without privileges; what needs it then says so itself */
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        ab_lab_mode *run;
    } modes[] = {
        {"bare-ping", ab_lab_bare_ping},           {"bare-pong", ab_lab_bare_pong},
        {"bare-receive", ab_lab_bare_receive},     {"xdp-send", ab_lab_xdp_send},
        {"socket-ping", ab_lab_socket_ping},       {"socket-pong", ab_lab_socket_pong},
        {"worker-ping", ab_lab_worker_ping},       {"socket-send", ab_lab_socket_send},
        {"socket-receive", ab_lab_socket_receive}, {"engine", ab_lab_engine},
        {"socket-receive", ab_lab_socket_receive}, {"quic-send", ab_lab_quic_send},
        {"quic-receive", ab_lab_quic_receive},     {"oneway-send", ab_lab_oneway_send},
        {"oneway-receive", ab_lab_oneway_receive},
    };
    struct ab_error err = {0};
    struct ab_lab_options o;
    int rc = ab_lab_options_parse(&o, argc, argv, &err);

    if (!rc) {
        rc = ab_fail(&err, AB_EINVAL, "no mode %s", o.mode);
        for (unsigned i = 0; i < AB_ARRAY_LEN(modes); i++) {
            if (strcmp(o.mode, modes[i].name))
                continue;
            rc = prepare(&o, &err);
            if (!rc)
                rc = modes[i].run(&o, &err);
            break;
        }
    }
    if (rc)
        fprintf(stderr, "afterburner-labio: %s\n", err.text);
    /* sysexits.h: 64 usage, 77 permission, 71 any other trouble with the system */
    return rc == 0 ? 0 : rc == AB_EINVAL ? 64 : rc == -EPERM || rc == -EACCES ? 77 : 71;
}
