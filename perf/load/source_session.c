/* source_session: one session after the other against the server under load, top to bottom as RFC
 * 5321 has it. What goes wrong is counted under its stage; nothing here ends the program. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/net/sock.h"
#include "io/net/stream.h"
#include "perf/load/report.h"
#include "perf/load/source.h"

enum { REPLY_LINE_MAX = 1000, RCPTS_MAX = 10000, ID_LEN = 19 };

struct session {
    struct load *load;
    struct gang *gang;
    struct stream *stream; /* NULL: no connection */
    uint64_t on_connection; /* messages begun on it */
    bool pipelining, must_reset;
    int64_t deadline_ns; /* of the step that runs */
    int64_t data_ns;     /* when DATA left */
    int code;            /* of the last reply */
    char text[128];      /* its last line */
    struct buf header;
    char id[ID_LEN + 1];
    uint64_t number; /* of this attempt: addresses are made from it */
    uint64_t rcpts;
    size_t size;
};

/* ACCEPTED, or why not. BROKEN: the connection cannot be used any more. STALE: it could not, since the
 * message before; the server did not see this one. */
enum outcome { ACCEPTED, REFUSED, BROKEN, STALE };

static void note(struct session *s, enum stage stage, const char *text)
{
    char *example = s->gang->last_trouble[stage];
    if (example[0] == '\0')
        str_copy(example, sizeof s->gang->last_trouble[stage], str_of(text));
}

static enum outcome broken(struct session *s, enum stage stage, const struct err *e)
{
    note(s, stage, e->text);
    tally_add(&s->gang->tally.broken[stage], 1);
    return BROKEN;
}

/* 421 says that the server closes the connection. */
static enum outcome refused(struct session *s, enum stage stage)
{
    note(s, stage, s->text);
    tally_add(&s->gang->tally.refused[stage][s->code / 100 == 4 ? 0 : 1], 1);
    return s->code == 421 ? BROKEN : REFUSED;
}

/* A server may close a connection that idles: at the first word of a further message this shows. */
static enum outcome stale(struct session *s)
{
    tally_add(&s->gang->tally.stale, 1);
    return STALE;
}

static enum outcome broken_at_mail(struct session *s, const struct err *e)
{
    return s->on_connection > 1 && e->kind != ERR_TIMEOUT ? stale(s) : broken(s, STAGE_MAIL, e);
}

static enum outcome refused_at_mail(struct session *s)
{
    return s->on_connection > 1 && s->code == 421 ? stale(s) : refused(s, STAGE_MAIL);
}

static void begin_step(struct session *s)
{
    s->deadline_ns = clock_mono_ns() + s->load->timeout_ns;
}

/* One whole reply: its code, and the text of its last line. `seen` (may be NULL) is shown each line. */
static struct err *read_reply(struct session *s, void (*seen)(struct session *s, struct str line))
{
    for (;;) {
        struct line line;
        struct err *e = stream_line(s->stream, REPLY_LINE_MAX, s->deadline_ns, &line);
        if (e)
            return e;
        uint64_t code;
        if (line.text.len < 3 || !str_u64(str_head(line.text, 3), &code))
            return err_new(ERR_PROTOCOL, 0, "not a reply: %.60s", line.text.ptr);
        if (seen)
            seen(s, line.text);
        if (line.text.len > 3 && line.text.ptr[3] == '-')
            continue;
        s->code = (int)code;
        if (code >= 400)
            str_copy(s->text, sizeof s->text, line.text);
        return NULL;
    }
}

static struct err *put(struct session *s, struct str text)
{
    return stream_put(s->stream, text, s->deadline_ns);
}

/* --- the connection */

static void close_connection(struct session *s)
{
    if (s->stream == NULL)
        return;
    stream_free(s->stream);
    s->stream = NULL;
    tally_add(&s->gang->tally.open, UINT64_MAX);
}

static void quit(struct session *s)
{
    begin_step(s);
    struct err *e = put(s, STR("QUIT\r\n"));
    if (!e)
        e = stream_flush(s->stream, s->deadline_ns);
    if (!e)
        (void)!read_reply(s, NULL); /* nobody is interested, but the server closes first */
    close_connection(s);
}

static void ehlo_line(struct session *s, struct str line)
{
    if (str_eq_nocase(str_from(line, 4), STR("PIPELINING")))
        s->pipelining = s->load->pipelining;
}

