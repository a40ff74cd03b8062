/* smtp_sink: receives mail on many addresses, each with manners of its own, and counts it. See
 * README.md. */
#include <getopt.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "io/base/check.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/net/sock.h"
#include "perf/load/report.h"
#include "perf/load/sink.h"

static const char usage[] =
    "usage: smtp_sink [options] ADDRESS:PORT [ADDRESS:PORT ...]\n"
    "\n"
    "  127.0.0.0/8:PORT stands for every address of the loopback interface with one socket.\n"
    "\n"
    "  -r, --rules FILE       manners by address, one line each (README.md, manners.h)\n"
    "  -M, --manner WORDS     manners of addresses in no rule: 'rcpt=450:10% delay.dot=5ms-20ms'\n"
    "  -c, --connections N    421 beyond so many at a time, over all addresses\n"
    "  -m, --messages N       end after so many messages (else: Ctrl-C)\n"
    "      --threads N        (1)\n"
    "      --timeout TIME     for each command and piece of content (300s)\n"
    "      --no-dedupe        do not remember ids (16 bytes a message and recipient)\n"
    "  -o, --received FILE    append the id of each message that came, within 0.1 s\n"
    "      --stamps           with the wall clock's microseconds behind each id\n"
    "  -j, --json FILE        the figures, for programs; every address among them\n"
    "  -q, --quiet            no progress line (it is shown on a terminal only)\n";

enum { BACKLOG = 4096, LAST_REPLY_MS = 100, OPT_THREADS = 256, OPT_TIMEOUT, OPT_NO_DEDUPE, OPT_STAMPS,
       FIBERS_MAX = 200000 };

static const struct option options[] = {
    {"rules", required_argument, NULL, 'r'},
    {"manner", required_argument, NULL, 'M'},
    {"connections", required_argument, NULL, 'c'},
    {"messages", required_argument, NULL, 'm'},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"no-dedupe", no_argument, NULL, OPT_NO_DEDUPE},
    {"received", required_argument, NULL, 'o'},
    {"stamps", no_argument, NULL, OPT_STAMPS},
    {"json", required_argument, NULL, 'j'},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct files {
    const char *rules, *manner, *received, *json;
    bool quiet;
};

static void read_options(struct sink *s, struct files *f, int argc, char **argv)
{
    int letter;
    f->manner = "";
    s->crew_count = 1;
    s->timeout_ns = 300 * NS_PER_S;
    s->dedupe = true;
    while ((letter = getopt_long(argc, argv, "r:M:c:m:o:j:qh", options, NULL)) != -1) {
        switch (letter) {
        case 'r': f->rules = optarg; break;
        case 'M': f->manner = optarg; break;
        case 'c': s->connections_max = option_number("connections", optarg, 1, 10000000); break;
        case 'm': s->messages_max = option_number("messages", optarg, 1, 1UL << 40); break;
        case 'o': f->received = optarg; break;
        case 'j': f->json = optarg; break;
        case 'q': f->quiet = true; break;
        case OPT_THREADS: s->crew_count = option_number("threads", optarg, 1, 256); break;
        case OPT_TIMEOUT:
            must(dist_value(str_of(optarg), DIST_TIME_NS, &s->timeout_ns), "--timeout");
            break;
        case OPT_STAMPS: s->stamps = true; break;
        case OPT_NO_DEDUPE: s->dedupe = false; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs("smtp_sink --help shows the options\n", stderr); exit(2);
        }
    }
    if (optind == argc)
        die("listen where? smtp_sink --help shows the options");
}

/* --- places */

struct place *sink_place(struct sink *s, const struct addr *at)
{
    char name[ADDR_TEXT_MAX];
    struct str key = str_of(addr_text(at, name));
    pthread_mutex_lock(&s->lock);
    struct place *p = hmap_get(&s->by_addr, key);
    if (p == NULL) {
        p = MEM_NEW(struct place);
        p->manner = rules_find(s->rules, at);
        str_copy(p->name, sizeof p->name, key);
        p->next = s->places;
        s->places = p;
        (void)hmap_put(&s->by_addr, key, p);
    }
    pthread_mutex_unlock(&s->lock);
    return p;
}

