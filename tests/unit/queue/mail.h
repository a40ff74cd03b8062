/* Mail for the queue of world.h (which includes this): posting it, looking at it, acting on it. */
#ifndef TEST_QUEUE_MAIL_H
#define TEST_QUEUE_MAIL_H

/* --- mail */

struct posting {
    const char *sender;
    const char *const *rcpts;
    size_t rcpt_count;
    uint8_t notify;
    unsigned flags;
    int64_t arrival_us;
    uint64_t number;
    size_t size;
    char id[QUEUE_ID_MAX];
};

static inline void post_main(void *arg)
{
    struct posting *p = arg;
    struct arena *a = arena_new(0, 0);
    struct buf b = {0};
    struct draft *d;
    struct envelope *e = ARENA_NEW(a, struct envelope);
    e->sender = str_of(p->sender);
    e->envid = STR("");
    e->flags = p->flags;
    e->arrival_us = p->arrival_us;
    e->data_size = p->number;
    e->rcpt_count = p->rcpt_count;
    e->rcpts = arena_zalloc(a, p->rcpt_count * sizeof *e->rcpts);
    for (size_t i = 0; i < p->rcpt_count; i++)
        e->rcpts[i] = (struct rcpt){.address = str_of(p->rcpts[i]),
                                    .original = str_of(p->rcpts[i]),
                                    .orcpt = STR(""),
                                    .resolved = str_of(p->rcpts[i]),
                                    .notify = p->notify};
    fill_content(&b, p->number, p->size != 0 ? p->size : 2000);
    OK(queue_begin(world.q, &d));
    memcpy(p->id, d->id, sizeof p->id);
    OK(draft_write(d, buf_str(&b)));
    OK(queue_commit(d, e));
    buf_fini(&b);
    arena_free(a);
}

static inline void post(struct posting *p)
{
    static uint64_t numbers;
    p->number = ++numbers;
    if (p->sender == NULL)
        p->sender = "sender@example.com";
    there(world.workers[p->number % WORKERS], post_main, p);
}

/* The id stays for 16 of them. */
static inline const char *post_id(struct posting p)
{
    static char ids[16][QUEUE_ID_MAX];
    static int at;
    post(&p);
    char *id = ids[at++ % 16];
    memcpy(id, p.id, QUEUE_ID_MAX);
    return id;
}

/* One message to one recipient; its id. */
static inline const char *post_to(const char *rcpt)
{
    return post_id((struct posting){.rcpts = &rcpt, .rcpt_count = 1});
}

/* b, sender: or NULL. */
static inline const char *post_from(const char *sender, const char *a, const char *b)
{
    const char *rcpts[] = {a, b};
    return post_id((struct posting){.sender = sender, .rcpts = rcpts, .rcpt_count = b ? 2 : 1});
}

/* --- looking */

struct lookup {
    const char *id;
    bool found;
    enum queue_name queue;
    size_t rcpts;
    enum rcpt_state state;
    int64_t next_try_us;
    char status[12], text[200];
};

static inline void lookup_main(void *arg)
{
    struct lookup *l = arg;
    struct arena *a = arena_new(0, 0);
    struct queue_entry entry;
    struct qmsg *m;
    OK(queue_find(world.q, str_of(l->id), a, &entry, &m, &l->found));
    if (l->found) {
        l->queue = entry.queue;
        l->rcpts = entry.env->rcpt_count;
        l->next_try_us = entry.next_try_us;
        if (l->rcpts > 0) {
            l->state = entry.env->rcpts[0].state;
            memcpy(l->status, entry.env->rcpts[0].why.status, sizeof l->status);
            str_copy(l->text, sizeof l->text, entry.env->rcpts[0].why.text);
        }
        qmsg_unref(m);
    }
    arena_free(a);
}

static inline struct lookup lookup(const char *id)
{
    struct lookup l = {.id = id};
    there(world.workers[0], lookup_main, &l);
    return l;
}

static inline bool is_in(const char *id, enum queue_name queue)
{
    struct lookup l = lookup(id);
    return l.found && l.queue == queue;
}

static inline bool gone(const char *id)
{
    return !lookup(id).found;
}

struct listing {
    size_t count, max;
    char ids[24][QUEUE_ID_MAX];
    enum queue_name queues[24];
};

static inline void list_main_of_test(void *arg)
{
    struct listing *l = arg;
    uint64_t after = 0;
    size_t n = 1;
    while (n > 0) {
        struct arena *a = arena_new(0, 0);
        struct queue_entry *list;
        OK(queue_list(world.q, after, l->max ? l->max : 100, a, &list, &n));
        for (size_t i = 0; i < n; i++) {
            MUST(list[i].seq > after);
            after = list[i].seq;
            if (l->count < 24) {
                memcpy(l->ids[l->count], list[i].id, QUEUE_ID_MAX);
                l->queues[l->count] = list[i].queue;
            }
            l->count++;
        }
        arena_free(a);
    }
}

static inline size_t list_count(void)
{
    struct listing l = {0};
    there(world.workers[1], list_main_of_test, &l);
    return l.count;
}

static inline bool idle(void)
{
    struct queue_counts c = queue_counts(world.q);
    return c.active == 0 && c.incoming == 0;
}

/* --- acts */

struct acting {
    enum queue_act act;
    struct queue_select what;
    uint64_t count, told;
};

static inline void told_one(void *ctx, const char *id)
{
    struct acting *a = ctx;
    MUST(id[0] != '\0');
    a->told++;
}

static inline void act_main(void *arg)
{
    struct acting *a = arg;
    OK(queue_do(world.q, a->act, &a->what, told_one, a, &a->count));
    MUST(a->told == a->count);
}

static inline uint64_t act(enum queue_act what, const char *id, enum queue_name queue)
{
    struct acting a = {.act = what, .what = {.id = str_of(id), .queue = queue}};
    there(world.workers[0], act_main, &a);
    return a.count;
}

static inline uint64_t select_and(enum queue_act what, struct queue_select select)
{
    struct acting a = {.act = what, .what = select};
    there(world.workers[0], act_main, &a);
    return a.count;
}

struct flushing_test {
    const char *id, *site;
    bool found;
};

static inline void flush_test_main(void *arg)
{
    struct flushing_test *f = arg;
    OK(queue_flush(world.q, str_of(f->id), str_of(f->site), &f->found));
}

static inline bool flush(const char *id, const char *site)
{
    struct flushing_test f = {.id = id, .site = site};
    there(world.workers[0], flush_test_main, &f);
    return f.found;
}

#endif
