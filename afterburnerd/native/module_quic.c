/* The QuicEngine type: the QUIC engine whole, as Python drives it under a clock of its own.
 *
 * Simulation and conformance tests stand on it: time is an argument of every call, datagrams are bytes, and what the
 * engine tells its sink is gathered in a list until `events` fetches it. Connections are named by the supervisor's
 * number. The data plane does not come this way: there the worker holds the engine in C. */
#include "module.h"

#include <stddef.h>
#include <string.h>

#include "quic.h"

struct quic_object {
    PyObject_HEAD;
    struct ab_quic *engine;
    PyObject *told; /* list of what the sink heard */
    bool lost;      /* memory ran out while something was told */
    bool inside;    /* the engine is running: nobody else may come in */
};

/* --- the sink -------------------------------------------------------------------------------------------------- */

/* tell appends `item` (whose reference it takes) to what was told. The sink has no way to raise: a failure is kept in
 * `lost`, and the call that is under way raises it. */
static bool tell(void *ctx, PyObject *item)
{
    struct quic_object *self = ctx;
    bool ok = item && PyList_Append(self->told, item) == 0;

    Py_XDECREF(item);
    if (!ok) {
        PyErr_Clear();
        self->lost = true;
    }
    return ok;
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
    return tell(ctx, Py_BuildValue("(sKKiK)", "done", (unsigned long long)ab_quic_conn_id(c), (unsigned long long)token,
                                   (int)outcome, (unsigned long long)first_sent_ns));
}

static bool tell_event(void *ctx, const struct ab_quic_event *e, const void *body)
{
    return tell(ctx, Py_BuildValue("(sKy#y#)", "event", (unsigned long long)e->conn, e, (Py_ssize_t)sizeof(*e),
                                   body ? body : "", (Py_ssize_t)(body ? e->length : 0)));
}

/* --- life ------------------------------------------------------------------------------------------------------ */

/* What a keyword of the constructor sets. */
static const struct {
    const char *name;
    size_t offset;
    uint64_t most;
} settings[] = {
#define SETTING(name, most)                                                                                            \
    {                                                                                                                  \
#name, offsetof(struct ab_quic_config, name), most                                                             \
    }
    SETTING(connections, UINT32_MAX),
    SETTING(messages, UINT32_MAX),
    SETTING(message_bytes, UINT32_MAX),
    SETTING(packets, UINT32_MAX),
    SETTING(streams, UINT32_MAX),
    SETTING(stream_bytes, UINT32_MAX),
    SETTING(uni_window, UINT32_MAX),
    SETTING(bidi_window, UINT32_MAX),
    SETTING(pack, UINT32_MAX),
    SETTING(burst_packets, UINT32_MAX),
    SETTING(cc, UINT32_MAX),
    SETTING(initial_window, UINT32_MAX),
    SETTING(pacing, 1),
    SETTING(ecn, 1),
    SETTING(no_mtu_discovery, 1),
    SETTING(skip_packets, UINT32_MAX),
    SETTING(keep_alive_ms, UINT32_MAX),
    SETTING(confidentiality_limit, UINT64_MAX),
    SETTING(integrity_limit, UINT64_MAX),
    SETTING(key_update_packets, UINT64_MAX),
    SETTING(seed, UINT64_MAX),
#undef SETTING
};

/* set_one: `value` into the setting called `name`; -1 with an exception. `crypto` is kept alive by the keywords. */
static int set_one(struct ab_quic_config *config, PyObject *name, PyObject *value)
{
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
    uint64_t number;

    if (!text)
        return -1;
    if (strcmp(text, "crypto") == 0) {
        config->crypto = PyUnicode_AsUTF8AndSize(value, NULL);
        return config->crypto ? 0 : -1;
    }
    for (size_t i = 0; i < AB_ARRAY_LEN(settings); i++) {
        if (strcmp(text, settings[i].name) != 0)
            continue;
        if (!ab_module_u64(value, &number))
            return -1;
        if (number > settings[i].most) {
            PyErr_Format(PyExc_OverflowError, "%s: %llu is above %llu", text, (unsigned long long)number,
                         (unsigned long long)settings[i].most);
            return -1;
        }
        /* little-endian, as all that the layouts are for: the low bytes of the number are the field */
        memcpy((uint8_t *)config + settings[i].offset, &number,
               settings[i].most == 1            ? 1
               : settings[i].most == UINT32_MAX ? 4
                                                : 8);
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "an engine has no setting '%s'", text);
    return -1;
}

