/* verify_pipe: what the processes of a check tell each other: structs, whole, through a pipe. */
#ifndef QUEUE_STORE_VERIFY_PIPE_H
#define QUEUE_STORE_VERIFY_PIPE_H

#include <stdbool.h>
#include <stddef.h>

/* Blocks. False: the other end is gone. */
bool verify_put(int fd, const void *from, size_t n);
bool verify_get(int fd, void *to, size_t n);

#endif
