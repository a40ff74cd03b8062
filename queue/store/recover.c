/* Recovery: find the segments (survey.c), replay the log behind the position the index covers, into
 * the index. When it is done the index tells of every message; the scheduler needs to know nothing of the log.
 * Without an index (deleted, damaged, of another queue) everything is replayed from the oldest
 * segment. When that is much, it is left to rebuild.c, and only what new mail needs is found out
 * here: the secret, an epoch and numbers that were never given. */
#include "io/base/log.h"
#include "io/base/rand.h"
#include "queue/store/recover.h"

/* Each first batch tells where the log before it ended. Where that segment is gone it was freed under an index
 * that covered it; to an older one something would be missing. */
static bool something_is_gone(const struct store *s, uint64_t covered)
{
    LIST_EACH(&s->segments, node)
    {
        const struct segment *g = CONTAINER(node, struct segment, link);
        uint64_t before = g->after >> 32;
        if (g->has_data && before >= covered >> 32 && umap_get(&s->by_epoch, before) == NULL)
            return true;
    }
    return false;
}

/* Does what the index says fit the log that is there? */
static const char *index_unfit(const struct store *s, uint64_t secret, uint64_t covered)
{
    if (list_empty(&s->segments))
        return "the log is gone";
    if (secret != s->secret)
        return "it belongs to another log";
    if (covered >> 32 < CONTAINER(s->segments.next, struct segment, link)->epoch)
        return "it is older than the log";
    if (something_is_gone(s, covered))
        return "the log goes on without segments that it does not know";
    return NULL;
}

static void live_each(void *ctx, uint64_t epoch, uint64_t bytes)
{
    space_rows_add(ctx, epoch, (int64_t)bytes);
}

/* What it says of itself; damage is no error but a reason to build it again. */
static struct err *open_index(struct recovery *r, const char *path)
{
    struct store *s = r->store;
    index_trial_begin(s, &r->index_why);
    if (r->index_why.len != 0)
        return NULL;
    struct err *e = index_open(s, path, &s->index);
    if (e == NULL)
        e = index_meta(s->index, INDEX_SECRET, &r->index_secret);
    if (e == NULL)
        e = index_meta(s->index, INDEX_COVERED, &s->covered);
    if (e == NULL)
        e = index_meta(s->index, INDEX_NEXT_SEQ, &r->next_seq);
    if (e == NULL)
        e = index_meta(s->index, INDEX_UNREAD, &s->unread_epoch);
    if (e != NULL && e->kind == ERR_DAMAGED) {
        buf_add_c(&r->index_why, e->text);
        e = NULL;
    }
    return e;
}

static struct err *start_anew(struct recovery *r, const char *why)
{
    struct store *s = r->store;
    struct err *e = index_renew(s, why);
    r->anew = true;
    umap_fini(&r->rows);
    arena_reset(r->arena);
    buf_reset(&r->doubts);
    return e;
}

/* There was no index, or nothing in it. */
static struct err *begin_fresh(struct recovery *r)
{
    struct store *s = r->store;
    s->covered = log_begin_pos(s);
    r->anew = !list_empty(&s->segments);
    if (r->anew)
        log_warning("queue", "%s/index is gone: it is built again from the log", s->directory);
    return NULL;
}

/* Can that be read which could not be when the index was built, or has somebody taken it away? Then
 * the index can know all there is. */
static bool can_be_read_now(struct store *s)
{
    struct buf bytes = {0};
    const struct segment *g = umap_get(&s->by_epoch, s->unread_epoch);
    struct err *e = g != NULL ? segment_read(s, g->name, BLOCK, &bytes) : NULL;
    buf_fini(&bytes);
    if (e != NULL)
        log_warning("queue", "log/%s: mail that lies there still cannot be read: %s", g->name,
                    e->text);
    return e == NULL;
}

static struct err *check_index(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = NULL;
    if (r->index_why.len == 0 && r->index_secret == 0 && s->covered == 0)
        return begin_fresh(r);
    const char *why =
        r->index_why.len != 0 ? r->index_why.ptr : index_unfit(s, r->index_secret, s->covered);
    if (why == NULL && s->unread_epoch != 0 && can_be_read_now(s))
        why = "what could not be read of the log can be now";
    if (why != NULL)
        return start_anew(r, why);
    e = index_live(s->index, live_each, s);
    return e != NULL && e->kind == ERR_DAMAGED ? start_anew(r, e->text) : e;
}

/* Numbers that were given are told of by the newest batches, and by the header blocks. */
static struct err *find_next_seq(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = NULL;
    LIST_EACH(&s->segments, node)
    {
        const struct segment *g = CONTAINER(node, struct segment, link);
        struct segment_scan scan;
        struct scan_item item;
        struct buf bytes = {0};
        bool around = false; /* then SEQ_GAP has to do */
        if (e != NULL || g->epoch < r->last)
            continue;
        e = segment_read_around(s, g->name, BLOCK, &bytes, &around);
        segment_scan_init(&scan, buf_str(&bytes), BLOCK, g->epoch, s->secret);
        while (e == NULL && segment_scan_next(&scan, &item)) {
            if (item.kind == SCAN_RECORD && item.head.seq >= r->next_seq)
                r->next_seq = item.head.seq + 1;
        }
        if (scan.next_seq > r->next_seq)
            r->next_seq = scan.next_seq;
        if (e == NULL && !around && g->epoch > r->last && scan_found_nothing(&scan))
            buf_add(&r->empty, &g->epoch, sizeof g->epoch);
        buf_fini(&bytes);
    }
    return e;
}

