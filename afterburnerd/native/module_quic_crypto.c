/* Packet protection (quic_crypto.h) for Python: the types `QuicCrypto`, a backend, and `QuicKeys`, the keys of one
 * direction. Tests and benchmarks use them; in the data plane nobody calls C from Python for a packet. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

#include "quic_crypto.h"

#define PACKET_LIMIT (1 << 20) /* bytes; far above any datagram, for vectors of AEADs */

struct py_crypto {
    PyObject_HEAD;
    struct ab_quic_crypto crypto;
};

/* pair: what a direction has, at an address aligned as the structs ask for, which an object's own is not. */
struct pair {
    struct ab_quic_key key;
    struct ab_quic_hp hp;
};

struct py_keys {
    PyObject_HEAD;
    struct py_crypto *owner;
    struct pair *pair;
};

static PyObject *crypto_type, *keys_type; /* made once, when the module is */

static struct py_keys *keys_of(struct py_crypto *self, PyObject *object)
{
    if (!PyObject_TypeCheck(object, (PyTypeObject *)keys_type) || ((struct py_keys *)object)->owner != self) {
        PyErr_SetString(PyExc_TypeError, "keys: must be QuicKeys of this QuicCrypto");
        return NULL;
    }
    return (struct py_keys *)object;
}

/* --- QuicCrypto ------------------------------------------------------------------------------------------------ */

static PyObject *crypto_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"backend", NULL};
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    const char *backend = "auto";
    struct ab_error err = {0};
    PyObject *self;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|s:QuicCrypto", names, &backend))
        return NULL;
    self = alloc(type, 0);
    if (self && ab_quic_crypto_init(&((struct py_crypto *)self)->crypto, backend, &err) < 0) {
        Py_DECREF(self);
        return ab_module_raise(&err);
    }
    return self;
}

static void crypto_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    ab_quic_crypto_fini(&((struct py_crypto *)self)->crypto);
    release(self);
    Py_DECREF(type);
}

static PyObject *crypto_name(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyUnicode_FromString(((struct py_crypto *)self)->crypto.name);
}

static PyObject *crypto_reason(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyUnicode_FromString(((struct py_crypto *)self)->crypto.reason);
}

static PyObject *crypto_expand(PyObject *self, PyObject *args)
{
    const char *secret, *label;
    Py_ssize_t secret_len;
    uint8_t out[AB_QUIC_SECRET_MAX];
    uint32_t len;
    int suite;

    if (!PyArg_ParseTuple(args, "iy#sO&:expand", &suite, &secret, &secret_len, &label, ab_module_u32, &len))
        return NULL;
    if (secret_len != (Py_ssize_t)ab_quic_secret_bytes(suite) ||
        ab_quic_secret_expand(&((struct py_crypto *)self)->crypto, suite, (const uint8_t *)secret, label, out, len))
        return PyErr_Format(PyExc_ValueError, "suite %d: a secret of %zd bytes cannot be expanded to %u", suite,
                            secret_len, len);
    return PyBytes_FromStringAndSize((const char *)out, len);
}

static PyObject *crypto_next_secret(PyObject *self, PyObject *args)
{
    uint8_t next[AB_QUIC_SECRET_MAX];
    const char *secret;
    Py_ssize_t len;
    int suite;

    if (!PyArg_ParseTuple(args, "iy#:next_secret", &suite, &secret, &len))
        return NULL;
    if (len != (Py_ssize_t)ab_quic_secret_bytes(suite) ||
        ab_quic_secret_next(&((struct py_crypto *)self)->crypto, suite, (const uint8_t *)secret, next))
        return PyErr_Format(PyExc_ValueError, "suite %d: no secret of %zd bytes", suite, len);
    return PyBytes_FromStringAndSize((const char *)next, len);
}

/* struct batch: the packets of one call, each in a block of its own, so that a sanitizer sees where it ends. */
struct batch {
    struct ab_quic_op *ops;
    uint8_t **text; /* plaintexts that lie elsewhere */
    uint32_t n;
};

