#include "work.h"

#include "io/base/clock.h"
#include "io/fiber/fiber.h"

enum { PIECE = 3000 };

void work_rest(int64_t most_ms)
{
    int64_t ns = (int64_t)sim_below((uint64_t)most_ms * (uint64_t)NS_PER_MS + 1);
    struct err *e = fiber_sleep_until(clock_mono_ns() + ns);
    (void)e;
}

void work_content(struct buf *out, uint64_t x, size_t size)
{
    buf_reset(out);
    while (out->len < size) {
        x = x * 6364136223846793005U + 1442695040888963407U;
        buf_add(out, &x, size - out->len < 8 ? size - out->len : 8);
    }
}

struct err *work_write(struct draft *d, struct str content)
{
    struct err *e = NULL;
    for (size_t at = 0; e == NULL && at < content.len; at += PIECE)
        e = draft_write(d, str_head(str_from(content, at), PIECE));
    return e;
}
