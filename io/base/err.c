#include "io/base/err.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/base/check.h"
#include "io/base/mem.h"

/* A ring of ERR_RESERVE errors, allocated when the first error is made and kept in the slot. The
 * slot belongs to whoever runs: io/fiber puts a fiber's reserve there while that fiber runs (NULL
 * until its first error) and frees it at the fiber's end. A thread's own is freed at the thread's
 * end, when no fiber runs on it any more, by a thread-specific destructor that looks at the slot.
 */
struct err_reserve {
    unsigned next;
    struct err errors[ERR_RESERVE];
};

static _Thread_local struct err_reserve *slot;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void thread_ends(void *unused)
{
    (void)unused;
    err_reserve_free(slot);
    slot = NULL;
}

static void make_key(void)
{
    CHECK(pthread_key_create(&key, thread_ends) == 0);
}

struct err_reserve **err_reserve_slot(void)
{
    return &slot;
}

void err_reserve_free(struct err_reserve *reserve)
{
    mem_free(reserve);
}

void err_forget_all(void)
{
    err_reserve_free(slot);
    slot = NULL;
}

static struct err *take(const char *file, int line, enum err_kind kind, int code)
{
    if (!slot) {
        slot = mem_alloc(sizeof *slot);
        slot->next = 0;
        (void)pthread_once(&key_once, make_key);
        CHECK(pthread_setspecific(key, &slot) == 0);
    }
    struct err *e = &slot->errors[slot->next++ % ERR_RESERVE];
    e->kind = kind;
    e->code = code;
    e->file = file;
    e->line = line;
    return e;
}

/* Arguments may point into older errors of the reserve, so the text is made aside first. */
struct err *err_make(const char *file, int line, enum err_kind kind, int code, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct err *e = take(file, line, kind, code);
    memcpy(e->text, text, sizeof text);
    return e;
}

static enum err_kind kind_of(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return ERR_FULL;
    case ECANCELED:
        return ERR_CANCELED;
    case ETIME:
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ENOENT:
        return ERR_NOTFOUND;
    case EPERM:
    case EACCES:
        return ERR_REFUSED;
    case ECONNRESET:
    case EPIPE:
        return ERR_CLOSED;
    default:
        return ERR_IO;
    }
}

struct err *err_make_errno(const char *file, int line, int number, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX], reason[128];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    /* The GNU strerror_r returns the text, which may or may not be the buffer. */
    const char *why = strerror_r(number, reason, sizeof reason);
    struct err *e = take(file, line, kind_of(number), number);
    size_t n = str_copy(e->text, sizeof e->text, str_of(text));
    n += str_copy(e->text + n, sizeof e->text - n, STR(": "));
    (void)str_copy(e->text + n, sizeof e->text - n, str_of(why));
    return e;
}

struct err *err_in(struct err *e, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    len += str_copy(text + len, sizeof text - len, STR(": "));
    (void)str_copy(text + len, sizeof text - len, str_of(e->text));
    memcpy(e->text, text, sizeof text);
    return e;
}