/* --- listening */

struct listening {
    struct ring_op op;
    struct timer pause;
    struct crew *crew;
    int fd;
};

static void arm_again(struct timer *t)
{
    struct listening *l = CONTAINER(t, struct listening, pause);
    ring_accept_multishot(&l->op, l->fd);
}

static void accepted(struct ring_op *op, int res, bool more)
{
    struct listening *l = CONTAINER(op, struct listening, op);
    if (res >= 0) {
        struct caller *c = mem_alloc(sizeof *c);
        *c = (struct caller){.crew = l->crew, .fd = res};
        if (fiber_spawn("visit", sink_session, c) == NULL) {
            count(&l->crew->sink->over_limit, 1);
            close(res);
            mem_free(c);
        }
    }
    if (more || res == -ECANCELED)
        return;
    /* No descriptors are left, or the like: others may end meanwhile. */
    timer_set(&l->pause, clock_in_ms(res >= 0 ? 0 : 100), arm_again);
}

static bool set_int(int fd, int option, int value)
{
    return setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) == 0;
}

/* All addresses of the loopback interface, nobody else's. */
static struct err *listen_on_loopback(uint16_t port, bool shared, int *fd_out)
{
    static const char lo[] = "lo";
    struct addr any;
    CHECK(addr_parse(STR("0.0.0.0"), port, &any));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && set_int(fd, SO_REUSEADDR, 1) && (!shared || set_int(fd, SO_REUSEPORT, 1)) &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, lo, sizeof lo) == 0 &&
        bind(fd, &any.sa, any.len) == 0 && listen(fd, BACKLOG) == 0) {
        *fd_out = fd;
        return NULL;
    }
    return err_errno(errno, "listen on the loopback interface, port %u", port);
}

static int listen_on(struct str text, bool shared)
{
    static const struct str net = STR("127.0.0.0/8:");
    struct addr at;
    uint64_t port;
    int fd = -1;
    if (str_starts(text, net)) {
        if (!str_u64(str_from(text, net.len), &port) || port > 65535)
            die("%.*s: a port is expected", STR_ARG(text));
        must(listen_on_loopback((uint16_t)port, shared, &fd), "smtp_sink");
    } else {
        option_addr("address", text, &at);
        must(sock_listen(&at, BACKLOG, shared, &fd), "smtp_sink");
    }
    return fd;
}

static void crew_main(void *arg)
{
    struct crew *c = arg;
    if (c->received.fd >= 0)
        (void)fiber_spawn("received", lines_fiber, &c->received);
    for (size_t i = 0; i < c->listening_count; i++) {
        c->listening[i].op.done = accepted;
        ring_accept_multishot(&c->listening[i].op, c->listening[i].fd);
    }
}

static void start_crews(struct sink *s, const struct files *f, char **where, size_t n)
{
    struct rlimit nofile;
    int received_fd;
    must(lines_open(f->received, &received_fd), "--received");
    if (getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
        nofile.rlim_cur = nofile.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &nofile);
    }
    s->crews = mem_zalloc(s->crew_count * sizeof *s->crews);
    for (size_t i = 0; i < s->crew_count; i++) {
        struct crew *c = &s->crews[i];
        c->sink = s;
        c->listening = mem_zalloc(n * sizeof *c->listening);
        c->listening_count = n;
        lines_init(&c->received, received_fd);
        for (size_t k = 0; k < n; k++) {
            c->listening[k].crew = c;
            c->listening[k].fd = listen_on(str_of(where[k]), s->crew_count > 1);
        }
    }
    s->start_ns = clock_mono_ns();
    for (size_t i = 0; i < s->crew_count; i++) {
        struct worker_options o = {
            .name = "sink", .ring_entries = 4096, .fibers_max = FIBERS_MAX, .cpu = -1};
        must(worker_start(&o, crew_main, &s->crews[i], &s->crews[i].worker), "start");
    }
}

