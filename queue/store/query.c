/* Which messages fit a store_query, without walking those that cannot: the tables are tables of
 * hints, the rows decide. */
#include "queue/store/index_private.h"

#include "io/base/check.h"

/* Fresh labels come first: what is filed meanwhile goes from there to `label`, where it is looked
 * for afterwards. So something may be found twice, and nothing is missed. */
enum step {
    STEP_BEGIN,
    STEP_FRESH,
    STEP_FIRST,
    STEP_SECOND,
    STEP_MANY,
    STEP_HELD,
    STEP_ALL,
    STEP_BRIEF,
    STEP_END
};
enum { ROWS_AT_ONCE = 1000, FRESH_AT_ONCE = 10000, PAGE = 4096 };

/* The labels to look for; the second is 0 where there is one only. */
struct wanted {
    uint64_t first, second, many;
};

static bool by_label(const struct store_query *q)
{
    return q->sender.len > 0 || q->domain.len > 0 || q->destination.len > 0;
}

static struct str sender_domain(const struct store_query *q)
{
    return q->sender.len > 0 && q->sender.ptr[0] == '@' ? str_from(q->sender, 1) : STR("");
}

static struct wanted wanted_of(uint64_t secret, const struct store_query *q)
{
    struct wanted w = {.many = label_hash(secret, LABEL_MANY, STR(""))};
    struct str domain = sender_domain(q);
    if (q->sender.len > 0 && domain.len == 0) {
        w.first = label_hash(secret, LABEL_SENDER, q->sender);
    } else if (q->destination.len > 0) {
        w.first = label_hash(secret, LABEL_DEST, q->destination);
        w.second = label_hash(secret, LABEL_NEXTHOP, q->destination);
    } else if (q->domain.len > 0) {
        w.first = label_hash(secret, LABEL_DOMAIN, q->domain);
    } else {
        w.first = label_hash(secret, LABEL_SENDER_DOMAIN, domain);
    }
    return w;
}

/* --- does the row fit? */

static bool sender_fits(const struct store_query *q, struct str sender)
{
    if (q->sender.len == 0)
        return true;
    struct str domain = sender_domain(q);
    if (domain.len == 0)
        return str_eq_nocase(q->sender, sender.len > 0 ? sender : STR("<>"));
    ssize_t at = str_rindex(sender, '@');
    return at >= 0 && str_eq_nocase(str_from(sender, (size_t)at + 1), domain);
}

static bool in_domain(enum rcpt_state state, struct str address, struct str domain)
{
    ssize_t at = str_rindex(address, '@');
    return (state == RCPT_TODO || state == RCPT_DEFERRED) && at >= 0 &&
           str_eq_nocase(str_from(address, (size_t)at + 1), domain);
}

static bool domain_fits(const struct store_query *q, struct envelope_view *v)
{
    enum rcpt_state state;
    struct str address;
    if (q->domain.len == 0)
        return true;
    while (envelope_next_rcpt(v, &state, &address)) {
        if (in_domain(state, address, q->domain))
            return true;
    }
    return false;
}

static bool destination_fits(uint64_t secret, const struct store_query *q, struct str dests)
{
    if (q->destination.len == 0)
        return true;
    uint64_t whole = label_hash(secret, LABEL_DEST, q->destination);
    uint64_t nexthop = label_hash(secret, LABEL_NEXTHOP, q->destination);
    struct rd r = rd_of(dests);
    while (r.ptr < r.end && !r.bad) {
        uint64_t a = rd_u64(&r), b = rd_u64(&r);
        if (a == whole || b == nexthop)
            return true;
    }
    return false;
}

uint64_t store_destination(const struct store *s, const char *transport, const char *nexthop)
{
    struct buf dests = {0};
    index_dest_add(s->secret, str_of(transport), str_of(nexthop), &dests);
    struct rd r = rd_of(buf_str(&dests));
    uint64_t one = rd_u64(&r);
    buf_fini(&dests);
    return one;
}

static bool only_one(struct str dests, uint64_t *out)
{
    struct rd r = rd_of(dests);
    if (dests.len == DEST_BYTES)
        *out = rd_u64(&r);
    return dests.len == DEST_BYTES;
}

