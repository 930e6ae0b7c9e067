/* Datagrams in and out of an engine under a clock of the caller's. Each has memory of its own, no byte longer than it
 * is, so that a sanitizer sees a read or write beyond its end. */
#include "module_quic.h"

#include <string.h>

static void dgrams_free(struct ab_dgram *d, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++)
        PyMem_Free(d[i].data);
    PyMem_Free(d);
}

/* dgram_set: (data, source, its port, destination, its port, TOS) as a datagram in memory of its own, no byte longer.
 */
static bool dgram_set(struct ab_dgram *d, PyObject *item)
{
    Py_ssize_t len, src_len, dst_len;
    const char *data, *src, *dst;
    uint16_t tos;

    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a datagram is (data, src, sport, dst, dport, tos)");
        return false;
    }
    if (!PyArg_ParseTuple(item, "y#y#O&y#O&O&", &data, &len, &src, &src_len, ab_module_u16, &d->sport, &dst, &dst_len,
                          ab_module_u16, &d->dport, ab_module_u16, &tos))
        return false;
    if (src_len != 16 || dst_len != 16 || tos > 255 || len > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "a datagram is at most 65535 bytes between two addresses of 16");
        return false;
    }
    d->data = PyMem_Malloc((size_t)len);
    if (!d->data) {
        PyErr_NoMemory();
        return false;
    }
    memcpy(d->data, data, (size_t)len);
    d->len = (uint32_t)len;
    memcpy(d->src, src, 16);
    memcpy(d->dst, dst, 16);
    d->tos = (uint8_t)tos;
    d->family = memcmp(src, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0 ? 4 : 6;
    return true;
}

PyObject *ab_module_quic_rx(PyObject *object, PyObject *args)
{
    struct ab_module_quic *self;
    struct ab_dgram *d;
    PyObject *list, *mine;
    Py_ssize_t count;
    uint64_t now;

    if (!PyArg_ParseTuple(args, "O!O&", &PyList_Type, &list, ab_module_u64, &now))
        return NULL;
    count = PyList_Size(list);
    if (count < 0)
        return NULL;
    d = PyMem_Calloc((size_t)count + 1, sizeof(*d));
    if (!d)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++)
        if (!dgram_set(&d[i], PyList_GetItem(list, i))) {
            dgrams_free(d, count);
            return NULL;
        }
    mine = PyBytes_FromStringAndSize(NULL, count);
    self = mine ? ab_module_quic_enter(object) : NULL;
    if (!self) {
        Py_XDECREF(mine);
        dgrams_free(d, count);
        return NULL;
    }
    memset(PyBytes_AsString(mine), 0, (size_t)count);
    ab_quic_rx(self->engine, d, (uint8_t *)PyBytes_AsString(mine), (uint32_t)count, now);
    dgrams_free(d, count);
    return ab_module_quic_leave(self, mine);
}

PyObject *ab_module_quic_tx(PyObject *object, PyObject *args)
{
    struct ab_module_quic *self;
    struct ab_quic_out *out;
    uint32_t most = 64, room = 1500, count = 0;
    PyObject *list = NULL;
    uint64_t now;

    if (!PyArg_ParseTuple(args, "O&|O&O&", ab_module_u64, &now, ab_module_u32, &most, ab_module_u32, &room) ||
        !(self = ab_module_quic_enter(object)))
        return NULL;
    if (most > 4096 || room > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "at most 4096 datagrams of 65535 bytes at once");
        return ab_module_quic_leave(self, NULL);
    }
    out = PyMem_Calloc((size_t)most + 1, sizeof(*out));
    if (!out) {
        PyErr_NoMemory();
        return ab_module_quic_leave(self, NULL);
    }
    for (uint32_t i = 0; i < most; i++) {
        out[i].room = room;
        out[i].data = PyMem_Malloc(room);
        if (!out[i].data) {
            PyErr_NoMemory();
            goto done;
        }
    }
    count = ab_quic_tx(self->engine, out, most, now);
    list = PyList_New(count);
    for (uint32_t i = 0; list && i < count; i++) {
        PyObject *item =
            Py_BuildValue("(y#y#KiN)", (const char *)out[i].data, (Py_ssize_t)out[i].len, (const char *)out[i].path,
                          (Py_ssize_t)sizeof(*out[i].path), (unsigned long long)ab_quic_conn_id(out[i].conn),
                          (int)out[i].ecn, PyBool_FromLong(out[i].probe));

        if (!item || PyList_SetItem(list, i, item) < 0)
            Py_CLEAR(list);
    }
done:
    for (uint32_t i = 0; i < most; i++)
        PyMem_Free(out[i].data);
    PyMem_Free(out);
    return ab_module_quic_leave(self, list);
}

PyObject *ab_module_quic_deadline(PyObject *object, PyObject *unused)
{
    struct ab_module_quic *self = ab_module_quic_enter(object);

    (void)unused;
    return self ? ab_module_quic_leave(self, PyLong_FromUnsignedLongLong(ab_quic_deadline(self->engine))) : NULL;
}
