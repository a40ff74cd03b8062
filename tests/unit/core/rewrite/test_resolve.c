#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/rewrite/resolve.h"
#include "core/rewrite/rewrite.h"
#include "io/net/addr.h"
#include "queue/queue.h"

static struct params params;
static struct lists lists;
static struct own_addr own;
static struct snapshot snapshot = {.params = &params, .lists = &lists};
static struct service service = {.snapshot = &snapshot, .params = &params, .lists = &lists,
                                 .name = "smtp", .log_tag = "test"};

static void defaults(void)
{
    memset(&params, 0, sizeof params);
    params.append_at_myorigin = params.allow_percent_hack = params.swap_bangpath = true;
    params.resolve_dequoted_address = params.helpful_warnings = true;
    params.show_user_unknown_table_name = true;
    params.myorigin = "origin.example";
    params.mydomain = "example";
    params.myhostname = "mx.example";
    params.remote_header_rewrite_domain = "";
    params.empty_address_recipient = "MAILER-DAEMON";
    params.double_bounce_sender = "double-bounce";
    params.local_transport = "local:mx.example";
    params.virtual_transport = "virtual";
    params.relay_transport = "relay";
    params.default_transport = "smtp";
    params.relayhost = "";
    params.recipient_delimiter = "+";
    params.parent_domain_matches_subdomains = "relay_domains";
}

static const struct map_options map_options = {.config_dir = "/", .default_type = "hash"};

static struct match_list *match(const char *name, const char *text, enum match_kind kind)
{
    struct match_list *l;
    assert_null(match_list_open(name, text, kind, &map_options, &l));
    return l;
}

static struct map_list maps(const char *text)
{
    struct map_list l;
    struct err *e = map_list_open(text, MAP_FOLD, &map_options, &l);
    if (e)
        fail_msg("%s", e->text);
    return l;
}

static int setup(void **state)
{
    (void)state;
    defaults();
    assert_true(addr_parse(STR("127.0.0.1"), 0, &own.addr));
    snapshot.own_addrs = &own;
    snapshot.own_addr_count = 1;
    lists.mydestination = match("mydestination", "mx.example, localhost, both.example", MATCH_DOMAIN);
    lists.relay_domains = match("relay_domains", "relay.example", MATCH_DOMAIN_PARENTS);
    lists.virtual_alias_domains = match("virtual_alias_domains", "va.example", MATCH_DOMAIN);
    lists.virtual_mailbox_domains = match("virtual_mailbox_domains", "vm.example, both.example",
                                          MATCH_DOMAIN);
    lists.virtual_alias_maps = maps("inline:{joe@va.example=joe@x,al@mx.example=b@x}");
    lists.virtual_mailbox_maps = maps("inline:{box@vm.example=box/}");
    lists.local_recipient_maps = maps("inline:{user=x}");
    lists.relay_recipient_maps = maps("inline:{known@relay.example=x}");
    lists.transport_maps = maps(
        "inline:{tm.example=smtp:[gw]:26,.tm.example=sub:,u@tm.example=:[only],"
        "{e.example=error:5.1.1 go away},n.example=:,d.example=discard:,r.example=retry:,"
        "x+y@tm.example=ext:,c.example=custom}");
    lists.relocated_maps = maps("inline:{moved@mx.example=new@x,gone@va.example=far@y}");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    match_list_close(lists.mydestination);
    match_list_close(lists.relay_domains);
    match_list_close(lists.virtual_alias_domains);
    match_list_close(lists.virtual_mailbox_domains);
    map_list_close(&lists.virtual_alias_maps);
    map_list_close(&lists.virtual_mailbox_maps);
    map_list_close(&lists.local_recipient_maps);
    map_list_close(&lists.relay_recipient_maps);
    map_list_close(&lists.transport_maps);
    map_list_close(&lists.relocated_maps);
    return 0;
}

