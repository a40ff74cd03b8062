/* Match lists: mynetworks, mydestination, relay_domains and their relatives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "io/net/addr.h"
#include "maps/map.h"

static char file[64];
static const struct map_options options = {.config_dir = "/tmp"};

static int make_file(void **state)
{
    (void)state;
    snprintf(file, sizeof(file), "/tmp/rp-match-XXXXXX");
    int fd = mkstemp(file);
    static const char text[] = "# comment\nin.file, second.file\n!not.file\n10.9.0.0/16\n";
    bool good = fd >= 0 && write(fd, text, sizeof(text) - 1) == sizeof(text) - 1;
    close(fd);
    return good ? 0 : -1;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file);
}

enum answer { NO, YES, ERROR };

struct row {
    const char *name, *list; /* "@" alone stands for the file */
    enum match_kind kind;
    const char *asked, *addr; /* addr NULL: a name is asked for */
    enum answer expected;
};

static const struct row rows[] = {
    {"a name", "a.example, b.example", MATCH_DOMAIN, "b.example", NULL, YES},
    {"without case", "A.example", MATCH_DOMAIN, "a.EXAMPLE", NULL, YES},
    {"another name", "a.example", MATCH_DOMAIN, "b.example", NULL, NO},
    {"a subdomain needs a dot", "example.com", MATCH_DOMAIN, "a.example.com", NULL, NO},
    {"a dot matches subdomains", ".example.com", MATCH_DOMAIN, "a.example.com", NULL, YES},
    {"a dot does not match the name itself", ".example.com", MATCH_DOMAIN, "example.com", NULL, NO},
    {"parents match subdomains", "example.com", MATCH_DOMAIN_PARENTS, "a.b.example.com", NULL, YES},
    {"parents match whole labels", "ample.com", MATCH_DOMAIN_PARENTS, "example.com", NULL, NO},
    {"negation", "!a.example.com .example.com", MATCH_DOMAIN, "a.example.com", NULL, NO},
    {"negation lets others through", "!a.example.com .example.com", MATCH_DOMAIN, "b.example.com", NULL, YES},
    {"two negations are none", "!!a.example", MATCH_DOMAIN, "a.example", NULL, YES},
    {"first match decides", "a.example !a.example", MATCH_DOMAIN, "a.example", NULL, YES},
    {"an empty list", "", MATCH_DOMAIN, "a", NULL, NO},
    {"an empty name", "a", MATCH_DOMAIN, "", NULL, NO},
    {"a table", "inline:{a.example=x}", MATCH_DOMAIN, "a.example", NULL, YES},
    {"a table, subdomain by dot", "inline:{.example=x}", MATCH_DOMAIN, "a.b.example", NULL, YES},
    {"a table, no parents", "inline:{example=x}", MATCH_DOMAIN, "a.example", NULL, NO},
    {"a table, parents", "inline:{example=x}", MATCH_DOMAIN_PARENTS, "a.b.example", NULL, YES},
    {"a table that fails", "fail:x a", MATCH_DOMAIN, "a", NULL, ERROR},
    {"a match before a table that fails", "a fail:x", MATCH_DOMAIN, "a", NULL, YES},
    {"a pattern sees the name alone", "regexp:{{/^example$/ x}}", MATCH_DOMAIN_PARENTS, "a.example", NULL, NO},
    {"a file", "@", MATCH_DOMAIN, "second.file", NULL, YES},
    {"negation in a file", "@ not.file", MATCH_DOMAIN, "not.file", NULL, NO},
    {"a file, negated", "!@ not.file", MATCH_DOMAIN, "in.file", NULL, NO},
    {"no such file, reached", "/nonexistent/x a", MATCH_DOMAIN, "a", NULL, ERROR},
    {"no such file, not reached", "a /nonexistent/x", MATCH_DOMAIN, "a", NULL, YES},
    {"a bad network, reached", "127.0.0.1/8", MATCH_NETWORK, "", "127.0.0.1", ERROR},
    {"a bad network, not reached", "10.0.0.0/8 127.0.0.1/8", MATCH_NETWORK, "", "10.1.2.3", YES},
    {"a network that is none", "1.2.3.4.5/2", MATCH_NETWORK, "", "1.2.3.4", ERROR},
    {"a table type that is not built in", "mysql:x", MATCH_DOMAIN, "a", NULL, ERROR},
    {"a string", "Yes, no", MATCH_STRING, "yes", NULL, YES},
    {"strings have no subdomains", ".b", MATCH_STRING, "a.b", NULL, NO},
    {"a network", "127.0.0.0/8 10.0.0.0/8", MATCH_NETWORK, "", "10.1.2.3", YES},
    {"outside", "127.0.0.0/8", MATCH_NETWORK, "", "128.0.0.1", NO},
    {"an address", "10.1.2.3", MATCH_NETWORK, "", "10.1.2.3", YES},
    {"IPv6", "[2001:db8::]/32", MATCH_NETWORK, "", "2001:db8::1", YES},
    {"IPv6, one host", "[::1]", MATCH_NETWORK, "", "::1", YES},
    {"IPv6 is not IPv4", "127.0.0.0/8", MATCH_NETWORK, "", "::1", NO},
    {"a negated host in a network", "!10.1.2.3 10.0.0.0/8", MATCH_NETWORK, "", "10.1.2.3", NO},
    {"a network in a file", "@", MATCH_NETWORK, "", "10.9.1.1", YES},
    {"networks know no names", "host.example", MATCH_NETWORK, "host.example", "10.1.1.1", NO},
    {"an address in a table", "inline:{10.1.2.3=x}", MATCH_NETWORK, "", "10.1.2.3", YES},
    {"a cidr table", "cidr:{{10.0.0.0/8 x}}", MATCH_NETWORK, "", "10.1.2.3", YES},
    {"a host by name", ".example", MATCH_HOST, "host.example", "10.1.1.1", YES},
    {"a host by address", "10.0.0.0/8", MATCH_HOST, "unknown", "10.1.1.1", YES},
    {"unknown is no name", "unknown", MATCH_HOST, "unknown", "10.1.1.1", NO},
};

