/* config_load: whole configurations in private folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/config/private.h"
#include "core/config/snapshot.h"
#include "io/base/mem.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/rp-config-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *const files[] = {"main.cf", "master.cf", "origin", "table"};
    char path[128];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *fp = fopen(path, "w");
    assert_non_null(fp);
    fputs(text, fp);
    fclose(fp);
}

#define HOST "myhostname = mail.example.com\nmynetworks = 127.0.0.0/8\nrelay_recipient_maps =\nlocal_recipient_maps =\n"
#define MASTER                                                                                     \
    "smtp inet n - n - - smtpd\n"                                                                  \
    "submission inet n - n - 7 smtpd\n"                                                            \
    "  -o syslog_name=postfix/$service_name\n"                                                     \
    "# -o commented=out\n"                                                                         \
    "  -o { mynetworks = 10.0.0.0/8 192.168.1.1 } -v\n"                                            \
    "smtp unix - - n - - smtp\n"                                                                   \
    "maildrop unix - n n - - pipe flags=DRhu user=vmail argv=/x -o ${recipient}\n"                 \
    "cleanup unix n - n - 0 cleanup\n"

static struct snapshot *load(const char *main_cf, const char *master_cf)
{
    struct snapshot *s = NULL;
    write_file("main.cf", main_cf);
    write_file("master.cf", master_cf);
    struct err *e = config_load(dir, NULL, &s);
    if (e)
        fail_msg("%s", e->text);
    return s;
}

/* --- values */
struct value_row {
    const char *name, *main_cf, *param, *expected;
};
static const struct value_row values[] = {
    {"a default", "", "relay_domains", "mail.example.com, localhost.example.com, localhost"},
    {"a new default by compatibility level", "compatibility_level = 3.6\n", "relay_domains", ""},
    {"a line goes on after a comment",
     "mydestination = a.example,\n# no\n\n   b.example\n", "mydestination", "a.example,   b.example"},
    {"the last setting wins", "mail_name = A\nmail_name = B\n", "mail_name", "B"},
    {"$name, ${name} and $(name)", "x = 1\nmail_name = $x ${x} $(x) $nothing.\n", "mail_name",
     "1 1 1 ."},
    {"old conditionals", "mail_name = ${stress?10}${stress:300}s\n", "mail_name", "300s"},
    {"new conditionals", "mail_name = ${{$x} == {} ? {empty} : {full}}\n", "mail_name", "empty"},
    {"mydomain is what follows the first dot", "", "mydomain", "example.com"},
    {"a dollar", "mail_name = a$$b\n", "mail_name", "a$b"},
    {"quotes stay", "mail_name = \"A B\"\n", "mail_name", "\"A B\""},
    {"an unknown name of the user's own", "mua_x = a, b\nmail_name = $mua_x\n", "mua_x", "a, b"},
    {"a dynamic name with its default", "", "smtp_destination_concurrency_limit", "20"},
    {"a dynamic name that is set", "smtp_destination_rate_delay = 3s\n",
     "smtp_destination_rate_delay", "3s"},
    {"a dynamic name of no service", "", "nosuch_destination_rate_delay", NULL},
    {"a name nobody knows", "", "nosuch", NULL},
    {"a name that is known and not acted on", "", "daemon_timeout", "18000s"},
};

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[1024];
        snprintf(text, sizeof(text), HOST "%s", values[i].main_cf);
        struct snapshot *s = load(text, MASTER);
        const char *got = config_value(s, values[i].param);
        const char *want = values[i].expected;
        if ((got == NULL) != (want == NULL) || (got && strcmp(got, want) != 0))
            fail_msg("%s: got \"%s\", expected \"%s\"", values[i].name, got ? got : "NULL",
                     want ? want : "NULL");
        snapshot_unref(s);
    }
}

