/* offload: a small pool of plain threads for libraries that block (NSS, sqlite, mysql, ldap) and
 * for file work that io_uring of Linux 6.1 cannot do. The calling fiber parks. */
#ifndef IO_FIBER_OFFLOAD_H
#define IO_FIBER_OFFLOAD_H

#include "io/base/err.h"

struct err *offload_start(unsigned threads) MUST_USE; /* once per process; 0 = 4 */
void offload_stop(void);
/* Run fn(arg) on the pool and wait (yields, not cancelable). Outside a fiber it just calls fn. */
void offload(void (*fn)(void *arg), void *arg);

/* A thread of one's own, for what must not wait behind the pool's jobs. name: as ps shows it, 15 bytes. */
struct offload_thread;
struct err *offload_thread_start(const char *name, struct offload_thread **out) MUST_USE;
void offload_thread_stop(struct offload_thread *t); /* nobody waits for it any more; NULL is fine */
/* As offload, one after the other in the order of the calls. t NULL: just calls fn. */
void offload_to(struct offload_thread *t, void (*fn)(void *arg), void *arg);

#endif
