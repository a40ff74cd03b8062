/* texthash:file is a postmap(1) source that is read as it is; inline:{key=value, {key = some text}}
 * has its entries in the name. Both are a hash table in memory. */
#include "io/base/cfline.h"
#include "io/base/hash.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "maps/reload.h"
#include "maps/source.h"

enum { FILE_MAX = 256 << 20 };

struct table {
    struct arena *arena;
    struct hmap entries; /* struct str * */
};

static struct table *table_new(void)
{
    struct table *t = MEM_NEW(struct table);
    t->arena = arena_new(0, 0);
    return t;
}

static void table_free(void *object)
{
    struct table *t = object;
    if (!t)
        return;
    hmap_fini(&t->entries);
    arena_free(t->arena);
    mem_free(t);
}

/* False: the key is there already; the first entry stays. */
static bool table_add(struct table *t, unsigned flags, struct str key, struct str value)
{
    if (flags & MAP_FOLD)
        key = arena_lower(t->arena, key);
    if (hmap_get(&t->entries, key))
        return false;
    struct str *entry = arena_alloc(t->arena, sizeof(*entry));
    *entry = arena_str(t->arena, value);
    hmap_put(&t->entries, key, entry);
    return true;
}

static void table_find(const struct table *t, struct arena *a, struct str key,
                       struct str *value_out, bool *found_out)
{
    const struct str *entry = hmap_get(&t->entries, key);
    if (!entry)
        return;
    *value_out = arena_str(a, *entry);
    *found_out = true;
}

/* --- texthash */
static void add_line(struct table *t, const struct map *m, const char *path, struct arena *scratch,
                     struct str line, int number)
{
    struct str key, value;
    const char *why = cfline_stray(line) ? "logical line must not start with whitespace"
                                         : source_split(scratch, line, &key, &value);
    if (why) {
        log_warning(map_log_service(), "%s, line %d: %s%s", path, number, why,
                    strstr(why, "--") ? "" : " -- ignoring this line");
        return;
    }
    if (key.ptr[key.len - 1] == ':')
        log_warning(map_log_service(),
                    "%s, line %d: record is in \"key: value\" format; is this an alias file?", path,
                    number);
    if (!table_add(t, m->flags, key, value))
        log_warning(map_log_service(), "%s, line %d: duplicate entry: \"%.*s\"", path, number,
                    STR_ARG(key));
}

static struct err *load(struct map *m, const char *path, void **object_out)
{
    struct arena *scratch = arena_new(0, 0);
    struct str bytes, line = {0};
    int number;
    struct err *e = file_read(scratch, path, FILE_MAX, &bytes);
    if (e) {
        arena_free(scratch);
        return e;
    }
    struct table *t = table_new();
    struct cfline lines;
    cfline_init_text(&lines, bytes);
    do {
        e = cfline_next(&lines, &line, &number);
        if (!e && line.ptr)
            add_line(t, m, path, scratch, line, number);
    } while (!e && line.ptr);
    cfline_fini(&lines);
    arena_free(scratch);
    if (e) {
        table_free(t);
        return err_in(e, "%s", path);
    }
    *object_out = t;
    return NULL;
}

static const struct reload_ops ops = {load, table_free};

static struct err *open_texthash(struct map *m, struct str name, const struct map_options *options)
{
    char *path = reload_path(options, name, "");
    struct reload *r = NULL;
    struct err *e = reload_open(m, path, &ops, &r);
    m->impl = r;
    mem_free(path);
    return e;
}

static void close_texthash(struct map *m)
{
    reload_close(m->impl);
}

static struct err *find_texthash(struct map *m, struct arena *a, struct str key,
                                 struct str *value_out, bool *found_out)
{
    void *t;
    struct err *e = reload_take(m->impl, &t);
    if (e)
        return e;
    table_find(t, a, key, value_out, found_out);
    reload_give(m->impl, t);
    return NULL;
}

static struct err *walk_texthash(struct map *m,
                                 void (*each)(void *ctx, struct str key, struct str value), void *ctx)
{
    void *object;
    struct err *e = reload_take(m->impl, &object);
    if (e)
        return e;
    const struct table *t = object;
    struct str key;
    void *value;
    for (size_t at = 0; hmap_next(&t->entries, &at, &key, &value);)
        each(ctx, key, *(const struct str *)value);
    reload_give(m->impl, object);
    return NULL;
}

/* --- inline */
static struct err *inline_entry(struct table *t, const struct map *m, struct str token)
{
    if (token.len >= 2 && token.ptr[0] == '{' && token.ptr[token.len - 1] == '}')
        token = str_trim(str_make(token.ptr + 1, token.len - 2));
    ssize_t eq = str_index(token, '=');
    if (eq < 0)
        return err_new(ERR_CONFIG, 0, "%s: no '=' in \"%.*s\"; need \"inline:{name=value...}\"",
                       m->name, STR_ARG(token));
    struct str key = str_trim(str_head(token, (size_t)eq));
    struct str value = str_trim(str_from(token, (size_t)eq + 1));
    if (key.len == 0)
        return err_new(ERR_CONFIG, 0, "%s: missing name before '='", m->name);
    table_add(t, m->flags, key, value);
    return NULL;
}

static struct err *open_inline(struct map *m, struct str name, const struct map_options *options)
{
    (void)options;
    struct table *t = table_new();
    m->impl = t;
    if (name.len < 2 || name.ptr[0] != '{' || name.ptr[name.len - 1] != '}')
        return err_new(ERR_CONFIG, 0, "bad syntax: \"%s\"; need \"inline:{name=value...}\"", m->name);
    struct str rest = str_make(name.ptr + 1, name.len - 2), token;
    while (str_token_braces(&rest, ", \t\r\n", &token)) {
        struct err *e = inline_entry(t, m, token);
        if (e)
            return e;
    }
    if (t->entries.count == 0)
        return err_new(ERR_CONFIG, 0, "bad syntax: \"%s\": empty table; need \"inline:{name=value...}\"",
                       m->name);
    return NULL;
}

static void close_inline(struct map *m)
{
    table_free(m->impl);
}

static struct err *find_inline(struct map *m, struct arena *a, struct str key,
                               struct str *value_out, bool *found_out)
{
    table_find(m->impl, a, key, value_out, found_out);
    return NULL;
}

extern const struct map_type map_texthash_type, map_inline_type;
const struct map_type map_texthash_type = {
    .name = "texthash",
    .open = open_texthash,
    .close = close_texthash,
    .find = find_texthash,
    .walk = walk_texthash,
};
const struct map_type map_inline_type = {
    .name = "inline",
    .open = open_inline,
    .close = close_inline,
    .find = find_inline,
};
