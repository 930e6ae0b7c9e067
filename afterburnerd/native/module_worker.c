/* The Worker type: the data plane's loop and what it reads and writes, as Python holds it. */
#include "module.h"

#include <string.h>
#include <unistd.h>

#include "quic_port.h"
#include "worker.h"

struct worker_object {
    PyObject_HEAD;
    struct ab_worker *worker;
    Py_buffer stats;                         /* the statistics segment */
    Py_buffer bell;                          /* the doorbell page */
    Py_buffer records;                       /* the record ring, .obj NULL: none */
    struct ab_quic_port *port;               /* the QUIC engine, NULL: none */
    Py_buffer commands, events;              /* its rings */
    Py_buffer peers[2 * AB_QUIC_PORT_PEERS]; /* rings to and from other workers */
    unsigned peer_count;
    Py_buffer rows; /* its table of connections, .obj NULL: none */
    uint64_t queue_off, queue_stride;
    bool busy; /* a call has let go of the GIL, most often `run` */
};

/* within: `bytes` bytes at `offset` of `buffer`, aligned to a cache line, or NULL with a ValueError. */
static void *within(const Py_buffer *buffer, uint64_t offset, uint64_t bytes, const char *what)
{
    uint8_t *at;

    if (bytes > (uint64_t)buffer->len || offset > (uint64_t)buffer->len - bytes) {
        PyErr_Format(PyExc_ValueError, "%s: %llu bytes at offset %llu do not lie within a buffer of %zd", what,
                     (unsigned long long)bytes, (unsigned long long)offset, buffer->len);
        return NULL;
    }
    at = (uint8_t *)buffer->buf + offset;
    if ((uintptr_t)at % AB_CACHELINE) {
        PyErr_Format(PyExc_ValueError, "%s: offset %llu of the buffer is not aligned to %d bytes", what,
                     (unsigned long long)offset, AB_CACHELINE);
        return NULL;
    }
    return at;
}

static void worker_release(struct worker_object *self)
{
    if (self->worker) {
        ab_worker_fini(self->worker);
        ab_quic_port_free(self->port); /* behind the worker's sources, whose buffers it held */
        self->port = NULL;
        PyMem_Free(self->worker);
        self->worker = NULL;
    }
    while (self->peer_count)
        PyBuffer_Release(&self->peers[--self->peer_count]);
    PyBuffer_Release(&self->commands);
    PyBuffer_Release(&self->events);
    PyBuffer_Release(&self->rows);
    PyBuffer_Release(&self->stats);
    PyBuffer_Release(&self->bell);
    PyBuffer_Release(&self->records);
}

static int worker_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"index", "stats", "bell", "worker_off", "rule_off", "queue_off", "queue_stride", NULL};
    struct worker_object *self = (struct worker_object *)object;
    uint64_t worker_off, rule_off, queue_off, queue_stride;
    Py_buffer stats_buffer = {0}, bell_buffer = {0};
    struct ab_stats_worker *stats;
    struct ab_stats_rule *rules;
    struct ab_doorbell *bell;
    uint16_t index;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&w*y*O&O&O&O&", names, ab_module_u16, &index, &stats_buffer,
                                     &bell_buffer, ab_module_u64, &worker_off, ab_module_u64, &rule_off, ab_module_u64,
                                     &queue_off, ab_module_u64, &queue_stride))
        return -1;
    if (self->worker) {
        PyErr_SetString(PyExc_RuntimeError, "a Worker is initialised once");
        goto fail;
    }
    stats = within(&stats_buffer, worker_off, sizeof(*stats), "worker block");
    rules = stats ? within(&stats_buffer, rule_off, sizeof(*rules) * AB_MAX_RULES, "rule blocks") : NULL;
    bell = rules ? within(&bell_buffer, 0, sizeof(*bell), "doorbell") : NULL;
    if (!bell)
        goto fail;
    self->worker = PyMem_Malloc(sizeof(*self->worker));
    if (!self->worker) {
        PyErr_NoMemory();
        goto fail;
    }
    self->stats = stats_buffer;
    self->bell = bell_buffer;
    self->queue_off = queue_off;
    self->queue_stride = queue_stride;
    ab_worker_init(self->worker, index, stats, rules, bell);
    return 0;
