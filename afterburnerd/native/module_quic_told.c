/* What the engine tells, as Python sees it: tuples in a list, in the order in which they were told.
 *
 *   ab_quic_rx, _tx, _adopt ... --> sink --> list --> events()
 *
 * The sink runs inside the engine and has no way to raise; what could not be kept is known by `lost`. */
#include "module_quic.h"

/* tell appends `item` (whose reference it takes) to what was told. The sink has no way to raise: a failure is kept in
 * `lost`, and the call that is under way raises it. */
static bool tell(void *ctx, PyObject *item)
{
    struct ab_module_quic *self = ctx;
    bool ok = item && PyList_Append(self->told, item) == 0;

    Py_XDECREF(item);
    if (!ok) {
        PyErr_Clear();
        self->lost = true;
    }
    return ok;
}

/* take: whether there is room for a fate or an event, which takes it. What a peer sends is always told. */
static bool take(struct ab_module_quic *self)
{
    if (self->room == 0) {
        self->full++;
        return false;
    }
    self->room--;
    return true;
}

static void tell_data(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data,
                      uint32_t len, bool fin)
{
    tell(ctx, Py_BuildValue("(sKKKy#N)", "data", (unsigned long long)ab_quic_conn_id(c), (unsigned long long)stream,
                            (unsigned long long)offset, data ? (const char *)data : "", (Py_ssize_t)len,
                            PyBool_FromLong(fin)));
}

static void tell_reset(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t code, uint64_t final_size)
{
    tell(ctx, Py_BuildValue("(sKKKK)", "reset", (unsigned long long)ab_quic_conn_id(c), (unsigned long long)stream,
                            (unsigned long long)code, (unsigned long long)final_size));
}

static void tell_datagram(void *ctx, struct ab_quic_conn *c, const uint8_t *data, uint32_t len)
{
    tell(ctx, Py_BuildValue("(sKy#)", "datagram", (unsigned long long)ab_quic_conn_id(c),
                            data ? (const char *)data : "", (Py_ssize_t)len));
}

static bool tell_done(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome,
                      uint64_t first_sent_ns)
{
    return take(ctx) &&
           tell(ctx, Py_BuildValue("(sKKiK)", "done", (unsigned long long)ab_quic_conn_id(c), (unsigned long long)token,
                                   (int)outcome, (unsigned long long)first_sent_ns));
}

static bool tell_event(void *ctx, const struct ab_quic_event *e, const void *body)
{
    return take(ctx) &&
           tell(ctx, Py_BuildValue("(sKy#y#)", "event", (unsigned long long)e->conn, e, (Py_ssize_t)sizeof(*e),
                                   body ? body : "", (Py_ssize_t)(body ? e->length : 0)));
}

const struct ab_quic_sink ab_module_quic_sink = {
    .data = tell_data,
    .reset = tell_reset,
    .datagram = tell_datagram,
    .done = tell_done,
    .event = tell_event,
};

/* quic_events hands over the list and begins a new one. */
PyObject *ab_module_quic_events(PyObject *object, PyObject *unused)
{
    struct ab_module_quic *self = ab_module_quic_enter(object);
    PyObject *told, *fresh;

    (void)unused;
    if (!self)
        return NULL;
    fresh = PyList_New(0);
    if (!fresh)
        return ab_module_quic_leave(self, NULL);
    told = self->told;
    self->told = fresh;
    return ab_module_quic_leave(self, told);
}

/* quic_room: how much the sink takes from now on, as a ring would that nobody empties. */
PyObject *ab_module_quic_room(PyObject *object, PyObject *arg)
{
    struct ab_module_quic *self = ab_module_quic_enter(object);
    uint64_t most, full;

    if (!self)
        return NULL;
    if (!ab_module_u64(arg, &most))
        return ab_module_quic_leave(self, NULL);
    full = self->full;
    self->room = most;
    self->full = 0;
    return ab_module_quic_leave(self, PyLong_FromUnsignedLongLong(full));
}
