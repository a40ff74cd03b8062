/* Every type of table, and all three answers of each: found, not found, error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/base/clock.h"
#include "maps/map.h"

static char dir[64];
static struct map_options options = {.config_dir = dir};

static const char *const files[] = {"text", "cidr",  "regexp",     "pcre", "src",     "src.lmdb",
                                    "late", "aliases", "aliases.lmdb", "big",  "big.lmdb", "slow", "deep"};

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/rp-maps-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char path[128];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    return rmdir(dir);
}

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *fp = fopen(path_of(name), "w");
    assert_non_null(fp);
    fputs(text, fp);
    fclose(fp);
}

static void build(const char *name, bool replace)
{
    struct map_build_options o = {
        .fold = true, .warn_dup = false, .replace = replace, .tag = "postmap"};
    struct err *e = map_build(map_type_find(STR("hash")), path_of(name), -1, &o);
    if (e)
        fail_msg("%s", e->text);
}

#define NONE  "(none)"
#define ERROR "(error)"

/* value, NONE or ERROR */
static const char *look(struct map *m, const char *key, unsigned flags)
{
    static char out[2000];
    struct arena *a = arena_new(0, 0);
    struct str value;
    bool found;
    (void)flags;
    struct err *e = map_find(m, a, str_of(key), &value, &found);
    snprintf(out, sizeof(out), "%.*s", e ? 7 : found ? (int)value.len : 6,
             e ? ERROR : found ? value.ptr : NONE);
    arena_free(a);
    return out;
}

struct row {
    const char *name, *map, *key, *expected;
    unsigned flags;
};