fail:
    PyBuffer_Release(&stats_buffer);
    PyBuffer_Release(&bell_buffer);
    return -1;
}

static void worker_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    worker_release((struct worker_object *)object);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* enter: the worker, if it is open and nobody is inside; NULL with an exception otherwise. After all parsing: what is
 * parsed may run Python, which may close it. */
static struct ab_worker *enter(PyObject *object)
{
    struct worker_object *self = (struct worker_object *)object;

    if (self->worker && !self->busy)
        return self->worker;
    if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "Worker object is in use by another thread");
    else
        PyErr_SetString(PyExc_ValueError, "this Worker is closed");
    return NULL;
}

static struct ab_stats_queue *queue_stats(struct worker_object *self, uint32_t slot)
{
    uint64_t offset;

    if (slot >= AB_MAX_QUEUES) {
        PyErr_Format(PyExc_ValueError, "slot %u: a worker has %d", slot, AB_MAX_QUEUES);
        return NULL;
    }
    if (__builtin_mul_overflow(slot, self->queue_stride, &offset) ||
        __builtin_add_overflow(offset, self->queue_off, &offset))
        offset = UINT64_MAX;
    return within(&self->stats, offset, sizeof(struct ab_stats_queue), "queue block");
}

/* enter_with: entry of the calls that take over a descriptor: `*stats` is the block of the slot. Where NULL comes back,
 * `fd` is closed, as it is by the calls themselves when they fail. */
static struct ab_worker *enter_with(PyObject *object, int fd, uint32_t slot, struct ab_stats_queue **stats)
{
    struct ab_worker *worker = enter(object);

    *stats = worker ? queue_stats((struct worker_object *)object, slot) : NULL;
    if (*stats)
        return worker;
    if (fd >= 0)
        close(fd);
    return NULL;
}

static PyObject *worker_open_xsk(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"slot",       "fd",          "ifindex",    "queue",   "frames",       "frame_size",
                            "ring",       "huge_pages",  "mode",       "generic", "multi_buffer", "busy_poll",
                            "busy_usecs", "busy_budget", "verify_udp", NULL};
    struct worker_object *self = (struct worker_object *)object;
    struct ab_xsk_config config = {0};
    struct ab_stats_queue *stats;
    struct ab_worker *worker;
    struct ab_error err = {0};
    int fd, huge, mode, generic, multi, busy, verify, rc;
    uint32_t slot;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&iO&O&O&O&O&iipppO&O&p", names, ab_module_u32, &slot, &fd,
                                     ab_module_u32, &config.ifindex, ab_module_u32, &config.queue, ab_module_u32,
                                     &config.frames, ab_module_u32, &config.frame_size, ab_module_u32, &config.ring,
                                     &huge, &mode, &generic, &multi, &busy, ab_module_u32, &config.busy_usecs,
                                     ab_module_u32, &config.busy_budget, &verify))
        return NULL;
    worker = enter_with(object, fd, slot, &stats);
    if (!worker)
        return NULL;
    config.huge = (enum ab_huge_policy)huge;
    config.want = (enum ab_xsk_want)mode;
    config.generic = generic;
    config.multi_buffer = multi;
    config.busy_poll = busy;
    AB_UNLOCKED(self, rc = ab_worker_open_xsk(worker, slot, fd, &config, verify, stats, &err));
    if (rc)
        return ab_module_raise(&err);
    return Py_BuildValue("(iN)", (int)worker->ios[slot]->xsk.mode, PyBool_FromLong(worker->ios[slot]->xsk.umem.huge));
}

static PyObject *worker_open_udp(PyObject *object, PyObject *args)
{
    struct ab_stats_queue *stats;
    struct ab_worker *worker;
    struct ab_error err = {0};
    uint32_t slot, mtu = 0;
    int fd, quic = 0;

    if (!PyArg_ParseTuple(args, "O&i|pO&", ab_module_u32, &slot, &fd, &quic, ab_module_u32, &mtu))
        return NULL;
    worker = enter_with(object, fd, slot, &stats);
    return worker
               ? ab_module_none(
                     ab_worker_open_udp(worker, slot, fd, quic ? AB_UDP_QUIC : AB_UDP_CAPTURE, mtu, stats, &err), &err)
               : NULL;
}

