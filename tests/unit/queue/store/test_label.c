/* What finds messages by sender, domain and destination, against a model; and rows that are not
 * what they were. */
#include "tests/unit/queue/store/world.h"
#include "queue/store/index_private.h"

enum { MESSAGES = 900, SENDERS = 12, DOMAINS = 7, HOPS = 5, RCPTS = 3, ROUNDS = 60, PICKS = 37 };

struct entry {
    uint64_t seq;
    bool alive, held, resolved;
    unsigned sender;
    unsigned domain[RCPTS];
    bool left[RCPTS];
    unsigned hop[RCPTS];   /* as resolved last */
    bool hops_left[RCPTS]; /* which of them were there then */
    bool found;
};

struct model {
    struct store *s;
    size_t n, filed;
    struct entry e[MESSAGES];
};
static struct model model;

static unsigned dice(unsigned n)
{
    return (unsigned)(rand_u64() % n);
}

static struct str sender_of(struct arena *a, unsigned i)
{
    if (i == 0)
        return STR("");
    return arena_printf(a, i % 2 ? "user%u@from%u.example" : "USER%u@From%u.Example", i, i % 4);
}

static struct str domain_of(struct arena *a, unsigned i)
{
    return arena_printf(a, "to%u.example", i);
}

static struct str hop_of(struct arena *a, unsigned i)
{
    return arena_printf(a, "[Relay%u.example]:25", i);
}

/* --- changes, in the store and in the model */

static void add_message(struct model *m)
{
    struct entry *e = &m->e[m->n++];
    struct arena *a = arena_new(0, 0);
    struct rcpt rcpts[RCPTS] = {0};
    struct qmsg *q;
    struct draft *d;
    e->alive = true;
    e->sender = dice(SENDERS);
    for (unsigned i = 0; i < RCPTS; i++) {
        e->domain[i] = dice(DOMAINS);
        e->left[i] = true;
        rcpts[i].address = arena_printf(a, "r%u@%s", i, domain_of(a, e->domain[i]).ptr);
        rcpts[i].original = rcpts[i].address;
        rcpts[i].orcpt = STR("");
        rcpts[i].why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    }
    struct envelope env = {
        .sender = sender_of(a, e->sender), .envid = STR(""), .rcpts = rcpts, .rcpt_count = RCPTS};
    OK(store_begin(m->s, NULL, &d));
    OK(draft_write(d, STR("Subject: x\r\n\r\n")));
    OK(store_commit(d, &env, &q));
    e->seq = q->seq;
    qmsg_unref(q);
    arena_free(a);
}

static struct entry *any_alive(struct model *m)
{
    for (unsigned tries = 0; m->n > 0 && tries < 100; tries++) {
        struct entry *e = &m->e[dice((unsigned)m->n)];
        if (e->alive)
            return e;
    }
    return NULL;
}

static void resolve_again(struct entry *e, struct qmsg *q)
{
    if (!e->left[0] && !e->left[1] && !e->left[2])
        return; /* nobody would resolve it */
    e->resolved = true;
    for (unsigned i = 0; i < RCPTS; i++) {
        struct rcpt *r = &q->env->rcpts[i];
        e->hop[i] = dice(HOPS);
        e->hops_left[i] = e->left[i];
        r->transport = e->hop[i] % 2 ? "smtp" : "relay";
        r->nexthop = hop_of(q->arena, e->hop[i]).ptr;
    }
    store_note_destinations(q, q->env->rcpts, q->env->rcpt_count);
}

static void change(struct model *m)
{
    struct entry *e = any_alive(m);
    struct qmsg *q = NULL;
    if (e == NULL)
        return;
    OK(store_get(m->s, e->seq, &q));
    MUST(q != NULL);
    unsigned what = dice(5), i = dice(RCPTS);
    struct mark_rcpt done = {.index = i,
                             .state = RCPT_DONE,
                             .why = {.text = STR(""), .mta = STR(""), .diagnostic = STR("")}};
    struct mark k = {.flags = qmsg_flags(q), .due_us = 1 + (int64_t)dice(1000)};
    if (what == 0) {
        store_remove(q);
        e->alive = false;
    } else {
        if (what == 1) {
            k.rcpts = &done;
            k.rcpt_count = 1;
            e->left[i] = false;
        } else if (what == 2) {
            k.flags ^= MESSAGE_HOLD;
            e->held = !e->held;
        } else {
            resolve_again(e, q);
        }
        store_mark(q, &k);
    }
    qmsg_unref(q);
}

/* --- the same question to both */

struct question {
    unsigned sender, from, domain, hop; /* 0 = not asked, else number + 1 */
    bool with_transport, wrong_transport, held;
};

