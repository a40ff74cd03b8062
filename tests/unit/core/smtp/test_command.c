/* MAIL and RCPT as Postfix 3.7.11 words them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/mail/ehlo.h"
#include "core/smtp/command.h"

#define S(lit)                                                                                     \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }
#define ALL    0xffffffffU
#define NO_DSN (ALL & ~(1U << EHLO_BIT_DSN))

static const struct {
    const char *name;
    unsigned features;
    struct envelope env;
    const char *out;
} mails[] = {
    {"no keywords",
     0,
     {.sender = S("a@b.example"),
      .data_size = 7,
      .flags = ENV_8BIT,
      .ret = RET_FULL,
      .envid = S("e")},
     "MAIL FROM:<a@b.example>\r\n"},
    {"the null sender", ALL, {.sender = S(""), .data_size = 7}, "MAIL FROM:<> SIZE=7\r\n"},
    {"a local part that needs quotes",
     0,
     {.sender = S("a b@c.example")},
     "MAIL FROM:<\"a b\"@c.example>\r\n"},
    {"8-bit",
     ALL,
     {.sender = S("a@b.example"), .data_size = 7, .flags = ENV_8BIT},
     "MAIL FROM:<a@b.example> SIZE=7 BODY=8BITMIME\r\n"},
    {"ENVID in xtext, then RET",
     ALL,
     {.sender = S("a@b.example"), .data_size = 7, .envid = S("e+f"), .ret = RET_FULL},
     "MAIL FROM:<a@b.example> SIZE=7 ENVID=e+2Bf RET=FULL\r\n"},
    {"RET=HDRS",
     ALL,
     {.sender = S("a@b.example"), .data_size = 7, .ret = RET_HDRS},
     "MAIL FROM:<a@b.example> SIZE=7 RET=HDRS\r\n"},
    {"no DSN there",
     NO_DSN,
     {.sender = S("a@b.example"), .data_size = 7, .ret = RET_HDRS, .envid = S("e")},
     "MAIL FROM:<a@b.example> SIZE=7\r\n"},
    {"SMTPUTF8",
     ALL,
     {.sender = S("\xc3\xa4@b.example"), .data_size = 7, .flags = ENV_SMTPUTF8},
     "MAIL FROM:<\xc3\xa4@b.example> SIZE=7 SMTPUTF8\r\n"},
};

static void test_mail(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof(mails) / sizeof(mails[0]); i++) {
        struct buf out = {0};
        const struct smtp_wording w = {mails[i].features, true, false};
        smtp_command_mail(&out, a, &mails[i].env, &w);
        if (!str_eq(buf_str(&out), str_of(mails[i].out)))
            fail_msg("%s: %.*s", mails[i].name, STR_ARG(buf_str(&out)));
        buf_fini(&out);
    }
    arena_free(a);
}

static const struct {
    const char *name;
    unsigned features, env_flags;
    struct rcpt rcpt;
    const char *out;
} rcpts[] = {
    {"no keywords",
     0,
     0,
     {.address = S("a@b.example"), .original = S("o@b.example"), .notify = NOTIFY_NEVER},
     "RCPT TO:<a@b.example>\r\n"},
    {"the original stands for a missing ORCPT",
     ALL,
     0,
     {.address = S("a@b.example"), .original = S("o+1@b.example")},
     "RCPT TO:<a@b.example> ORCPT=rfc822;o+2B1@b.example\r\n"},
    {"ORCPT is handed on, then NOTIFY",
     ALL,
     0,
     {.address = S("a@b.example"),
      .original = S("o@b.example"),
      .orcpt = S("rfc822;x=y@c.example"),
      .notify = NOTIFY_SUCCESS | NOTIFY_FAILURE},
     "RCPT TO:<a@b.example> ORCPT=rfc822;x+3Dy@c.example NOTIFY=SUCCESS,FAILURE\r\n"},
    {"NOTIFY=NEVER",
     ALL,
     0,
     {.address = S("a@b.example"), .notify = NOTIFY_NEVER},
     "RCPT TO:<a@b.example> NOTIFY=NEVER\r\n"},
    {"what the agent is to use",
     0,
     0,
     {.address = S("a@b.example"), .resolved = S("r@c.example")},
     "RCPT TO:<r@c.example>\r\n"},
    {"a UTF-8 original",
     ALL,
     ENV_SMTPUTF8,
     {.address = S("\xc3\xa4@b.example"), .original = S("\xc3\xa4+1@b.example")},
     "RCPT TO:<\xc3\xa4@b.example> ORCPT=utf-8;\\x{E4}\\x{2B}1@b.example\r\n"},
};

static void test_rcpt(void **state)
{
    (void)state;
    struct arena *a = arena_new(0, 0);
    for (size_t i = 0; i < sizeof(rcpts) / sizeof(rcpts[0]); i++) {
        struct buf out = {0};
        const struct envelope env = {.flags = rcpts[i].env_flags};
        const struct smtp_wording w = {rcpts[i].features, true, false};
        smtp_command_rcpt(&out, a, &env, &rcpts[i].rcpt, &w);
        if (!str_eq(buf_str(&out), str_of(rcpts[i].out)))
            fail_msg("%s: %.*s", rcpts[i].name, STR_ARG(buf_str(&out)));
        buf_fini(&out);
    }
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mail), cmocka_unit_test(test_rcpt)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
