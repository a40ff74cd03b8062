/* Whole sessions over a socket pair. cleanup is played by this program: it remembers what reached it
 * and says what the row wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup/cleanup.h"
#include "io/net/stream.h"
#include "core/smtpd/smtpd.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/fiber/wait.h"
#include "io/ring/ring.h"

/* --- the cleanup that is played */
struct cleanup {
    struct buf text;
};

static struct {
    enum cleanup_status begin, commit;
    size_t open, begun, committed, aborted, rcpts;
    struct buf last;     /* content of the last committed message behind Received: */
    struct buf envelope; /* sender and recipients of the last message */
    unsigned flags, env_flags;
} fake;

enum cleanup_status cleanup_begin(const struct service *service, struct queue *queue, unsigned flags,
                                  struct cleanup **out)
{
    (void)service, (void)queue;
    if (fake.begin != CLEANUP_OK)
        return fake.begin;
    *out = mem_zalloc(sizeof **out);
    fake.begun++;
    fake.open++;
    fake.flags = flags;
    fake.rcpts = 0;
    buf_reset(&fake.envelope);
    return CLEANUP_OK;
}

const char *cleanup_id(const struct cleanup *c)
{
    (void)c;
    return "ABCDEF";
}

int64_t cleanup_arrival_us(const struct cleanup *c)
{
    (void)c;
    return 0;
}

void cleanup_sender(struct cleanup *c, struct str sender, uint8_t ret, struct str envid,
                    unsigned env_flags)
{
    (void)c;
    fake.env_flags = env_flags;
    buf_printf(&fake.envelope, "%.*s", STR_ARG(sender));
    if (ret || envid.len)
        buf_printf(&fake.envelope, " ret=%d envid=%.*s", ret, STR_ARG(envid));
}

void cleanup_attr(struct cleanup *c, struct str name, struct str value)
{
    (void)c, (void)name, (void)value;
}

void cleanup_rcpt(struct cleanup *c, struct str address, struct str original, struct str orcpt,
                  uint8_t notify)
{
    (void)c, (void)original;
    if (fake.rcpts++ < 5)
        buf_printf(&fake.envelope, " > %.*s %.*s %d", STR_ARG(address), STR_ARG(orcpt), notify);
}

void cleanup_line(struct cleanup *c, struct str text, bool whole)
{
    buf_add_str(&c->text, text);
    if (whole)
        buf_add_char(&c->text, '\n');
}

bool cleanup_plain(const struct cleanup *c)
{
    return c->text.len > 0 && c->text.ptr[c->text.len - 1] == '\n';
}

void cleanup_lines(struct cleanup *c, const struct plain *lines)
{
    struct str rest = lines->text, line;
    for (ssize_t at; (at = str_find(rest, STR("\r\n"))) >= 0; rest = str_from(rest, (size_t)at + 2)) {
        line = str_head(rest, (size_t)at);
        cleanup_line(c, line, true);
    }
}

static void end(struct cleanup *c)
{
    buf_fini(&c->text);
    mem_free(c);
    fake.open--;
}

enum cleanup_status cleanup_commit(struct cleanup *c, struct arena *a, struct str *why_out)
{
    (void)a, (void)why_out;
    ssize_t at = str_find(buf_str(&c->text), STR("\n\t"));
    at = at < 0 ? 0 : at + 1 + str_find(str_from(buf_str(&c->text), (size_t)at + 1), STR("\n\t"));
    struct str rest = str_from(buf_str(&c->text), (size_t)at + 1);
    rest = str_from(rest, (size_t)str_index(rest, '\n') + 1);
    buf_reset(&fake.last);
    buf_add_str(&fake.last, rest);
    end(c);
    fake.committed++;
    return fake.commit;
}

void cleanup_abort(struct cleanup *c)
{
    end(c);
    fake.aborted++;
}

const char *cleanup_status_reply(enum cleanup_status s)
{
    return s == CLEANUP_TOO_BIG      ? "552 5.3.4 Error: message file too big"
           : s == CLEANUP_QUEUE_FULL ? "452 4.3.1 Error: queue full"
                                     : "451 4.3.0 Error: queue file write error";
}

