#include "core/config/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include "core/config/private.h"
#include "io/base/check.h"
#include "io/base/log.h"
#include "io/base/mem.h"

static struct {
    pthread_mutex_t lock;
    struct snapshot *snapshot;
} current = {.lock = PTHREAD_MUTEX_INITIALIZER};

const char *config_dir_choose(const char *dash_c)
{
    const char *env = getenv("MAIL_CONFIG");
    if (dash_c)
        return dash_c;
    return env && *env ? env : "/etc/postfix";
}

/* --- life */
static struct snapshot *snapshot_new(const char *config_dir)
{
    struct arena *a = arena_new(16384, 0);
    struct snapshot *s = ARENA_NEW(a, struct snapshot);
    struct config_private *c = ARENA_NEW(a, struct config_private);
    c->magic = SNAPSHOT_MAGIC;
    atomic_init(&c->refs, 1);
    c->arena = a;
    c->lazy = arena_new(0, 0);
    c->notes.arena = a;
    pthread_mutex_init(&c->lock, NULL);
    s->priv = c;
    s->config_dir = arena_cstr(a, str_of(config_dir));
    return s;
}

static void snapshot_free(struct snapshot *s)
{
    struct config_private *c = s->priv;
    for (size_t i = 0; i < s->service_count; i++) {
        struct service_private *p = s->services[i].priv;
        dict_fini(&p->over);
        hmap_fini(&p->values);
        lists_close(p->own_lists, c->lists);
    }
    lists_close(c->lists, NULL);
    dict_fini(&c->main);
    dict_fini(&c->computed);
    notes_fini(&c->notes);
    hmap_fini(&c->values);
    arena_free(c->lazy);
    pthread_mutex_destroy(&c->lock);
    c->magic = 0;
    arena_free(c->arena);
}

struct snapshot *snapshot_ref(const struct snapshot *s)
{
    CHECK_MAGIC(s->priv, SNAPSHOT_MAGIC);
    atomic_fetch_add_explicit(&s->priv->refs, 1, memory_order_relaxed);
    return (struct snapshot *)(uintptr_t)s; /* immutable but for the count */
}

void snapshot_unref(const struct snapshot *s)
{
    if (!s)
        return;
    CHECK_MAGIC(s->priv, SNAPSHOT_MAGIC);
    if (atomic_fetch_sub_explicit(&s->priv->refs, 1, memory_order_acq_rel) == 1)
        snapshot_free((struct snapshot *)(uintptr_t)s);
}

void config_publish(struct snapshot *s)
{
    pthread_mutex_lock(&current.lock);
    struct snapshot *old = current.snapshot;
    current.snapshot = s;
    pthread_mutex_unlock(&current.lock);
    snapshot_unref(old);
}

struct snapshot *config_current(void)
{
    pthread_mutex_lock(&current.lock);
    struct snapshot *s = current.snapshot ? snapshot_ref(current.snapshot) : NULL;
    pthread_mutex_unlock(&current.lock);
    return s;
}

/* --- names */
static bool service_known(void *ctx, struct str name)
{
    const struct config_private *c = ctx;
    for (size_t i = 0; i < c->master_count; i++)
        if (str_eq(c->master[i].field[MASTER_NAME], name))
            return true;
    return false;
}

struct scope config_scope(const struct snapshot *s, const struct service *svc)
{
    struct config_private *c = s->priv;
    struct scope scope = {.main = &c->main, .computed = &c->computed};
    if (c->master) {
        scope.service_known = service_known;
        scope.ctx = c;
    }
    if (svc) {
        scope.over = &svc->priv->over;
        scope.service_name = svc->name;
        scope.process_name = svc->command;
    }
    return scope;
}

static char no_value[1];

static const char *value_of(const struct snapshot *s, const struct service *svc, const char *name)
{
    struct config_private *c = s->priv;
    struct hmap *known = svc ? &svc->priv->values : &c->values;
    struct str key = str_of(name);
    pthread_mutex_lock(&c->lock);
    char *value = hmap_get(known, key);
    if (!value) {
        struct scope scope = config_scope(s, svc);
        struct str text;
        struct err *e = eval_name(&scope, c->lazy, key, &text);
        /* Every value that is set was expanded when the snapshot was made. */
        value = e || !text.ptr ? no_value : arena_cstr(c->lazy, text);
        hmap_put(known, key, value);
    }
    pthread_mutex_unlock(&c->lock);
    return value == no_value ? NULL : value;
}

const char *config_value(const struct snapshot *s, const char *name)
{
    return value_of(s, NULL, name);
}

const char *service_value(const struct service *svc, const char *name)
{
    return value_of(svc->snapshot, svc, name);
}

const struct service *config_service(const struct snapshot *s, const char *name, const char *type)
{
    static const char *const any[] = {"unix", "inet", "fifo", "pass"};
    for (size_t t = 0; t < (type ? 1 : sizeof(any) / sizeof(any[0])); t++)
        for (size_t i = 0; i < s->service_count; i++)
            if (strcmp(s->services[i].name, name) == 0 &&
                strcmp(s->services[i].type, type ? type : any[t]) == 0)
                return &s->services[i];
    return NULL;
}