static void batch_free(struct batch *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        free(b->ops[i].packet);
        free(b->text[i]);
    }
    free(b->ops);
    free(b->text);
}

static int batch_init(struct batch *b, PyObject *list)
{
    Py_ssize_t n = PyList_Check(list) ? PyList_Size(list) : -1;

    if (n < 0) {
        PyErr_SetString(PyExc_TypeError, "packets: must be a list of tuples");
        return -1;
    }
    b->ops = calloc((size_t)n + 1, sizeof(*b->ops));
    b->text = calloc((size_t)n + 1, sizeof(*b->text));
    b->n = b->ops && b->text ? (uint32_t)n : 0;
    if (b->n != (size_t)n) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* copy: `len` bytes in a block of len + more, or NULL with an exception. */
static uint8_t *copy(const char *bytes, Py_ssize_t len, size_t more)
{
    uint8_t *block = len <= PACKET_LIMIT ? malloc((size_t)len + more + (len + more == 0)) : NULL;

    if (!block) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(block, bytes, (size_t)len);
    return block;
}

/* results: a list; for each op what `item` makes of it, or its status. */
static PyObject *results(struct batch *b, PyObject *(*item)(const struct ab_quic_op *op))
{
    PyObject *list = PyList_New(b->n);

    for (uint32_t i = 0; list && i < b->n; i++) {
        PyObject *value = b->ops[i].status ? PyLong_FromLong(b->ops[i].status) : item(&b->ops[i]);

        if (!value || PyList_SetItem(list, i, value) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *sealed(const struct ab_quic_op *op)
{
    return PyBytes_FromStringAndSize((const char *)op->packet, op->header_len + op->len + AB_QUIC_TAG_BYTES);
}

static PyObject *crypto_seal(PyObject *self, PyObject *args)
{
    struct py_crypto *crypto = (struct py_crypto *)self;
    PyObject *list, *keys, *result = NULL;
    int in_place = 0, protect = 1;
    struct batch b = {0};

    if (!PyArg_ParseTuple(args, "O|pp:seal", &list, &in_place, &protect) || batch_init(&b, list) < 0)
        return NULL;
    for (uint32_t i = 0; i < b.n; i++) {
        struct ab_quic_op *op = &b.ops[i];
        const char *header, *payload;
        Py_ssize_t header_len, len;
        struct py_keys *k;

        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "Oy#O&y#O&", &keys, &header, &header_len, ab_module_u64,
                              &op->number, &payload, &len, ab_module_u16, &op->number_off) ||
            !(k = keys_of(crypto, keys)))
            goto release;
        if (header_len > UINT16_MAX || len > PACKET_LIMIT ||
            (protect && (op->number_off >= header_len || header_len - op->number_off > 4))) {
            PyErr_Format(PyExc_ValueError, "a header of %zd bytes, its number at %d, and %zd bytes of payload",
                         header_len, op->number_off, len);
            goto release;
        }
        op->packet = copy(header, header_len, (size_t)len + AB_QUIC_TAG_BYTES);
        if (!op->packet)
            goto release;
        op->key = &k->pair->key;
        op->hp = protect ? &k->pair->hp : NULL;
        op->header_len = (uint16_t)header_len;
        op->len = (uint32_t)len;
        if (in_place) {
            op->payload = memcpy(op->packet + header_len, payload, (size_t)len);
        } else {
            b.text[i] = copy(payload, len, 0);
            if (!b.text[i])
                goto release;
            op->payload = b.text[i];
        }
    }
    ab_quic_seal_batch(&crypto->crypto, b.ops, b.n);
    result = results(&b, sealed);
release:
    batch_free(&b);
    return result;
}

static PyObject *bared(const struct ab_quic_op *op)
{
    return Py_BuildValue("(y#KI)", op->packet, (Py_ssize_t)op->len, (unsigned long long)op->number,
                         (unsigned)op->header_len);
}

static PyObject *crypto_unprotect(PyObject *self, PyObject *list)
{
    struct py_crypto *crypto = (struct py_crypto *)self;
    PyObject *keys, *result = NULL;
    struct batch b = {0};

    if (batch_init(&b, list) < 0)
        return NULL;
    for (uint32_t i = 0; i < b.n; i++) {
        struct ab_quic_op *op = &b.ops[i];
        const char *packet;
        Py_ssize_t len;
        struct py_keys *k;

        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "Oy#O&", &keys, &packet, &len, ab_module_u16, &op->number_off) ||
            !(k = keys_of(crypto, keys)) || !(op->packet = copy(packet, len, 0)))
            goto release;
        op->hp = &k->pair->hp;
        op->len = (uint32_t)len;
    }
    ab_quic_unprotect_batch(&crypto->crypto, b.ops, b.n);
    result = results(&b, bared);
release:
    batch_free(&b);
    return result;
}

