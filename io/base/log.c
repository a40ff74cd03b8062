/* Lines travel from any thread to the logger thread through a list of chunks under one short lock:
 * a line is formatted before the lock and copied under it. The logger takes the whole list at once.
 * It sleeps only when the list is empty, and only then does a caller pay for a wake-up; after each
 * batch it naps for a moment, so that a busy server makes few, large writes. */
#include "io/base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "io/base/check.h"
#include "io/base/clock.h"
#include "io/base/format.h"
#include "io/base/log_sink.h"
#include "io/base/mem.h"
#include "io/base/metric.h"
#include "io/base/thread.h"

#define QUEUE_LINES_MAX 65536U
#define CHUNK_BYTES     (64U * 1024U)
#define SPARE_CHUNKS    4U
#define TAG_MAX         127U
#define NAP_NS          (2 * NS_PER_MS)
#define PANIC_POLLS     100
#define PANIC_POLL_NS   (10 * NS_PER_MS)
#define PANIC_TAG       "ringpost"

struct line {
    int64_t wall_s;
    uint16_t text_len;
    uint8_t tag_len;
    uint8_t level;
    char bytes[]; /* tag, then text */
};

#define LINE_HEAD offsetof(struct line, bytes)

struct chunk {
    struct chunk *next;
    size_t used;
    _Alignas(struct line) char data[CHUNK_BYTES];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct chunk *first, *last, *spare;
    size_t spares, lines, lines_max, dropped;
    bool sleeping, stopping, reopen;
    pthread_t thread;
    /* Set while the logger runs; the rest is written before it and read after it. */
    _Atomic bool running;
    _Atomic uint64_t put, done; /* lines, for log_panic */
    char *file, *name, *host;
    int facility;
    bool also_stderr;
    struct log_sink sink;
} lq = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;
static _Thread_local bool is_logger;

static void new_lock(void)
{
    pthread_condattr_t attr;
    CHECK(pthread_mutex_init(&lq.lock, NULL) == 0);
    CHECK(pthread_condattr_init(&attr) == 0);
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&lq.wake, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
}

/* The child has no logger thread, and the lock may have been held by a thread it has not. What
 * waited is the parent's to write. */
static void in_child(void)
{
    atomic_store(&lq.running, false);
    atomic_store(&lq.put, 0);
    atomic_store(&lq.done, 0);
    lq.first = lq.last = lq.spare = NULL;
    lq.spares = lq.lines = lq.dropped = 0;
    lq.sleeping = lq.stopping = lq.reopen = false;
    if (lq.sink.fd > 0)
        (void)close(lq.sink.fd);
    lq.sink = (struct log_sink){.fd = -1};
    new_lock();
}

static void hooks(void)
{
    new_lock();
    (void)pthread_atfork(NULL, NULL, in_child);
}

static size_t line_bytes(const struct line *l)
{
    size_t n = LINE_HEAD + l->tag_len + l->text_len;
    return (n + _Alignof(struct line) - 1) & ~(_Alignof(struct line) - 1);
}

static void write_chunk(struct chunk *c)
{
    uint64_t count = 0;
    for (size_t at = 0; at < c->used; count++) {
        const struct line *l = (const struct line *)(const void *)(c->data + at);
        log_sink_put(&lq.sink, l->wall_s, l->level, str_make(l->bytes, l->tag_len),
                     str_make(l->bytes + l->tag_len, l->text_len));
        at += line_bytes(l);
    }
    log_sink_flush(&lq.sink);
    (void)atomic_fetch_add(&lq.done, count);
}

static void report_dropped(size_t dropped)
{
    char text[160];
    int n =
        snprintf(text, sizeof text, "%zu log lines dropped: the log could not keep up", dropped);
    log_sink_put(&lq.sink, clock_wall_us() / US_PER_S, LOG_LEVEL_WARNING, str_of(lq.name),
                 str_make(text, (size_t)n));
    log_sink_flush(&lq.sink);
}

/* With the lock held. */
static void give_chunk(struct chunk *c)
{
    if (lq.spares == SPARE_CHUNKS) {
        mem_free(c);
        return;
    }
    c->next = lq.spare;
    lq.spare = c;
    lq.spares++;
}