static struct err *connect_to_target(struct session *s)
{
    struct load *l = s->load;
    uint64_t n = atomic_fetch_add_explicit(&l->next_target, 1, memory_order_relaxed);
    const struct addr *target = &l->targets[n % l->target_count];
    const struct addr *from = l->bind_count > 0 ? &l->binds[n % l->bind_count] : NULL;
    int fd;
    struct err *e = sock_connect(target, from, s->deadline_ns, &fd);
    if (e)
        return e;
    s->stream = stream_new(fd);
    s->on_connection = 0;
    s->pipelining = s->must_reset = false;
    tally_add(&s->gang->tally.connections, 1);
    tally_add(&s->gang->tally.open, 1);
    return NULL;
}

static enum outcome hello(struct session *s)
{
    int64_t start = clock_mono_ns();
    begin_step(s);
    struct err *e = put(s, STR("EHLO "));
    if (!e)
        e = put(s, str_of(s->load->helo));
    if (!e)
        e = put(s, STR("\r\n"));
    if (!e)
        e = stream_flush(s->stream, s->deadline_ns);
    if (!e)
        e = read_reply(s, ehlo_line);
    if (e)
        return broken(s, STAGE_HELO, e);
    hist_add(&s->gang->times[STAGE_HELO], clock_mono_ns() - start);
    return s->code == 250 ? ACCEPTED : refused(s, STAGE_HELO);
}

/* Connect, banner, EHLO. STARTTLS (stream_push) and AUTH have their place behind the last. */
static enum outcome open_connection(struct session *s)
{
    int64_t start = clock_mono_ns();
    begin_step(s);
    struct err *e = connect_to_target(s);
    if (e)
        return broken(s, STAGE_CONNECT, e);
    int64_t connected = clock_mono_ns();
    hist_add(&s->gang->times[STAGE_CONNECT], connected - start);
    begin_step(s);
    e = read_reply(s, NULL);
    if (e)
        return broken(s, STAGE_BANNER, e);
    hist_add(&s->gang->times[STAGE_BANNER], clock_mono_ns() - connected);
    enum outcome o = s->code == 220 ? hello(s) : refused(s, STAGE_BANNER);
    return o == REFUSED ? BROKEN : o; /* a server that does not greet us is of no use */
}

/* --- one message */

static void put_digits(char *at, uint64_t v, int n, unsigned base)
{
    while (n-- > 0) {
        at[n] = "0123456789abcdef"[v % base];
        v /= base;
    }
}

static void new_id(struct session *s)
{
    s->number = atomic_fetch_add_explicit(&s->load->next_id, 1, memory_order_relaxed);
    put_digits(s->id, s->load->run, 8, 16);
    s->id[8] = '.';
    put_digits(s->id + 9, s->number, 10, 10);
    s->id[ID_LEN] = '\0';
}

/* The header ends with an empty line; X-Load is what smtp_sink looks for: the id, and the wall
 * clock's microseconds when the content left. */
static void make_header(struct session *s)
{
    struct buf *h = &s->header;
    char stamp[16];
    struct str id = str_make(s->id, ID_LEN);
    put_digits(stamp, (uint64_t)clock_wall_us(), sizeof stamp, 10);
    buf_reset(h);
    buf_add_c(h, "X-Load: ");
    buf_add_str(h, id);
    buf_add_char(h, ' ');
    buf_add(h, stamp, sizeof stamp);
    buf_add_c(h, "\r\nMessage-ID: <");
    buf_add_str(h, id);
    buf_add_c(h, "@load.invalid>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nFrom: <");
    pattern_make(&s->load->from, s->number, h);
    buf_add_c(h, ">\r\nTo: <");
    pattern_make(&s->load->to, s->number * s->rcpts, h);
    buf_add_c(h, ">\r\nSubject: load ");
    buf_add_str(h, id);
    buf_add_c(h, "\r\n\r\n");
}

static struct err *put_address(struct session *s, const char *verb, const struct pattern *p,
                               uint64_t number)
{
    buf_reset(&s->header);
    buf_add_c(&s->header, verb);
    pattern_make(p, number, &s->header);
    buf_add_c(&s->header, ">\r\n");
    return put(s, buf_str(&s->header));
}

