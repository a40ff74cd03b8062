/* sink_session: one connection, as the receiver. A manner is asked at each stage that it acts on;
 * everything else is answered with yes as cheaply as can be. */
#include <stdio.h>
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/net/sock.h"
#include "io/net/stream.h"
#include "perf/load/report.h"
#include "perf/load/sink.h"

enum {
    COMMAND_MAX = 2048,
    RCPTS_MAX = 10000,
    READ_ROOM = 16 * 1024,
    READ_ROOM_LARGE = 64 * 1024,
};

struct visit {
    struct sink *sink;
    struct crew *crew;
    struct place *place;
    const struct manner *manner;
    struct stream *stream;
    int64_t deadline_ns;
    bool over;      /* the connection ends */
    bool esmtp, in_mail;
    uint64_t sender; /* hash */
    struct buf rcpts; /* hashes of those taken, 8 bytes each */
    size_t rcpt_count;
    uint64_t tried; /* RCPTs of this message, taken or not */
};

static void begin_step(struct visit *v)
{
    v->deadline_ns = clock_mono_ns() + v->sink->timeout_ns;
}

static void end_on(struct visit *v, struct err *e)
{
    if (e)
        v->over = true;
}

/* --- replies */

static void flush(struct visit *v)
{
    end_on(v, stream_flush(v->stream, v->deadline_ns));
}

/* A byte at a time. */
static void drip(struct visit *v, struct str reply)
{
    for (size_t i = 0; i < reply.len && !v->over; i++) {
        end_on(v, fiber_sleep_until(clock_mono_ns() + dist_draw(&v->manner->tarpit)));
        begin_step(v);
        if (!v->over)
            end_on(v, stream_put(v->stream, str_make(reply.ptr + i, 1), v->deadline_ns));
        flush(v);
    }
}

static void reply(struct visit *v, struct str text)
{
    if (v->manner->drips)
        drip(v, text);
    else
        end_on(v, stream_put(v->stream, text, v->deadline_ns));
}

/* What was answered before leaves first: a receiver that thinks about RCPT has answered MAIL. */
static void pause_at(struct visit *v, enum sink_stage stage)
{
    int64_t ns = dist_draw(&v->manner->delay[stage]);
    if (ns <= 0)
        return;
    flush(v);
    if (!v->over)
        end_on(v, fiber_sleep_until(clock_mono_ns() + ns));
    begin_step(v);
}

/* No word until the client goes away. */
static void hang(struct visit *v)
{
    struct str bytes;
    count(&v->place->hung, 1);
    flush(v);
    while (!v->over)
        end_on(v, stream_bytes(v->stream, READ_ROOM, DEADLINE_NEVER, &bytes));
}

static void count_refusal(struct visit *v, struct str text)
{
    if (text.ptr[0] == '4')
        count(&v->place->refused_4xx, 1);
    else if (text.ptr[0] == '5')
        count(&v->place->refused_5xx, 1);
}

static void refuse(struct visit *v, struct str text)
{
    count_refusal(v, text);
    reply(v, text);
    if (str_starts(text, STR("421"))) {
        flush(v);
        v->over = true;
    }
}

/* True: nothing stands against the usual answer. */
static bool welcome(struct visit *v, enum sink_stage stage)
{
    const struct manner *m = v->manner;
    if (!m->acts[stage])
        return true;
    uint64_t times = count(&v->place->times[stage], 1);
    if (m->has_delay[stage])
        pause_at(v, stage);
    if (v->over)
        return false;
    const struct answer *a = manner_answer(m, stage, times, clock_mono_ns() - v->sink->start_ns);
    if (a == NULL)
        return true;
    switch (a->kind) {
    case ANSWER_REPLY:
        refuse(v, a->reply);
        break;
    case ANSWER_DROP:
        flush(v); /* what was answered before is not lost with it */
        count(&v->place->dropped, 1);
        v->over = true;
        break;
    case ANSWER_HANG:
        hang(v);
        break;
    }
    return false;
}

/* --- commands */

static void forget_mail(struct visit *v)
{
    v->in_mail = false;
    v->rcpt_count = 0;
    v->tried = 0;
    buf_reset(&v->rcpts);
}

/* What stands between < and >, or all of it. */
static struct str path_of(struct str text)
{
    ssize_t open = str_index(text, '<'), close = str_index(text, '>');
    return open >= 0 && close > open ? str_make(text.ptr + open + 1, (size_t)(close - open - 1)) : text;
}

static void on_helo(struct visit *v, bool ehlo)
{
    const struct manner *m = v->manner;
    forget_mail(v);
    if (ehlo && m->no_ehlo) {
        refuse(v, STR("502 5.5.1 HELO, please\r\n"));
        return;
    }
    if (!welcome(v, SINK_HELO))
        return;
    if (!ehlo) {
        reply(v, STR("250 " SINK_HOST "\r\n"));
        return;
    }
    reply(v, STR("250-" SINK_HOST "\r\n"));
    if (!m->no_pipelining)
        reply(v, STR("250-PIPELINING\r\n"));
    if (m->size > 0) {
        char line[48];
        int n = snprintf(line, sizeof line, "250-SIZE %llu\r\n", (unsigned long long)m->size);
        reply(v, str_make(line, (size_t)n));
    }
    reply(v, STR("250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SMTPUTF8\r\n"));
}