/* --- errors */
struct error_row {
    const char *name, *main_cf, *master_cf, *expected; /* %s stands for the folder */
};
static const struct error_row errors[] = {
    {"no '='", "a = 1\nfoo bar\n", MASTER,
     "%s/main.cf, line 2: missing '=' after attribute name: \"foo bar\""},
    {"no name", "= 3\n", MASTER, "%s/main.cf, line 1: missing attribute name: \"= 3\""},
    {"a bad number", HOST "\nqmgr_message_active_limit = many\n", MASTER,
     "%s/main.cf, line 6: bad numerical configuration: qmgr_message_active_limit = many"},
    {"a number below its range", "qmgr_message_active_limit = 0\n", MASTER,
     "%s/main.cf, line 1: invalid qmgr_message_active_limit parameter value 0 < 1"},
    {"a bad boolean", "soft_bounce = maybe\n", MASTER,
     "%s/main.cf, line 1: bad boolean configuration: soft_bounce = maybe"},
    {"a bad time", "queue_run_delay = 5x\n", MASTER,
     "%s/main.cf, line 1: parameter queue_run_delay: bad time value or unit: 5x"},
    {"a loop", "mail_name = $b\nb = $mail_name\n", MASTER, "unreasonable macro call nesting"},
    {"an unclosed reference", "mail_name = ${b\n", MASTER, "truncated macro reference: \"${b\""},
    {"a bad level", "compatibility_level = 3.x\n", MASTER,
     "malformed compatibility level syntax: \"3.x\""},
    {"a bad host name", "myhostname = -x\n", MASTER,
     "%s/main.cf, line 1: parameter myhostname: bad parameter value: -x"},
    {"a bad style", "mynetworks_style = foo\n", MASTER,
     "%s/main.cf, line 1: unknown mynetworks mask style value \"foo\" in \"foo\""},
    {"an unknown table type", HOST "transport_maps = foo:bar\n", MASTER,
     "%s/main.cf, line 5: transport_maps: unsupported dictionary type: foo"},
    {"too few fields", HOST, "smtp inet n - n - - smtpd\n\nfoo unix\n",
     "file %s/master.cf: line 3: bad field count"},
    {"a bad type", HOST, "smtp foo n - n - - smtpd\n",
     "file %s/master.cf: line 1: invalid type field \"foo\" in \"smtp foo n - n - - smtpd\""},
    {"a bad flag", HOST, "smtp unix q - n - - smtpd\n", "invalid private field \"q\""},
    {"a bad process limit", HOST, "smtp unix n - n - many smtpd\n",
     "invalid process_limit field \"many\""},
    {"a private inet service", HOST, "smtp inet y - n - - smtpd\n", "inet service cannot be private"},
    {"an -o without '='", HOST, "smtp inet n - n - - smtpd -o foo\n",
     "file %s/master.cf: line 1: invalid \"-o foo\" option value: missing '=' after attribute name"},
    {"a bad value in an -o", HOST, "x inet n - n - - smtpd\n\n 	-o soft_bounce=2\n",
     "%s/master.cf, line 1: bad boolean configuration: soft_bounce = 2"},
};

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct snapshot *s = NULL;
        char want[512];
        const char *mark = strstr(errors[i].expected, "%s");
        snprintf(want, sizeof(want), "%.*s%s%s", mark ? (int)(mark - errors[i].expected) : 0,
                 errors[i].expected, mark ? dir : "", mark ? mark + 2 : errors[i].expected);
        write_file("main.cf", errors[i].main_cf);
        write_file("master.cf", errors[i].master_cf);
        struct err *e = config_load(dir, NULL, &s);
        if (!e)
            fail_msg("%s: no error", errors[i].name);
        assert_int_equal(e->kind, ERR_CONFIG);
        if (!strstr(e->text, want))
            fail_msg("%s: got \"%s\", expected \"%s\"", errors[i].name, e->text, want);
    }
    struct snapshot *s;
    assert_non_null(config_load("/nonexistent", NULL, &s));
}

/* --- notes */
struct note_row {
    const char *name, *main_cf, *expected; /* NULL = none */
};
static const struct note_row note_rows[] = {
    {"nothing to say", "", NULL},
    {"a typing error", "foo_typo = 1\n", "%s/main.cf: unused parameter: foo_typo=1"},
    {"a name in the branch that is not taken is used", "foo = 1\nmail_name = ${x?{$foo}:{$$}}\n", NULL},
    {"a name used in a value is no error", "foo = 1\nmail_name = $foo\n", NULL},
    {"known, not acted on", "biff = no\n", "%s/main.cf: parameter biff is known but not acted on by this version"},
    {"known, and set to its default", "daemon_timeout = 18000s\n", NULL},
    {"a setting of a table", "transport_maps = \nfoo = pgsql:acc\nmail_name = $foo\nacc_hosts = x\n", NULL},
    {"set twice", "mail_name = a\nmail_name = b\n", "%s/main.cf, line 6: overriding earlier entry: mail_name=a"},
    {"a continuation of nothing is skipped", "", NULL},
    {"a dynamic name that is acted on", "smtp_destination_rate_delay = 1s\n", NULL},
    {"a list's share of the memory", "smtp_recipient_limit = 7\nsmtp_delivery_slot_loan = 1\n", NULL},
    {"how a list's recipients are read on", "smtp_recipient_refill_limit = 7\nsmtp_recipient_refill_delay = 2s\n", NULL},
    {"a dynamic name of no service", "nosuch_destination_rate_delay = 1s\n",
     "%s/main.cf: unused parameter: nosuch_destination_rate_delay=1s"},
};

