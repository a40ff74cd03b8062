/* Dialogues: messages from a real queue in a private folder, over loopback, to servers that follow
 * a script. Compared are what the servers were told and what the log says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/smtp/reach.h"
#include "core/smtp/smtp.h"
#include "io/base/log.h"
#include "io/fiber/offload.h"
#include "queue/queue.h"
#include "queue/sched/sched.h"
#include "tests/unit/core/smtp/peers.h"

static struct params params;
static struct snapshot snapshot = {.params = &params};
static struct service service = {
    .snapshot = &snapshot, .params = &params, .name = "smtp", .type = "unix", .log_tag = "smtp"};

static void defaults(void)
{
    memset(&params, 0, sizeof params);
    params.myhostname = params.smtp_helo_name = "client.example";
    params.relayhost = params.smtp_fallback_relay = "";
    params.inet_protocols = "all";
    params.smtp_tcp_port = "smtp";
    params.smtp_host_lookup = "dns";
    params.smtp_dns_support_level = params.smtp_address_preference = "";
    params.smtp_bind_address = params.smtp_bind_address6 = "";
    params.smtp_discard_ehlo_keywords = "";
    params.smtp_always_send_ehlo = params.smtp_quote_rfc821_envelope = true;
    params.smtp_skip_5xx_greeting = params.smtp_skip_quit_response = true;
    params.smtp_connection_cache_on_demand = true;
    params.smtp_connection_cache_time_limit = 2;
    params.smtp_connection_reuse_time_limit = 300;
    params.minimal_backoff_time = 300;
    params.smtp_mx_address_limit = 5;
    params.smtp_mx_session_limit = 2;
    params.smtp_line_length_limit = 998;
    params.smtp_connect_timeout = params.smtp_helo_timeout = params.smtp_mail_timeout = 30;
    params.smtp_rcpt_timeout = params.smtp_data_init_timeout = params.smtp_data_xfer_timeout = 30;
    params.smtp_data_done_timeout = params.smtp_quit_timeout = params.smtp_rset_timeout = 30;
}

/* --- one test */
struct row {
    const char *name;
    struct script first[3];            /* of the first server, one a session */
    struct script second;              /* of the other one */
    const char *nexthop;               /* A, B: the servers; X: nobody listens. NULL = A */
    unsigned rcpts, messages;          /* 0 = 1 */
    unsigned pause_ms;                 /* between messages */
    unsigned flags;                    /* ENV_* */
    const char *content, *content_out; /* NULL = any */
    bool no_reuse;
    const char *bind, *from; /* smtp_bind_address, and where the connection came from */
    const char *heard;       /* NULL = any */
    const char *log[4];      /* each must be in the log */
    const char *not_log;
    unsigned connects; /* so many that failed; 0 = any */
};

