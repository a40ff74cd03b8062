#include "maps/reload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/list.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/offload.h"

/* One loaded state of the file. The current one holds a reference of its own. */
struct generation {
    struct list link;
    void *object;
    unsigned refs;
};

struct file_id {
    uint64_t dev, ino;
    int64_t mtime_ns, size;
    int error; /* of stat: 0 or errno */
};

struct reload {
    struct map *map;
    const struct reload_ops *ops;
    char *path;
    _Atomic int64_t check_at_ns;
    atomic_flag loading;
    pthread_mutex_t lock; /* what follows */
    struct list generations;
    struct generation *current; /* NULL: failed */
    struct file_id seen;
    enum err_kind kind;
    char why[ERR_TEXT_MAX];
};

char *reload_path(const struct map_options *o, struct str name, const char *suffix)
{
    struct buf b = {0};
    if (name.len > 0 && name.ptr[0] != '/' && o->config_dir && *o->config_dir)
        buf_printf(&b, "%s/", o->config_dir);
    buf_add_str(&b, name);
    buf_add_c(&b, suffix);
    char *path = mem_strdup(b.ptr);
    buf_fini(&b);
    return path;
}

static struct file_id identify(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return (struct file_id){.error = errno};
    return (struct file_id){
        .dev = st.st_dev,
        .ino = st.st_ino,
        .mtime_ns = (int64_t)st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec,
        .size = st.st_size,
    };
}

static bool same_file(const struct file_id *a, const struct file_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->mtime_ns == b->mtime_ns &&
           a->size == b->size && a->error == b->error;
}

/* Lock held. Returns the object to drop, or NULL. */
static void *unref(struct generation *g)
{
    if (--g->refs > 0)
        return NULL;
    void *object = g->object;
    list_remove(&g->link);
    mem_free(g);
    return object;
}

struct load_job {
    struct reload *r;
    void *object;
    bool failed;
    enum err_kind kind;
    char why[ERR_TEXT_MAX];
};

/* On the offload pool: an error must not leave its thread, its text may. */
static void load_on_pool(void *arg)
{
    struct load_job *job = arg;
    struct err *e = job->r->ops->load(job->r->map, job->r->path, &job->object);
    if (!e)
        return;
    job->failed = true;
    job->kind = e->kind;
    str_copy(job->why, sizeof(job->why), str_of(e->text));
}

static struct err *load(struct reload *r, struct file_id id)
{
    struct load_job *job = MEM_NEW(struct load_job);
    job->r = r;
    offload(load_on_pool, job);
    struct generation *fresh = NULL;
    if (!job->failed) {
        fresh = MEM_NEW(struct generation);
        fresh->object = job->object;
        fresh->refs = 1;
    }
    void *old = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->current)
        old = unref(r->current);
    r->current = fresh;
    r->seen = id;
    if (fresh) {
        list_push_back(&r->generations, &fresh->link);
    } else {
        r->kind = job->kind;
        str_copy(r->why, sizeof(r->why), str_of(job->why));
    }
    pthread_mutex_unlock(&r->lock);
    if (old)
        r->ops->drop(old);
    struct err *e = job->failed ? err_new(job->kind, 0, "%s", job->why) : NULL;
    mem_free(job);
    return e;
}

struct err *reload_open(struct map *m, const char *path, const struct reload_ops *ops,
                        struct reload **out)
{
    struct reload *r = MEM_NEW(struct reload);
    r->map = m;
    r->ops = ops;
    r->path = mem_strdup(path);
    list_init(&r->generations);
    pthread_mutex_init(&r->lock, NULL);
    atomic_flag_clear(&r->loading);
    atomic_store(&r->check_at_ns, clock_in_s(1));
    *out = r; /* also on failure: the caller's close frees it */
    struct err *e = load(r, identify(path));
    if (e && (m->flags & MAP_LAZY) && e->kind != ERR_CONFIG) {
        log_error(map_log_service(), "%s: %s", m->name, e->text);
        return NULL;
    }
    return e;
}

void reload_close(struct reload *r)
{
    if (!r)
        return;
    void *object = r->current ? unref(r->current) : NULL;
    if (object)
        r->ops->drop(object);
    CHECK(list_empty(&r->generations));
    pthread_mutex_destroy(&r->lock);
    mem_free(r->path);
    mem_free(r);
}

/* At most once a second and by one thread at a time; the others go on with what there is. */
static void check_file(struct reload *r)
{
    int64_t now = clock_mono_ns();
    if (now < atomic_load_explicit(&r->check_at_ns, memory_order_relaxed) ||
        atomic_flag_test_and_set(&r->loading))
        return;
    atomic_store_explicit(&r->check_at_ns, now + NS_PER_S, memory_order_relaxed);
    struct file_id id = identify(r->path);
    pthread_mutex_lock(&r->lock);
    bool changed = !same_file(&id, &r->seen);
    pthread_mutex_unlock(&r->lock);
    if (changed) {
        struct err *e = load(r, id);
        if (e)
            log_error(map_log_service(), "%s: %s", r->map->name, e->text);
        else
            log_info(map_log_service(), "table %s has changed", r->map->name);
    }
    atomic_flag_clear(&r->loading);
}

struct err *reload_take(struct reload *r, void **object_out)
{
    check_file(r);
    struct err *e = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->current) {
        r->current->refs++;
        *object_out = r->current->object;
    } else {
        e = err_new(r->kind, 0, "%s is unavailable. %s", r->map->name, r->why);
    }
    pthread_mutex_unlock(&r->lock);
    return e;
}

void reload_give(struct reload *r, void *object)
{
    void *dead = NULL;
    pthread_mutex_lock(&r->lock);
    LIST_EACH(&r->generations, it) {
        struct generation *g = CONTAINER(it, struct generation, link);
        if (g->object == object) {
            dead = unref(g);
            break;
        }
    }
    pthread_mutex_unlock(&r->lock);
    if (dead)
        r->ops->drop(dead);
}
