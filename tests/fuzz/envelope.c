/* queue: packed envelopes and the bodies of log records, as a damaged disk may give them back. What can be read is written and
 * read again the same. */
#include "fuzz.h"
#include "io/base/hash.h"
#include "queue/store/record.h"

static void envelope(struct arena *a, struct str in)
{
    struct envelope *e = NULL, *again = NULL;
    if (envelope_unpack(in, a, &e))
        return;
    struct buf once = {0}, twice = {0};
    envelope_pack(e, &once);
    CHECK(!envelope_unpack(buf_str(&once), a, &again));
    envelope_pack(envelope_copy(again, a), &twice);
    CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    (void)envelope_attr(e, "log_client_name");
    for (size_t i = 0; i < e->rcpt_count; i++)
        CHECK(e->rcpts[i].state <= RCPT_NOTIFIED);
    buf_fini(&once);
    buf_fini(&twice);
}

static void halves(struct arena *a, struct str fixed, struct str states)
{
    struct envelope *e = NULL, *again = NULL;
    struct envelope_view v;
    enum rcpt_state state;
    struct str address;
    if (envelope_look(fixed, states, &v)) {
        while (envelope_next_rcpt(&v, &state, &address))
            CHECK(state <= RCPT_NOTIFIED && fuzz_inside(address, fixed));
    }
    if (envelope_unpack_halves(fixed, states, a, &e))
        return;
    struct buf one = {0}, two = {0}, whole = {0}, back = {0};
    envelope_pack(e, &whole);
    envelope_pack_fixed(e, &one);
    envelope_pack_states(e, &two);
    CHECK(!envelope_unpack_halves(buf_str(&one), buf_str(&two), a, &again));
    envelope_pack(again, &back);
    CHECK(str_eq(buf_str(&whole), buf_str(&back)));
    struct buf *const all[] = {&one, &two, &whole, &back};
    for (size_t i = 0; i < 4; i++)
        buf_fini(all[i]);
}

static void mark(struct arena *a, struct str in)
{
    struct mark k, again;
    if (!mark_unpack(in, a, &k))
        return;
    struct buf once = {0}, twice = {0};
    mark_pack(&k, &once);
    CHECK(mark_unpack(buf_str(&once), a, &again));
    mark_pack(&again, &twice);
    CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    struct rcpt rcpts[2] = {{.address = STR("a@b")}, {.address = STR("c@d")}};
    struct envelope env = {.rcpts = rcpts, .rcpt_count = 2};
    mark_apply(&k, &env, a);
    buf_fini(&once);
    buf_fini(&twice);
}

/* The sum says that the bytes are whole; what they say may still be nonsense. */
static void message(struct str in)
{
    struct message_body b;
    uint32_t envelope_len = 0;
    if (!message_unpack_fixed(in, &b, &envelope_len))
        return;
    size_t first = (size_t)MESSAGE_FIXED + envelope_len;
    struct record_head head = {.type = RECORD_MESSAGE, .length = (uint32_t)in.len};
    head.body_sum = hash_sum(in.ptr, first < in.len ? first : in.len, 0);
    if (message_unpack(&head, in, &b))
        CHECK(fuzz_inside(b.envelope, in) && fuzz_inside(b.content, in));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size);
    struct arena *a = arena_new(0, 0);
    envelope(a, in);
    size_t at = size > 0 ? data[size - 1] : 0;
    if (at < size)
        halves(a, str_from(in, at), str_head(in, at));
    mark(a, in);
    message(in);
    if (size >= MESSAGE_FIXED)
        envelope(a, str_from(in, MESSAGE_FIXED));
    arena_free(a);
    return 0;
}