static const struct row rows[] = {
    {"hash finds", "hash:src", "a", "1", MAP_FOLD},
    {"hash keeps the first of two", "hash:src", "dup", "first", MAP_FOLD},
    {"hash joins lines", "hash:src", "b", "2  continued", MAP_FOLD},
    {"hash folds keys", "hash:src", "MiXeD", "case", MAP_FOLD},
    {"a quoted key keeps its quotes", "hash:src", "\"a b\"@example.com", "quoted", MAP_FOLD},
    {"hash does not find", "hash:src", "nope", NONE, MAP_FOLD},
    {"a prefix is no match", "hash:src", "ab", NONE, 0},
    {"an empty key is nowhere", "hash:src", "", NONE, 0},
    {"all LMDB types read the same file", "btree:src", "a", "1", 0},
    {"cdb too", "cdb:src", "a", "1", 0},
    {"dbm too", "dbm:src", "a", "1", 0},
    {"lmdb too", "lmdb:src", "a", "1", 0},
    {"proxy opens the rest", "proxy:hash:src", "a", "1", 0},
    {"no file is an error", "hash:nofile", "a", ERROR, 0},
    {"a file that is no database is an error", "hash:text", "a", ERROR, 0},
    {"texthash finds", "texthash:text", "a", "1", MAP_FOLD},
    {"texthash folds", "texthash:text", "UPPER", "x", MAP_FOLD},
    {"texthash does not fold unasked", "texthash:text", "upper", NONE, 0},
    {"texthash without file", "texthash:nofile", "a", ERROR, 0},
    {"inline finds", "inline:{a=1, {b = two words}}", "b", "two words", 0},
    {"inline does not find", "inline:{a=1}", "b", NONE, 0},
    {"static", "static:x", "anything", "x", 0},
    {"static in braces", "static:{ two words }", "anything", "two words", 0},
    {"environ finds", "environ:", "", NONE, 0},
    {"fail", "fail:x", "a", ERROR, 0},
    {"cidr finds", "cidr:cidr", "192.168.1.7", "inside", 0},
    {"cidr takes the first", "cidr:cidr", "192.168.1.1", "one", 0},
    {"cidr, IPv6", "cidr:cidr", "2001:db8::7", "six", 0},
    {"cidr, if", "cidr:cidr", "10.1.2.3", "ten one", 0},
    {"cidr, if that is not so", "cidr:cidr", "11.1.2.3", "not ten", 0},
    {"cidr, no address", "cidr:cidr", "example.com", NONE, 0},
    {"regexp without case", "regexp:regexp", "USER@example.com", "found", MAP_FOLD},
    {"regexp with case", "regexp:regexp", "CASE", NONE, 0},
    {"regexp with case, hit", "regexp:regexp", "case", "exact", 0},
    {"regexp substitutes", "regexp:regexp", "a-b", "b/a $1", MAP_REGEXP_SUB},
    {"regexp does not substitute unasked", "regexp:regexp", "a-b", NONE, 0},
    {"regexp, negated in an if", "regexp:regexp", "if-y", "not x", 0},
    {"regexp, if and its rule", "regexp:regexp", "if-x", "is x", 0},
    {"regexp, rules in the name", "regexp:{{/^[^A-Z]/ Bogus}}", "x", NONE, 0},
    {"regexp, rules in the name, hit", "regexp:{{/^[0-9]/ Bogus}, {/x/ y}}", "1", "Bogus", 0},
    {"pcre", "pcre:pcre", "Foo-12", "12", MAP_REGEXP_SUB},
    {"pcre, lookahead", "pcre:pcre", "foobar", "ahead", 0},
    {"pcre, none", "pcre:pcre", "zzz", NONE, 0},
    {"pcre, too costly a key is an error", "pcre:slow",
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", ERROR, 0},
    {"unionmap joins", "unionmap:{static:x,static:y}", "a", "x,y", 0},
    {"unionmap leaves out", "unionmap:{inline:{a=1},static:y}", "b", "y", 0},
    {"unionmap, none", "unionmap:{inline:{a=1},inline:{a=2}}", "b", NONE, 0},
    {"unionmap, one error is an error", "unionmap:{static:x,fail:y}", "b", ERROR, 0},
    {"pipemap passes on", "pipemap:{inline:{a=b},inline:{b=c}}", "a", "c", 0},
    {"pipemap, none in the middle", "pipemap:{inline:{a=x},inline:{b=c}}", "a", NONE, 0},
    {"randmap of one", "randmap:{x}", "a", "x", 0},
    {"a type that is not built in", "mysql:x", "a", ERROR, 0},
    {"a type that is not built in, in a join", "unionmap:{static:x,ldap:y}", "a", ERROR, 0},
    {"nis: without a NIS domain", "nis:mail.aliases", "a", NONE, 0},
    {"unix", "unix:passwd.byname", "no-such-user-here", NONE, 0},
};

static void test_types(void **state)
{
    (void)state;
    write_file("src", "a 1\nb 2\n  continued\n# c\ndup first\ndup second\nMixed case\n"
                      "\"a b\"@example.com quoted\nnovalue\n");
    write_file("text", "a 1\nUPPER x\n\"open y\n");
    write_file("cidr", "192.168.1.1 one\n192.168.1.0/24 inside\n192.168.1.1/24 skipped\n"
                       "2001:db8::/32 six\nif 10.0.0.0/8\n10.1.0.0/16 ten one\nendif\n"
                       "!10.0.0.0/8 not ten\n");
    write_file("regexp", "/^user@/ found\n/^case$/i exact\n/^(a)-(b)$/ $2/${1} $$1\n/bad(/ skipped\n"
                         "if /^if-/\n/x$/ is x\n!/x$/ not x\nendif\nnothing\n");
    write_file("pcre", "/^foo-(\\d+)$/ $1\n/^foo(?=bar)/ ahead\n");
    write_file("slow", "/^(a+)+$/ never\n");
    build("src", false);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct map *m;
        if (strcmp(rows[i].map, "environ:") == 0)
            continue;
        struct err *e = map_open(str_of(rows[i].map), rows[i].flags | MAP_LAZY, &options, &m);
        if (e)
            fail_msg("%s: %s", rows[i].name, e->text);
        const char *got = look(m, rows[i].key, rows[i].flags);
        if (strcmp(got, rows[i].expected) != 0)
            fail_msg("%s: got \"%s\", expected \"%s\"", rows[i].name, got, rows[i].expected);
        map_close(m);
    }
}