/* --- one session */
static char dir[64];
static struct snapshot *snapshot;

struct play {
    const struct service *service;
    struct str input;
    const char *address;
    struct buf output;
    int fds[2];
    struct event done;
};

static void server(void *arg)
{
    struct play *p = arg;
    struct addr client;

    addr_parse(str_of(p->address), 12345, &client);
    smtpd_session(p->service, NULL, p->fds[1], &client);
    event_set(&p->done);
}

static void client(void *arg)
{
    struct play *p = arg;

    /* The server may have hung up; what it said is read all the same. */
    struct err *e = io_send(p->fds[0], p->input.ptr, p->input.len, clock_in_s(10));
    shutdown(p->fds[0], SHUT_WR);
    (void)e;
}

static void reader(void *arg)
{
    struct play *p = arg;
    size_t n;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->fds), 0);
    event_init(&p->done);
    assert_non_null(fiber_spawn("server", server, p));
    assert_non_null(fiber_spawn("client", client, p));
    for (;;) {
        char bytes[2048];
        struct err *e = io_recv(p->fds[0], bytes, sizeof bytes, clock_in_s(20), &n);
        if (e || n == 0)
            break;
        buf_add(&p->output, bytes, n);
    }
    assert_null(event_wait(&p->done, clock_in_s(20)));
    close(p->fds[0]);
}

static const char *play(struct play *p)
{
    struct worker_options options = {.name = "test", .cpu = -1};

    buf_reset(&p->output);
    buf_add_c(&p->output, "");
    assert_null(worker_run_here(&options, reader, p));
    assert_int_equal(fake.open, 0); /* nothing leaked, whatever happened */
    return p->output.ptr;
}

static const struct service *service_of(const char *name)
{
    const struct service *s = config_service(snapshot, name, "inet");
    assert_non_null(s);
    return s;
}

#define EHLO     "EHLO c\r\n"
#define MAIL     "MAIL FROM:<a@example.com>\r\n"
#define RCPT     "RCPT TO:<b@dest.example>\r\n"
#define GREETING "220 mx.example.org ESMTP Postfix\r\n"
#define HELLO                                                                                      \
    "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 2000\r\n250-VRFY\r\n250-ETRN\r\n"            \
    "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
#define MAIL_OK "250 2.1.0 Ok\r\n"
#define RCPT_OK "250 2.1.5 Ok\r\n"
#define GO      "354 End data with <CR><LF>.<CR><LF>\r\n"
#define QUEUED  "250 2.0.0 Ok: queued as ABCDEF\r\n"
#define BYE     "221 2.0.0 Bye\r\n"
#define DENIED  "454 4.7.1 <b@dest.example>: Relay access denied\r\n"
#define NET     "127.0.0.1"
#define WORLD   "192.0.2.1"

struct row {
    const char *name, *service, *address, *input, *output;
    const char *content;  /* of the message committed; NULL = none may be */
    const char *envelope; /* NULL = not compared */
};

