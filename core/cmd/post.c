#include "core/cmd/post.h"

#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/cmd/access.h"
#include "core/cmd/head.h"
#include "core/cmd/input.h"
#include "core/cmd/tell.h"
#include "core/mail/address.h"
#include "io/base/log.h"

/* The message is read whole before the server is asked: a job that writes a line an hour to a pipe into sendmail must not
 * hold a connection that ends by a time limit. message_size_limit bounds it. */
struct message {
    struct arena *arena;
    const char *user;
    struct buf lines; /* u8 whole, lstr text */
    struct buf head;  /* the header section, LF line ends, for -t */
    uint64_t bytes;
    struct buf rcpts; /* struct str */
    struct rd next;   /* into lines, while it is sent */
};

/* --- who */

static const char *user_name(struct arena *a)
{
    struct passwd *pw = getpwuid(getuid());
    return pw ? arena_cstr(a, str_of(pw->pw_name)) : NULL;
}

/* The GECOS field up to its first comma; & stands for the login name. */
static struct str gecos_name(struct arena *a)
{
    struct passwd *pw = getpwuid(getuid());
    struct buf b = {0};
    if (!pw)
        return STR("");
    for (const char *p = pw->pw_gecos; *p && !strchr(",;%", *p); p++) {
        size_t at = b.len;
        if (*p != '&') {
            buf_add_char(&b, *p);
            continue;
        }
        buf_add_c(&b, pw->pw_name);
        if (b.len > at && b.ptr[at] >= 'a' && b.ptr[at] <= 'z')
            b.ptr[at] = (char)(b.ptr[at] - 'a' + 'A');
    }
    struct str name = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return name;
}

static struct str full_name(const struct post *p, struct arena *a)
{
    const char *env = getenv("NAME");
    if (p->full_name)
        return str_of(p->full_name);
    return env ? str_of(env) : gecos_name(a);
}

static struct str sender_of(const struct post *p, struct message *m)
{
    struct str *list;
    if (!p->sender)
        return str_of(m->user);
    size_t n = address_header_list(m->arena, str_of(p->sender), &list);
    if (n > 1)
        tell_warning("-f option specified malformed sender: %s", p->sender);
    return n > 0 ? list[0] : STR("");
}

/* An argument is a list as in a header; one that names nobody goes to $empty_address_recipient. */
static void add_arguments(const struct post *p, struct message *m)
{
    static const struct str nobody = STR("");
    for (size_t i = 0; i < p->recipient_count; i++) {
        struct str *list;
        size_t n = address_header_list(m->arena, str_of(p->recipients[i]), &list);
        for (size_t k = 0; k < n; k++)
            buf_add(&m->rcpts, &list[k], sizeof(list[k]));
        if (n == 0)
            buf_add(&m->rcpts, &nobody, sizeof(nobody));
    }
}

/* --- reading */

/* "From x Mon Jan  1 ..." of a mailbox file, also quoted. */
static bool mailbox_line(struct str text)
{
    while (text.len > 0 && text.ptr[0] == '>')
        text = str_from(text, 1);
    return str_starts(text, STR("From "));
}

/* CRs before the end of a line belong to the end. */
static struct str without_cr(struct str text)
{
    while (text.len > 0 && text.ptr[text.len - 1] == '\r')
        text.len--;
    return text;
}

static void keep(struct message *m, struct str text, bool whole)
{
    buf_add_u8(&m->lines, whole);
    buf_add_lstr(&m->lines, text);
    m->bytes += text.len + whole;
}

static struct err *read_lines(const struct snapshot *s, const struct post *p, struct message *m)
{
    struct input in;
    struct str text;
    bool whole, starts = true, in_head = true, first = true;
    struct err *e;
    uint64_t limit = (uint64_t)s->params->message_size_limit;
    input_open(&in);
    while (input_line(&in, &text, &whole, &e)) {
        if (whole)
            text = without_cr(text);
        if (!p->keep_dots && starts && whole && str_eq(text, STR(".")))
            break;
        if (first && whole && mailbox_line(text))
            continue;
        /* What looks like more of a header, with none before it, is the body; it must not grow onto ours. */
        if (first && text.len > 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t'))
            keep(m, STR(""), true);
        first = false;
        if (starts)
            in_head = in_head && head_line(text, m->head.len > 0);
        if (in_head) {
            buf_add_str(&m->head, text);
            if (whole)
                buf_add_char(&m->head, '\n');
        }
        keep(m, text, whole);
        starts = whole;
        if (limit > 0 && m->bytes > limit) {
            e = err_new(ERR_LIMIT, 0, "message file too big");
            break;
        }
    }
    input_close(&in);
    return e;
}

/* --- sending */

static bool next_line(void *ctx, struct str *text_out, bool *whole_out, struct err **e_out)
{
    struct message *m = ctx;
    *e_out = NULL;
    if (m->next.ptr >= m->next.end)
        return false;
    *whole_out = rd_u8(&m->next);
    *text_out = rd_lstr(&m->next);
    return true;
}

static bool has_8bit(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] & 0x80)
            return true;
    return false;
}

