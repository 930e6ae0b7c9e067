/* The QuicEngine type: the QUIC engine whole, as Python drives it under a clock of its own.
 *
 * Simulation and conformance tests stand on it: time is an argument of every call, datagrams are bytes, and what the
 * engine tells its sink is gathered in a list until `events` fetches it. Connections are named by the supervisor's
 * number. The data plane does not come this way: there the worker holds the engine in C. */
#include "module_quic.h"

static int quic_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    struct ab_module_quic *self = (struct ab_module_quic *)object;
    struct ab_quic_config config = {0};
    struct ab_quic_sink sink = ab_module_quic_sink;
    struct ab_error err = {0};

    sink.ctx = self;
    if (!PyArg_ParseTuple(args, ""))
        return -1;
    if (ab_module_quic_config(&config, kwargs) < 0)
        return -1;
    if (self->engine) {
        PyErr_SetString(PyExc_RuntimeError, "a QuicEngine is initialised once");
        return -1;
    }
    if (!self->told && !(self->told = PyList_New(0)))
        return -1;
    self->room = UINT64_MAX;
    if (ab_quic_new(&self->engine, &config, &sink, &err)) {
        self->engine = NULL;
        ab_module_raise(&err);
        return -1;
    }
    return 0;
}

static void quic_dealloc(PyObject *object)
{
    struct ab_module_quic *self = (struct ab_module_quic *)object;
    PyTypeObject *type = Py_TYPE(object);

    if (self->engine)
        ab_quic_free(self->engine);
    Py_XDECREF(self->told);
    PyObject_Free(object);
    Py_DECREF(type);
}

struct ab_module_quic *ab_module_quic_enter(PyObject *object)
{
    struct ab_module_quic *self = (struct ab_module_quic *)object;

    if (!self->engine)
        PyErr_SetString(PyExc_ValueError, "this QuicEngine is closed");
    else if (self->inside)
        PyErr_SetString(PyExc_RuntimeError, "this QuicEngine is running");
    else {
        self->inside = true;
        return self;
    }
    return NULL;
}

PyObject *ab_module_quic_leave(struct ab_module_quic *self, PyObject *result)
{
    self->inside = false;
    if (!self->lost)
        return result;
    self->lost = false;
    Py_XDECREF(result);
    return PyErr_NoMemory();
}

static PyObject *quic_crypto_name(PyObject *object, PyObject *unused)
{
    struct ab_module_quic *self = ab_module_quic_enter(object);
    const char *reason = "", *name;

    (void)unused;
    if (!self)
        return NULL;
    name = ab_quic_crypto_name(self->engine, &reason);
    return ab_module_quic_leave(self, Py_BuildValue("(ss)", name, reason));
}

static PyObject *quic_free(PyObject *object, PyObject *unused)
{
    struct ab_module_quic *self = (struct ab_module_quic *)object;

    (void)unused;
    if (self->engine && !ab_module_quic_enter(object))
        return NULL;
    if (self->engine)
        ab_quic_free(self->engine);
    self->engine = NULL;
    self->inside = false;
    Py_RETURN_NONE;
}

static PyMethodDef quic_methods[] = {
    {"adopt", ab_module_quic_adopt, METH_VARARGS, "adopt(struct ab_quic_adopt, now) -> QuicRefusal"},
    {"rx", ab_module_quic_rx, METH_VARARGS,
     "rx([(data, src, sport, dst, dport, tos)], now) -> a byte each, 1: was ours"},
    {"tx", ab_module_quic_tx, METH_VARARGS,
     "tx(now, most=64, room=1500) -> [(data, struct ab_path, conn, ecn, probe)]"},
    {"deadline", ab_module_quic_deadline, METH_NOARGS,
     "deadline() -> when tx has something to do; 0: now, 2**64-1: never"},
    {"send", (PyCFunction)(void (*)(void))ab_module_quic_send, METH_VARARGS | METH_KEYWORDS,
     "send(conn, QuicSend, data, now, stream=0, token=0, fin=False, expires=0) -> (0 or AB_QUIC_E..., stream)"},
    {"send_crypto", ab_module_quic_send_crypto, METH_VARARGS, "send_crypto(conn, data) -> 0 or AB_QUIC_E..."},
    {"send_token", ab_module_quic_send_token, METH_VARARGS, "send_token(conn, token) -> 0 or AB_QUIC_E..."},
    {"reset_stream", ab_module_quic_reset_stream, METH_VARARGS,
     "reset_stream(conn, stream, code) -> 0 or AB_QUIC_E..."},
    {"stop_sending", ab_module_quic_stop_sending, METH_VARARGS,
     "stop_sending(conn, stream, code) -> 0 or AB_QUIC_E..."},
    {"update_keys", ab_module_quic_update_keys, METH_VARARGS, "update_keys(conn, now) -> 0 or AB_QUIC_E..."},
    {"ping", ab_module_quic_ping, METH_O, "ping(conn) -> whether there is such a connection"},
    {"stock", ab_module_quic_stock, METH_VARARGS, "stock(conn, packed struct ab_quic_cid ...) -> how many were taken"},
    {"set_path", ab_module_quic_set_path, METH_VARARGS, "set_path(conn, struct ab_path, now) -> 0 or AB_QUIC_E..."},
    {"trace", ab_module_quic_trace, METH_VARARGS, "trace(conn, bits) -> whether there is such a connection"},
    {"close", ab_module_quic_close, METH_VARARGS,
     "close(conn, app, code, reason, now) -> whether there is such a connection"},
    {"drop", ab_module_quic_drop, METH_VARARGS, "drop(conn, now) -> whether there is such a connection"},
    {"close_all", ab_module_quic_close_all, METH_VARARGS, "close_all(app, code, reason, now)"},
    {"info", ab_module_quic_info, METH_O, "info(conn) -> dict, None: no such connection"},
    {"totals", ab_module_quic_totals, METH_NOARGS, "totals() -> dict"},
    {"crypto_name", quic_crypto_name, METH_NOARGS, "crypto_name() -> (backend, why not the fast one)"},
    {"events", ab_module_quic_events, METH_NOARGS,
     "events() -> what was told since: ('data' | 'reset' | 'datagram' | 'done' | "
     "'event', conn, ...)"},
    {"room", ab_module_quic_room, METH_O,
     "room(most): the sink takes so many fates and events from now on -> how often it was full since the last call"},
    {"free", quic_free, METH_NOARGS, "free(): wipes keys and gives everything back"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot quic_slots[] = {
    {Py_tp_init, quic_init},
    {Py_tp_dealloc, quic_dealloc},
    {Py_tp_methods, quic_methods},
    {Py_tp_doc, "QuicEngine(setting=...): 1-RTT connections under a clock of the caller's"},
    {0, NULL},
};

static PyType_Spec quic_spec = {
    .name = "afterburnerd.native._native.QuicEngine",
    .basicsize = sizeof(struct ab_module_quic),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = quic_slots,
};

int ab_module_add_quic(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &quic_spec, NULL);
    int rc = type ? PyModule_AddObjectRef(module, "QuicEngine", type) : -1;

    Py_XDECREF(type);
    return rc;
}
