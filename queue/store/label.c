/* Labels: which messages have a sender, a sender's domain, a recipient's domain, a destination. The
 * tables and their purpose: index.h. */
#include "queue/store/index_private.h"

#include <stdlib.h>

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/mem.h"

/* A batch is at least this long, at most that long, and grows with what is in `label`, so that each
 * page that is written takes several entries at any size. */
enum { FRESH_MIN = 32768, FRESH_MAX = 262144, FRESH_SHARE = 8, STALE_MIN = 65536 };
enum { GATHER_AT_ONCE = 2000, KEYS_AT_ONCE = 1000, DROP_AT_ONCE = 4000, LOWER_PIECE = 256, PAGE = 4096 };
enum { FRESH_LOOKED = 1024 }; /* of the map for an entry of `fresh`: its page comes with others */
/* Of a sweep. */
enum { ROWS_AT_ONCE = 10000, STALE_AT_ONCE = 20000, COPIED_AT_ONCE = 4000, ROW_STATE = 200 };
/* A look at how many rows there are is worth something for so long. */
#define SHRINKS_NS NS_PER_S

struct label_set {
    size_t n;
    uint64_t hash[LABELS_MAX];
};

void index_label_limits(struct index *x, size_t fresh_min, size_t stale_min)
{
    x->fresh_min = fresh_min != 0 ? fresh_min : FRESH_MIN;
    x->stale_min = stale_min != 0 ? stale_min : STALE_MIN;
    x->hasty = fresh_min != 0;
    x->rows_seen = UINT64_MAX; /* nobody knows */
}

/* --- what a row is labelled with */

uint64_t label_hash(uint64_t secret, enum label_kind kind, struct str value)
{
    char lower[LOWER_PIECE] = {0};
    uint64_t hash = secret + (uint64_t)kind;
    do {
        size_t n = value.len < LOWER_PIECE ? value.len : LOWER_PIECE;
        for (size_t i = 0; i < n; i++)
            lower[i] = str_lower_char(value.ptr[i]);
        hash = hash_sum(lower, n, hash);
        value = str_from(value, n);
    } while (value.len > 0);
    return hash;
}

void label_key(uint64_t hash, uint64_t seq, uint8_t out[LABEL_KEY])
{
    put_be64(out, hash);
    put_be64(out + 8, seq);
}

/* False: there are too many. */
static bool set_add(struct label_set *set, uint64_t hash)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->hash[i] == hash)
            return true;
    }
    if (set->n == LABELS_MAX)
        return false;
    set->hash[set->n++] = hash;
    return true;
}

static bool add_sender(uint64_t secret, struct str sender, struct label_set *set)
{
    ssize_t at = str_rindex(sender, '@');
    if (sender.len == 0)
        sender = STR("<>");
    return set_add(set, label_hash(secret, LABEL_SENDER, sender)) &&
           (at < 0 || set_add(set, label_hash(secret, LABEL_SENDER_DOMAIN,
                                              str_from(sender, (size_t)at + 1))));
}

static bool add_rcpts(uint64_t secret, struct envelope_view *v, struct label_set *set)
{
    enum rcpt_state state;
    struct str address, last = STR("");
    while (envelope_next_rcpt(v, &state, &address)) {
        ssize_t at = str_rindex(address, '@');
        if ((state != RCPT_TODO && state != RCPT_DEFERRED) || at < 0)
            continue;
        struct str domain = str_from(address, (size_t)at + 1);
        if (str_eq(domain, last))
            continue;
        if (!set_add(set, label_hash(secret, LABEL_DOMAIN, domain)))
            return false;
        last = domain;
    }
    return true;
}

static bool add_dests(struct str dests, struct label_set *set)
{
    struct rd r = rd_of(dests);
    while (r.ptr < r.end && !r.bad) {
        if (!set_add(set, rd_u64(&r)))
            return false;
    }
    return true;
}

