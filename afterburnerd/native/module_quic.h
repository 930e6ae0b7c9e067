/* What the files of the QuicEngine type share: the object, the way into it, and the methods that each file adds.
 *
 *   module_quic.c            the type: life and table of methods
 *   module_quic_config.c     keyword arguments -> struct ab_quic_config
 *   module_quic_told.c       what the engine tells its sink, as a list
 *   module_quic_datagrams.c  rx, tx, deadline
 *   module_quic_conns.c      what one asks of connections
 *   module_quic_seen.c       info and totals, as dictionaries
 */
#ifndef AB_MODULE_QUIC_H
#define AB_MODULE_QUIC_H

#include "module.h"
#include "quic.h"

struct ab_module_quic {
    PyObject_HEAD;
    struct ab_quic *engine;
    PyObject *told; /* list of what the sink heard */
    uint64_t room;  /* fates and events that the sink still takes */
    uint64_t full;  /* how often it had no room for one */
    bool lost;      /* memory ran out while something was told */
    bool inside;    /* the engine is running: nobody else may come in */
};

/* ab_module_quic_enter: the object, if it is open and nobody is inside; NULL with an exception otherwise. Everything
 * runs under the GIL and calls no Python code from inside, so only a finalizer could ever come twice. */
struct ab_module_quic *ab_module_quic_enter(PyObject *object);

/* ab_module_quic_leave: `result`, or a MemoryError where something that the engine told could not be kept. */
PyObject *ab_module_quic_leave(struct ab_module_quic *self, PyObject *result);

/* ab_module_quic_sink: the functions; its ctx is the object. */
extern const struct ab_quic_sink ab_module_quic_sink;

/* Methods. */
PyObject *ab_module_quic_rx(PyObject *object, PyObject *args);
PyObject *ab_module_quic_tx(PyObject *object, PyObject *args);
PyObject *ab_module_quic_deadline(PyObject *object, PyObject *unused);
PyObject *ab_module_quic_adopt(PyObject *object, PyObject *args);
PyObject *ab_module_quic_send(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *ab_module_quic_send_crypto(PyObject *object, PyObject *args);
PyObject *ab_module_quic_send_token(PyObject *object, PyObject *args);
PyObject *ab_module_quic_reset_stream(PyObject *object, PyObject *args);
PyObject *ab_module_quic_stop_sending(PyObject *object, PyObject *args);
PyObject *ab_module_quic_update_keys(PyObject *object, PyObject *args);
PyObject *ab_module_quic_ping(PyObject *object, PyObject *arg);
PyObject *ab_module_quic_stock(PyObject *object, PyObject *args);
PyObject *ab_module_quic_set_path(PyObject *object, PyObject *args);
PyObject *ab_module_quic_trace(PyObject *object, PyObject *args);
PyObject *ab_module_quic_close(PyObject *object, PyObject *args);
PyObject *ab_module_quic_drop(PyObject *object, PyObject *args);
PyObject *ab_module_quic_close_all(PyObject *object, PyObject *args);
PyObject *ab_module_quic_info(PyObject *object, PyObject *arg);
PyObject *ab_module_quic_totals(PyObject *object, PyObject *unused);
PyObject *ab_module_quic_events(PyObject *object, PyObject *unused);
PyObject *ab_module_quic_room(PyObject *object, PyObject *arg);

#endif