static void test_rewrite(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", ""}, {"joe", "joe@origin.example"}, {"joe@x", "joe@x"}, {"joe@x.", "joe@x"},
        {"joe@x..", "joe@x.."}, {"joe@.", "joe@."}, {"a!b", "b@a"}, {"a!b!c", "b!c@a"},
        {"a%b", "a@b"}, {"a%b%c", "a%b@c"}, {"a!b%c", "b%c@a"}, {"@x:joe@y", "joe@y"},
        {"@x,@y:joe", "joe@origin.example"}, {"a b!c", "a b!c@origin.example"},
        {"a%b@c", "a%b@c"}, {"joe@[1.2.3.4]", "joe@[1.2.3.4]"},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str got = rewrite_address(&params, a, REWRITE_LOCAL, str_of(rows[i][0]));
        if (!str_eq(got, str_of(rows[i][1])))
            fail_msg("%s gives %.*s", rows[i][0], STR_ARG(got));
    }
    params.append_dot_mydomain = true;
    assert_true(str_eq(rewrite_address(&params, a, REWRITE_LOCAL, STR("joe@host")), STR("joe@host.example")));
    assert_true(str_eq(rewrite_address(&params, a, REWRITE_LOCAL, STR("joe@[::1]")), STR("joe@[::1]")));
    params.append_dot_mydomain = false;
    assert_true(str_eq(rewrite_address(&params, a, REWRITE_REMOTE, STR("joe")), STR("joe")));
    params.remote_header_rewrite_domain = "remote.invalid";
    assert_true(str_eq(rewrite_address(&params, a, REWRITE_REMOTE, STR("joe")), STR("joe@remote.invalid")));
    params.remote_header_rewrite_domain = "";
    arena_free(a);
}

struct row {
    const char *address, *transport, *nexthop, *recipient;
    enum address_class class;
    bool routed;
};

static void check_rows(const struct row *rows, size_t n)
{
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < n; i++) {
        struct resolved r;
        resolve_recipient(&service, a, STR("s@x"), str_of(rows[i].address), &r);
        if (r.table_error || strcmp(r.transport, rows[i].transport) ||
            strcmp(r.nexthop, rows[i].nexthop) || !str_eq(r.recipient, str_of(rows[i].recipient)) ||
            r.class != rows[i].class || r.routed != rows[i].routed)
            fail_msg("%s: class %d %s:%s <%.*s> routed %d", rows[i].address, r.class, r.transport,
                     r.nexthop, STR_ARG(r.recipient), r.routed);
    }
    arena_free(a);
}

static void test_classes(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"joe@mx.example", "local", "mx.example", "joe@mx.example", CLASS_LOCAL, false},
        {"joe@MX.Example", "local", "mx.example", "joe@MX.Example", CLASS_LOCAL, false},
        {"joe@[127.0.0.1]", "local", "mx.example", "joe@[127.0.0.1]", CLASS_LOCAL, false},
        {"joe@[127.0.0.2]", "smtp", "[127.0.0.2]", "joe@[127.0.0.2]", CLASS_DEFAULT, false},
        {"joe@va.example", "error", "5.1.1 User unknown in virtual alias table", "joe@va.example",
         CLASS_VIRTUAL_ALIAS, false},
        {"joe@vm.example", "virtual", "vm.example", "joe@vm.example", CLASS_VIRTUAL_MAILBOX, false},
        {"joe@relay.example", "relay", "relay.example", "joe@relay.example", CLASS_RELAY, false},
        {"joe@sub.relay.example", "relay", "sub.relay.example", "joe@sub.relay.example", CLASS_RELAY,
         false},
        {"joe@out.example", "smtp", "out.example", "joe@out.example", CLASS_DEFAULT, false},
        {"joe", "smtp", "origin.example", "joe@origin.example", CLASS_DEFAULT, false},
        {"a@b@mx.example", "smtp", "b", "a@b", CLASS_DEFAULT, false},
        {"a%b@mx.example", "smtp", "b", "a@b", CLASS_DEFAULT, false},
        {"b!a@mx.example", "smtp", "b", "a@b", CLASS_DEFAULT, false},
        {"a@relay.example@mx.example", "relay", "relay.example", "a@relay.example", CLASS_RELAY, false},
        {"a%b@relay.example", "relay", "relay.example", "a%b@relay.example", CLASS_RELAY, true},
        {"a@b@relay.example", "relay", "relay.example", "a@b@relay.example", CLASS_RELAY, true},
        {"b!a@out.example", "smtp", "out.example", "b!a@out.example", CLASS_DEFAULT, true},
        {"a%mx.example@localhost", "local", "mx.example", "a@mx.example", CLASS_LOCAL, false},
        {"@mx.example", "local", "mx.example", "MAILER-DAEMON@mx.example", CLASS_LOCAL, false},
        {"", "local", "mx.example", "MAILER-DAEMON@mx.example", CLASS_LOCAL, false},
        {"a@b..c", "error", "5.1.3 bad address syntax", "a@b..c", CLASS_DEFAULT, false},
        {"a@1.2.3.4", "error", "5.1.3 bad address syntax", "a@1.2.3.4", CLASS_DEFAULT, false},
        {"a b@mx.example", "local", "mx.example", "a b@mx.example", CLASS_LOCAL, false},
        {"a%b c@mx.example", "error", "5.1.3 bad address syntax", "a@b c", CLASS_DEFAULT, false},
        {"a%d c@mx.example", "error", "5.1.3 bad address syntax", "a@d c", CLASS_DEFAULT, false},
        {"a@", "error", "5.1.3 bad address syntax", "a@", CLASS_DEFAULT, false},
        {"a@b@", "smtp", "b", "a@b", CLASS_DEFAULT, false},
        {"-x@out.example", "error", "5.1.3 bad address syntax", "-x@out.example", CLASS_DEFAULT, false},
        {"a@mx.example.", "local", "mx.example", "a@mx.example", CLASS_LOCAL, false},
        {"a@mx.example..", "error", "5.1.3 bad address syntax", "a@mx.example..", CLASS_DEFAULT, false},
        {"a!b!c@mx.example", "smtp", "a", "b!c@a", CLASS_DEFAULT, true},
        {"a%b%c@mx.example", "smtp", "c", "a%b@c", CLASS_DEFAULT, true},
        {"moved@mx.example", "error", "5.1.6 User has moved to new@x", "moved@mx.example", CLASS_LOCAL,
         false},
        {"moved+x@MX.example", "error", "5.1.6 User has moved to new@x", "moved+x@MX.example",
         CLASS_LOCAL, false},
        {"gone@va.example", "error", "5.1.6 User has moved to far@y", "gone@va.example",
         CLASS_VIRTUAL_ALIAS, false},
        {"joe@both.example", "local", "mx.example", "joe@both.example", CLASS_LOCAL, false},
    };
    check_rows(rows, sizeof rows / sizeof *rows);
}

