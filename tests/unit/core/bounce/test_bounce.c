/* Messages through cleanup into a real queue in a private folder; each attempt fails, the notice comes
 * back through cleanup and is "delivered" here, where it is compared with what Postfix 3.7.11 sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/bounce/bounce.h"
#include "core/cleanup/cleanup.h"
#include "core/rewrite/resolve.h"
#include "io/base/clock.h"
#include "io/fiber/fiber.h"
#include "io/fiber/offload.h"
#include "io/fiber/wait.h"
#include "queue/sched/request.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        struct err *ok_e = (call);                                                                 \
        if (ok_e) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, ok_e->text);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The configuration is made by hand here, so its two lookups are too. */
const struct service *config_service(const struct snapshot *s, const char *name, const char *type)
{
    (void)s, (void)name, (void)type;
    return NULL;
}

const char *config_value(const struct snapshot *s, const char *name)
{
    (void)s;
    return strcmp(name, "2bounce_notice_recipient") == 0 ? "postmaster" : NULL;
}

static struct params params;
static struct lists lists;
static struct snapshot snapshot = {.params = &params, .lists = &lists};
static struct service service = {.snapshot = &snapshot, .params = &params, .lists = &lists,
                                 .name = "cleanup", .type = "unix", .log_tag = "cleanup"};
static char folder[64];

static void defaults(void)
{
    memset(&params, 0, sizeof params);
    params.append_at_myorigin = params.allow_percent_hack = params.swap_bangpath = true;
    params.myorigin = "origin.example";
    params.mydomain = "example";
    params.myhostname = "mx.example";
    params.mail_name = "Postfix";
    params.remote_header_rewrite_domain = "";
    params.empty_address_recipient = "MAILER-DAEMON";
    params.double_bounce_sender = "double-bounce";
    params.message_drop_headers = "bcc, content-length, resent-bcc, return-path";
    params.undisclosed_recipients_header = "";
    params.header_from_format = "standard";
    params.cleanup_replace_stray_cr_lf = params.detect_8bit_encoding_header = true;
    params.enable_original_recipient = params.smtputf8_enable = true;
    params.header_size_limit = 102400;
    params.header_address_token_limit = 10240;
    params.hopcount_limit = 50;
    params.message_size_limit = 10240000;
    params.duplicate_filter_limit = 1000;
    params.virtual_alias_address_length_limit = params.virtual_alias_expansion_limit = 1000;
    params.virtual_alias_recursion_limit = 1000;
    params.propagate_unmatched_extensions = "canonical, virtual";
    params.recipient_delimiter = "";
    params.local_transport = params.default_transport = params.relay_transport = "smtp:x";
    params.virtual_transport = "smtp:x";
    params.relayhost = "";
    params.parent_domain_matches_subdomains = "";
    params.bounce_notice_recipient = params.delay_notice_recipient = "postmaster";
    params.bounce_size_limit = 50000;
    params.notify_classes = "resource, software";
    params.maximal_queue_lifetime = 5 * 86400;
    params.delay_warning_time = 4 * 3600;
}

/* --- the queue's other side */
struct seen {
    char *content, *sender, *rcpt;
};
static struct seen seen[8];
static size_t seen_count, notified;
static struct err *notify_error;
static char first_id[QUEUE_ID_MAX];

static int64_t frozen_wall(void)
{
    static int64_t us = INT64_C(1795304174000000);
    return us++;
}

static void hook_resolve(void *ctx, struct qmsg *m)
{
    (void)ctx;
    resolve_message(&service, m);
}

static void take(struct qmsg *m, const struct rcpt *rcpt)
{
    struct content_reader *reader;
    struct str piece;
    struct buf b = {0};

    assert_true(seen_count < 8);
    OK(content_open(m, &reader));
    for (;;) {
        OK(content_next(reader, &piece));
        if (piece.len == 0)
            break;
        buf_add_str(&b, piece);
    }
    content_close(reader);
    seen[seen_count++] = (struct seen){strdup(b.ptr), strndup(m->env->sender.ptr, m->env->sender.len),
                                       strndup(rcpt->address.ptr, rcpt->address.len)};
    buf_fini(&b);
}

