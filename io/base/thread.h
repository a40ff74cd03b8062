/* thread: how each thread of ours begins. */
#ifndef IO_BASE_THREAD_H
#define IO_BASE_THREAD_H

#include <pthread.h>

/* Signals are the main thread's, but for those that report this thread's own faults: blocked, these would end the process
 * without a word in the log. `name` has up to 15 bytes. 0, or pthread_create(3)'s error. */
int thread_start(pthread_t *out, const char *name, void *(*fn)(void *arg), void *arg);

#endif
