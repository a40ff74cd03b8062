#include "core/cmd/shape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/base/mem.h"

enum { DOMAIN_WIDTH_MIN = 18, NUMBER_MAX = 32 };

struct shape_row {
    struct str name;
    uint64_t subdomains;
    uint64_t counts[]; /* 0: all; then the buckets */
};

static struct shape_row *row_of(struct shape *s, struct str name)
{
    struct shape_row *row = hmap_get(&s->domains, name);
    if (row)
        return row;
    row = arena_zalloc(s->arena, sizeof(*row) + (s->buckets + 1) * sizeof(row->counts[0]));
    row->name = arena_str(s->arena, name);
    hmap_put(&s->domains, name, row);
    return row;
}

void shape_init(struct shape *s, int64_t now_s)
{
    *s = (struct shape){
        .min_subdomains = 5, .buckets = 10, .tick_min = 5, .width = 80, .now_s = now_s};
    s->arena = arena_new(1u << 16, 0);
}

void shape_fini(struct shape *s)
{
    hmap_fini(&s->domains);
    arena_free(s->arena);
}

/* --- counting */

static size_t bucket_of(const struct shape *s, int64_t arrival_s)
{
    double m = (double)(s->now_s - arrival_s) / (60 * s->tick_min);
    if (m < 1)
        return 1;
    double b = s->linear ? floor(m + 1) : 2 + floor(log(m) / log(2));
    return b < (double)s->buckets ? (size_t)b : s->buckets;
}

/* Lower case, two dots are one, none at either end. In place; Postfix's substitutions one by one. */
static struct str clean(char *d, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        d[n++] = str_lower_char(d[i]);
        if (d[i] == '.' && i + 1 < len && d[i + 1] == '.')
            i++;
    }
    struct str s = str_make(d, n);
    if (s.len > 1 && s.ptr[0] == '.')
        s = str_from(s, 1);
    if (s.len > 1 && s.ptr[s.len - 1] == '.')
        s.len--;
    return s;
}

static void count(struct shape_row *row, size_t bucket, uint32_t n)
{
    row->counts[0] += n;
    row->counts[bucket] += n;
}

/* ".b.c" of "a.b.c" and of ".a.b.c"; false for what is a level below the top. */
static bool parent_of(struct str name, char *scratch, struct str *out)
{
    struct str rest = name.ptr[0] == '.' ? str_from(name, 1) : name;
    ssize_t dot = str_index(rest, '.');
    if (dot <= 0 || str_index(str_from(rest, (size_t)dot + 1), '.') < 0)
        return false;
    rest = str_from(rest, (size_t)dot);
    memmove(scratch, rest.ptr, rest.len);
    *out = str_make(scratch, rest.len);
    return true;
}

static void add_row(struct shape *s, int64_t arrival_s, uint32_t n, struct str domain)
{
    char text[256];
    size_t bucket = bucket_of(s, arrival_s);
    memcpy(text, domain.ptr, domain.len);
    struct str name = domain.len > 0 ? clean(text, domain.len) : STR("");
    if (domain.len == 0 && s->senders)
        name = STR("MAILER-DAEMON");
    if (!s->total)
        s->total = row_of(s, STR("TOTAL"));
    count(s->total, bucket, n);
    bool again = true;
    while (again) {
        struct shape_row *row = row_of(s, name);
        bool is_new = row->counts[0] == 0;
        count(row, bucket, n);
        again = s->parents && name.len > 0 && parent_of(name, text, &name);
        if (again && is_new)
            row_of(s, name)->subdomains++;
    }
}

void shape_add(struct shape *s, struct str rows)
{
    struct rd r = rd_of(rows);
    while (r.ptr < r.end) {
        uint32_t arrival_s = rd_u32(&r), n = rd_u32(&r);
        size_t len = rd_u8(&r);
        if (r.bad || len > (size_t)(r.end - r.ptr))
            return;
        add_row(s, arrival_s, n, str_make(r.ptr, len));
        r.ptr += len;
    }
}

/* --- printing */

static int by_count(const void *left, const void *right)
{
    const struct shape_row *l = *(struct shape_row *const *)left, *r = *(struct shape_row *const *)right;
    if (l->counts[0] != r->counts[0])
        return l->counts[0] < r->counts[0] ? 1 : -1;
    if (l->name.len != r->name.len)
        return l->name.len < r->name.len ? -1 : 1;
    return str_cmp(l->name, r->name);
}

/* What does not fit begins with a plus sign. */
static void put_name(struct buf *out, struct str name, size_t width)
{
    if (name.len <= width)
        buf_printf(out, "%*s%.*s", (int)(width - name.len), "", STR_ARG(name));
    else if (name.ptr[0] == '.')
        buf_printf(out, ".+%.*s", STR_ARG(str_from(name, name.len - width + 2)));
    else
        buf_printf(out, "+%.*s", STR_ARG(str_from(name, name.len - width + 1)));
}

static void head_of(const struct shape *s, size_t i, char out[NUMBER_MAX])
{
    double minutes = 0; /* the last two buckets end, and begin, at the same age */
    for (size_t k = 1; k <= i && k < s->buckets; k++)
        minutes += minutes > 0 && !s->linear ? minutes : s->tick_min;
    if (i == 0)
        snprintf(out, NUMBER_MAX, "T");
    else
        snprintf(out, NUMBER_MAX, "%.15g%s", minutes, i == s->buckets ? "+" : "");
}

void shape_print(struct shape *s, struct buf *out)
{
    size_t n = 0, at = 0, shown = 0, columns = s->buckets + 1;
    int left = s->width, *widths = mem_alloc(columns * sizeof(*widths));
    char head[NUMBER_MAX];
    struct str key;
    void *value;
    if (!s->total)
        s->total = row_of(s, STR("TOTAL"));
    struct shape_row **rows = mem_alloc(s->domains.count * sizeof(*rows));
    while (hmap_next(&s->domains, &at, &key, &value))
        rows[n++] = value;
    qsort(rows, n, sizeof(*rows), by_count);
    for (size_t i = 0; i < columns; i++) {
        head_of(s, i, head);
        int len = snprintf(NULL, 0, "%llu", (unsigned long long)s->total->counts[i]);
        int head_len = (int)strlen(head);
        len = head_len > len ? head_len : len;
        widths[i] = len > 2 ? len + 1 : 3;
        left -= widths[i];
    }
    size_t width = left < DOMAIN_WIDTH_MIN ? DOMAIN_WIDTH_MIN : (size_t)left;
    put_name(out, STR(""), width);
    for (size_t i = 0; i < columns; i++) {
        head_of(s, i, head);
        buf_printf(out, "%*s", widths[i], head);
    }
    buf_add_char(out, '\n');
    for (size_t k = 0; k < n; k++) {
        const struct shape_row *row = rows[k];
        if (row->name.len > 0 && row->name.ptr[0] == '.' && row->subdomains < s->min_subdomains)
            continue;
        if (s->top > 0 && ++shown > s->top)
            break;
        put_name(out, row->name, width);
        for (size_t i = 0; i < columns; i++)
            buf_printf(out, "%*llu", widths[i], (unsigned long long)row->counts[i]);
        buf_add_char(out, '\n');
    }
    mem_free(rows);
    mem_free(widths);
}