static struct err *put_mail(struct session *s)
{
    return put_address(s, "MAIL FROM:<", &s->load->from, s->number);
}

static struct err *put_rcpt(struct session *s, uint64_t i)
{
    return put_address(s, "RCPT TO:<", &s->load->to, s->number * s->rcpts + i);
}

/* A reply to what was sent at `start`. */
static struct err *timed_reply(struct session *s, enum stage stage, int64_t start)
{
    struct err *e = read_reply(s, NULL);
    if (!e)
        hist_add(&s->gang->times[stage], clock_mono_ns() - start);
    return e;
}

static struct err *send_and_wait(struct session *s, enum stage stage)
{
    int64_t start = clock_mono_ns();
    s->deadline_ns = start + s->load->timeout_ns;
    struct err *e = stream_flush(s->stream, s->deadline_ns);
    return e ? e : timed_reply(s, stage, start);
}

/* MAIL, RCPT, DATA in one piece (RFC 2920). *taken_out: recipients accepted. After it s->code is
 * DATA's reply. */
static enum outcome envelope_pipelined(struct session *s, uint64_t *taken_out)
{
    bool reset = s->must_reset;
    struct err *e = reset ? put(s, STR("RSET\r\n")) : NULL;
    if (!e)
        e = put_mail(s);
    for (uint64_t i = 0; !e && i < s->rcpts; i++)
        e = put_rcpt(s, i);
    if (!e)
        e = put(s, STR("DATA\r\n"));
    int64_t start = s->data_ns = clock_mono_ns();
    if (!e)
        e = stream_flush(s->stream, s->deadline_ns);
    if (!e && reset)
        e = read_reply(s, NULL);
    s->must_reset = false;
    if (!e)
        e = timed_reply(s, STAGE_MAIL, start);
    if (e)
        return broken_at_mail(s, e);
    enum outcome result = s->code / 100 == 2 ? ACCEPTED : refused_at_mail(s);
    if (result == BROKEN || result == STALE)
        return result;
    uint64_t taken = 0;
    for (uint64_t i = 0; i < s->rcpts; i++) {
        e = timed_reply(s, STAGE_RCPT, start);
        if (e)
            return broken(s, STAGE_RCPT, e);
        if (s->code == 421)
            return refused(s, STAGE_RCPT);
        if (s->code / 100 == 2)
            taken++;
        else if (result == ACCEPTED && taken == 0 && i + 1 == s->rcpts)
            result = refused(s, STAGE_RCPT);
    }
    if (result == ACCEPTED)
        tally_add(&s->gang->tally.rcpts_refused, s->rcpts - taken);
    e = timed_reply(s, STAGE_DATA, start);
    if (e)
        return broken(s, STAGE_DATA, e);
    *taken_out = taken;
    if (s->code != 354 && result == ACCEPTED)
        result = refused(s, STAGE_DATA);
    return result;
}

/* Each command waits for its reply. */
static enum outcome envelope_stepwise(struct session *s, uint64_t *taken_out)
{
    struct err *e = s->must_reset ? put(s, STR("RSET\r\n")) : NULL;
    if (!e && s->must_reset)
        e = send_and_wait(s, STAGE_MAIL);
    s->must_reset = false;
    if (!e)
        e = put_mail(s);
    if (!e)
        e = send_and_wait(s, STAGE_MAIL);
    if (e)
        return broken_at_mail(s, e);
    if (s->code / 100 != 2)
        return refused_at_mail(s);
    uint64_t taken = 0;
    for (uint64_t i = 0; i < s->rcpts; i++) {
        e = put_rcpt(s, i);
        if (!e)
            e = send_and_wait(s, STAGE_RCPT);
        if (e)
            return broken(s, STAGE_RCPT, e);
        taken += s->code / 100 == 2;
        if (s->code == 421)
            return refused(s, STAGE_RCPT);
    }
    if (taken == 0)
        return refused(s, STAGE_RCPT);
    tally_add(&s->gang->tally.rcpts_refused, s->rcpts - taken);
    s->data_ns = clock_mono_ns();
    e = put(s, STR("DATA\r\n"));
    if (!e)
        e = send_and_wait(s, STAGE_DATA);
    if (e)
        return broken(s, STAGE_DATA, e);
    *taken_out = taken;
    return s->code == 354 ? ACCEPTED : refused(s, STAGE_DATA);
}

