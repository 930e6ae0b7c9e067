/* Solana transactions for Python: bytes in, offsets or pieces out. Pieces are copies, made for readers that look at
 * single transactions; the data plane itself makes none. */
#include "module.h"

#include <string.h>

#include "solana_tx.h"

static PyObject *tx_decode(PyObject *self, PyObject *arg)
{
    struct ab_tx tx;
    Py_buffer data;

    (void)self;
    if (PyObject_GetBuffer(arg, &data, PyBUF_SIMPLE) < 0)
        return NULL;
    ab_tx_decode(&tx, data.buf, (uint32_t)AB_MIN(data.len, UINT32_MAX));
    PyBuffer_Release(&data);
    return PyBytes_FromStringAndSize((const char *)&tx, sizeof(tx));
}

/* tx_open: the argument's bytes, decoded, or a ValueError and NULL. Release `data` after use. Bytes that can change are
 * copied: making objects of the parts may run the garbage collector, and that any Python, between the decoder's checks
 * and the walks that rely on them. */
static const uint8_t *tx_open(PyObject *arg, Py_buffer *data, struct ab_tx *tx)
{
    PyObject *bytes = PyBytes_CheckExact(arg) || !PyObject_CheckBuffer(arg) ? Py_NewRef(arg) : PyBytes_FromObject(arg);
    int code = bytes ? PyObject_GetBuffer(bytes, data, PyBUF_SIMPLE) : -1;

    Py_XDECREF(bytes); /* `data` holds it */
    if (code < 0)
        return NULL;
    ab_tx_decode(tx, data->buf, (uint32_t)AB_MIN(data->len, UINT32_MAX));
    if (ab_tx_decoded(tx))
        return data->buf;
    PyBuffer_Release(data);
    PyErr_Format(PyExc_ValueError, "not a Solana transaction: reason %d at byte %d", tx->reason, tx->length);
    return NULL;
}

static PyObject *tx_sanitize(PyObject *self, PyObject *arg)
{
    struct ab_tx tx;
    Py_buffer data;
    const uint8_t *p = tx_open(arg, &data, &tx);
    int found;

    (void)self;
    if (!p)
        return NULL;
    found = ab_tx_sanitize(&tx, p);
    PyBuffer_Release(&data);
    return PyLong_FromLong(found);
}

/* append: puts a new reference at the end of a list and gives it away; -1 where there is none to give. */
static int append(PyObject *list, PyObject *item)
{
    int error = item ? PyList_Append(list, item) : -1;

    Py_XDECREF(item);
    return error;
}

static PyObject *tx_instructions(PyObject *self, PyObject *arg)
{
    struct ab_tx tx;
    struct ab_tx_instruction ix;
    Py_buffer data;
    const uint8_t *p = tx_open(arg, &data, &tx);
    PyObject *list;

    (void)self;
    if (!p)
        return NULL;
    list = PyList_New(0);
    for (struct ab_tx_walk walk = ab_tx_instructions(&tx); list && ab_tx_instruction_next(&walk, &tx, p, &ix);)
        if (append(list, Py_BuildValue("(By#y#)", ix.program, p + ix.accounts_off, (Py_ssize_t)ix.num_accounts,
                                       p + ix.data_off, (Py_ssize_t)ix.data_len)) < 0)
            Py_CLEAR(list);
    PyBuffer_Release(&data);
    return list;
}

static PyObject *tx_lookups(PyObject *self, PyObject *arg)
{
    struct ab_tx tx;
    struct ab_tx_lookup lookup;
    Py_buffer data;
    const uint8_t *p = tx_open(arg, &data, &tx);
    PyObject *list;

    (void)self;
    if (!p)
        return NULL;
    list = PyList_New(0);
    for (struct ab_tx_walk walk = ab_tx_lookups(&tx); list && ab_tx_lookup_next(&walk, &tx, p, &lookup);)
        if (append(list, Py_BuildValue("(y#y#y#)", p + lookup.table_off, (Py_ssize_t)AB_TX_KEY_BYTES,
                                       p + lookup.writable_off, (Py_ssize_t)lookup.num_writable,
                                       p + lookup.readonly_off, (Py_ssize_t)lookup.num_readonly)) < 0)
            Py_CLEAR(list);
    PyBuffer_Release(&data);
    return list;
}

/* option: an integer where `there`, else None. */
static PyObject *option(int there, unsigned long long value)
{
    return there ? PyLong_FromUnsignedLongLong(value) : Py_NewRef(Py_None);
}