static PyObject *opened(const struct ab_quic_op *op)
{
    return PyBytes_FromStringAndSize((const char *)op->packet + op->header_len,
                                     op->len - op->header_len - AB_QUIC_TAG_BYTES);
}

/* crypto_open: a failed packet must hold no plaintext, and its tag; said as (status, what lies there now). */
static PyObject *crypto_open(PyObject *self, PyObject *list)
{
    struct py_crypto *crypto = (struct py_crypto *)self;
    PyObject *keys, *result = NULL;
    struct batch b = {0};

    if (batch_init(&b, list) < 0)
        return NULL;
    for (uint32_t i = 0; i < b.n; i++) {
        struct ab_quic_op *op = &b.ops[i];
        const char *packet;
        Py_ssize_t len;
        struct py_keys *k;

        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "Oy#O&O&", &keys, &packet, &len, ab_module_u64, &op->number,
                              ab_module_u16, &op->header_len) ||
            !(k = keys_of(crypto, keys)) || !(op->packet = copy(packet, len, 0)))
            goto release;
        op->key = &k->pair->key;
        op->len = (uint32_t)len;
    }
    ab_quic_open_batch(&crypto->crypto, b.ops, b.n);
    result = results(&b, opened);
    for (uint32_t i = 0; result && i < b.n; i++) {
        const struct ab_quic_op *op = &b.ops[i];
        PyObject *pair;

        if (op->status != AB_QUIC_CRYPTO_EAUTH)
            continue;
        pair = Py_BuildValue("(iy#)", op->status, op->packet + op->header_len, (Py_ssize_t)(op->len - op->header_len));
        if (!pair || PyList_SetItem(result, i, pair) < 0)
            Py_CLEAR(result);
    }
release:
    batch_free(&b);
    return result;
}

/* --- measuring ------------------------------------------------------------------------------------------------- */

#define STOCK 256u /* packets: more than fit a core's first cache level, as in the data plane */
#define STRIDE 2048u
#define NUMBER_OFF 9u
#define HEADER 11u

/* struct stock: what a measurement works on. Packets are made, sealed and opened STOCK at a time in `frames`; in
 * between they wait in `stash`, so that a step over many keys meets each of them as the other keys left it in the
 * caches. */
struct stock {
    struct ab_quic_op ops[STOCK];
    uint8_t frames[STOCK][STRIDE];
    struct py_keys **keys;
    uint32_t count; /* keys, and packets if there are more than STOCK of them */
    uint32_t size;  /* bytes of a packet */
    uint32_t batch;
    uint8_t *stash;
};

/* stock_fill: STOCK packets as they are before they are sealed, from packet `first` on. */
static void stock_fill(struct stock *s, uint32_t first, bool protect)
{
    for (uint32_t i = 0; i < STOCK; i++) {
        struct pair *pair = s->keys[(first + i) % s->count]->pair;
        uint8_t *packet = s->frames[i];

        packet[0] = 0x41; /* a number of two bytes */
        packet[NUMBER_OFF] = 0;
        packet[NUMBER_OFF + 1] = (uint8_t)i;
        s->ops[i] = (struct ab_quic_op){
            .key = &pair->key,
            .hp = protect ? &pair->hp : NULL,
            .packet = packet,
            .payload = packet + HEADER,
            .number = i,
            .len = s->size - HEADER - AB_QUIC_TAG_BYTES,
            .header_len = HEADER,
            .number_off = NUMBER_OFF,
        };
    }
}

