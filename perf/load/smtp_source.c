/* smtp_source: makes mail for a server under load, closed loop or open loop. See README.md. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "io/base/mem.h"
#include "io/base/rand.h"
#include "io/fiber/fiber.h"
#include "perf/load/report.h"
#include "perf/load/source.h"

const char *const stage_names[STAGE_COUNT] = {"connect", "banner", "helo", "mail",
                                              "rcpt",    "data",   "dot"};

static const char usage[] =
    "usage: smtp_source [options] HOST:PORT [HOST:PORT ...]      (several: in turn)\n"
    "\n"
    "  -s, --sessions N       connections at a time (20)\n"
    "  -m, --messages N       how many in all (1000; 0, or with --seconds: no end)\n"
    "  -t, --seconds N        end after this time\n"
    "  -c, --reuse N          messages per connection (1; 0: any number)\n"
    "  -R, --rate N           open loop: N messages/s whatever the server does, Poisson arrivals\n"
    "      --even             open loop: at even distances instead\n"
    "  -l, --size DIST        of a message with its header: 10k, 2k-20k, 2k:50,10k:40,1m:10,\n"
    "                         lognormal:10k,1 (10k)\n"
    "  -f, --from PATTERN     senders (sender@load.example)\n"
    "  -r, --to PATTERN       recipients: 'user%{1-100}@dest%{1-1000}.test' goes round, the last\n"
    "                         place fastest; %{1-9?} at random; %d counts; @FILE: lines of a file\n"
    "                         (user%d@load.example)\n"
    "  -n, --recipients DIST  per message (1)\n"
    "      --no-pipelining    wait for each reply even if the server offers PIPELINING\n"
    "      --helo NAME        (load.example)\n"
    "      --bind A,B,...     own addresses, in turn: more than 28,000 connections need several\n"
    "      --threads N        (1)\n"
    "      --timeout TIME     for each reply (300s)\n"
    "      --retry[=TIME]     a connection that is refused or lost is tried again after TIME (100ms),\n"
    "                         with a new id; without it, the first one ends the run\n"
    "  -a, --acked FILE       append the id of each accepted message, within 0.1 s\n"
    "      --stamps           with the wall clock's microseconds behind each id\n"
    "  -j, --json FILE        the figures, for programs\n"
    "  -q, --quiet            no progress line (it is shown on a terminal only)\n"
    "\n"
    "Exit status: 0 all messages accepted, 1 some not, 2 usage.\n";

enum { OPT_EVEN = 256, OPT_NO_PIPELINING, OPT_HELO, OPT_BIND, OPT_THREADS, OPT_TIMEOUT, OPT_RETRY,
       OPT_STAMPS };

static const struct option options[] = {
    {"sessions", required_argument, NULL, 's'},
    {"messages", required_argument, NULL, 'm'},
    {"seconds", required_argument, NULL, 't'},
    {"reuse", required_argument, NULL, 'c'},
    {"rate", required_argument, NULL, 'R'},
    {"even", no_argument, NULL, OPT_EVEN},
    {"size", required_argument, NULL, 'l'},
    {"from", required_argument, NULL, 'f'},
    {"to", required_argument, NULL, 'r'},
    {"recipients", required_argument, NULL, 'n'},
    {"no-pipelining", no_argument, NULL, OPT_NO_PIPELINING},
    {"helo", required_argument, NULL, OPT_HELO},
    {"bind", required_argument, NULL, OPT_BIND},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"retry", optional_argument, NULL, OPT_RETRY},
    {"acked", required_argument, NULL, 'a'},
    {"stamps", no_argument, NULL, OPT_STAMPS},
    {"json", required_argument, NULL, 'j'},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct files {
    const char *acked, *json;
    bool quiet, counted;
};

static void set_defaults(struct load *l, struct arena *a)
{
    l->sessions = 20;
    l->messages = 1000;
    l->reuse = l->threads = 1;
    l->timeout_ns = 300 * NS_PER_S;
    l->retry_ns = 100 * NS_PER_MS;
    l->poisson = l->pipelining = true;
    l->helo = "load.example";
    l->run = (uint32_t)rand_u64();
    must(dist_parse(STR("10k"), DIST_SIZE, &l->size), "--size");
    must(dist_parse(STR("1"), DIST_COUNT, &l->rcpts), "--recipients");
    must(pattern_parse(a, STR("sender@load.example"), &l->from), "--from");
    must(pattern_parse(a, STR("user%d@load.example"), &l->to), "--to");
}

static void set_binds(struct load *l, struct arena *a, const char *text)
{
    struct str rest = str_of(text), one;
    l->binds = arena_alloc(a, (strlen(text) / 2 + 1) * sizeof *l->binds);
    while (str_token(&rest, ", ", &one))
        if (!addr_parse(one, 0, &l->binds[l->bind_count++]))
            die("--bind %.*s: an address is expected", STR_ARG(one));
}

static void set_option(struct load *l, struct arena *a, struct files *f, int letter, char *arg)
{
    char *end;
    switch (letter) {
    case 's': l->sessions = option_number("sessions", arg, 1, 1000000); break;
    case 'm':
        l->messages = option_number("messages", arg, 0, 1UL << 40);
        f->counted = true;
        break;
    case 't': l->seconds = (int64_t)option_number("seconds", arg, 1, 10000000); break;
    case 'c': l->reuse = option_number("reuse", arg, 0, 1UL << 40); break;
    case 'R':
        l->rate = strtod(arg, &end);
        if (*end != '\0' || !(l->rate > 0 && l->rate < 1e7))
            die("--rate %s: messages per second are expected", arg);
        break;
    case 'l': must(dist_parse(str_of(arg), DIST_SIZE, &l->size), "--size"); break;
    case 'f': must(pattern_parse(a, str_of(arg), &l->from), "--from"); break;
    case 'r': must(pattern_parse(a, str_of(arg), &l->to), "--to"); break;
    case 'n': must(dist_parse(str_of(arg), DIST_COUNT, &l->rcpts), "--recipients"); break;
    case 'a': f->acked = arg; break;
    case OPT_STAMPS: l->stamps = true; break;
    case 'j': f->json = arg; break;
    case 'q': f->quiet = true; break;
    case OPT_EVEN: l->poisson = false; break;
    case OPT_NO_PIPELINING: l->pipelining = false; break;
    case OPT_HELO: l->helo = arg; break;
    case OPT_BIND: set_binds(l, a, arg); break;
    case OPT_THREADS: l->threads = option_number("threads", arg, 1, 256); break;
    case OPT_TIMEOUT: must(dist_value(str_of(arg), DIST_TIME_NS, &l->timeout_ns), "--timeout"); break;
    case OPT_RETRY:
        l->retry = true;
        if (arg != NULL)
            must(dist_value(str_of(arg), DIST_TIME_NS, &l->retry_ns), "--retry");
        break;
    case 'h': fputs(usage, stdout); exit(0);
    default: fputs("smtp_source --help shows the options\n", stderr); exit(2);
    }
}

static void read_options(struct load *l, struct arena *a, struct files *f, int argc, char **argv)
{
    int letter;
    set_defaults(l, a);
    while ((letter = getopt_long(argc, argv, "s:m:t:c:R:l:f:r:n:a:j:qh", options, NULL)) != -1)
        set_option(l, a, f, letter, optarg);
    if (optind == argc)
        die("where to? smtp_source --help shows the options");
    l->targets = arena_alloc(a, (size_t)(argc - optind) * sizeof *l->targets);
    for (int i = optind; i < argc; i++)
        option_addr("target", str_of(argv[i]), &l->targets[l->target_count++]);
    if (dist_highest(&l->size) > 1L << 30)
        die("--size: more than 1 GiB");
    if (dist_highest(&l->rcpts) > 10000)
        die("--recipients: more than 10000");
    if (l->threads > l->sessions)
        l->threads = l->sessions;
    if (l->seconds > 0 && !f->counted)
        l->messages = 0;
    l->left = (int64_t)l->messages;
}

/* Lines of letters without a dot, the end of the content behind them. */
static void make_body(struct load *l)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 e";
    size_t lines = (size_t)dist_highest(&l->size) / SOURCE_BODY_LINE + 2;
    char *body = mem_alloc(lines * SOURCE_BODY_LINE + 3), *at = body;
    for (size_t i = 0; i < lines; i++) {
        for (int k = 0; k < SOURCE_BODY_LINE - 2; k++)
            *at++ = letters[rand_u64() % (sizeof letters - 1)];
        *at++ = '\r';
        *at++ = '\n';
    }
    memcpy(at, ".\r\n", 3);
    l->body_end = at;
    l->body_max = (size_t)(at - body);
}

