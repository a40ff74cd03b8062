/* Rows of `msg` and `state`, as index.h has them: the two halves of what is known of a message. */
#include "queue/store/index_private.h"

enum { MSG_FIXED = 28, MSG_SUM = 20, STATE_FIXED = 24, STATE_SUM = 16, PAGE = 4096 };
enum { ROW_SPILLED = 1, ROW_DEFERRED = 2 };

static bool some_deferred(const struct envelope *env)
{
    for (size_t i = 0; i < env->rcpt_count; i++) {
        if (env->rcpts[i].state == RCPT_DEFERRED)
            return true;
    }
    return false;
}

/* Of a whole row, or of what stands where one should be; sum_at: where the sum lies in it. */
static uint64_t row_sum(const struct index *x, uint64_t seq, struct str value, size_t sum_at)
{
    uint64_t sum = hash_sum(&seq, sizeof seq, x->store->secret + sum_at);
    sum = hash_sum(value.ptr, sum_at, sum);
    return hash_sum(value.ptr + sum_at + 8, value.len - sum_at - 8, sum);
}

static void row_sign(const struct index *x, uint64_t seq, size_t sum_at, struct buf *row)
{
    uint8_t sum[8];
    put_u64(sum, row_sum(x, seq, buf_str(row), sum_at));
    memcpy(row->ptr + sum_at, sum, sizeof sum);
}

static bool row_good(const struct index *x, uint64_t seq, size_t sum_at, struct str value)
{
    return value.len >= sum_at + 8 && value.ptr[0] == INDEX_FORMAT &&
           get_u64((const uint8_t *)value.ptr + sum_at) == row_sum(x, seq, value, sum_at);
}

void row_pack_msg(struct index *x, const struct index_row *row)
{
    struct buf *out = &x->row;
    buf_reset(out);
    buf_add_u8(out, INDEX_FORMAT);
    buf_add_u8(out, row->place.spilled ? ROW_SPILLED : 0);
    buf_add_u16(out, 0);
    buf_add_u32(out, row->place.at);
    buf_add_u64(out, row->place.epoch);
    buf_add_u32(out, row->place.length);
    buf_add_u64(out, 0);
    if (row->part != NULL)
        buf_add_str(out, row->envelope);
    else
        envelope_pack_fixed(row->env, out);
    row_sign(x, row->seq, MSG_SUM, out);
}

static void begin_state(struct index *x, const struct index_row *row, bool deferred)
{
    struct buf *out = &x->changing;
    buf_reset(out);
    buf_add_u8(out, INDEX_FORMAT);
    buf_add_u8(out, deferred ? ROW_DEFERRED : 0);
    buf_add_u16(out, (uint16_t)row->dests.len);
    buf_add_u32(out, row->flags);
    buf_add_u64(out, (uint64_t)row->due_us);
    buf_add_u64(out, 0);
    buf_add_str(out, row->dests);
}

void row_pack_state(struct index *x, const struct index_row *row)
{
    bool given = row->states.ptr != NULL;
    begin_state(x, row, given ? row->deferred : some_deferred(row->env));
    if (given)
        buf_add_str(&x->changing, row->states);
    else
        envelope_pack_states(row->env, &x->changing);
    row_sign(x, row->seq, STATE_SUM, &x->changing);
}

/* Both are as long as their fixed part at least: they have been found good. */
static void msg_unpack(struct str value, struct index_row *out)
{
    const uint8_t *p = (const uint8_t *)value.ptr;
    out->place.spilled = p[1] & ROW_SPILLED;
    out->place.at = get_u32(p + 4);
    out->place.epoch = get_u64(p + 8);
    out->place.length = get_u32(p + 16);
    out->envelope = str_from(value, MSG_FIXED);
}

static void state_unpack(struct str value, struct index_row *out)
{
    const uint8_t *p = (const uint8_t *)value.ptr;
    out->deferred = p[1] & ROW_DEFERRED;
    size_t dests = (size_t)(p[2] | p[3] << 8);
    out->flags = get_u32(p + 4);
    out->due_us = (int64_t)get_u64(p + 8);
    out->dests = str_head(str_from(value, STATE_FIXED), dests);
    out->states = str_from(value, STATE_FIXED + dests);
}

struct err *row_join(const struct index *x, uint64_t seq, struct str msg, struct str state,
                     struct index_row *out)
{
    if (!row_good(x, seq, MSG_SUM, msg) || !row_good(x, seq, STATE_SUM, state))
        return err_new(ERR_DAMAGED, 0, "index row of message %llx", (unsigned long long)seq);
    *out = (struct index_row){.seq = seq};
    msg_unpack(msg, out);
    state_unpack(state, out);
    return NULL;
}

struct err *row_state(const struct index *x, uint64_t seq, struct str state, struct index_row *out)
{
    if (!row_good(x, seq, STATE_SUM, state))
        return err_new(ERR_DAMAGED, 0, "index row of message %llx", (unsigned long long)seq);
    *out = (struct index_row){.seq = seq};
    state_unpack(state, out);
    return NULL;
}

struct err *row_read(const struct index *x, struct kv_txn *t, uint64_t seq, struct str msg,
                     struct index_row *out)
{
    struct str state = STR("");
    bool found = false;
    struct err *e = kv_get(t, x->state, key_of(&seq), &state, &found);
    return e != NULL ? e : row_join(x, seq, msg, state, out);
}

struct err *row_get(struct index *x, struct kv_txn *t, uint64_t seq, struct index_row *out,
                    bool *found_out)
{
    struct str msg;
    struct err *e = kv_get(t, x->msg, key_of(&seq), &msg, found_out);
    if (e == NULL && *found_out)
        e = row_read(x, t, seq, msg, out);
    if (e == NULL)
        index_looked(x, 2 * PAGE);
    return e;
}

/* So many bytes of the file it takes. */
size_t row_bytes(const struct index_row *row)
{
    size_t n = MSG_FIXED + row->envelope.len + STATE_FIXED + row->dests.len + row->states.len;
    return n + n / 4;
}

static void as_read(const struct index *x, struct index_row *row)
{
    row->envelope = str_from(buf_str(&x->row), MSG_FIXED);
    row->states = str_from(buf_str(&x->changing), STATE_FIXED + row->dests.len);
}

void row_pack_both(struct index *x, struct index_row *row)
{
    row_pack_msg(x, row);
    row_pack_state(x, row);
    as_read(x, row);
}

struct err *row_pack_part(struct index *x, const struct index_row *old, bool msg,
                          struct index_row *row)
{
    const struct part *p = row->part;
    row->envelope = old->envelope;
    if (msg)
        row_pack_msg(x, row);
    begin_state(x, row, p->counts[RCPT_DEFERRED] > 0);
    if (!envelope_change_states(old->states, p->total, buf_str(&p->changes), &x->changing))
        return err_new(ERR_DAMAGED, 0, "index row of message %llx", (unsigned long long)row->seq);
    row_sign(x, row->seq, STATE_SUM, &x->changing);
    as_read(x, row);
    return NULL;
}