/* stock_move: STOCK sealed packets to the stash, or from there. */
static void stock_move(struct stock *s, uint32_t first, bool out)
{
    for (uint32_t i = 0; i < STOCK; i++) {
        uint8_t *kept = s->stash + (size_t)(first + i) * s->size;

        memcpy(out ? s->frames[i] : kept, out ? kept : s->frames[i], s->size);
        s->ops[i].len = s->size;
    }
}

typedef uint32_t step(struct ab_quic_crypto *c, struct ab_quic_op *ops, uint32_t n);

/* stock_run: one step, its time added to *ns; false where not all packets made it. */
static bool stock_run(struct ab_quic_crypto *c, struct stock *s, step *run, uint64_t *ns)
{
    uint64_t start = ab_now_ns();
    uint32_t good = 0;

    for (uint32_t i = 0; i < STOCK; i += s->batch)
        good += run(c, s->ops + i, AB_MIN(s->batch, STOCK - i));
    *ns += ab_now_ns() - start;
    return good == STOCK;
}

/* stock_pass: ns of [AEAD of the seal alone, seal, unprotect, open], each of all packets. */
static bool stock_pass(struct ab_quic_crypto *c, struct stock *s, uint32_t packets, uint64_t ns[4])
{
    bool good = true;

    for (uint32_t at = 0; at < packets; at += STOCK) {
        stock_fill(s, at, false);
        good = stock_run(c, s, ab_quic_seal_batch, &ns[0]) && good;
    }
    for (uint32_t at = 0; at < packets; at += STOCK) {
        stock_fill(s, at, true);
        good = stock_run(c, s, ab_quic_seal_batch, &ns[1]) && good;
        stock_move(s, at, false);
    }
    for (uint32_t at = 0; at < packets; at += STOCK) {
        stock_fill(s, at, true);
        stock_move(s, at, true);
        good = stock_run(c, s, ab_quic_unprotect_batch, &ns[2]) && good;
        good = stock_run(c, s, ab_quic_open_batch, &ns[3]) && good;
    }
    return good;
}

static PyObject *crypto_measure(PyObject *self, PyObject *args)
{
    struct ab_quic_crypto *c = &((struct py_crypto *)self)->crypto;
    struct stock *s = NULL;
    PyObject *list, *result = NULL;
    uint32_t size, batch, n, packets;
    uint64_t ns[4] = {0};

    if (!PyArg_ParseTuple(args, "O!O&O&:measure", &PyList_Type, &list, ab_module_u32, &size, ab_module_u32, &batch))
        return NULL;
    n = (uint32_t)AB_MIN(PyList_Size(list), 1 << 20);
    if (n == 0 || batch == 0 || size < HEADER + AB_QUIC_TAG_BYTES + 2 || size > STRIDE)
        return PyErr_Format(PyExc_ValueError, "measure: %u keys, packets of %u bytes, batches of %u", n, size, batch);
    packets = (n + STOCK - 1) / STOCK * STOCK;
    s = aligned_alloc(AB_CACHELINE, (sizeof(*s) + AB_CACHELINE - 1) / AB_CACHELINE * AB_CACHELINE);
    if (!s)
        return PyErr_NoMemory();
    memset(s, 0, sizeof(*s));
    s->keys = malloc(n * sizeof(struct py_keys *));
    s->stash = malloc((size_t)packets * size);
    s->count = n;
    s->size = size;
    s->batch = batch;
    if (!s->keys || !s->stash) {
        PyErr_NoMemory();
        goto release;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!(s->keys[i] = keys_of((struct py_crypto *)self, PyList_GetItem(list, i))))
            goto release;
    if (stock_pass(c, s, packets, ns))
        result = Py_BuildValue("(dddd)", (double)ns[0] / packets, (double)ns[1] / packets, (double)ns[2] / packets,
                               (double)ns[3] / packets);
    else
        PyErr_SetString(PyExc_RuntimeError, "not all packets were sealed and opened: the figures would be worthless");
release:
    free(s->stash);
    free(s->keys);
    free(s);
    return result;
}