static void set_of(const struct index *x, const struct index_row *row, struct label_set *set)
{
    struct envelope_view v;
    uint64_t secret = x->store->secret;
    set->n = 0;
    if (envelope_look(row->envelope, row->states, &v) && add_sender(secret, v.sender, set) &&
        add_rcpts(secret, &v, set) && add_dests(row->dests, set))
        return;
    set->n = 1;
    set->hash[0] = label_hash(secret, LABEL_MANY, STR(""));
}

void index_dest_add(uint64_t secret, struct str transport, struct str nexthop, struct buf *dests)
{
    char text[1024];
    if (dests->len >= DESTS_MAX * DEST_BYTES)
        return;
    size_t n = str_copy(text, sizeof text, transport);
    if (n + 1 < sizeof text)
        text[n++] = ':';
    n += str_copy(text + n, sizeof text - n, nexthop);
    struct buf both = {0};
    uint64_t whole = label_hash(secret, LABEL_DEST, str_make(text, n));
    for (size_t i = 0; i < dests->len; i += DEST_BYTES) {
        if (get_u64((const uint8_t *)dests->ptr + i) == whole)
            return;
    }
    buf_add_u64(&both, whole);
    buf_add_u64(&both, label_hash(secret, LABEL_NEXTHOP, nexthop));
    buf_add_str(dests, buf_str(&both));
    buf_fini(&both);
}

/* --- a row comes, changes, goes */

struct err *label_renew(struct index *x, const struct index_row *row)
{
    struct label_set set;
    uint8_t packed[LABELS_MAX * 8];
    set_of(x, row, &set);
    for (size_t i = 0; i < set.n; i++)
        put_u64(packed + 8 * i, set.hash[i]);
    if (x->filing.on)
        (void)umap_put(&x->filing.renewed, row->seq, x);
    if (x->sweep.on)
        alive_add(&x->sweep.alive, row->seq);
    return kv_put_last(x->txn, x->fresh, key_of(&row->seq), str_make((const char *)packed, set.n * 8));
}

/* About so many labels a row has: nothing is hashed for it. */
static size_t labels_about(const struct index_row *row)
{
    struct envelope_view v;
    enum rcpt_state state;
    struct str address, last = STR("");
    size_t n = row->dests.len / sizeof(uint64_t);
    if (!envelope_look(row->envelope, row->states, &v))
        return 1;
    n += str_rindex(v.sender, '@') >= 0 ? 2 : 1;
    while (n <= LABELS_MAX && envelope_next_rcpt(&v, &state, &address)) {
        struct str domain = str_from(address, (size_t)(str_rindex(address, '@') + 1));
        n += !str_eq(domain, last);
        last = domain;
    }
    return n <= LABELS_MAX ? n : 1;
}

/* What is in `fresh` is left out when it is filed. */
struct err *label_drop(struct index *x, const struct index_row *row)
{
    struct str value;
    bool fresh = false;
    uint64_t filed = 0;
    struct err *e = kv_count(x->txn, x->label, &filed);
    if (e == NULL && filed > 0)
        e = kv_get(x->txn, x->fresh, key_of(&row->seq), &value, &fresh);
    if (e != NULL || filed == 0 || fresh)
        return e;
    x->stale += (int64_t)labels_about(row);
    return NULL;
}

/* --- filing: gather what is fresh, put it into `label` in its order, drop it from `fresh` */

static void filing_end(struct index *x)
{
    struct filing *f = &x->filing;
    for (size_t i = 0; i < BUCKETS; i++)
        buf_fini(&f->bucket[i]);
    buf_fini(&f->seqs);
    umap_fini(&f->renewed);
    *f = (struct filing){0};
}

void label_fini(struct index *x)
{
    filing_end(x);
    alive_fini(&x->sweep.alive);
}

static void gather(struct filing *f, uint64_t seq, struct str hashes)
{
    struct rd r = rd_of(hashes);
    while (r.ptr < r.end && !r.bad) {
        uint8_t key[LABEL_KEY];
        label_key(rd_u64(&r), seq, key);
        buf_add(&f->bucket[key[0]], key, sizeof key);
    }
}