static const struct row bad[] = {
    {"no type", "src", "", "expecting \"type:name\" form", 0},
    {"no name", "hash:", "", "expecting \"type:name\" form", 0},
    {"unknown", "foo:bar", "", "unsupported dictionary type: foo", 0},
    {"not built in", "mysql:bar", "", "it is not built into this version", 0},
    {"inline without braces", "inline:a=b", "", "bad syntax", 0},
    {"inline without =", "inline:{a}", "", "need \"inline:{name=value...}\"", 0},
    {"a join without braces", "unionmap:hash:x", "", "bad syntax", 0},
    {"a join of what is unknown", "pipemap:{foo:x}", "", "unsupported dictionary type: foo", 0},
    {"unix, no such table", "unix:foo", "", "unknown table: unix:foo", 0},
    {"a join in a join in a join ...",
     "unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{"
     "unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{unionmap:{"
     "unionmap:{unionmap:{unionmap:{static:x}}}}}}}}}}}}}}}}}}}}}", "", "nested too deeply", 0},
    {"no file, and not lazy", "hash:nofile", "", "open database", 0},
    {"no text file, and not lazy", "texthash:nofile", "", "No such file", 0},
};

/* Each IF to its own ENDIF, however deep: what is behind the innermost counts though that one does not match. */
static void test_nested_ifs(void **state)
{
    (void)state;
    enum { DEPTH = 150 };
    static char text[DEPTH * 40];
    size_t n = 0;
    for (int i = 0; i < DEPTH; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "if /%s/\n", i == DEPTH - 1 ? "b" : "a");
    n += (size_t)snprintf(text + n, sizeof(text) - n, "/./ inner\nendif\n/./ behind\n");
    for (int i = 1; i < DEPTH; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "endif\n");
    snprintf(text + n, sizeof(text) - n, "/./ outside\n");
    write_file("deep", text);
    struct map *m;
    assert_null(map_open(STR("regexp:deep"), 0, &options, &m));
    assert_string_equal(look(m, "a", 0), "behind");
    assert_string_equal(look(m, "ab", 0), "inner");
    assert_string_equal(look(m, "b", 0), "outside");
    map_close(m);
}

static void test_open_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct map *m;
        struct err *e = map_open(str_of(bad[i].map), 0, &options, &m);
        if (!e)
            fail_msg("%s: no error", bad[i].name);
        if (!strstr(e->text, bad[i].expected))
            fail_msg("%s: got \"%s\", expected \"%s\"", bad[i].name, e->text, bad[i].expected);
    }
}

/* --- a file that comes, changes and goes; the clock is ours */
static int64_t now_ns;
static int64_t fake_mono(void)
{
    return now_ns;
}

static void test_reload(void **state)
{
    (void)state;
    now_ns = NS_PER_S;
    clock_replace(fake_mono, NULL);
    struct map *m;
    assert_null(map_open(STR("texthash:late"), MAP_LAZY, &options, &m));
    assert_string_equal(look(m, "a", 0), ERROR);
    write_file("late", "a one\n");
    assert_string_equal(look(m, "a", 0), ERROR); /* not asked again within the second */
    now_ns += NS_PER_S;
    assert_string_equal(look(m, "a", 0), "one");
    write_file("late", "a twotwo\n");
    now_ns += NS_PER_S;
    assert_string_equal(look(m, "a", 0), "twotwo");
    unlink(path_of("late"));
    assert_string_equal(look(m, "a", 0), "twotwo");
    now_ns += NS_PER_S;
    assert_string_equal(look(m, "a", 0), ERROR);
    map_close(m);

    write_file("src", "a old\n");
    build("src", false);
    assert_null(map_open(STR("hash:src"), MAP_LAZY, &options, &m));
    assert_string_equal(look(m, "a", 0), "old");
    write_file("src", "a new\n");
    build("src", false);
    now_ns += NS_PER_S;
    assert_string_equal(look(m, "a", 0), "new");
    map_close(m);
    clock_replace(NULL, NULL);
}

/* Many threads ask while the file is replaced again and again: each answer is one of those written. */
static _Atomic int64_t shared_ns;
static atomic_bool stop_asking;
static int64_t shared_mono(void)
{
    return shared_ns;
}

static void *ask_on(void *arg)
{
    struct arena *a = arena_new(0, 0);
    while (!atomic_load(&stop_asking)) {
        struct str value;
        bool found;
        struct err *e = map_find(arg, a, STR("key"), &value, &found);
        if (e || !found || !str_starts(value, STR("value")))
            return "a lookup failed";
        arena_reset(a);
    }
    arena_free(a);
    return NULL;
}