static struct chunk *take_chunk(void)
{
    struct chunk *c = lq.spare;
    if (c) {
        lq.spare = c->next;
        lq.spares--;
    } else {
        c = mem_alloc(sizeof *c);
    }
    c->next = NULL;
    c->used = 0;
    return c;
}

static void write_batch(void)
{
    struct chunk *batch = lq.first;
    size_t dropped = lq.dropped;
    bool reopen = lq.reopen;
    lq.first = lq.last = NULL;
    lq.lines = lq.dropped = 0;
    lq.reopen = false;
    (void)pthread_mutex_unlock(&lq.lock);
    if (reopen)
        log_sink_reopen(&lq.sink);
    for (struct chunk *c = batch; c; c = c->next)
        write_chunk(c);
    if (dropped)
        report_dropped(dropped);
    (void)pthread_mutex_lock(&lq.lock);
    while (batch) {
        struct chunk *next = batch->next;
        give_chunk(batch);
        batch = next;
    }
}

static void nap(void)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += NAP_NS;
    if (until.tv_nsec >= NS_PER_S) {
        until.tv_nsec -= NS_PER_S;
        until.tv_sec++;
    }
    while (!lq.stopping && pthread_cond_timedwait(&lq.wake, &lq.lock, &until) == 0) {
    }
}

static void *logger(void *unused)
{
    (void)unused;
    is_logger = true;
    check_alt_stack();
    (void)pthread_mutex_lock(&lq.lock);
    for (;;) {
        if (lq.first || lq.reopen || lq.dropped) {
            write_batch();
            nap();
        } else if (lq.stopping) {
            break;
        } else {
            lq.sleeping = true;
            (void)pthread_cond_wait(&lq.wake, &lq.lock);
            lq.sleeping = false;
        }
    }
    (void)pthread_mutex_unlock(&lq.lock);
    return NULL;
}

static void keep_options(const struct log_options *options)
{
    mem_free(lq.file);
    mem_free(lq.name);
    mem_free(lq.host);
    lq.file = mem_strdup(options->file ? options->file : "");
    lq.name = mem_strdup(options->syslog_name ? options->syslog_name : "postfix");
    lq.host = mem_strdup(options->host ? options->host : "");
    lq.facility = options->facility;
    lq.also_stderr = options->also_stderr;
    lq.lines_max = options->queue_max ? options->queue_max : QUEUE_LINES_MAX;
}

struct err *log_start(const struct log_options *options)
{
    (void)pthread_once(&hooks_once, hooks);
    log_stop();
    if (options)
        keep_options(options);
    CHECK(lq.file != NULL);
    struct err *e = log_sink_open(&lq.sink, lq.file, lq.host, lq.facility);
    if (e)
        return e;
    lq.stopping = false;
    int number = thread_start(&lq.thread, "logger", logger, NULL);
    if (number) {
        log_sink_close(&lq.sink);
        return err_errno(number, "start the logger thread");
    }
    atomic_store(&lq.running, true);
    return NULL;
}

void log_stop(void)
{
    if (!atomic_exchange(&lq.running, false))
        return;
    (void)pthread_mutex_lock(&lq.lock);
    lq.stopping = true;
    (void)pthread_cond_signal(&lq.wake);
    (void)pthread_mutex_unlock(&lq.lock);
    (void)pthread_join(lq.thread, NULL);
    log_sink_close(&lq.sink);
    while (lq.spare)
        mem_free(take_chunk());
}

void log_reopen(void)
{
    if (!atomic_load(&lq.running))
        return;
    (void)pthread_mutex_lock(&lq.lock);
    lq.reopen = true;
    (void)pthread_cond_signal(&lq.wake);
    (void)pthread_mutex_unlock(&lq.lock);
}

static size_t make_tag(char *tag, const char *service)
{
    size_t n = 0;
    const char *name = lq.name ? lq.name : "postfix";
    if (!strchr(service, '/')) {
        n = str_copy(tag, TAG_MAX, str_of(name));
        n += str_copy(tag + n, TAG_MAX + 1 - n, STR("/"));
    }
    return n + str_copy(tag + n, TAG_MAX + 1 - n, str_of(service));
}