/* --- reading */
static struct err *read_main(struct snapshot *s, const char *const *extra)
{
    struct config_private *c = s->priv;
    const char *path = arena_printf(c->arena, "%s/main.cf", s->config_dir).ptr;
    struct err *e = dict_read_main(&c->main, c->arena, path, &c->notes);
    for (; !e && extra && *extra; extra++) {
        const char *eq = strchr(*extra, '=');
        if (!eq)
            return err_new(ERR_CONFIG, 0,
                           "invalid parameter override: %s: missing '=' after attribute name", *extra);
        struct str name = str_trim(str_make(*extra, (size_t)(eq - *extra)));
        dict_set(&c->main, c->arena, name, str_trim(str_of(eq + 1)), NULL, 0);
    }
    dict_set(&c->computed, c->arena, STR("config_directory"), str_of(s->config_dir), NULL, 0);
    return e;
}

static struct err *read_host_addrs(struct snapshot *s)
{
    struct config_private *c = s->priv;
    struct scope scope = config_scope(s, NULL);
    struct err *e;
    static const char *const names[] = {"inet_interfaces", "proxy_interfaces", "inet_protocols",
                                        "mynetworks_style"};
    const char *values[4];
    for (size_t i = 0; i < 4; i++) {
        struct str value;
        e = eval_name(&scope, c->arena, str_of(names[i]), &value);
        if (e)
            return e;
        values[i] = arena_cstr(c->arena, value);
    }
    e = host_addrs(s, c->arena, values[0], values[1], values[2]);
    if (e)
        return eval_located(&scope, STR("inet_interfaces"), e);
    struct str networks;
    e = host_networks(s, c->arena, values[3], &networks);
    if (e)
        return eval_located(&scope, STR("mynetworks_style"), e);
    dict_set(&c->computed, c->arena, STR("mynetworks"), networks, NULL, 0);
    return NULL;
}

static struct err *read_host(struct snapshot *s, bool need_addrs)
{
    struct config_private *c = s->priv;
    struct scope scope = config_scope(s, NULL);
    struct err *e = compat_check(&scope, c->arena);
    if (!e)
        e = host_names(c);
    if (e || (!need_addrs && dict_find(&c->main, STR("mynetworks"))))
        return e;
    return read_host_addrs(s);
}

/* myorigin = /file: its first line. */
static struct err *read_origin(const struct scope *scope, struct arena *a, struct params *p)
{
    if (p->myorigin[0] != '/')
        return NULL;
    char line[256];
    FILE *fp = fopen(p->myorigin, "re");
    if (!fp)
        return eval_located(scope, STR("myorigin"),
                            err_errno(errno, "parameter myorigin: open %s", p->myorigin));
    bool good = fgets(line, sizeof(line), fp) != NULL;
    fclose(fp);
    struct str text = good ? str_trim(str_of(line)) : STR("");
    if (text.len == 0)
        return eval_located(scope, STR("myorigin"),
                            err_new(ERR_CONFIG, 0, "parameter myorigin: %s: its first line is empty",
                                    p->myorigin));
    p->myorigin = arena_cstr(a, text);
    return NULL;
}

static struct err *make_params(const struct scope *scope, struct arena *a, struct params **out)
{
    struct params *p = ARENA_NEW(a, struct params);
    struct err *e = eval_params(scope, a, p);
    if (!e)
        e = read_origin(scope, a, p);
    *out = p;
    return e;
}

/* Does main.cf itself look different to each service? */
static bool main_names_service(const struct dict *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (str_find(d->list[i]->raw, STR("service_name")) >= 0 ||
            str_find(d->list[i]->raw, STR("process_name")) >= 0)
            return true;
    return false;
}

static const char *log_tag(struct arena *a, const struct service *svc, const struct params *main)
{
    if (strcmp(svc->params->syslog_name, main->syslog_name) == 0)
        return svc->command;
    return arena_printf(a, "%s/%s", svc->params->syslog_name, svc->command).ptr;
}

static struct err *make_service(struct snapshot *s, const struct master_entry *m, struct service *svc,
                                bool own_view)
{
    struct config_private *c = s->priv;
    master_service(m, c->arena, s->params->default_process_limit, svc);
    svc->snapshot = s;
    svc->params = s->params;
    svc->lists = s->lists;
    svc->priv = ARENA_NEW(c->arena, struct service_private);
    s->service_count++; /* from here on snapshot_free sees it */
    struct err *e = master_options(m, c->arena, &svc->priv->over, &svc->args);
    if (!e && (svc->priv->over.count > 0 || own_view)) {
        struct scope scope = config_scope(s, svc);
        struct params *p;
        e = make_params(&scope, c->arena, &p);
        svc->params = p;
        if (!e)
            e = lists_open(&scope, p, s->params, s->lists, &c->map_options, &svc->priv->own_lists);
        if (!e)
            svc->lists = svc->priv->own_lists;
    }
    if (!e)
        svc->log_tag = log_tag(c->arena, svc, s->params);
    return e;
}