static void test_matches(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        char text[256];
        const char *at = strchr(r->list, '@');
        if (at)
            snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - r->list), r->list, file, at + 1);
        else
            snprintf(text, sizeof(text), "%s", r->list);
        struct match_list *l;
        struct err *e = match_list_open("test", text, r->kind, &options, &l);
        if (e)
            fail_msg("%s: %s", r->name, e->text);
        struct arena *a = arena_new(0, 0);
        struct addr addr;
        bool match = false;
        if (r->addr) {
            assert_true(addr_parse(str_of(r->addr), 0, &addr));
            e = match_list_client(l, a, str_of(r->asked), &addr, &match);
        } else {
            e = match_list_name(l, a, str_of(r->asked), &match);
        }
        enum answer got = e ? ERROR : match ? YES : NO;
        if (got != r->expected)
            fail_msg("%s: got %d, expected %d", r->name, (int)got, (int)r->expected);
        arena_free(a);
        match_list_close(l);
    }
}

static void test_bad_lists(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
        enum match_kind kind;
    } bad[] = {
        {"a !", "no pattern specified after", MATCH_DOMAIN},
        {"foo:bar", "unsupported dictionary type: foo", MATCH_DOMAIN},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct match_list *l;
        struct err *e = match_list_open("mynetworks", bad[i].text, bad[i].kind, &options, &l);
        assert_non_null(e);
        assert_non_null(strstr(e->text, "mynetworks"));
        if (!strstr(e->text, bad[i].expected))
            fail_msg("got \"%s\", expected \"%s\"", e->text, bad[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_bad_lists),
    };
    return cmocka_run_group_tests_name("maps/match_list", tests, make_file, remove_file);
}
