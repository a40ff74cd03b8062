#include "queue/sched/suspend.h"

#include <stdlib.h>
#include <unistd.h>

#include "io/base/buf.h"
#include "io/base/clock.h"
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/file/file.h"
#include "queue/sched/state.h"

#define FILE_NAME  "suspended"
#define FILE_MAX   (4u << 20)
#define PULL_SLICE 128
/* A name is a domain, or a transport and a next hop. */
#define NAME_MAX_BYTES 600

static const struct str said = {"delivery suspended by the operator", 34};
static const struct str between = {"; before: ", 10};

struct suspension {
    int64_t since_us;
    char name[];
};

/* --- names */

static bool is_word(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] <= ' ' || s.ptr[i] == 127)
            return false;
    return s.len > 0 && s.len < NAME_MAX_BYTES;
}

static bool is_domain(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool literal = s.ptr[0] == '[' && (c == '[' || c == ']' || c == ':');
        if (!str_is_alnum(c) && c != '.' && c != '-' && c != '_' && (unsigned char)c < 128 && !literal)
            return false;
    }
    return s.len > 0 && s.len <= 255;
}

struct err *suspend_parse(struct str text, bool (*is_transport)(const void *ctx, struct str name),
                          const void *ctx, struct arena *a, struct str *out,
                          enum suspend_kind *kind_out)
{
    struct str name = arena_lower(a, str_trim(text));
    if (!is_word(name))
        return err_new(ERR_REFUSED, 0, "not a domain, destination or transport: \"%.*s\"",
                       STR_ARG(str_head(text, 100)));
    ssize_t colon = str_index(name, ':');
    enum suspend_kind kind;
    if (name.ptr[0] == '@') {
        kind = SUSPEND_DOMAIN;
        name = str_from(name, 1);
    } else if (name.ptr[0] == '[') {
        kind = SUSPEND_NEXTHOP;
    } else if (colon > 0) {
        struct str transport = str_head(name, (size_t)colon);
        if (!is_transport(ctx, transport))
            return err_new(ERR_REFUSED, 0, "there is no transport \"%.*s\" in master.cf; a next hop is written "
                           "[host]:port or transport:nexthop", STR_ARG(transport));
        kind = (size_t)colon + 1 == name.len ? SUSPEND_TRANSPORT : SUSPEND_DESTINATION;
    } else if (is_transport(ctx, name)) {
        kind = SUSPEND_TRANSPORT;
        name = arena_printf(a, "%.*s:", STR_ARG(name));
    } else {
        kind = SUSPEND_DOMAIN;
    }
    if (kind == SUSPEND_DOMAIN && !is_domain(name))
        return err_new(ERR_REFUSED, 0, "not a domain: \"%.*s\"", STR_ARG(name));
    *out = name;
    *kind_out = kind;
    return NULL;
}

enum suspend_kind suspend_kind_of(struct str name)
{
    if (name.len > 0 && name.ptr[0] == '[')
        return SUSPEND_NEXTHOP;
    ssize_t colon = str_index(name, ':');
    if (colon < 0)
        return SUSPEND_DOMAIN;
    return (size_t)colon + 1 == name.len ? SUSPEND_TRANSPORT : SUSPEND_DESTINATION;
}

struct store_query suspend_query(enum suspend_kind kind, struct str name)
{
    struct store_query q = {0};
    if (kind == SUSPEND_DOMAIN)
        q.domain = name;
    else if (kind != SUSPEND_TRANSPORT)
        q.destination = name;
    return q;
}

/* --- the set */

static bool add(struct suspensions *p, struct str name, int64_t since_us)
{
    if (hmap_get(&p->set, name))
        return false;
    struct suspension *one = mem_zalloc(sizeof(*one) + name.len + 1);
    one->since_us = since_us;
    memcpy(one->name, name.ptr, name.len);
    hmap_put(&p->set, name, one);
    return true;
}

static int by_name(const void *left, const void *right)
{
    const struct suspension *const *l = left, *const *r = right;
    return strcmp((*l)->name, (*r)->name);
}

void suspend_each(const struct suspensions *p, void (*each)(void *ctx, const char *name, int64_t since_us),
                  void *ctx)
{
    const struct suspension **list = mem_alloc((p->set.count + 1) * sizeof(*list));
    size_t n = 0, at = 0;
    struct str key;
    void *value;
    while (hmap_next(&p->set, &at, &key, &value))
        list[n++] = value;
    if (n > 0)
        qsort(list, n, sizeof(*list), by_name);
    for (size_t i = 0; i < n; i++)
        each(ctx, list[i]->name, list[i]->since_us);
    mem_free(list);
}