/* --- the gangs */

static void gang_main(void *arg)
{
    struct gang *g = arg;
    struct load *l = g->load;
    if (g->acked.fd >= 0)
        g->acked_fiber = fiber_spawn("acked", lines_fiber, &g->acked);
    if (l->rate > 0)
        (void)fiber_spawn("arrivals", pace_arrivals, g);
    for (uint64_t i = g->number; i < l->sessions; i += l->threads) {
        if (fiber_spawn("session", source_session, g) != NULL)
            continue;
        fprintf(stderr, "smtp_source: only %llu sessions in a thread: no more memory mappings\n",
                (unsigned long long)(i / l->threads));
        uint64_t missing = (l->sessions - i + l->threads - 1) / l->threads;
        if (atomic_fetch_sub(&l->sessions_live, missing) == missing)
            main_wake();
        return;
    }
}

static void start_gangs(struct load *l, int acked_fd)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    l->gangs = mem_zalloc(l->threads * sizeof *l->gangs);
    atomic_store(&l->sessions_live, l->sessions);
    for (size_t i = 0; i < l->threads; i++) {
        struct gang *g = &l->gangs[i];
        g->load = l;
        g->number = i;
        list_init(&g->idle);
        lines_init(&g->acked, acked_fd);
        struct worker_options o = {
            .name = "source", .ring_entries = 4096, .fibers_max = l->sessions + 16, .cpu = -1};
        must(worker_start(&o, gang_main, g, &g->worker), "start");
    }
}

