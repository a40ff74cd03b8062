/* Fills a queue directory with deferred mail, as a server leaves it that was stopped in an orderly
 * way: what figures about a large backlog are measured on.
 *
 *     fill DIR messages [bytes [sites [due_s]]]
 *
 * DIR: queue_directory (made when it is not there; log/ content/ index/ in it belong to the caller
 * afterwards: chown them to mail_owner). Message n: from s<n % 1000>@sender<n % 100>.example to
 * u<n>@site<n % sites>.example, `bytes` of content (2048), deferred once by smtp:site<n>.example (of one site: smtp:[127.0.0.1]), due in due_s seconds
 * (86400; less than 0 = ago) and then spread over an hour; every message has its own due time. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "io/base/log.h"
#include "io/base/mem.h"
#include "io/fiber/offload.h"
#include "io/fiber/wait.h"
#include "queue/store/store.h"

enum { SENDERS = 256, SPREAD_MS = 3600 * 1000 };

struct fill {
    struct store *store;
    const char *dir;
    uint64_t messages, next, bytes, sites;
    int64_t due_us;
    struct str content;
};

static void must(struct err *e)
{
    if (e == NULL)
        return;
    fprintf(stderr, "fill: %s\n", e->text);
    exit(1);
}

static const struct dsn *refused(uint64_t site, struct arena *a)
{
    struct dsn *why = ARENA_NEW(a, struct dsn);
    *why = (struct dsn){.status = "4.4.1", .mta = STR(""), .diagnostic = STR("")};
    why->text = arena_printf(a, "connect to site%llu.example[192.0.2.%llu]:25: Connection refused",
                             (unsigned long long)site, (unsigned long long)(site % 250 + 1));
    return why;
}

static void one(struct fill *f, uint64_t n, struct arena *a)
{
    unsigned long long site = n % f->sites;
    struct str to = arena_printf(a, "u%llu@site%llu.example", (unsigned long long)n, site);
    struct rcpt rcpt = {.address = to,
                        .original = to,
                        .orcpt = STR(""),
                        .why = {.text = STR(""), .mta = STR(""), .diagnostic = STR("")}};
    struct attr attrs[] = {{STR("log_client_name"), STR("client.example")},
                           {STR("log_client_address"), STR("192.0.2.1")},
                           {STR("log_protocol_name"), STR("ESMTP")}};
    struct envelope env = {.sender = arena_printf(a, "s%llu@sender%llu.example",
                                                  (unsigned long long)(n % 1000),
                                                  (unsigned long long)(n % 100)),
                           .envid = STR(""),
                           .data_size = f->bytes,
                           .attrs = attrs,
                           .attr_count = sizeof attrs / sizeof *attrs,
                           .rcpts = &rcpt,
                           .rcpt_count = 1};
    struct mark_rcpt left = {.state = RCPT_DEFERRED, .why = *refused(site, a)};
    struct draft *d;
    struct qmsg *m;
    must(store_begin(f->store, NULL, &d));
    must(draft_write(d, f->content));
    must(store_commit(d, &env, &m));
    int64_t due_us = f->due_us + (int64_t)(n * 7919 % SPREAD_MS) * 1000 + (int64_t)(n % 1000);
    rcpt.transport = "smtp";
    rcpt.nexthop = f->sites == 1 ? "[127.0.0.1]" : to.ptr + str_rindex(to, '@') + 1;
    store_note_destinations(m, &rcpt, 1);
    store_mark(m, &(struct mark){.due_us = due_us, .rcpts = &left, .rcpt_count = 1});
    qmsg_drop_content(m);
    qmsg_unref(m);
}

static void sender(void *arg)
{
    struct fill *f = arg;
    struct arena *a = arena_new(4096, 0);
    while (f->next < f->messages) {
        one(f, f->next++, a);
        arena_reset(a);
    }
    arena_free(a);
}

static void run(void *arg)
{
    struct fill *f = arg;
    struct group g;
    struct store_options o = {.directory = f->dir, .memory_limit_bytes = 16 << 20};
    must(store_open(&o, &f->store));
    int64_t start = clock_mono_ns();
    group_init(&g);
    for (int i = 0; i < SENDERS; i++)
        (void)group_spawn(&g, "sender", sender, f);
    must(group_join(&g, DEADLINE_NEVER));
    double seconds = (double)(clock_mono_ns() - start) / 1e9;
    struct store_counts c = store_counts(f->store);
    must(store_close(f->store));
    printf("%llu messages in %.1f s, %.2f bytes written to the log per byte, %llu MiB of log\n",
           (unsigned long long)f->messages, seconds,
           (double)c.bytes_written / (double)(f->messages * f->bytes),
           (unsigned long long)(c.log_bytes >> 20));
}

static uint64_t number(int argc, char **argv, int at, uint64_t otherwise)
{
    uint64_t n = at < argc ? strtoull(argv[at], NULL, 10) : otherwise;
    return n != 0 ? n : 1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: fill DIR messages [bytes [sites [due_s]]]\n");
        return 1;
    }
    struct fill f = {.dir = argv[1],
                     .messages = number(argc, argv, 2, 1),
                     .bytes = number(argc, argv, 3, 2048),
                     .sites = number(argc, argv, 4, 1000)};
    struct buf content = {0};
    buf_add_c(&content, "Subject: fill\r\n\r\n");
    while (content.len < f.bytes)
        buf_add_c(&content, "The quick brown fox jumps over the lazy dog, again and again.\r\n");
    content.len = f.bytes;
    f.content = buf_str(&content);
    f.due_us = clock_wall_us() + (argc > 5 ? strtoll(argv[5], NULL, 10) : 86400) * 1000000;
    must(offload_start(2));
    must(worker_run_here(&(struct worker_options){.name = "fill", .cpu = -1}, run, &f));
    offload_stop();
    buf_fini(&content);
    return 0;
}