/* Where the log is whole to, when replay has not come by there. That it cannot be read now is not what
 * keeps mail out: then it is not known. */
static void find_end(struct recovery *r)
{
    struct store *s = r->store;
    struct segment_scan scan;
    struct scan_item item;
    struct buf bytes = {0};
    uint64_t good = 0, seen = 0;
    const struct segment *g = umap_get(&s->by_epoch, r->last);
    if (r->ended != 0 || g == NULL)
        return;
    struct err *e = segment_read(s, g->name, BLOCK, &bytes);
    segment_scan_init(&scan, buf_str(&bytes), BLOCK, g->epoch, s->secret);
    while (e == NULL && segment_scan_next(&scan, &item)) {
        if (scan.batches != seen)
            good = 0;
        seen = scan.batches;
        good += item.kind == SCAN_RECORD && record_whole(&item.head, item.bytes);
    }
    if (e == NULL)
        r->ended = scan_ended(&scan, scan.batches == seen ? good : 0);
    buf_fini(&bytes);
}

/* Now, or behind the back of those who send mail. */
static struct err *bring_up(struct recovery *r)
{
    struct store *s = r->store;
    r->from = s->covered;
    if (bytes_behind(s, r->from, log_pos(r->last, UINT32_MAX)) > s->replay_at_once) {
        s->first_new = UINT64_MAX; /* until the number is known */
        return find_next_seq(r);
    }
    struct err *e = replay(r);
    if (e != NULL && e->code == EIO) {
        /* A place that cannot be read: no reason to refuse new mail. */
        log_warning("queue", "%s: what is there is read again behind running mail", e->text);
        s->first_new = UINT64_MAX;
        return find_next_seq(r);
    }
    if (e == NULL || e->kind != ERR_DAMAGED || r->anew)
        return e;
    e = start_anew(r, e->text);
    return e == NULL ? bring_up(r) : e;
}

static struct err *finish(struct recovery *r)
{
    struct store *s = r->store;
    struct err *e = index_begin(s->index);
    if (e != NULL)
        return e;
    e = index_set(s->index, INDEX_SECRET, s->secret);
    if (e == NULL)
        e = index_set(s->index, INDEX_COVERED, s->covered);
    if (e == NULL)
        e = index_set(s->index, INDEX_NEXT_SEQ, r->next_seq + SEQ_GAP);
    if (e != NULL) {
        index_abort(s->index);
        return e;
    }
    return index_commit(s->index);
}

/* What earlier starts began, and nothing was written to: else each of many starts in a row, none of
 * which lives to free anything, would leave one. */
static void use_empty_again(struct recovery *r)
{
    struct store *s = r->store;
    for (size_t at = 0; at < r->empty.len; at += sizeof(uint64_t)) {
        uint64_t epoch;
        memcpy(&epoch, r->empty.ptr + at, sizeof epoch);
        pthread_mutex_lock(&s->lock);
        struct segment *g = umap_get(&s->by_epoch, epoch);
        if (g != NULL && g->rows_bytes != 0)
            g = NULL;
        if (g != NULL) {
            (void)umap_del(&s->by_epoch, epoch);
            list_remove(&g->link);
            s->segment_count--;
        }
        pthread_mutex_unlock(&s->lock);
        if (g != NULL)
            segment_give(s, g);
    }
}

/* Where the new log begins. */
static uint64_t epoch_to_be(const struct store *s)
{
    uint64_t last = s->covered >> 32;
    if (!list_empty(&s->segments)) {
        uint64_t newest = CONTAINER(s->segments.prev, struct segment, link)->epoch;
        last = newest > last ? newest : last;
    }
    return last + 1;
}

static struct err *recover_with(struct recovery *r, const char *path)
{
    struct store *s = r->store;
    struct err *e = open_index(r, path);
    if (e == NULL)
        e = survey(r);
    bool first_time = s->secret == 0;
    while (s->secret == 0)
        s->secret = rand_u64();
    if (e == NULL)
        e = check_index(r);
    if (e != NULL)
        return e;
    s->next_epoch = epoch_to_be(s);
    r->end = log_pos(s->next_epoch, 0);
    r->last = last_with_data(s);
    e = bring_up(r);
    if (e != NULL)
        return e;
    find_end(r);
    s->log_ended = r->ended;
    use_empty_again(r);
    if ((r->anew || s->first_new != 0) && !first_time)
        r->next_seq += SEQ_GAP; /* numbers may have been given that no record tells of */
    if (r->next_seq < FIRST_SEQ)
        r->next_seq = FIRST_SEQ;
    number_above_content(r);
    atomic_store(&s->next_seq, r->next_seq);
    s->run_seq = r->next_seq;
    s->rebuild.end = r->end;
    s->rebuild.last = r->last;
    s->rebuild.sweep = true;
    s->rebuild.sweep_below = r->next_seq;
    if (s->first_new != 0)
        s->first_new = r->next_seq;
    else
        s->covered = r->end;
    return finish(r);
}

struct err *recover(struct store *s)
{
    struct recovery r;
    struct buf path = {0};
    recovery_init(&r, s);
    buf_printf(&path, "%s/index", s->directory);
    struct err *e = recover_with(&r, path.ptr);
    recovery_fini(&r);
    buf_fini(&path);
    return e;
}