/* --- the report */

struct sums {
    int64_t first_us, last_us;
    uint64_t connections, messages, rcpts, bytes, again, unmarked, refused_4xx, refused_5xx, dropped,
        hung, over_limit, greylisted, places;
};

static struct sums sum_places(struct sink *s)
{
    struct sums t = {.over_limit = s->over_limit};
    pthread_mutex_lock(&s->lock);
    for (struct place *p = s->places; p != NULL; p = p->next) {
        t.connections += p->connections;
        t.messages += p->messages;
        t.rcpts += p->rcpts;
        t.bytes += p->bytes;
        t.again += p->again;
        t.unmarked += p->unmarked;
        t.refused_4xx += p->refused_4xx;
        t.refused_5xx += p->refused_5xx;
        t.dropped += p->dropped;
        t.hung += p->hung;
        t.over_limit += p->over_limit;
        t.greylisted += p->greylisted;
        t.places++;
    }
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < s->crew_count; i++) {
        const struct crew *c = &s->crews[i];
        if (c->first_us > 0 && (t.first_us == 0 || c->first_us < t.first_us))
            t.first_us = c->first_us;
        if (c->last_us > t.last_us)
            t.last_us = c->last_us;
    }
    return t;
}

static void print_result(struct sink *s, const struct sums *t, double seconds,
                         const struct cpu_time *cpu, const struct hist *delivered)
{
    double n = t->messages > 0 ? (double)t->messages : 1;
    double busy_s = (double)(t->last_us - t->first_us) / 1e6;
    printf("received %llu messages, %llu recipients, %.1f MiB on %llu addresses in %.2f s, "
           "%.2f s from the first to the last\n",
           (unsigned long long)t->messages, (unsigned long long)t->rcpts,
           (double)t->bytes / 1048576, (unsigned long long)t->places, seconds, busy_s);
    if (s->dedupe)
        printf("distinct ids %llu, repeated deliveries to a recipient %llu, without id %llu\n",
               (unsigned long long)idset_count(&s->ids), (unsigned long long)t->again,
               (unsigned long long)t->unmarked);
    printf("connections %llu, over a limit %llu, refused 4xx %llu (greylisted %llu), 5xx %llu, "
           "dropped %llu, hung %llu\n",
           (unsigned long long)t->connections, (unsigned long long)t->over_limit,
           (unsigned long long)t->refused_4xx, (unsigned long long)t->greylisted,
           (unsigned long long)t->refused_5xx, (unsigned long long)t->dropped,
           (unsigned long long)t->hung);
    printf("own CPU %.1f us a message (user %.1f, system %.1f)\n",
           (cpu->user_s + cpu->system_s) * 1e6 / n, cpu->user_s * 1e6 / n, cpu->system_s * 1e6 / n);
    report_hist(stdout, NULL, NULL);
    report_hist(stdout, "sent to delivered", delivered);
}

static void json_places(struct json *j, struct sink *s)
{
    json_begin(j, "addresses", '{');
    for (struct place *p = s->places; p != NULL; p = p->next) {
        json_begin(j, p->name, '{');
        json_int(j, "connections", (int64_t)p->connections);
        json_int(j, "messages", (int64_t)p->messages);
        json_int(j, "recipients", (int64_t)p->rcpts);
        json_int(j, "repeated", (int64_t)p->again);
        json_int(j, "refused_4xx", (int64_t)p->refused_4xx);
        json_int(j, "refused_5xx", (int64_t)p->refused_5xx);
        json_int(j, "greylisted", (int64_t)p->greylisted);
        json_int(j, "dropped", (int64_t)p->dropped);
        json_int(j, "hung", (int64_t)p->hung);
        json_int(j, "over_limit", (int64_t)p->over_limit);
        json_end(j, '}');
    }
    json_end(j, '}');
}