static struct err *has_row(struct index *x, struct kv_txn *t, uint64_t seq, bool *out)
{
    struct str value;
    index_looked(x, PAGE / 8);
    return kv_get(t, x->msg, key_of(&seq), &value, out);
}

static struct err *gather_some(struct index *x, struct kv_txn *t)
{
    struct filing *f = &x->filing;
    struct kv_cursor *c;
    bool found = true;
    struct err *e = kv_cursor_open(t, x->fresh, key_of(&f->at), &c);
    if (e != NULL)
        return e;
    for (size_t n = 0; e == NULL && found && n < GATHER_AT_ONCE; n++) {
        struct str key, value;
        bool alive = false;
        e = kv_cursor_next(c, &key, &value, &found);
        if (e != NULL || !found)
            break;
        if (key.len != sizeof f->at) {
            e = err_new(ERR_DAMAGED, 0, "index table `fresh`");
            break;
        }
        memcpy(&f->at, key.ptr, sizeof f->at);
        buf_add(&f->seqs, &f->at, sizeof f->at);
        e = has_row(x, t, f->at, &alive);
        if (e == NULL && alive)
            gather(f, f->at, value);
        f->at++;
    }
    kv_cursor_close(c);
    if (!found || f->seqs.len / sizeof f->at >= FRESH_MAX)
        f->step = FILING_PUT;
    return e;
}

static int by_key(const void *a, const void *b)
{
    return memcmp(a, b, LABEL_KEY);
}

/* The entries of one first byte lie beside each other in `label`. */
static struct err *put_some(struct index *x)
{
    struct filing *f = &x->filing;
    struct err *e = NULL;
    for (size_t n = 0; e == NULL && n < KEYS_AT_ONCE && f->bucket_at < BUCKETS;) {
        struct buf *b = &f->bucket[f->bucket_at];
        if (f->key_at == 0 && b->len > 0)
            qsort(b->ptr, b->len / LABEL_KEY, LABEL_KEY, by_key);
        for (; e == NULL && n < KEYS_AT_ONCE && f->key_at < b->len; n++) {
            e = kv_put(x->txn, x->label, str_make(b->ptr + f->key_at, LABEL_KEY), STR(""));
            f->key_at += LABEL_KEY;
            index_looked(x, PAGE);
        }
        if (e == NULL && f->key_at >= b->len) {
            buf_fini(b);
            f->key_at = 0;
            f->bucket_at++;
        }
    }
    if (f->bucket_at == BUCKETS)
        f->step = FILING_DROP;
    return e;
}

static struct err *drop_some(struct index *x)
{
    struct filing *f = &x->filing;
    struct err *e = NULL;
    for (size_t n = 0; e == NULL && n < DROP_AT_ONCE && f->drop_at < f->seqs.len; n++) {
        uint64_t seq;
        bool found;
        memcpy(&seq, f->seqs.ptr + f->drop_at, sizeof seq);
        f->drop_at += sizeof seq;
        if (umap_get(&f->renewed, seq) == NULL)
            e = kv_del(x->txn, x->fresh, key_of(&seq), &found);
        index_looked(x, FRESH_LOOKED);
    }
    return e;
}

/* On an error the batch is begun again: what is done twice does no harm. */
static struct err *file_some(struct index *x)
{
    struct filing *f = &x->filing;
    struct err *e;
    if (f->step == FILING_GATHER) {
        struct kv_txn *t;
        e = kv_begin(x->kv, false, &t);
        if (e == NULL) {
            e = gather_some(x, t);
            kv_abort(t);
        }
    } else {
        e = index_begin(x);
        if (e == NULL)
            e = f->step == FILING_PUT ? put_some(x) : drop_some(x);
        if (e == NULL)
            e = index_commit(x);
        else
            index_abort(x);
    }
    if (e != NULL || (f->step == FILING_DROP && f->drop_at == f->seqs.len))
        filing_end(x);
    return e;
}

