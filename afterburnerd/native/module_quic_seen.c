/* What others may see of an engine: numbers of a connection and of the whole, as dictionaries. */
#include "module_quic.h"

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

PyObject *ab_module_quic_info(PyObject *object, PyObject *arg)
{
    struct ab_quic_info i = {0};
    struct ab_module_quic *self;
    struct ab_quic_conn *c;
    PyObject *dict;
    uint64_t conn;

    if (!ab_module_u64(arg, &conn) || !(self = ab_module_quic_enter(object)))
        return NULL;
    c = ab_quic_find(self->engine, conn);
    if (!c)
        return ab_module_quic_leave(self, Py_NewRef(Py_None));
    ab_quic_conn_info(self->engine, c, &i);
#define NUMBER(name) {#name, (uint64_t)i.name}
#define ROW(name)                                                                                                      \
    {                                                                                                                  \
#name, (uint64_t)i.row.name                                                                                    \
    }
#define COUNTED(name)                                                                                                  \
    {                                                                                                                  \
#name, i.row.counts.name                                                                                       \
    }
    {
        const struct number numbers[] = {
            ROW(id),
            ROW(role),
            ROW(state),
            ROW(suite),
            ROW(tx_generation),
            ROW(rx_generation),
            ROW(mtu),
            ROW(srtt_ns),
            ROW(rttvar_ns),
            ROW(min_rtt_ns),
            ROW(latest_rtt_ns),
            ROW(cwnd),
            ROW(in_flight),
            ROW(pto_ns),
            NUMBER(next_pn),
            NUMBER(queued),
            NUMBER(unacked),
            ROW(uni_opened),
            ROW(uni_limit),
            ROW(bidi_opened),
            ROW(bidi_limit),
            ROW(data_sent),
            ROW(data_limit),
            ROW(streams),
            ROW(adopted_ns),
            ROW(ecn),
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
            COUNTED(blocked_streams_ns),
            COUNTED(blocked_window_ns),
            COUNTED(key_updates),
            COUNTED(migrations),
        };

        dict = dict_of(numbers, AB_ARRAY_LEN(numbers));
    }
#undef NUMBER
#undef ROW
#undef COUNTED
    if (dict && i.path) {
        PyObject *path = PyBytes_FromStringAndSize((const char *)i.path, sizeof(*i.path));

        if (!path || PyDict_SetItemString(dict, "path", path) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(path);
    }
    return ab_module_quic_leave(self, dict);
}

PyObject *ab_module_quic_totals(PyObject *object, PyObject *unused)
{
    struct ab_module_quic *self = ab_module_quic_enter(object);
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

        return ab_module_quic_leave(self, dict_of(numbers, AB_ARRAY_LEN(numbers)));
    }
#undef NUMBER
}