/* --- the file: a line each, "microseconds name" */

static void add_line(void *ctx, const char *name, int64_t since_us)
{
    buf_printf(ctx, "%lld %s\n", (long long)since_us, name);
}

static struct err *write_file(const struct suspensions *p)
{
    if (!p->path)
        return NULL;
    struct buf text = {0};
    suspend_each(p, add_line, &text);
    struct err *e = file_replace(p->path, buf_str(&text), 0600);
    buf_fini(&text);
    return e;
}

static void read_line(struct suspensions *p, struct str line)
{
    struct str rest = line, since, name;
    int64_t since_us;
    if (str_token(&rest, " ", &since) && str_token(&rest, " ", &name) && str_i64(since, &since_us) &&
        is_word(name))
        (void)add(p, name, since_us);
    else
        log_warning("qmgr", "%s: a line that makes no sense is left out: %.*s", p->path,
                    STR_ARG(str_head(line, 100)));
}

struct err *suspend_open(struct suspensions *p, const char *data_directory)
{
    sem_init_count(&p->file, 1);
    if (!data_directory)
        return NULL;
    struct buf path = {0};
    buf_printf(&path, "%s/" FILE_NAME, data_directory);
    p->path = mem_strdup(path.ptr);
    buf_fini(&path);
    if (access(p->path, F_OK) != 0 && errno == ENOENT)
        return NULL;
    struct arena *a = arena_new(0, 0);
    struct str text = STR(""), line;
    struct err *e = file_read(a, p->path, FILE_MAX, &text);
    while (!e && str_token(&text, "\n", &line))
        read_line(p, line);
    arena_free(a);
    return e ? err_in(e, "what is suspended is in %s, which cannot be read", p->path) : NULL;
}

void suspend_close(struct suspensions *p)
{
    size_t at = 0;
    struct str key;
    void *value;
    while (hmap_next(&p->set, &at, &key, &value))
        mem_free(value);
    hmap_fini(&p->set);
    mem_free(p->path);
    p->path = NULL;
}

/* A suspension holds at once, also while it is being written. */
struct err *suspend_set(struct suspensions *p, struct str name, bool on, bool *changed_out)
{
    (void)sem_take(&p->file, DEADLINE_NEVER); /* in a shield: comes to an end */
    struct suspension *old = hmap_get(&p->set, name);
    struct err *e = NULL;
    bool changed = on != (old != NULL);
    if (changed && on)
        (void)add(p, name, clock_wall_us());
    else if (changed)
        (void)hmap_del(&p->set, name);
    if (changed)
        e = write_file(p);
    if (changed && on && e)
        mem_free(hmap_del(&p->set, name));
    else if (changed && !on && e)
        (void)hmap_put(&p->set, name, old);
    else if (changed && !on)
        mem_free(old);
    sem_give(&p->file);
    if (!e)
        *changed_out = changed;
    return e;
}

/* --- who has to wait */

/* The two parts one behind the other, in lower case. */
static const char *look(const struct suspensions *p, struct str first, struct str second)
{
    char key[NAME_MAX_BYTES];
    if (first.len + second.len > sizeof(key))
        return NULL;
    for (size_t i = 0; i < first.len + second.len; i++)
        key[i] = str_lower_char(i < first.len ? first.ptr[i] : second.ptr[i - first.len]);
    const struct suspension *one = hmap_get(&p->set, str_make(key, first.len + second.len));
    return one ? one->name : NULL;
}

/* transport and colon, then nexthop, in three looks at most. */
static const char *look_route(const struct suspensions *p, struct str transport, struct str nexthop)
{
    char with_colon[NAME_MAX_BYTES];
    if (transport.len + 1 > sizeof(with_colon))
        return NULL;
    memcpy(with_colon, transport.ptr, transport.len);
    with_colon[transport.len] = ':';
    struct str first = str_make(with_colon, transport.len + 1);
    const char *found = look(p, first, STR(""));
    return found || nexthop.len == 0 ? found : look(p, first, nexthop);
}

const char *suspend_find(const struct suspensions *p, struct str address, const char *transport,
                         const char *nexthop)
{
    if (p->set.count == 0)
        return NULL;
    ssize_t at = str_rindex(address, '@');
    const char *found = at < 0 ? NULL : look(p, str_from(address, (size_t)at + 1), STR(""));
    if (!found && nexthop && nexthop[0] == '[')
        found = look(p, str_of(nexthop), STR(""));
    if (!found && transport)
        found = look_route(p, str_of(transport), str_of(nexthop));
    return found;
}

