/* core/smtp downgrade and wire, core/deliver lines: stored content on its way out. It comes in pieces, and how it was cut does
 * not show. */
#include "fuzz.h"
#include "core/deliver/lines.h"
#include "core/smtp/downgrade.h"
#include "core/smtp/wire.h"

enum way { DOWNGRADE, WIRE, WIRE_LIMIT, LINES, WAYS };

static void each(void *ctx, struct str text, bool starts, bool ends)
{
    struct buf *out = ctx;
    if (starts)
        buf_add_char(out, '>');
    buf_add_str(out, text);
    if (ends)
        buf_add_c(out, "<\n");
}

static void play(enum way way, struct str in, struct fuzz_rand *cuts, struct buf *out)
{
    struct downgrade *d = way == DOWNGRADE ? downgrade_new() : NULL;
    struct smtp_wire w;
    struct lines l;
    smtp_wire_begin(&w, way == WIRE_LIMIT ? 20 : 0);
    lines_begin(&l, each, out);
    while (in.len > 0) {
        struct str piece = str_head(in, cuts ? 1 + fuzz_below(cuts, 9) : in.len);
        in = str_from(in, piece.len);
        if (way == DOWNGRADE)
            downgrade_feed(d, piece, out);
        else if (way == LINES)
            lines_push(&l, piece);
        else
            smtp_wire_feed(&w, piece, out);
    }
    if (way == DOWNGRADE)
        downgrade_end(d, out);
    else if (way != LINES)
        smtp_wire_end(&w, out);
    lines_end(&l);
    downgrade_free(d);
}

/* Nothing within the content may look like its end. */
static void no_end_inside(struct str out)
{
    CHECK(!str_starts(out, STR(".\r\n")) && str_find(out, STR("\r\n.\r\n")) < 0);
    CHECK(out.len == 0 || str_ends(out, STR("\r\n")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size);
    struct fuzz_rand cuts = fuzz_rand_of(in, 1);
    for (int way = 0; way < WAYS; way++) {
        struct buf whole = {0}, cut = {0};
        play((enum way)way, in, NULL, &whole);
        play((enum way)way, in, &cuts, &cut);
        CHECK(str_eq(buf_str(&whole), buf_str(&cut)));
        if (way == WIRE || way == WIRE_LIMIT)
            no_end_inside(buf_str(&whole));
        buf_fini(&whole);
        buf_fini(&cut);
    }
    return 0;
}
