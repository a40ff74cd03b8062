/* Servers that follow a script: what each session answers, and what all of them were told. */
#ifndef TEST_CORE_SMTP_PEERS_H
#define TEST_CORE_SMTP_PEERS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/fiber/fiber.h"
#include "io/net/sock.h"
#include "io/net/stream.h"
#include "io/ring/ring.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        struct err *ok_e = (call);                                                                 \
        if (ok_e) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, ok_e->text);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* NULL: the usual answer. "-": hang up. Several answers of rcpt: '|' between them. */
struct script {
    const char *greeting, *ehlo, *mail, *rcpt, *data, *dot;
    const char *last_words; /* said after the first message, before it hangs up */
    bool no_pipelining;
};

struct server {
    const struct script *scripts; /* one a session; the last one stays */
    size_t script_count, sessions;
    int fd;
    uint16_t port;
};

struct peer {
    const struct script *script;
    struct stream *stream;
    const char *rcpt_left;
};

static struct server servers[2];
static struct buf heard;    /* what all servers were told */
static struct buf received; /* content */
static size_t peers_open;
static char last_peer[ADDR_TEXT_MAX];

static inline bool answer(struct peer *p, const char *text, const char *usual)
{
    if (!text)
        text = usual;
    if (strcmp(text, "-") == 0)
        return false;
    size_t n = strcspn(text, "|");
    struct err *e = stream_printf(p->stream, clock_in_s(20), "%.*s\r\n", (int)n, text);
    if (!e)
        e = stream_flush(p->stream, clock_in_s(20));
    return !e;
}

static inline bool answer_rcpt(struct peer *p)
{
    const char *text = p->rcpt_left;
    if (text && strchr(text, '|'))
        p->rcpt_left = strchr(text, '|') + 1;
    return answer(p, text, "250 2.1.5 Ok");
}

static inline bool take_content(struct peer *p)
{
    struct dot dot;
    struct line line;
    bool ended = false;
    dot_begin(&dot, p->stream, BARE_NEWLINE_REJECT);
    for (;;) {
        struct err *e = stream_dot(&dot, 4096, clock_in_s(20), &line, &ended);
        if (e)
            return false;
        if (ended)
            break;
        buf_add_str(&received, line.text);
        buf_add_c(&received, line.end == LINE_LONG ? "" : "\n");
    }
    buf_add_c(&heard, ". ");
    if (!answer(p, p->script->dot, "250 2.0.0 Ok"))
        return false;
    if (!p->script->last_words)
        return true;
    if (p->script->last_words[0])
        (void)answer(p, p->script->last_words, NULL);
    return false;
}

static inline bool obey(struct peer *p, struct str line)
{
    const struct script *s = p->script;
    struct str verb = str_head(line, 4);
    buf_add_str(&heard, verb);
    /* '+': more came with it */
    buf_add_c(&heard, stream_pending(p->stream) ? "+" : " ");
    if (str_eq(verb, STR("EHLO")))
        return answer(p, s->ehlo,
                      s->no_pipelining ? "250 server.example"
                                       : "250-server.example\r\n250 PIPELINING");
    if (str_eq(verb, STR("MAIL")))
        return answer(p, s->mail, "250 2.1.0 Ok");
    if (str_eq(verb, STR("RCPT")))
        return answer_rcpt(p);
    if (str_eq(verb, STR("DATA")))
        return answer(p, s->data, "354 go") && (s->data != NULL || take_content(p));
    if (str_eq(verb, STR("QUIT")))
        return false;
    return answer(p, NULL, "250 2.0.0 Ok");
}

static inline void serve(void *arg)
{
    struct peer *p = arg;
    struct line line;
    bool go_on = answer(p, p->script->greeting, "220 server.example ESMTP");
    while (go_on) {
        struct err *e = stream_line(p->stream, 4096, clock_in_s(20), &line);
        go_on = !e && obey(p, line.text);
    }
    buf_add_c(&heard, "/ ");
    stream_free(p->stream);
    free(p);
    peers_open--;
}

static inline void accept_all(void *arg)
{
    struct server *srv = arg;
    for (;;) {
        struct sockaddr_storage from;
        int fd = -1;
        struct err *e = io_accept(srv->fd, &from, DEADLINE_NEVER, &fd);
        if (e)
            return;
        struct peer *p = calloc(1, sizeof *p);
        size_t n = srv->sessions++;
        struct addr peer;
        OK(sock_peer(fd, &peer));
        addr_text(&peer, last_peer);
        p->script = &srv->scripts[n < srv->script_count ? n : srv->script_count - 1];
        p->stream = stream_new(fd);
        p->rcpt_left = p->script->rcpt;
        peers_open++;
        CHECK(fiber_spawn("peer", serve, p) != NULL);
    }
}

static inline void server_open(struct server *srv)
{
    struct addr at, bound;
    CHECK(addr_parse(STR("127.0.0.1"), 0, &at));
    OK(sock_listen(&at, 16, false, &srv->fd));
    OK(sock_local(srv->fd, &bound));
    srv->port = addr_port(&bound);
}

#endif