static void test_transport_maps(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"a@tm.example", "smtp", "[gw]:26", "a@tm.example", CLASS_DEFAULT, false},
        {"a@TM.example", "smtp", "[gw]:26", "a@TM.example", CLASS_DEFAULT, false},
        {"a@s.tm.example", "sub", "s.tm.example", "a@s.tm.example", CLASS_DEFAULT, false},
        {"u@tm.example", "smtp", "[only]", "u@tm.example", CLASS_DEFAULT, false},
        {"u+ext@tm.example", "smtp", "[only]", "u+ext@tm.example", CLASS_DEFAULT, false},
        {"x+y@tm.example", "ext", "tm.example", "x+y@tm.example", CLASS_DEFAULT, false},
        {"a@e.example", "error", "5.1.1 go away", "a@e.example", CLASS_DEFAULT, false},
        {"a@n.example", "smtp", "n.example", "a@n.example", CLASS_DEFAULT, false},
        {"a@d.example", "discard", "d.example", "a@d.example", CLASS_DEFAULT, false},
        {"a@r.example", "retry", "Address is undeliverable", "a@r.example", CLASS_DEFAULT, false},
        {"a@c.example", "custom", "c.example", "a@c.example", CLASS_DEFAULT, false},
    };
    check_rows(rows, sizeof rows / sizeof *rows);
}

static void test_relayhost_and_settings(void **state)
{
    (void)state;
    static const struct row relayhost[] = {
        {"a@out.example", "smtp", "[rh]:25", "a@out.example", CLASS_DEFAULT, false},
        {"a@relay.example", "relay", "[rh]:25", "a@relay.example", CLASS_RELAY, false},
        {"a@vm.example", "virtual", "vm.example", "a@vm.example", CLASS_VIRTUAL_MAILBOX, false},
    };
    params.relayhost = "[rh]:25";
    check_rows(relayhost, 3);
    static const struct row explicit_hop[] = {
        {"a@out.example", "smtp", "[127.0.0.1]:2626", "a@out.example", CLASS_DEFAULT, false},
    };
    params.default_transport = "smtp:[127.0.0.1]:2626";
    check_rows(explicit_hop, 1);
    params.relayhost = "";
    params.resolve_numeric_domain = true;
    static const struct row numeric[] = {
        {"a@1.2.3.4", "smtp", "[127.0.0.1]:2626", "a@[1.2.3.4]", CLASS_DEFAULT, false},
    };
    check_rows(numeric, 1);
    defaults();
    /* What is not followed here may be followed behind us: it is routing in our own domains too. */
    params.allow_percent_hack = params.swap_bangpath = params.resolve_dequoted_address = false;
    static const struct row kept[] = {
        {"a%b@mx.example", "local", "mx.example", "a%b@mx.example", CLASS_LOCAL, true},
        {"b!a@mx.example", "local", "mx.example", "b!a@mx.example", CLASS_LOCAL, true},
        {"a@b@mx.example", "local", "mx.example", "a@b@mx.example", CLASS_LOCAL, true},
        {"a%b@relay.example", "relay", "relay.example", "a%b@relay.example", CLASS_RELAY, true},
        {"ab@mx.example", "local", "mx.example", "ab@mx.example", CLASS_LOCAL, false},
    };
    check_rows(kept, sizeof kept / sizeof *kept);
    defaults();
}