/* worker_send_frame: one frame through an AF_XDP slot, for self-tests and tests. */
static PyObject *worker_send_frame(PyObject *object, PyObject *args)
{
    struct ab_worker *worker;
    Py_buffer frame = {0};
    struct ab_xsk *xsk;
    bool sent = false;
    uint32_t slot;
    uint64_t addr;

    if (!PyArg_ParseTuple(args, "O&y*", ab_module_u32, &slot, &frame))
        return NULL;
    if (!(worker = enter(object)))
        goto fail;
    if (slot >= AB_MAX_QUEUES || !worker->ios[slot] || worker->ios[slot]->kind != AB_IO_XSK ||
        frame.len > worker->ios[slot]->xsk.umem.frame_size) {
        PyErr_Format(PyExc_ValueError, "slot %u takes no frame of %zd bytes", slot, frame.len);
        goto fail;
    }
    xsk = &worker->ios[slot]->xsk;
    if (ab_xsk_frame(xsk, &addr)) {
        memcpy(ab_xsk_data(xsk, addr), frame.buf, (size_t)frame.len);
        sent = ab_xsk_send(xsk, addr, (uint32_t)frame.len);
        ab_xsk_kick(xsk);
    }
    PyBuffer_Release(&frame);
    return PyBool_FromLong(sent);
fail:
    PyBuffer_Release(&frame);
    return NULL;
}

static PyObject *worker_close_slot(PyObject *object, PyObject *arg)
{
    struct ab_worker *worker;
    struct ab_error err = {0};
    uint32_t slot;

    if (!ab_module_u32(arg, &slot) || !(worker = enter(object)))
        return NULL;
    return ab_module_none(ab_worker_close(worker, slot, &err), &err);
}

static PyObject *worker_set_rules(PyObject *object, PyObject *arg)
{
    struct ab_worker *worker;
    struct ab_rules fresh;
    struct ab_error err = {0};
    char *bytes;
    Py_ssize_t len;
    size_t count;

    if (PyBytes_AsStringAndSize(arg, &bytes, &len) < 0 || !(worker = enter(object)))
        return NULL;
    if (len % (Py_ssize_t)sizeof(struct ab_rule))
        return PyErr_Format(PyExc_ValueError, "%zd bytes are no whole number of rules", len);
    count = (size_t)len / sizeof(struct ab_rule);
    if (ab_rules_init(&fresh, (const struct ab_rule *)bytes, (uint32_t)AB_MIN(count, UINT32_MAX), &err))
        return ab_module_raise(&err);
    ab_rules_fini(&worker->rules);
    worker->rules = fresh;
    Py_RETURN_NONE;
}

static PyObject *worker_set_records(PyObject *object, PyObject *arg)
{
    struct worker_object *self = (struct worker_object *)object;
    struct ab_record_writer writer = {0};
    struct ab_worker *worker;
    Py_buffer buffer = {0}, former;
    struct ab_error err = {0};

    if (arg != Py_None) {
        if (PyObject_GetBuffer(arg, &buffer, PyBUF_WRITABLE) < 0)
            return NULL;
        if (ab_record_init(&writer, buffer.buf, (uint64_t)buffer.len, &err)) {
            PyBuffer_Release(&buffer);
            return ab_module_raise(&err);
        }
    }
    worker = enter(object);
    if (!worker) {
        PyBuffer_Release(&buffer);
        return NULL;
    }
    former = self->records;
    self->records = buffer;
    worker->records = writer;
    PyBuffer_Release(&former);
    Py_RETURN_NONE;
}