static void test_notes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(note_rows) / sizeof(note_rows[0]); i++) {
        const struct note_row *row = &note_rows[i];
        char text[512], want[512];
        snprintf(text, sizeof(text), HOST "%s", row->main_cf);
        struct snapshot *s = load(text, "smtp unix - - n - - smtp\n");
        const struct notes *n = &s->priv->notes;
        if (row->expected) {
            snprintf(want, sizeof(want), "%s%s", dir, row->expected + 2);
            if (n->count != 1 || strcmp(n->list[0], want) != 0)
                fail_msg("%s: %zu notes, first: %s", row->name, n->count, n->count ? n->list[0] : "-");
        } else if (n->count != 0) {
            fail_msg("%s: %s", row->name, n->list[0]);
        }
        snapshot_unref(s);
    }
}

static void test_services(void **state)
{
    (void)state;
    struct snapshot *s = load(HOST "default_process_limit = 50\n", MASTER);
    assert_int_equal(s->service_count, 5);
    const struct service *smtpd = config_service(s, "smtp", "inet");
    const struct service *smtp = config_service(s, "smtp", NULL);
    const struct service *submission = config_service(s, "submission", NULL);
    const struct service *maildrop = config_service(s, "maildrop", "unix");
    assert_non_null(smtpd);
    assert_string_equal(smtp->command, "smtp");
    assert_ptr_equal(smtpd->params, s->params);
    assert_ptr_equal(smtpd->lists, s->lists);
    assert_int_equal(smtpd->maxproc, 50);
    assert_string_equal(smtpd->log_tag, "smtpd");
    assert_null(config_service(s, "nosuch", NULL));

    assert_int_equal(submission->maxproc, 7);
    assert_string_equal(submission->log_tag, "postfix/submission/smtpd");
    assert_string_equal(submission->params->mynetworks, "10.0.0.0/8 192.168.1.1");
    assert_ptr_not_equal(submission->lists->mynetworks, s->lists->mynetworks);
    assert_ptr_equal(submission->lists->mydestination, s->lists->mydestination);
    assert_string_equal(submission->args[0], "-v");
    assert_null(submission->args[1]);
    assert_string_equal(service_value(submission, "mynetworks"), "10.0.0.0/8 192.168.1.1");
    assert_string_equal(service_value(submission, "service_name"), "submission");
    assert_string_equal(config_value(s, "mynetworks"), "127.0.0.0/8");

    /* An -o that belongs to the command of pipe(8) is none of ours. */
    assert_string_equal(maildrop->args[3], "-o");
    assert_string_equal(maildrop->args[4], "${recipient}");
    assert_ptr_equal(maildrop->params, s->params);

    struct arena *a = arena_new(0, 0);
    struct addr addr;
    bool match;
    assert_true(addr_parse(STR("10.1.2.3"), 0, &addr));
    assert_null(match_list_client(submission->lists->mynetworks, a, STR(""), &addr, &match));
    assert_true(match);
    assert_null(match_list_client(s->lists->mynetworks, a, STR(""), &addr, &match));
    assert_false(match);
    arena_free(a);
    snapshot_unref(s);
}

static void test_service_twice(void **state)
{
    (void)state;
    struct snapshot *s = load(HOST, "x unix - - n - 1 smtp\ny unix - - n - - smtp\nx unix - - n - 2 smtp\n");
    assert_int_equal(s->service_count, 2);
    assert_int_equal(config_service(s, "x", NULL)->maxproc, 2);
    assert_int_equal(s->priv->notes.count, 1);
    assert_non_null(strstr(s->priv->notes.list[0], "duplicate master.cf entry for service \"x\" (unix)"));
    snapshot_unref(s);
}

static bool smtp_only(const char *command)
{
    return strcmp(command, "smtp") == 0;
}

