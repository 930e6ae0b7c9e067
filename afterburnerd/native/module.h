/* module.h - what the binding files share: one translation of errors, and the types that they add to the module. */
#ifndef AB_MODULE_H
#define AB_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base.h"

/* ab_module_raise sets OSError(errno, text), or the subclass of that errno (codes of our own have none: 0), and returns
 * NULL. */
PyObject *ab_module_raise(const struct ab_error *err);

/* ab_module_none: None, or the exception of a failed call. */
PyObject *ab_module_none(int rc, const struct ab_error *err);

/* ab_module_u16, _u32, _u64: converters ("O&") for unsigned integers. CPython's own formats for them ("H", "I", "K")
 * let what does not fit wrap around in silence. Takes int objects only, so no code of the caller runs. */
int ab_module_u16(PyObject *object, void *out);
int ab_module_u32(PyObject *object, void *out);
int ab_module_u64(PyObject *object, void *out);

/* AB_UNLOCKED runs a call that may take long without the GIL. Meanwhile `object->busy` is set, and whoever else comes
 * is refused: an object has one owner. Parse arguments before asking for `busy`: parsing may run Python. */
#define AB_UNLOCKED(object, call)                                                                                      \
    do {                                                                                                               \
        (object)->busy = true;                                                                                         \
        Py_BEGIN_ALLOW_THREADS;                                                                                        \
        call;                                                                                                          \
        Py_END_ALLOW_THREADS;                                                                                          \
        (object)->busy = false;                                                                                        \
    } while (0)

/* ab_module_quic_config: a dictionary of settings (NULL: none) into a configuration; -1 with an exception set. Its text
 * is that of the dictionary. */
struct ab_quic_config;
int ab_module_quic_config(struct ab_quic_config *config, PyObject *settings);

/* Each adds its types or functions to the module; -1 with an exception set on failure. */
int ab_module_add_bpf(PyObject *module);
int ab_module_add_quic(PyObject *module);
int ab_module_add_quic_crypto(PyObject *module);
int ab_module_add_solana_tx(PyObject *module);
int ab_module_add_worker(PyObject *module);

#endif
