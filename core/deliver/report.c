#include "core/deliver/report.h"

#include "core/mail/address.h"
#include "io/base/buf.h"
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/log.h"

#define LINE_FIRST 511 /* the usual line */

/* Postfix's delays: two significant digits, at most two after the point, no zeros at the end
 * (delay_logging_resolution_limit). */
static void add_delay(struct buf *b, int64_t us)
{
    if (us < 0)
        us = 0;
    int64_t unit = us >= 10 * US_PER_S ? US_PER_S : us >= US_PER_S ? US_PER_S / 10 : US_PER_S / 100;
    int64_t rounded = (us + unit / 2) / unit * unit;
    buf_printf(b, "%lld", (long long)(rounded / US_PER_S));
    int64_t hundredths = rounded % US_PER_S / (US_PER_S / 100);
    if (hundredths == 0)
        return;
    if (hundredths % 10 == 0)
        buf_printf(b, ".%lld", (long long)(hundredths / 10));
    else
        buf_printf(b, ".%02lld", (long long)hundredths);
}

static void add_times(struct buf *b, const struct request *r)
{
    const struct qmsg *m = r->msg;
    int64_t now = clock_wall_us();
    int64_t arrival = m->env->arrival_us;
    int64_t ready = r->conn_done_us > r->made_us ? r->conn_done_us : r->made_us;
    buf_add_c(b, "delay=");
    add_delay(b, now - arrival);
    buf_add_c(b, ", delays=");
    add_delay(b, m->active_since_us - arrival);
    buf_add_char(b, '/');
    add_delay(b, r->made_us - m->active_since_us);
    buf_add_char(b, '/');
    add_delay(b, ready - r->made_us);
    buf_add_char(b, '/');
    add_delay(b, now - ready);
}

static void log_result(const struct service *svc, const struct request *r, const struct rcpt *rcpt,
                       const char *relay, const char *dsn, const char *status, struct str text)
{
    struct buf b = {0};
    struct str address = rcpt->resolved.len ? rcpt->resolved : rcpt->address;
    struct str to = address_quote(r->arena, address);
    buf_reserve(&b, LINE_FIRST);
    buf_printf(&b, "%s: to=<%.*s>, ", r->msg->id, STR_ARG(to));
    if (rcpt->original.len > 0 && !str_eq_nocase(rcpt->original, address)) {
        struct str orig = address_quote(r->arena, rcpt->original);
        buf_printf(&b, "orig_to=<%.*s>, ", STR_ARG(orig));
    }
    buf_printf(&b, "relay=%s, ", relay);
    if (r->conn_use > 1)
        buf_printf(&b, "conn_use=%u, ", r->conn_use);
    add_times(&b, r);
    buf_printf(&b, ", dsn=%s, status=%s (%.*s)", dsn, status, STR_ARG(text));
    log_info(svc->log_tag, "%s", b.ptr);
    buf_fini(&b);
}

/* Log and notice text is one line. */
static struct str one_line(struct arena *a, const char *text)
{
    struct str copy = arena_str(a, str_of(text));
    char *p = (char *)copy.ptr;
    for (size_t i = 0; i < copy.len; i++)
        if (p[i] == '\n' || p[i] == '\r')
            p[i] = ' ';
    return copy;
}

static void fill(struct request *r, size_t i, enum request_result result, const char *dsn,
                 struct str text, const char *mta, const char *diagnostic)
{
    struct request_rcpt *rr = &r->rcpts[i];
    CHECK(rr->result == REQUEST_PENDING);
    rr->result = result;
    rr->turn = ++r->turns;
    str_copy(rr->dsn.status, sizeof(rr->dsn.status), str_of(dsn));
    rr->dsn.text = text;
    rr->dsn.mta = arena_str(r->arena, str_of(mta));
    rr->dsn.diagnostic = arena_str(r->arena, str_of(diagnostic));
}

void report_sent(const struct service *svc, struct request *r, size_t i, const char *relay,
                 const char *dsn, const char *text)
{
    struct str line = one_line(r->arena, text);
    struct str notice = line; /* only who asked for it is told, and by which way it went */
    if (r->rcpts[i].rcpt->notify & NOTIFY_SUCCESS)
        notice = arena_printf(r->arena, "delivery via %s: %.*s", relay, STR_ARG(line));
    fill(r, i, REQUEST_SENT, dsn, notice, NULL, NULL);
    log_result(svc, r, r->rcpts[i].rcpt, relay, dsn, "sent", line);
}

void report_failed(const struct service *svc, struct request *r, size_t i, bool permanent,
                   const char *relay, const char *dsn, const char *text, const char *mta,
                   const char *diagnostic)
{
    char status[sizeof(r->rcpts[i].dsn.status)];
    const char *word = permanent ? "bounced" : "deferred";
    str_copy(status, sizeof(status), str_of(dsn));
    struct str line = one_line(r->arena, text);
    if (permanent && svc->params->soft_bounce) {
        permanent = false;
        word = "SOFTBOUNCE";
    }
    status[0] = permanent ? '5' : '4'; /* the class says what becomes of the recipient */
    fill(r, i, permanent ? REQUEST_BOUNCE : REQUEST_DEFER, status, line, mta, diagnostic);
    log_result(svc, r, r->rcpts[i].rcpt, relay, status, word, line);
}

void report_failed_rest(const struct service *svc, struct request *r, bool permanent,
                        const char *relay, const char *dsn, const char *text, const char *mta,
                        const char *diagnostic)
{
    for (size_t i = 0; i < r->rcpt_count; i++)
        if (r->rcpts[i].result == REQUEST_PENDING)
            report_failed(svc, r, i, permanent, relay, dsn, text, mta, diagnostic);
}

void report_damaged(const struct service *svc, struct request *r, const char *relay, const char *why)
{
    static const char text[] = "unreadable mail queue entry";
    r->damaged = true;
    log_warning(svc->log_tag, "%s", why);
    for (size_t i = 0; i < r->rcpt_count; i++) {
        if (r->rcpts[i].result != REQUEST_PENDING)
            continue;
        fill(r, i, REQUEST_DEFER, "5.3.0", str_of(text), NULL, NULL);
        log_result(svc, r, r->rcpts[i].rcpt, relay, "5.3.0", "bounced", str_of(text));
    }
}