static void test_sched_options(void **state)
{
    (void)state;
    struct snapshot *s = load(HOST "smtp_destination_rate_delay = 250ms\n"
                                   "maildrop_destination_recipient_limit = 1\n"
                                   "smtp_destination_concurrency_positive_feedback = 0.5/sqrt_concurrency\n"
                                   "default_destination_concurrency_negative_feedback = 1 / concurrency\n"
                                   "default_transport_rate_delay = 50ms\nsmtp_rate_delay_serial = no\n"
                                   "default_delivery_slot_loan = 7\nsmtp_delivery_slot_cost = 9\n"
                                   "smtp_extra_recipient_limit = 5\nsmtp_recipient_refill_limit = 11\n"
                                   "default_recipient_refill_delay = 1m\n"
                                   "minimal_backoff_time = 1m\nmaximal_queue_lifetime = 2\n",
                              MASTER);
    struct sched_options o;
    config_sched_options(s, smtp_only, &o);
    assert_int_equal(o.transport_count, 2);
    const struct sched_transport *smtp = &o.transports[0], *maildrop = &o.transports[1];
    assert_string_equal(smtp->name, "smtp");
    assert_false(smtp->unavailable);
    assert_int_equal(smtp->rate_delay_ms, 250);
    assert_int_equal(smtp->transport_rate_delay_ms, 50);
    assert_false(smtp->rate_serial);
    assert_true(maildrop->rate_serial);
    assert_int_equal(smtp->slot_cost, 9);
    assert_int_equal(maildrop->slot_cost, 5);
    assert_int_equal(smtp->slot_loan, 7);
    assert_int_equal(smtp->slot_discount, 50);
    assert_int_equal(smtp->minimum_slots, 3);
    assert_int_equal(smtp->pool, 20000);
    assert_int_equal(smtp->extra_pool, 5);
    assert_int_equal(smtp->process_limit, 100);
    assert_true(smtp->lingering_max > 0); /* nobody has asked for that number */
    assert_int_equal(maildrop->lingering_max, 0);
    assert_int_equal(smtp->refill_limit, 11);
    assert_int_equal(maildrop->refill_limit, 100);
    assert_int_equal(smtp->refill_delay_s, 60);
    assert_int_equal(o.message_recipient_limit, 20000);
    assert_int_equal(o.recipient_minimum, 10);
    assert_int_equal(o.backoff_jitter, 20);
    assert_false(o.feedback_debug);
    assert_int_equal(smtp->concurrency_limit, 20);
    assert_int_equal(smtp->recipient_limit, 50);
    assert_int_equal(smtp->initial_concurrency, 5);
    assert_true(smtp->positive_sqrt);
    assert_true(smtp->positive_per_window > 0.49 && smtp->positive_per_window < 0.51);
    assert_true(smtp->negative_per_window > 0.99);
    assert_false(smtp->negative_sqrt);
    assert_true(maildrop->unavailable);
    assert_non_null(strstr(maildrop->why, "\"pipe\""));
    assert_int_equal(maildrop->recipient_limit, 1);
    assert_int_equal(o.minimal_backoff_s, 60);
    assert_int_equal(o.maximal_lifetime_s, 2 * 86400);
    assert_int_equal(o.fallback.concurrency_limit, 20);
    assert_int_equal(o.fallback.initial_concurrency, 5);
    assert_true(o.fallback.unavailable);
    snapshot_unref(s);
}

/* The same words on Debian's Postfix: tests/parity/test_attempts_windows.py. */
static void feedback_is_a_number_or_a_share(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double constant, per_window;
        bool root;
    } rows[] = {
        {"0.3", 0.3, 0, false},
        {"1/8", 0.125, 0, false},
        {"3 / 4", 0.75, 0, false},
        {"1/concurrency", 0, 1, false},
        {"0.5 / Concurrency", 0, 0.5, false},
        {"1/sqrt_concurrency", 0, 1, true}, /* beyond Postfix */
        {"0", 0, 0, false},
        /* malformed or unreasonable: 1 */
        {"2", 1, 0, false},
        {"-0.1", 1, 0, false},
        {"2/concurrency", 1, 0, false},
        {"1/0", 1, 0, false},
        {"3/2", 1, 0, false},
        {"0.5/", 1, 0, false},
        {"/8", 1, 0, false},
        {"1/8/8", 1, 0, false},
        {"nan", 1, 0, false},
        {"much", 1, 0, false},
        {"0.5/window", 1, 0, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[200];
        snprintf(text, sizeof text, HOST "default_destination_concurrency_negative_feedback = %s\n",
                 rows[i].text);
        struct snapshot *s = load(text, MASTER);
        struct sched_options o;
        config_sched_options(s, smtp_only, &o);
        const struct sched_transport *t = &o.transports[0];
        if (t->negative_feedback != rows[i].constant || t->negative_per_window != rows[i].per_window ||
            t->negative_sqrt != rows[i].root)
            fail_msg("%s: %g, %g", rows[i].text, t->negative_feedback, t->negative_per_window);
        snapshot_unref(s);
    }
}

