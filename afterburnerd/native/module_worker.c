/* The Worker type: the data plane's loop and what it reads and writes, as Python holds it. */
#include "module.h"

#include "worker.h"

struct worker_object {
    PyObject_HEAD;
    struct ab_worker *worker;
    Py_buffer stats;   /* the statistics segment */
    Py_buffer bell;    /* the doorbell page */
    Py_buffer records; /* the record ring, .obj NULL: none */
    unsigned long long queue_off, queue_stride;
};

/* within: `bytes` bytes at `offset` of `buffer`, aligned, or NULL with a ValueError. */
static void *within(const Py_buffer *buffer, unsigned long long offset, unsigned long long bytes, const char *what)
{
    if (offset % AB_CACHELINE || bytes > (unsigned long long)buffer->len ||
        offset > (unsigned long long)buffer->len - bytes) {
        PyErr_Format(PyExc_ValueError, "%s: %llu bytes at offset %llu do not lie within a buffer of %zd", what, bytes,
                     offset, buffer->len);
        return NULL;
    }
    return (uint8_t *)buffer->buf + offset;
}

static void worker_release(struct worker_object *self)
{
    if (self->worker) {
        ab_worker_fini(self->worker);
        PyMem_Free(self->worker);
        self->worker = NULL;
    }
    PyBuffer_Release(&self->stats);
    PyBuffer_Release(&self->bell);
    PyBuffer_Release(&self->records);
}

static int worker_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"index", "stats", "bell", "worker_off", "rule_off", "queue_off", "queue_stride", NULL};
    struct worker_object *self = (struct worker_object *)object;
    unsigned long long worker_off, rule_off;
    struct ab_stats_worker *stats;
    struct ab_stats_rule *rules;
    struct ab_doorbell *bell;
    unsigned short index;

    if (self->worker) {
        PyErr_SetString(PyExc_RuntimeError, "a Worker is initialised once");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Hw*y*KKKK", names, &index, &self->stats, &self->bell, &worker_off,
                                     &rule_off, &self->queue_off, &self->queue_stride))
        return -1;
    stats = within(&self->stats, worker_off, sizeof(*stats), "worker block");
    rules = within(&self->stats, rule_off, sizeof(*rules) * AB_MAX_RULES, "rule blocks");
    bell = within(&self->bell, 0, sizeof(*bell), "doorbell");
    if (!stats || !rules || !bell)
        return -1;
    self->worker = PyMem_Malloc(sizeof(*self->worker));
    if (!self->worker) {
        PyErr_NoMemory();
        return -1;
    }
    ab_worker_init(self->worker, index, stats, rules, bell);
    return 0;
}

static void worker_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    worker_release((struct worker_object *)object);
    PyObject_Free(object);
    Py_DECREF(type);
}

static struct ab_worker *worker_of(PyObject *object)
{
    struct ab_worker *worker = ((struct worker_object *)object)->worker;

    if (!worker)
        PyErr_SetString(PyExc_ValueError, "this Worker is closed");
    return worker;
}

static struct ab_stats_queue *queue_stats(struct worker_object *self, unsigned slot)
{
    if (slot >= AB_MAX_QUEUES) {
        PyErr_Format(PyExc_ValueError, "slot %u: a worker has %d", slot, AB_MAX_QUEUES);
        return NULL;
    }
    return within(&self->stats, self->queue_off + slot * self->queue_stride, sizeof(struct ab_stats_queue),
                  "queue block");
}

static PyObject *worker_open_xsk(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"slot",       "fd",          "ifindex",    "queue",   "frames",       "frame_size",
                            "ring",       "huge_pages",  "mode",       "generic", "multi_buffer", "busy_poll",
                            "busy_usecs", "busy_budget", "verify_udp", NULL};
    struct ab_worker *worker = worker_of(object);
    struct ab_xsk_config config = {0};
    struct ab_stats_queue *stats;
    struct ab_error err = {0};
    int fd, huge, mode, generic, multi, busy, verify, rc;
    unsigned slot;

    if (!worker ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "IiIIIIIiipppIIp", names, &slot, &fd, &config.ifindex, &config.queue,
                                     &config.frames, &config.frame_size, &config.ring, &huge, &mode, &generic, &multi,
                                     &busy, &config.busy_usecs, &config.busy_budget, &verify))
        return NULL;
    stats = queue_stats((struct worker_object *)object, slot);
    if (!stats)
        return NULL;
    config.huge = (enum ab_huge_policy)huge;
    config.want = (enum ab_xsk_want)mode;
    config.generic = generic;
    config.multi_buffer = multi;
    config.busy_poll = busy;
    Py_BEGIN_ALLOW_THREADS;
    rc = ab_worker_open_xsk(worker, slot, fd, &config, verify, stats, &err);
    Py_END_ALLOW_THREADS;
    if (rc)
        return ab_module_raise(&err);
    return Py_BuildValue("(iN)", (int)worker->ios[slot]->xsk.mode, PyBool_FromLong(worker->ios[slot]->xsk.umem.huge));
}

