/* What one asks of connections: adopted, given messages, closed. They are named by the supervisor's number; a number
 * that the engine does not know is an answer, not an exception, because a connection may end at any time. */
#include "module_quic.h"

#include <string.h>

PyObject *ab_module_quic_adopt(PyObject *object, PyObject *args)
{
    enum ab_quic_refusal why = AB_QUIC_REFUSED_NONE;
    struct ab_module_quic *self;
    struct ab_quic_adopt *state;
    const char *bytes;
    Py_ssize_t len;
    uint64_t now;

    if (!PyArg_ParseTuple(args, "y#O&", &bytes, &len, ab_module_u64, &now))
        return NULL;
    if (len != (Py_ssize_t)sizeof(*state))
        return PyErr_Format(PyExc_ValueError, "struct ab_quic_adopt has %zu bytes, not %zd", sizeof(*state), len);
    state = PyMem_Malloc(sizeof(*state));
    if (!state)
        return PyErr_NoMemory();
    memcpy(state, bytes, sizeof(*state));
    self = ab_module_quic_enter(object);
    if (!self) {
        PyMem_Free(state);
        return NULL;
    }
    ab_quic_adopt(self->engine, state, now, &why);
    PyMem_Free(state);
    return ab_module_quic_leave(self, PyLong_FromLong(why));
}

PyObject *ab_module_quic_send(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"conn", "how", "data", "now", "stream", "token", "fin", "expires", NULL};
    struct ab_quic_msg message = {0};
    struct ab_quic_conn *c;
    struct ab_module_quic *self;
    const char *data;
    Py_ssize_t len;
    uint64_t conn, now;
    uint32_t how;
    int fin = 0, code = AB_QUIC_ECLOSED;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&y#O&|O&O&pO&", names, ab_module_u64, &conn, ab_module_u32, &how,
                                     &data, &len, ab_module_u64, &now, ab_module_u64, &message.stream, ab_module_u64,
                                     &message.token, &fin, ab_module_u64, &message.expires) ||
        !(self = ab_module_quic_enter(object)))
        return NULL;
    if (len > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a message has fewer than 2^32 bytes");
        return ab_module_quic_leave(self, NULL);
    }
    message.how = (enum ab_quic_send)how;
    message.fin = fin;
    message.data = (const uint8_t *)data;
    message.len = (uint32_t)len;
    c = ab_quic_find(self->engine, conn);
    if (c)
        code = ab_quic_send(self->engine, c, &message, now);
    return ab_module_quic_leave(self, Py_BuildValue("(iK)", code, (unsigned long long)message.stream));
}

typedef int bytes_call(struct ab_quic *, struct ab_quic_conn *, const uint8_t *, uint32_t);

