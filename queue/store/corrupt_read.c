/* Looking at what was set aside (corrupt.c tells its form). */
#include "queue/store/corrupt.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/base/mem.h"
#include "io/ring/ring.h"

struct corrupt_reader {
    int fd;
    uint64_t at, left;
    char *piece;
};

static uint64_t size_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

static struct err *no_message(const char *name)
{
    return err_new(ERR_DAMAGED, 0, "corrupt/%s tells of no message", name);
}

/* The record in front, which is ours and whole. *behind_out: where the damaged one begins. */
static struct err *read_state(const struct store *s, int fd, const char *name, struct arena *a,
                              struct store_row *row_out, uint64_t *behind_out)
{
    uint8_t head[RECORD_HEAD];
    struct record_head h;
    struct message_body body;
    size_t got = 0;
    struct err *e = io_pread(fd, head, sizeof head, 0, &got);
    if (e != NULL)
        return e;
    if (got < sizeof head ||
        !record_head_get(str_make((const char *)head, got), get_u64(head + 16), s->secret, &h) ||
        h.type != RECORD_MESSAGE || h.length > size_of(fd))
        return no_message(name);
    char *bytes = arena_alloc(a, h.length);
    e = io_pread(fd, bytes, h.length, RECORD_HEAD, &got);
    if (e != NULL)
        return e;
    if (got < h.length || !message_unpack(&h, str_make(bytes, got), &body))
        return no_message(name);
    *row_out = (struct store_row){.seq = h.seq, .flags = body.flags, .due_us = body.due_us};
    *behind_out = record_span(head);
    return envelope_unpack(body.envelope, a, &row_out->env);
}

/* Its content ends the record, whatever stands before it. */
static void find_content(struct store *s, struct corrupt_reader *r, const char *name, uint64_t behind,
                         uint64_t size)
{
    char own[CORRUPT_NAME_MAX];
    int fd = -1;
    (void)snprintf(own, sizeof own, "%.40s.content", name);
    uint64_t whole = size_of(r->fd);
    if (io_openat(s->corrupt_dir_fd, own, O_RDONLY, 0, &fd) == NULL) {
        (void)io_close(r->fd);
        r->fd = fd;
        r->left = size_of(fd);
    } else if (whole >= behind + size) {
        r->at = whole - size;
        r->left = size;
    }
}

struct err *corrupt_open(struct store *s, struct str id, struct arena *a, struct store_row *row_out,
                         struct corrupt_reader **out, bool *found_out)
{
    char name[QUEUE_ID_MAX];
    int fd = -1;
    uint64_t behind = 0;
    *found_out = false;
    if (!queue_id_parse(id, NULL, NULL)) /* or it could be any path */
        return NULL;
    str_copy(name, sizeof name, id);
    struct err *e = io_openat(s->corrupt_dir_fd, name, O_RDONLY, 0, &fd);
    if (e != NULL)
        return e->kind == ERR_NOTFOUND ? NULL : e;
    e = read_state(s, fd, name, a, row_out, &behind);
    if (e != NULL) {
        (void)io_close(fd);
        return e;
    }
    struct corrupt_reader *r = MEM_NEW(struct corrupt_reader);
    r->fd = fd;
    find_content(s, r, name, behind, row_out->env->size);
    *out = r;
    *found_out = true;
    return NULL;
}

struct err *corrupt_next(struct corrupt_reader *r, struct str *piece_out)
{
    size_t n = r->left < CONTENT_PIECE ? r->left : CONTENT_PIECE, got = 0;
    if (r->piece == NULL)
        r->piece = mem_alloc(CONTENT_PIECE);
    struct err *e = n > 0 ? io_pread(r->fd, r->piece, n, r->at, &got) : NULL;
    if (e != NULL)
        return e;
    r->at += got;
    r->left = got < n ? 0 : r->left - got;
    *piece_out = str_make(r->piece, got);
    return NULL;
}

void corrupt_close(struct corrupt_reader *r)
{
    (void)io_close(r->fd);
    mem_free(r->piece);
    mem_free(r);
}
