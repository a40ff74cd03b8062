#include "core/import/queue_file.h"

#include "core/import/queue_reader.h"
#include "io/base/buf.h"
#include "io/base/clock.h"

enum { RCPTS_MAX = 1000000, ATTRS_MAX = 1000, LINE_LONG = 998 };
/* trace_flags: verification of an address, by a server or a user. What else asks for a report is mail. */
enum { TRACE_PROBE = 1 << 8 | 1 << 9 };
/* The last field of C. */
enum { UTF8_REQUESTED = 1 };

enum section { IN_ENVELOPE, IN_CONTENT, IN_EXTRACTED, AT_END };

struct parse {
    struct queue_reader r;
    struct arena *arena;
    struct queue_file *f;
    enum section section;
    bool timed, has_sender;
    struct str redirect;
    struct buf rcpts, rcpt_at, attrs; /* struct rcpt, uint64_t, struct attr */
    struct rcpt next;                 /* what stands before a recipient */
    /* --- content */
    uint64_t line_at;
    bool in_line;
};

/* --- texts */

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 127)
            return true;
    return false;
}

static struct err *address(struct parse *p, struct str text, struct str *out)
{
    if (has_control(text))
        return queue_reader_damaged(&p->r, "an address with control characters");
    *out = arena_str(p->arena, text);
    return NULL;
}

static struct str printable(struct arena *a, struct str text)
{
    char *copy = arena_cstr(a, text);
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)copy[i] < ' ' || copy[i] == 127)
            copy[i] = '?';
    return str_make(copy, text.len);
}

static uint64_t number(struct str text)
{
    uint64_t n = 0;
    (void)str_u64(str_trim(text), &n);
    return n;
}

/* --- records of the envelope */

static struct err *on_sizes(struct parse *p, struct str text)
{
    struct str rest = text, field;
    uint64_t fields[6] = {0};
    for (size_t i = 0; i < 6 && str_token(&rest, " ", &field); i++)
        if (!str_u64(field, &fields[i]))
            return queue_reader_damaged(&p->r, "sizes that are no numbers");
    if (fields[1] == 0)
        return queue_reader_damaged(&p->r, "no sizes: the message was not finished");
    p->f->sized = true;
    p->f->env.data_size = fields[0];
    if (fields[5] & UTF8_REQUESTED)
        p->f->env.flags |= ENV_SMTPUTF8;
    return NULL;
}

static struct err *on_time(struct parse *p, struct str text)
{
    struct str rest = text, field;
    int64_t seconds = 0, usec = 0;
    if (!str_token(&rest, " ", &field) || !str_i64(field, &seconds) || seconds <= 0 ||
        seconds > INT64_MAX / US_PER_S - 1)
        return queue_reader_damaged(&p->r, "a time of arrival that is none");
    if (str_token(&rest, " ", &field) && (!str_i64(field, &usec) || usec < 0 || usec >= US_PER_S))
        usec = 0;
    p->timed = true;
    p->f->env.arrival_us = seconds * US_PER_S + usec;
    return NULL;
}

static struct err *on_named(struct parse *p, struct str name, struct str value)
{
    struct envelope *env = &p->f->env;
    if (str_eq(name, STR("notify_flags"))) {
        p->next.notify = (uint8_t)(number(value) & (NOTIFY_NEVER | NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY));
    } else if (str_eq(name, STR("dsn_orig_rcpt"))) {
        return address(p, value, &p->next.orcpt);
    } else if (str_eq(name, STR("envelope_id"))) {
        env->envid = printable(p->arena, value);
    } else if (str_eq(name, STR("ret_flags"))) {
        uint64_t ret = number(value);
        env->ret = ret == RET_FULL || ret == RET_HDRS ? (uint8_t)ret : RET_NONE;
    } else if (str_eq(name, STR("encoding"))) {
        env->flags &= ~(unsigned)(ENV_8BIT | ENV_7BIT);
        env->flags |= str_eq(value, STR("8bit")) ? ENV_8BIT : str_eq(value, STR("7bit")) ? ENV_7BIT : 0U;
    } else if (str_eq(name, STR("trace_flags"))) {
        p->f->probe |= (number(value) & TRACE_PROBE) != 0;
    } else if (!str_eq(name, STR("create_time")) && !str_eq(name, STR("log_ident"))) {
        struct attr attr = {printable(p->arena, name), printable(p->arena, value)};
        if (p->attrs.len >= ATTRS_MAX * sizeof(attr))
            return queue_reader_damaged(&p->r, "too many attributes");
        buf_add(&p->attrs, &attr, sizeof(attr));
    }
    return NULL;
}