/* crypto_measure_update: what a key update costs: the next secret, and a key of it. */
static PyObject *crypto_measure_update(PyObject *self, PyObject *args)
{
    struct ab_quic_crypto *c = &((struct py_crypto *)self)->crypto;
    uint8_t secret[AB_QUIC_SECRET_MAX] = {0}, bytes[AB_QUIC_KEY_MAX] = {0}, iv[AB_QUIC_IV_BYTES] = {0};
    struct ab_quic_key key;
    uint64_t start, derived, set;
    int suite, rc = 0;

    if (!PyArg_ParseTuple(args, "i:measure_update", &suite))
        return NULL;
    start = ab_now_ns();
    for (uint32_t i = 0; rc == 0 && i < STOCK; i++) {
        rc = ab_quic_secret_next(c, suite, secret, secret);
        rc = rc ? rc : ab_quic_key_derive(c, &key, suite, secret);
    }
    derived = ab_now_ns();
    for (uint32_t i = 0; rc == 0 && i < STOCK; i++)
        rc = ab_quic_key_set(c, &key, suite, bytes, iv);
    set = ab_now_ns();
    if (rc)
        return PyErr_Format(PyExc_ValueError, "suite %d: error %d", suite, rc);
    return Py_BuildValue("(dd)", (double)(derived - start) / STOCK, (double)(set - derived) / STOCK);
}

static PyMethodDef crypto_methods[] = {
    {"name", crypto_name, METH_NOARGS, "name() -> backend, as status shows it"},
    {"reason", crypto_reason, METH_NOARGS, "reason() -> why it is not the fast one; empty where it is"},
    {"expand", crypto_expand, METH_VARARGS, "expand(suite, secret, label, length) -> HKDF-Expand-Label"},
    {"next_secret", crypto_next_secret, METH_VARARGS, "next_secret(suite, secret) -> the next generation's"},
    {"seal", crypto_seal, METH_VARARGS,
     "seal([(keys, header, number, payload, number_off)], in_place=False, protect=True) -> [packet or status]"},
    {"unprotect", crypto_unprotect, METH_O,
     "unprotect([(keys, packet, number_off)]) -> [(packet, number as sent, header_len) or status]"},
    {"open", crypto_open, METH_O,
     "open([(keys, packet, number, header_len)]) -> [payload, (status, rest) where the tag is wrong, or status]"},
    {"measure", crypto_measure, METH_VARARGS,
     "measure([keys], packet_bytes, batch) -> ns a packet of (AEAD of a seal, seal, unprotect, open)"},
    {"measure_update", crypto_measure_update, METH_VARARGS,
     "measure_update(suite) -> ns of (next secret and key, setting a key alone)"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot crypto_slots[] = {
    {Py_tp_doc, (void *)"QuicCrypto(backend=\"auto\"): packet protection of QUIC"},
    {Py_tp_new, (void *)crypto_new},
    {Py_tp_dealloc, (void *)crypto_dealloc},
    {Py_tp_methods, crypto_methods},
    {0, NULL},
};

static PyType_Spec crypto_spec = {
    .name = "afterburnerd.native._native.QuicCrypto",
    .basicsize = sizeof(struct py_crypto),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = crypto_slots,
};

/* --- QuicKeys -------------------------------------------------------------------------------------------------- */

static PyObject *keys_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"crypto", "suite", "secret", "key", "iv", "hp", NULL};
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    const char *secret = NULL, *key = NULL, *iv = NULL, *hp = NULL;
    Py_ssize_t secret_len = 0, key_len = 0, iv_len = 0, hp_len = 0;
    PyObject *crypto;
    struct py_keys *self;
    struct ab_quic_crypto *c;
    int suite, rc;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!i|$z#z#z#z#:QuicKeys", names, crypto_type, &crypto, &suite,
                                     &secret, &secret_len, &key, &key_len, &iv, &iv_len, &hp, &hp_len))
        return NULL;
    if (secret ? secret_len != (Py_ssize_t)ab_quic_secret_bytes(suite)
               : !key || !iv || key_len != (Py_ssize_t)ab_quic_key_bytes(suite) || iv_len != AB_QUIC_IV_BYTES ||
                     (hp && hp_len != key_len)) {
        PyErr_Format(PyExc_ValueError, "suite %d: a secret, or key and iv, of the suite's lengths", suite);
        return NULL;
    }
    self = (struct py_keys *)alloc(type, 0);
    if (!self)
        return NULL;
    self->pair = aligned_alloc(AB_CACHELINE, sizeof(*self->pair));
    if (!self->pair) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    memset(self->pair, 0, sizeof(*self->pair));
    self->owner = (struct py_crypto *)Py_NewRef(crypto);
    c = &self->owner->crypto;
    if (secret) {
        rc = ab_quic_key_derive(c, &self->pair->key, suite, (const uint8_t *)secret);
        rc = rc ? rc : ab_quic_hp_derive(c, &self->pair->hp, suite, (const uint8_t *)secret);
    } else {
        rc = ab_quic_key_set(c, &self->pair->key, suite, (const uint8_t *)key, (const uint8_t *)iv);
        if (rc == 0 && hp)
            rc = ab_quic_hp_set(c, &self->pair->hp, suite, (const uint8_t *)hp);
    }
    if (rc) {
        Py_DECREF(self);
        return PyErr_Format(PyExc_ValueError, "suite %d: error %d", suite, rc);
    }
    return (PyObject *)self;
}

