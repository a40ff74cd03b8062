/* core/import: message files and recipient logs that somebody else wrote, on somebody else's disk. However reads cut the bytes, what is
 * read is the same; content has the size that was said; nothing that could end a line or a command hides in an address. */
#include "core/import/ledger.h"
#include "core/import/queue_log.h"
#include "fuzz.h"
#include "io/base/buf.h"

struct memory {
    struct str bytes;
    size_t step;
};

static struct err *memory_read(void *ctx, uint64_t at, char *bytes, size_t n, size_t *n_out)
{
    const struct memory *m = ctx;
    CHECK(at <= m->bytes.len + 16);
    struct str part = str_head(str_head(str_from(m->bytes, (size_t)at), n), m->step);
    if (part.len > 0)
        memcpy(bytes, part.ptr, part.len);
    *n_out = part.len;
    return NULL;
}

static struct err *add_piece(void *ctx, struct str text, bool ends)
{
    struct buf *out = ctx;
    char *to = buf_reserve(out, text.len + 2);
    if (text.len > 0)
        memcpy(to, text.ptr, text.len);
    queue_file_mask(to, text.len, true);
    out->len += text.len;
    if (ends)
        buf_add_c(out, "\r\n");
    return NULL;
}

static void check_address(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        CHECK((unsigned char)s.ptr[i] >= ' ' && s.ptr[i] != 127);
}

static void check_content(struct str wire)
{
    CHECK(wire.len == 0 || str_ends(wire, STR("\r\n")));
    for (size_t i = 0; i < wire.len; i++) {
        CHECK(wire.ptr[i] != '\n' || (i > 0 && wire.ptr[i - 1] == '\r'));
        CHECK(wire.ptr[i] != '\r' || wire.ptr[i + 1] == '\n');
    }
}

/* What was read, in bytes that can be compared. False: it cannot be read. */
static bool read_file(struct str in, size_t step, struct buf *out)
{
    struct memory m = {in, step};
    struct queue_file_source src = {.read = memory_read, .ctx = &m, .size = in.len};
    struct queue_file f;
    struct arena *a = arena_new(0, 0);
    struct buf content = {0};
    struct err *e = queue_file_read(&src, a, &f);
    if (!e) {
        CHECK(!queue_file_content(&src, &f, add_piece, &content));
        CHECK(content.len == f.env.size);
        check_content(buf_str(&content));
        check_address(f.env.sender);
        /* The file is its own log: whatever it says of its recipients. */
        queue_log_apply(in, RCPT_DEFERRED, &f, a);
        queue_log_apply(in, RCPT_BOUNCED, &f, a);
        for (size_t i = 0; i < f.env.rcpt_count; i++) {
            const struct rcpt *r = &f.env.rcpts[i];
            CHECK(r->address.len > 0 && f.rcpt_at[i] < in.len && r->state <= RCPT_BOUNCED);
            check_address(r->address);
            check_address(r->original);
            check_address(r->orcpt);
            check_address(r->why.text);
        }
        struct envelope *again = NULL;
        envelope_pack(&f.env, out);
        CHECK(!envelope_unpack(buf_str(out), a, &again));
        buf_add_str(out, buf_str(&content));
    }
    buf_fini(&content);
    arena_free(a);
    return !e;
}

static void log_alone(struct str in)
{
    struct arena *a = arena_new(0, 0);
    struct rcpt rcpts[2] = {{.address = STR("b@dest.example")}, {.address = STR("d@dest.example")}};
    uint64_t at[2] = {668, 816};
    struct queue_file f = {.env = {.rcpts = rcpts, .rcpt_count = 2}, .rcpt_at = at};
    queue_log_apply(in, RCPT_DEFERRED, &f, a);
    for (size_t i = 0; i < 2; i++) {
        check_address(rcpts[i].why.text);
        check_address(rcpts[i].why.diagnostic);
        CHECK(strlen(rcpts[i].why.status) < sizeof(rcpts[i].why.status));
    }
    char path[64];
    for (unsigned depth = 0; depth < 8; depth++)
        if (queue_log_path(in, depth, path, sizeof(path)))
            CHECK(!strstr(path, "..") && strlen(path) == 2 * depth + in.len);
    struct str lines = in, origin, id;
    while (ledger_line(&lines, &origin, &id))
        CHECK(fuzz_inside(origin, in) && fuzz_inside(id, in));
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size);
    struct buf once = {0}, twice = {0};
    bool whole = read_file(in, SIZE_MAX, &once);
    CHECK(read_file(in, 1 + fuzz_rand_of(in, 1).state % 97, &twice) == whole);
    CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    log_alone(in);
    buf_fini(&once);
    buf_fini(&twice);
    return 0;
}