/* --- sweeping: which rows there are is taken from the keys of `state`, in their order; then the labels are
 * gone through in theirs. To look each one's row up would be to meet the rows in no order at all. */

static void sweep_end(struct index *x)
{
    alive_fini(&x->sweep.alive);
    x->sweep = (struct sweep){0};
}

static kv_table other_table(const struct index *x)
{
    return x->labels[x->label == x->labels[0]];
}

static struct err *empty(struct index *x, kv_table a, kv_table b)
{
    struct err *e = index_begin(x);
    if (e != NULL)
        return e;
    e = kv_clear(x->txn, a);
    if (e == NULL)
        e = kv_clear(x->txn, b);
    if (e == NULL)
        return index_commit(x);
    index_abort(x);
    return e;
}

/* An earlier one may have ended before its end. */
static struct err *sweep_begin(struct index *x, uint64_t rows)
{
    kv_table to = other_table(x);
    struct err *e = empty(x, to, to);
    if (e != NULL)
        return e;
    x->sweep = (struct sweep){.on = true, .known = x->stale, .to = to};
    alive_init(&x->sweep.alive, rows);
    return NULL;
}

static struct err *count_some(struct index *x, struct kv_txn *t)
{
    struct sweep *w = &x->sweep;
    struct kv_cursor *c;
    bool found = true;
    struct err *e = kv_cursor_open(t, x->state, key_of(&w->row_at), &c);
    if (e != NULL)
        return e;
    for (size_t n = 0; e == NULL && n < ROWS_AT_ONCE; n++) {
        struct str key, value;
        e = kv_cursor_next(c, &key, &value, &found);
        if (e == NULL && found && key.len != sizeof w->row_at)
            e = err_new(ERR_DAMAGED, 0, "index table `state`");
        if (e != NULL || !found)
            break;
        memcpy(&w->row_at, key.ptr, sizeof w->row_at);
        alive_add(&w->alive, w->row_at);
        w->row_at++;
        index_looked(x, ROW_STATE);
    }
    kv_cursor_close(c);
    w->counted = !found;
    return e;
}

/* The next ones are looked at; those that have a row are copied. */
static struct err *copy_some(struct index *x)
{
    struct sweep *w = &x->sweep;
    struct kv_cursor *c;
    bool found = true;
    size_t copied = 0;
    struct err *e = kv_cursor_open(x->txn, x->label, str_make((const char *)w->label_at, LABEL_KEY), &c);
    if (e != NULL)
        return e;
    for (size_t n = 0; e == NULL && n < STALE_AT_ONCE && copied < COPIED_AT_ONCE; n++) {
        struct str key, value;
        e = kv_cursor_next(c, &key, &value, &found);
        if (e == NULL && found && key.len != LABEL_KEY)
            e = err_new(ERR_DAMAGED, 0, "index table `label`");
        if (e != NULL || !found)
            break;
        memcpy(w->label_at, key.ptr, LABEL_KEY);
        index_looked(x, 2 * LABEL_KEY);
        if (alive_has(&w->alive, get_be64(w->label_at + 8))) {
            e = kv_put_last(x->txn, w->to, str_make((const char *)w->label_at, LABEL_KEY), STR(""));
            copied++;
        } else {
            w->dropped++;
        }
    }
    kv_cursor_close(c);
    w->ended = !found;
    return e;
}

/* What is still without a row: those that were not told from others, and those whose row went meanwhile. */
static int64_t stale_left(const struct index *x)
{
    const struct sweep *w = &x->sweep;
    int64_t wrong = alive_wrong_percent(&w->alive);
    int64_t missed = wrong < 100 ? w->dropped * wrong / (100 - wrong) : 0;
    int64_t fresh = x->stale - w->known;
    return missed + (fresh > 0 ? fresh : 0);
}

/* From now on it is the other one. */
static struct err *change_tables(struct index *x)
{
    x->stale = stale_left(x);
    struct err *e = kv_clear(x->txn, x->label);
    return e != NULL ? e : index_set(x, INDEX_LABEL, x->sweep.to == x->labels[1]);
}