static PyObject *tx_config(PyObject *self, PyObject *arg)
{
    struct ab_tx tx;
    struct ab_tx_config config;
    Py_buffer data;
    const uint8_t *p = tx_open(arg, &data, &tx);

    (void)self;
    if (!p)
        return NULL;
    ab_tx_config(&tx, p, &config);
    PyBuffer_Release(&data);
    return Py_BuildValue("(NNNN)", option(tx.config_mask & AB_TX_CONFIG_PRIORITY_FEE, config.priority_fee),
                         option(tx.config_mask & AB_TX_CONFIG_COMPUTE_UNIT_LIMIT, config.compute_unit_limit),
                         option(tx.config_mask & AB_TX_CONFIG_LOADED_ACCOUNTS_SIZE, config.loaded_accounts_size),
                         option(tx.config_mask & AB_TX_CONFIG_HEAP_SIZE, config.heap_size));
}

/* overlap: whether two buffers have a byte in common. */
static bool overlap(const Py_buffer *a, const Py_buffer *b)
{
    uintptr_t from = (uintptr_t)a->buf, to = (uintptr_t)b->buf;

    return from < to + (size_t)b->len && to < from + (size_t)a->len;
}

/* tx_decode_many: the clock is read here, on both sides of the loop, so that a benchmark measures the loop alone. */
static PyObject *tx_decode_many(PyObject *self, PyObject *args)
{
    PyObject *result = NULL;
    Py_buffer packed, ends, out;
    uint32_t *end = NULL;
    size_t count;
    uint32_t good;
    uint64_t start, stop;

    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*", &packed, &ends, &out))
        return NULL;
    if ((uintptr_t)out.buf % _Alignof(struct ab_tx)) {
        PyErr_SetString(PyExc_ValueError, "out must be aligned: pass a whole array.array or bytearray object");
        goto release;
    }
    if (overlap(&out, &packed)) {
        PyErr_SetString(PyExc_ValueError, "out lies over the transactions that are being read");
        goto release;
    }
    count = (size_t)ends.len / sizeof(*end);
    if (count > UINT32_MAX || (size_t)out.len / sizeof(struct ab_tx) < count) {
        PyErr_Format(PyExc_ValueError, "out has %zd bytes, and %zu transactions need %zu each", out.len, count,
                     sizeof(struct ab_tx));
        goto release;
    }
    /* A copy: what has been checked must not be changed by another thread, nor by `out` where that lies over it. */
    end = PyMem_Malloc(count * sizeof(*end) + 1);
    if (!end) {
        PyErr_NoMemory();
        goto release;
    }
    memcpy(end, ends.buf, count * sizeof(*end));
    for (size_t i = 0; i < count; i++)
        if (end[i] > packed.len || (i > 0 && end[i] < end[i - 1])) {
            PyErr_Format(PyExc_ValueError, "ends[%zu] is %u: ends must not decrease, nor exceed the %zd bytes given", i,
                         end[i], packed.len);
            goto release;
        }
    Py_BEGIN_ALLOW_THREADS;
    start = ab_now_ns();
    good = ab_tx_decode_many(out.buf, packed.buf, end, (uint32_t)count);
    stop = ab_now_ns();
    Py_END_ALLOW_THREADS;
    result = Py_BuildValue("(IK)", good, (unsigned long long)(stop - start));
release:
    PyMem_Free(end);
    PyBuffer_Release(&packed);
    PyBuffer_Release(&ends);
    PyBuffer_Release(&out);
    return result;
}

static PyMethodDef methods[] = {
    {"tx_decode", tx_decode, METH_O, "tx_decode(data) -> struct ab_tx as bytes (Tx.unpack of abi.layout reads it)"},
    {"tx_decode_many", tx_decode_many, METH_VARARGS,
     "tx_decode_many(packed, ends, out) -> (well-formed transactions, ns); ends: u32 each, out: writable, 32 bytes "
     "each"},
    {"tx_sanitize", tx_sanitize, METH_O, "tx_sanitize(data) -> TxSanitize; ValueError where data is no transaction"},
    {"tx_instructions", tx_instructions, METH_O, "tx_instructions(data) -> [(program index, account indices, data)]"},
    {"tx_lookups", tx_lookups, METH_O, "tx_lookups(data) -> [(table key, writable indices, read-only indices)]"},
    {"tx_config", tx_config, METH_O,
     "tx_config(data) -> (priority fee, compute unit limit, loaded accounts size, heap size), None where not said"},
    {NULL, NULL, 0, NULL},
};

int ab_module_add_solana_tx(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