static void add_tally(struct tally *sum, const struct tally *t)
{
    tally_add(&sum->sent, t->sent);
    tally_add(&sum->rcpts, t->rcpts);
    tally_add(&sum->failed, t->failed);
    tally_add(&sum->rcpts_refused, t->rcpts_refused);
    tally_add(&sum->bytes, t->bytes);
    tally_add(&sum->connections, t->connections);
    tally_add(&sum->stale, t->stale);
    tally_add(&sum->open, t->open);
    for (int i = 0; i < STAGE_COUNT; i++) {
        tally_add(&sum->refused[i][0], t->refused[i][0]);
        tally_add(&sum->refused[i][1], t->refused[i][1]);
        tally_add(&sum->broken[i], t->broken[i]);
    }
}

static uint64_t all_refused(const struct tally *t)
{
    uint64_t n = 0;
    for (int i = 0; i < STAGE_COUNT; i++)
        n += t->refused[i][0] + t->refused[i][1];
    return n;
}

static uint64_t all_broken(const struct tally *t)
{
    uint64_t n = 0;
    for (int i = 0; i < STAGE_COUNT; i++)
        n += t->broken[i];
    return n;
}

static void progress(struct load *l, double elapsed_s, uint64_t *last)
{
    struct tally sum = {0};
    for (size_t i = 0; i < l->threads; i++)
        add_tally(&sum, &l->gangs[i].tally);
    fprintf(stderr, "\r%6.0f s  %8llu/s  accepted %llu  refused %llu  broken %llu  open %llu   ",
            elapsed_s, (unsigned long long)(sum.sent - *last), (unsigned long long)sum.sent,
            (unsigned long long)all_refused(&sum), (unsigned long long)all_broken(&sum),
            (unsigned long long)sum.open);
    *last = sum.sent;
}

/* Until the last session has ended. A signal or the end of the time asks them to end; a second
 * signal does not wait. */
static void watch(struct load *l, bool show, int64_t start_ns)
{
    int64_t tick = start_ns, end = l->seconds > 0 ? start_ns + l->seconds * NS_PER_S : DEADLINE_NEVER;
    uint64_t last = 0;
    while (atomic_load(&l->sessions_live) > 0) {
        tick += NS_PER_S;
        bool asked = main_stopped();
        while (main_wait(tick < end ? tick : end)) {
            if (atomic_load(&l->sessions_live) == 0)
                break;
            if (main_stopped() && asked)
                _exit(130);
            asked = main_stopped();
            atomic_store(&l->stop, asked || atomic_load(&l->stop));
        }
        if (clock_mono_ns() >= end) {
            atomic_store(&l->stop, true);
            end = DEADLINE_NEVER;
        }
        if (show)
            progress(l, (double)(tick - start_ns) / 1e9, &last);
    }
    if (show)
        fputc('\n', stderr);
}

/* --- the report */

static const char *const time_names[TIME_COUNT] = {
    "connect",     "banner",     "EHLO to 250", "MAIL to 250", "RCPT to 250",
    "DATA to 354", "dot to 250", "DATA to 250", "message",     "start lag"};
static const char *const time_keys[TIME_COUNT] = {
    "connect", "banner", "helo", "mail", "rcpt", "data", "dot", "content", "message", "lag"};

struct result {
    struct tally sum;
    struct hist times[TIME_COUNT];
    double seconds;
    struct cpu_time cpu;
    int targets;
};

static void print_trouble(const struct load *l, const struct tally *sum)
{
    for (int i = 0; i < STAGE_COUNT; i++) {
        const char *example = "";
        for (size_t k = 0; k < l->threads && example[0] == '\0'; k++)
            example = l->gangs[k].last_trouble[i];
        if (sum->refused[i][0] + sum->refused[i][1] + sum->broken[i] > 0)
            printf("%-8s refused 4xx %llu, 5xx %llu, broken %llu, the first: %s\n", stage_names[i],
                   (unsigned long long)sum->refused[i][0], (unsigned long long)sum->refused[i][1],
                   (unsigned long long)sum->broken[i], example);
    }
}

