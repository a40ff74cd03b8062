/* Reading a message's content, from memory, from its record in the log, or from a file of its own,
 * with at most one piece of 64 KiB in memory. The sum is complete with the last piece, and is
 * checked before that piece is given out: an agent never sends the end of a damaged message. */
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/ring/ring.h"
#include "queue/store/private.h"

#include <fcntl.h>

struct content_reader {
    struct qmsg *m;
    struct content *content; /* in memory, or: */
    int fd;
    uint64_t pinned; /* epoch; 0 = none */
    uint64_t from;   /* where the content begins in the file */
    uint64_t size, at, sum, sum_so_far;
    char *piece;
};

static struct err *damaged(const struct content_reader *r, const char *what)
{
    return err_new(ERR_DAMAGED, 0, "%s: content is damaged: %s", r->m->id, what);
}

/* The record's head and fixed part say how long the envelope before the content is. */
static struct err *read_head(struct content_reader *r, const struct qmsg_place *place)
{
    uint8_t bytes[RECORD_HEAD + MESSAGE_FIXED];
    struct record_head head;
    struct message_body body;
    uint32_t envelope_len = 0;
    size_t got = 0;
    const struct store *s = message_of(r->m)->store;
    struct err *e = io_pread(r->fd, bytes, sizeof bytes, place->at, &got);
    if (e != NULL)
        return err_in(e, "%s", r->m->id);
    struct str all = str_make((const char *)bytes, got);
    if (got < sizeof bytes || !record_head_get(all, place->epoch, s->secret, &head) ||
        head.type != RECORD_MESSAGE || head.seq != r->m->seq)
        return damaged(r, "no such record");
    if (!message_unpack_fixed(str_from(all, RECORD_HEAD), &body, &envelope_len))
        return damaged(r, "record");
    uint64_t inside = body.bits & BODY_SPILLED ? 0 : body.content_size;
    if (MESSAGE_FIXED + envelope_len + inside != head.length)
        return damaged(r, "lengths");
    /* The sum of an empty content would fit a size that has become zero. */
    if (body.content_size != r->m->env->size)
        return damaged(r, "size");
    r->from = place->at + sizeof bytes + envelope_len;
    r->size = body.content_size;
    r->sum = body.content_sum;
    return NULL;
}

static struct err *open_spilled(struct content_reader *r, struct store *s)
{
    char name[24];
    int fd = -1;
    message_name(r->m->seq, name);
    struct err *e = io_openat(s->content_dir_fd, name, O_RDONLY, 0, &fd);
    if (e != NULL)
        return e->kind == ERR_NOTFOUND ? damaged(r, "its file is gone") : err_in(e, "%s", r->m->id);
    (void)io_close(r->fd);
    r->fd = fd;
    r->from = 0;
    return NULL;
}

/* Compaction may move the message, and free the segment it lay in, just before it is pinned. */
static bool pin_place(struct qmsg *m, struct qmsg_place *place, char name[SEGMENT_NAME_MAX])
{
    struct store *s = message_of(m)->store;
    while (!segment_pin(s, place->epoch, name)) {
        pthread_mutex_lock(&s->lock);
        struct qmsg_place now = m->place;
        pthread_mutex_unlock(&s->lock);
        if (now.epoch == place->epoch)
            return false;
        *place = now;
    }
    return true;
}

static struct err *open_place(struct content_reader *r, struct qmsg_place *place)
{
    struct store *s = message_of(r->m)->store;
    char name[SEGMENT_NAME_MAX];
    if (!pin_place(r->m, place, name))
        return damaged(r, "its log segment is gone");
    r->pinned = place->epoch;
    struct err *e = io_openat(s->log_dir_fd, name, O_RDONLY, 0, &r->fd);
    if (e != NULL && e->kind == ERR_NOTFOUND)
        return damaged(r, "its log segment is gone");
    if (e != NULL)
        return err_in(e, "%s", r->m->id);
    /* Read-ahead would fetch blocks behind the record that are about to be written past the cache.
     */
    (void)posix_fadvise(r->fd, 0, 0, POSIX_FADV_RANDOM);
    e = read_head(r, place);
    if (e == NULL && place->spilled)
        e = open_spilled(r, s);
    return e;
}

struct err *content_open(struct qmsg *m, struct content_reader **out)
{
    CHECK_MAGIC(m, MESSAGE_MAGIC);
    struct store *s = message_of(m)->store;
    struct content_reader *r = MEM_NEW(struct content_reader);
    r->m = qmsg_ref(m);
    r->fd = -1;
    pthread_mutex_lock(&s->lock);
    if (m->content != NULL)
        r->content = content_ref(m->content);
    struct qmsg_place place = m->place;
    pthread_mutex_unlock(&s->lock);
    if (r->content != NULL) {
        r->size = r->content->bytes.len;
    } else {
        struct err *e = open_place(r, &place);
        if (e != NULL) {
            content_close(r);
            return e;
        }
    }
    *out = r;
    return NULL;
}

struct err *content_next(struct content_reader *r, struct str *piece_out)
{
    uint64_t left = r->size - r->at;
    if (r->content != NULL) {
        *piece_out = str_from(buf_str(&r->content->bytes), r->at);
        r->at = r->size;
        return NULL;
    }
    if (left == 0) {
        *piece_out = STR("");
        return NULL;
    }
    size_t n = left < CONTENT_PIECE ? left : CONTENT_PIECE, got = 0;
    if (r->piece == NULL)
        r->piece = mem_alloc(r->size < CONTENT_PIECE ? r->size : CONTENT_PIECE);
    struct err *e = io_pread(r->fd, r->piece, n, r->from + r->at, &got);
    if (e != NULL)
        return err_in(e, "%s", r->m->id);
    if (got < n)
        return damaged(r, "it ends too early");
    struct str piece = str_make(r->piece, n);
    r->sum_so_far = content_sum_piece(piece, r->sum_so_far);
    r->at += n;
    if (r->at == r->size && r->sum_so_far != r->sum)
        return damaged(r, "checksum");
    *piece_out = piece;
    return NULL;
}

void content_rewind(struct content_reader *r)
{
    r->at = 0;
    r->sum_so_far = 0;
}

void content_close(struct content_reader *r)
{
    if (r == NULL)
        return;
    if (r->fd >= 0)
        (void)io_close(r->fd);
    if (r->pinned != 0)
        segment_unpin(message_of(r->m)->store, r->pinned);
    content_unref(r->content);
    qmsg_unref(r->m);
    mem_free(r->piece);
    mem_free(r);
}
