#include "core/import/queue_log.h"

#include <stdio.h>

#include "core/mail/address.h"
#include "io/base/hash.h"
#include "queue/queue_id.h"

struct block {
    struct str recipient, offset, status, reason, mta, diag_type, diag_text;
};

static bool next_line(struct str *rest, struct str *line_out)
{
    if (rest->len == 0)
        return false;
    ssize_t lf = str_index(*rest, '\n');
    *line_out = lf < 0 ? *rest : str_head(*rest, (size_t)lf);
    *rest = str_from(*rest, lf < 0 ? rest->len : (size_t)lf + 1);
    return true;
}

static void take_field(struct block *b, struct str line)
{
    const struct {
        struct str name;
        struct str *to;
    } fields[] = {{STR("recipient"), &b->recipient}, {STR("offset"), &b->offset},       {STR("status"), &b->status},
                  {STR("reason"), &b->reason},       {STR("mta_mname"), &b->mta},       {STR("diag_type"), &b->diag_type},
                  {STR("diag_text"), &b->diag_text}};
    ssize_t eq = str_index(line, '=');
    if (eq < 1)
        return;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (str_eq(str_head(line, (size_t)eq), fields[i].name))
            *fields[i].to = str_from(line, (size_t)eq + 1);
}

/* False at the end. */
static bool next_block(struct str *rest, struct block *out)
{
    struct str line;
    do {
        if (!next_line(rest, &line))
            return false;
    } while (line.len == 0);
    *out = (struct block){.recipient = STR("")};
    do
        take_field(out, line);
    while (next_line(rest, &line) && line.len > 0);
    return true;
}

/* It goes into log lines and notices. */
static struct str one_line(struct arena *a, struct str text)
{
    if (text.len == 0)
        return STR("");
    char *copy = arena_cstr(a, text);
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)copy[i] < ' ' || copy[i] == 127)
            copy[i] = '?';
    return str_make(copy, text.len);
}

/* RFC 3463: class "." subject "." detail */
static bool is_status(struct str s)
{
    size_t dots = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '.')
            dots++;
        else if (!str_is_digit(s.ptr[i]))
            return false;
    }
    return dots == 2 && s.len >= 5 && s.len < sizeof(((struct dsn *)0)->status) && strchr("245", s.ptr[0]) && s.ptr[1] == '.';
}

static void set_why(struct rcpt *rcpt, const struct block *b, enum rcpt_state state, struct arena *a)
{
    struct str fallback = state == RCPT_BOUNCED ? STR("5.0.0") : STR("4.0.0");
    rcpt->state = state;
    str_copy(rcpt->why.status, sizeof(rcpt->why.status), is_status(b->status) ? b->status : fallback);
    rcpt->why.text = one_line(a, b->reason);
    rcpt->why.mta = one_line(a, b->mta);
    rcpt->why.diagnostic = STR("");
    if (b->diag_type.len > 0 && b->diag_text.len > 0)
        rcpt->why.diagnostic = one_line(a, arena_printf(a, "%.*s; %.*s", STR_ARG(b->diag_type), STR_ARG(b->diag_text)));
}

/* Logs quote what has to be quoted in mail; message files do not. */
static bool names(const struct block *b, const struct rcpt *rcpt, struct arena *a)
{
    return str_eq(rcpt->address, b->recipient) || str_eq(address_quote(a, rcpt->address), b->recipient);
}

void queue_log_apply(struct str log, enum rcpt_state state, struct queue_file *f, struct arena *a)
{
    struct umap by_offset = {0};
    struct block b;
    for (size_t i = 0; i < f->env.rcpt_count; i++)
        (void)umap_put(&by_offset, f->rcpt_at[i], &f->env.rcpts[i]);
    while (next_block(&log, &b)) {
        uint64_t at;
        struct rcpt *rcpt = str_u64(b.offset, &at) ? umap_get(&by_offset, at) : NULL;
        if (!rcpt || !names(&b, rcpt, a))
            continue;
        if (state == RCPT_BOUNCED || rcpt->state == RCPT_TODO || rcpt->state == RCPT_DEFERRED)
            set_why(rcpt, &b, state, a);
    }
    umap_fini(&by_offset);
}

bool queue_log_path(struct str id, unsigned depth, char *out, size_t size)
{
    char hex[8];
    uint32_t usec;
    struct str folders = id;
    size_t at = 0;
    if (!queue_id_parse(id, NULL, &usec))
        return false;
    if (str_rindex(id, 'z') >= 0) {
        snprintf(hex, sizeof(hex), "%05X", usec);
        folders = str_of(hex);
    }
    if (depth > folders.len || depth * 2 + id.len >= size)
        return false;
    for (unsigned i = 0; i < depth; i++) {
        out[at++] = folders.ptr[i];
        out[at++] = '/';
    }
    str_copy(out + at, size - at, id);
    return true;
}
