/* How fast messages become safe: fibers on one worker commit messages of 10 KiB and remove them, as
 * mail that is accepted and delivered at once does. Prints, for 1, 8, 64 and 256 fibers:
 * messages/s, writes per message, bytes written per byte of content, CPU time per message (the
 * whole process).
 *
 *     commit DIR [messages] [bytes]          DIR: an empty folder on the disk to measure */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "io/base/mem.h"
#include "io/fiber/offload.h"
#include "io/fiber/wait.h"
#include "queue/store/store.h"

struct bench {
    const char *dir;
    struct store *store;
    uint64_t messages, left;
    struct str content;
    struct envelope env;
};

static void must(struct err *e)
{
    if (e == NULL)
        return;
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

static void sender(void *arg)
{
    struct bench *b = arg;
    while (b->left > 0) {
        struct draft *d;
        struct qmsg *m;
        b->left--;
        must(store_begin(b->store, NULL, &d));
        must(draft_write(d, b->content));
        must(store_commit(d, &b->env, &m));
        store_remove(m);
        qmsg_unref(m);
    }
}

static double cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void round_of(struct bench *b, int fibers, uint64_t messages)
{
    struct group g;
    struct store_counts before = store_counts(b->store);
    double cpu = cpu_us();
    int64_t start = clock_mono_ns();
    b->left = messages;
    group_init(&g);
    for (int i = 0; i < fibers; i++)
        (void)group_spawn(&g, "sender", sender, b);
    must(group_join(&g, DEADLINE_NEVER));
    double seconds = (double)(clock_mono_ns() - start) / 1e9;
    struct store_counts after = store_counts(b->store);
    double n = (double)messages;
    printf(
        "%4d fibers: %8.0f messages/s  %.3f writes/message  %.3f bytes/byte  %5.1f us CPU/message  "
        "%llu MiB of log\n",
        fibers, n / seconds, (double)(after.writes - before.writes) / n,
        (double)(after.bytes_written - before.bytes_written) / n / (double)b->content.len,
        (cpu_us() - cpu) / n, (unsigned long long)(after.log_bytes >> 20));
}

static void run(void *arg)
{
    static const int fibers[] = {1, 8, 64, 256};
    struct bench *b = arg;
    struct store_options o = {.directory = b->dir};
    must(store_open(&o, &b->store));
    /* Until segments are recycled, writes go to blocks that were never written: another, slower
     * story. */
    round_of(b, 64, b->messages * 4);
    printf("---- warm\n");
    for (int i = 0; i < 4; i++)
        round_of(b, fibers[i], i == 0 ? b->messages / 4 : b->messages);
    must(store_close(b->store));
}

int main(int argc, char **argv)
{
    static struct rcpt rcpt;
    if (argc < 2)
        return 1;
    size_t bytes = argc > 3 ? strtoul(argv[3], NULL, 10) : 10240;
    char *content = mem_zalloc(bytes);
    memset(content, 'x', bytes);
    rcpt = (struct rcpt){.address = STR("recipient@example.org"),
                         .original = STR("recipient@example.org")};
    struct bench b = {
        .dir = argv[1],
        .messages = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000,
        .content = str_make(content, bytes),
        .env = {.sender = STR("sender@example.com"), .rcpts = &rcpt, .rcpt_count = 1}};
    struct worker_options options = {.name = "bench", .cpu = -1};
    must(offload_start(2));
    must(worker_run_here(&options, run, &b));
    offload_stop();
    mem_free(content);
    return 0;
}