static void test_listed(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        bool listed;
        const char *table;
    } rows[] = {
        {"user@mx.example", true, NULL}, {"user+ext@mx.example", true, NULL},
        {"nobody@mx.example", false, "local recipient table"}, {"postmaster@mx.example", true, NULL},
        {"double-bounce@mx.example", true, NULL}, {"al@mx.example", true, NULL},
        {"joe@va.example", true, NULL}, {"x@va.example", false, "virtual alias table"},
        {"box@vm.example", true, NULL}, {"x@vm.example", false, "virtual mailbox table"},
        {"known@relay.example", true, NULL}, {"x@relay.example", false, "relay recipient table"},
        {"any@out.example", true, NULL},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct resolved r;
        bool listed;
        const char *table = NULL;
        resolve_recipient(&service, a, STR(""), str_of(rows[i].address), &r);
        assert_null(resolve_listed(&service, a, &r, &listed, &table));
        if (listed != rows[i].listed || (!listed && strcmp(table, rows[i].table)))
            fail_msg("%s: %d %s", rows[i].address, listed, table ? table : "");
    }
    arena_free(a);
}

/* A table that fails is never "not found". */
static void test_table_error(void **state)
{
    (void)state;
    struct map_list good = lists.transport_maps;
    struct map_list bad;
    struct arena *a = arena_new(0, 0);
    struct resolved r;

    assert_null(map_list_open("fail:it", MAP_FOLD, &map_options, &bad));
    lists.transport_maps = bad;
    resolve_recipient(&service, a, STR(""), STR("a@out.example"), &r);
    assert_true(r.table_error);
    assert_null(r.transport);

    struct rcpt rcpt = {.address = STR("a@out.example"), .state = RCPT_TODO};
    struct envelope env = {.rcpts = &rcpt, .rcpt_count = 1};
    struct qmsg m = {.arena = a, .env = &env};
    resolve_message(&service, &m);
    assert_string_equal(rcpt.transport, "retry");
    assert_string_equal(rcpt.nexthop, "4.3.0 address resolver failure");
    map_list_close(&bad);
    lists.transport_maps = good;
    rcpt.address = STR("double-bounce@mx.example");
    resolve_message(&service, &m);
    assert_string_equal(rcpt.transport, "discard");
    arena_free(a);
}

/* A message is on its way while a reload, or a stop, frees the snapshot it was resolved with. */
static void test_answers_outlive_the_snapshot(void **state)
{
    (void)state;
    static const struct {
        const char *transport, *relayhost, *want, *want_hop;
    } rows[] = {
        {"lmtp:[192.0.2.1]:24", "", "lmtp", "[192.0.2.1]:24"},
        {"smtp", "[192.0.2.2]:25", "smtp", "[192.0.2.2]:25"},
    };
    const struct params good = params;
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rcpt rcpts[2] = {{.address = STR("a@some.where")}, {.address = STR("b@some.where")}};
        struct envelope env = {.rcpts = rcpts, .rcpt_count = 2};
        struct qmsg m = {.arena = a, .env = &env};
        char transport[32], relayhost[32];
        str_copy(transport, sizeof transport, str_of(rows[i].transport));
        str_copy(relayhost, sizeof relayhost, str_of(rows[i].relayhost));
        params.default_transport = transport;
        params.relayhost = relayhost;
        resolve_message(&service, &m);
        memset(transport, 'x', sizeof transport - 1);
        memset(relayhost, 'x', sizeof relayhost - 1);
        params = good;
        for (size_t k = 0; k < 2; k++) {
            assert_string_equal(rcpts[k].transport, rows[i].want);
            assert_string_equal(rcpts[k].nexthop, rows[i].want_hop);
        }
    }
    arena_free(a);
}

static void test_valid(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        bool utf8, want;
    } rows[] = {
        {"a@b.c", false, true}, {"", false, true}, {"a", false, true}, {"a@", false, false},
        {"a%", false, false}, {"!a", false, false}, {"a@b@", false, true}, {"-a@c.d", false, false},
        {"a@1.2", false, false}, {"a@\xc3\xbc.d", false, false}, {"a@\xc3\xbc.d", true, true},
        {"a@[1.2.3]", false, false}, {"@", false, false},
    };
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (resolve_valid(&service, a, str_of(rows[i].address), rows[i].utf8) != rows[i].want)
            fail_msg("%s", rows[i].address);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewrite),        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_transport_maps), cmocka_unit_test(test_relayhost_and_settings),
        cmocka_unit_test(test_listed),         cmocka_unit_test(test_table_error),
        cmocka_unit_test(test_valid),          cmocka_unit_test(test_answers_outlive_the_snapshot),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