static struct err *on_attr(struct parse *p, struct str text)
{
    ssize_t eq = str_index(text, '=');
    if (eq < 1)
        return queue_reader_damaged(&p->r, "an attribute without a name");
    return on_named(p, str_head(text, (size_t)eq), str_from(text, (size_t)eq + 1));
}

static struct err *on_rcpt(struct parse *p, struct str text, enum rcpt_state state)
{
    struct rcpt rcpt = p->next;
    p->next = (struct rcpt){.original = STR(""), .orcpt = STR("")};
    struct err *e = address(p, text, &rcpt.address);
    if (e)
        return e;
    if (text.len == 0)
        return queue_reader_damaged(&p->r, "an empty recipient");
    if (p->rcpts.len >= RCPTS_MAX * sizeof(rcpt))
        return queue_reader_damaged(&p->r, "too many recipients");
    if (rcpt.original.len == 0)
        rcpt.original = rcpt.address;
    rcpt.state = state;
    rcpt.resolved = rcpt.address;
    rcpt.why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    buf_add(&p->rcpts, &rcpt, sizeof(rcpt));
    buf_add(&p->rcpt_at, &p->r.at, sizeof(p->r.at));
    return NULL;
}

static struct err *on_sender(struct parse *p, struct str text)
{
    if (p->has_sender)
        return queue_reader_damaged(&p->r, "a second sender");
    p->has_sender = true;
    return address(p, text, &p->f->env.sender);
}

static struct err *on_envelope(struct parse *p, struct str text)
{
    switch (p->r.type) {
    case 'C':
        return on_sizes(p, text);
    case 'T':
        return on_time(p, text);
    case 'A':
        return on_attr(p, text);
    case 'S':
        return on_sender(p, text);
    case 'O':
        return address(p, text, &p->next.original);
    case 'R':
        return on_rcpt(p, text, RCPT_TODO);
    case 'D':
        return on_rcpt(p, text, RCPT_DONE);
    case '/':
        p->next = (struct rcpt){.original = STR(""), .orcpt = STR("")};
        return NULL;
    case 'W':
        p->f->warned = number(text) == 0;
        return NULL;
    case 'o':
        return on_named(p, STR("dsn_orig_rcpt"), text);
    case 'n':
        return on_named(p, STR("notify_flags"), text);
    case 'i':
        return on_named(p, STR("envelope_id"), text);
    case '<':
        return on_named(p, STR("ret_flags"), text);
    case '>':
        return address(p, text, &p->redirect);
    case 'L':
        p->f->filter = printable(p->arena, text);
        return NULL;
    case 'V':
        p->f->verp = printable(p->arena, text);
        return NULL;
    case 'F':
        p->f->full_name = printable(p->arena, text);
        return NULL;
    case 'K': case 'c': case 'P': case 'I': case 'f': case 'r': case 'e':
        return NULL;
    default:
        return queue_reader_damaged(&p->r, "a record of unknown type");
    }
}

/* --- a first look at the content: what the envelope says of it */

static struct err *measure(void *ctx, struct str text, bool ends)
{
    struct parse *p = ctx;
    struct envelope *env = &p->f->env;
    if (!p->in_line && text.len > 0 && text.ptr[0] == '.')
        env->flags |= ENV_DOTS;
    p->line_at = (p->in_line ? p->line_at : 0) + text.len;
    p->in_line = !ends;
    if (p->line_at > LINE_LONG)
        env->flags |= ENV_LONG_LINES;
    env->size += text.len + (ends ? 2 : 0);
    return NULL;
}

/* One record of text, in pieces. *open: its line goes on. */
static struct err *text_record(struct queue_reader *r, bool *open, queue_file_piece *each, void *ctx)
{
    struct str piece;
    bool whole = r->type == 'N';
    *open = !whole && (*open || r->left > 0);
    do {
        struct err *e = queue_reader_piece(r, &piece);
        if (!e && (piece.len > 0 || whole))
            e = each(ctx, piece, whole && r->left == 0);
        if (e)
            return e;
    } while (r->left > 0);
    return NULL;
}

/* r stands on M; it is left on the record that ends the content. */
static struct err *content(struct queue_reader *r, queue_file_piece *each, void *ctx)
{
    bool open = false;
    for (;;) {
        struct err *e = queue_reader_next(r);
        if (!e && (r->type == 'N' || r->type == 'L'))
            e = text_record(r, &open, each, ctx);
        else if (!e)
            break;
        if (e)
            return e;
    }
    if (r->type != 'X' && r->type != 'E')
        return queue_reader_damaged(r, "a record of unknown type in the content");
    return open ? each(ctx, STR(""), true) : NULL;
}