int ab_module_quic_config(struct ab_quic_config *config, PyObject *settings_given)
{
    PyObject *name, *value;
    Py_ssize_t at = 0;

    while (settings_given && PyDict_Next(settings_given, &at, &name, &value))
        if (set_one(config, name, value) < 0)
            return -1;
    return 0;
}

static int quic_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    struct quic_object *self = (struct quic_object *)object;
    struct ab_quic_config config = {0};
    struct ab_quic_sink sink = {
        .ctx = self,
        .data = tell_data,
        .reset = tell_reset,
        .datagram = tell_datagram,
        .done = tell_done,
        .event = tell_event,
    };
    struct ab_error err = {0};

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
    if (ab_quic_new(&self->engine, &config, &sink, &err)) {
        self->engine = NULL;
        ab_module_raise(&err);
        return -1;
    }
    return 0;
}

static void quic_dealloc(PyObject *object)
{
    struct quic_object *self = (struct quic_object *)object;
    PyTypeObject *type = Py_TYPE(object);

    if (self->engine)
        ab_quic_free(self->engine);
    Py_XDECREF(self->told);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* enter: the object, if it is open and nobody is inside; NULL with an exception otherwise. Everything runs under the
 * GIL and calls no Python code from inside, so only a finalizer could ever come twice. */
static struct quic_object *enter(PyObject *object)
{
    struct quic_object *self = (struct quic_object *)object;

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

/* leave: `result`, or a MemoryError where something that the engine told could not be kept. */
static PyObject *leave(struct quic_object *self, PyObject *result)
{
    self->inside = false;
    if (!self->lost)
        return result;
    self->lost = false;
    Py_XDECREF(result);
    return PyErr_NoMemory();
}

/* --- datagrams ------------------------------------------------------------------------------------------------- */

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

static PyObject *quic_rx(PyObject *object, PyObject *args)
{
    struct quic_object *self;
    struct ab_dgram *d;
    PyObject *list, *mine;
    Py_ssize_t count;
    uint64_t now;

    if (!PyArg_ParseTuple(args, "O!O&", &PyList_Type, &list, ab_module_u64, &now))
        return NULL;
    count = PyList_Size(list);
    d = PyMem_Calloc((size_t)count + 1, sizeof(*d));
    if (!d)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++)
        if (!dgram_set(&d[i], PyList_GetItem(list, i))) {
            dgrams_free(d, count);
            return NULL;
        }
    mine = PyBytes_FromStringAndSize(NULL, count);
    self = mine ? enter(object) : NULL;
    if (!self) {
        Py_XDECREF(mine);
        dgrams_free(d, count);
        return NULL;
    }
    memset(PyBytes_AsString(mine), 0, (size_t)count);
    ab_quic_rx(self->engine, d, (uint8_t *)PyBytes_AsString(mine), (uint32_t)count, now);
    dgrams_free(d, count);
    return leave(self, mine);
}

static PyObject *quic_tx(PyObject *object, PyObject *args)
{
    struct quic_object *self;
    struct ab_quic_out *out;
    uint32_t most = 64, room = 1500, count = 0;
    PyObject *list = NULL;
    uint64_t now;

    if (!PyArg_ParseTuple(args, "O&|O&O&", ab_module_u64, &now, ab_module_u32, &most, ab_module_u32, &room) ||
        !(self = enter(object)))
        return NULL;
    if (most > 4096 || room > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "at most 4096 datagrams of 65535 bytes at once");
        return leave(self, NULL);
    }
    out = PyMem_Calloc((size_t)most + 1, sizeof(*out));
    if (!out) {
        PyErr_NoMemory();
        return leave(self, NULL);
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
    return leave(self, list);
}

static PyObject *quic_deadline(PyObject *object, PyObject *unused)
{
    struct quic_object *self = enter(object);

    (void)unused;
    return self ? leave(self, PyLong_FromUnsignedLongLong(ab_quic_deadline(self->engine))) : NULL;
}

/* --- connections ----------------------------------------------------------------------------------------------- */

static PyObject *quic_adopt(PyObject *object, PyObject *args)
{
    enum ab_quic_refusal why = AB_QUIC_REFUSED_NONE;
    struct quic_object *self;
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
    self = enter(object);
    if (!self) {
        PyMem_Free(state);
        return NULL;
    }
    ab_quic_adopt(self->engine, state, now, &why);
    PyMem_Free(state);
    return leave(self, PyLong_FromLong(why));
}

static PyObject *quic_send(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"conn", "how", "data", "now", "stream", "token", "fin", "expires", NULL};
    struct ab_quic_msg message = {0};
    struct ab_quic_conn *c;
    struct quic_object *self;
    const char *data;
    Py_ssize_t len;
    uint64_t conn, now;
    uint32_t how;
    int fin = 0, code = AB_QUIC_ECLOSED;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&y#O&|O&O&pO&", names, ab_module_u64, &conn, ab_module_u32, &how,
                                     &data, &len, ab_module_u64, &now, ab_module_u64, &message.stream, ab_module_u64,
                                     &message.token, &fin, ab_module_u64, &message.expires) ||
        !(self = enter(object)))
        return NULL;
    if (len > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a message has fewer than 2^32 bytes");
        return leave(self, NULL);
    }
    message.how = (enum ab_quic_send)how;
    message.fin = fin;
    message.data = (const uint8_t *)data;
    message.len = (uint32_t)len;
    c = ab_quic_find(self->engine, conn);
    if (c)
        code = ab_quic_send(self->engine, c, &message, now);
    return leave(self, Py_BuildValue("(iK)", code, (unsigned long long)message.stream));
}

