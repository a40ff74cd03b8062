#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/base/expand.h"

/* Each row was seen with Postfix 3.7's postconf -x. */
static const struct {
    const char *text, *want;
} good_rows[] = {
    {"plain", "plain"},
    {"$full", "abc"},
    {"${full}x$(full)y", "abcxabcy"},
    {"$$full", "$full"},
    {"$$$full", "$abc"},
    {"$full.$full-", "abc.abc-"},
    {"${full?text}|${stress?text}|${full:text}|${stress:text}|", "text|||text|"},
    {"${full?{a b}:{c}}|${stress?{a}:{b c}}", "a b|b c"},
    {"${{$full} == {abc} ? {yes} : {no}}", "yes"},
    {"${{$full}!={abc}?{yes}:{no}}", "no"},
    {"${{10} < {9} ? {y} : {n}}", "n"},
    {"${{a10} < {a9} ? {y} : {n}}", "y"},
    {"${{010} == {10} ? {y} : {n}}", "y"},
    {"${{1} < {} ? {y} : {n}}", "n"},
    {"${{-1} < {1} ? {y} : {n}}", "y"},
    {"${{} == {} ? {y} : {n}}", "y"},
    {"${{2} >= {2} ? {y} : {n}}${{2} <= {1} ? {y} : {n}}${{2} > {1} ? {y} : {n}}", "yny"},
    {"${{10} <level {9} ? {y} : {n}}", "n"},
    {"${{3.6} >=level {3.10} ? {y} : {n}}", "n"},
    {"${{3.6.1} >level {3.6} ? {y} : {n}}", "y"},
    {"${{3.6.0} ==level {3.6} ? {y} : {n}}", "y"},
    {"${{a} == {a}}|${{a} == {b}}|", "true||"},
    {"${{a} == {a}?x}|${{a}=={b}:x}|${{a}=={b}?x}|", "x|x||"},
    {"${ { a} == { a} }|${{ a } == {a}}|", "true||"},
    {"${full ? {a} : {b}}", "a"},
    {"${ full }|${full }|${ full}", "abc|abc|abc"},
    {"${full?a:b}", "a:b"},
    {"${full?{a}:b}|${stress?{a}:b c }|", "a|b c |"},
    {"q${full? a b }|", "q a b |"},
    {"q${full?{ a }:{ b }}|", "q a |"},
    {"${full?  {a} }|", "a|"},
    {"${full?{a}:}|${full?}|${full?{}:{b}}|", "a|||"},
    {"${full?{a} : {b} }|", "a|"},
    {"${full?$(n1)}|${full?${n1?z}}|${full?{$n1}:{b}}", "5|z|5"},
    {"$(full?x)$(full?{x}:{y})$(full?x(y)z)", "xxx(y)z"},
    {"${{${n1}}=={5}?{y}:{n}}", "y"},
    {"${unknown?a}|${unknown:b}|$unknown|", "|b||"},
    {"$n1full|${n1}full", "|5full"},
    {"${indirect?x}|${indirect:y}|$indirect|", "x|||"}, /* its own text is not empty */
    {"${{a}=={a}?{b}:{${}}}|", "b|"},                   /* the branch not taken is not read */
    {"${{a} == {a} ? x : y}|", " x : y|"},
    {"${stress:x?y}", "x?y"},
    {"${full?a$$b}", "a$b"},
    {"${?a}|", "|"},
    {"${stress?10}${stress:300}s", "300s"}, /* spec CONF-04 */
};

