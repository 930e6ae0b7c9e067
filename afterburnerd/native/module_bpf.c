/* The type `Bpf`: a loaded XDP program (bpf.h) for Python. Bytes go in and out as they lie in the maps; their meaning
 * is in abi/layout.py, the policy in net/xdp.py. */
#include "module.h"

#include <errno.h>
#include <string.h>

#include "bpf.h"

#define FRAME_LIMIT (1 << 20) /* bytes; the kernel takes 17 pages of 4 KiB (MAX_SKB_FRAGS) */

struct py_bpf {
    PyObject_HEAD;
    struct ab_bpf bpf;
    bool busy; /* a call has let go of the GIL: whoever else comes is refused, for the object has one owner */
};

/* enter: the struct, if nobody is inside; NULL with an exception otherwise. */
static struct ab_bpf *enter(PyObject *self)
{
    struct py_bpf *object = (struct py_bpf *)self;

    if (!object->busy)
        return &object->bpf;
    PyErr_SetString(PyExc_RuntimeError, "Bpf object is in use by another thread");
    return NULL;
}

static PyObject *bpf_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"path", NULL};
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *self, *path = NULL;
    struct ab_error err;
    int code;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O&:Bpf", names, PyUnicode_FSConverter, &path))
        return NULL;
    self = alloc(type, 0);
    if (self) {
        code = ab_bpf_open(&((struct py_bpf *)self)->bpf, PyBytes_AsString(path), &err);
        if (code < 0) {
            ab_module_raise(&err);
            Py_CLEAR(self);
        }
    }
    Py_DECREF(path);
    return self;
}

static void bpf_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    ab_bpf_close(&((struct py_bpf *)self)->bpf);
    release(self);
    Py_DECREF(type);
}

static PyObject *bpf_load(PyObject *self, PyObject *args)
{
    PyObject *sizes = NULL, *key, *value;
    struct ab_bpf *bpf;
    struct ab_error err;
    Py_ssize_t at = 0;
    int code = 0;

    if (!PyArg_ParseTuple(args, "|O!:load", &PyDict_Type, &sizes) || !(bpf = enter(self)))
        return NULL;
    while (sizes && PyDict_Next(sizes, &at, &key, &value)) {
        const char *name = PyUnicode_AsUTF8AndSize(key, NULL);
        unsigned long entries = name ? PyLong_AsUnsignedLong(value) : 0;

        if (PyErr_Occurred())
            return NULL;
        if (ab_bpf_resize(bpf, name, (uint32_t)AB_MIN(entries, UINT32_MAX), &err) < 0)
            return ab_module_raise(&err);
    }
    AB_UNLOCKED((struct py_bpf *)self, code = ab_bpf_load(bpf, &err));
    if (code < 0)
        return ab_module_raise(&err);
    Py_RETURN_NONE;
}

static PyObject *bpf_attach(PyObject *self, PyObject *args)
{
    struct ab_bpf *bpf;
    struct ab_error err;
    const char *name;
    int ifindex, code;
    bool native;

    if (!PyArg_ParseTuple(args, "is:attach", &ifindex, &name) || !(bpf = enter(self)))
        return NULL;
    native = strcmp(name, "native") == 0;
    if (!native && strcmp(name, "generic") != 0)
        return PyErr_Format(PyExc_ValueError, "mode \"%s\": native or generic", name);
    AB_UNLOCKED((struct py_bpf *)self,
                code = ab_bpf_attach(bpf, ifindex, native ? AB_BPF_NATIVE : AB_BPF_GENERIC, &err));
    if (code < 0)
        return ab_module_raise(&err);
    return PyUnicode_FromString(native ? "native" : "generic");
}

static PyObject *bpf_detach(PyObject *self, PyObject *unused)
{
    struct ab_bpf *bpf = enter(self);

    (void)unused;
    if (!bpf)
        return NULL;
    AB_UNLOCKED((struct py_bpf *)self, ab_bpf_detach(bpf));
    Py_RETURN_NONE;
}

static PyObject *bpf_attached(PyObject *self, PyObject *unused)
{
    struct ab_bpf *bpf = enter(self);

    (void)unused;
    return bpf ? PyLong_FromLong(ab_bpf_attached(bpf)) : NULL;
}

static PyObject *bpf_close(PyObject *self, PyObject *unused)
{
    struct ab_bpf *bpf = enter(self);

    (void)unused;
    if (!bpf)
        return NULL;
    AB_UNLOCKED((struct py_bpf *)self, ab_bpf_close(bpf));
    Py_RETURN_NONE;
}