static const struct row rows[] = {
    {"a message", "2501", NET, EHLO MAIL RCPT "DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
     GREETING HELLO MAIL_OK RCPT_OK GO QUEUED BYE, "Subject: x\n\n.dot\n",
     "a@example.com > b@dest.example rfc822;b@dest.example 0"},
    {"DSN parameters", "2501", NET,
     EHLO "MAIL FROM:<> RET=HDRS ENVID=x+2By\r\n"
          "RCPT TO:<\"b c\"@dest.example> NOTIFY=DELAY,FAILURE ORCPT=rfc822;o@x\r\n"
          "DATA\r\n.\r\nQUIT\r\n",
     GREETING HELLO MAIL_OK RCPT_OK GO QUEUED BYE, "",
     " ret=2 envid=x+y > b c@dest.example rfc822;o@x 12"},
    {"a client that leaves inside the content", "2501", NET, EHLO MAIL RCPT "DATA\r\nhalf a li",
     GREETING HELLO MAIL_OK RCPT_OK GO, NULL, NULL},
    {"a client that leaves before the ending dot", "2501", NET,
     EHLO MAIL RCPT "DATA\r\nSubject: x\r\n\r\nall\r\n", GREETING HELLO MAIL_OK RCPT_OK GO, NULL,
     NULL},
    {"a client that leaves with the dot but without its line end", "2501", NET,
     EHLO MAIL RCPT "DATA\r\nx\r\n.", GREETING HELLO MAIL_OK RCPT_OK GO, NULL, NULL},
    {"a client that leaves inside a chunk", "2501", NET, EHLO MAIL RCPT "BDAT 10 LAST\r\nabc",
     GREETING HELLO MAIL_OK RCPT_OK, NULL, NULL},
    {"QUIT between chunks queues nothing", "2501", NET,
     EHLO MAIL RCPT "BDAT 3\r\nabcQUIT\r\n",
     GREETING HELLO MAIL_OK RCPT_OK "250 2.0.0 Ok: 3 bytes\r\n" BYE, NULL, NULL},
    {"chunks cut lines and line ends", "2501", NET,
     EHLO MAIL RCPT "BDAT 5\r\nSubjeBDAT 6\r\nct: x\rBDAT 4 LAST\r\n\n\r\nyQUIT\r\n",
     GREETING HELLO MAIL_OK RCPT_OK "250 2.0.0 Ok: 5 bytes\r\n250 2.0.0 Ok: 6 bytes\r\n"
     "250 2.0.0 Ok: 17 bytes queued as ABCDEF\r\n" BYE, "Subject: x\n\ny\n", NULL},
    {"a refused chunk is swallowed", "2501", NET,
     EHLO "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\nQUIT\r\n",
     GREETING HELLO "503 5.5.1 Error: need RCPT command\r\n"
     "551 5.0.0 Discarded 6 bytes after earlier error\r\n250 2.0.0 Ok\r\n" BYE, NULL, NULL},
    {"DATA after BDAT", "2501", NET, EHLO MAIL RCPT "BDAT 3\r\nabcDATA\r\nRSET\r\nQUIT\r\n",
     GREETING HELLO MAIL_OK RCPT_OK "250 2.0.0 Ok: 3 bytes\r\n"
     "503 5.5.1 Error: DATA after BDAT\r\n250 2.0.0 Ok\r\n" BYE, NULL, NULL},
    {"a stranger may not relay", "2501", WORLD, EHLO MAIL RCPT "DATA\r\nQUIT\r\n",
     GREETING HELLO MAIL_OK DENIED "554 5.5.1 Error: no valid recipients\r\n" BYE, NULL, NULL},
    {"a stranger may write to us", "2501", WORLD, EHLO MAIL "RCPT TO:<u@example.org>\r\nQUIT\r\n",
     GREETING HELLO MAIL_OK RCPT_OK BYE, NULL, NULL},
    {"permit in the recipient list opens no relay", "2502", WORLD, EHLO MAIL RCPT "QUIT\r\n",
     GREETING HELLO MAIL_OK DENIED BYE, NULL, NULL},
    {"no relay control, no session", "2503", WORLD, "QUIT\r\n", "", NULL, NULL},
    {"an unknown restriction is a server's error", "2504", NET, EHLO MAIL RCPT "QUIT\r\n",
     GREETING HELLO MAIL_OK "451 4.3.5 Server configuration error\r\n" BYE, NULL, NULL},
    {"smuggling: a dot between bare line feeds ends nothing", "2501", WORLD,
     EHLO MAIL "RCPT TO:<u@example.org>\r\nDATA\r\na\n.\nMAIL FROM:<evil@x.example>\r\n.\r\nQUIT\r\n",
     GREETING HELLO MAIL_OK RCPT_OK GO QUEUED BYE, "a\nMAIL FROM:<evil@x.example>\n", NULL},
    {"bare line feeds refused", "2505", WORLD,
     EHLO MAIL "RCPT TO:<u@example.org>\r\nDATA\r\na\nb\r\n.\r\nQUIT\r\n",
     GREETING HELLO MAIL_OK RCPT_OK GO
     "550 5.5.2 mx.example.org Error: bare <LF> received\r\n" BYE, NULL, NULL},
    {"a command with a bare line feed refused", "2505", WORLD, "EHLO c\nNOOP\r\n",
     GREETING "550 5.5.2 mx.example.org Error: bare <LF> received\r\n", NULL, NULL},
    {"too many errors", "2506", NET, "FOO\r\nFOO\r\nNOOP\r\n",
     GREETING "500 5.5.2 Error: command not recognized\r\n"
     "500 5.5.2 Error: command not recognized\r\n"
     "421 4.7.0 mx.example.org Error: too many errors\r\n", NULL, NULL},
    {"bytes that are no commands", "2501", NET, "\xff\r\n \r\nN\0OP\r\nGET / x\r\nNOOP\r\n",
     NULL, NULL, NULL},
};

