#include "core/config/dict.h"

#include <stdarg.h>
#include <stdio.h>
#include "io/base/buf.h"
#include "io/base/cfline.h"
#include "io/base/mem.h"

void notes_add(struct notes *n, const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    if (n->count == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 16;
        n->list = mem_realloc(n->list, n->cap * sizeof(*n->list));
    }
    n->list[n->count++] = arena_cstr(n->arena, buf_str(&b));
    buf_fini(&b);
}

void notes_fini(struct notes *n)
{
    mem_free(n->list);
    *n = (struct notes){0};
}

void dict_fini(struct dict *d)
{
    hmap_fini(&d->by_name);
    mem_free(d->list);
    *d = (struct dict){0};
}

struct setting *dict_find(const struct dict *d, struct str name)
{
    return hmap_get(&d->by_name, name);
}

struct setting *dict_set(struct dict *d, struct arena *a, struct str name, struct str raw,
                         const char *file, int line)
{
    struct setting *s = dict_find(d, name);
    if (!s) {
        s = ARENA_NEW(a, struct setting);
        s->name = arena_cstr(a, name);
        hmap_put(&d->by_name, name, s);
        if (d->count == d->cap) {
            d->cap = d->cap ? d->cap * 2 : 32;
            d->list = mem_realloc(d->list, d->cap * sizeof(struct setting *));
        }
        d->list[d->count++] = s;
    }
    s->raw = arena_str(a, raw);
    s->file = file;
    s->line = line;
    return s;
}

static struct err *read_lines(struct dict *d, struct arena *a, const char *path, struct cfline *c,
                              struct notes *notes)
{
    struct str line, name, value;
    int number = 0;
    for (;;) {
        struct err *e = cfline_next(c, &line, &number);
        if (e)
            return err_in(e, "%s", path);
        if (!line.ptr)
            return NULL;
        if (cfline_stray(line)) {
            notes_add(notes, "%s: logical line must not start with whitespace: \"%.*s%s\"", path,
                      STR_ARG(str_head(line, 30)), line.len > 30 ? "..." : "");
            continue;
        }
        if (memchr(line.ptr, '\0', line.len))
            return err_new(ERR_CONFIG, 0, "%s, line %d: NUL byte in a value", path, number);
        e = cfline_split(line, &name, &value);
        if (e)
            return err_in(e, "%s, line %d", path, number);
        const struct setting *old = dict_find(d, name);
        if (old && !str_eq(old->raw, value))
            notes_add(notes, "%s, line %d: overriding earlier entry: %.*s=%.*s", path, number,
                      STR_ARG(name), STR_ARG(old->raw));
        dict_set(d, a, name, value, path, number);
    }
}

struct err *dict_read_main(struct dict *d, struct arena *a, const char *path, struct notes *notes)
{
    FILE *fp = fopen(path, "re");
    if (!fp)
        return err_new(ERR_CONFIG, errno, "open %s: %s", path, strerror(errno));
    struct cfline c;
    cfline_init_file(&c, fp);
    struct err *e = read_lines(d, a, path, &c, notes);
    cfline_fini(&c);
    fclose(fp);
    if (e)
        e->kind = ERR_CONFIG;
    return e;
}