static PyObject *on_bytes(PyObject *object, PyObject *args, bytes_call *call)
{
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    const char *data;
    Py_ssize_t len;
    uint64_t conn;

    if (!PyArg_ParseTuple(args, "O&y#", ab_module_u64, &conn, &data, &len) || !(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return ab_module_quic_leave(
        self, PyLong_FromLong(c ? call(self->engine, c, (const uint8_t *)data, (uint32_t)len) : AB_QUIC_ECLOSED));
}

PyObject *ab_module_quic_send_crypto(PyObject *object, PyObject *args)
{
    return on_bytes(object, args, ab_quic_send_crypto);
}

PyObject *ab_module_quic_send_token(PyObject *object, PyObject *args)
{
    return on_bytes(object, args, ab_quic_send_token);
}

typedef int stream_call(struct ab_quic *, struct ab_quic_conn *, uint64_t, uint64_t);

static PyObject *on_stream(PyObject *object, PyObject *args, stream_call *call)
{
    uint64_t conn, stream, code;
    struct ab_module_quic *self;
    struct ab_quic_conn *c;

    if (!PyArg_ParseTuple(args, "O&O&O&", ab_module_u64, &conn, ab_module_u64, &stream, ab_module_u64, &code) ||
        !(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return ab_module_quic_leave(self, PyLong_FromLong(c ? call(self->engine, c, stream, code) : AB_QUIC_ECLOSED));
}

PyObject *ab_module_quic_reset_stream(PyObject *object, PyObject *args)
{
    return on_stream(object, args, ab_quic_reset_stream);
}

PyObject *ab_module_quic_stop_sending(PyObject *object, PyObject *args)
{
    return on_stream(object, args, ab_quic_stop_sending);
}

PyObject *ab_module_quic_update_keys(PyObject *object, PyObject *args)
{
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    uint64_t conn, now;

    if (!PyArg_ParseTuple(args, "O&O&", ab_module_u64, &conn, ab_module_u64, &now) ||
        !(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return ab_module_quic_leave(self, PyLong_FromLong(c ? ab_quic_update_keys(self->engine, c, now) : AB_QUIC_ECLOSED));
}

PyObject *ab_module_quic_ping(PyObject *object, PyObject *arg)
{
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    uint64_t conn;

    if (!ab_module_u64(arg, &conn) || !(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (c)
        ab_quic_ping(self->engine, c);
    return ab_module_quic_leave(self, PyBool_FromLong(c != NULL));
}

PyObject *ab_module_quic_stock(PyObject *object, PyObject *args)
{
    struct ab_quic_cid cids[AB_QUIC_CIDS];
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    const char *bytes;
    Py_ssize_t len;
    uint64_t conn;

    if (!PyArg_ParseTuple(args, "O&y#", ab_module_u64, &conn, &bytes, &len))
        return NULL;
    if (len > (Py_ssize_t)sizeof(cids) || len % (Py_ssize_t)sizeof(*cids))
        return PyErr_Format(PyExc_ValueError, "%zd bytes are not up to %zu connection IDs", len, AB_ARRAY_LEN(cids));
    memcpy(cids, bytes, (size_t)len);
    if (!(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return ab_module_quic_leave(
        self,
        PyLong_FromUnsignedLong(c ? ab_quic_stock(self->engine, c, cids, (uint32_t)((size_t)len / sizeof(*cids))) : 0));
}

PyObject *ab_module_quic_set_path(PyObject *object, PyObject *args)
{
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    struct ab_path path;
    const char *bytes;
    Py_ssize_t len;
    uint64_t conn, now;

    if (!PyArg_ParseTuple(args, "O&y#O&", ab_module_u64, &conn, &bytes, &len, ab_module_u64, &now))
        return NULL;
    if (len != (Py_ssize_t)sizeof(path))
        return PyErr_Format(PyExc_ValueError, "struct ab_path has %zu bytes, not %zd", sizeof(path), len);
    memcpy(&path, bytes, sizeof(path));
    if (!(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return ab_module_quic_leave(self,
                                PyLong_FromLong(c ? ab_quic_set_path(self->engine, c, &path, now) : AB_QUIC_ECLOSED));
}

PyObject *ab_module_quic_trace(PyObject *object, PyObject *args)
{
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    uint64_t conn;
    uint32_t bits;

    if (!PyArg_ParseTuple(args, "O&O&", ab_module_u64, &conn, ab_module_u32, &bits) ||
        !(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (c)
        ab_quic_trace(self->engine, c, bits);
    return ab_module_quic_leave(self, PyBool_FromLong(c != NULL));
}

PyObject *ab_module_quic_close(PyObject *object, PyObject *args)
{
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    const char *reason;
    Py_ssize_t len;
    uint64_t conn, code, now;
    int app;

    if (!PyArg_ParseTuple(args, "O&pO&y#O&", ab_module_u64, &conn, &app, ab_module_u64, &code, &reason, &len,
                          ab_module_u64, &now) ||
        !(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (c)
        ab_quic_close(self->engine, c, app, code, reason, (uint32_t)len, now);
    return ab_module_quic_leave(self, PyBool_FromLong(c != NULL));
}

PyObject *ab_module_quic_drop(PyObject *object, PyObject *args)
{
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    uint64_t conn, now;

    if (!PyArg_ParseTuple(args, "O&O&", ab_module_u64, &conn, ab_module_u64, &now) ||
        !(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (c)
        ab_quic_drop(self->engine, c, now);
    return ab_module_quic_leave(self, PyBool_FromLong(c != NULL));
}

PyObject *ab_module_quic_close_all(PyObject *object, PyObject *args)
{
    struct ab_module_quic *self;
    const char *reason;
    Py_ssize_t len;
    uint64_t code, now;
    int app;

    if (!PyArg_ParseTuple(args, "pO&y#O&", &app, ab_module_u64, &code, &reason, &len, ab_module_u64, &now) ||
        !(self = ab_module_quic_enter(object)))
        return NULL;
    ab_quic_close_all(self->engine, app, code, reason, (uint32_t)len, now);
    return ab_module_quic_leave(self, Py_NewRef(Py_None));
}
