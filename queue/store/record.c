#include "queue/store/record.h"

#include "io/base/check.h"
#include "io/base/hash.h"

enum { MAGIC = 0x31725052 }; /* "RPr1" */
enum { AT_TYPE = 4, AT_LENGTH = 8, AT_EPOCH = 16, AT_SEQ = 24, AT_BODY_SUM = 32, AT_HEAD_SUM = 40 };
enum { MARK_ENTRY_MIN = 21 };

void record_sum(struct record *r)
{
    r->body_sum = hash_sum(r->first.ptr, r->first.len, 0);
}

size_t record_bytes(const struct record *r)
{
    return round_up(RECORD_HEAD + r->first.len + r->rest.len, RECORD_ALIGN);
}

void record_put(const struct record *r, uint8_t *to)
{
    size_t length = r->first.len + r->rest.len, whole = record_bytes(r);
    CHECK(length <= UINT32_MAX - RECORD_HEAD - RECORD_ALIGN);
    memset(to, 0, RECORD_HEAD);
    put_u32(to, MAGIC);
    to[AT_TYPE] = (uint8_t)r->type;
    put_u32(to + AT_LENGTH, (uint32_t)length);
    put_u64(to + AT_SEQ, r->seq);
    put_u64(to + AT_BODY_SUM, r->body_sum);
    uint8_t *body = to + RECORD_HEAD;
    if (r->first.len != 0)
        memcpy(body, r->first.ptr, r->first.len);
    if (r->rest.len != 0)
        memcpy(body + r->first.len, r->rest.ptr, r->rest.len);
    memset(body + length, 0, whole - RECORD_HEAD - length);
}

void record_seal(uint8_t *at, uint64_t epoch, uint64_t secret)
{
    put_u64(at + AT_EPOCH, epoch);
    put_u64(at + AT_HEAD_SUM, hash_sum(at, AT_HEAD_SUM, secret));
}

size_t record_span(const uint8_t *at)
{
    return round_up((size_t)RECORD_HEAD + get_u32(at + AT_LENGTH), RECORD_ALIGN);
}

uint64_t record_seq(const uint8_t *at)
{
    return get_u64(at + AT_SEQ);
}

enum record_type record_type_of(const uint8_t *at)
{
    return (enum record_type)at[AT_TYPE];
}

bool record_head_get(struct str bytes, uint64_t epoch, uint64_t secret, struct record_head *out)
{
    const uint8_t *at = (const uint8_t *)bytes.ptr;
    if (bytes.len < RECORD_HEAD || get_u32(at) != MAGIC)
        return false;
    if (get_u64(at + AT_EPOCH) != epoch ||
        get_u64(at + AT_HEAD_SUM) != hash_sum(at, AT_HEAD_SUM, secret))
        return false;
    if (at[AT_TYPE] < RECORD_MESSAGE || at[AT_TYPE] > RECORD_REMOVE)
        return false;
    *out = (struct record_head){.type = record_type_of(at),
                                .length = get_u32(at + AT_LENGTH),
                                .epoch = epoch,
                                .seq = record_seq(at),
                                .body_sum = get_u64(at + AT_BODY_SUM)};
    return true;
}

/* --- MESSAGE */

void message_pack(const struct message_body *b, const struct envelope *env, struct buf *out)
{
    size_t start = out->len;
    buf_add_u32(out, b->bits);
    buf_add_u32(out, b->flags);
    buf_add_u64(out, (uint64_t)b->due_us);
    buf_add_u64(out, 0);
    buf_add_u64(out, b->content_size);
    buf_add_u64(out, b->content_sum);
    envelope_pack(env, out);
    size_t len = out->len - start - MESSAGE_FIXED;
    CHECK(len <= UINT32_MAX);
    put_u32((uint8_t *)out->ptr + start + 16, (uint32_t)len);
}

bool message_unpack_fixed(struct str bytes, struct message_body *out, uint32_t *envelope_len_out)
{
    struct rd r = rd_of(bytes);
    *out = (struct message_body){.bits = rd_u32(&r)};
    out->flags = rd_u32(&r);
    out->due_us = (int64_t)rd_u64(&r);
    *envelope_len_out = rd_u32(&r);
    (void)rd_u32(&r);
    out->content_size = rd_u64(&r);
    out->content_sum = rd_u64(&r);
    return !r.bad;
}

