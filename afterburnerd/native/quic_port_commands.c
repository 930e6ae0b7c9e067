/* What the supervisor wants of the engine: each slot of the command ring is carried out, in order, and answered where
 * it asks for an answer or cannot be done (REFUSED).
 *
 * A turn carries out at most AB_QUIC_PORT_COMMANDS, and none while the event ring has no room for its answer. The bytes
 * of ADOPT are wiped from the ring before the supervisor may write there again: they hold secrets. */
#include "hist.h"
#include "quic_port_parts.h"

#define LEAST_MTU 1200 /* RFC 9000 14 */

static void refuse(struct ab_quic_port *p, const struct ab_quic_command *command, int rc)
{
    (void)ab_quic_port_tell(p,
                            &(struct ab_quic_event){.conn = command->conn,
                                                    .time_ns = p->now,
                                                    .kind = AB_QUIC_EVENT_REFUSED,
                                                    .number = command->number,
                                                    .code = (uint64_t)-rc,
                                                    .token = command->token},
                            NULL);
}

static bool path_ok(const struct ab_quic_port *p, const struct ab_path *path)
{
    return (path->family == 4 || path->family == 6) && path->mtu >= LEAST_MTU && path->remote_port &&
           ab_quic_port_way_out(p, path);
}

static void adopt(struct ab_quic_port *p, const struct ab_quic_command *command, const uint8_t *body)
{
    const struct ab_quic_adopt *a = (const struct ab_quic_adopt *)body;
    enum ab_quic_refusal why = AB_QUIC_REFUSED_NONE;

    if (command->length != sizeof(*a))
        why = AB_QUIC_REFUSED_LENGTH;
    else if (!path_ok(p, &a->path))
        why = AB_QUIC_REFUSED_PATH;
    if (why) {
        p->refused_other++;
    } else {
        (void)ab_quic_adopt(p->quic, a, p->now, &why);
        p->refused_other += why != AB_QUIC_REFUSED_NONE && why != AB_QUIC_REFUSED_FULL;
    }
    (void)ab_quic_port_tell(p,
                            &(struct ab_quic_event){.conn = command->conn,
                                                    .time_ns = p->now,
                                                    .kind = AB_QUIC_EVENT_ADOPTED,
                                                    .number = command->number,
                                                    .code = why},
                            NULL);
}

static void send_message(struct ab_quic_port *p, struct ab_quic_conn *c, const struct ab_quic_command *command,
                         const uint8_t *data, uint32_t len)
{
    struct ab_quic_msg m = {.how = (enum ab_quic_send)command->how,
                            .fin = command->flags & AB_QUIC_SEND_FIN,
                            .stream = command->stream,
                            .token = command->token,
                            .expires = command->code,
                            .data = data,
                            .len = len};
    int rc = ab_quic_send(p->quic, c, &m, p->now);

    if (rc) {
        refuse(p, command, rc);
        return;
    }
    if (m.how == AB_QUIC_SEND_BIDI_OPEN || m.how == AB_QUIC_SEND_UNI_OPEN)
        (void)ab_quic_port_tell(p,
                                &(struct ab_quic_event){.conn = command->conn,
                                                        .time_ns = p->now,
                                                        .kind = AB_QUIC_EVENT_STREAM,
                                                        .token = command->token,
                                                        .number = m.stream},
                                NULL);
}

/* Puts together what comes in several commands. One message at a time: one that another connection's interrupts is
 * given up, and the command that would have ended it refused. */
static void gather(struct ab_quic_port *p, struct ab_quic_conn *c, const struct ab_quic_command *command,
                   const uint8_t *body)
{
    bool more = command->flags & AB_QUIC_SEND_MORE;

    if (ab_likely(!more && p->message_conn == 0)) {
        send_message(p, c, command, body, command->length);
        return;
    }
    if (p->message_conn != command->conn) {
        p->message_conn = command->conn;
        p->message_len = 0;
    }
    if (command->length > AB_QUIC_PORT_MESSAGE - p->message_len) {
        p->message_conn = 0;
        refuse(p, command, AB_QUIC_ETOOLONG);
        return;
    }
    memcpy(p->message + p->message_len, body, command->length);
    p->message_len += command->length;
    if (!more) {
        p->message_conn = 0;
        send_message(p, c, command, p->message, p->message_len);
    }
}