/* "SIZE=n" beyond the limit? */
static bool too_large(const struct visit *v, struct str line)
{
    struct str rest = line, word;
    uint64_t n;
    static const struct str size = STR("SIZE=");
    while (v->manner->size > 0 && str_token(&rest, " ", &word))
        if (str_starts_nocase(word, size) && str_u64(str_from(word, size.len), &n))
            return n > v->manner->size;
    return false;
}

static void on_mail(struct visit *v, struct str line)
{
    if (v->in_mail) {
        refuse(v, STR("503 5.5.1 nested MAIL\r\n"));
        return;
    }
    if (too_large(v, line)) {
        refuse(v, STR("552 5.3.4 message too large\r\n"));
        return;
    }
    /* Hashed before a pause: the line is the stream's. */
    struct str sender = path_of(line);
    v->sender = hash_sum(sender.ptr, sender.len, 1);
    if (!welcome(v, SINK_MAIL))
        return;
    v->in_mail = true;
    reply(v, STR("250 2.1.0 Ok\r\n"));
}

static bool greylisted(struct visit *v, uint64_t rcpt)
{
    if (v->manner->greylist_ns == 0)
        return false;
    uint64_t triple[3] = {v->sender, rcpt, (uint64_t)(uintptr_t)v->place};
    int64_t now = clock_mono_ns();
    int64_t first = first_times_see(&v->sink->greylist, hash_sum(triple, sizeof triple, 2), now);
    return first == now || now - first < v->manner->greylist_ns;
}

static void on_rcpt(struct visit *v, struct str line)
{
    if (!v->in_mail) {
        reply(v, STR("503 5.5.1 MAIL first\r\n"));
        return;
    }
    if (v->rcpt_count == RCPTS_MAX) {
        refuse(v, STR("452 4.5.3 too many recipients\r\n"));
        return;
    }
    struct str path = path_of(line);
    uint64_t rcpt = hash_sum(path.ptr, path.len, 1);
    v->tried++;
    if (!welcome(v, SINK_RCPT))
        return;
    if (greylisted(v, rcpt)) {
        count(&v->place->greylisted, 1);
        refuse(v, STR("450 4.2.0 greylisted\r\n"));
        return;
    }
    buf_add_u64(&v->rcpts, rcpt);
    v->rcpt_count++;
    reply(v, STR("250 2.1.5 Ok\r\n"));
}

/* --- content */

struct content {
    size_t bytes; /* its end too */
    bool marked;
    uint64_t id; /* hash */
    int64_t sent_us;
    char text[88]; /* the id, for --received */
    size_t text_len;
};

static void look_for_mark(struct visit *v, struct content *c)
{
    int found;
    struct str id;
    while ((found = content_mark(stream_peek(v->stream), &id, &c->sent_us)) < 0 && !v->over) {
        if (content_end(stream_peek(v->stream), true) > 0)
            return;
        begin_step(v);
        end_on(v, stream_more(v->stream, READ_ROOM, v->deadline_ns));
    }
    if (found != 1)
        return;
    c->marked = true;
    c->id = hash_sum(id.ptr, id.len, 3);
    c->text_len = str_copy(c->text, sizeof c->text, id);
}

static void skip(struct visit *v, size_t n)
{
    struct str ignored;
    if (n > 0)
        end_on(v, stream_bytes(v->stream, n, v->deadline_ns, &ignored));
}

/* Up to and with its end. Of each piece the last 4 bytes stay: the end may have begun in them. */
static void read_content(struct visit *v, struct content *c)
{
    bool after_line = true;
    if (!welcome(v, SINK_CONTENT))
        v->over = true;
    while (!v->over) {
        struct str have = stream_peek(v->stream);
        size_t end = content_end(have, after_line);
        if (end > 0) {
            c->bytes += end;
            skip(v, end);
            return;
        }
        if (have.len > 4) {
            c->bytes += have.len - 4;
            skip(v, have.len - 4);
            after_line = false;
        }
        begin_step(v);
        if (!v->over)
            end_on(v, stream_more(v->stream, c->bytes > READ_ROOM_LARGE ? READ_ROOM_LARGE : READ_ROOM,
                                  v->deadline_ns));
    }
}