static const char main_cf[] =
    "compatibility_level = 3.6\nmyhostname = mx.example.org\nmydomain = example.org\n"
    "mydestination = example.org\nmynetworks = 127.0.0.1\ninet_interfaces = 127.0.0.1\n"
    "smtpd_peername_lookup = no\nmessage_size_limit = 2000\nmailbox_size_limit = 0\n"
    "local_recipient_maps =\nalias_maps =\nalias_database =\nsmtpd_error_sleep_time = 0\n"
    "smtpd_timeout = 20s\nsmtpd_forbidden_commands = GET POST CONNECT\n";
static const char master_cf[] =
    "2501 inet n - n - - smtpd\n"
    "2502 inet n - n - - smtpd\n  -o smtpd_recipient_restrictions=permit\n"
    "2503 inet n - n - - smtpd\n  -o smtpd_relay_restrictions=permit_mynetworks\n"
    "2504 inet n - n - - smtpd\n  -o smtpd_recipient_restrictions=permit_mynetwork\n"
    "2505 inet n - n - - smtpd\n  -o smtpd_forbid_bare_newline=reject\n"
    "2506 inet n - n - - smtpd\n  -o smtpd_hard_error_limit=2\n"
    "2507 inet n - n - - smtpd\n  -o smtpd_recipient_limit=3\n"
    "  -o smtpd_recipient_overshoot_limit=1000000\n";

static void write_file(const char *name, const char *text)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    fclose(f);
}

static int set_up(void **state)
{
    char text[2048], path[128];
    /* Session lines would drown what a failing row says. */
    struct log_options quiet = {.file = "/dev/null", .syslog_name = "postfix"};

    (void)state;
    assert_null(log_start(&quiet));
    snprintf(dir, sizeof dir, "/tmp/rp-test-smtpd-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(text, sizeof text, "%squeue_directory = %s/queue\ndata_directory = %s/data\n", main_cf,
             dir, dir);
    write_file("main.cf", text);
    write_file("master.cf", master_cf);
    snprintf(path, sizeof path, "%s/queue", dir);
    mkdir(path, 0755);
    struct err *e = config_load(dir, NULL, &snapshot);
    if (e)
        fail_msg("%s", e->text);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    snapshot_unref(snapshot);
    log_stop();
    snprintf(command, sizeof command, "rm -r %s", dir);
    buf_fini(&fake.last);
    buf_fini(&fake.envelope);
    return system(command);
}

static void reset(void)
{
    fake.begin = fake.commit = CLEANUP_OK;
    fake.begun = fake.committed = fake.aborted = 0;
    buf_reset(&fake.last);
    buf_add_c(&fake.last, "");
    buf_reset(&fake.envelope);
    buf_add_c(&fake.envelope, "");
}

static void test_dialogues(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        struct play p = {.service = service_of(row->service), .address = row->address};
        p.input = str_of(row->input);
        if (!row->output) /* the row with a NUL in it */
            p.input = STR("\xff\r\n \r\nNO\0OP\r\nGET / x\r\nNOOP\r\n");
        const char *wanted = row->output
                                 ? row->output
                                 : GREETING "500 5.5.2 Error: bad UTF-8 syntax\r\n"
                                            "500 5.5.2 Error: bad syntax\r\n"
                                            "500 5.5.2 Error: command not recognized\r\n"
                                            "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n";
        reset();
        const char *got = play(&p);
        if (strcmp(got, wanted) != 0)
            fail_msg("%s: got\n%s\nwanted\n%s", row->name, got, wanted);
        if (fake.committed != (row->content != NULL))
            fail_msg("%s: %zu messages", row->name, fake.committed);
        if (row->content && strcmp(fake.last.ptr, row->content) != 0)
            fail_msg("%s: content \"%s\"", row->name, fake.last.ptr);
        if (row->envelope && strcmp(fake.envelope.ptr, row->envelope) != 0)
            fail_msg("%s: envelope \"%s\"", row->name, fake.envelope.ptr);
        buf_fini(&p.output);
    }
}

