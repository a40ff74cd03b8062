/* smtp_scan: connects as port scanners do, as often as it can, and says nothing. See README.md. */
#include <getopt.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include "io/base/clock.h"
#include "io/base/mem.h"
#include "io/fiber/fiber.h"
#include "io/fiber/worker.h"
#include "io/net/addr.h"
#include "io/net/sock.h"
#include "io/ring/ring.h"
#include "perf/load/report.h"

static const char usage[] =
    "usage: smtp_scan [options] HOST:PORT\n"
    "\n"
    "  -s, --sessions N       connections at a time (64)\n"
    "  -R, --rate N           at most so many connections/s (no end)\n"
    "  -t, --seconds N        end after this time (until a signal)\n"
    "  -b, --banner           read what the server says first; else hang up at once\n"
    "      --fin              hang up in an orderly way; else with a reset, which leaves no port behind\n"
    "      --bind ADDRESS     own address\n"
    "      --timeout SECONDS  for the connection and the banner (1)\n"
    "  -j, --json FILE        the figures, for programs\n";

static struct scan {
    struct addr target, bind;
    bool bound, banner, fin;
    uint64_t sessions, rate;
    int64_t seconds, timeout_s, start_ns;
    const char *json;
    atomic_bool stop;
    uint64_t begun, connected, greeted, failed; /* the worker's */
} scan = {.sessions = 64, .timeout_s = 1};

/* With a rate, each connection has its moment. */
static struct err *await_turn(struct scan *s)
{
    uint64_t number = s->begun++;
    if (s->rate == 0)
        return NULL;
    return fiber_sleep_until(s->start_ns + (int64_t)((double)number * 1e9 / (double)s->rate));
}

static void hang_up(const struct scan *s, int fd)
{
    struct linger now = {.l_onoff = 1};
    if (!s->fin)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd); /* nothing waits to be sent */
}

static struct err *one_visit(struct scan *s)
{
    int64_t deadline_ns = clock_in_s(s->timeout_s);
    char text[512];
    size_t n = 0;
    int fd;
    struct err *e = sock_connect(&s->target, s->bound ? &s->bind : NULL, deadline_ns, &fd);
    if (e)
        return e;
    s->connected++;
    if (s->banner)
        e = io_recv(fd, text, sizeof text, deadline_ns, &n);
    s->greeted += n > 0;
    hang_up(s, fd);
    return e;
}

static void scanner(void *arg)
{
    struct scan *s = arg;
    while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
        struct err *e = await_turn(s);
        if (!e)
            e = one_visit(s);
        if (!e)
            continue;
        if (e->kind == ERR_CANCELED)
            return;
        s->failed++;
        if (e->kind != ERR_TIMEOUT && fiber_sleep_until(clock_in_ms(1))) /* nobody listens: no busy loop */
            return;
    }
}

static void start_scanners(void *arg)
{
    struct scan *s = arg;
    s->start_ns = clock_mono_ns();
    for (uint64_t i = 0; i < s->sessions; i++)
        if (!fiber_spawn("scanner", scanner, s))
            die("only %llu sessions: no more memory mappings", (unsigned long long)i);
}

enum { OPT_FIN = 256, OPT_BIND, OPT_TIMEOUT };

static void set_option(struct scan *s, int letter, const char *arg)
{
    switch (letter) {
    case 's': s->sessions = option_number("sessions", arg, 1, 20000); break;
    case 'R': s->rate = option_number("rate", arg, 1, 10000000); break;
    case 't': s->seconds = (int64_t)option_number("seconds", arg, 1, 10000000); break;
    case 'b': s->banner = true; break;
    case 'j': s->json = arg; break;
    case OPT_FIN: s->fin = true; break;
    case OPT_BIND:
        s->bound = true;
        if (!addr_parse(str_of(arg), 0, &s->bind))
            die("--bind %s: an address is expected", arg);
        break;
    case OPT_TIMEOUT: s->timeout_s = (int64_t)option_number("timeout", arg, 1, 3600); break;
    case 'h': fputs(usage, stdout); exit(0);
    default: fputs("smtp_scan --help shows the options\n", stderr); exit(2);
    }
}

static void read_options(struct scan *s, int argc, char **argv)
{
    static const struct option options[] = {
        {"sessions", required_argument, NULL, 's'}, {"rate", required_argument, NULL, 'R'},
        {"seconds", required_argument, NULL, 't'},  {"banner", no_argument, NULL, 'b'},
        {"fin", no_argument, NULL, OPT_FIN},        {"bind", required_argument, NULL, OPT_BIND},
        {"timeout", required_argument, NULL, OPT_TIMEOUT},
        {"json", required_argument, NULL, 'j'},     {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int letter;
    while ((letter = getopt_long(argc, argv, "s:R:t:bj:h", options, NULL)) != -1)
        set_option(s, letter, optarg);
    if (optind + 1 != argc)
        die("where to? smtp_scan --help shows the options");
    option_addr("target", str_of(argv[optind]), &s->target);
}

static void report(const struct scan *s, double seconds, double cpu_s)
{
    double n = s->connected > 0 ? (double)s->connected : 1;
    struct json j = {0};
    printf("connected %llu times in %.2f s: %.0f/s; greeted %llu, failed %llu; own CPU %.1f us each\n",
           (unsigned long long)s->connected, seconds, (double)s->connected / seconds,
           (unsigned long long)s->greeted, (unsigned long long)s->failed, cpu_s * 1e6 / n);
    if (!s->json)
        return;
    json_begin(&j, NULL, '{');
    json_str(&j, "tool", STR("smtp_scan"));
    json_num(&j, "seconds", seconds);
    json_int(&j, "connected", (int64_t)s->connected);
    json_num(&j, "connected_per_s", (double)s->connected / seconds);
    json_int(&j, "greeted", (int64_t)s->greeted);
    json_int(&j, "failed", (int64_t)s->failed);
    json_end(&j, '}');
    must(json_finish(&j, s->json), "--json");
}

int main(int argc, char **argv)
{
    struct worker *w;
    read_options(&scan, argc, argv);
    main_signals();
    int64_t start = clock_mono_ns();
    struct worker_options o = {
        .name = "scan", .ring_entries = 4096, .fibers_max = scan.sessions + 16, .cpu = -1};
    must(worker_start(&o, start_scanners, &scan, &w), "start");
    (void)main_wait(scan.seconds > 0 ? start + scan.seconds * NS_PER_S : DEADLINE_NEVER);
    atomic_store(&scan.stop, true);
    double seconds = (double)(clock_mono_ns() - start) / 1e9;
    worker_stop(w);
    worker_join(w);
    struct cpu_time cpu = cpu_time();
    report(&scan, seconds, cpu.user_s + cpu.system_s);
    return 0;
}