/* worker_open_engine: the rings' buffers are held until the worker is closed. */
static PyObject *worker_open_engine(PyObject *object, PyObject *args, PyObject *settings)
{
    struct worker_object *self = (struct worker_object *)object;
    Py_buffer commands = {0}, events = {0};
    struct ab_quic_config config = {0};
    struct ab_error err = {0};
    struct ab_worker *worker;
    int rc;

    if (!PyArg_ParseTuple(args, "w*w*", &commands, &events))
        return NULL;
    if (ab_module_quic_config(&config, settings) < 0 || !(worker = enter(object)))
        goto fail;
    if (self->port) {
        PyErr_SetString(PyExc_RuntimeError, "this Worker has a QUIC engine already");
        goto fail;
    }
    AB_UNLOCKED(self, rc = ab_quic_port_new(&self->port, worker, &config, commands.buf, (uint64_t)commands.len,
                                            events.buf, (uint64_t)events.len, &err));
    if (rc) {
        ab_module_raise(&err);
        goto fail;
    }
    self->commands = commands;
    self->events = events;
    Py_RETURN_NONE;
fail:
    PyBuffer_Release(&commands);
    PyBuffer_Release(&events);
    return NULL;
}

/* worker_open_peer: a ring to or from another worker's engine. */
static PyObject *worker_open_peer(PyObject *object, PyObject *args)
{
    struct worker_object *self = (struct worker_object *)object;
    struct ab_error err = {0};
    Py_buffer ring = {0};
    int outgoing, rc;

    if (!PyArg_ParseTuple(args, "w*p", &ring, &outgoing))
        return NULL;
    if (!enter(object))
        goto fail;
    if (!self->port) {
        PyErr_SetString(PyExc_RuntimeError, "this Worker has no QUIC engine");
        goto fail;
    }
    rc = ab_quic_port_peer(self->port, ring.buf, (uint64_t)ring.len, outgoing, &err);
    if (rc) {
        ab_module_raise(&err);
        goto fail;
    }
    self->peers[self->peer_count++] = ring;
    Py_RETURN_NONE;
fail:
    PyBuffer_Release(&ring);
    return NULL;
}

/* worker_set_bells: the descriptors stay the caller's, and open as long as the worker. */
static PyObject *worker_set_bells(PyObject *object, PyObject *args)
{
    struct worker_object *self = (struct worker_object *)object;
    int work, news;

    if (!PyArg_ParseTuple(args, "ii", &work, &news) || !enter(object))
        return NULL;
    if (!self->port) {
        PyErr_SetString(PyExc_RuntimeError, "this Worker has no QUIC engine");
        return NULL;
    }
    ab_quic_port_bells(self->port, work, news);
    Py_RETURN_NONE;
}

static PyObject *worker_show_connections(PyObject *object, PyObject *arg)
{
    struct worker_object *self = (struct worker_object *)object;
    Py_buffer buffer = {0};
    struct ab_error err = {0};

    if (!enter(object))
        return NULL;
    if (!self->port || self->rows.obj) {
        PyErr_SetString(PyExc_RuntimeError, "connections are shown once, and only where there is a QUIC engine");
        return NULL;
    }
    if (PyObject_GetBuffer(arg, &buffer, PyBUF_WRITABLE) < 0)
        return NULL;
    if (ab_quic_port_show(self->port, buffer.buf, (uint64_t)buffer.len, &err)) {
        PyBuffer_Release(&buffer);
        return ab_module_raise(&err);
    }
    self->rows = buffer;
    Py_RETURN_NONE;
}

static PyObject *worker_set_sleeps(PyObject *object, PyObject *arg)
{
    int sleeps = PyObject_IsTrue(arg);
    struct ab_worker *worker;

    if (sleeps < 0 || !(worker = enter(object)))
        return NULL;
    worker->sleeps = sleeps;
    Py_RETURN_NONE;
}

static PyObject *worker_set_state(PyObject *object, PyObject *arg)
{
    struct ab_worker *worker;
    uint64_t state;

    if (!ab_module_u64(arg, &state) || !(worker = enter(object)))
        return NULL;
    AB_STAT_SET(&worker->stats->state, state);
    AB_STAT_SET(&worker->stats->heartbeat_ns, ab_now_ns());
    Py_RETURN_NONE;
}