static void hook_deliver(void *ctx, struct request *r)
{
    (void)ctx;
    for (size_t i = 0; i < r->rcpt_count; i++) {
        struct request_rcpt *rr = &r->rcpts[i];
        if (str_starts(rr->rcpt->address, STR("fail"))) {
            rr->result = REQUEST_BOUNCE;
            memcpy(rr->dsn.status, "5.3.0", 6);
            rr->dsn.text = STR("host 127.0.0.1[127.0.0.1] said: 500 5.3.0 Error: command failed (in "
                               "reply to RCPT TO command)");
            rr->dsn.mta = STR("127.0.0.1");
            rr->dsn.diagnostic = STR("smtp; 500 5.3.0 Error: command failed");
        } else if (str_starts(rr->rcpt->address, STR("relayed"))) {
            rr->result = REQUEST_SENT;
            memcpy(rr->dsn.status, "2.0.0", 6);
            rr->dsn.text = STR("delivery via 127.0.0.1[127.0.0.1]:2629: 250 2.0.0 Ok");
        } else if (str_starts(rr->rcpt->address, STR("plain"))) {
            rr->result = REQUEST_BOUNCE;
            memcpy(rr->dsn.status, "5.1.1", 6);
            rr->dsn.text = STR("go away");
        } else {
            take(r->msg, rr->rcpt);
            rr->result = REQUEST_SENT;
            memcpy(rr->dsn.status, "2.0.0", 6);
        }
    }
    request_done(r);
}

static struct err *hook_notify(void *ctx, const struct notice *n)
{
    (void)ctx;
    notify_error = bounce_notify(&service, n);
    notified++;
    return notify_error;
}

/* --- one message in, its notice out */
struct job {
    const char *sender, *rcpts[4], *content;
    uint8_t ret, notify;
    unsigned env_flags;
    size_t notices_wanted;
};

static void post(struct queue *q, const struct job *job)
{
    struct cleanup *c;
    struct str why;
    struct arena *a = arena_new(0, 0);

    assert_int_equal(cleanup_begin(&service, q, 0, &c), CLEANUP_OK);
    strcpy(first_id, cleanup_id(c));
    cleanup_sender(c, str_of(job->sender), job->ret, STR(""), job->env_flags);
    for (size_t i = 0; i < 4 && job->rcpts[i]; i++)
        cleanup_rcpt(c, str_of(job->rcpts[i]), str_of(job->rcpts[i]), STR(""), job->notify);
    struct str rest = str_of(job->content);
    while (rest.len) {
        ssize_t lf = str_index(rest, '\n');
        cleanup_line(c, str_head(rest, (size_t)lf), true);
        rest = str_from(rest, (size_t)lf + 1);
    }
    assert_int_equal(cleanup_commit(c, a, &why), CLEANUP_OK);
    arena_free(a);
}

static void run_fiber(void *arg)
{
    const struct job *job = arg;
    static const struct sched_transport smtp = {.name = "smtp", .initial_concurrency = 5,
                                                .concurrency_limit = 20, .recipient_limit = 50,
                                                .failed_cohort_limit = 1, .negative_feedback = 1,
                                                .positive_feedback = 1};
    static const struct sched_transport fallback = {.unavailable = true, .why = "unavailable"};
    struct sched_options sched = {.transports = &smtp, .transport_count = 1, .fallback = fallback,
                                  .message_active_limit = 1000,
                                  .queue_run_delay_s = 300, .minimal_backoff_s = 300,
                                  .maximal_backoff_s = 4000, .maximal_lifetime_s = 432000,
                                  .bounce_lifetime_s = 432000,
                                  .defer_transports = ""};
    struct queue_options options = {.directory = folder, .segment_bytes = 1 << 20, .mark_delay_ms = 1,
                                    .sched = &sched};
    struct queue_hooks hooks = {.resolve = hook_resolve, .deliver = hook_deliver,
                                .notify = hook_notify};
    struct worker *self = worker_self();
    struct queue *q;

    OK(queue_open(&options, &hooks, &self, 1, &q));
    post(q, job);
    for (int i = 0; i < 1000 && (notified == 0 || seen_count < job->notices_wanted); i++)
        OK(fiber_sleep_until(clock_in_ms(5)));
    OK(queue_drain(q, clock_in_s(5)));
    OK(queue_close(q));
}

static void run(const struct job *job)
{
    static const struct worker_options options = {.name = "sched", .cpu = -1};
    char cmd[128];

    for (size_t i = 0; i < seen_count; i++) {
        free(seen[i].content);
        free(seen[i].sender);
        free(seen[i].rcpt);
    }
    seen_count = notified = 0;
    snprintf(folder, sizeof folder, "/tmp/rp-bounce-XXXXXX");
    assert_non_null(mkdtemp(folder));
    OK(worker_run_here(&options, run_fiber, (void *)(uintptr_t)job));
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", folder);
    assert_int_equal(system(cmd), 0);
}

/* Queue ids and seconds differ: ID1 is the failed message, ID2 the notice, TIME any number of seconds. */
static struct buf masked(const char *content)
{
    struct buf b = {0};
    char id2[QUEUE_ID_MAX] = "-";