static void expect_end(const char *name, struct play *p, const char *wanted)
{
    const char *got = play(p);
    if (!str_ends(str_of(got), str_of(wanted)))
        fail_msg("%s: got\n%s", name, got);
    buf_fini(&p->output);
}

static void test_a_full_disk_is_told_at_once_or_at_the_end(void **state)
{
    struct play p = {.service = service_of("2501"), .address = NET};

    (void)state;
    reset();
    fake.begin = CLEANUP_QUEUE_FULL;
    p.input = STR(EHLO MAIL RCPT "QUIT\r\n");
    expect_end("begin", &p, "452 4.3.1 Insufficient system storage\r\n" BYE);
    reset();
    fake.commit = CLEANUP_QUEUE_FULL;
    p.input = STR(EHLO MAIL RCPT "DATA\r\n.\r\n" MAIL "QUIT\r\n");
    expect_end("commit", &p, GO "452 4.3.1 Error: queue full\r\n" MAIL_OK BYE);
}

static void test_content_beyond_the_limit_is_swallowed(void **state)
{
    struct play p = {.service = service_of("2501"), .address = NET};
    struct buf in = {0};

    (void)state;
    reset();
    buf_add_c(&in, EHLO MAIL RCPT "DATA\r\n");
    for (int i = 0; i < 5000; i++)
        buf_add_c(&in, "0123456789012345678901234567890123456789\r\n");
    buf_add_c(&in, ".\r\nNOOP\r\nQUIT\r\n");
    p.input = buf_str(&in);
    expect_end("DATA", &p, GO "552 5.3.4 Error: message file too big\r\n250 2.0.0 Ok\r\n" BYE);
    assert_int_equal(fake.committed, 0);
    assert_int_equal(fake.aborted, 1);
    buf_fini(&in);
}

static void test_a_line_without_end_is_one_command_cut_short(void **state)
{
    struct play p = {.service = service_of("2501"), .address = NET};
    struct buf in = {0};

    (void)state;
    reset();
    buf_add_c(&in, "NOOP ");
    for (int i = 0; i < 100000; i++)
        buf_add_c(&in, "0123456789");
    buf_add_c(&in, "\r\nQUIT\r\n");
    p.input = buf_str(&in);
    expect_end("NOOP", &p, GREETING "250 2.0.0 Ok\r\n" BYE);
    buf_fini(&in);
}

static void test_a_hundred_thousand_recipients(void **state)
{
    struct play p = {.service = service_of("2507"), .address = NET};
    struct buf in = {0};
    size_t refused = 0;

    (void)state;
    reset();
    buf_add_c(&in, EHLO MAIL);
    for (int i = 0; i < 100000; i++)
        buf_add_c(&in, RCPT);
    buf_add_c(&in, "DATA\r\n.\r\nQUIT\r\n");
    p.input = buf_str(&in);
    /* Not strstr: under ASan's strict_string_checks each call walks to the end of the text. */
    struct str got = str_of(play(&p)), wanted = STR("452 4.5.3 Error: too many recipients");
    for (ssize_t at; (at = str_find(got, wanted)) >= 0; got = str_from(got, (size_t)at + 1))
        refused++;
    assert_int_equal(refused, 99997);
    assert_int_equal(fake.rcpts, 3);
    assert_int_equal(fake.committed, 1);
    buf_fini(&p.output);
    buf_fini(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialogues),
        cmocka_unit_test(test_a_full_disk_is_told_at_once_or_at_the_end),
        cmocka_unit_test(test_content_beyond_the_limit_is_swallowed),
        cmocka_unit_test(test_a_line_without_end_is_one_command_cut_short),
        cmocka_unit_test(test_a_hundred_thousand_recipients),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