static PyObject *worker_identify(PyObject *object, PyObject *args)
{
    struct ab_worker *worker;
    uint64_t pid, ticks, cpu;

    if (!PyArg_ParseTuple(args, "O&O&O&", ab_module_u64, &pid, ab_module_u64, &ticks, ab_module_u64, &cpu) ||
        !(worker = enter(object)))
        return NULL;
    AB_STAT_SET(&worker->stats->pid, pid);
    AB_STAT_SET(&worker->stats->pid_start_ticks, ticks);
    AB_STAT_SET(&worker->stats->cpu, cpu);
    AB_STAT_SET(&worker->stats->gap_max_ns, 0);
    Py_RETURN_NONE;
}

static PyObject *worker_run(PyObject *object, PyObject *args)
{
    struct worker_object *self = (struct worker_object *)object;
    struct ab_worker *worker;
    enum ab_worker_exit why;
    uint64_t turns = 0;

    if (!PyArg_ParseTuple(args, "|O&", ab_module_u64, &turns) || !(worker = enter(object)))
        return NULL;
    AB_UNLOCKED(self, why = ab_worker_run(worker, turns));
    return PyLong_FromLong(why);
}

/* worker_close: closing what is closed is no error, closing what another thread runs is one. */
static PyObject *worker_close(PyObject *object, PyObject *unused)
{
    struct worker_object *self = (struct worker_object *)object;

    (void)unused;
    if (self->worker && !enter(object))
        return NULL;
    worker_release(self);
    Py_RETURN_NONE;
}

static PyMethodDef worker_methods[] = {
    {"open_xsk", (PyCFunction)(void (*)(void))worker_open_xsk, METH_VARARGS | METH_KEYWORDS,
     "open_xsk(slot, fd, ...) -> (QueueMode in force, huge pages); takes over fd"},
    {"open_udp", worker_open_udp, METH_VARARGS, "open_udp(slot, fd, quic=False, mtu=0): takes over fd"},
    {"send_frame", worker_send_frame, METH_VARARGS, "send_frame(slot, frame) -> whether the AF_XDP queue took it"},
    {"close_slot", worker_close_slot, METH_O, "close_slot(slot): unbinds, unmaps and closes"},
    {"set_rules", worker_set_rules, METH_O, "set_rules(packed struct ab_rule ...)"},
    {"set_records", worker_set_records, METH_O, "set_records(writable buffer | None)"},
    {"open_engine", (PyCFunction)(void (*)(void))worker_open_engine, METH_VARARGS | METH_KEYWORDS,
     "open_engine(commands, events, **settings of struct ab_quic_config): takes QUIC on from here"},
    {"open_peer", worker_open_peer, METH_VARARGS, "open_peer(ring, outgoing): packets to or from another worker"},
    {"set_bells", worker_set_bells, METH_VARARGS,
     "set_bells(work, news): eventfds by which supervisor and engine wake one another"},
    {"show_connections", worker_show_connections, METH_O, "show_connections(writable buffer): table of connections"},
    {"set_sleeps", worker_set_sleeps, METH_O, "set_sleeps(bool): sleep when idle instead of spinning"},
    {"set_state", worker_set_state, METH_O, "set_state(WorkerState)"},
    {"identify", worker_identify, METH_VARARGS, "identify(pid, start ticks, cpu): whose figures these are from now on"},
    {"run", worker_run, METH_VARARGS, "run(turns=0) -> 1: doorbell, 2: turns are over"},
    {"close", worker_close, METH_NOARGS, "close(): gives everything back"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot worker_slots[] = {
    {Py_tp_init, worker_init},
    {Py_tp_dealloc, worker_dealloc},
    {Py_tp_methods, worker_methods},
    {Py_tp_doc, "Worker(index, stats, bell, worker_off, rule_off, queue_off, queue_stride): the data plane's loop"},
    {0, NULL},
};

static PyType_Spec worker_spec = {
    .name = "afterburnerd.native._native.Worker",
    .basicsize = sizeof(struct worker_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = worker_slots,
};

int ab_module_add_worker(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &worker_spec, NULL);
    int rc = type ? PyModule_AddObjectRef(module, "Worker", type) : -1;

    Py_XDECREF(type);
    return rc;
}