    sscanf(strstr(content, "\tid ") ? strstr(content, "\tid ") + 4 : "", "%31[^;]", id2);
    for (const char *p = content; *p;) {
        if (strncmp(p, first_id, strlen(first_id)) == 0) {
            buf_add_c(&b, "ID1");
            p += strlen(first_id);
        } else if (strncmp(p, id2, strlen(id2)) == 0) {
            buf_add_c(&b, "ID2");
            p += strlen(id2);
        } else if (*p == '\r') {
            p++;
        } else {
            buf_add_char(&b, *p++);
        }
    }
    return b;
}

static void expect(size_t i, const char *want)
{
    struct buf got = masked(seen[i].content);
    if (strcmp(got.ptr, want) != 0)
        fail_msg("got:\n%s", got.ptr);
    buf_fini(&got);
}

#define DATE "Sat, 21 Nov 2026 23:36:14 +0000 (UTC)"
#define HEAD(subject, to, auto)                                                                    \
    "Received: by mx.example (Postfix)\n\tid ID2; " DATE "\nDate: " DATE "\n"                      \
    "From: Mail Delivery System <MAILER-DAEMON@origin.example>\nSubject: " subject "\nTo: " to     \
    "\nAuto-Submitted: " auto "\nMIME-Version: 1.0\n"                                              \
    "Content-Type: multipart/report; report-type=delivery-status;\n"                               \
    "\tboundary=\"ID1.1795304174/mx.example\"\nContent-Transfer-Encoding: 8bit\n"                  \
    "Message-Id: <20261121233614.ID2@mx.example>\n\nThis is a MIME-encapsulated message.\n\n"      \
    "--ID1.1795304174/mx.example\nContent-Description: Notification\n"                             \
    "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
#define WORDS                                                                                      \
    "This is the mail system at host mx.example.\n\n"                                              \
    "I'm sorry to have to inform you that your message could not\n"                                \
    "be delivered to one or more recipients. It's attached below.\n\n"                             \
    "For further assistance, please send mail to postmaster.\n\n"                                  \
    "If you do so, please include this problem report. You can\n"                                  \
    "delete your own text from the attached returned message.\n\n"                                 \
    "                   The mail system\n"
#define STATUS(sender)                                                                             \
    "\n--ID1.1795304174/mx.example\nContent-Description: Delivery report\n"                        \
    "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n"                    \
    "X-Postfix-Queue-ID: ID1\nX-Postfix-Sender: rfc822; " sender "\nArrival-Date: " DATE "\n"
#define PART(what, type)                                                                           \
    "\n--ID1.1795304174/mx.example\nContent-Description: " what "\nContent-Type: " type            \
    "\nContent-Transfer-Encoding: 8bit\n\n"
#define END "\n--ID1.1795304174/mx.example--\n"
#define GO_AWAY(rcpt)                                                                              \
    "\nFinal-Recipient: rfc822; " rcpt "\nOriginal-Recipient: rfc822;" rcpt                        \
    "\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: X-Postfix; go away\n"

static void test_bounce(void **state)
{
    (void)state;
    static const struct job job = {
        .sender = "s@out.example", .rcpts = {"fail@bad.example"}, .notices_wanted = 1,
        .content = "From: a@b\nSubject: bounce me\nMessage-Id: <1@x>\nDate: d\n\nbody text\n.dot\n"};
    run(&job);
    assert_int_equal(seen_count, 1);
    assert_string_equal(seen[0].sender, "");
    assert_string_equal(seen[0].rcpt, "s@out.example");
    expect(0, HEAD("Undelivered Mail Returned to Sender", "s@out.example", "auto-replied") WORDS
           "\n<fail@bad.example>: host 127.0.0.1[127.0.0.1] said: 500 5.3.0 Error: command\n"
           "    failed (in reply to RCPT TO command)\n" STATUS("s@out.example")
           "\nFinal-Recipient: rfc822; fail@bad.example\n"
           "Original-Recipient: rfc822;fail@bad.example\nAction: failed\nStatus: 5.3.0\n"
           "Remote-MTA: dns; 127.0.0.1\nDiagnostic-Code: smtp; 500 5.3.0 Error: command failed\n"
           PART("Undelivered Message", "message/rfc822")
           "Return-Path: <s@out.example>\nFrom: a@b\nSubject: bounce me\nMessage-Id: <1@x>\n"
           "Date: d\n\nbody text\n.dot\n" END);
}