static bool model_fits(const struct entry *e, const struct question *w)
{
    bool domain = w->domain == 0, hop = w->hop == 0;
    for (unsigned i = 0; i < RCPTS; i++) {
        domain |= e->left[i] && e->domain[i] + 1 == w->domain;
        hop |= e->resolved && e->hops_left[i] && e->hop[i] + 1 == w->hop;
    }
    return e->alive && domain && hop && !w->wrong_transport && (!w->held || e->held) &&
           (w->sender == 0 || e->sender + 1 == w->sender) &&
           (w->from == 0 || (e->sender != 0 && e->sender % 4 + 1 == w->from));
}

static void ask(struct model *m, const struct question *w)
{
    struct arena *a = arena_new(0, 0);
    struct store_pick picks[PICKS];
    struct store_query q = {.held = w->held};
    if (w->sender != 0)
        q.sender = w->sender == 1 ? STR("<>") : sender_of(a, w->sender - 1);
    if (w->from != 0)
        q.sender = arena_printf(a, "@FROM%u.example", w->from - 1);
    if (w->domain != 0)
        q.domain = domain_of(a, w->domain - 1);
    if (w->hop != 0) {
        const char *t = (w->hop - 1) % 2 == 1 ? "smtp" : "relay";
        if (w->wrong_transport)
            t = "lmtp";
        q.destination = hop_of(a, w->hop - 1);
        if (w->with_transport)
            q.destination = arena_printf(a, "%s:%s", t, q.destination.ptr);
    }
    for (size_t i = 0; i < m->n; i++)
        m->e[i].found = false;
    while (!q.ended) {
        size_t n = 0;
        OK(store_query(m->s, &q, picks, PICKS, &n));
        for (size_t i = 0; i < n; i++) {
            size_t k = 0;
            while (k < m->n && m->e[k].seq != picks[i].seq)
                k++;
            MUST(k < m->n);
            m->e[k].found = true;
        }
        fiber_yield();
    }
    for (size_t i = 0; i < m->n; i++) {
        if (m->e[i].found != model_fits(&m->e[i], w))
            fprintf(stderr,
                    "message %zu of %zu, alive %d: sender %u from %u domain %u hop %u held %d\n", i,
                    m->n, m->e[i].alive, w->sender, w->from, w->domain, w->hop, w->held);
        MUST(m->e[i].found == model_fits(&m->e[i], w));
    }
    arena_free(a);
}

static void ask_all(struct model *m)
{
    ask(m, &(struct question){0});
    ask(m, &(struct question){.held = true});
    ask(m, &(struct question){.sender = 1});
    ask(m, &(struct question){.sender = 1 + dice(SENDERS)});
    ask(m, &(struct question){.sender = 1 + dice(SENDERS), .held = true});
    ask(m, &(struct question){.from = 1 + dice(4)});
    ask(m, &(struct question){.domain = 1 + dice(DOMAINS)});
    ask(m, &(struct question){.hop = 1 + dice(HOPS)});
    ask(m, &(struct question){.hop = 1 + dice(HOPS), .with_transport = true});
    ask(m,
        &(struct question){.hop = 1 + dice(HOPS), .with_transport = true, .wrong_transport = true});
    ask(m, &(struct question){.from = 1 + dice(4), .domain = 1 + dice(DOMAINS)});
    ask(m, &(struct question){.sender = 1 + dice(SENDERS), .hop = 1 + dice(HOPS)});
}

static uint64_t labels_filed(struct model *m)
{
    struct index *x = m->s->index;
    struct kv_txn *t;
    uint64_t n = 0;
    OK(kv_begin(x->kv, false, &t));
    OK(kv_count(t, x->label, &n));
    kv_abort(t);
    return n;
}

static void tidy_some(struct model *m, unsigned slices)
{
    bool more = true;
    while (more && slices-- > 0)
        OK(index_tidy(m->s, &more));
}

static void open_model(struct model *m)
{
    struct store_options o = world_options();
    o.index_delay_ms = 100000; /* rounds are ours */
    OK(store_open(&o, &m->s));
    index_label_limits(m->s->index, 40, 60);
}