/* On an error the table that is being made is nobody's: the next sweep empties it. One that was looked at before the place where
 * it stands is looked at again at the most, and put again. */
static struct err *sweep_labels(struct index *x)
{
    struct err *e = index_begin(x);
    if (e != NULL)
        return e;
    e = copy_some(x);
    if (e == NULL && x->sweep.ended)
        e = change_tables(x);
    if (e != NULL) {
        index_abort(x);
        return e;
    }
    e = index_commit(x);
    if (e == NULL && x->sweep.ended)
        x->label = x->sweep.to;
    return e;
}

static struct err *sweep_rows(struct index *x)
{
    struct kv_txn *t;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = count_some(x, t);
    kv_abort(t);
    return e;
}

static struct err *sweep_some(struct index *x)
{
    struct err *e = x->sweep.counted ? sweep_labels(x) : sweep_rows(x);
    if (e != NULL || x->sweep.ended)
        sweep_end(x);
    return e;
}

/* --- when */

struct sizes {
    uint64_t rows, fresh, labels, others;
};

static struct err *sizes_of(struct index *x, struct sizes *out)
{
    struct kv_txn *t;
    struct err *e = kv_begin(x->kv, false, &t);
    if (e != NULL)
        return e;
    e = kv_count(t, x->msg, &out->rows);
    if (e == NULL)
        e = kv_count(t, x->fresh, &out->fresh);
    if (e == NULL)
        e = kv_count(t, x->label, &out->labels);
    if (e == NULL)
        e = kv_count(t, other_table(x), &out->others);
    kv_abort(t);
    return e;
}

/* No message is left: neither are labels. */
static struct err *clear(struct index *x)
{
    x->stale = 0;
    struct err *e = empty(x, x->fresh, x->label);
    kv_table other = other_table(x);
    return e != NULL ? e : empty(x, other, other);
}

/* What leaves takes its labels with it: they need not be filed before, and not be swept while others go. */
static bool shrinks(struct index *x, uint64_t rows)
{
    int64_t now = clock_mono_ns();
    if (now - x->seen_ns >= SHRINKS_NS) {
        x->shrinking = rows < x->rows_seen;
        x->rows_seen = rows;
        x->seen_ns = now;
    }
    return x->shrinking && !x->hasty;
}

static bool enough_to_file(const struct index *x, const struct sizes *n)
{
    uint64_t filed = n->rows > n->fresh ? n->rows - n->fresh : 0;
    uint64_t share = filed / FRESH_SHARE < FRESH_MAX ? filed / FRESH_SHARE : FRESH_MAX;
    return n->fresh > x->fresh_min && n->fresh > share;
}

static bool enough_to_sweep(const struct index *x, const struct sizes *n)
{
    return x->stale > 0 && (uint64_t)x->stale > n->labels / 4 * 3 && (uint64_t)x->stale > x->stale_min;
}

static struct err *choose(struct index *x)
{
    struct sizes n;
    struct err *e = sizes_of(x, &n);
    if (e != NULL)
        return e;
    if (n.rows == 0)
        return n.fresh + n.labels + n.others > 0 ? clear(x) : NULL;
    bool shrinking = shrinks(x, n.rows);
    if (enough_to_file(x, &n) && (!shrinking || n.fresh > FRESH_MAX))
        x->filing.on = true;
    else if (enough_to_sweep(x, &n) && !shrinking)
        e = sweep_begin(x, n.rows);
    return e;
}

static struct err *tidy(struct index *x, void *more_out)
{
    struct err *e = NULL;
    if (!x->filing.on && !x->sweep.on)
        e = choose(x);
    if (e == NULL && x->filing.on)
        e = file_some(x);
    else if (e == NULL && x->sweep.on)
        e = sweep_some(x);
    *(bool *)more_out = e == NULL && (x->filing.on || x->sweep.on);
    return e;
}

struct err *index_tidy(struct store *s, bool *more_out)
{
    *more_out = false;
    return index_work(s, tidy, more_out);
}
