/* The transport error codes of QUIC (RFC 9000 section 20.1), by which a connection is closed.
 *
 * They stand apart because everything that reads what a peer said returns one: 0 where all is well, else the code that
 * belongs into CONNECTION_CLOSE. They are positive, so they cannot be taken for an AB_E. */
#ifndef AB_QUIC_ERROR_H
#define AB_QUIC_ERROR_H

enum ab_quic_error {
    AB_QUIC_ERROR_NONE = 0x00,                   /* NO_ERROR: closed without a fault */
    AB_QUIC_ERROR_INTERNAL = 0x01,               /* INTERNAL_ERROR: our fault, we cannot go on */
    AB_QUIC_ERROR_CONNECTION_REFUSED = 0x02,     /* CONNECTION_REFUSED: a server that does not want it */
    AB_QUIC_ERROR_FLOW_CONTROL = 0x03,           /* FLOW_CONTROL_ERROR: more data than allowed */
    AB_QUIC_ERROR_STREAM_LIMIT = 0x04,           /* STREAM_LIMIT_ERROR: more streams than allowed */
    AB_QUIC_ERROR_STREAM_STATE = 0x05,           /* STREAM_STATE_ERROR: a frame that the stream's state forbids */
    AB_QUIC_ERROR_FINAL_SIZE = 0x06,             /* FINAL_SIZE_ERROR: the size of a stream changed, or is exceeded */
    AB_QUIC_ERROR_FRAME_ENCODING = 0x07,         /* FRAME_ENCODING_ERROR: a frame that cannot be read */
    AB_QUIC_ERROR_TRANSPORT_PARAMETER = 0x08,    /* TRANSPORT_PARAMETER_ERROR */
    AB_QUIC_ERROR_CONNECTION_ID_LIMIT = 0x09,    /* CONNECTION_ID_LIMIT_ERROR: more connection IDs than allowed */
    AB_QUIC_ERROR_PROTOCOL_VIOLATION = 0x0a,     /* PROTOCOL_VIOLATION: what no other code says better */
    AB_QUIC_ERROR_INVALID_TOKEN = 0x0b,          /* INVALID_TOKEN: of an Initial; the supervisor's business */
    AB_QUIC_ERROR_APPLICATION = 0x0c,            /* APPLICATION_ERROR: the application closed before 1-RTT */
    AB_QUIC_ERROR_CRYPTO_BUFFER_EXCEEDED = 0x0d, /* CRYPTO_BUFFER_EXCEEDED: CRYPTO data beyond what we keep */
    AB_QUIC_ERROR_KEY_UPDATE = 0x0e,             /* KEY_UPDATE_ERROR (RFC 9001 section 6) */
    AB_QUIC_ERROR_AEAD_LIMIT_REACHED = 0x0f,     /* AEAD_LIMIT_REACHED (RFC 9001 section 6.6) */
    AB_QUIC_ERROR_NO_VIABLE_PATH = 0x10,         /* NO_VIABLE_PATH: e.g. one that carries less than 1,200 bytes */
    AB_QUIC_ERROR_CRYPTO = 0x100,                /* CRYPTO_ERROR + a TLS alert */
};

#endif
