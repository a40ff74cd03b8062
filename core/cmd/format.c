#include "core/cmd/format.h"

#include <stdio.h>

#include "core/mail/address.h"
#include "core/mail/date.h"
#include "core/mail/json.h"
#include "io/base/clock.h"

#define REASON_WIDTH 76 /* reasons end at column 78, with their parentheses */

const char *format_queue_name(enum queue_name queue)
{
    switch (queue) {
    case QUEUE_INCOMING:
        return "incoming";
    case QUEUE_ACTIVE:
        return "active";
    case QUEUE_DEFERRED:
        return "deferred";
    case QUEUE_HOLD:
        return "hold";
    case QUEUE_CORRUPT:
        return "corrupt";
    case QUEUE_ANY:
        break;
    }
    return "unknown";
}

bool format_rcpt_left(const struct rcpt *r)
{
    return r->state == RCPT_TODO || r->state == RCPT_DEFERRED;
}

bool format_id_valid(struct str id)
{
    for (size_t i = 0; i < id.len; i++)
        if (!str_is_alnum(id.ptr[i]) && id.ptr[i] != '_')
            return false;
    return id.len > 0 && id.len <= 100;
}

static void add_sender(struct buf *out, const struct envelope *env)
{
    if (env->sender.len == 0)
        buf_add_c(out, "MAILER-DAEMON");
    else
        address_quote_to(out, env->sender);
}

/* --- mailq */

void format_list_head(struct buf *out, bool long_ids)
{
    buf_add_c(out, long_ids
                       ? "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
                       : "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n");
}

/* A reason stands before the first of the recipients in a row that share it. */
static void list_rcpt(struct buf *out, bool long_ids, const struct rcpt *r, struct str *reason)
{
    if (!str_eq(*reason, r->why.text)) {
        *reason = r->why.text;
        int pad = REASON_WIDTH - (int)str_head(*reason, REASON_WIDTH).len;
        if (reason->len > 0)
            buf_printf(out, "%*s(%.*s)\n", pad, "", STR_ARG(*reason));
    }
    buf_printf(out, "%*s", long_ids ? 47 : 41, "");
    address_quote_to(out, r->address);
    buf_add_char(out, '\n');
}

void format_list_entry(struct buf *out, bool long_ids, const struct queue_entry *e)
{
    char id[QUEUE_ID_MAX + 2], date[DATE_TEXT_MAX];
    snprintf(id, sizeof(id), "%s%s%s", e->id,
             e->queue == QUEUE_ACTIVE ? "*" : e->queue == QUEUE_HOLD ? "!" : "",
             e->forced_expire ? "#" : "");
    date_ctime(e->env->arrival_us, date);
    unsigned long long size = e->env->data_size;
    if (long_ids)
        buf_printf(out, "%-17s %8llu %-19.19s ", id, size, date);
    else
        buf_printf(out, "%-11s %7llu %-20.20s ", id, size, date);
    add_sender(out, e->env);
    buf_add_char(out, '\n');
    struct str reason = STR("");
    for (int with_reason = 1; with_reason >= 0; with_reason--)
        for (size_t i = 0; i < e->env->rcpt_count; i++) {
            const struct rcpt *r = &e->env->rcpts[i];
            if (format_rcpt_left(r) && (r->why.text.len > 0) == with_reason)
                list_rcpt(out, long_ids, r, &reason);
        }
    buf_add_char(out, '\n');
}

void format_list_foot(struct buf *out, uint64_t bytes, uint64_t count)
{
    buf_printf(out, "-- %llu Kbytes in %llu Request%s.\n", (unsigned long long)bytes / 1024,
               (unsigned long long)count, count == 1 ? "" : "s");
}

/* --- JSON */

static void json_rcpts(struct buf *out, const struct envelope *env)
{
    struct buf address = {0};
    bool any = false;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        const struct rcpt *r = &env->rcpts[i];
        if (!format_rcpt_left(r))
            continue;
        buf_add_c(out, any ? ", {\"address\": " : "{\"address\": ");
        any = true;
        buf_reset(&address);
        address_quote_to(&address, r->address);
        json_string(out, buf_str(&address));
        if (r->why.text.len > 0) {
            buf_add_c(out, ", \"delay_reason\": ");
            json_string(out, r->why.text);
        }
        buf_add_char(out, '}');
    }
    buf_fini(&address);
}

void format_json_entry(struct buf *out, const struct queue_entry *e)
{
    struct buf sender = {0};
    buf_printf(out, "{\"queue_name\": \"%s\", \"queue_id\": \"%s\", \"arrival_time\": %lld, "
               "\"message_size\": %llu, \"forced_expire\": %s, \"sender\": ",
               format_queue_name(e->queue), e->id, (long long)(e->env->arrival_us / US_PER_S),
               (unsigned long long)e->env->data_size, e->forced_expire ? "true" : "false");
    add_sender(&sender, e->env);
    json_string(out, buf_str(&sender));
    buf_fini(&sender);
    buf_add_c(out, ", \"recipients\": [");
    json_rcpts(out, e->env);
    buf_add_c(out, "]}\n");
}

/* --- postcat */

/* hash_queue_names = deferred, defer with hash_queue_depth = 1: the first digit of the microseconds. */
void format_path(struct buf *out, const struct queue_entry *e)
{
    uint64_t seq;
    uint32_t usec = 0;
    buf_printf(out, "%s/", format_queue_name(e->queue));
    if (e->queue == QUEUE_DEFERRED && queue_id_parse(str_of(e->id), &seq, &usec))
        buf_printf(out, "%X/", usec >> 16);
    buf_add_c(out, e->id);
}
