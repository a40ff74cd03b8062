/* Packed form, little-endian; lstr = u32 length and the bytes:
 *
 *     u8  version (1)
 *     u8  ret           u16 0
 *     u32 flags
 *     i64 arrival_us
 *     u64 size          u64 data_size
 *     lstr sender       lstr envid
 *     u32 attributes    each: lstr name, lstr value
 *     u32 recipients    each: u8 notify, u8 state, u8 parts, lstr address,
 *                       and as `parts` says: 1 lstr original (else equal to address), 2 lstr orcpt,
 *                       4 lstr status, lstr text, lstr mta, lstr diagnostic
 *
 * `parts` keeps the common recipient at 7 bytes beside its address: index rows and compaction carry
 * every recipient of every message that waits. */
#include "queue/envelope.h"

#include "io/base/check.h"

enum { VERSION = 1 };
enum { PART_ORIGINAL = 1, PART_ORCPT = 2, PART_WHY = 4 };
enum { ATTR_BYTES_MIN = 8, RCPT_BYTES_MIN = 7 };

static bool dsn_given(const struct dsn *d)
{
    return d->status[0] != '\0' || d->text.len != 0 || d->mta.len != 0 || d->diagnostic.len != 0;
}

static void pack_rcpt(const struct rcpt *r, struct buf *out)
{
    unsigned parts = (str_eq(r->original, r->address) ? 0U : PART_ORIGINAL) |
                     (r->orcpt.len == 0 ? 0U : PART_ORCPT) | (dsn_given(&r->why) ? PART_WHY : 0U);
    buf_add_u8(out, r->notify);
    buf_add_u8(out, (uint8_t)r->state);
    buf_add_u8(out, (uint8_t)parts);
    buf_add_lstr(out, r->address);
    if (parts & PART_ORIGINAL)
        buf_add_lstr(out, r->original);
    if (parts & PART_ORCPT)
        buf_add_lstr(out, r->orcpt);
    if (parts & PART_WHY) {
        buf_add_lstr(out, str_of(r->why.status));
        buf_add_lstr(out, r->why.text);
        buf_add_lstr(out, r->why.mta);
        buf_add_lstr(out, r->why.diagnostic);
    }
}

void envelope_pack(const struct envelope *e, struct buf *out)
{
    buf_add_u8(out, VERSION);
    buf_add_u8(out, e->ret);
    buf_add_u16(out, 0);
    buf_add_u32(out, e->flags);
    buf_add_u64(out, (uint64_t)e->arrival_us);
    buf_add_u64(out, e->size);
    buf_add_u64(out, e->data_size);
    buf_add_lstr(out, e->sender);
    buf_add_lstr(out, e->envid);
    CHECK(e->attr_count <= UINT32_MAX && e->rcpt_count <= UINT32_MAX);
    buf_add_u32(out, (uint32_t)e->attr_count);
    for (size_t i = 0; i < e->attr_count; i++) {
        buf_add_lstr(out, e->attrs[i].name);
        buf_add_lstr(out, e->attrs[i].value);
    }
    buf_add_u32(out, (uint32_t)e->rcpt_count);
    for (size_t i = 0; i < e->rcpt_count; i++)
        pack_rcpt(&e->rcpts[i], out);
}

/* --- back */

static struct str take(struct rd *r, struct arena *a)
{
    struct str s = rd_lstr(r);
    return s.len == 0 ? STR("") : arena_str(a, s);
}

static void unpack_rcpt(struct rd *r, struct arena *a, struct rcpt *out)
{
    out->notify = rd_u8(r);
    unsigned state = rd_u8(r), parts = rd_u8(r);
    if (state > RCPT_NOTIFIED)
        r->bad = true;
    out->state = (enum rcpt_state)state;
    out->address = take(r, a);
    out->original = parts & PART_ORIGINAL ? take(r, a) : out->address;
    out->orcpt = parts & PART_ORCPT ? take(r, a) : STR("");
    out->why = (struct dsn){.text = STR(""), .mta = STR(""), .diagnostic = STR("")};
    if (parts & PART_WHY) {
        str_copy(out->why.status, sizeof out->why.status, rd_lstr(r));
        out->why.text = take(r, a);
        out->why.mta = take(r, a);
        out->why.diagnostic = take(r, a);
    }
    out->resolved = out->address;
}

/* A count that could not fit in what is left is damage: refuse it before room is made for it. */
static size_t take_count(struct rd *r, size_t bytes_each)
{
    size_t n = rd_u32(r);
    if (!r->bad && n > (size_t)(r->end - r->ptr) / bytes_each)
        r->bad = true;
    return r->bad ? 0 : n;
}

static void unpack_fixed(struct rd *r, struct arena *a, struct envelope *e)
{
    if (rd_u8(r) != VERSION)
        r->bad = true;
    e->ret = rd_u8(r);
    (void)rd_u16(r);
    e->flags = rd_u32(r);
    e->arrival_us = (int64_t)rd_u64(r);
    e->size = rd_u64(r);
    e->data_size = rd_u64(r);
    e->sender = take(r, a);
    e->envid = take(r, a);
}