static int on_connection(struct ab_quic_port *p, const struct ab_quic_command *command, struct ab_quic_conn *c,
                         uint8_t *body)
{
    uint32_t count = command->length / (uint32_t)sizeof(struct ab_quic_cid);
    const struct ab_path *path = (const struct ab_path *)body;
    bool app = command->flags & AB_QUIC_CLOSE_APP;

    switch ((enum ab_quic_command_kind)command->kind) {
    case AB_QUIC_COMMAND_STOCK:
        return ab_quic_stock(p->quic, c, (const struct ab_quic_cid *)body, count) == count ? 0 : AB_QUIC_EFULL;
    case AB_QUIC_COMMAND_SEND:
        gather(p, c, command, body);
        return 0;
    case AB_QUIC_COMMAND_CLOSE:
        ab_quic_close(p->quic, c, app, command->code, (const char *)body, command->length, p->now);
        return 0;
    case AB_QUIC_COMMAND_RESET_STREAM:
        return ab_quic_reset_stream(p->quic, c, command->stream, command->code);
    case AB_QUIC_COMMAND_STOP_SENDING:
        return ab_quic_stop_sending(p->quic, c, command->stream, command->code);
    case AB_QUIC_COMMAND_PATH:
        if (command->length != sizeof(*path) || !path_ok(p, path))
            return AB_EINVAL;
        return ab_quic_set_path(p->quic, c, path, p->now);
    case AB_QUIC_COMMAND_UPDATE_KEYS:
        return ab_quic_update_keys(p->quic, c, p->now);
    case AB_QUIC_COMMAND_PING:
        ab_quic_ping(p->quic, c);
        return 0;
    case AB_QUIC_COMMAND_TRACE:
        ab_quic_trace(p->quic, c, (uint32_t)command->code);
        return 0;
    case AB_QUIC_COMMAND_DROP:
        ab_quic_drop(p->quic, c, p->now);
        return 0;
    case AB_QUIC_COMMAND_TOKEN:
        return ab_quic_send_token(p->quic, c, body, command->length);
    case AB_QUIC_COMMAND_CRYPTO:
        return ab_quic_send_crypto(p->quic, c, body, command->length);
    default:
        return AB_EINVAL;
    }
}

static void carry_out(struct ab_quic_port *p, const struct ab_quic_command *command, uint8_t *body)
{
    struct ab_quic_conn *c;
    int rc;

    switch (command->kind) {
    case AB_QUIC_COMMAND_INJECT:
        if (!ab_quic_port_take_in(p, body, command->length))
            refuse(p, command, AB_QUIC_ETOOLONG);
        return;
    case AB_QUIC_COMMAND_CLOSE_ALL:
        ab_quic_close_all(p->quic, command->flags & AB_QUIC_CLOSE_APP, command->code, (const char *)body,
                          command->length, p->now);
        return;
    default:
        c = ab_quic_find(p->quic, command->conn);
        rc = c ? on_connection(p, command, c, body) : AB_QUIC_ECLOSED;
        if (rc)
            refuse(p, command, rc);
    }
}

uint32_t ab_quic_port_commands(void *port, uint64_t now)
{
    struct ab_quic_port *p = port;
    uint32_t done = 0;

    p->now = now;
    /* The room for one event first: each command may have an answer. */
    while (ab_quic_ring_ready(&p->commands) && done < AB_QUIC_PORT_COMMANDS && ab_quic_ring_room(&p->events, 1) > 0) {
        struct ab_quic_command command;
        uint8_t *body;

        if (!ab_quic_ring_take(&p->commands, &command, &body))
            break;
        done++;
        if (command.kind == AB_QUIC_COMMAND_ADOPT) {
            /* Not from `now`: what lies between the end of a turn and this command, one time in 64 a beat, is no
             * adoption's. */
            uint64_t began = ab_now_ns();

            adopt(p, &command, body);
            ab_quic_ring_forget(&p->commands, &command);
            ab_hist_add(&p->worker->stats->adoption, ab_now_ns() - began, 1);
            break; /* the dearest command by far: one in a turn, or many together would hold the others' packets up */
        }
        carry_out(p, &command, body);
    }
    p->commands_done += done;
    for (uint32_t i = 0; i < p->from_count; i++)
        done += ab_quic_port_handed_over(p, p->from[i]);
    return done;
}