static void print_result(const struct load *l, const struct result *r)
{
    double n = r->sum.sent > 0 ? (double)r->sum.sent : 1;
    double cpu_us = (r->cpu.user_s + r->cpu.system_s) * 1e6;
    printf("accepted %llu messages, %llu recipients, %.1f MiB in %.2f s: %.0f messages/s\n",
           (unsigned long long)r->sum.sent, (unsigned long long)r->sum.rcpts,
           (double)r->sum.bytes / 1048576, r->seconds, (double)r->sum.sent / r->seconds);
    printf("failed %llu (attempts refused %llu, broken %llu), recipients refused besides %llu, "
           "connections %llu, found closed %llu\n",
           (unsigned long long)r->sum.failed, (unsigned long long)all_refused(&r->sum),
           (unsigned long long)all_broken(&r->sum),
           (unsigned long long)r->sum.rcpts_refused, (unsigned long long)r->sum.connections,
           (unsigned long long)r->sum.stale);
    print_trouble(l, &r->sum);
    printf("own CPU %.1f us a message (user %.1f, system %.1f)\n", cpu_us / n,
           r->cpu.user_s * 1e6 / n, r->cpu.system_s * 1e6 / n);
    report_hist(stdout, NULL, NULL);
    for (int i = 0; i < TIME_COUNT; i++)
        report_hist(stdout, time_names[i], &r->times[i]);
}

static void json_stages(struct json *j, const struct tally *sum)
{
    json_begin(j, "stages", '{');
    for (int i = 0; i < STAGE_COUNT; i++) {
        json_begin(j, stage_names[i], '{');
        json_int(j, "refused_4xx", (int64_t)sum->refused[i][0]);
        json_int(j, "refused_5xx", (int64_t)sum->refused[i][1]);
        json_int(j, "broken", (int64_t)sum->broken[i]);
        json_end(j, '}');
    }
    json_end(j, '}');
}

static void write_json(const struct load *l, const struct result *r, const char *path)
{
    struct json j = {0};
    json_begin(&j, NULL, '{');
    json_str(&j, "tool", STR("smtp_source"));
    json_int(&j, "sessions", (int64_t)l->sessions);
    json_int(&j, "threads", (int64_t)l->threads);
    json_int(&j, "reuse", (int64_t)l->reuse);
    json_num(&j, "rate_wanted", l->rate);
    json_num(&j, "seconds", r->seconds);
    json_int(&j, "accepted", (int64_t)r->sum.sent);
    json_int(&j, "recipients", (int64_t)r->sum.rcpts);
    json_int(&j, "recipients_refused", (int64_t)r->sum.rcpts_refused);
    json_int(&j, "bytes", (int64_t)r->sum.bytes);
    json_int(&j, "failed", (int64_t)r->sum.failed);
    json_int(&j, "refused", (int64_t)all_refused(&r->sum));
    json_int(&j, "broken", (int64_t)all_broken(&r->sum));
    json_int(&j, "connections", (int64_t)r->sum.connections);
    json_int(&j, "stale", (int64_t)r->sum.stale);
    json_num(&j, "messages_per_s", (double)r->sum.sent / r->seconds);
    json_num(&j, "cpu_user_s", r->cpu.user_s);
    json_num(&j, "cpu_system_s", r->cpu.system_s);
    json_stages(&j, &r->sum);
    json_begin(&j, "latency", '{');
    for (int i = 0; i < TIME_COUNT; i++)
        json_hist(&j, time_keys[i], &r->times[i]);
    json_end(&j, '}');
    json_end(&j, '}');
    must(json_finish(&j, path), "--json");
}

int main(int argc, char **argv)
{
    static struct load load;
    static struct result result;
    static struct arena *a;
    struct load *l = &load;
    struct result *r = &result;
    struct files f = {0};
    int acked_fd;
    a = arena_new(0, 0);
    read_options(l, a, &f, argc, argv);
    make_body(l);
    must(lines_open(f.acked, &acked_fd), "--acked");
    main_signals();
    struct cpu_time before = cpu_time();
    int64_t start = clock_mono_ns();
    start_gangs(l, acked_fd);
    watch(l, !f.quiet && isatty(2), start);
    r->seconds = (double)(clock_mono_ns() - start) / 1e9;
    for (size_t i = 0; i < l->threads; i++) {
        struct gang *g = &l->gangs[i];
        worker_stop(g->worker);
        worker_join(g->worker);
        lines_fini(&g->acked);
        add_tally(&r->sum, &g->tally);
        for (int k = 0; k < TIME_COUNT; k++)
            hist_merge(&r->times[k], &g->times[k]);
    }
    r->cpu = cpu_time();
    r->cpu.user_s -= before.user_s;
    r->cpu.system_s -= before.system_s;
    print_result(l, r);
    if (f.json != NULL)
        write_json(l, r, f.json);
    return r->sum.failed == 0 && (l->seconds > 0 || atomic_load(&l->left) <= 0) ? 0 : 1;
}