static const struct row rows[] = {
    {.name = "pipelined: envelope in one write, dot and QUIT in another",
     .no_reuse = true,
     .heard = "EHLO MAIL+RCPT+DATA . QUIT / ",
     .log = {"to=<r0@x.example>, relay=127.0.0.1[127.0.0.1]:A, ",
             "dsn=2.0.0, status=sent (250 2.0.0 Ok)"}},
    {.name = "without PIPELINING one command at a time",
     .first = {{.no_pipelining = true}},
     .no_reuse = true,
     .heard = "EHLO MAIL RCPT DATA . QUIT / ",
     .log = {"status=sent"}},
    {.name = "three messages on one connection",
     .messages = 3,
     .heard = "EHLO MAIL+RCPT+DATA . MAIL+RCPT+DATA . MAIL+RCPT+DATA . QUIT / ",
     .log = {"conn_use=2, ", "conn_use=3, "}},
    {.name = "the idle connection is closed: the next message takes a new one",
     .first = {{.last_words = ""}, {0}},
     .messages = 2,
     .pause_ms = 60,
     .heard = "EHLO MAIL+RCPT+DATA . / EHLO MAIL+RCPT+DATA . QUIT / ",
     .log = {"status=sent"},
     .not_log = "deferred"},
    {.name = "the idle connection says 421: the next message takes a new one",
     .first = {{.last_words = "421 4.4.2 idle"}, {0}},
     .messages = 2,
     .pause_ms = 60,
     .heard = "EHLO MAIL+RCPT+DATA . / EHLO MAIL+RCPT+DATA . QUIT / ",
     .log = {"status=sent"},
     .not_log = "deferred"},
    {.name = "one recipient of three is refused",
     .rcpts = 3,
     .no_reuse = true,
     .first = {{.rcpt = "250 Ok|550 5.1.1 unknown|250 Ok"}},
     .heard = "EHLO MAIL+RCPT+RCPT+RCPT+DATA . QUIT / ",
     .log = {"to=<r0@x.example>, relay=127.0.0.1[127.0.0.1]:A, ",
             "dsn=5.1.1, status=bounced (host 127.0.0.1[127.0.0.1] said: 550 5.1.1 unknown (in "
             "reply to RCPT TO command))"}},
    {.name = "all refused and DATA refused: RSET, and the connection lives",
     .messages = 2,
     .first = {{.rcpt = "550 5.1.1 unknown|250 Ok", .data = "554 no valid recipients"}},
     .heard = "EHLO MAIL+RCPT+DATA RSET MAIL+RCPT+DATA RSET QUIT / ",
     .log = {"dsn=5.1.1, status=bounced", "status=bounced (host 127.0.0.1[127.0.0.1] said: 554 no "
                                          "valid recipients (in reply to DATA command))"}},
    {.name = "all refused and DATA taken: a lone dot",
     .no_reuse = true,
     .first = {{.rcpt = "550 5.1.1 unknown"}},
     .content_out = "",
     .heard = "EHLO MAIL+RCPT+DATA . QUIT / ",
     .log = {"dsn=5.1.1, status=bounced"}},
    {.name = "no PIPELINING, all refused: no DATA",
     .no_reuse = true,
     .first = {{.rcpt = "550 5.1.1 unknown", .no_pipelining = true}},
     .heard = "EHLO MAIL RCPT RSET QUIT / ",
     .log = {"dsn=5.1.1, status=bounced"}},
    {.name = "refused at the dot",
     .first = {{.dot = "554 5.6.0 bad"}},
     .no_reuse = true,
     .log = {"dsn=5.6.0, status=bounced (host 127.0.0.1[127.0.0.1] said: 554 5.6.0 bad (in reply "
             "to end of DATA command))"}},
    {.name = "a 2xx to DATA breaks the protocol",
     .first = {{.data = "250 Ok"}},
     .no_reuse = true,
     .log = {"dsn=5.5.0, status=bounced (Protocol error: host 127.0.0.1[127.0.0.1] said: 250 Ok "
             "(in reply to DATA command))"}},
    {.name = "nobody listens",
     .nexthop = "X",
     .log = {": connect to 127.0.0.1[127.0.0.1]:X: Connection refused", "relay=none, ",
             "dsn=4.4.1, status=deferred (connect to 127.0.0.1[127.0.0.1]:X: Connection refused)"}},
    {.name = "nobody listens here, but there",
     .nexthop = "X, A",
     .log = {"connect to 127.0.0.1[127.0.0.1]:X: Connection refused",
             "relay=127.0.0.1[127.0.0.1]:A, "},
     .not_log = "deferred"},
    {.name = "the second message does not go where nobody listens",
     .nexthop = "X, A",
     .messages = 3,
     .pause_ms = 1,
     .no_reuse = true,
     .log = {"relay=127.0.0.1[127.0.0.1]:A, "},
     .not_log = "deferred",
     .connects = 1},
    {.name = "it does when nothing else is left",
     .nexthop = "X",
     .messages = 3,
     .pause_ms = 1,
     .log = {"dsn=4.4.1, status=deferred (connect to 127.0.0.1[127.0.0.1]:X: Connection refused)"},
     .connects = 3},
    {.name = "and when nobody else talks to us",
     .nexthop = "X, A",
     .first = {{.greeting = "421 4.3.2 no"}},
     .messages = 2,
     .pause_ms = 1,
     .log = {": host 127.0.0.1[127.0.0.1] refused to talk to me: 421 4.3.2 no",
             "dsn=4.4.1, status=deferred (connect to 127.0.0.1[127.0.0.1]:X: Connection refused)"},
     .connects = 2},
    {.name = "a server that greets and then puts all off has been heard",
     .nexthop = "X, A",
     .first = {{.mail = "450 4.2.0 later"}},
     .messages = 3,
     .pause_ms = 1,
     .no_reuse = true,
     .log = {"dsn=4.2.0, status=deferred (host 127.0.0.1[127.0.0.1] said: 450 4.2.0 later"},
     .connects = 1},
    {.name = "who is put off is not bounced for what was said of another",
     .nexthop = "A, X",
     .rcpts = 2,
     .first = {{.rcpt = "450 4.2.0 later|550 5.1.1 unknown"}},
     .messages = 3,
     .pause_ms = 1,
     .no_reuse = true,
     .log = {"to=<r1@x.example>, relay=127.0.0.1[127.0.0.1]:A, ", "dsn=5.1.1, status=bounced",
             "dsn=4.2.0, status=deferred (host 127.0.0.1[127.0.0.1] said: 450 4.2.0 later"},
     .connects = 1},
    {.name = "one that hangs up at the greeting is asked last the next time",
     .nexthop = "A, B",
     .first = {{.greeting = "-"}},
     .messages = 3,
     .pause_ms = 1,
     .no_reuse = true,
     .log = {"relay=127.0.0.1[127.0.0.1]:B, "},
     .heard = "/ EHLO MAIL+RCPT+DATA . QUIT / EHLO MAIL+RCPT+DATA . QUIT / EHLO MAIL+RCPT+DATA . "
              "QUIT / "},
    {.name = "a greeting 4xx: the next server",
     .first = {{.greeting = "450 4.2.0 busy"}},
     .nexthop = "A, B",
     .log = {": host 127.0.0.1[127.0.0.1] refused to talk to me: 450 4.2.0 busy",
             "relay=127.0.0.1[127.0.0.1]:B, "},
     .not_log = "deferred"},
    {.name = "a greeting 5xx counts as 4xx",
     .first = {{.greeting = "554 5.7.1 no"}},
     .log = {"dsn=4.7.1, status=deferred (host 127.0.0.1[127.0.0.1] refused to talk to me: 554 "
             "5.7.1 no)"}},
    {.name = "one taken here, one put off and taken there",
     .rcpts = 2,
     .nexthop = "A, B",
     .first = {{.rcpt = "250 Ok|450 4.2.0 later"}},
     .log = {"to=<r0@x.example>, relay=127.0.0.1[127.0.0.1]:A, ",
             "to=<r1@x.example>, relay=127.0.0.1[127.0.0.1]:B, ",
             ": host 127.0.0.1[127.0.0.1] said: 450 4.2.0 later (in reply to RCPT TO command)"},
     .not_log = "deferred"},
    {.name = "EHLO refused, HELO taken",
     .first = {{.ehlo = "502 no"}},
     .no_reuse = true,
     .heard = "EHLO HELO MAIL RCPT DATA . QUIT / ",
     .log = {"status=sent"}},
    {.name = "hangs up at the greeting",
     .first = {{.greeting = "-"}},
     .log = {"dsn=4.4.2, status=deferred (lost connection with 127.0.0.1[127.0.0.1] while "
             "receiving the initial server greeting)"}},
    {.name = "hangs up at EHLO",
     .first = {{.ehlo = "-"}},
     .log = {"(lost connection with 127.0.0.1[127.0.0.1] while performing the EHLO handshake)"}},
    {.name = "hangs up at MAIL of a new connection",
     .first = {{.mail = "-"}},
     .log = {"(lost connection with 127.0.0.1[127.0.0.1] while sending MAIL FROM)"}},
    {.name = "hangs up at RCPT",
     .first = {{.rcpt = "-"}},
     .log = {"(lost connection with 127.0.0.1[127.0.0.1] while sending RCPT TO)"}},
    {.name = "hangs up at DATA",
     .first = {{.data = "-"}},
     .log = {"(lost connection with 127.0.0.1[127.0.0.1] while sending DATA command)"}},
    {.name = "hangs up at the dot",
     .first = {{.dot = "-"}},
     .log = {"(lost connection with 127.0.0.1[127.0.0.1] while sending end of data -- message may "
             "be sent more than once)"}},
    {.name = "too large for the server",
     .first = {{.ehlo = "250-x\r\n250 SIZE 10"}},
     .log = {"dsn=5.3.4, status=bounced (message size 100 exceeds size limit 10 of server "
             "127.0.0.1[127.0.0.1])"}},
    {.name = "rubbish among the replies",
     .first = {{.mail = "hello\r\n250 Ok"}},
     .log = {"non-ESMTP response from 127.0.0.1[127.0.0.1]:A: hello", "status=sent"}},
    {.name = "dots",
     .flags = ENV_DOTS,
     .content = "a: b\r\n\r\n.\r\n..\r\n.c\r\n",
     .content_out = "a: b\n\n.\n..\n.c\n",
     .log = {"status=sent"}},
    {.name = "an unfinished last line",
     .content = "a: b\r\n\r\nend",
     .content_out = "a: b\n\nend\n",
     .log = {"status=sent"}},
    {.name = "from the address that was asked for",
     .bind = "127.0.0.7",
     .from = "127.0.0.7",
     .log = {"status=sent"}},
    {.name = "an address that is not ours is named, and mail goes out",
     .bind = "192.0.2.7",
     .from = "127.0.0.1",
     .log = {"warning: smtp_connect_addr: bind 192.0.2.7: Cannot assign requested address",
             "status=sent"}},
    {.name = "a hundred recipients",
     .rcpts = 100,
     .no_reuse = true,
     .log = {"to=<r99@x.example>", "status=sent"}},
};