bool suspend_says(const struct dsn *why)
{
    return str_starts(why->text, said);
}

struct dsn suspend_why(const struct dsn *before, struct arena *a)
{
    struct dsn why = *before;
    if (suspend_says(before))
        return why;
    if (!why.status[0])
        str_copy(why.status, sizeof(why.status), STR("4.3.2"));
    why.text = before->text.len > 0
                   ? arena_printf(a, "%.*s%.*s%.*s", STR_ARG(said), STR_ARG(between), STR_ARG(before->text))
                   : said;
    return why;
}

/* As it was before. */
static void unsay(struct dsn *why)
{
    if (!suspend_says(why))
        return;
    struct str rest = str_from(why->text, said.len);
    if (str_starts(rest, between))
        why->text = str_from(rest, between.len);
    else
        *why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
}

/* --- in the scheduler */

static const char *waits_by(const struct active *a, const struct rcpt *r)
{
    if (a->force_expire) /* expiry by command goes before */
        return NULL;
    return suspend_find(&a->sched->suspensions, r->address, r->transport, r->nexthop);
}

static bool has_to_wait(const struct active *a, const struct rcpt *r)
{
    return waits_by(a, r) != NULL;
}

bool suspend_holds(struct active *a, struct rcpt *r)
{
    const char *name = waits_by(a, r);
    if (!name) {
        unsay(&r->why);
        return false;
    }
    if (a->refill)
        refill_waits_by(a, name);
    a->suspended = true;
    r->state = RCPT_DEFERRED;
    r->why = suspend_why(&r->why, a->m->arena);
    return true;
}

struct suspend_sum suspend_sum(const struct active *a)
{
    const struct envelope *env = a->m->env;
    struct suspend_sum sum = {0};
    if (a->refill) {
        sum.waiting = refill_waiting(a);
        sum.others = (uint32_t)qmsg_count(a->m, RCPTS_LEFT) - sum.waiting;
        return sum;
    }
    for (size_t i = 0; i < env->rcpt_count; i++) {
        const struct rcpt *r = &env->rcpts[i];
        if (!active_left(r))
            continue;
        bool says = a->suspended && suspend_says(&r->why);
        sum.waiting += says && has_to_wait(a, r);
        sum.freed += says && !has_to_wait(a, r);
        sum.others += !says;
    }
    return sum;
}

bool suspend_waits(const struct active *a, const struct rcpt *r)
{
    return a->suspended && active_left(r) && suspend_says(&r->why) && has_to_wait(a, r);
}

/* Some recipient has to wait from now on, and may be one that is not on its way yet. */
static bool some_newly(const struct active *a)
{
    const struct envelope *env = a->m->env;
    /* A long list may be filed just now. */
    if (list_empty(&a->entries) && (a->running == 0 || env->rcpt_count <= PULL_SLICE))
        return false;
    for (size_t i = 0; i < env->rcpt_count; i++) {
        const struct rcpt *r = &env->rcpts[i];
        if (active_left(r) && !suspend_says(&r->why) && has_to_wait(a, r))
            return true;
    }
    return false;
}

/* Some that had to wait need no longer. Of a message in part they are not in memory: by what they waited is. */
static bool some_freed(const struct active *a)
{
    if (!a->suspended)
        return false;
    return a->refill ? refill_some_freed(a) : suspend_sum(a).freed > 0;
}

/* What waits is taken back and comes anew; what is on its way ends first. */
static void pull_one(struct active *a)
{
    if (a->refill && a->state == ACTIVE_NOTIFYING && !a->want_remove && !a->want_hold && some_freed(a))
        a->again = true;
    if (a->state != ACTIVE_RUNNING || a->want_remove || a->want_hold || a->again)
        return;
    if (!some_newly(a) && !some_freed(a))
        return;
    a->again = true;
    active_stop(a);
    active_settle(a);
}

void suspend_pull(struct sched *s)
{
    struct buf seqs = {0};
    size_t at = 0, n = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&s->active, &at, &seq, &value))
        buf_add(&seqs, &seq, sizeof(seq));
    for (at = 0; at < seqs.len && !s->draining; at += sizeof(seq)) {
        memcpy(&seq, seqs.ptr + at, sizeof(seq));
        value = umap_get(&s->active, seq);
        if (value)
            pull_one(value);
        if (++n % PULL_SLICE == 0)
            fiber_yield();
    }
    buf_fini(&seqs);
}
