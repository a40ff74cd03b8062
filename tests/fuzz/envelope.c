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
    mark(a, in);
    message(in);
    if (size >= MESSAGE_FIXED)
        envelope(a, str_from(in, MESSAGE_FIXED));
    arena_free(a);
    return 0;
}
