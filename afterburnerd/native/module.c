/* The one place where Python and C meet, with module_*.c beside it for the types: argument checking, the GIL, and the
 * translation of errors. No logic lives here.
 *
 * Limited API of CPython 3.11, so that one wheel serves every later Python. Every failure becomes an OSError whose
 * errno is that of the system call where there was one, and whose text is the sentence that the C side wrote for a
 * person. */
#include "module.h"

#include <string.h>
#include <sys/mman.h>

#include "eth.h"
#include "hist.h"
#include "sandbox.h"

static PyObject *hist_index(PyObject *self, PyObject *arg)
{
    unsigned long long value = PyLong_AsUnsignedLongLong(arg);

    (void)self;
    if (PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLong(ab_hist_index(value));
}

static PyObject *hist_edge(PyObject *self, PyObject *arg)
{
    unsigned long index = PyLong_AsUnsignedLong(arg);

    (void)self;
    if (PyErr_Occurred())
        return NULL;
    if (index > AB_HIST_BUCKETS)
        return PyErr_Format(PyExc_ValueError, "bucket %lu: a histogram has %d", index, AB_HIST_BUCKETS);
    return PyLong_FromUnsignedLongLong(ab_hist_edge((uint32_t)index));
}

/* ab_module_raise: an ab_error as OSError(errno, text); codes of our own have no errno and become 0. The text may quote
 * names of files and interfaces, which are bytes, and may have been cut inside a character. */
PyObject *ab_module_raise(const struct ab_error *err)
{
    int number = err->code > -1000 ? -err->code : 0;
    PyObject *text = PyUnicode_DecodeUTF8(err->text, (Py_ssize_t)strlen(err->text), "backslashreplace");
    PyObject *value = text ? Py_BuildValue("(iN)", number, text) : NULL;

    if (value) {
        PyErr_SetObject(PyExc_OSError, value);
        Py_DECREF(value);
    }
    return NULL;
}

PyObject *ab_module_none(int rc, const struct ab_error *err)
{
    if (rc)
        return ab_module_raise(err);
    Py_RETURN_NONE;
}

int ab_module_u64(PyObject *object, void *out)
{
    unsigned long long value = PyLong_AsUnsignedLongLong(object);

    if (PyErr_Occurred())
        return 0;
    *(uint64_t *)out = value;
    return 1;
}

/* below: a converter for integers up to `most`. */
static int below(PyObject *object, uint64_t most, uint64_t *value)
{
    if (!ab_module_u64(object, value))
        return 0;
    if (*value <= most)
        return 1;
    PyErr_Format(PyExc_OverflowError, "%llu is above %llu", (unsigned long long)*value, (unsigned long long)most);
    return 0;
}

int ab_module_u32(PyObject *object, void *out)
{
    uint64_t value;

    if (!below(object, UINT32_MAX, &value))
        return 0;
    *(uint32_t *)out = (uint32_t)value;
    return 1;
}

int ab_module_u16(PyObject *object, void *out)
{
    uint64_t value;

    if (!below(object, UINT16_MAX, &value))
        return 0;
    *(uint16_t *)out = (uint16_t)value;
    return 1;
}

/* frame_parse: what the data plane makes of a frame, for the tests that hold it against the RFCs. */
static PyObject *frame_parse(PyObject *self, PyObject *args)
{
    struct ab_dgram d = {0};
    PyObject *result;
    Py_buffer frame;
    int verify, reason;

    (void)self;
    if (!PyArg_ParseTuple(args, "y*p", &frame, &verify))
        return NULL;
    reason = ab_eth_parse(&d, frame.buf, (uint32_t)frame.len, verify ? AB_ETH_VERIFY_UDP : 0);
    result = reason ? Py_BuildValue("(i)", reason)
                    : Py_BuildValue("(iy#Hy#H(HH)y#)", reason, d.src, (Py_ssize_t)16, d.sport, d.dst, (Py_ssize_t)16,
                                    d.dport, d.vlan[0], d.vlan[1], d.data, (Py_ssize_t)d.len);
    PyBuffer_Release(&frame);
    return result;
}

/* frame_build: the frame that the data plane sends for a payload along a path. */
static PyObject *frame_build(PyObject *self, PyObject *args)
{
    Py_buffer path_bytes = {0}, payload = {0};
    PyObject *result = NULL;
    struct ab_path path;
    uint8_t *memory;
    int ecn;

    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*i", &path_bytes, &payload, &ecn))
        return NULL;
    if (path_bytes.len != sizeof(path) || payload.len > 65000) {
        PyErr_Format(PyExc_ValueError, "a path is %zu bytes, not %zd; a payload at most 65000, not %zd", sizeof(path),
                     path_bytes.len, payload.len);
        goto out;
    }
    memory = PyMem_Malloc(AB_PATH_ROOM + (size_t)payload.len);
    if (!memory) {
        PyErr_NoMemory();
        goto out;
    }
    memcpy(&path, path_bytes.buf, sizeof(path));
    memcpy(memory + AB_PATH_ROOM, payload.buf, (size_t)payload.len);
    result = PyBytes_FromStringAndSize(
        (const char *)ab_eth_build(&path, memory + AB_PATH_ROOM, (uint32_t)payload.len, (uint8_t)ecn),
        (Py_ssize_t)ab_path_headers(&path) + payload.len);
    PyMem_Free(memory);
out:
    PyBuffer_Release(&path_bytes);
    PyBuffer_Release(&payload);
    return result;
}

/* frame_reverse: the frame that answers a frame; None where it is no datagram. */
static PyObject *frame_reverse(PyObject *self, PyObject *arg)
{
    struct ab_dgram d = {0};
    PyObject *copy;
    char *bytes;
    Py_ssize_t len;

    (void)self;
    if (PyBytes_AsStringAndSize(arg, &bytes, &len) < 0)
        return NULL;
    copy = PyBytes_FromStringAndSize(bytes, len);
    if (!copy)
        return NULL;
    if (ab_eth_parse(&d, (uint8_t *)PyBytes_AsString(copy), (uint32_t)len, 0)) {
        Py_DECREF(copy);
        Py_RETURN_NONE;
    }
    ab_eth_reverse(&d);
    return copy;
}

/* --- sandbox --------------------------------------------------------------------------------------------------- */

static PyObject *parent_death(PyObject *self, PyObject *arg)
{
    struct ab_error err = {0};
    uint32_t parent;

    (void)self;
    if (!ab_module_u32(arg, &parent))
        return NULL;
    return ab_module_none(ab_sandbox_parent_death((pid_t)parent, &err), &err);
}

static PyObject *sandbox_drop(PyObject *self, PyObject *args)
{
    struct ab_error err = {0};
    int uid, gid;

    (void)self;
    if (!PyArg_ParseTuple(args, "ii", &uid, &gid))
        return NULL;
    if (uid < -1 || gid < -1)
        return PyErr_Format(PyExc_ValueError, "user %d, group %d: -1 keeps who it is, others are not negative", uid,
                            gid);
    return ab_module_none(ab_sandbox_drop((uid_t)uid, (gid_t)gid, &err), &err);
}

static PyObject *sandbox_seal(PyObject *self, PyObject *unused)
{
    struct ab_error err = {0};

    (void)self;
    (void)unused;
    return ab_module_none(ab_sandbox_seal(&err), &err);
}

static PyObject *lock_memory(PyObject *self, PyObject *arg)
{
    int future = PyObject_IsTrue(arg);

    (void)self;
    if (future < 0)
        return NULL;
    if (mlockall(MCL_CURRENT | (future ? MCL_FUTURE : 0)) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"frame_parse", frame_parse, METH_VARARGS,
     "frame_parse(frame, verify_udp) -> (Drop,) or (0, src, sport, dst, dport, vlans, payload)"},
    {"frame_build", frame_build, METH_VARARGS, "frame_build(packed Path, payload, ecn) -> the frame that is sent"},
    {"frame_reverse", frame_reverse, METH_O, "frame_reverse(frame) -> the frame sent back, or None"},
    {"parent_death", parent_death, METH_O, "parent_death(pid): die when the parent dies"},
    {"sandbox_drop", sandbox_drop, METH_VARARGS, "sandbox_drop(uid, gid): -1 keeps; gives up every capability"},
    {"sandbox_seal", sandbox_seal, METH_NOARGS, "sandbox_seal(): from here on only listed system calls"},
    {"lock_memory", lock_memory, METH_O, "lock_memory(future): mlockall of what is mapped, and of what will be"},
    {"hist_index", hist_index, METH_O, "hist_index(value) -> bucket that a value falls into"},
    {"hist_edge", hist_edge, METH_O, "hist_edge(bucket) -> smallest value of a bucket"},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    if (ab_module_add_worker(module) < 0 || ab_module_add_solana_tx(module) < 0 || ab_module_add_bpf(module) < 0 ||
        ab_module_add_quic_crypto(module) < 0 || ab_module_add_quic(module) < 0)
        return -1;
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_native", .m_doc = "C helper of Afterburner",
    .m_methods = methods,  .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void);
PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