/* --- the file */

static struct err *on_record(struct parse *p)
{
    struct queue_reader *r = &p->r;
    struct str text;
    struct err *e = NULL;
    if (r->type == 'M' && p->section == IN_ENVELOPE) {
        p->f->content_at = r->data_at + r->left;
        p->section = IN_CONTENT;
        e = content(r, measure, p);
    }
    if (!e && r->type == 'X' && p->section == IN_CONTENT) {
        p->section = IN_EXTRACTED;
        return NULL;
    }
    if (!e && r->type == 'E' && p->section != IN_ENVELOPE) {
        p->section = AT_END;
        return NULL;
    }
    if (!e && (r->type == 'X' || r->type == 'E' || r->type == 'M'))
        e = queue_reader_damaged(r, "parts of the file are out of order");
    if (!e)
        e = queue_reader_text(r, &text);
    return e ? e : on_envelope(p, text);
}

/* All who are left become the one it was redirected to. */
static void redirect(struct parse *p, struct rcpt *rcpt)
{
    rcpt->address = rcpt->original = rcpt->resolved = p->redirect;
    rcpt->orcpt = arena_printf(p->arena, "rfc822;%.*s", STR_ARG(p->redirect));
    rcpt->notify = 0;
}

static void take_rcpts(struct parse *p)
{
    struct queue_file *f = p->f;
    size_t n = p->rcpts.len / sizeof(struct rcpt), kept = 0;
    bool redirected = false;
    f->env.rcpts = arena_zalloc(p->arena, (n + 1) * sizeof(struct rcpt));
    f->rcpt_at = arena_zalloc(p->arena, (n + 1) * sizeof(uint64_t));
    for (size_t i = 0; i < n; i++) {
        struct rcpt *to = &f->env.rcpts[kept];
        memcpy(to, p->rcpts.ptr + i * sizeof(*to), sizeof(*to));
        memcpy(&f->rcpt_at[kept], p->rcpt_at.ptr + i * sizeof(uint64_t), sizeof(uint64_t));
        if (p->redirect.len > 0 && to->state == RCPT_TODO) {
            if (redirected)
                continue;
            redirected = true;
            redirect(p, to);
        }
        kept++;
    }
    f->env.rcpt_count = kept;
}

static struct err *complete(struct parse *p)
{
    if (!p->timed || !p->has_sender)
        return err_new(ERR_DAMAGED, 0, "no %s", !p->timed ? "time of arrival" : "sender");
    take_rcpts(p);
    struct envelope *env = &p->f->env;
    env->attr_count = p->attrs.len / sizeof(struct attr);
    env->attrs = arena_alloc(p->arena, p->attrs.len + 1);
    if (p->attrs.len > 0)
        memcpy(env->attrs, p->attrs.ptr, p->attrs.len);
    return NULL;
}

struct err *queue_file_read(const struct queue_file_source *src, struct arena *a, struct queue_file *out)
{
    struct queue_file f = {.filter = STR(""), .verp = STR(""), .full_name = STR("")};
    struct parse p = {.arena = a, .f = &f, .redirect = STR("")};
    f.env.sender = f.env.envid = STR("");
    p.next.original = p.next.orcpt = STR("");
    queue_reader_init(&p.r, src, 0);
    struct err *e = queue_reader_next(&p.r);
    if ((!e || e->kind == ERR_DAMAGED) && p.r.type != 'C' && p.r.type != 'T' && src->size > 0)
        e = queue_reader_damaged(&p.r, "not a queue file: no sizes");
    while (!e) {
        e = on_record(&p);
        if (e || p.section == AT_END)
            break;
        /* After the content the reader stands on the record that ended it. */
        e = queue_reader_next(&p.r);
    }
    if (!e)
        e = complete(&p);
    queue_reader_fini(&p.r);
    buf_fini(&p.rcpts);
    buf_fini(&p.rcpt_at);
    buf_fini(&p.attrs);
    if (!e)
        *out = f;
    return e;
}

struct err *queue_file_content(const struct queue_file_source *src, const struct queue_file *f, queue_file_piece *each,
                               void *ctx)
{
    struct queue_reader r;
    queue_reader_init(&r, src, f->content_at);
    struct err *e = content(&r, each, ctx);
    queue_reader_fini(&r);
    return e;
}

void queue_file_mask(char *text, size_t n, bool mask_cr)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] == '\n' || (mask_cr && text[i] == '\r'))
            text[i] = ' ';
}
