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

/* Each adds its types or functions to the module; -1 with an exception set on failure. */
int ab_module_add_bpf(PyObject *module);
int ab_module_add_solana_tx(PyObject *module);
int ab_module_add_worker(PyObject *module);

#endif