struct err *envelope_unpack(struct str bytes, struct arena *a, struct envelope **out)
{
    struct rd r = rd_of(bytes);
    struct envelope *e = ARENA_NEW(a, struct envelope);
    unpack_fixed(&r, a, e);
    e->attr_count = take_count(&r, ATTR_BYTES_MIN);
    e->attrs = arena_zalloc(a, e->attr_count * sizeof *e->attrs);
    for (size_t i = 0; i < e->attr_count; i++) {
        e->attrs[i].name = take(&r, a);
        e->attrs[i].value = take(&r, a);
    }
    e->rcpt_count = take_count(&r, RCPT_BYTES_MIN);
    e->rcpts = arena_zalloc(a, e->rcpt_count * sizeof *e->rcpts);
    for (size_t i = 0; i < e->rcpt_count && !r.bad; i++)
        unpack_rcpt(&r, a, &e->rcpts[i]);
    if (r.bad || r.ptr != r.end)
        return err_new(ERR_DAMAGED, 0, "envelope of %zu bytes is damaged", bytes.len);
    *out = e;
    return NULL;
}

/* --- looking */

bool envelope_look(struct str bytes, struct envelope_view *out)
{
    struct rd r = rd_of(bytes);
    if (rd_u8(&r) != VERSION)
        return false;
    (void)rd_u8(&r);
    (void)rd_u16(&r);
    (void)rd_u32(&r);
    out->arrival_us = (int64_t)rd_u64(&r);
    (void)rd_u64(&r);
    (void)rd_u64(&r);
    out->sender = rd_lstr(&r);
    (void)rd_lstr(&r);
    for (uint32_t n = rd_u32(&r); n > 0 && !r.bad; n--) {
        (void)rd_lstr(&r);
        (void)rd_lstr(&r);
    }
    out->left = rd_u32(&r);
    out->at = r;
    return !r.bad;
}

bool envelope_next_rcpt(struct envelope_view *v, enum rcpt_state *state_out,
                        struct str *address_out)
{
    struct rd *r = &v->at;
    if (v->left == 0)
        return false;
    v->left--;
    (void)rd_u8(r);
    unsigned state = rd_u8(r), parts = rd_u8(r);
    *address_out = rd_lstr(r);
    unsigned texts = (parts & PART_ORIGINAL ? 1U : 0U) + (parts & PART_ORCPT ? 1U : 0U) +
                     (parts & PART_WHY ? 4U : 0U);
    while (texts-- > 0)
        (void)rd_lstr(r);
    if (r->bad || state > RCPT_NOTIFIED)
        return false;
    *state_out = (enum rcpt_state)state;
    return true;
}

/* --- copies */

static struct str copy_str(struct arena *a, struct str s)
{
    return s.len == 0 ? STR("") : arena_str(a, s);
}

static void copy_rcpt(struct arena *a, const struct rcpt *from, struct rcpt *to)
{
    *to = *from;
    to->address = copy_str(a, from->address);
    to->original =
        str_eq(from->original, from->address) ? to->address : copy_str(a, from->original);
    to->orcpt = copy_str(a, from->orcpt);
    to->why.text = copy_str(a, from->why.text);
    to->why.mta = copy_str(a, from->why.mta);
    to->why.diagnostic = copy_str(a, from->why.diagnostic);
    to->resolved =
        str_eq(from->resolved, from->address) ? to->address : copy_str(a, from->resolved);
    if (from->transport != NULL)
        to->transport = arena_cstr(a, str_of(from->transport));
    if (from->nexthop != NULL)
        to->nexthop = arena_cstr(a, str_of(from->nexthop));
}

struct envelope *envelope_copy(const struct envelope *e, struct arena *a)
{
    struct envelope *to = arena_alloc(a, sizeof *to);
    *to = *e;
    to->sender = copy_str(a, e->sender);
    to->envid = copy_str(a, e->envid);
    to->attrs = arena_zalloc(a, e->attr_count * sizeof *to->attrs);
    for (size_t i = 0; i < e->attr_count; i++) {
        to->attrs[i].name = copy_str(a, e->attrs[i].name);
        to->attrs[i].value = copy_str(a, e->attrs[i].value);
    }
    to->rcpts = arena_zalloc(a, e->rcpt_count * sizeof *to->rcpts);
    for (size_t i = 0; i < e->rcpt_count; i++)
        copy_rcpt(a, &e->rcpts[i], &to->rcpts[i]);
    return to;
}

struct str envelope_attr(const struct envelope *e, const char *name)
{
    struct str want = str_of(name);
    for (size_t i = 0; i < e->attr_count; i++) {
        if (str_eq(e->attrs[i].name, want))
            return e->attrs[i].value;
    }
    return STR("");
}
