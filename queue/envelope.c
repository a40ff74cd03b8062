/* Packed form, little-endian; lstr = u32 length and the bytes:
 *
 *     u8  version (1; 2: without states)
 *     u8  ret           u16 0
 *     u32 flags
 *     i64 arrival_us
 *     u64 size          u64 data_size
 *     lstr sender       lstr envid
 *     u32 attributes    each: lstr name, lstr value
 *     u32 recipients    each: u8 notify, u8 state (not in version 2), u8 parts, lstr address,
 *                       and as `parts` says: 1 lstr original (else equal to address), 2 lstr orcpt,
 *                       4 (not in version 2) lstr status, lstr text, lstr mta, lstr diagnostic,
 *                       8 (from segment format 2 on) nothing: orcpt is "rfc822;" and original
 *
 * `parts` keeps the common recipient at 7 bytes beside its address: index rows and compaction carry
 * every recipient of every message that waits.
 *
 * The states alone, which are written at each deferral; num = 7 bits a byte, lowest first, the high
 * bit on all but the last; nstr = num length and the bytes; part = num offset, num length in the text:
 *
 *     each recipient: u8: bits 0-2 state, 3-4 why (0 none, 1 it follows, 2 as the last one given), 5 all
 *                     further recipients are like this one and left out
 *     why:            u8 parts, nstr status, nstr text,
 *                     mta:        as `parts` says: 1 a part of the text, else nstr
 *                     diagnostic: 2 "smtp; " and a part of the text, else nstr
 */
#include "queue/envelope_private.h"

#include "io/base/check.h"


static const struct str smtp_type = {"smtp; ", 6};
static const struct str orcpt_type = {"rfc822;", 7};
const struct dsn envelope_no_why = {.text = {"", 0}, .mta = {"", 0}, .diagnostic = {"", 0}};

bool envelope_dsn_given(const struct dsn *d)
{
    return d->status[0] != '\0' || d->text.len != 0 || d->mta.len != 0 || d->diagnostic.len != 0;
}

/* As smtpd has it when the client says nothing: half of the bytes of a long list. */
static bool orcpt_is_same(const struct rcpt *r)
{
    return str_starts(r->orcpt, orcpt_type) && str_eq(str_from(r->orcpt, orcpt_type.len), r->original);
}

static unsigned orcpt_part(const struct rcpt *r)
{
    return r->orcpt.len == 0 ? 0U : orcpt_is_same(r) ? PART_ORCPT_SAME : PART_ORCPT;
}

