/* queue_reader: the records of a queue file, one after the other, through a window. For queue_file.c. */
#ifndef CORE_IMPORT_QUEUE_READER_H
#define CORE_IMPORT_QUEUE_READER_H

#include "core/import/queue_file.h"

enum { QUEUE_WINDOW = 64 * 1024 }; /* no record of an envelope is longer */

struct queue_reader {
    const struct queue_file_source *src;
    char *window;
    uint64_t window_at;
    size_t window_len;
    uint64_t walked; /* bytes of records so far */
    /* --- the record */
    uint64_t at;      /* where it begins */
    char type;
    uint64_t data_at; /* what is left of its data, and how much */
    uint64_t left;
};

void queue_reader_init(struct queue_reader *r, const struct queue_file_source *src, uint64_t at);
void queue_reader_fini(struct queue_reader *r);
/* The next record; pointers are followed, padding is passed over. ERR_DAMAGED. */
struct err *queue_reader_next(struct queue_reader *r) MUST_USE;
/* All data of the record; good until the next call. */
struct err *queue_reader_text(struct queue_reader *r, struct str *out) MUST_USE;
/* The next part of its data; empty at its end. */
struct err *queue_reader_piece(struct queue_reader *r, struct str *out) MUST_USE;
struct err *queue_reader_damaged(const struct queue_reader *r, const char *what) MUST_USE;

#endif