/* False when the logger is going away and will not see it. */
static bool queue_line(enum log_level level, const char *service, struct str text)
{
    char tag[TAG_MAX + 1];
    struct line head = {.wall_s = clock_wall_s(),
                        .text_len = (uint16_t)text.len,
                        .tag_len = (uint8_t)make_tag(tag, service),
                        .level = (uint8_t)level};
    size_t size = line_bytes(&head);
    bool dropped = true, wake = false;
    (void)pthread_mutex_lock(&lq.lock);
    if (lq.stopping) {
        (void)pthread_mutex_unlock(&lq.lock);
        return false;
    }
    if (lq.lines < lq.lines_max) {
        if (!lq.last || CHUNK_BYTES - lq.last->used < size) {
            struct chunk *c = take_chunk();
            *(lq.last ? &lq.last->next : &lq.first) = c;
            lq.last = c;
        }
        char *at = lq.last->data + lq.last->used;
        memcpy(at, &head, LINE_HEAD);
        memcpy(at + LINE_HEAD, tag, head.tag_len);
        memcpy(at + LINE_HEAD + head.tag_len, text.ptr, text.len);
        lq.last->used += size;
        lq.lines++;
        (void)atomic_fetch_add_explicit(&lq.put, 1, memory_order_relaxed);
        dropped = false;
    } else {
        lq.dropped++;
    }
    if (lq.sleeping) {
        lq.sleeping = false;
        wake = true;
    }
    (void)pthread_mutex_unlock(&lq.lock);
    if (wake)
        (void)pthread_cond_signal(&lq.wake);
    if (dropped)
        metric_add(METRIC_log_dropped_lines, 1);
    return true;
}

/* As Postfix's commands speak: "postmap: fatal: open /etc/aliases: ...". */
static void print_line(enum log_level level, const char *service, struct str text)
{
    char line[LOG_LINE_MAX + TAG_MAX + 32];
    const char *slash = strrchr(service, '/');
    int n = snprintf(line, sizeof line, "%.*s: %s%.*s", (int)TAG_MAX, slash ? slash + 1 : service,
                     log_level_label(level), STR_ARG(text));
    size_t len = n < 0 ? 0 : (size_t)n;
    log_printable(line, len);
    line[len++] = '\n';
    for (size_t done = 0; done < len;) {
        ssize_t wrote = write(STDERR_FILENO, line + done, len - done);
        if (wrote <= 0 && errno != EINTR)
            break;
        done += wrote > 0 ? (size_t)wrote : 0;
    }
}

void log_vat(enum log_level level, const char *service, const char *fmt, va_list ap)
{
    static _Thread_local char text[LOG_LINE_MAX + 1];
    int saved = errno;
    size_t n = text_format(text, sizeof text, fmt, ap);
    size_t len = n < sizeof text ? n : sizeof text - 1;
    bool running = atomic_load_explicit(&lq.running, memory_order_acquire);
    if (running)
        running = queue_line(level, service, str_make(text, len));
    if (!running || (lq.also_stderr && level > LOG_LEVEL_INFO))
        print_line(level, service, str_make(text, len));
    errno = saved;
}

void log_at(enum log_level level, const char *service, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_vat(level, service, fmt, ap);
    va_end(ap);
}

void log_panic(const char *text)
{
    static const struct timespec poll = {.tv_nsec = PANIC_POLL_NS};
    print_line(LOG_LEVEL_PANIC, PANIC_TAG, str_head(str_of(text), LOG_LINE_MAX));
    if (!atomic_load(&lq.running))
        return;
    for (int i = 0; !is_logger && i < PANIC_POLLS; i++) {
        if (atomic_load(&lq.done) >= atomic_load(&lq.put))
            break;
        (void)nanosleep(&poll, NULL);
    }
    char tag[TAG_MAX + 1];
    tag[make_tag(tag, PANIC_TAG)] = '\0';
    log_sink_panic(&lq.sink, clock_wall_us() / US_PER_S, tag, text);
}