/* The body is the same bytes for all: only the header is made for each. */
static enum outcome content(struct session *s)
{
    make_header(s);
    size_t body = s->size > s->header.len + 2 ? s->size - s->header.len : 2;
    body += body % SOURCE_BODY_LINE == 1; /* never a line feed without its carriage return */
    s->size = s->header.len + body;
    struct iovec iov[2] = {
        {s->header.ptr, s->header.len},
        {(void *)(uintptr_t)(s->load->body_end - body), body + 3},
    };
    int64_t start = clock_mono_ns();
    s->deadline_ns = start + s->load->timeout_ns;
    struct err *e = stream_putv(s->stream, iov, 2, s->deadline_ns);
    if (!e)
        e = timed_reply(s, STAGE_DOT, start);
    if (e)
        return broken(s, STAGE_DOT, e);
    hist_add(&s->gang->times[TIME_CONTENT], clock_mono_ns() - s->data_ns);
    return s->code / 100 == 2 ? ACCEPTED : refused(s, STAGE_DOT);
}

/* RFC 2920 §3.1: a server may say 354 though no recipient was taken. */
static enum outcome empty_content(struct session *s)
{
    struct err *e = put(s, STR(".\r\n"));
    if (!e)
        e = stream_flush(s->stream, s->deadline_ns);
    if (!e)
        e = read_reply(s, NULL);
    return e ? broken(s, STAGE_DOT, e) : REFUSED;
}

static enum outcome transaction(struct session *s)
{
    uint64_t taken = 0;
    new_id(s);
    s->rcpts = (uint64_t)dist_draw(&s->load->rcpts);
    s->size = (size_t)dist_draw(&s->load->size);
    s->on_connection++;
    begin_step(s);
    s->code = 0;
    enum outcome o = s->pipelining ? envelope_pipelined(s, &taken) : envelope_stepwise(s, &taken);
    if (o == REFUSED) {
        s->must_reset = true;
        return s->code == 354 ? empty_content(s) : REFUSED;
    }
    if (o == ACCEPTED)
        o = content(s);
    if (o == ACCEPTED) {
        struct tally *t = &s->gang->tally;
        tally_add(&t->sent, 1);
        tally_add(&t->rcpts, taken);
        tally_add(&t->bytes, s->size);
        if (s->load->stamps)
            lines_add_stamped(&s->gang->acked, str_make(s->id, ID_LEN), clock_wall_us());
        else
            lines_add(&s->gang->acked, str_make(s->id, ID_LEN));
    }
    return o;
}

/* --- the fiber */

static enum outcome attempt(struct session *s)
{
    if (s->stream == NULL) {
        enum outcome o = open_connection(s);
        if (o != ACCEPTED) {
            close_connection(s);
            return o;
        }
    }
    enum outcome o = transaction(s);
    if (o == BROKEN || o == STALE)
        close_connection(s);
    else if (s->load->reuse > 0 && s->on_connection >= s->load->reuse)
        quit(s);
    return o == STALE ? attempt(s) : o; /* on a fresh one it is not STALE again */
}

static bool stopped(const struct session *s)
{
    return fiber_canceled() || atomic_load_explicit(&s->load->stop, memory_order_relaxed);
}

/* Until the server has answered yes or no; each attempt has an id of its own. */
static void deliver(struct session *s, const struct job *job)
{
    enum outcome o = attempt(s);
    while (o == BROKEN && s->load->retry && !stopped(s)) {
        if (fiber_sleep_until(clock_mono_ns() + s->load->retry_ns))
            break;
        o = attempt(s);
    }
    if (o == ACCEPTED)
        hist_add(&s->gang->times[TIME_MESSAGE], clock_mono_ns() - job->start_ns);
    else
        tally_add(&s->gang->tally.failed, 1);
    if (o == BROKEN && !s->load->retry)
        atomic_store(&s->load->stop, true);
}

void source_session(void *arg)
{
    struct gang *g = arg;
    struct session *s = MEM_NEW(struct session);
    struct job job;
    s->load = g->load;
    s->gang = g;
    while (pace_take(g, &job))
        deliver(s, &job);
    if (s->stream != NULL)
        quit(s);
    buf_fini(&s->header);
    mem_free(s);
    if (atomic_fetch_sub(&g->load->sessions_live, 1) == 1)
        main_wake();
}