static PyObject *worker_open_udp(PyObject *object, PyObject *args)
{
    struct ab_worker *worker = worker_of(object);
    struct ab_stats_queue *stats;
    struct ab_error err = {0};
    unsigned slot;
    int fd;

    if (!worker || !PyArg_ParseTuple(args, "Ii", &slot, &fd))
        return NULL;
    stats = queue_stats((struct worker_object *)object, slot);
    return stats ? ab_module_none(ab_worker_open_udp(worker, slot, fd, stats, &err), &err) : NULL;
}

static PyObject *worker_close_slot(PyObject *object, PyObject *arg)
{
    struct ab_worker *worker = worker_of(object);
    unsigned long slot = PyLong_AsUnsignedLong(arg);
    struct ab_error err = {0};

    if (!worker || PyErr_Occurred())
        return NULL;
    return ab_module_none(ab_worker_close(worker, (uint32_t)AB_MIN(slot, UINT32_MAX), &err), &err);
}

static PyObject *worker_set_rules(PyObject *object, PyObject *arg)
{
    struct ab_worker *worker = worker_of(object);
    struct ab_rules fresh;
    struct ab_error err = {0};
    char *bytes;
    Py_ssize_t len;

    if (!worker || PyBytes_AsStringAndSize(arg, &bytes, &len) < 0)
        return NULL;
    if (len % (Py_ssize_t)sizeof(struct ab_rule))
        return PyErr_Format(PyExc_ValueError, "%zd bytes are no whole number of rules", len);
    if (ab_rules_init(&fresh, (const struct ab_rule *)bytes, (uint32_t)((size_t)len / sizeof(struct ab_rule)), &err))
        return ab_module_raise(&err);
    ab_rules_fini(&worker->rules);
    worker->rules = fresh;
    Py_RETURN_NONE;
}

static PyObject *worker_set_records(PyObject *object, PyObject *arg)
{
    struct worker_object *self = (struct worker_object *)object;
    struct ab_worker *worker = worker_of(object);
    struct ab_record_writer writer = {0};
    Py_buffer buffer = {0};
    struct ab_error err = {0};

    if (!worker)
        return NULL;
    if (arg != Py_None) {
        if (PyObject_GetBuffer(arg, &buffer, PyBUF_WRITABLE) < 0)
            return NULL;
        if (ab_record_init(&writer, buffer.buf, (uint64_t)buffer.len, &err)) {
            PyBuffer_Release(&buffer);
            return ab_module_raise(&err);
        }
    }
    PyBuffer_Release(&self->records);
    self->records = buffer;
    worker->records = writer;
    Py_RETURN_NONE;
}

static PyObject *worker_set_sleeps(PyObject *object, PyObject *arg)
{
    struct ab_worker *worker = worker_of(object);
    int sleeps = PyObject_IsTrue(arg);

    if (!worker || sleeps < 0)
        return NULL;
    worker->sleeps = sleeps;
    Py_RETURN_NONE;
}

static PyObject *worker_set_state(PyObject *object, PyObject *arg)
{
    struct ab_worker *worker = worker_of(object);
    unsigned long state = PyLong_AsUnsignedLong(arg);

    if (!worker || PyErr_Occurred())
        return NULL;
    AB_STAT_SET(&worker->stats->state, state);
    AB_STAT_SET(&worker->stats->heartbeat_ns, ab_now_ns());
    Py_RETURN_NONE;
}

static PyObject *worker_identify(PyObject *object, PyObject *args)
{
    struct ab_worker *worker = worker_of(object);
    unsigned long long pid, ticks, cpu;

    if (!worker || !PyArg_ParseTuple(args, "KKK", &pid, &ticks, &cpu))
        return NULL;
    AB_STAT_SET(&worker->stats->pid, pid);
    AB_STAT_SET(&worker->stats->pid_start_ticks, ticks);
    AB_STAT_SET(&worker->stats->cpu, cpu);
    AB_STAT_SET(&worker->stats->gap_max_ns, 0);
    Py_RETURN_NONE;
}

static PyObject *worker_run(PyObject *object, PyObject *args)
{
    struct ab_worker *worker = worker_of(object);
    unsigned long long turns = 0;
    enum ab_worker_exit why;

    if (!worker || !PyArg_ParseTuple(args, "|K", &turns))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    why = ab_worker_run(worker, turns);
    Py_END_ALLOW_THREADS;
    return PyLong_FromLong(why);
}

static PyObject *worker_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    worker_release((struct worker_object *)object);
    Py_RETURN_NONE;
}

static PyMethodDef worker_methods[] = {
    {"open_xsk", (PyCFunction)(void (*)(void))worker_open_xsk, METH_VARARGS | METH_KEYWORDS,
     "open_xsk(slot, fd, ...) -> (QueueMode in force, huge pages); takes over fd"},
    {"open_udp", worker_open_udp, METH_VARARGS, "open_udp(slot, fd): takes over fd"},
    {"close_slot", worker_close_slot, METH_O, "close_slot(slot): unbinds, unmaps and closes"},
    {"set_rules", worker_set_rules, METH_O, "set_rules(packed struct ab_rule ...)"},
    {"set_records", worker_set_records, METH_O, "set_records(writable buffer | None)"},
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
