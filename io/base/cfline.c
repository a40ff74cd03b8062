#include "io/base/cfline.h"

#include <stdlib.h>

void cfline_init_file(struct cfline *c, FILE *fp)
{
    *c = (struct cfline){.fp = fp};
}

void cfline_init_text(struct cfline *c, struct str text)
{
    *c = (struct cfline){.rest = text};
}

void cfline_fini(struct cfline *c)
{
    buf_fini(&c->line);
    /* getline's own. */
    free(c->raw);
    *c = (struct cfline){0};
}

static struct str without_end(struct str s)
{
    if (s.len && s.ptr[s.len - 1] == '\n')
        s.len--;
    return s;
}

/* One physical line; false at the end. */
static struct err *read_line(struct cfline *c, struct str *out, bool *more_out)
{
    *more_out = true;
    if (c->fp) {
        ssize_t n = getline(&c->raw, &c->raw_cap, c->fp);
        if (n < 0 && ferror(c->fp))
            return err_errno(errno, "read error");
        *more_out = n >= 0;
        *out = n < 0 ? STR("") : without_end(str_make(c->raw, (size_t)n));
    } else {
        ssize_t end = str_index(c->rest, '\n');
        *more_out = c->rest.len > 0;
        *out = end < 0 ? c->rest : str_head(c->rest, (size_t)end);
        c->rest = end < 0 ? str_from(c->rest, c->rest.len) : str_from(c->rest, (size_t)end + 1);
    }
    if (*more_out)
        c->number++;
    return NULL;
}

static bool is_skipped(struct str line)
{
    struct str seen = str_trim(line);
    return seen.len == 0 || seen.ptr[0] == '#';
}

/* The next physical line that is not skipped; stays ahead until taken. */
static struct err *look_ahead(struct cfline *c)
{
    bool more = true;
    while (!c->have_ahead && more) {
        struct str line;
        struct err *e = read_line(c, &line, &more);
        if (e)
            return e;
        c->have_ahead = more && !is_skipped(line);
        c->ahead = line;
    }
    return NULL;
}

static struct err *take_ahead(struct cfline *c)
{
    if (c->ahead.len > CFLINE_BYTES_MAX - c->line.len)
        return err_new(ERR_LIMIT, 0, "line %d: logical line longer than %u bytes", c->number,
                       CFLINE_BYTES_MAX);
    buf_add_str(&c->line, c->ahead);
    c->have_ahead = false;
    return NULL;
}

struct err *cfline_next(struct cfline *c, struct str *line_out, int *number_out)
{
    struct err *e = look_ahead(c);
    if (e)
        return e;
    if (!c->have_ahead) {
        *line_out = STR_NULL;
        return NULL;
    }
    int number = c->number;
    buf_reset(&c->line);
    e = take_ahead(c);
    while (!e) {
        e = look_ahead(c);
        if (e || !c->have_ahead || !str_is_space(c->ahead.ptr[0]))
            break;
        e = take_ahead(c);
    }
    if (e)
        return e;
    struct str line = buf_str(&c->line);
    while (line.len && str_is_space(line.ptr[line.len - 1]))
        line.len--;
    *line_out = line;
    *number_out = number;
    return NULL;
}

bool cfline_stray(struct str line)
{
    return line.len > 0 && str_is_space(line.ptr[0]);
}

struct err *cfline_split(struct str line, struct str *name_out, struct str *value_out)
{
    struct str rest = str_trim(line);
    size_t n = 0;
    while (n < rest.len && rest.ptr[n] != '=' && !str_is_space(rest.ptr[n]))
        n++;
    struct str name = str_head(rest, n);
    rest = str_trim(str_from(rest, n));
    if (name.len == 0)
        return err_new(ERR_CONFIG, 0, "missing attribute name: \"%.*s\"", STR_ARG(line));
    if (rest.len == 0 || rest.ptr[0] != '=')
        return err_new(ERR_CONFIG, 0, "missing '=' after attribute name: \"%.*s\"", STR_ARG(line));
    *name_out = name;
    *value_out = str_trim(str_from(rest, 1));
    return NULL;
}
