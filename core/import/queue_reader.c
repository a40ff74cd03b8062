#include "core/import/queue_reader.h"

#include "io/base/mem.h"

enum { LENGTH_BYTES_MAX = 5 };

void queue_reader_init(struct queue_reader *r, const struct queue_file_source *src, uint64_t at)
{
    *r = (struct queue_reader){.src = src, .window = mem_alloc(QUEUE_WINDOW), .data_at = at};
}

void queue_reader_fini(struct queue_reader *r)
{
    mem_free(r->window);
}

struct err *queue_reader_damaged(const struct queue_reader *r, const char *what)
{
    return err_new(ERR_DAMAGED, 0, "%s at byte %llu", what, (unsigned long long)r->at);
}

/* n bytes at `at`, less only at the end of the file. n <= QUEUE_WINDOW. */
static struct err *look(struct queue_reader *r, uint64_t at, size_t n, struct str *out)
{
    if (at < r->window_at || at + n > r->window_at + r->window_len) {
        size_t got = 0, part = 1;
        while (got < QUEUE_WINDOW && part > 0) {
            part = 0;
            struct err *e = r->src->read(r->src->ctx, at + got, r->window + got, QUEUE_WINDOW - got, &part);
            if (e)
                return e;
            got += part;
        }
        r->window_at = at;
        r->window_len = got;
    }
    *out = str_head(str_make(r->window + (at - r->window_at), r->window_len - (size_t)(at - r->window_at)), n);
    return NULL;
}

static struct err *read_head(struct queue_reader *r)
{
    struct str head;
    uint64_t length = 0;
    r->at = r->data_at + r->left;
    struct err *e = look(r, r->at, 1 + LENGTH_BYTES_MAX, &head);
    if (e)
        return e;
    if (head.len == 0)
        return queue_reader_damaged(r, "the file ends without an end record");
    size_t i = 1;
    for (;; i++) {
        if (i == 1 + LENGTH_BYTES_MAX)
            return queue_reader_damaged(r, "a record's length is no number");
        if (i >= head.len)
            return queue_reader_damaged(r, "the file ends in a record");
        uint64_t bits = (unsigned char)head.ptr[i] & 0x7fU;
        length |= bits << (7 * (i - 1));
        if (((unsigned char)head.ptr[i] & 0x80U) == 0)
            break;
    }
    r->type = head.ptr[0];
    r->data_at = r->at + i + 1;
    r->left = length;
    if (r->src->size < r->data_at || length > r->src->size - r->data_at)
        return queue_reader_damaged(r, "the file ends in a record");
    r->walked += i + 1 + length;
    return r->walked > r->src->size ? queue_reader_damaged(r, "records are read twice") : NULL;
}

static struct err *follow(struct queue_reader *r)
{
    struct str text;
    uint64_t to = 0;
    struct err *e = queue_reader_text(r, &text);
    if (e)
        return e;
    if (!str_u64(str_trim(text), &to) || to >= r->src->size)
        return queue_reader_damaged(r, "a pointer leads nowhere");
    if (to > 0) {
        r->data_at = to;
        r->left = 0;
    }
    return NULL;
}

struct err *queue_reader_next(struct queue_reader *r)
{
    for (;;) {
        struct err *e = read_head(r);
        if (!e && r->type == 'p')
            e = follow(r);
        else if (!e && r->type != 'w')
            return NULL;
        if (e)
            return e;
    }
}

struct err *queue_reader_text(struct queue_reader *r, struct str *out)
{
    if (r->left > QUEUE_WINDOW)
        return queue_reader_damaged(r, "a record is too long");
    struct err *e = look(r, r->data_at, (size_t)r->left, out);
    if (!e && out->len < r->left)
        e = queue_reader_damaged(r, "the file ends in a record");
    return e;
}

struct err *queue_reader_piece(struct queue_reader *r, struct str *out)
{
    size_t n = r->left < QUEUE_WINDOW ? (size_t)r->left : QUEUE_WINDOW;
    *out = STR("");
    if (n == 0)
        return NULL;
    /* What the window holds is good enough: a piece need not be whole. */
    if (r->data_at >= r->window_at && r->data_at < r->window_at + r->window_len &&
        n > r->window_at + r->window_len - r->data_at)
        n = (size_t)(r->window_at + r->window_len - r->data_at);
    struct err *e = look(r, r->data_at, n, out);
    if (!e && out->len == 0)
        e = queue_reader_damaged(r, "the file ends in a record");
    if (e)
        return e;
    r->data_at += out->len;
    r->left -= out->len;
    return NULL;
}
