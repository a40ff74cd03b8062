/* The grammar of SMTP commands: every row a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/mail/command.h"
#include "core/mail/ehlo.h"
#include "core/mail/reply.h"
#include "queue/envelope.h"

#define S(lit) {"" lit, sizeof(lit) - 1}

static struct arena *a;

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

#define ROWS(rows) for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
#define SAYS(row, got, wanted)                                                                     \
    do {                                                                                           \
        if (!str_eq((got), str_of(wanted)))                                                        \
            fail_msg("%s: got \"%.*s\", wanted \"%s\"", (row), STR_ARG(got), (wanted));            \
    } while (0)

/* --- verbs */
static void test_read(void **state)
{
    static const struct {
        const char *name;
        struct str line;
        bool some;
        enum command_verb verb;
        const char *args;
    } rows[] = {
        {"a verb alone", S("QUIT"), true, VERB_QUIT, ""},
        {"any case", S("eHlO x"), true, VERB_EHLO, "x"},
        {"blanks around", S("  NOOP  \t"), true, VERB_NOOP, ""},
        {"a tab separates", S("HELO\tclient"), true, VERB_HELO, "client"},
        {"a carriage return left over is a blank", S("NOOP\r"), true, VERB_NOOP, ""},
        {"a carriage return inside parts words", S("NO\rOP"), true, VERB_UNKNOWN, "OP"},
        {"NUL ends the line", S("NOOP\0 x"), true, VERB_NOOP, ""},
        {"NUL inside the verb", S("NO\0OP"), true, VERB_UNKNOWN, ""},
        {"a prefix is no verb", S("MAI FROM:<>"), true, VERB_UNKNOWN, "FROM:<>"},
        {"a longer word is no verb", S("QUITS"), true, VERB_UNKNOWN, ""},
        {"HELP is none of ours", S("HELP"), true, VERB_UNKNOWN, ""},
        {"empty", S(""), false, VERB_UNKNOWN, ""},
        {"blanks", S("   \t "), false, VERB_UNKNOWN, ""},
        {"NUL first", S("\0NOOP"), false, VERB_UNKNOWN, ""},
    };
    (void)state;
    ROWS(rows)
    {
        struct command c;
        bool some = command_read(rows[i].line, &c);
        if (some != rows[i].some)
            fail_msg("%s: %d", rows[i].name, some);
        if (!some)
            continue;
        if (c.verb != rows[i].verb)
            fail_msg("%s: verb %s", rows[i].name, command_verb_name(c.verb));
        SAYS(rows[i].name, c.args, rows[i].args);
    }
}

static void test_word(void **state)
{
    static const struct {
        const char *name;
        struct str text;
        const char *word;
        bool broken;
        const char *rest;
    } rows[] = {
        {"up to a blank", S("abc def"), "abc", false, " def"},
        {"a path with blanks in quotes", S("<\"a b\"@c> d"), "<\"a b\"@c>", false, " d"},
        {"blanks inside brackets", S("<a b> c"), "<a b>", false, " c"},
        {"nested brackets", S("<<a>> c"), "<<a>>", false, " c"},
        {"a bracket in quotes closes nothing", S("<\"a>b\"@c> d"), "<\"a>b\"@c>", false, " d"},
        {"a quoted byte", S("\"a\\\"b c\" d"), "\"a\\\"b c\"", false, " d"},
        {"a literal", S("a@[1.2 3] x"), "a@[1.2 3]", false, " x"},
        {"an open bracket", S("<a@b c"), "<a@b c", true, ""},
        {"an open inner bracket", S("<b<c@d> e"), "<b<c@d> e", true, ""},
        {"an open quote", S("\"a b"), "\"a b", true, ""},
        {"an open literal", S("a@[1.2"), "a@[1.2", true, ""},
        {"a backslash at the end", S("<a\\"), "<a\\", true, ""},
    };
    (void)state;
    ROWS(rows)
    {
        struct str rest = rows[i].text, word;
        bool broken;
        assert_true(command_word(&rest, &word, &broken));
        SAYS(rows[i].name, word, rows[i].word);
        SAYS(rows[i].name, rest, rows[i].rest);
        if (broken != rows[i].broken)
            fail_msg("%s: broken %d", rows[i].name, broken);
    }
    struct str rest = STR("  "), word;
    bool broken;
    assert_false(command_word(&rest, &word, &broken));
}

