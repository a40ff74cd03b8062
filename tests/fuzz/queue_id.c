/* queue_id: names people type. What is one has the number and microseconds it was made of. */
#include "fuzz.h"
#include "io/base/buf.h"
#include "queue/queue_id.h"

static void made_of(bool long_ids, int64_t arrival_us, uint64_t seq)
{
    char text[QUEUE_ID_MAX];
    uint64_t back = 0;
    uint32_t usec = 0;
    queue_id_format(long_ids, arrival_us, seq, text);
    CHECK(strlen(text) < QUEUE_ID_MAX);
    CHECK(queue_id_parse(str_of(text), &back, &usec));
    CHECK(back == seq && usec == (uint32_t)(arrival_us % 1000000));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size), rest = in, line;
    struct fuzz_rand r = fuzz_rand_of(in, 1);
    uint64_t seq = fuzz_next(&r) >> (1 + fuzz_below(&r, 60));
    for (int form = 0; form < 2; form++)
        made_of(form, (int64_t)(fuzz_next(&r) >> 8), seq + 1);
    while (fuzz_line(&rest, &line)) {
        uint64_t n = 77;
        uint32_t usec = 77;
        if (queue_id_parse(line, &n, &usec))
            CHECK(usec < 1000000 && line.len < QUEUE_ID_MAX);
        else
            CHECK(n == 77 && usec == 77);
    }
    return 0;
}
