/* The writing half of postmap(1) and postalias(1).
 *
 * The new file is made beside the old one under another name, synced and renamed; -i and -d begin
 * with a copy of the old one. So a reader never meets half a table, and a file in use never changes. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/base/cfline.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "io/kv/kv.h"
#include "maps/db/lmdb.h"
#include "maps/map.h"
#include "maps/source.h"

struct build {
    const struct map_build_options *options;
    const char *source; /* for messages */
    char *target, *aside;
    char *shown; /* what warnings call it: as in Postfix lmdb tables by name, the others by file */
    struct kv *kv;
    struct kv_txn *txn;
    kv_table table;
    struct arena *scratch;
};

static struct err *copy_file(const char *from, int to_fd)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? NULL : err_errno(errno, "open %s", from);
    enum { PIECE = 1 << 18 };
    char *piece = mem_alloc(PIECE);
    struct err *e = NULL;
    for (;;) {
        ssize_t n = read(fd, piece, PIECE);
        if (n < 0)
            e = err_errno(errno, "read %s", from);
        for (ssize_t done = 0; !e && done < n;) {
            ssize_t w = write(to_fd, piece + done, (size_t)(n - done));
            if (w < 0)
                e = err_errno(errno, "copy %s", from);
            else
                done += w;
        }
        if (n <= 0 || e)
            break;
    }
    mem_free(piece);
    close(fd);
    return e;
}