static void test_headers_and_copy(void **state)
{
    (void)state;
    static const struct job job = {
        .sender = "s@out.example", .rcpts = {"plain@e.example", "plainer@e.example"}, .ret = RET_HDRS,
        .notices_wanted = 2, .content = "Subject: x\n y\n\nbody text\n"};
    params.notify_classes = "bounce";
    run(&job);
    assert_int_equal(seen_count, 2);
    size_t copy = seen[0].sender[0] ? 0 : 1;
    assert_string_equal(seen[copy].sender, "double-bounce@mx.example");
    assert_string_equal(seen[copy].rcpt, "postmaster@origin.example");
    expect(1 - copy, HEAD("Undelivered Mail Returned to Sender", "s@out.example", "auto-replied") WORDS
           "\n<plain@e.example>: go away\n\n<plainer@e.example>: go away\n" STATUS("s@out.example")
           GO_AWAY("plain@e.example") GO_AWAY("plainer@e.example")
           PART("Undelivered Message Headers", "text/rfc822-headers")
           "Return-Path: <s@out.example>\nSubject: x\n y\n" END);
    expect(copy, HEAD("Postmaster Copy: Undelivered Mail", "postmaster@origin.example",
                      "auto-generated")
           "\n<plain@e.example>: go away\n\n<plainer@e.example>: go away\n" STATUS("s@out.example")
           GO_AWAY("plain@e.example") GO_AWAY("plainer@e.example")
           PART("Undelivered Message Headers", "text/rfc822-headers")
           "Return-Path: <s@out.example>\nSubject: x\n y\n" END);
    defaults();
}

static void test_nobody_is_told(void **state)
{
    (void)state;
    static const struct job null_sender = {.sender = "", .rcpts = {"plain@e.example"},
                                           .content = "Subject: x\n"};
    static const struct job never = {.sender = "s@x", .rcpts = {"plain@e.example"},
                                     .notify = NOTIFY_NEVER, .content = "Subject: x\n"};
    static const struct job triple = {.sender = "double-bounce@mx.example",
                                      .rcpts = {"plain@e.example"}, .content = "Subject: x\n"};
    run(&null_sender);
    assert_int_equal(seen_count, 0);
    run(&never);
    assert_int_equal(seen_count, 0);
    params.notify_classes = "2bounce";
    run(&triple);
    assert_int_equal(seen_count, 0);
    assert_null(notify_error);
    defaults();
}

static void test_double_bounce(void **state)
{
    (void)state;
    static const struct job job = {.sender = "", .rcpts = {"plain@e.example"}, .notices_wanted = 1,
                                   .content = "Subject: nullsender\n\nbody\n"};
    params.notify_classes = "2bounce";
    run(&job);
    assert_int_equal(seen_count, 1);
    expect(0, HEAD("Postmaster Copy: Undelivered Mail", "postmaster@origin.example", "auto-generated")
           "\n<plain@e.example>: go away\n" STATUS("MAILER-DAEMON@mx.example")
           GO_AWAY("plain@e.example") PART("Undelivered Message", "message/rfc822")
           "Return-Path: <MAILER-DAEMON@mx.example>\nSubject: nullsender\n\nbody\n" END);
    defaults();
}

static void test_success(void **state)
{
    (void)state;
    static const struct job job = {.sender = "s@out.example", .rcpts = {"relayed@x.example"},
                                   .notify = NOTIFY_SUCCESS | NOTIFY_DELAY, .notices_wanted = 1,
                                   .content = "Subject: relayed\n\nbody text\n"};
    run(&job);
    assert_int_equal(seen_count, 1);
    expect(0, HEAD("Successful Mail Delivery Report", "s@out.example", "auto-replied")
           "This is the mail system at host mx.example.\n\n"
           "Your message was successfully delivered to the destination(s)\n"
           "listed below. If the message was delivered to mailbox you will\n"
           "receive no further notifications. Otherwise you may still receive\n"
           "notifications of mail delivery errors from other systems.\n\n"
           "                   The mail system\n\n"
           "<relayed@x.example>: delivery via 127.0.0.1[127.0.0.1]:2629: 250 2.0.0 Ok\n"
           STATUS("s@out.example") "\nFinal-Recipient: rfc822; relayed@x.example\n"
           "Original-Recipient: rfc822;relayed@x.example\nAction: relayed\nStatus: 2.0.0\n"
           "Remote-MTA: dns; 127.0.0.1\nDiagnostic-Code: smtp; 250 2.0.0 Ok\n"
           PART("Message Headers", "text/rfc822-headers")
           "Return-Path: <s@out.example>\nSubject: relayed\n" END);
}

static int setup(void **state)
{
    (void)state;
    setenv("TZ", "UTC0", 1);
    tzset();
    clock_replace(NULL, frozen_wall);
    OK(offload_start(2));
    defaults();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    offload_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounce), cmocka_unit_test(test_headers_and_copy),
        cmocka_unit_test(test_nobody_is_told), cmocka_unit_test(test_double_bounce),
        cmocka_unit_test(test_success),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