/* Recorded before the reply leaves: who has seen the 250 finds the message here. */
static void record(struct visit *v, const struct content *c)
{
    struct place *p = v->place;
    struct crew *crew = v->crew;
    crew->last_us = clock_wall_us();
    if (crew->first_us == 0)
        crew->first_us = crew->last_us;
    count(&p->messages, 1);
    count(&p->rcpts, v->rcpt_count);
    count(&p->bytes, c->bytes);
    if (count(&v->sink->messages, 1) + 1 == v->sink->messages_max)
        main_wake();
    if (!c->marked) {
        count(&p->unmarked, 1);
        return;
    }
    hist_add(&crew->delivered, (crew->last_us - c->sent_us) * NS_PER_US);
    if (v->sink->stamps)
        lines_add_stamped(&crew->received, str_make(c->text, c->text_len), crew->last_us);
    else
        lines_add(&crew->received, str_make(c->text, c->text_len));
    if (!v->sink->dedupe)
        return;
    (void)idset_add(&v->sink->ids, c->id);
    const char *at = v->rcpts.ptr;
    for (size_t i = 0; i < v->rcpt_count; i++, at += sizeof(uint64_t))
        if (!idset_add(&v->sink->deliveries, hash_sum(at, sizeof(uint64_t), c->id)))
            count(&p->again, 1);
}

static void on_data(struct visit *v)
{
    struct content c = {0};
    if (v->rcpt_count == 0) {
        /* Not counted: the refusal was before. */
        reply(v, v->tried > 0 ? STR("554 5.5.1 no valid recipients\r\n")
                              : STR("503 5.5.1 RCPT first\r\n"));
        return;
    }
    if (!welcome(v, SINK_DATA))
        return;
    reply(v, STR("354 go ahead\r\n"));
    flush(v);
    begin_step(v);
    if (!v->over && stream_pending(v->stream) == 0)
        end_on(v, stream_more(v->stream, READ_ROOM, v->deadline_ns));
    if (!v->over)
        look_for_mark(v, &c);
    if (!v->over)
        read_content(v, &c);
    if (v->over)
        return;
    if (v->manner->size > 0 && c.bytes > v->manner->size) {
        refuse(v, STR("552 5.3.4 message too large\r\n"));
    } else if (welcome(v, SINK_DOT)) {
        record(v, &c);
        reply(v, STR("250 2.0.0 Ok: taken\r\n"));
    }
    forget_mail(v);
}

static void on_quit(struct visit *v)
{
    if (welcome(v, SINK_QUIT))
        reply(v, STR("221 2.0.0 Bye\r\n"));
    flush(v);
    v->over = true;
}

static uint32_t verb_of(struct str line)
{
    uint32_t v = 0;
    for (size_t i = 0; i < 4 && i < line.len; i++)
        v = v << 8 | (unsigned char)(line.ptr[i] & ~0x20);
    return v;
}

#define VERB(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

static void command(struct visit *v, struct str line)
{
    switch (verb_of(line)) {
    case VERB('E', 'H', 'L', 'O'): on_helo(v, true); break;
    case VERB('H', 'E', 'L', 'O'): on_helo(v, false); break;
    case VERB('M', 'A', 'I', 'L'): on_mail(v, line); break;
    case VERB('R', 'C', 'P', 'T'): on_rcpt(v, line); break;
    case VERB('D', 'A', 'T', 'A'): on_data(v); break;
    case VERB('R', 'S', 'E', 'T'):
        forget_mail(v);
        reply(v, STR("250 2.0.0 Ok\r\n"));
        break;
    case VERB('N', 'O', 'O', 'P'): reply(v, STR("250 2.0.0 Ok\r\n")); break;
    case VERB('Q', 'U', 'I', 'T'): on_quit(v); break;
    default: refuse(v, STR("500 5.5.2 unknown command\r\n")); break;
    }
}

/* Replies leave together when the client has no further command waiting (RFC 2920 §3.2). */
static void next_command(struct visit *v)
{
    struct str ahead = stream_peek(v->stream);
    struct line line;
    if (ahead.len == 0 || memchr(ahead.ptr, '\n', ahead.len) == NULL)
        flush(v);
    begin_step(v);
    if (!v->over)
        end_on(v, stream_line(v->stream, COMMAND_MAX, v->deadline_ns, &line));
    if (!v->over)
        command(v, line.text);
}

/* --- the connection */

static bool too_many(struct visit *v)
{
    uint64_t here = count(&v->place->open, 1), all = count(&v->sink->open, 1);
    return (v->manner->connections > 0 && here >= v->manner->connections) ||
           (v->sink->connections_max > 0 && all >= v->sink->connections_max);
}

static void converse(struct visit *v)
{
    begin_step(v);
    if (too_many(v)) {
        count(&v->place->over_limit, 1);
        refuse(v, STR("421 4.7.0 too many connections\r\n"));
    } else if (welcome(v, SINK_BANNER)) {
        reply(v, STR("220 " SINK_HOST " ESMTP\r\n"));
    }
    while (!v->over)
        next_command(v);
}

void sink_session(void *arg)
{
    struct caller *c = arg;
    struct visit v = {.crew = c->crew, .sink = c->crew->sink, .stream = stream_new(c->fd)};
    struct addr local;
    struct err *e = sock_local(c->fd, &local);
    sock_nodelay(c->fd);
    mem_free(c);
    if (!e) {
        v.place = sink_place(v.sink, &local);
        v.manner = v.place->manner;
        count(&v.place->connections, 1);
        converse(&v);
        count(&v.place->open, UINT64_MAX);
        count(&v.sink->open, UINT64_MAX);
    }
    buf_fini(&v.rcpts);
    stream_free(v.stream);
}
