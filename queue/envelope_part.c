/* Some of an envelope's recipients, where it lies packed: a message with very many is in memory in part. */
#include <stdlib.h>

#include "queue/envelope_private.h"

/* --- some of them */

struct err *envelope_unpack_head(struct str fixed, struct arena *a, struct envelope **out,
                                 uint32_t *count_out)
{
    struct rd r = rd_of(fixed);
    struct envelope *e = ARENA_NEW(a, struct envelope);
    envelope_take_head(&r, VERSION_FIXED, a, e);
    envelope_take_attrs(&r, a, e);
    *count_out = (uint32_t)envelope_take_count(&r, RCPT_BYTES_MIN);
    if (r.bad)
        return envelope_damaged(fixed.len);
    *out = e;
    return NULL;
}

bool envelope_unpack_states(struct str states, uint32_t count, uint8_t *out)
{
    struct rd r = rd_of(states);
    unsigned tag = 0;
    for (uint32_t i = 0; i < count && !r.bad; i++) {
        envelope_next_state(&r, &tag, true, NULL, NULL);
        out[i] = (uint8_t)(tag & TAG_STATE);
    }
    return !r.bad && r.ptr == r.end;
}

static void skip_rcpt(struct rd *r)
{
    (void)rd_u8(r);
    unsigned parts = rd_u8(r);
    (void)rd_lstr(r);
    for (unsigned part = PART_ORIGINAL; part <= PART_ORCPT; part <<= 1) {
        if (parts & part)
            (void)rd_lstr(r);
    }
}

static void skip_head(struct rd *r)
{
    enum { HEAD_BYTES = 32 };
    (void)envelope_bytes(r, HEAD_BYTES);
    (void)rd_lstr(r);
    (void)rd_lstr(r);
    for (uint32_t n = rd_u32(r); n > 0 && !r->bad; n--) {
        (void)rd_lstr(r);
        (void)rd_lstr(r);
    }
    (void)rd_u32(r);
}

/* The reason of each, where it has one; one that several have is unpacked once. */
static void unpack_some_states(struct rd *r, const uint32_t *indexes, size_t n, struct arena *a,
                               struct rcpt *out)
{
    struct rd here = *r, given = *r;
    struct dsn why = envelope_no_why;
    unsigned tag = 0;
    bool fresh = false;
    for (uint32_t i = 0, k = 0; k < n && !r->bad; i++) {
        if (!(tag & TAG_REST)) {
            here = *r;
            envelope_next_state(r, &tag, true, NULL, NULL);
            if (tag & TAG_WHY_HERE) {
                given = here;
                fresh = true;
            }
        }
        if (i != indexes[k])
            continue;
        out[k].state = (enum rcpt_state)(tag & TAG_STATE);
        if (tag & (TAG_WHY_HERE | TAG_WHY_AGAIN)) {
            if (fresh) {
                (void)rd_u8(&given);
                envelope_take_why(&given, a, &why);
                fresh = false;
            }
            out[k].why = why;
        }
        k++;
    }
}

struct err *envelope_unpack_some(struct str fixed, struct str states, const uint32_t *indexes, size_t n,
                                 struct arena *a, struct rcpt *out, struct envelope_place *place)
{
    struct rd r = rd_of(fixed);
    uint32_t i = place->index;
    if (place->at == 0)
        skip_head(&r);
    else
        (void)envelope_bytes(&r, place->at);
    for (size_t k = 0; k < n && !r.bad; k++, i++) {
        for (; i < indexes[k] && !r.bad; i++)
            skip_rcpt(&r);
        envelope_take_rcpt(&r, false, a, &out[k]);
        out[k].index = i;
    }
    struct rd state = rd_of(states);
    if (states.ptr != NULL)
        unpack_some_states(&state, indexes, n, a, out);
    if (r.bad || state.bad)
        return envelope_damaged(fixed.len + states.len);
    *place = (struct envelope_place){i, (size_t)(r.ptr - fixed.ptr)};
    return NULL;
}

/* --- changes: u32 index, u8 state and TAG_WHY_HERE, the reason as it stands in states */

void envelope_pack_change(const struct rcpt_change *c, struct buf *out)
{
    bool given = envelope_dsn_given(c->why);
    buf_add_u32(out, c->index);
    buf_add_u8(out, (uint8_t)((unsigned)c->state | (given ? TAG_WHY_HERE : 0U)));
    if (given)
        envelope_put_why(c->why, out);
}