static void live_with_labels(void *arg)
{
    struct model *m = &model;
    uint64_t filed = 0;
    (void)arg;
    open_model(m);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 15 && m->n < MESSAGES; i++)
            add_message(m);
        for (unsigned i = 0; i < 20; i++)
            change(m);
        OK(keeper_round(m->s, 0));
        tidy_some(m, dice(6)); /* questions come in the middle of filing and sweeping */
        for (unsigned i = 0; i < 10; i++)
            change(m);
        if (labels_filed(m) > filed)
            filed = labels_filed(m);
        if (round % 4 == 0)
            ask_all(m);
        if (round % 20 == 19) {
            OK(store_close(m->s));
            open_model(m);
        }
    }
    ask_all(m);
    MUST(filed > 200);
    /* When all are gone, so are the labels. */
    for (size_t i = 0; i < m->n; i++) {
        struct qmsg *q = NULL;
        OK(store_get(m->s, m->e[i].seq, &q));
        if (q != NULL)
            store_remove(q);
        qmsg_unref(q);
    }
    OK(keeper_round(m->s, 0));
    tidy_some(m, 1000); /* to the end of a filing that was under way */
    tidy_some(m, 1000);
    MUST(labels_filed(m) == 0);
    OK(store_close(m->s));
}

static void what_is_asked_for_is_found(void **state)
{
    (void)state;
    in_fiber(live_with_labels, NULL);
}

/* --- entries whose row is gone do not pile up */

static void come_and_go(void *arg)
{
    struct model *m = &model;
    uint64_t filed = 0, most = 0;
    (void)arg;
    m->n = 0;
    open_model(m);
    add_message(m); /* it stays, so that the tables are never simply emptied */
    for (unsigned round = 0; round < 40; round++) {
        size_t from = m->n = 1;
        while (m->n < 101)
            add_message(m);
        OK(keeper_round(m->s, 0));
        tidy_some(m, 1000);
        filed += labels_filed(m);
        for (size_t i = from; i < m->n; i++) {
            struct qmsg *q = NULL;
            OK(store_get(m->s, m->e[i].seq, &q));
            store_remove(q);
            qmsg_unref(q);
        }
        OK(keeper_round(m->s, 0));
        tidy_some(m, 1000);
        if (labels_filed(m) > most)
            most = labels_filed(m);
    }
    MUST(filed > 40 * 200);
    MUST(most < 1000); /* 40 rounds would leave 16,000 */
    OK(store_close(m->s));
}

static void what_has_left_is_swept_out(void **state)
{
    (void)state;
    in_fiber(come_and_go, NULL);
}

/* --- what leaves takes its labels with it */

/* A look at how many rows there are is worth something for a second: this one is over. */
static void look_anew(struct model *m)
{
    struct index *x = index_turn_begin(m->s);
    x->hasty = false;
    x->seen_ns = 0;
    index_turn_end(m->s);
}

static void rows_are(struct model *m, size_t want)
{
    while (m->n < want)
        add_message(m);
    while (m->n > want) {
        struct qmsg *q = NULL;
        OK(store_get(m->s, m->e[--m->n].seq, &q));
        store_remove(q);
        qmsg_unref(q);
    }
    OK(keeper_round(m->s, 0));
    look_anew(m);
    tidy_some(m, 1000);
}

static void shrink_and_grow(void *arg)
{
    struct model *m = &model;
    (void)arg;
    m->n = 0;
    open_model(m);
    look_anew(m);
    rows_are(m, 100); /* nobody knows yet whether they become fewer */
    MUST(labels_filed(m) == 0);
    rows_are(m, 90);
    rows_are(m, 80);
    MUST(labels_filed(m) == 0);
    rows_are(m, 81);
    MUST(labels_filed(m) > 81);
    OK(store_close(m->s));
}

static void nothing_is_filed_while_the_backlog_shrinks(void **state)
{
    (void)state;
    in_fiber(shrink_and_grow, NULL);
}

/* --- too many to be labelled one by one */

static void many(void *arg)
{
    struct store_options o = world_options();
    struct store *s;
    static struct rcpt rcpts[100];
    struct arena *a = arena_new(0, 0);
    struct draft *d;
    struct qmsg *m;
    bool more;
    (void)arg;
    OK(store_open(&o, &s));
    for (unsigned i = 0; i < 100; i++) {
        rcpts[i].address = rcpts[i].original = arena_printf(a, "x@domain%u.example", i);
        rcpts[i].orcpt = STR("");
        rcpts[i].why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    }
    struct envelope env = {
        .sender = STR("a@b.example"), .envid = STR(""), .rcpts = rcpts, .rcpt_count = 100};
    OK(store_begin(s, NULL, &d));
    OK(draft_write(d, STR("x\r\n")));
    OK(store_commit(d, &env, &m));
    uint64_t seq = m->seq;
    qmsg_unref(m);
    OK(keeper_round(s, 0));
    for (int filed = 0; filed < 2; filed++) {
        struct store_pick pick[4];
        size_t n = 0;
        struct store_query last = {.domain = STR("DOMAIN99.example")},
                           none = {.domain = STR("domain100.example")};
        while (!last.ended && n == 0)
            OK(store_query(s, &last, pick, 4, &n));
        MUST(n == 1 && pick[0].seq == seq);
        for (n = 0; !none.ended && n == 0;)
            OK(store_query(s, &none, pick, 4, &n));
        MUST(n == 0);
        index_label_limits(s->index, 0, 0);
        s->index->fresh_min = 0;
        for (more = true; more;)
            OK(index_tidy(s, &more));
    }
    arena_free(a);
    OK(store_close(s));
}