static const struct row *row;
static char folder[64], log_path[96];

static void nexthop(struct buf *out)
{
    for (const char *p = row->nexthop ? row->nexthop : "A"; *p; p++) {
        if (*p == 'X')
            buf_add_c(out, "[127.0.0.1]:1");
        else if (*p == 'A' || *p == 'B')
            buf_printf(out, "[127.0.0.1]:%u", servers[*p - 'A'].port);
        else
            buf_add_char(out, *p);
    }
}

static void hook_resolve(void *ctx, struct qmsg *m)
{
    (void)ctx;
    struct buf b = {0};
    nexthop(&b);
    for (size_t i = 0; i < m->env->rcpt_count; i++) {
        m->env->rcpts[i].transport = "smtp";
        m->env->rcpts[i].nexthop = arena_cstr(m->arena, buf_str(&b));
        m->env->rcpts[i].resolved = m->env->rcpts[i].address;
    }
    buf_fini(&b);
}

static void hook_deliver(void *ctx, struct request *r)
{
    (void)ctx;
    smtp_deliver(&service, r);
}

static struct err *hook_notify(void *ctx, const struct notice *n)
{
    (void)ctx, (void)n;
    return NULL;
}

static void post(struct queue *q)
{
    struct arena *a = arena_new(0, 0);
    const char *content = row->content ? row->content : "Subject: s\r\n\r\nbody\r\n";
    unsigned n = row->rcpts ? row->rcpts : 1;
    struct envelope env = {.sender = STR("s@y.example"),
                           .flags = row->flags,
                           .rcpt_count = n,
                           .arrival_us = clock_wall_us(),
                           .size = strlen(content),
                           .data_size = 100};
    env.rcpts = arena_zalloc(a, n * sizeof(*env.rcpts));
    for (unsigned i = 0; i < n; i++)
        env.rcpts[i].address = env.rcpts[i].original = arena_printf(a, "r%u@x.example", i);
    struct draft *d;
    OK(queue_begin(q, &d));
    OK(draft_write(d, str_of(content)));
    OK(queue_commit(d, &env));
    arena_free(a);
}