static PyObject *quic_send_crypto(PyObject *object, PyObject *args)
{
    struct quic_object *self;
    struct ab_quic_conn *c;
    const char *data;
    Py_ssize_t len;
    uint64_t conn;

    if (!PyArg_ParseTuple(args, "O&y#", ab_module_u64, &conn, &data, &len) || !(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return leave(self, PyLong_FromLong(c ? ab_quic_send_crypto(self->engine, c, (const uint8_t *)data, (uint32_t)len)
                                         : AB_QUIC_ECLOSED));
}

typedef int stream_call(struct ab_quic *, struct ab_quic_conn *, uint64_t, uint64_t);

static PyObject *on_stream(PyObject *object, PyObject *args, stream_call *call)
{
    uint64_t conn, stream, code;
    struct quic_object *self;
    struct ab_quic_conn *c;

    if (!PyArg_ParseTuple(args, "O&O&O&", ab_module_u64, &conn, ab_module_u64, &stream, ab_module_u64, &code) ||
        !(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return leave(self, PyLong_FromLong(c ? call(self->engine, c, stream, code) : AB_QUIC_ECLOSED));
}

static PyObject *quic_reset_stream(PyObject *object, PyObject *args)
{
    return on_stream(object, args, ab_quic_reset_stream);
}

static PyObject *quic_stop_sending(PyObject *object, PyObject *args)
{
    return on_stream(object, args, ab_quic_stop_sending);
}

static PyObject *quic_update_keys(PyObject *object, PyObject *args)
{
    struct quic_object *self;
    struct ab_quic_conn *c;
    uint64_t conn, now;

    if (!PyArg_ParseTuple(args, "O&O&", ab_module_u64, &conn, ab_module_u64, &now) || !(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return leave(self, PyLong_FromLong(c ? ab_quic_update_keys(self->engine, c, now) : AB_QUIC_ECLOSED));
}

static PyObject *quic_ping(PyObject *object, PyObject *arg)
{
    struct quic_object *self;
    struct ab_quic_conn *c;
    uint64_t conn;

    if (!ab_module_u64(arg, &conn) || !(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (c)
        ab_quic_ping(self->engine, c);
    return leave(self, PyBool_FromLong(c != NULL));
}

static PyObject *quic_stock(PyObject *object, PyObject *args)
{
    struct ab_quic_cid cids[AB_QUIC_CIDS];
    struct quic_object *self;
    struct ab_quic_conn *c;
    const char *bytes;
    Py_ssize_t len;
    uint64_t conn;

    if (!PyArg_ParseTuple(args, "O&y#", ab_module_u64, &conn, &bytes, &len))
        return NULL;
    if (len > (Py_ssize_t)sizeof(cids) || len % (Py_ssize_t)sizeof(*cids))
        return PyErr_Format(PyExc_ValueError, "%zd bytes are not up to %zu connection IDs", len, AB_ARRAY_LEN(cids));
    memcpy(cids, bytes, (size_t)len);
    if (!(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return leave(self, PyLong_FromUnsignedLong(
                           c ? ab_quic_stock(self->engine, c, cids, (uint32_t)((size_t)len / sizeof(*cids))) : 0));
}

static PyObject *quic_set_path(PyObject *object, PyObject *args)
{
    struct quic_object *self;
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
    if (!(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    return leave(self, PyLong_FromLong(c ? ab_quic_set_path(self->engine, c, &path, now) : AB_QUIC_ECLOSED));
}

static PyObject *quic_trace(PyObject *object, PyObject *args)
{
    struct quic_object *self;
    struct ab_quic_conn *c;
    uint64_t conn;
    uint32_t bits;

    if (!PyArg_ParseTuple(args, "O&O&", ab_module_u64, &conn, ab_module_u32, &bits) || !(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (c)
        ab_quic_trace(self->engine, c, bits);
    return leave(self, PyBool_FromLong(c != NULL));
}

static PyObject *quic_close(PyObject *object, PyObject *args)
{
    struct quic_object *self;
    struct ab_quic_conn *c;
    const char *reason;
    Py_ssize_t len;
    uint64_t conn, code, now;
    int app;

    if (!PyArg_ParseTuple(args, "O&pO&y#O&", ab_module_u64, &conn, &app, ab_module_u64, &code, &reason, &len,
                          ab_module_u64, &now) ||
        !(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (c)
        ab_quic_close(self->engine, c, app, code, reason, (uint32_t)len, now);
    return leave(self, PyBool_FromLong(c != NULL));
}

static PyObject *quic_drop(PyObject *object, PyObject *args)
{
    struct quic_object *self;
    struct ab_quic_conn *c;
    uint64_t conn, now;

    if (!PyArg_ParseTuple(args, "O&O&", ab_module_u64, &conn, ab_module_u64, &now) || !(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (c)
        ab_quic_drop(self->engine, c, now);
    return leave(self, PyBool_FromLong(c != NULL));
}

static PyObject *quic_close_all(PyObject *object, PyObject *args)
{
    struct quic_object *self;
    const char *reason;
    Py_ssize_t len;
    uint64_t code, now;
    int app;

    if (!PyArg_ParseTuple(args, "pO&y#O&", &app, ab_module_u64, &code, &reason, &len, ab_module_u64, &now) ||
        !(self = enter(object)))
        return NULL;
    ab_quic_close_all(self->engine, app, code, reason, (uint32_t)len, now);
    return leave(self, Py_NewRef(Py_None));
}

/* --- what others may see --------------------------------------------------------------------------------------- */

struct number {
    const char *name;
    uint64_t value;
};

static PyObject *dict_of(const struct number *numbers, size_t count)
{
    PyObject *dict = PyDict_New();

    for (size_t i = 0; dict && i < count; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(numbers[i].value);

        if (!value || PyDict_SetItemString(dict, numbers[i].name, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *quic_info(PyObject *object, PyObject *arg)
{
    struct ab_quic_info i = {0};
    struct quic_object *self;
    struct ab_quic_conn *c;
    PyObject *dict;
    uint64_t conn;

    if (!ab_module_u64(arg, &conn) || !(self = enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (!c)
        return leave(self, Py_NewRef(Py_None));
    ab_quic_conn_info(self->engine, c, &i);
#define NUMBER(name) {#name, (uint64_t)i.name}
#define COUNTED(name)                                                                                                  \
    {                                                                                                                  \
#name, i.counts.name                                                                                           \
    }
    {
        const struct number numbers[] = {
            NUMBER(id),
            NUMBER(role),
            NUMBER(state),
            NUMBER(suite),
            NUMBER(tx_generation),
            NUMBER(rx_generation),
            NUMBER(mtu),
            NUMBER(srtt_ns),
            NUMBER(rttvar_ns),
            NUMBER(min_rtt_ns),
            NUMBER(latest_rtt_ns),
            NUMBER(cwnd),
            NUMBER(in_flight),
            NUMBER(pto_ns),
            NUMBER(next_pn),
            NUMBER(queued),
            NUMBER(unacked),
            NUMBER(uni_opened),
            NUMBER(uni_limit),
            NUMBER(bidi_opened),
            NUMBER(bidi_limit),
            NUMBER(data_sent),
            NUMBER(data_limit),
            NUMBER(streams),
            NUMBER(adopted_ns),
            NUMBER(ecn),
            COUNTED(packets_sent),
            COUNTED(packets_received),
            COUNTED(packets_lost),
            COUNTED(packets_spurious),
            COUNTED(packets_duplicate),
            COUNTED(packets_undecryptable),
            COUNTED(bytes_sent),
            COUNTED(bytes_received),
            COUNTED(messages_sent),
            COUNTED(messages_acked),
            COUNTED(messages_failed),
            COUNTED(messages_resent),
            COUNTED(streams_received),
            COUNTED(stream_bytes_received),
            COUNTED(datagrams_sent),
            COUNTED(datagrams_received),
            COUNTED(ptos),
            COUNTED(congestion_events),
            COUNTED(blocked_credit_ns),
            COUNTED(blocked_window_ns),
            COUNTED(key_updates),
            COUNTED(migrations),
        };

        dict = dict_of(numbers, AB_ARRAY_LEN(numbers));
    }
#undef NUMBER
#undef COUNTED
    if (dict && i.path) {
        PyObject *path = PyBytes_FromStringAndSize((const char *)i.path, sizeof(*i.path));

        if (!path || PyDict_SetItemString(dict, "path", path) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(path);
    }
    return leave(self, dict);
}

static PyObject *quic_totals(PyObject *object, PyObject *unused)
{
    struct quic_object *self = enter(object);
    struct ab_quic_totals t = {0};

    (void)unused;
    if (!self)
        return NULL;
    ab_quic_totals(self->engine, &t);
#define NUMBER(name) {#name, t.name}
    {
        const struct number numbers[] = {
            NUMBER(connections),  NUMBER(adopted),          NUMBER(refused),
            NUMBER(refused_full), NUMBER(rx_datagrams),     NUMBER(rx_unknown),
            NUMBER(rx_malformed), NUMBER(tx_datagrams),     NUMBER(slots),
            NUMBER(slots_used),   NUMBER(blocks),           NUMBER(blocks_used),
            NUMBER(objects),      NUMBER(objects_used),     NUMBER(pushed_back),
            NUMBER(memory_bytes), NUMBER(connection_bytes),
        };

        return leave(self, dict_of(numbers, AB_ARRAY_LEN(numbers)));
    }
#undef NUMBER
}

static PyObject *quic_crypto_name(PyObject *object, PyObject *unused)
{
    struct quic_object *self = enter(object);
    const char *reason = "", *name;

    (void)unused;
    if (!self)
        return NULL;
    name = ab_quic_crypto_name(self->engine, &reason);
    return leave(self, Py_BuildValue("(ss)", name, reason));
}

/* quic_events hands over the list and begins a new one. */
static PyObject *quic_events(PyObject *object, PyObject *unused)
{
    struct quic_object *self = enter(object);
    PyObject *told, *fresh;

    (void)unused;
    if (!self)
        return NULL;
    fresh = PyList_New(0);
    if (!fresh)
        return leave(self, NULL);
    told = self->told;
    self->told = fresh;
    return leave(self, told);
}

static PyObject *quic_free(PyObject *object, PyObject *unused)
{
    struct quic_object *self = (struct quic_object *)object;

    (void)unused;
    if (self->engine && !enter(object))
        return NULL;
    if (self->engine)
        ab_quic_free(self->engine);
    self->engine = NULL;
    self->inside = false;
    Py_RETURN_NONE;
}

static PyMethodDef quic_methods[] = {
    {"adopt", quic_adopt, METH_VARARGS, "adopt(struct ab_quic_adopt, now) -> QuicRefusal"},
    {"rx", quic_rx, METH_VARARGS, "rx([(data, src, sport, dst, dport, tos)], now) -> a byte each, 1: was ours"},
    {"tx", quic_tx, METH_VARARGS, "tx(now, most=64, room=1500) -> [(data, struct ab_path, conn, ecn, probe)]"},
    {"deadline", quic_deadline, METH_NOARGS, "deadline() -> when tx has something to do; 0: now, 2**64-1: never"},
    {"send", (PyCFunction)(void (*)(void))quic_send, METH_VARARGS | METH_KEYWORDS,
     "send(conn, QuicSend, data, now, stream=0, token=0, fin=False, expires=0) -> (0 or AB_QUIC_E..., stream)"},
    {"send_crypto", quic_send_crypto, METH_VARARGS, "send_crypto(conn, data) -> 0 or AB_QUIC_E..."},
    {"reset_stream", quic_reset_stream, METH_VARARGS, "reset_stream(conn, stream, code) -> 0 or AB_QUIC_E..."},
    {"stop_sending", quic_stop_sending, METH_VARARGS, "stop_sending(conn, stream, code) -> 0 or AB_QUIC_E..."},
    {"update_keys", quic_update_keys, METH_VARARGS, "update_keys(conn, now) -> 0 or AB_QUIC_E..."},
    {"ping", quic_ping, METH_O, "ping(conn) -> whether there is such a connection"},
    {"stock", quic_stock, METH_VARARGS, "stock(conn, packed struct ab_quic_cid ...) -> how many were taken"},
    {"set_path", quic_set_path, METH_VARARGS, "set_path(conn, struct ab_path, now) -> 0 or AB_QUIC_E..."},
    {"trace", quic_trace, METH_VARARGS, "trace(conn, bits) -> whether there is such a connection"},
    {"close", quic_close, METH_VARARGS, "close(conn, app, code, reason, now) -> whether there is such a connection"},
    {"drop", quic_drop, METH_VARARGS, "drop(conn, now) -> whether there is such a connection"},
    {"close_all", quic_close_all, METH_VARARGS, "close_all(app, code, reason, now)"},
    {"info", quic_info, METH_O, "info(conn) -> dict, None: no such connection"},
    {"totals", quic_totals, METH_NOARGS, "totals() -> dict"},
    {"crypto_name", quic_crypto_name, METH_NOARGS, "crypto_name() -> (backend, why not the fast one)"},
    {"events", quic_events, METH_NOARGS,
     "events() -> what was told since: ('data' | 'reset' | 'datagram' | 'done' | "
     "'event', conn, ...)"},
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
    .basicsize = sizeof(struct quic_object),
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