static void test_deep_nesting_needs_no_stack(void **state)
{
    enum { DEPTH = 200000 };
    char *deep = arena_alloc(a, DEPTH);
    struct str rest, word;
    bool broken;

    (void)state;
    memset(deep, '<', DEPTH);
    rest = str_make(deep, DEPTH);
    assert_true(command_word(&rest, &word, &broken));
    assert_true(broken);
    assert_int_equal(word.len, DEPTH);
}

static void test_header(void **state)
{
    (void)state;
    assert_true(command_is_header(STR("Subject:")));
    assert_true(command_is_header(STR("MAILFROM:<a@b>")));
    assert_false(command_is_header(STR("Subject")));
    assert_false(command_is_header(STR(":x")));
    assert_false(command_is_header(STR("")));
    assert_false(command_is_header(STR("a\x01:")));
}

static void test_path(void **state)
{
    static const struct {
        const char *name;
        struct str args;
        bool good;
        const char *path, *options;
    } rows[] = {
        {"plain", S("FROM:<a@b>"), true, "<a@b>", ""},
        {"a blank behind the colon", S("FROM: <a@b> SIZE=1"), true, "<a@b>", " SIZE=1"},
        {"any case", S("fRoM:a@b"), true, "a@b", ""},
        {"a blank before the colon", S("FROM :<a@b>"), false, "", ""},
        {"the other keyword", S("TO:<a@b>"), false, "", ""},
        {"no colon", S("FROM"), false, "", ""},
        {"an equals sign", S("FROM=<a@b>"), false, "", ""},
        {"nothing behind", S("FROM:"), false, "", ""},
        {"blanks behind", S("FROM:  "), false, "", ""},
        {"nothing", S(""), false, "", ""},
    };
    (void)state;
    ROWS(rows)
    {
        struct str path, options;
        bool broken, good = command_path(rows[i].args, STR("FROM:"), &path, &options, &broken);
        if (good != rows[i].good)
            fail_msg("%s: %d", rows[i].name, good);
        if (!good)
            continue;
        SAYS(rows[i].name, path, rows[i].path);
        SAYS(rows[i].name, options, rows[i].options);
    }
}

/* --- options: NULL = taken */
struct option_row {
    const char *name;
    struct str text;
    const char *reply;
};

static void test_mail_options(void **state)
{
    static const struct option_row rows[] = {
        {"none", S(""), NULL},
        {"size", S("SIZE=1000"), NULL},
        {"size without value", S("SIZE="), "501 5.5.4 Bad message size syntax"},
        {"size with letters", S("SIZE=1x"), "501 5.5.4 Bad message size syntax"},
        {"negative size", S("SIZE=-1"), "501 5.5.4 Bad message size syntax"},
        {"size without equals", S("SIZE"), "555 5.5.4 Unsupported option: SIZE"},
        {"size beyond all", S("SIZE=99999999999999999999"),
         "552 5.3.4 Message size exceeds file system imposed limit"},
        {"body 7bit", S("BODY=7BIT"), NULL},
        {"body 8bit in lower case", S("body=8bitmime"), NULL},
        {"body binary", S("BODY=BINARYMIME"), "555 5.5.4 Unsupported option: BODY=BINARYMIME"},
        {"body without value", S("BODY="), "555 5.5.4 Unsupported option: BODY="},
        {"ret", S("RET=FULL"), NULL},
        {"bad ret", S("RET=x"), "501 5.5.4 Bad RET parameter syntax"},
        {"empty ret", S("RET="), "501 5.5.4 Bad RET parameter syntax"},
        {"ret twice", S("RET=FULL RET=HDRS"), "501 5.5.4 Bad RET parameter syntax"},
        {"envid", S("ENVID=a+20b"), NULL},
        {"empty envid", S("ENVID="), "501 5.5.4 Bad ENVID parameter syntax"},
        {"envid with bad xtext", S("ENVID=a+zz"), "501 5.5.4 Bad ENVID parameter syntax"},
        {"envid with a control character", S("ENVID=a+0Ab"), "501 5.5.4 Bad ENVID parameter syntax"},
        {"envid twice", S("ENVID=a ENVID=b"), "501 5.5.4 Bad ENVID parameter syntax"},
        {"auth", S("AUTH=<>"), NULL},
        {"smtputf8", S("smtputf8"), NULL},
        {"smtputf8 with a value", S("SMTPUTF8=1"), "555 5.5.4 Unsupported option: SMTPUTF8=1"},
        {"an unknown one", S("FOO=1"), "555 5.5.4 Unsupported option: FOO=1"},
        {"an equals sign alone", S("="), "555 5.5.4 Unsupported option: ="},
        {"a recipient's option", S("NOTIFY=NEVER"), "555 5.5.4 Unsupported option: NOTIFY=NEVER"},
        {"a second address", S("<b@c>"), "555 5.5.4 Unsupported option: <b@c>"},
    };
    struct command_rules rules = {.dsn = true, .smtputf8 = true};
    struct verdict why;

    (void)state;
    ROWS(rows)
    {
        struct mail_options io = {0};
        bool good = command_mail_options(a, rows[i].text, &rules, &io, &why);
        if (good != (rows[i].reply == NULL))
            fail_msg("%s: %d", rows[i].name, good);
        if (!good)
            SAYS(rows[i].name, verdict_print(a, &why), rows[i].reply);
    }
    struct mail_options io = {0};
    assert_true(command_mail_options(
        a, STR(" SIZE=10 BODY=8BITMIME RET=HDRS ENVID=x+2By SMTPUTF8"), &rules, &io, &why));
    assert_int_equal(io.size, 10);
    assert_true(io.body_8bit);
    assert_int_equal(io.ret, RET_HDRS);
    SAYS("envid is decoded", io.envid, "x+y");

    rules = (struct command_rules){0};
    io = (struct mail_options){0};
    assert_false(command_mail_options(a, STR("RET=HDRS"), &rules, &io, &why));
    SAYS("dsn is off", verdict_print(a, &why), "501 5.7.1 DSN support is disabled");
    assert_false(command_mail_options(a, STR("SMTPUTF8"), &rules, &io, &why));
    SAYS("smtputf8 is off", verdict_print(a, &why), "555 5.5.4 Unsupported option: SMTPUTF8");
}