static void write_json(struct sink *s, const struct sums *t, double seconds,
                       const struct cpu_time *cpu, const struct hist *delivered, const char *path)
{
    struct json j = {0};
    json_begin(&j, NULL, '{');
    json_str(&j, "tool", STR("smtp_sink"));
    json_num(&j, "seconds", seconds);
    json_num(&j, "first_message_at", (double)t->first_us / 1e6);
    json_num(&j, "last_message_at", (double)t->last_us / 1e6);
    json_int(&j, "messages", (int64_t)t->messages);
    json_int(&j, "recipients", (int64_t)t->rcpts);
    json_int(&j, "bytes", (int64_t)t->bytes);
    if (s->dedupe) {
        json_int(&j, "distinct_ids", (int64_t)idset_count(&s->ids));
        json_int(&j, "distinct_deliveries", (int64_t)idset_count(&s->deliveries));
    }
    json_int(&j, "repeated", (int64_t)t->again);
    json_int(&j, "without_id", (int64_t)t->unmarked);
    json_int(&j, "connections", (int64_t)t->connections);
    json_int(&j, "refused_4xx", (int64_t)t->refused_4xx);
    json_int(&j, "refused_5xx", (int64_t)t->refused_5xx);
    json_int(&j, "greylisted", (int64_t)t->greylisted);
    json_int(&j, "dropped", (int64_t)t->dropped);
    json_int(&j, "hung", (int64_t)t->hung);
    json_int(&j, "over_limit", (int64_t)t->over_limit);
    json_num(&j, "cpu_user_s", cpu->user_s);
    json_num(&j, "cpu_system_s", cpu->system_s);
    json_begin(&j, "latency", '{');
    json_hist(&j, "sent_to_delivered", delivered);
    json_end(&j, '}');
    json_places(&j, s);
    json_end(&j, '}');
    must(json_finish(&j, path), "--json");
}

/* --- the main thread */

static void watch(struct sink *s, bool show)
{
    uint64_t last = 0;
    int64_t tick = s->start_ns;
    while (!main_stopped()) {
        uint64_t n = atomic_load(&s->messages);
        if (s->messages_max > 0 && n >= s->messages_max)
            break;
        if (main_wait(tick + NS_PER_S))
            continue;
        tick += NS_PER_S;
        if (show)
            fprintf(stderr, "\r%6.0f s  %8llu/s  received %llu  connections open %llu   ",
                    (double)(tick - s->start_ns) / 1e9, (unsigned long long)(n - last),
                    (unsigned long long)n, (unsigned long long)atomic_load(&s->open));
        last = n;
    }
    if (show)
        fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    static struct sink sink;
    static struct hist merged;
    static struct manner usual;
    static struct arena *a;
    struct sink *s = &sink;
    struct hist *delivered = &merged;
    struct files f = {0};
    a = arena_new(0, 0);
    read_options(s, &f, argc, argv);
    must(manner_parse(a, str_of(f.manner), &usual), "--manner");
    must(rules_read(a, f.rules, &usual, &s->rules), "--rules");
    pthread_mutex_init(&s->lock, NULL);
    idset_init(&s->ids);
    idset_init(&s->deliveries);
    first_times_init(&s->greylist);
    main_signals();
    start_crews(s, &f, argv + optind, (size_t)(argc - optind));
    watch(s, !f.quiet && isatty(2));
    if (!main_stopped()) /* the last client is to get its reply */
        (void)main_wait(clock_in_ms(LAST_REPLY_MS));
    double seconds = (double)(clock_mono_ns() - s->start_ns) / 1e9;
    for (size_t i = 0; i < s->crew_count; i++) {
        struct crew *c = &s->crews[i];
        worker_stop(c->worker);
        worker_join(c->worker);
        lines_fini(&c->received);
        hist_merge(delivered, &c->delivered);
    }
    struct cpu_time cpu = cpu_time();
    struct sums t = sum_places(s);
    print_result(s, &t, seconds, &cpu, delivered);
    if (f.json != NULL)
        write_json(s, &t, seconds, &cpu, delivered, f.json);
    return 0;
}
