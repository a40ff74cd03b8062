#include "perf/load/pattern.h"

#include "io/base/rand.h"
#include "io/file/file.h"

#define LINES_FILE_MAX (256UL << 20)

static struct err *bad(struct str text, const char *why)
{
    return err_new(ERR_SYNTAX, 0, "pattern \"%.*s\": %s", STR_ARG(text), why);
}

static struct err *read_lines(struct arena *a, struct str path, struct pattern *out)
{
    struct str all;
    struct err *e = file_read(a, arena_cstr(a, path), LINES_FILE_MAX, &all);
    if (e)
        return e;
    struct str rest = all, line;
    size_t n = 0;
    while (str_token(&rest, "\r\n", &line))
        n++;
    if (n == 0)
        return bad(path, "the file holds no line");
    struct str *lines = arena_alloc(a, n * sizeof *lines);
    rest = all;
    for (size_t i = 0; i < n && str_token(&rest, "\r\n", &line); i++)
        lines[i] = str_trim(line);
    out->lines = lines;
    out->line_count = n;
    return NULL;
}

/* What stands between "%{" and "}". */
static bool parse_place(struct str inner, struct pattern *p)
{
    uint64_t from, to;
    bool random = inner.len > 0 && inner.ptr[inner.len - 1] == '?';
    if (random)
        inner.len--;
    ssize_t dash = str_index(inner, '-');
    if (dash < 0 || !str_u64(str_head(inner, (size_t)dash), &from) ||
        !str_u64(str_from(inner, (size_t)dash + 1), &to) || to < from || to - from >= UINT32_MAX)
        return false;
    p->parts[p->count].kind = random ? PATTERN_RANDOM : PATTERN_ROUND;
    p->parts[p->count].from = from;
    p->parts[p->count].size = to - from + 1;
    p->count++;
    return true;
}

/* One part off the front of *rest. */
static bool parse_part(struct str *rest, struct pattern *p)
{
    ssize_t percent = str_index(*rest, '%');
    size_t text = percent < 0 ? rest->len : (size_t)percent;
    if (text == 0 && rest->len > 1 && rest->ptr[1] == '{') {
        ssize_t end = str_index(*rest, '}');
        if (end < 0 || !parse_place(str_make(rest->ptr + 2, (size_t)end - 2), p))
            return false;
        *rest = str_from(*rest, (size_t)end + 1);
        return true;
    }
    if (text == 0 && rest->len > 1 && (rest->ptr[1] == 'd' || rest->ptr[1] == '%')) {
        p->parts[p->count].kind = rest->ptr[1] == 'd' ? PATTERN_COUNTER : PATTERN_TEXT;
        p->parts[p->count++].text = STR("%");
        *rest = str_from(*rest, 2);
        return true;
    }
    if (text == 0)
        return false;
    p->parts[p->count].kind = PATTERN_TEXT;
    p->parts[p->count++].text = str_head(*rest, text);
    *rest = str_from(*rest, text);
    return true;
}

static bool set_divisors(struct pattern *p)
{
    uint64_t product = 1;
    for (size_t i = p->count; i-- > 0;) {
        if (p->parts[i].kind != PATTERN_ROUND)
            continue;
        p->parts[i].divisor = product;
        if (__builtin_mul_overflow(product, p->parts[i].size, &product))
            return false;
    }
    return true;
}

struct err *pattern_parse(struct arena *a, struct str text, struct pattern *out)
{
    struct pattern p = {0};
    if (text.len > 0 && text.ptr[0] == '@') {
        struct err *e = read_lines(a, str_from(text, 1), &p);
        if (!e)
            *out = p;
        return e;
    }
    struct str rest = text;
    while (rest.len > 0) {
        if (p.count == PATTERN_PARTS_MAX)
            return bad(text, "too many parts");
        if (!parse_part(&rest, &p))
            return bad(text, "expected %d, %{FROM-TO}, %{FROM-TO?} or %% after a %");
    }
    if (!set_divisors(&p))
        return bad(text, "more combinations than 2^64");
    *out = p;
    return NULL;
}

static void add_number(struct buf *to, uint64_t v)
{
    char digits[20];
    size_t n = sizeof digits;
    do
        digits[--n] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    buf_add(to, digits + n, sizeof digits - n);
}

void pattern_make(const struct pattern *p, uint64_t counter, struct buf *to)
{
    if (p->lines != NULL) {
        buf_add_str(to, p->lines[counter % p->line_count]);
        return;
    }
    for (size_t i = 0; i < p->count; i++) {
        switch (p->parts[i].kind) {
        case PATTERN_TEXT:
            buf_add_str(to, p->parts[i].text);
            break;
        case PATTERN_COUNTER:
            add_number(to, counter);
            break;
        case PATTERN_ROUND:
            add_number(to, p->parts[i].from + counter / p->parts[i].divisor % p->parts[i].size);
            break;
        case PATTERN_RANDOM:
            add_number(to, p->parts[i].from + rand_below(p->parts[i].size));
            break;
        }
    }
}