static void test_replaced_under_readers(void **state)
{
    (void)state;
    shared_ns = NS_PER_S;
    clock_replace(shared_mono, NULL);
    write_file("src", "key value\n");
    build("src", false);
    struct map *m;
    assert_null(map_open(STR("hash:src"), 0, &options, &m));
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_on, m), 0);
    for (int round = 0; round < 50; round++) {
        char text[64];
        snprintf(text, sizeof(text), "key value%d\n", round);
        write_file("src", text);
        build("src", false);
        shared_ns += NS_PER_S + 1;
    }
    atomic_store(&stop_asking, true);
    for (size_t i = 0; i < 3; i++) {
        void *why = NULL;
        pthread_join(threads[i], &why);
        assert_null(why);
    }
    map_close(m);
    clock_replace(NULL, NULL);
}

/* --- address search */
struct addr_row {
    const char *name, *table, *address, *value, *ext;
};
static const struct addr_row addr_rows[] = {
    {"whole address", "inline:{u+x@d=1, u@d=2, @d=3}", "u+x@d", "1", ""},
    {"without extension", "inline:{u@d=2, @d=3}", "u+x@d", "2", "+x"},
    {"domain", "inline:{@d=3}", "u+x@d", "3", ""},
    {"local, with extension", "inline:{u+x=1, u=2, @local=3}", "u+x@local", "1", ""},
    {"local, without extension", "inline:{u=2, @local=3}", "u+x@local", "2", "+x"},
    {"local names count for us alone", "inline:{u=2}", "u@d", NULL, ""},
    {"a bare name", "inline:{u=2}", "u+x", "2", "+x"},
    {"case does not count", "inline:{U@D=2}", "u@d", "2", ""},
    {"a pattern sees the whole address alone", "regexp:{{/^u@d$/ 1}}", "u+x@d", NULL, ""},
    {"first key form, then next table", "inline:{@d=3} inline:{u@d=2}", "u@d", "2", ""},
    {"an error ends the search", "fail:x inline:{u@d=2}", "u@d", ERROR, ""},
    {"an empty result is an error", "static:{}", "u@d", ERROR, ""},
    {"a name that begins with the delimiter is whole", "inline:{+x@d=1}", "+x@d", "1", ""},
    {"mailer-daemon is never split", "inline:{mailer@d=1}", "mailer-daemon@d", NULL, ""},
};

static bool is_local(void *ctx, struct str domain)
{
    (void)ctx;
    return str_eq(domain, STR("local"));
}

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(addr_rows) / sizeof(addr_rows[0]); i++) {
        const struct addr_row *r = &addr_rows[i];
        struct map_list l;
        struct arena *a = arena_new(0, 0);
        struct str value = STR(""), ext = STR("");
        bool found = false;
        struct err *e = map_list_open(r->table, MAP_FOLD, &options, &l);
        if (e)
            fail_msg("%s: %s", r->name, e->text);
        e = map_addr_find(&l, a, str_of(r->address), "+-", is_local, NULL, &value, &ext, &found);
        struct str got = e ? STR(ERROR) : found ? value : STR(NONE);
        if (!str_eq(got, str_of(r->value ? r->value : NONE)) || (found && !str_eq(ext, str_of(r->ext))))
            fail_msg("%s: got \"%.*s\" ext \"%.*s\"", r->name, STR_ARG(got), STR_ARG(ext));
        map_list_close(&l);
        arena_free(a);
    }
}

