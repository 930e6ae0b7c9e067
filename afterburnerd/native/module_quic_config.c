/* Settings of an engine from keyword arguments: one table says which there are and how large each may be. */
#include "module_quic.h"

#include <stddef.h>
#include <string.h>

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
    SETTING(connections_limit, UINT32_MAX),
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
    SETTING(hystart, 1),
    SETTING(ack_threshold, UINT32_MAX),
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