bool store_only_destination(struct store *s, uint64_t seq, uint64_t *out)
{
    struct qmsg *m = store_get_cached(s, seq);
    struct index_row row;
    struct str state;
    struct kv_txn *t;
    bool found = false, one = false;
    if (m != NULL) {
        one = only_one(message_of(m)->dests, out);
        qmsg_unref(m);
        return one;
    }
    if (umap_get(&s->dead, seq) != NULL || kv_begin(s->index->kv, false, &t) != NULL)
        return false;
    if (kv_get(t, s->index->state, key_of(&seq), &state, &found) == NULL && found &&
        row_state(s->index, seq, state, &row) == NULL) {
        index_looked(s->index, row_bytes(&row));
        one = only_one(row.dests, out);
    }
    kv_abort(t);
    return one;
}

bool store_goes_to(const struct store *s, struct str dests, struct str destination)
{
    return dests.len == DEST_BYTES &&
           destination_fits(s->secret, &(struct store_query){.destination = destination}, dests);
}

static bool fits(const struct index *x, const struct store_query *q, const struct index_row *row,
                 struct store_pick *out)
{
    struct envelope_view v;
    if ((q->held && (row->flags & MESSAGE_HOLD) == 0) ||
        !envelope_look(row->envelope, row->states, &v) ||
        umap_get(&x->store->dead, row->seq) != NULL)
        return false;
    *out = (struct store_pick){.seq = row->seq,
                               .arrival_us = v.arrival_us,
                               .due_us = row->due_us,
                               .flags = row->flags,
                               .deferred = row->deferred,
                               .spilled = row->place.spilled};
    return sender_fits(q, v.sender) && destination_fits(x->store->secret, q, row->dests) &&
           domain_fits(q, &v);
}

bool store_fits(const struct qmsg *pub, const struct store_query *q)
{
    const struct message *m = (const struct message *)(const void *)pub;
    const struct envelope *env = pub->env;
    struct arena *a = NULL;
    bool in = q->domain.len == 0;
    if (!in && part_whole(pub, &a, &env) == NULL)
        for (size_t i = 0; !in && i < env->rcpt_count; i++)
            in = in_domain(env->rcpts[i].state, env->rcpts[i].address, q->domain);
    arena_free(a);
    env = pub->env;
    return in && (!q->held || (m->flags & MESSAGE_HOLD)) && sender_fits(q, env->sender) &&
           destination_fits(m->store->secret, q, m->dests);
}

/* --- the walk, one slice in one transaction */

struct slice {
    struct index *x;
    struct store_query *q;
    struct wanted wanted;
    struct kv_txn *txn;
    kv_table label; /* the one in use, as this transaction sees it */
    struct store_pick *out;
    size_t max, count, rows;
};

static struct err *try_value(struct slice *s, uint64_t seq, struct str value)
{
    struct index_row row;
    struct err *e = row_read(s->x, s->txn, seq, value, &row);
    s->rows++;
    if (e == NULL && s->q->step == STEP_ALL)
        index_looked(s->x, row_bytes(&row));
    if (e == NULL && fits(s->x, s->q, &row, &s->out[s->count]))
        s->count++;
    return e;
}

/* Half of what is there answers it. */
static struct err *try_state(struct slice *s, uint64_t seq, struct str value)
{
    struct index_row row;
    struct err *e = row_state(s->x, seq, value, &row);
    s->rows++;
    if (e != NULL)
        return e;
    index_looked(s->x, row_bytes(&row));
    if ((s->q->held && (row.flags & MESSAGE_HOLD) == 0) ||
        !destination_fits(s->x->store->secret, s->q, row.dests))
        return NULL;
    if (umap_get(&s->x->store->dead, seq) == NULL)
        s->out[s->count++] = (struct store_pick){.seq = seq,
                                                 .due_us = row.due_us,
                                                 .flags = row.flags,
                                                 .deferred = row.deferred};
    return NULL;
}

/* The half that changes has the destinations. */
static bool state_answers(const struct store_query *q)
{
    return q->brief && q->destination.len > 0 && q->domain.len == 0 && q->sender.len == 0;
}

static struct err *try_seq(struct slice *s, uint64_t seq)
{
    struct str value;
    bool found;
    struct err *e;
    if (state_answers(s->q)) {
        e = kv_get(s->txn, s->x->state, key_of(&seq), &value, &found);
        return e != NULL || !found ? e : try_state(s, seq, value);
    }
    e = kv_get(s->txn, s->x->msg, key_of(&seq), &value, &found);
    index_looked(s->x, 2 * PAGE);
    return e != NULL || !found ? e : try_value(s, seq, value);
}