/* find: the map of that name, with the given lengths checked against its own (-1: not given). */
static int find(PyObject *self, const char *name, Py_ssize_t key, Py_ssize_t value, struct ab_bpf_map *map)
{
    struct ab_bpf *bpf = enter(self);
    struct ab_error err;

    if (!bpf)
        return -1;
    if (ab_bpf_map(bpf, name, map, &err) < 0) {
        ab_module_raise(&err);
        return -1;
    }
    if (key >= 0 && key != (Py_ssize_t)map->key_bytes) {
        PyErr_Format(PyExc_ValueError, "BPF map \"%s\": a key has %u bytes, not %zd", name, map->key_bytes, key);
        return -1;
    }
    if (value >= 0 && value != (Py_ssize_t)map->value_bytes) {
        PyErr_Format(PyExc_ValueError, "BPF map \"%s\": a value has %u bytes, not %zd", name, map->value_bytes, value);
        return -1;
    }
    return 0;
}

static PyObject *bpf_map_update(PyObject *self, PyObject *args)
{
    Py_ssize_t key_length, value_length;
    const char *name, *key, *value;
    struct ab_bpf_map map;
    struct ab_error err;

    if (!PyArg_ParseTuple(args, "sy#y#:map_update", &name, &key, &key_length, &value, &value_length) ||
        find(self, name, key_length, value_length, &map) < 0)
        return NULL;
    if (ab_bpf_set(&map, key, value, &err) < 0)
        return ab_module_raise(&err);
    Py_RETURN_NONE;
}

static PyObject *bpf_map_delete(PyObject *self, PyObject *args)
{
    Py_ssize_t key_length;
    const char *name, *key;
    struct ab_bpf_map map;
    struct ab_error err;
    int found;

    if (!PyArg_ParseTuple(args, "sy#:map_delete", &name, &key, &key_length) ||
        find(self, name, key_length, -1, &map) < 0)
        return NULL;
    found = ab_bpf_delete(&map, key, &err);
    if (found < 0)
        return ab_module_raise(&err);
    return PyBool_FromLong(found);
}

/* value_of: the value of a key as bytes, None where there is none. */
static PyObject *value_of(const struct ab_bpf_map *map, const void *key)
{
    PyObject *value = PyBytes_FromStringAndSize(NULL, map->value_bytes);
    struct ab_error err;
    int found;

    if (!value)
        return NULL;
    found = ab_bpf_get(map, key, PyBytes_AsString(value), &err);
    if (found > 0)
        return value;
    Py_DECREF(value);
    if (found < 0)
        return ab_module_raise(&err);
    Py_RETURN_NONE;
}

static PyObject *bpf_map_lookup(PyObject *self, PyObject *args)
{
    Py_ssize_t key_length;
    const char *name, *key;
    struct ab_bpf_map map;

    if (!PyArg_ParseTuple(args, "sy#:map_lookup", &name, &key, &key_length) ||
        find(self, name, key_length, -1, &map) < 0)
        return NULL;
    return value_of(&map, key);
}

/* bpf_map_items: a dict, since a walk that a deletion made begin again meets a key twice. */
static PyObject *bpf_map_items(PyObject *self, PyObject *args)
{
    PyObject *items, *key = NULL, *value;
    struct ab_bpf_map map;
    struct ab_error err;
    const char *name;
    int found = 0;

    if (!PyArg_ParseTuple(args, "s:map_items", &name) || find(self, name, -1, -1, &map) < 0)
        return NULL;
    items = PyDict_New();
    for (uint64_t steps = 0; items && steps < 2ULL * map.max_entries; steps++) {
        PyObject *next = PyBytes_FromStringAndSize(NULL, map.key_bytes);

        found = next ? ab_bpf_next(&map, key ? PyBytes_AsString(key) : NULL, PyBytes_AsString(next), &err) : -1;
        Py_XDECREF(key);
        key = next;
        if (found <= 0)
            break;
        value = value_of(&map, PyBytes_AsString(key));
        if (!value || (value != Py_None && PyDict_SetItem(items, key, value) < 0))
            Py_CLEAR(items);
        Py_XDECREF(value);
    }
    if (items && found < 0) {
        Py_CLEAR(items);
        if (!PyErr_Occurred())
            ab_module_raise(&err);
    }
    Py_XDECREF(key);
    return items;
}

static PyObject *bpf_set_xsk(PyObject *self, PyObject *args)
{
    struct ab_bpf *bpf;
    struct ab_error err;
    uint32_t queue;
    int fd;

    if (!PyArg_ParseTuple(args, "O&i:set_xsk", ab_module_u32, &queue, &fd) || !(bpf = enter(self)))
        return NULL;
    if (ab_bpf_set_xsk(bpf, queue, fd, &err) < 0)
        return ab_module_raise(&err);
    Py_RETURN_NONE;
}