/* --- building */
static void test_build(void **state)
{
    (void)state;
    struct map_build_options o = {.fold = true, .alias = true, .tag = "postalias"};
    write_file("aliases", "Root: a@b,\n  \"|/bin/x y\" ,c (why)\n\"q k\": v\nbroken\nx:\n"
                          "d: :include:/x\n");
    chmod(path_of("aliases"), 0640);
    assert_null(map_build(map_type_find(STR("hash")), path_of("aliases"), -1, &o));
    struct stat st;
    assert_int_equal(stat(path_of("aliases.lmdb"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    struct map *m;
    assert_null(map_open(STR("hash:aliases"), 0, &options, &m));
    assert_string_equal(look(m, "root", 0), "a@b, \"|/bin/x y\", c");
    assert_string_equal(look(m, "q k", 0), "v");
    assert_string_equal(look(m, "d", 0), ":include:/x");
    assert_string_equal(look(m, "broken", 0), NONE);
    map_close(m);

    write_file("src", "a 1\nb 2\na 3\n");
    build("src", true);
    assert_null(map_open(STR("hash:src"), 0, &options, &m));
    assert_string_equal(look(m, "a", 0), "3"); /* -r */
    map_close(m);

    struct str keys[] = {STR("a"), STR("nope")};
    size_t deleted = 0;
    assert_null(map_build_delete(map_type_find(STR("hash")), path_of("src"), keys, 2, &deleted));
    assert_int_equal(deleted, 1);
    assert_null(map_open(STR("hash:src"), 0, &options, &m));
    assert_string_equal(look(m, "a", 0), NONE);
    assert_string_equal(look(m, "b", 0), "2");
    map_close(m);

    struct err *e = map_build(map_type_find(STR("regexp")), path_of("src"), -1, &o);
    assert_non_null(e);
    assert_non_null(strstr(e->text, "does not support bulk-mode creation"));
    assert_non_null(map_build(map_type_find(STR("hash")), path_of("nofile"), -1, &o));
    char aside[160];
    snprintf(aside, sizeof(aside), "%s.lmdb.new%ld", path_of("src"), (long)getpid());
    assert_int_not_equal(access(aside, F_OK), 0); /* nothing is left behind */
}

static void test_build_incremental(void **state)
{
    (void)state;
    write_file("src", "a 1\n");
    build("src", false);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "b 2\na 9\n", 8), 8);
    close(fds[1]);
    struct map_build_options o = {.fold = true, .incremental = true, .tag = "postmap"};
    assert_null(map_build(map_type_find(STR("hash")), path_of("src"), fds[0], &o));
    close(fds[0]);
    struct map *m;
    assert_null(map_open(STR("hash:src"), 0, &options, &m));
    assert_string_equal(look(m, "a", 0), "1");
    assert_string_equal(look(m, "b", 0), "2");
    map_close(m);
}

static void test_build_many(void **state)
{
    (void)state;
    FILE *fp = fopen(path_of("big"), "w");
    for (int i = 0; i < 20000; i++)
        fprintf(fp, "user%d@example.com value-%d\n", i, i);
    fclose(fp);
    build("big", false);
    struct map *m;
    assert_null(map_open(STR("hash:big"), 0, &options, &m));
    for (int i = 0; i < 20000; i += 371) {
        char key[64], value[64];
        snprintf(key, sizeof(key), "user%d@example.com", i);
        snprintf(value, sizeof(value), "value-%d", i);
        assert_string_equal(look(m, key, 0), value);
    }
    map_close(m);
}

/* Any name, any key: an answer or an error. */
static void test_random(void **state)
{
    (void)state;
    static const char *const types[] = {"inline:{", "regexp:{{/", "pcre:{{/", "unionmap:{",
                                        "cidr:{{",  "randmap:{",  "static:{", "pipemap:{static:"};
    static const char alphabet[] = "ab=${}()[]/\\ ,.*+?|^1!if\n\"-";
    unsigned seed = 815;
    for (int round = 0; round < 4000; round++) {
        char text[80];
        size_t n = (size_t)snprintf(text, sizeof(text), "%s", types[round % 8]);
        for (; n < 50; n++) {
            seed = seed * 1103515245u + 12345u;
            text[n] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
        }
        snprintf(text + n, sizeof(text) - n, "%s", round % 3 ? "}}" : "/ x}}");
        struct map *m;
        if (map_open(str_of(text), MAP_LAZY | MAP_REGEXP_SUB, &options, &m))
            continue;
        look(m, "ab", 0);
        look(m, "1.1.1.1", 0);
        map_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),     cmocka_unit_test(test_open_errors),
        cmocka_unit_test(test_reload),    cmocka_unit_test(test_replaced_under_readers),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_nested_ifs),
        cmocka_unit_test(test_build),     cmocka_unit_test(test_build_incremental),
        cmocka_unit_test(test_build_many), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests_name("maps/maps", tests, make_dir, remove_dir);
}