struct change {
    uint32_t index, turn; /* the last one of an index counts */
    unsigned state;
    struct str why; /* packed */
};

static bool next_change(struct rd *r, struct change *out)
{
    if (r->bad || r->ptr == r->end)
        return false;
    out->index = rd_u32(r);
    unsigned tag = rd_u8(r);
    const char *why = r->ptr;
    if (tag & TAG_WHY_HERE)
        envelope_take_why(r, NULL, NULL);
    out->state = tag & TAG_STATE;
    out->why = str_make(why, (size_t)(r->ptr - why));
    return !r->bad;
}

static int by_index(const void *left, const void *right)
{
    const struct change *l = left, *r = right;
    return l->index != r->index ? (l->index > r->index) - (l->index < r->index)
                                : (l->turn > r->turn) - (l->turn < r->turn);
}

static void sort_changes(struct str changes, struct buf *out)
{
    struct rd r = rd_of(changes);
    struct change c = {0};
    for (; next_change(&r, &c); c.turn++)
        buf_add(out, &c, sizeof c);
    if (out->len > 0)
        qsort(out->ptr, out->len / sizeof c, sizeof c, by_index);
}

/* Writes states one by one; what is alike at the end is said once. */
struct state_writer {
    struct buf *out;
    struct str last;      /* reason that was given last, packed */
    struct str why;       /* of the one before; */
    unsigned state;       /* its state */
    size_t run, run_end;  /* where the first of those that are alike begins and ends in out */
    uint32_t alike;
};

static void write_state(struct state_writer *w, unsigned state, struct str why)
{
    bool same = w->alike > 0 && state == w->state && str_eq(why, w->why);
    bool again = why.len > 0 && str_eq(why, w->last);
    size_t at = w->out->len;
    buf_add_u8(w->out, (uint8_t)(state | (again ? TAG_WHY_AGAIN : why.len > 0 ? TAG_WHY_HERE : 0U)));
    if (why.len > 0 && !again) {
        buf_add_str(w->out, why);
        w->last = why;
    }
    w->alike = same ? w->alike + 1 : 1;
    if (!same) {
        w->run = at;
        w->run_end = w->out->len;
    }
    w->state = state;
    w->why = why;
}

bool envelope_change_states(struct str states, uint32_t count, struct str changes, struct buf *out)
{
    struct buf sorted = {0};
    struct state_writer w = {.out = out};
    struct rd r = rd_of(states);
    struct str why = STR(""); /* given last in states */
    unsigned tag = 0;
    sort_changes(changes, &sorted);
    const struct change *c = (const struct change *)(const void *)sorted.ptr;
    size_t n = sorted.len / sizeof *c, k = 0;
    for (uint32_t i = 0; i < count && !r.bad; i++) {
        const char *at = r.ptr;
        bool read = !(tag & TAG_REST);
        envelope_next_state(&r, &tag, true, NULL, NULL);
        if (read && (tag & TAG_WHY_HERE))
            why = str_make(at + 1, (size_t)(r.ptr - at) - 1);
        unsigned state = tag & TAG_STATE;
        struct str now = tag & (TAG_WHY_HERE | TAG_WHY_AGAIN) ? why : STR("");
        for (; k < n && c[k].index <= i; k++) {
            state = c[k].state;
            now = c[k].why;
        }
        write_state(&w, state, now);
    }
    if (w.alike > 1) {
        out->len = w.run_end;
        out->ptr[w.run] = (char)((unsigned char)out->ptr[w.run] | TAG_REST);
    }
    buf_fini(&sorted);
    return !r.bad && r.ptr == r.end;
}

static ssize_t find_index(const uint32_t *indexes, size_t n, uint32_t index)
{
    if (indexes == NULL)
        return index < n ? (ssize_t)index : -1;
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (indexes[middle] < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && indexes[low] == index ? (ssize_t)low : -1;
}

void envelope_change_rcpts(struct str changes, const uint32_t *indexes, size_t n, struct arena *a,
                           struct rcpt *rcpts)
{
    struct rd r = rd_of(changes);
    struct change c;
    while (next_change(&r, &c)) {
        ssize_t at = find_index(indexes, n, c.index);
        if (at < 0)
            continue;
        struct rd why = rd_of(c.why);
        rcpts[at].state = (enum rcpt_state)c.state;
        rcpts[at].why = envelope_no_why;
        if (c.why.len > 0)
            envelope_take_why(&why, a, &rcpts[at].why);
    }
}
