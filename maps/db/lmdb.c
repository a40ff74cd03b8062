/* Tables that postmap builds. hash: btree: dbm: cdb: and lmdb: are one format here, an LMDB file
 * NAME.lmdb; keys and values without a NUL at the end. Files are built aside and renamed, so a file
 * never changes under a reader and needs no locks. */
#include <sys/stat.h>
#include "io/base/mem.h"
#include "io/kv/kv.h"
#include "maps/db/lmdb.h"
#include "maps/reload.h"

/* What an admin who comes from Postfix has lying there. */
static bool berkeley_db_beside(const char *path)
{
    struct str p = str_of(path);
    struct buf b = {0};
    buf_add_str(&b, str_head(p, p.len - strlen(MAP_LMDB_SUFFIX)));
    buf_add_c(&b, ".db");
    struct stat st;
    bool there = stat(b.ptr, &st) == 0;
    buf_fini(&b);
    return there;
}

static struct err *load(struct map *m, const char *path, void **object_out)
{
    struct kv_options o = {.read_only = true, .one_file = true};
    struct kv *kv;
    struct err *e = kv_open(path, &o, &kv);
    if (!e) {
        *object_out = kv;
        return NULL;
    }
    if (e->kind == ERR_NOTFOUND && berkeley_db_beside(path))
        return err_new(ERR_NOTFOUND, ENOENT,
                       "open database %s: No such file or directory (Berkeley DB files are not "
                       "read; run \"postmap %s\" to build it)",
                       path, m->name);
    if (e->code > 0)
        return err_new(e->kind, e->code, "open database %s: %s", path, strerror(e->code));
    return err_in(e, "open database %s", path);
}

static void drop(void *object)
{
    kv_close(object);
}

static const struct reload_ops ops = {load, drop};

static struct err *open_lmdb(struct map *m, struct str name, const struct map_options *options)
{
    char *path = reload_path(options, name, MAP_LMDB_SUFFIX);
    struct reload *r = NULL;
    struct err *e = reload_open(m, path, &ops, &r);
    m->impl = r;
    mem_free(path);
    return e;
}

static void close_lmdb(struct map *m)
{
    reload_close(m->impl);
}

static struct err *get(struct kv *kv, struct arena *a, struct str key, struct str *value_out,
                       bool *found_out)
{
    struct kv_txn *t;
    struct err *e = kv_begin(kv, false, &t);
    if (e)
        return e;
    kv_table table;
    struct str value;
    e = kv_table_open(t, NULL, false, false, &table);
    if (!e)
        e = kv_get(t, table, key, &value, found_out);
    if (!e && !*found_out && key.len < MAP_LMDB_KEY_MAX) {
        /* A file that Postfix's postmap built ends its keys and values in NUL. */
        struct str with_nul = arena_str(a, key);
        with_nul.len++;
        e = kv_get(t, table, with_nul, &value, found_out);
        if (!e && *found_out && value.len > 0 && value.ptr[value.len - 1] == '\0')
            value.len--;
    }
    if (!e && *found_out)
        *value_out = arena_str(a, value);
    kv_abort(t);
    return e;
}

static struct err *find(struct map *m, struct arena *a, struct str key, struct str *value_out,
                        bool *found_out)
{
    if (key.len > MAP_LMDB_KEY_MAX)
        return NULL; /* no table can hold it */
    void *kv;
    struct err *e = reload_take(m->impl, &kv);
    if (e)
        return e;
    e = get(kv, a, key, value_out, found_out);
    reload_give(m->impl, kv);
    if (e)
        *found_out = false;
    return e;
}

static const char *suffix(void)
{
    return MAP_LMDB_SUFFIX;
}

static struct err *walk_in(struct kv_txn *t, void (*each)(void *ctx, struct str key, struct str value),
                           void *ctx)
{
    kv_table table;
    struct kv_cursor *c;
    struct err *e = kv_table_open(t, NULL, false, false, &table);
    if (!e)
        e = kv_cursor_open(t, table, STR_NULL, &c);
    if (e)
        return e;
    for (;;) {
        struct str key, value;
        bool found;
        e = kv_cursor_next(c, &key, &value, &found);
        if (e || !found)
            break;
        each(ctx, key, value);
    }
    kv_cursor_close(c);
    return e;
}

static struct err *walk(struct map *m, void (*each)(void *ctx, struct str key, struct str value),
                        void *ctx)
{
    void *kv;
    struct kv_txn *t;
    struct err *e = reload_take(m->impl, &kv);
    if (e)
        return e;
    e = kv_begin(kv, false, &t);
    if (!e) {
        e = walk_in(t, each, ctx);
        kv_abort(t);
    }
    reload_give(m->impl, kv);
    return e;
}

#define LMDB_TYPE(variable, text)                                                                  \
    extern const struct map_type variable;                                                         \
    const struct map_type variable = {text, false, open_lmdb, close_lmdb, find, suffix, walk}
LMDB_TYPE(map_btree_type, "btree");
LMDB_TYPE(map_cdb_type, "cdb");
LMDB_TYPE(map_dbm_type, "dbm");
LMDB_TYPE(map_hash_type, "hash");
LMDB_TYPE(map_lmdb_type, "lmdb");