static struct err *make_services(struct snapshot *s)
{
    struct config_private *c = s->priv;
    bool own_view = main_names_service(&c->main);
    struct service *list = arena_zalloc(c->arena, (c->master_count + 1) * sizeof(*list));
    s->services = list;
    for (size_t i = 0; i < c->master_count; i++) {
        const struct master_entry *m = &c->master[i];
        bool replaced = false;
        for (size_t k = i + 1; k < c->master_count && !replaced; k++)
            replaced = master_same(m, &c->master[k]);
        if (replaced) {
            notes_add(&c->notes,
                      "duplicate master.cf entry for service \"%.*s\" (%.*s) -- using the last entry",
                      STR_ARG(m->field[MASTER_NAME]), STR_ARG(m->field[MASTER_TYPE]));
            continue;
        }
        struct err *e = make_service(s, m, &list[s->service_count], own_view);
        if (e)
            return e;
    }
    return NULL;
}

static struct err *load(struct snapshot *s, const char *const *extra, bool whole)
{
    struct config_private *c = s->priv;
    struct err *e = read_main(s, extra);
    if (!e && whole) {
        const char *path = arena_printf(c->arena, "%s/master.cf", s->config_dir).ptr;
        e = master_read(c->arena, path, &c->notes, &c->master, &c->master_count);
    }
    if (!e)
        e = read_host(s, whole);
    struct scope scope = config_scope(s, NULL);
    struct params *params = NULL;
    if (!e)
        e = make_params(&scope, c->arena, &params);
    s->params = params;
    if (e || !whole)
        return e;
    c->map_options.config_dir = s->config_dir;
    e = lists_open(&scope, params, NULL, NULL, &c->map_options, &c->lists);
    s->lists = c->lists;
    if (!e)
        e = make_services(s);
    if (!e) {
        struct arena *scratch = arena_new(0, 0);
        check_names(s, scratch);
        arena_free(scratch);
    }
    return e;
}

static struct err *load_any(const char *config_dir, const char *const *extra, bool whole,
                            struct snapshot **out)
{
    /* As it was named, for messages; a relative one is followed now, since a daemon moves about. */
    char *absolute = config_dir[0] == '/' ? NULL : realpath(config_dir, NULL);
    if (config_dir[0] != '/' && !absolute)
        return err_new(ERR_CONFIG, errno, "open %s/main.cf: %s", config_dir, strerror(errno));
    struct snapshot *s = snapshot_new(absolute ? absolute : config_dir);
    free(absolute);
    struct err *e = load(s, extra, whole);
    for (size_t i = 0; i < s->priv->notes.count; i++)
        log_warning("postfix", "%s", s->priv->notes.list[i]);
    if (e) {
        e->kind = ERR_CONFIG;
        snapshot_unref(s);
        return e;
    }
    *out = s;
    return NULL;
}

/* --- the texts alone */
struct err *config_networks(struct snapshot *s)
{
    return dict_find(&s->priv->computed, STR("mynetworks")) ? NULL : read_host_addrs(s);
}

/* -o of each service, without values: enough to know which names are used. */
static struct err *text_services(struct snapshot *s)
{
    struct config_private *c = s->priv;
    struct service *list = arena_zalloc(c->arena, (c->master_count + 1) * sizeof(*list));
    s->services = list;
    for (size_t i = 0; i < c->master_count; i++) {
        master_service(&c->master[i], c->arena, 0, &list[i]);
        list[i].snapshot = s;
        list[i].priv = ARENA_NEW(c->arena, struct service_private);
        s->service_count++;
        struct err *e =
            master_options(&c->master[i], c->arena, &list[i].priv->over, &list[i].args);
        if (e)
            return e;
    }
    return NULL;
}

struct err *config_load_text(const char *config_dir, const char *const *extra, bool defaults_only,
                             struct snapshot **out)
{
    struct snapshot *s = snapshot_new(config_dir);
    struct config_private *c = s->priv;
    *out = s;
    struct err *e = defaults_only ? NULL : read_main(s, extra);
    if (e)
        return e;
    dict_set(&c->computed, c->arena, STR("config_directory"), str_of(s->config_dir), NULL, 0);
    const char *path = arena_printf(c->arena, "%s/master.cf", s->config_dir).ptr;
    e = master_read(c->arena, path, &c->notes, &c->master, &c->master_count);
    if (!e)
        e = text_services(s);
    if (e)
        notes_add(&c->notes, "%s", e->text);
    e = host_names(c);
    if (e)
        notes_add(&c->notes, "%s", e->text);
    return NULL;
}

struct err *config_load(const char *config_dir, const char *const *extra, struct snapshot **out)
{
    return load_any(config_dir, extra, true, out);
}

struct err *config_load_main(const char *config_dir, struct snapshot **out)
{
    return load_any(config_dir, NULL, false, out);
}