/* smtputf8_autodetect_classes: 8-bit text in headers or addresses asks for SMTPUTF8. */
static bool wants_utf8(const struct snapshot *s, const struct submission *sub, const struct message *m)
{
    struct str rest = str_of(config_value(s, "smtputf8_autodetect_classes")), word;
    bool detect = false;
    while (str_token(&rest, ", \t\r\n", &word))
        detect |= str_eq_nocase(word, STR("sendmail")) || str_eq_nocase(word, STR("all"));
    if (!detect || !s->params->smtputf8_enable)
        return false;
    bool found = has_8bit(buf_str(&m->head)) || has_8bit(sub->sender);
    for (size_t i = 0; i < sub->rcpt_count; i++)
        found |= has_8bit(sub->rcpts[i]);
    return found;
}

struct sending {
    const struct submission *submission;
    const char *user;
};

static int refused(const struct sending *sending, const struct err *e)
{
    return tell_fatal(POST_FAILED, "%s(%ld): %s", sending->user, (long)getuid(), e->text);
}

static int send_it(struct access *a, void *ctx)
{
    const struct sending *sending = ctx;
    char id[QUEUE_ID_MAX];
    struct err *e = access_submit(a, sending->submission, id);
    return e ? refused(sending, e) : 0;
}

static int send_message(const struct snapshot *s, const struct post *p, struct message *m)
{
    struct submission sub = {
        .sender = sender_of(p, m),
        .full_name = full_name(p, m->arena),
        .ret = p->ret,
        .notify = p->notify,
        .envid = str_of(p->envid),
        .flags = (p->eight_bit ? WIRE_SUBMIT_8BIT : 0U) | (p->gateway ? WIRE_SUBMIT_GATEWAY : 0U),
        .next_line = next_line,
        .ctx = m,
    };
    add_arguments(p, m);
    if (p->from_headers)
        head_recipients(m->arena, buf_str(&m->head), &m->rcpts);
    sub.rcpts = (const struct str *)(const void *)m->rcpts.ptr;
    sub.rcpt_count = m->rcpts.len / sizeof(struct str);
    if (sub.rcpt_count == 0)
        return tell_fatal(POST_FAILED, "%s(%ld): No recipient addresses found in message header", m->user,
                          (long)getuid());
    if (wants_utf8(s, &sub, m))
        sub.flags |= WIRE_SUBMIT_UTF8;
    m->next = rd_of(buf_str(&m->lines));
    struct sending sending = {&sub, m->user};
    return access_run(s, "sendmail", access_may_offline(s), send_it, &sending) ? POST_FAILED : 0;
}

int post_message(const struct snapshot *s, const struct post *p)
{
    struct message m = {.arena = arena_new(4096, 0)};
    int rc;
    m.user = user_name(m.arena);
    if (!m.user)
        rc = tell_fatal(POST_FAILED, "unable to determine login name for user ID %ld", (long)getuid());
    else if (p->recipient_count == 0 && !p->from_headers)
        rc = tell_fatal(POST_FAILED, "%s(%ld): Recipient addresses must be specified on the command line or via "
                        "the -t option", m.user, (long)getuid());
    else {
        struct err *e = read_lines(s, p, &m);
        rc = e ? tell_fatal(POST_FAILED, "%s(%ld): %s", m.user, (long)getuid(), e->text)
               : send_message(s, p, &m);
    }
    buf_fini(&m.lines);
    buf_fini(&m.head);
    buf_fini(&m.rcpts);
    arena_free(m.arena);
    return rc;
}
