/* check: bugs. CHECK stays on in release: it logs "panic: file:line: ..." with a trace, then aborts;
 * the supervisor starts the engine again and the log is replayed. Never for bad input. */
#ifndef IO_BASE_CHECK_H
#define IO_BASE_CHECK_H

#include <stdint.h>

_Noreturn void check_failed(const char *file, int line, const char *what);

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            check_failed(__FILE__, __LINE__, #cond);                                               \
    } while (0)
#define UNREACHABLE() check_failed(__FILE__, __LINE__, "unreachable")

/* Objects that cross threads carry a magic number as their first member. */
#define CHECK_MAGIC(obj, value) CHECK((obj) != NULL && (obj)->magic == (value))

/* At start, in main: crash signals print a trace to stderr and the log. */
void check_install_handlers(void);
/* In each thread that should report a stack overflow (the signal stack is a thread's own; main's is
 * set by the above). Mapped for the life of the process. */
void check_alt_stack(void);

#endif