/* Like the file it comes from: root's postmap must leave files that the owner's can replace. */
static struct err *make_aside(struct build *b, const struct stat *like, bool copy)
{
    unlink(b->aside);
    int fd = open(b->aside, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(errno, "create %s", b->aside);
    struct err *e = NULL;
    if (geteuid() == 0 && fchown(fd, like->st_uid, like->st_gid) != 0)
        e = err_errno(errno, "change owner of %s", b->aside);
    if (!e && fchmod(fd, like->st_mode & 0666) != 0)
        e = err_errno(errno, "change mode of %s", b->aside);
    if (!e && copy)
        e = copy_file(b->target, fd);
    close(fd);
    return e;
}

/* like: whose mode and owner the file gets. */
static struct err *begin(struct build *b, const struct map_type *type, const char *path,
                         const struct stat *like, bool copy)
{
    struct buf name = {0};
    buf_printf(&name, "%s%s", path, type->build_suffix());
    b->target = mem_strdup(name.ptr);
    buf_printf(&name, ".new%ld", (long)getpid());
    b->aside = mem_strdup(name.ptr);
    buf_reset(&name);
    buf_printf(&name, "lmdb:%s", path);
    b->shown = mem_strdup(strcmp(type->name, "lmdb") == 0 ? name.ptr : b->target);
    buf_fini(&name);
    b->scratch = arena_new(0, 0);
    struct err *e = make_aside(b, like, copy);
    struct kv_options o = {.one_file = true, .no_sync = true, .mode = like->st_mode & 0666};
    if (!e)
        e = kv_open(b->aside, &o, &b->kv);
    if (!e)
        e = kv_begin(b->kv, true, &b->txn);
    if (!e)
        e = kv_table_open(b->txn, NULL, true, false, &b->table);
    return e;
}

static struct err *finish(struct build *b)
{
    struct kv_txn *txn = b->txn;
    b->txn = NULL;
    struct err *e = kv_commit(txn);
    if (!e)
        e = kv_sync(b->kv);
    kv_close(b->kv);
    b->kv = NULL;
    if (!e && rename(b->aside, b->target) != 0)
        e = err_errno(errno, "rename %s to %s", b->aside, b->target);
    if (e)
        return e;
    const char *slash = strrchr(b->target, '/');
    struct str folder = slash ? str_make(b->target, (size_t)(slash - b->target) + 1) : STR(".");
    return file_sync_dir(arena_cstr(b->scratch, folder));
}

static void cleanup(struct build *b, bool failed)
{
    if (b->txn)
        kv_abort(b->txn);
    if (b->kv)
        kv_close(b->kv);
    if (failed && b->aside)
        unlink(b->aside);
    mem_free(b->aside);
    mem_free(b->target);
    mem_free(b->shown);
    if (b->scratch)
        arena_free(b->scratch);
}

static struct err *put(struct build *b, struct str key, struct str value, int line)
{
    const struct map_build_options *o = b->options;
    if (o->fold)
        key = arena_lower(b->scratch, key);
    if (key.len > MAP_LMDB_KEY_MAX) {
        log_warning(o->tag, "%s, line %d: key is longer than %d bytes -- ignoring this line",
                    b->source, line, MAP_LMDB_KEY_MAX);
        return NULL;
    }
    if (o->replace)
        return kv_put(b->txn, b->table, key, value);
    bool existed;
    struct err *e = kv_put_new(b->txn, b->table, key, value, &existed);
    if (!e && existed && o->warn_dup)
        log_warning(o->tag, "%s: duplicate entry: \"%.*s\"", b->shown, STR_ARG(str_head(key, 200)));
    return e;
}

static struct err *add_line(struct build *b, struct str line, int number)
{
    const char *tag = b->options->tag;
    struct str key, value;
    if (cfline_stray(line)) {
        log_warning(tag, "%s: logical line must not start with whitespace: \"%.*s\"", b->source,
                    STR_ARG(str_head(line, 30)));
        return NULL;
    }
    const char *why = b->options->alias ? source_split_alias(b->scratch, line, &key, &value)
                                        : source_split(b->scratch, line, &key, &value);
    if (why) {
        log_warning(tag, "%s, line %d: %s", b->source, number, why);
        return NULL;
    }
    if (!b->options->alias && key.ptr[key.len - 1] == ':')
        log_warning(tag, "%s, line %d: record is in \"key: value\" format; is this an alias file?",
                    b->source, number);
    return put(b, key, value, number);
}

static struct err *add_lines(struct build *b, FILE *fp)
{
    struct cfline c;
    struct str line = {0};
    int number;
    struct err *e;
    cfline_init_file(&c, fp);
    do {
        e = cfline_next(&c, &line, &number);
        if (e)
            err_in(e, "%s", b->source);
        else if (line.ptr)
            e = add_line(b, line, number);
        arena_reset(b->scratch);
    } while (!e && line.ptr);
    cfline_fini(&c);
    return e;
}

static struct err *open_source(const char *path, int source_fd, FILE **out, struct stat *like)
{
    FILE *fp = source_fd >= 0 ? fdopen(dup(source_fd), "r") : fopen(path, "re");
    if (!fp)
        return err_errno(errno, "open %s", source_fd >= 0 ? "standard input" : path);
    struct err *e = NULL;
    if (source_fd >= 0 && stat(path, like) != 0) /* the source, when there is one; else our own */
        *like = (struct stat){.st_mode = 0644, .st_uid = geteuid(), .st_gid = getegid()};
    else if (source_fd < 0 && fstat(fileno(fp), like) != 0)
        e = err_errno(errno, "stat %s", path);
    else if (source_fd < 0 && S_ISDIR(like->st_mode))
        e = err_errno(EISDIR, "open %s", path);
    if (e)
        fclose(fp);
    else
        *out = fp;
    return e;
}

struct err *map_build(const struct map_type *type, const char *path, int source_fd,
                      const struct map_build_options *options)
{
    if (!type->build_suffix)
        return err_new(ERR_UNSUPPORTED, 0,
                       "unsupported dictionary type: %s does not support bulk-mode creation.",
                       type->name);
    struct build b = {.options = options, .source = source_fd >= 0 ? "stdin" : path};
    FILE *fp = NULL;
    struct stat like;
    struct err *e = open_source(path, source_fd, &fp, &like);
    if (e)
        return e;
    e = begin(&b, type, path, &like, options->incremental);
    if (!e)
        e = add_lines(&b, fp);
    if (!e)
        e = finish(&b);
    fclose(fp);
    cleanup(&b, e != NULL);
    return e;
}

struct err *map_build_delete(const struct map_type *type, const char *path, const struct str *keys,
                             size_t count, size_t *deleted_out)
{
    if (!type->build_suffix)
        return err_new(ERR_UNSUPPORTED, 0, "%s:%s map requires O_RDONLY access mode", type->name,
                       path);
    struct build b = {.source = path};
    struct buf target = {0};
    buf_printf(&target, "%s%s", path, type->build_suffix());
    struct stat like;
    struct err *e = NULL;
    if (stat(target.ptr, &like) != 0)
        e = err_errno(errno, "open database %s", target.ptr);
    buf_fini(&target);
    if (e)
        return e;
    size_t deleted = 0;
    e = begin(&b, type, path, &like, true);
    for (size_t i = 0; i < count && !e; i++) {
        bool found = false;
        if (keys[i].len > 0 && keys[i].len <= MAP_LMDB_KEY_MAX)
            e = kv_del(b.txn, b.table, keys[i], &found);
        deleted += found;
    }
    if (!e && deleted > 0)
        e = finish(&b);
    cleanup(&b, e != NULL || deleted == 0);
    if (!e)
        *deleted_out = deleted;
    return e;
}