static void test_rcpt_options(void **state)
{
    static const char *const notify = "501 5.5.4 Error: Bad NOTIFY parameter syntax";
    static const char *const orcpt = "501 5.5.4 Error: Bad ORCPT parameter syntax";
    const struct option_row rows[] = {
        {"never", S("NOTIFY=NEVER"), NULL},
        {"three", S("notify=SUCCESS,failure,DELAY"), NULL},
        {"one twice", S("NOTIFY=SUCCESS,SUCCESS"), NULL},
        {"never with others", S("NOTIFY=NEVER,SUCCESS"), notify},
        {"empty", S("NOTIFY="), notify},
        {"an unknown word", S("NOTIFY=x"), notify},
        {"given twice", S("NOTIFY=NEVER NOTIFY=NEVER"), notify},
        {"without equals", S("NOTIFY"), "555 5.5.4 Unsupported option: NOTIFY"},
        {"a blank in the list", S("NOTIFY=SUCCESS, FAILURE"),
         "555 5.5.4 Unsupported option: FAILURE"},
        {"orcpt", S("ORCPT=rfc822;a+2Bb@c"), NULL},
        {"orcpt with an empty address", S("ORCPT=rfc822;"), NULL},
        {"utf-8 orcpt", S("ORCPT=utf-8;\\x{e4}@b"), NULL},
        {"utf-8 orcpt with a surrogate", S("ORCPT=utf-8;\\x{d800}@b"), orcpt},
        {"utf-8 orcpt cut short", S("ORCPT=utf-8;\\x{e4"), orcpt},
        {"orcpt without type", S("ORCPT=;x"), orcpt},
        {"orcpt without semicolon", S("ORCPT=x"), orcpt},
        {"empty orcpt", S("ORCPT="), orcpt},
        {"orcpt with bad xtext", S("ORCPT=rfc822;a+zz@x"), orcpt},
        {"orcpt twice", S("ORCPT=rfc822;a ORCPT=rfc822;b"), orcpt},
        {"a sender's option", S("SIZE=10"), "555 5.5.4 Unsupported option: SIZE=10"},
    };
    struct command_rules rules = {.dsn = true};
    struct verdict why;

    (void)state;
    ROWS(rows)
    {
        struct rcpt_options io = {0};
        bool good = command_rcpt_options(a, rows[i].text, &rules, &io, &why);
        if (good != (rows[i].reply == NULL))
            fail_msg("%s: %d", rows[i].name, good);
        if (!good)
            SAYS(rows[i].name, verdict_print(a, &why), rows[i].reply);
    }
    struct rcpt_options io = {0};
    assert_true(command_rcpt_options(a, STR("NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c"), &rules,
                                     &io, &why));
    assert_int_equal(io.notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    SAYS("orcpt is decoded", io.orcpt, "rfc822;a+b@c");
}

static void test_bdat(void **state)
{
    static const struct {
        struct str args;
        bool good;
        uint64_t size;
        bool last;
    } rows[] = {
        {S("17"), true, 17, false},      {S("0 LAST"), true, 0, true},
        {S("17 last"), true, 17, true},  {S(""), false, 0, false},
        {S("x"), false, 0, false},       {S("-1 LAST"), false, 0, false},
        {S("+1"), false, 0, false},      {S("5 LIST"), false, 0, false},
        {S("5 LAST x"), false, 0, false}, {S("99999999999999999999 LAST"), false, 0, false},
        {S("9223372036854775808"), false, 0, false},
    };
    (void)state;
    ROWS(rows)
    {
        uint64_t size = 0;
        bool last = false, good = command_bdat(rows[i].args, &size, &last);
        if (good != rows[i].good || size != rows[i].size || last != rows[i].last)
            fail_msg("BDAT %.*s", STR_ARG(rows[i].args));
    }
}

/* --- replies and keywords */
static void test_footer(void **state)
{
    static const struct {
        const char *name, *text, *footer, *out;
    } rows[] = {
        {"a line of its own", "550 5.1.1 no", "call us", "550-5.1.1 no\r\n550 5.1.1 call us\r\n"},
        {"on the same line", "550 5.1.1 no", "\\c. Call us", "550 5.1.1 no. Call us\r\n"},
        {"two lines", "500 no", "a\\nb", "500-no\r\n500-a\r\n500 b\r\n"},
        {"joined, then a line", "500 no", "\\c x\\ny", "500-no x\r\n500 y\r\n"},
        {"nothing joined", "500 5.5.2 no", "\\c", "500 5.5.2 no\r\n"},
        {"a number that is no enhanced code", "459 1.2 x", "f", "459-1.2 x\r\n459 f\r\n"},
    };
    (void)state;
    ROWS(rows)
    {
        struct buf out = {0};
        reply_with_footer(&out, str_of(rows[i].text), str_of(rows[i].footer));
        SAYS(rows[i].name, buf_str(&out), rows[i].out);
        buf_fini(&out);
    }
    char soft[] = "550 5.1.1 x 5.1.1", ok[] = "250 2.1.5 Ok", plain[] = "501 Syntax: HELO";
    reply_soften(soft, strlen(soft));
    assert_string_equal(soft, "450 4.1.1 x 5.1.1");
    reply_soften(ok, strlen(ok));
    assert_string_equal(ok, "250 2.1.5 Ok");
    reply_soften(plain, strlen(plain));
    assert_string_equal(plain, "401 Syntax: HELO");
}

static void test_verdict(void **state)
{
    (void)state;
    struct verdict v = verdict_make(a, 450, "5.1.1", "<%s>: unknown", "a\r\nb");
    SAYS("the class follows the code, control characters are blanks", verdict_print(a, &v),
         "450 4.1.1 <a  b>: unknown");
    v = verdict_of(550, "5.1.1", "x");
    verdict_soften(&v);
    SAYS("softened", verdict_print(a, &v), "450 4.1.1 x");
    v = verdict_of(459, NULL, "x");
    SAYS("no enhanced code", verdict_print(a, &v), "459 x");
}

static void test_keywords(void **state)
{
    struct buf names = {0};

    (void)state;
    unsigned set = ehlo_parse(STR("chunking, SmtpUtf8 dsn nonsense\tsilent-discard"));
    assert_true(EHLO_HAS(set, DSN) && EHLO_HAS(set, CHUNKING) && EHLO_HAS(set, SILENT));
    assert_false(EHLO_HAS(set, SIZE));
    ehlo_print(set, &names);
    assert_string_equal(names.ptr, "DSN EHLO_MASK_SMTPUTF8 CHUNKING");
    buf_fini(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),         cmocka_unit_test(test_word),
        cmocka_unit_test(test_deep_nesting_needs_no_stack),
        cmocka_unit_test(test_header),       cmocka_unit_test(test_path),
        cmocka_unit_test(test_mail_options), cmocka_unit_test(test_rcpt_options),
        cmocka_unit_test(test_bdat),         cmocka_unit_test(test_footer),
        cmocka_unit_test(test_verdict),      cmocka_unit_test(test_keywords),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