static char *read_log(void)
{
    static char text[200000];
    FILE *f = fopen(log_path, "r");
    size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    text[n] = '\0';
    if (f)
        fclose(f);
    return text;
}

static unsigned outcomes(void)
{
    unsigned n = 0;
    for (const char *p = read_log(); (p = strstr(p, " status=")) != NULL; p++)
        n++;
    return n;
}

static void run_fiber(void *arg)
{
    (void)arg;
    static const struct sched_transport smtp = {.name = "smtp",
                                                .initial_concurrency = 1,
                                                .concurrency_limit = 1,
                                                .recipient_limit = 200,
                                                .failed_cohort_limit = 5,
                                                .negative_feedback = 1,
                                                .positive_feedback = 1};
    static const struct sched_transport fallback = {.unavailable = true, .why = "unavailable"};
    struct sched_options sched = {.transports = &smtp,
                                  .transport_count = 1,
                                  .fallback = fallback,
                                  .message_active_limit = 1000,
                                  .queue_run_delay_s = 300,
                                  .minimal_backoff_s = 300,
                                  .maximal_backoff_s = 4000,
                                  .maximal_lifetime_s = 432000,
                                  .bounce_lifetime_s = 432000,
                                  .defer_transports = ""};
    struct queue_options options = {
        .directory = folder, .segment_bytes = 1 << 20, .mark_delay_ms = 1, .sched = &sched};
    struct queue_hooks hooks = {
        .resolve = hook_resolve, .deliver = hook_deliver, .notify = hook_notify};
    struct worker *self = worker_self();
    struct fiber *accepting[2];
    struct queue *q;
    for (int i = 0; i < 2; i++) {
        server_open(&servers[i]);
        accepting[i] = fiber_spawn("accept", accept_all, &servers[i]);
    }
    OK(queue_open(&options, &hooks, &self, 1, &q));
    unsigned messages = row->messages ? row->messages : 1;
    unsigned wanted = messages * (row->rcpts ? row->rcpts : 1);
    for (unsigned i = 0; i < messages; i++) {
        if (i > 0 && row->pause_ms > 0) {
            while (outcomes() < i * (wanted / messages))
                OK(fiber_sleep_until(clock_in_ms(5)));
            OK(fiber_sleep_until(clock_in_ms(row->pause_ms)));
        }
        post(q);
    }
    for (int i = 0; i < 2000 && outcomes() < wanted; i++)
        OK(fiber_sleep_until(clock_in_ms(5)));
    OK(queue_drain(q, clock_in_s(20)));
    for (int i = 0; i < 2000 && peers_open > 0; i++)
        OK(fiber_sleep_until(clock_in_ms(5)));
    OK(queue_close(q));
    for (int i = 0; i < 2; i++) {
        fiber_cancel(accepting[i]);
        close(servers[i].fd);
    }
}

