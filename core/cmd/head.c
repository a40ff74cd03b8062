#include "core/cmd/head.h"

#include "core/mail/address.h"

static size_t name_len(struct str line)
{
    size_t n = 0;
    while (n < line.len && line.ptr[n] > ' ' && line.ptr[n] < 127 && line.ptr[n] != ':')
        n++;
    return n;
}

static struct str body_of(struct str line)
{
    size_t at = name_len(line);
    while (at < line.len && (line.ptr[at] == ' ' || line.ptr[at] == '\t'))
        at++;
    return at < line.len && line.ptr[at] == ':' ? str_from(line, at + 1) : STR_NULL;
}

bool head_line(struct str line, bool after_header)
{
    if (line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
        return after_header;
    return name_len(line) > 0 && body_of(line).ptr != NULL;
}

/* 0 = names no recipients, 1 = To and its like, 2 = Resent- forms. */
static int kind(struct str header)
{
    static const struct str names[] = {STR("To"), STR("Cc"), STR("Bcc")};
    struct str name = str_head(header, name_len(header));
    bool resent = str_starts_nocase(name, STR("Resent-"));
    if (resent)
        name = str_from(name, sizeof("Resent-") - 1);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (str_eq_nocase(name, names[i]))
            return resent ? 2 : 1;
    return 0;
}

/* A header with its continuation lines, off *rest. */
static struct str next_header(struct str *rest)
{
    size_t n = 0;
    do {
        ssize_t lf = str_index(str_from(*rest, n), '\n');
        n = lf < 0 ? rest->len : n + (size_t)lf + 1;
    } while (n < rest->len && (rest->ptr[n] == ' ' || rest->ptr[n] == '\t'));
    struct str header = str_head(*rest, n);
    *rest = str_from(*rest, n);
    return header;
}

static size_t collect(struct arena *a, struct str lines, int wanted, struct buf *out)
{
    size_t found = 0;
    while (lines.len > 0) {
        struct str header = next_header(&lines);
        struct str *list;
        if (kind(header) != wanted)
            continue;
        size_t n = address_header_list(a, body_of(header), &list);
        for (size_t i = 0; i < n; i++)
            if (list[i].len > 0) {
                buf_add(out, &list[i], sizeof(list[i]));
                found++;
            }
    }
    return found;
}

void head_recipients(struct arena *a, struct str lines, struct buf *list_out)
{
    if (collect(a, lines, 2, list_out) == 0)
        (void)collect(a, lines, 1, list_out);
}
