#include "queue/store/corrupt.h"

#include "io/base/log.h"
#include "io/file/file.h"
#include "io/ring/ring.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

enum { READ_AT_ONCE = 1 << 20 };

static struct err *save(struct store *s, const char *name, struct str bytes)
{
    struct buf path = {0};
    buf_printf(&path, "%s/corrupt/%s", s->directory, name);
    struct err *e = file_replace(path.ptr, bytes, 0600);
    buf_fini(&path);
    if (e == NULL)
        atomic_fetch_add_explicit(&s->corrupt, 1, memory_order_relaxed);
    return e;
}

static void add_state(const struct store *s, uint64_t seq, uint64_t epoch, uint32_t flags,
                      int64_t due_us, const struct envelope *env, struct buf *out)
{
    struct buf first = {0};
    struct message_body body = {.bits = BODY_COPY | BODY_SPILLED,
                                .flags = flags,
                                .due_us = due_us,
                                .content_size = env->size};
    message_pack(&body, env, &first);
    struct record r = {.type = RECORD_MESSAGE, .seq = seq, .first = buf_str(&first)};
    record_sum(&r);
    size_t n = record_bytes(&r);
    uint8_t *to = (uint8_t *)buf_reserve(out, n);
    record_put(&r, to);
    record_seal(to, epoch, s->secret);
    out->len += n;
    buf_fini(&first);
}

void corrupt_save(struct store *s, const char *name, struct str bytes, const char *why)
{
    struct err *e = save(s, name, bytes);
    if (e != NULL)
        log_warning("queue", "corrupt/%s: %s: %zu bytes could not be set aside: %s", name, why,
                    bytes.len, e->text);
    else
        log_warning("queue", "corrupt/%s: %s: %zu bytes set aside", name, why, bytes.len);
}

/* --- a record that a scan found */

void corrupt_keep(struct store *s, uint64_t epoch, const struct scan_item *item,
                  char name_out[CORRUPT_NAME_MAX])
{
    struct arena *a = arena_new(0, 0);
    struct message_body body;
    struct envelope *env;
    struct buf bytes = {0};
    (void)snprintf(name_out, CORRUPT_NAME_MAX, "seg-%016" PRIx64 "-%08" PRIx32, epoch, item->at);
    if (message_unpack(&item->head, item->bytes, &body) &&
        envelope_unpack(body.envelope, a, &env) == NULL) {
        store_id(body.flags, env->arrival_us, item->head.seq, name_out);
        add_state(s, item->head.seq, epoch, body.flags, body.due_us, env, &bytes);
    }
    /* The head stands before what the scan calls the record's bytes. */
    buf_add(&bytes, item->bytes.ptr - RECORD_HEAD, RECORD_HEAD + item->bytes.len);
    struct err *e = save(s, name_out, buf_str(&bytes));
    if (e != NULL)
        log_warning("queue", "corrupt/%s: %zu bytes could not be set aside: %s", name_out, bytes.len,
                    e->text);
    buf_fini(&bytes);
    arena_free(a);
}

void corrupt_drop(struct store *s, const char *name)
{
    struct err *e = io_unlinkat(s->corrupt_dir_fd, name, 0);
    if (e != NULL && e->kind != ERR_NOTFOUND)
        log_warning("queue", "%s", e->text);
    atomic_fetch_sub_explicit(&s->corrupt, 1, memory_order_relaxed);
}

/* --- a message */

/* In pieces: a length that is wrong itself must not decide how much memory is taken. */
static struct err *add_record(struct store *s, const char *name, const struct qmsg_place *place,
                              struct buf *out)
{
    int fd = -1;
    size_t left = place->length, got = 1;
    uint64_t at = place->at;
    struct err *e = io_openat(s->log_dir_fd, name, O_RDONLY, 0, &fd);
    if (e != NULL)
        return e->kind == ERR_NOTFOUND ? NULL : e;
    while (e == NULL && left > 0 && got > 0) {
        size_t n = left < READ_AT_ONCE ? left : READ_AT_ONCE;
        e = io_pread(fd, buf_reserve(out, n), n, at, &got);
        if (e == NULL) {
            out->len += got;
            at += got;
            left -= got;
        }
    }
    (void)io_close(fd);
    return e;
}

/* The file itself, and its new name to stay before a start could take it for nobody's. */
static struct err *keep_spilled(struct store *s, const struct qmsg *m)
{
    struct buf to = {0};
    char from[24];
    message_name(m->seq, from);
    buf_printf(&to, "%s.content", m->id);
    struct err *e = io_renameat(s->content_dir_fd, from, s->corrupt_dir_fd, to.ptr);
    buf_fini(&to);
    if (e != NULL)
        return e->kind == ERR_NOTFOUND ? NULL : e;
    return io_fsync(s->corrupt_dir_fd, false);
}

static struct err *set_aside(struct store *s, const struct message *m, size_t *size_out)
{
    struct buf bytes = {0};
    char name[SEGMENT_NAME_MAX];
    struct qmsg_place place = m->pub.place; /* this is the thread that changes it */
    struct err *e = NULL;
    const struct envelope *env;
    struct arena *a;
    e = part_whole(&m->pub, &a, &env);
    if (e == NULL)
        add_state(s, m->pub.seq, place.epoch, m->flags, m->due_us, env, &bytes);
    arena_free(a);
    if (e != NULL)
        return e;
    size_t state = bytes.len;
    if (segment_pin(s, place.epoch, name)) {
        e = add_record(s, name, &place, &bytes);
        segment_unpin(s, place.epoch);
    }
    *size_out = bytes.len - state;
    if (e == NULL && place.spilled)
        e = keep_spilled(s, &m->pub);
    if (e == NULL)
        e = save(s, m->pub.id, buf_str(&bytes));
    buf_fini(&bytes);
    return e;
}

struct err *store_quarantine(struct qmsg *m, const char *why)
{
    struct store *s = message_of(m)->store;
    size_t size = 0;
    if (qmsg_removed(m))
        return NULL;
    fiber_shield_begin();
    struct err *e = set_aside(s, message_of(m), &size);
    if (e == NULL) {
        log_warning("queue", "corrupt/%s: %s: %zu bytes set aside", m->id, why, size);
        store_remove(m);
    }
    fiber_shield_end();
    return e != NULL ? err_in(e, "%s: %s, and it could not be set aside", m->id, why) : NULL;
}

/* The log is written past the page cache. Somebody who reads the files meanwhile, a backup say, may leave
 * old blocks there. */
static void forget_cached(struct qmsg *m)
{
    struct store *s = message_of(m)->store;
    char name[SEGMENT_NAME_MAX];
    int fd = -1;
    segment_name(m->place.epoch, name);
    if (io_openat(s->log_dir_fd, name, O_RDONLY, 0, &fd) == NULL) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        (void)io_close(fd);
    }
}

static struct err *read_through(struct qmsg *m)
{
    struct content_reader *r = NULL;
    struct str piece;
    struct err *e = content_open(m, &r);
    if (e != NULL)
        return e;
    do
        e = content_next(r, &piece);
    while (e == NULL && piece.len != 0);
    content_close(r);
    return e;
}

struct err *content_check(struct qmsg *m)
{
    struct err *e = read_through(m);
    if (e == NULL || e->kind != ERR_DAMAGED)
        return e;
    forget_cached(m);
    return read_through(m);
}