static bool hash_listed(struct str hashes, const struct wanted *w)
{
    struct rd r = rd_of(hashes);
    while (r.ptr < r.end && !r.bad) {
        uint64_t hash = rd_u64(&r);
        if (hash == w->first || hash == w->many || (w->second != 0 && hash == w->second))
            return true;
    }
    return false;
}

static uint64_t range_hash(const struct slice *s)
{
    switch (s->q->step) {
    case STEP_FIRST:
        return s->wanted.first;
    case STEP_SECOND:
        return s->wanted.second;
    default:
        return s->wanted.many;
    }
}

/* One entry of the table that this step walks: is it to be looked at, and is it the last? */
static struct err *entry(struct slice *s, struct str key, struct str value, bool *last_out)
{
    uint64_t seq;
    bool label = s->q->step >= STEP_FIRST && s->q->step <= STEP_MANY;
    if (key.len != (label ? LABEL_KEY : sizeof seq))
        return err_new(ERR_DAMAGED, 0, "a key of the index has %zu bytes", key.len);
    if (label)
        seq = get_be64((const uint8_t *)key.ptr + 8);
    else
        memcpy(&seq, key.ptr, sizeof seq);
    *last_out =
        seq >= s->q->until || (label && get_be64((const uint8_t *)key.ptr) != range_hash(s));
    if (*last_out)
        return NULL;
    s->q->at = seq + 1;
    if (s->q->step == STEP_FRESH && !hash_listed(value, &s->wanted))
        return NULL;
    if (s->q->step == STEP_BRIEF)
        return try_state(s, seq, value);
    if (s->q->step != STEP_ALL)
        return try_seq(s, seq);
    return try_value(s, seq, value);
}

static kv_table table_of(const struct slice *s)
{
    switch (s->q->step) {
    case STEP_FRESH:
        return s->x->fresh;
    case STEP_HELD:
        return s->x->held;
    case STEP_ALL:
        return s->x->msg;
    case STEP_BRIEF:
        return s->x->state;
    default:
        return s->label;
    }
}

static struct err *walk(struct slice *s, bool *ended_out)
{
    struct kv_cursor *c;
    uint8_t label[LABEL_KEY];
    struct str from = key_of(&s->q->at);
    if (s->q->step >= STEP_FIRST && s->q->step <= STEP_MANY) {
        label_key(range_hash(s), s->q->at, label);
        from = str_make((const char *)label, LABEL_KEY);
    }
    struct err *e = kv_cursor_open(s->txn, table_of(s), from, &c);
    if (e != NULL)
        return e;
    *ended_out = false;
    for (size_t n = 0; e == NULL && !*ended_out && s->count < s->max && s->rows < ROWS_AT_ONCE &&
                       n < FRESH_AT_ONCE;
         n++) {
        struct str key, value;
        bool found = false;
        e = kv_cursor_next(c, &key, &value, &found);
        if (e == NULL && found)
            e = entry(s, key, value, ended_out);
        else
            *ended_out = true;
    }
    kv_cursor_close(c);
    return e;
}

static void next_step(struct slice *s)
{
    struct store_query *q = s->q;
    q->at = 0;
    switch (q->step) {
    case STEP_BEGIN:
        q->step = by_label(q) ? STEP_FRESH
                  : q->held   ? STEP_HELD
                  : q->brief  ? STEP_BRIEF
                              : STEP_ALL;
        break;
    case STEP_FIRST:
        q->step = s->wanted.second != 0 ? STEP_SECOND : STEP_MANY;
        break;
    case STEP_FRESH:
    case STEP_SECOND:
        q->step++;
        break;
    default:
        q->step = STEP_END;
        q->ended = true;
    }
}

struct err *index_query(struct index *x, struct store_query *q, struct store_pick *out, size_t max,
                        size_t *count_out)
{
    struct slice s = {
        .x = x, .q = q, .wanted = wanted_of(x->store->secret, q), .out = out, .max = max};
    bool ended;
    CHECK(max > 0);
    if (q->step == STEP_BEGIN)
        next_step(&s);
    struct err *e = kv_begin(x->kv, false, &s.txn);
    if (e != NULL)
        return e;
    e = index_label_table(x, s.txn, &s.label);
    while (e == NULL && !q->ended && s.count < max && s.rows < ROWS_AT_ONCE) {
        e = walk(&s, &ended);
        if (e != NULL || !ended)
            break;
        next_step(&s);
    }
    kv_abort(s.txn);
    if (e == NULL)
        *count_out = s.count;
    return e;
}