bool message_unpack(const struct record_head *head, struct str bytes, struct message_body *out)
{
    uint32_t len = 0;
    if (!message_unpack_fixed(bytes, out, &len) || len > bytes.len - MESSAGE_FIXED)
        return false;
    size_t first = (size_t)MESSAGE_FIXED + len;
    if (hash_sum(bytes.ptr, first, 0) != head->body_sum)
        return false;
    uint64_t inside = out->bits & BODY_SPILLED ? 0 : out->content_size;
    if (first + inside != head->length)
        return false;
    out->envelope = str_make(bytes.ptr + MESSAGE_FIXED, len);
    if (inside != 0 && bytes.len - first >= inside)
        out->content = str_make(bytes.ptr + first, inside);
    return true;
}

bool record_whole(const struct record_head *head, struct str body)
{
    struct message_body m;
    if (head->type != RECORD_MESSAGE)
        return hash_sum(body.ptr, body.len, 0) == head->body_sum;
    return message_unpack(head, body, &m) &&
           ((m.bits & BODY_SPILLED) != 0 || content_sum(m.content) == m.content_sum);
}

/* --- MARK */

void mark_pack(const struct mark *k, struct buf *out)
{
    buf_add_u32(out, k->flags);
    buf_add_u64(out, (uint64_t)k->due_us);
    buf_add_u32(out, (uint32_t)k->rcpt_count);
    for (size_t i = 0; i < k->rcpt_count; i++) {
        const struct mark_rcpt *r = &k->rcpts[i];
        buf_add_u32(out, r->index);
        buf_add_u8(out, (uint8_t)r->state);
        buf_add_lstr(out, str_of(r->why.status));
        buf_add_lstr(out, r->why.text);
        buf_add_lstr(out, r->why.mta);
        buf_add_lstr(out, r->why.diagnostic);
    }
}

bool mark_unpack(struct str bytes, struct arena *a, struct mark *out)
{
    struct rd r = rd_of(bytes);
    uint32_t flags = rd_u32(&r);
    int64_t due_us = (int64_t)rd_u64(&r);
    size_t n = rd_u32(&r);
    if (r.bad || n > (size_t)(r.end - r.ptr) / MARK_ENTRY_MIN)
        return false;
    struct mark_rcpt *rcpts = arena_zalloc(a, n * sizeof *rcpts);
    for (size_t i = 0; i < n; i++) {
        rcpts[i].index = rd_u32(&r);
        unsigned state = rd_u8(&r);
        if (state > RCPT_NOTIFIED)
            return false;
        rcpts[i].state = (enum rcpt_state)state;
        str_copy(rcpts[i].why.status, sizeof rcpts[i].why.status, rd_lstr(&r));
        rcpts[i].why.text = rd_lstr(&r);
        rcpts[i].why.mta = rd_lstr(&r);
        rcpts[i].why.diagnostic = rd_lstr(&r);
    }
    if (r.bad || r.ptr != r.end)
        return false;
    *out = (struct mark){.flags = flags, .due_us = due_us, .rcpts = rcpts, .rcpt_count = n};
    return true;
}

/* Deferral after deferral often says the same: the old copy serves, so that a message that waits
 * for days does not grow. */
static struct str keep_or_copy(struct str old, struct str now, struct arena *a)
{
    if (str_eq(old, now) && old.ptr != NULL)
        return old;
    return now.len == 0 ? STR("") : arena_str(a, now);
}

void mark_apply(const struct mark *k, struct envelope *env, struct arena *a)
{
    for (size_t i = 0; i < k->rcpt_count; i++) {
        const struct mark_rcpt *m = &k->rcpts[i];
        if (m->index >= env->rcpt_count)
            continue;
        struct rcpt *r = &env->rcpts[m->index];
        r->state = m->state;
        memmove(r->why.status, m->why.status, sizeof r->why.status);
        r->why.text = keep_or_copy(r->why.text, m->why.text, a);
        r->why.mta = keep_or_copy(r->why.mta, m->why.mta, a);
        r->why.diagnostic = keep_or_copy(r->why.diagnostic, m->why.diagnostic, a);
    }
}

/* --- content */

uint64_t content_sum_piece(struct str piece, uint64_t sum)
{
    return hash_sum(piece.ptr, piece.len, sum);
}

uint64_t content_sum(struct str content)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < content.len; at += CONTENT_PIECE)
        sum = content_sum_piece(str_head(str_from(content, at), CONTENT_PIECE), sum);
    return sum;
}