static const struct {
    const char *text, *want;
} bad_rows[] = {
    {"$", "empty macro name: \"$\""},
    {"ab$ cd", "empty macro name: \"ab$ cd\""},
    {"a${}b", "empty macro name: \"a${}b\""},
    {"${full", "truncated macro reference: \"${full\""},
    {"x$(full", "truncated macro reference: \"x$(full\""},
    {"a${mail-box}b", "attribute name syntax error at: \"...mail>>>-box\""},
    {"${full {b}}", "attribute name syntax error at: \"...full>>> {b}\""},
    {"${full?{a}b}", "\":\" expected at: \"...full?{a}>>>b\""},
    {"${full?{a}:{b}c}", "unexpected input at: \"...full?{a}:{b}>>>c\""},
    {"${stress:{x}?{y}}", "unexpected input at: \"...stress:{x}>>>?{y}\""},
    {"${{a} == b}", "\"{expression}\" expected at: \"...{a} ==>>> b\""},
    {"${{a} <foo {b}}", "bad operator suffix at: \"...{a} <>>>foo {b}\""},
    {"${{a} == {b} {x}}", "\"?\" or \":\" expected at: \"...{a} == {b} >>>{x}\""},
    {"${{5} <level {x}}", "malformed compatibility level syntax: \"x\""},
    {"${{3.6.} <level {3}}", "malformed compatibility level syntax: \"3.6.\""},
    {"$loop", "unreasonable macro call nesting: \"loop\""},
    {"$${x}$ping", "unreasonable macro call nesting: \"p"},
};

static struct arena *a;
static unsigned unknown_names;

static bool lookup(void *ctx, struct str name, struct str *value_out)
{
    static const char *names[][2] = {
        {"full", "abc"},    {"n1", "5"},         {"stress", ""},      {"indirect", "$nope"},
        {"loop", "x$loop"}, {"ping", "${pong}"}, {"pong", "${ping}"},
    };
    (void)ctx;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (str_eq(name, str_of(names[i][0]))) {
            *value_out = str_of(names[i][1]);
            return true;
        }
    }
    /* dN = "$dN-1$dN-1": a short text that would double eighty times. */
    uint64_t n;
    if (name.ptr && name.len > 1 && name.ptr[0] == 'd' && str_u64(str_from(name, 1), &n) && n) {
        *value_out =
            arena_printf(a, "$d%llu$d%llu", (unsigned long long)n - 1, (unsigned long long)n - 1);
        return true;
    }
    return false;
}

static void count_unknown(void *ctx, struct str name)
{
    (void)ctx;
    (void)name;
    unknown_names++;
}

static const struct expand x = {lookup, count_unknown, NULL};

static void expands_as_postconf_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_rows / sizeof good_rows[0]; i++) {
        struct str out;
        struct err *e = expand_text(a, str_of(good_rows[i].text), &x, &out);
        if (e)
            fail_msg("%s: %s", good_rows[i].text, e->text);
        if (!str_eq(out, str_of(good_rows[i].want)))
            fail_msg("%s gives %.*s", good_rows[i].text, STR_ARG(out));
    }
}

static void bad_grammar_is_an_error_and_leaves_the_output(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_rows / sizeof bad_rows[0]; i++) {
        struct str out = STR("untouched");
        struct err *e = expand_text(a, str_of(bad_rows[i].text), &x, &out);
        if (!e)
            fail_msg("accepted: %s", bad_rows[i].text);
        assert_int_equal(e->kind, ERR_CONFIG);
        if (!str_starts(str_of(e->text), str_of(bad_rows[i].want)))
            fail_msg("%s: %s", bad_rows[i].text, e->text);
        assert_string_equal(out.ptr, "untouched");
    }
}

static void a_value_that_doubles_eighty_times_is_refused(void **state)
{
    (void)state;
    struct str out;
    struct err *e = expand_text(a, STR("$d80"), &x, &out);
    assert_non_null(e);
    assert_int_equal(e->kind, ERR_CONFIG);
}

static void unknown_names_are_reported(void **state)
{
    (void)state;
    struct str out;
    unknown_names = 0;
    assert_null(expand_text(a, STR("$nope${nope2:x}${stress?{$nope3}:{}}"), &x, &out));
    assert_int_equal(unknown_names, 2);
}

static int set_up(void **state)
{
    (void)state;
    a = arena_new(0, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(a);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expands_as_postconf_does),
        cmocka_unit_test(bad_grammar_is_an_error_and_leaves_the_output),
        cmocka_unit_test(a_value_that_doubles_eighty_times_is_refused),
        cmocka_unit_test(unknown_names_are_reported),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