static void pack_rcpt(const struct rcpt *r, bool states, struct buf *out)
{
    unsigned parts = (str_eq(r->original, r->address) ? 0U : PART_ORIGINAL) |
                     orcpt_part(r) |
                     (states && envelope_dsn_given(&r->why) ? PART_WHY : 0U);
    buf_add_u8(out, r->notify);
    if (states)
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

static void pack(const struct envelope *e, bool states, struct buf *out)
{
    buf_add_u8(out, states ? VERSION : VERSION_FIXED);
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
        pack_rcpt(&e->rcpts[i], states, out);
}

void envelope_pack(const struct envelope *e, struct buf *out)
{
    pack(e, true, out);
}

void envelope_pack_fixed(const struct envelope *e, struct buf *out)
{
    pack(e, false, out);
}

/* --- states */

static void add_num(struct buf *out, size_t n)
{
    for (; n >= 0x80; n >>= 7)
        buf_add_u8(out, (uint8_t)(n | 0x80));
    buf_add_u8(out, (uint8_t)n);
}

static void add_nstr(struct buf *out, struct str s)
{
    add_num(out, s.len);
    buf_add_str(out, s);
}

static bool find_part(struct str text, struct str part, size_t *at_out)
{
    ssize_t at = str_find(text, part);
    if (at < 0)
        return false;
    *at_out = (size_t)at;
    return true;
}

/* The usual text of a failure is "host MTA[address] said: REPLY (in reply to ...)". */
void envelope_put_why(const struct dsn *d, struct buf *out)
{
    size_t mta_at = 0, reply_at = 0;
    struct str reply = str_from(d->diagnostic, smtp_type.len);
    bool mta_in = find_part(d->text, d->mta, &mta_at);
    bool reply_in =
        str_starts(d->diagnostic, smtp_type) && find_part(d->text, reply, &reply_at);
    buf_add_u8(out, (uint8_t)((mta_in ? WHY_MTA_IN_TEXT : 0) | (reply_in ? WHY_REPLY_IN_TEXT : 0)));
    add_nstr(out, str_of(d->status));
    add_nstr(out, d->text);
    if (mta_in) {
        add_num(out, mta_at);
        add_num(out, d->mta.len);
    } else {
        add_nstr(out, d->mta);
    }
    if (reply_in) {
        add_num(out, reply_at);
        add_num(out, reply.len);
    } else {
        add_nstr(out, d->diagnostic);
    }
}

static bool dsn_eq(const struct dsn *a, const struct dsn *b)
{
    return strcmp(a->status, b->status) == 0 && str_eq(a->text, b->text) && str_eq(a->mta, b->mta) &&
           str_eq(a->diagnostic, b->diagnostic);
}

void envelope_pack_states(const struct envelope *e, struct buf *out)
{
    const struct dsn *last = NULL;
    size_t end = e->rcpt_count;
    while (end > 1 && e->rcpts[end - 1].state == e->rcpts[end - 2].state &&
           dsn_eq(&e->rcpts[end - 1].why, &e->rcpts[end - 2].why))
        end--;
    for (size_t i = 0; i < end; i++) {
        const struct rcpt *r = &e->rcpts[i];
        bool given = envelope_dsn_given(&r->why), again = given && last != NULL && dsn_eq(last, &r->why);
        unsigned why = again ? TAG_WHY_AGAIN : given ? TAG_WHY_HERE : 0U;
        bool rest = i + 1 == end && end < e->rcpt_count;
        buf_add_u8(out, (uint8_t)(r->state | why | (rest ? TAG_REST : 0U)));
        if (given && !again) {
            envelope_put_why(&r->why, out);
            last = &r->why;
        }
    }
}

/* --- back */

static struct str copy_str(struct arena *a, struct str s)
{
    return s.len == 0 ? STR("") : arena_str(a, s);
}

static struct str take(struct rd *r, struct arena *a)
{
    return copy_str(a, rd_lstr(r));
}

static struct str same_orcpt(struct str original, struct arena *a)
{
    char *to = arena_alloc(a, orcpt_type.len + original.len);
    memcpy(to, orcpt_type.ptr, orcpt_type.len);
    if (original.len > 0)
        memcpy(to + orcpt_type.len, original.ptr, original.len);
    return str_make(to, orcpt_type.len + original.len);
}

void envelope_take_rcpt(struct rd *r, bool states, struct arena *a, struct rcpt *out)
{
    out->notify = rd_u8(r);
    unsigned state = states ? rd_u8(r) : 0, parts = rd_u8(r);
    if (state > RCPT_NOTIFIED)
        r->bad = true;
    out->state = (enum rcpt_state)state;
    out->address = take(r, a);
    out->original = parts & PART_ORIGINAL ? take(r, a) : out->address;
    out->orcpt = parts & PART_ORCPT ? take(r, a) : STR("");
    if (parts & PART_ORCPT_SAME)
        out->orcpt = same_orcpt(out->original, a);
    out->why = envelope_no_why;
    if (states && (parts & PART_WHY)) {
        str_copy(out->why.status, sizeof out->why.status, rd_lstr(r));
        out->why.text = take(r, a);
        out->why.mta = take(r, a);
        out->why.diagnostic = take(r, a);
    }
    out->resolved = out->address;
}

/* A count that could not fit in what is left is damage: refuse it before room is made for it. */
size_t envelope_take_count(struct rd *r, size_t bytes_each)
{
    size_t n = rd_u32(r);
    if (!r->bad && n > (size_t)(r->end - r->ptr) / bytes_each)
        r->bad = true;
    return r->bad ? 0 : n;
}

void envelope_take_head(struct rd *r, unsigned version, struct arena *a, struct envelope *e)
{
    if (rd_u8(r) != version)
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

void envelope_take_attrs(struct rd *r, struct arena *a, struct envelope *e)
{
    e->attr_count = envelope_take_count(r, ATTR_BYTES_MIN);
    e->attrs = arena_zalloc(a, e->attr_count * sizeof *e->attrs);
    for (size_t i = 0; i < e->attr_count; i++) {
        e->attrs[i].name = take(r, a);
        e->attrs[i].value = take(r, a);
    }
}

static struct envelope *unpack(struct str bytes, unsigned version, struct arena *a, bool *good_out)
{
    struct rd r = rd_of(bytes);
    struct envelope *e = ARENA_NEW(a, struct envelope);
    envelope_take_head(&r, version, a, e);
    envelope_take_attrs(&r, a, e);
    e->rcpt_count = envelope_take_count(&r, RCPT_BYTES_MIN);
    e->rcpts = arena_zalloc(a, e->rcpt_count * sizeof *e->rcpts);
    for (size_t i = 0; i < e->rcpt_count && !r.bad; i++)
        envelope_take_rcpt(&r, version == VERSION, a, &e->rcpts[i]);
    *good_out = !r.bad && r.ptr == r.end;
    return e;
}

struct err *envelope_damaged(size_t bytes)
{
    return err_new(ERR_DAMAGED, 0, "envelope of %zu bytes is damaged", bytes);
}

struct err *envelope_unpack(struct str bytes, struct arena *a, struct envelope **out)
{
    bool good;
    struct envelope *e = unpack(bytes, VERSION, a, &good);
    if (!good)
        return envelope_damaged(bytes.len);
    *out = e;
    return NULL;
}

/* --- states */

static size_t rd_num(struct rd *r)
{
    size_t n = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        unsigned byte = rd_u8(r);
        n |= (size_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return n;
    }
    r->bad = true;
    return 0;
}

struct str envelope_bytes(struct rd *r, size_t n)
{
    if (r->bad || n > (size_t)(r->end - r->ptr)) {
        r->bad = true;
        return STR("");
    }
    r->ptr += n;
    return str_make(r->ptr - n, n);
}

static struct str rd_nstr(struct rd *r)
{
    return envelope_bytes(r, rd_num(r));
}

static struct str rd_part(struct rd *r, struct str text)
{
    size_t at = rd_num(r), n = rd_num(r);
    if (at > text.len || n > text.len - at)
        r->bad = true;
    return r->bad ? STR("") : str_make(text.ptr + at, n);
}

/* a NULL: it is passed over. */
void envelope_take_why(struct rd *r, struct arena *a, struct dsn *out)
{
    unsigned parts = rd_u8(r);
    struct str status = rd_nstr(r), text = rd_nstr(r);
    if (a != NULL)
        text = copy_str(a, text);
    struct str mta = parts & WHY_MTA_IN_TEXT ? rd_part(r, text) : rd_nstr(r);
    struct str diagnostic = parts & WHY_REPLY_IN_TEXT ? rd_part(r, text) : rd_nstr(r);
    if (a == NULL || r->bad)
        return;
    *out = (struct dsn){.text = text};
    str_copy(out->status, sizeof out->status, status);
    out->mta = parts & WHY_MTA_IN_TEXT ? mta : copy_str(a, mta);
    if (parts & WHY_REPLY_IN_TEXT) {
        char *both = arena_alloc(a, smtp_type.len + diagnostic.len);
        memcpy(both, smtp_type.ptr, smtp_type.len);
        memcpy(both + smtp_type.len, diagnostic.ptr, diagnostic.len);
        out->diagnostic = str_make(both, smtp_type.len + diagnostic.len);
    } else {
        out->diagnostic = copy_str(a, diagnostic);
    }
}

/* Of the next recipient: the tag that stands for the rest is not read again. a NULL: *why_out stays, and is passed over
 * only when more are to come. */
void envelope_next_state(struct rd *r, unsigned *tag, bool more, struct arena *a, struct dsn *why_out)
{
    if (*tag & TAG_REST)
        return;
    *tag = rd_u8(r);
    if ((*tag & TAG_STATE) > RCPT_NOTIFIED || *tag >= 2 * TAG_REST)
        r->bad = true;
    if ((*tag & TAG_WHY_HERE) && (more || a != NULL))
        envelope_take_why(r, a, why_out);
}

static void apply_states(struct rd *r, struct arena *a, struct envelope *e)
{
    struct dsn why = envelope_no_why;
    unsigned tag = 0;
    for (size_t i = 0; i < e->rcpt_count && !r->bad; i++) {
        envelope_next_state(r, &tag, true, a, &why);
        e->rcpts[i].state = (enum rcpt_state)(tag & TAG_STATE);
        if (tag & (TAG_WHY_HERE | TAG_WHY_AGAIN))
            e->rcpts[i].why = why;
    }
}

struct err *envelope_unpack_halves(struct str fixed, struct str states, struct arena *a,
                                   struct envelope **out)
{
    bool good;
    struct rd r = rd_of(states);
    struct envelope *e = unpack(fixed, VERSION_FIXED, a, &good);
    if (good)
        apply_states(&r, a, e);
    if (!good || r.bad || r.ptr != r.end)
        return envelope_damaged(fixed.len + states.len);
    *out = e;
    return NULL;
}

/* --- looking */

bool envelope_look(struct str fixed, struct str states, struct envelope_view *out)
{
    struct rd r = rd_of(fixed);
    if (rd_u8(&r) != VERSION_FIXED)
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
    out->states = rd_of(states);
    out->tag = 0;
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
    unsigned parts = rd_u8(r);
    *address_out = rd_lstr(r);
    for (unsigned part = PART_ORIGINAL; part <= PART_ORCPT; part <<= 1) {
        if (parts & part)
            (void)rd_lstr(r);
    }
    envelope_next_state(&v->states, &v->tag, v->left > 0, NULL, NULL);
    if (r->bad || v->states.bad)
        return false;
    *state_out = (enum rcpt_state)(v->tag & TAG_STATE);
    return true;
}

/* --- copies */

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
