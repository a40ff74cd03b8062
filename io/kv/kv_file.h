/* What the database does to its file beside LMDB: room ahead, pages that stay small, memory that is given back.
 * Private to io/kv; LMDB is not known here. A descriptor of -1 makes each of them do nothing. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Disk blocks for `bytes` from offset `at`, without length. Fails in silence: without them it works as well,
 * until the disk is full. */
void kv_file_reserve(int fd, uint64_t at, size_t bytes);

/* Before the file grows beyond `end`: sees to it that the pages behind it come into the page cache one by one.
 * *looked_to is how far that was done, 0 at first. */
void kv_file_look_ahead(int fd, uint64_t end, uint64_t *looked_to);

/* Takes back the length that kv_file_look_ahead gave the file. */
void kv_file_look_back(int fd, uint64_t end);

/* Where this process has the file mapped from its first byte on, with at least so many bytes; NULL if nowhere. A part
 * that kv_file_look_ahead has mapped meanwhile, on another thread, is not taken for it. Reads /proc/self/maps. */
void *kv_file_map(int fd, size_t bytes);

/* Bytes of files that this process has in memory: the map and the program. SIZE_MAX if unknown. */
size_t kv_file_resident(void);