static void a_message_to_a_hundred_domains_is_found(void **state)
{
    (void)state;
    in_fiber(many, NULL);
}

/* --- damage */

static void flip(struct index *x, uint64_t seq, size_t at)
{
    struct kv_txn *t;
    struct str value;
    struct buf copy = {0};
    bool found;
    OK(kv_begin(x->kv, true, &t));
    OK(kv_get(t, x->msg, key_of(&seq), &value, &found));
    MUST(found);
    buf_add_str(&copy, value);
    copy.ptr[at % copy.len] ^= 4;
    OK(kv_put(t, x->msg, key_of(&seq), buf_str(&copy)));
    OK(kv_commit(t));
    buf_fini(&copy);
}

static bool damaged(struct err *e)
{
    return e != NULL && e->kind == ERR_DAMAGED;
}

static void damage(void *arg)
{
    struct store_options o = world_options();
    struct store *s;
    struct arena *a = arena_new(0, 0);
    (void)arg;
    OK(store_open(&o, &s));
    struct qmsg *m = commit(s, 1, 100);
    uint64_t seq = m->seq;
    qmsg_unref(m);
    OK(keeper_round(s, 0));
    struct index *x = s->index;
    struct index_row row;
    bool found = false;
    size_t n;
    OK(index_get(x, seq, a, &row, &found));
    MUST(found);
    for (size_t at = 0; at < 40 + row.envelope.len; at++) {
        struct store_query q = {0};
        struct store_pick pick[4];
        flip(x, seq, at);
        MUST(damaged(index_get(x, seq, a, &row, &found)));
        MUST(damaged(index_walk(x, 0, a, &row, 1, &n)));
        q.until = UINT64_MAX;
        MUST(damaged(index_query(x, &q, pick, 4, &n)));
        MUST(index_turn_begin(s) == x);
        OK(index_begin(x));
        MUST(damaged(index_del(x, seq)));
        index_abort(x);
        index_turn_end(s);
        flip(x, seq, at);
        OK(index_get(x, seq, a, &row, &found));
    }
    arena_free(a);
    OK(store_close(s));
}

static void no_flipped_bit_of_a_row_is_believed(void **state)
{
    (void)state;
    in_fiber(damage, NULL);
}

static void orphans(void *arg)
{
    struct store_options o = world_options();
    struct store *s;
    struct kv_txn *t;
    uint8_t key[16];
    uint64_t seq = 0x77777;
    struct store_due due[4];
    struct store_query q = {.held = true};
    struct store_pick pick[4];
    struct qmsg *m = NULL;
    size_t n = 0;
    (void)arg;
    OK(store_open(&o, &s));
    struct index *x = s->index;
    put_be64(key, 5);
    put_be64(key + 8, seq);
    OK(kv_begin(x->kv, true, &t));
    OK(kv_put(t, x->due, str_make((const char *)key, sizeof key), STR("")));
    OK(kv_put(t, x->held, key_of(&seq), STR("")));
    OK(kv_commit(t));
    OK(store_due(s, (struct store_due){0}, 100, due, 4, &n));
    MUST(n == 1 && due[0].seq == seq);
    OK(store_get(s, seq, &m));
    MUST(m == NULL);
    q.until = UINT64_MAX;
    OK(store_query(s, &q, pick, 4, &n));
    MUST(n == 0 && q.ended);
    MUST(index_turn_begin(s) == x);
    OK(index_begin(x));
    OK(index_del(x, seq));
    OK(index_commit(x));
    index_turn_end(s);
    OK(store_close(s));
}

static void entries_without_a_row_are_passed_over(void **state)
{
    (void)state;
    in_fiber(orphans, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_asked_for_is_found, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(what_has_left_is_swept_out, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(nothing_is_filed_while_the_backlog_shrinks, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(a_message_to_a_hundred_domains_is_found, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(no_flipped_bit_of_a_row_is_believed, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(entries_without_a_row_are_passed_over, world_setup,
                                        world_teardown),
    };
    OK(offload_start(1));
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return rc;
}
