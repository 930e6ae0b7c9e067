/* The one place where Python and C meet: argument checking, the GIL, and the translation of errors. No logic lives
 * here.
 *
 * Limited API of CPython 3.11, so that one wheel serves every later Python. Every failure becomes an OSError whose
 * errno is that of the system call where there was one, and whose text is the sentence that the C side wrote for a
 * person. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base.h"
#include "hist.h"

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

static PyMethodDef methods[] = {
    {"hist_index", hist_index, METH_O, "hist_index(value) -> bucket that a value falls into"},
    {"hist_edge", hist_edge, METH_O, "hist_edge(bucket) -> smallest value of a bucket"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
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