static unsigned count(const char *log, const char *what)
{
    unsigned n = 0;
    for (const char *p = log; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

/* Ports differ from run to run. */
static bool in_log(const char *log, const char *want)
{
    struct buf b = {0};
    for (const char *p = want; *p; p++) {
        bool port = p > want && p[-1] == ':' && (*p == 'A' || *p == 'B' || *p == 'X');
        if (port && *p == 'X')
            buf_add_c(&b, "1");
        else if (port)
            buf_printf(&b, "%u", servers[*p - 'A'].port);
        else
            buf_add_char(&b, *p);
    }
    bool found = strstr(log, b.ptr) != NULL;
    buf_fini(&b);
    return found;
}

static void run_row(void)
{
    static const struct worker_options worker = {.name = "sched", .cpu = -1};
    char cmd[128];
    defaults();
    smtp_reach_clear();
    params.smtp_connection_cache_on_demand = !row->no_reuse;
    params.smtp_bind_address = row->bind ? row->bind : "";
    buf_reset(&heard);
    buf_reset(&received);
    buf_add_c(&received, "");
    buf_add_c(&heard, "");
    size_t scripts = 1;
    const struct script none = {0};
    while (scripts < 3 && memcmp(&row->first[scripts - 1], &none, sizeof none) != 0)
        scripts++;
    servers[0] = (struct server){.scripts = row->first, .script_count = scripts};
    if (row->messages < 2 || !row->first[0].last_words)
        servers[0].script_count = 1;
    servers[1] = (struct server){.scripts = &row->second, .script_count = 1};
    snprintf(folder, sizeof folder, "/tmp/rp-smtp-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(log_path, sizeof log_path, "%s/maillog", folder);
    struct log_options log = {.file = log_path, .syslog_name = "postfix", .host = "h"};
    OK(log_start(&log));
    OK(worker_run_here(&worker, run_fiber, NULL));
    log_stop();
    const char *text = read_log();
    if (row->heard && strcmp(heard.ptr, row->heard) != 0)
        fail_msg("%s: heard \"%s\", log:\n%s", row->name, heard.ptr, text);
    if (row->from)
        assert_string_equal(last_peer, row->from);
    if (row->content_out && strcmp(received.ptr, row->content_out) != 0)
        fail_msg("%s: received \"%s\"", row->name, received.ptr);
    for (size_t i = 0; i < 4 && row->log[i]; i++)
        if (!in_log(text, row->log[i]))
            fail_msg("%s: not in the log: %s\n%s", row->name, row->log[i], text);
    if (row->not_log && strstr(text, row->not_log))
        fail_msg("%s: in the log: %s\n%s", row->name, row->not_log, text);
    unsigned connects = count(text, ": connect to "); /* one line each, beside the outcomes */
    if (row->connects > 0 && connects != row->connects)
        fail_msg("%s: %u connections failed, not %u\n%s", row->name, connects, row->connects, text);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", folder);
    assert_int_equal(system(cmd), 0);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        row = &rows[i];
        run_row();
    }
    buf_fini(&heard);
    buf_fini(&received);
}

int main(void)
{
    OK(offload_start(2));
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return rc;
}