static void test_processes_asked_for(void **state)
{
    (void)state;
    struct snapshot *s = load(HOST "default_process_limit = 100\n",
                              "a unix - - n - - smtp\nb unix - - n - 9 smtp\n");
    struct sched_options o;
    config_sched_options(s, smtp_only, &o);
    assert_int_equal(o.transports[0].process_limit, 100);
    assert_int_equal(o.transports[0].lingering_max, 0);
    assert_int_equal(o.transports[1].process_limit, 9);
    assert_int_equal(o.transports[1].lingering_max, 0);
    snapshot_unref(s);
}

static void test_origin_file(void **state)
{
    (void)state;
    char text[256];
    write_file("origin", "origin.example\nsecond\n");
    snprintf(text, sizeof(text), HOST "myorigin = %s/origin\n", dir);
    struct snapshot *s = load(text, MASTER);
    assert_string_equal(s->params->myorigin, "origin.example");
    snapshot_unref(s);
}

static void test_publish(void **state)
{
    (void)state;
    struct snapshot *first = load(HOST "mail_name = first\n", MASTER);
    config_publish(first);
    struct snapshot *held = config_current();
    assert_ptr_equal(held, first);
    config_publish(load(HOST "mail_name = second\n", MASTER));
    /* A session that began with the first still has it. */
    assert_string_equal(held->params->mail_name, "first");
    struct snapshot *now = config_current();
    assert_string_equal(now->params->mail_name, "second");
    snapshot_unref(now);
    snapshot_unref(held);
    config_publish(NULL);
    assert_null(config_current());
}

static void test_extra(void **state)
{
    (void)state;
    write_file("main.cf", HOST "mail_name = a\n");
    write_file("master.cf", MASTER);
    const char *const extra[] = {"mail_name=b", "soft_bounce = yes", NULL};
    struct snapshot *s;
    assert_null(config_load(dir, extra, &s));
    assert_string_equal(s->params->mail_name, "b");
    assert_true(s->params->soft_bounce);
    snapshot_unref(s);
    assert_null(config_load_main(dir, &s));
    assert_string_equal(s->params->mail_name, "a");
    assert_int_equal(s->service_count, 0);
    snapshot_unref(s);
}

/* Any bytes: an error or a snapshot, never a crash. */
static void test_random_bytes(void **state)
{
    (void)state;
    static const char alphabet[] = "ab=$${}()?:<>!#,/ \t\n\"\\-o1.smtpinetunix[]";
    unsigned seed = 4711;
    for (int round = 0; round < 400; round++) {
        char main_cf[200], master_cf[200];
        for (size_t i = 0; i < sizeof(main_cf) - 1; i++) {
            seed = seed * 1103515245u + 12345u;
            main_cf[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
            seed = seed * 1103515245u + 12345u;
            master_cf[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
        }
        main_cf[199] = master_cf[199] = '\0';
        char text[512];
        snprintf(text, sizeof(text), HOST "mail_name = %s", main_cf);
        write_file("main.cf", text);
        write_file("master.cf", round % 2 ? MASTER : master_cf);
        struct snapshot *s = NULL;
        if (!config_load(dir, NULL, &s))
            snapshot_unref(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),       cmocka_unit_test(test_errors),
        cmocka_unit_test(test_notes),        cmocka_unit_test(test_services),
        cmocka_unit_test(test_service_twice),
        cmocka_unit_test(test_sched_options),
        cmocka_unit_test(test_origin_file),
        cmocka_unit_test(feedback_is_a_number_or_a_share),
        cmocka_unit_test(test_processes_asked_for),
        cmocka_unit_test(test_publish),      cmocka_unit_test(test_extra),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests_name("core/config/snapshot", tests, make_dir, remove_dir);
}