static PyObject *bpf_counters(PyObject *self, PyObject *unused)
{
    struct ab_xdp_count counts[AB_XDP_END];
    struct ab_bpf *bpf = enter(self);
    struct ab_error err;
    PyObject *list;

    (void)unused;
    if (!bpf)
        return NULL;
    if (ab_bpf_count(bpf, counts, &err) < 0)
        return ab_module_raise(&err);
    list = PyList_New(AB_XDP_END);
    for (Py_ssize_t i = 0; list && i < AB_XDP_END; i++) {
        PyObject *pair =
            Py_BuildValue("(KK)", (unsigned long long)counts[i].packets, (unsigned long long)counts[i].octets);

        if (!pair || PyList_SetItem(list, i, pair) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *bpf_test_run(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"packet", "queue", "ifindex", "repeat", "linear", NULL};
    struct ab_bpf_run run = {.repeat = 1};
    struct ab_bpf *bpf;
    struct ab_error err;
    PyObject *result = NULL;
    Py_buffer frame;
    int code;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "y*|O&O&O&O&:test_run", names, &frame, ab_module_u32, &run.queue,
                                     ab_module_u32, &run.ifindex, ab_module_u32, &run.repeat, ab_module_u32,
                                     &run.linear))
        return NULL;
    if (frame.len > FRAME_LIMIT) {
        PyErr_Format(PyExc_ValueError, "a frame of %zd bytes: %d at most", frame.len, FRAME_LIMIT);
        goto release;
    }
    run.frame = frame.buf;
    run.length = (uint32_t)frame.len;
    run.out_length = run.length + (uint32_t)sizeof(struct ab_xdp_meta);
    run.out = PyMem_Malloc(run.out_length);
    if (!run.out) {
        PyErr_NoMemory();
        goto release;
    }
    if (!(bpf = enter(self)))
        goto release;
    AB_UNLOCKED((struct py_bpf *)self, code = ab_bpf_run(bpf, &run, &err));
    if (code < 0)
        result = ab_module_raise(&err);
    else
        result = Py_BuildValue("(Iy#I)", run.verdict, run.out, (Py_ssize_t)run.out_length, run.ns);
release:
    PyMem_Free(run.out);
    PyBuffer_Release(&frame);
    return result;
}

static PyMethodDef bpf_methods[] = {
    {"load", bpf_load, METH_VARARGS, "load({map: max_entries}) loads maps and program"},
    {"attach", bpf_attach, METH_VARARGS, "attach(ifindex, \"native\" or \"generic\") -> mode"},
    {"detach", bpf_detach, METH_NOARGS, "detach() takes the program off its interface"},
    {"attached", bpf_attached, METH_NOARGS, "attached() -> ifindex, 0: on none (any more)"},
    {"close", bpf_close, METH_NOARGS, "close() detaches, and frees maps and program"},
    {"map_update", bpf_map_update, METH_VARARGS, "map_update(map, key, value)"},
    {"map_delete", bpf_map_delete, METH_VARARGS, "map_delete(map, key) -> whether it was there"},
    {"map_lookup", bpf_map_lookup, METH_VARARGS, "map_lookup(map, key) -> value or None"},
    {"map_items", bpf_map_items, METH_VARARGS, "map_items(map) -> {key: value}"},
    {"set_xsk", bpf_set_xsk, METH_VARARGS, "set_xsk(queue, fd) gives a queue to an AF_XDP socket; fd -1: to nobody"},
    {"counters", bpf_counters, METH_NOARGS, "counters() -> [(packets, bytes)] by XdpReason"},
    {"test_run", (PyCFunction)(void (*)(void))bpf_test_run, METH_VARARGS | METH_KEYWORDS,
     "test_run(packet, queue=0, ifindex=0, repeat=1, linear=0) -> (verdict, metadata and packet, ns a run)"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bpf_slots[] = {
    {Py_tp_doc, (void *)"Bpf(path): the XDP program of an object file, and its maps"},
    {Py_tp_new, (void *)bpf_new},
    {Py_tp_dealloc, (void *)bpf_dealloc},
    {Py_tp_methods, bpf_methods},
    {0, NULL},
};

static PyType_Spec bpf_spec = {
    .name = "afterburnerd.native._native.Bpf",
    .basicsize = sizeof(struct py_bpf),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bpf_slots,
};

int ab_module_add_bpf(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &bpf_spec, NULL);
    int code;

    if (!type)
        return -1;
    code = PyModule_AddObjectRef(module, "Bpf", type);
    Py_DECREF(type);
    return code;
}