static void keys_dealloc(PyObject *object)
{
    struct py_keys *self = (struct py_keys *)object;
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    if (self->owner) {
        ab_quic_key_wipe(&self->owner->crypto, &self->pair->key);
        ab_quic_hp_wipe(&self->owner->crypto, &self->pair->hp);
        Py_DECREF(self->owner);
    }
    free(self->pair);
    release(object);
    Py_DECREF(type);
}

/* keys_wipe: for the test that looks whether anything is left. */
static PyObject *keys_wipe(PyObject *object, PyObject *unused)
{
    struct py_keys *self = (struct py_keys *)object;

    (void)unused;
    ab_quic_key_wipe(&self->owner->crypto, &self->pair->key);
    ab_quic_hp_wipe(&self->owner->crypto, &self->pair->hp);
    return PyBytes_FromStringAndSize((const char *)self->pair, sizeof(*self->pair));
}

static PyMethodDef keys_methods[] = {
    {"wipe", keys_wipe, METH_NOARGS, "wipe() -> what is left: zeroes. The keys serve nobody any more"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot keys_slots[] = {
    {Py_tp_doc, (void *)"QuicKeys(crypto, suite, *, secret | key, iv, hp): keys of one direction"},
    {Py_tp_new, (void *)keys_new},
    {Py_tp_dealloc, (void *)keys_dealloc},
    {Py_tp_methods, keys_methods},
    {0, NULL},
};

static PyType_Spec keys_spec = {
    .name = "afterburnerd.native._native.QuicKeys",
    .basicsize = sizeof(struct py_keys),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = keys_slots,
};

int ab_module_add_quic_crypto(PyObject *module)
{
    crypto_type = PyType_FromModuleAndSpec(module, &crypto_spec, NULL);
    keys_type = crypto_type ? PyType_FromModuleAndSpec(module, &keys_spec, NULL) : NULL;
    if (!keys_type || PyModule_AddObjectRef(module, "QuicCrypto", crypto_type) < 0)
        return -1;
    return PyModule_AddObjectRef(module, "QuicKeys", keys_type);
}
