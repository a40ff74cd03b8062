/* dns_zone: a DNS server for thousands of test domains that are nowhere written down (zone.h). One
 * thread, UDP: answers are small and never cut. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "perf/load/dist.h"
#include "perf/load/report.h"
#include "perf/load/zone.h"
#include "io/net/addr.h"

static const char usage[] =
    "usage: dns_zone [options] ADDRESS:PORT\n"
    "\n"
    "  -d, --domains NAME     with # for the number (dest#.test)\n"
    "  -n, --count N          how many: # is 1 to N (1000)\n"
    "  -a, --address ADDRESS  of the first one's exchanger, the next ones follow (127.1.0.1)\n"
    "      --sites N          all domains share so many addresses (the number of domains)\n"
    "      --mx N             exchangers per domain, at the same place of the next /16s (1)\n"
    "      --ttl SECONDS      (3600)\n"
    "      --servfail N       each Nth domain has a broken name server\n"
    "\n"
    "Ends with Ctrl-C and says what was asked. Ringpost: dns_forward = ADDRESS@PORT.\n";

static const struct option options[] = {
    {"domains", required_argument, NULL, 'd'}, {"count", required_argument, NULL, 'n'},
    {"address", required_argument, NULL, 'a'}, {"sites", required_argument, NULL, 's'},
    {"mx", required_argument, NULL, 'x'},      {"ttl", required_argument, NULL, 't'},
    {"servfail", required_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void set_domains(struct zone *z, const char *text)
{
    ssize_t mark = str_index(str_of(text), '#');
    if (mark < 0)
        die("--domains %s: a # for the number is expected", text);
    z->prefix = str_head(str_of(text), (size_t)mark);
    z->suffix = str_from(str_of(text), (size_t)mark + 1);
}

static void set_address(struct zone *z, const char *text)
{
    struct addr a;
    if (!addr_parse(str_of(text), 0, &a) || a.sa.sa_family != AF_INET)
        die("--address %s: an IPv4 address is expected", text);
    z->first = ntohl(a.in.sin_addr.s_addr);
}

static void read_options(struct zone *z, struct addr *at, int argc, char **argv)
{
    int letter;
    set_domains(z, "dest#.test");
    set_address(z, "127.1.0.1");
    z->count = 1000;
    z->ttl = 3600;
    z->mx = 1;
    while ((letter = getopt_long(argc, argv, "d:n:a:h", options, NULL)) != -1) {
        switch (letter) {
        case 'd': set_domains(z, optarg); break;
        case 'n': z->count = option_number("count", optarg, 1, 1UL << 24); break;
        case 'a': set_address(z, optarg); break;
        case 's': z->sites = option_number("sites", optarg, 1, 1UL << 24); break;
        case 'x': z->mx = (uint32_t)option_number("mx", optarg, 1, 20); break;
        case 't': z->ttl = (uint32_t)option_number("ttl", optarg, 0, INT32_MAX); break;
        case 'f': z->servfail_every = option_number("servfail", optarg, 1, 1UL << 24); break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs("dns_zone --help shows the options\n", stderr); exit(2);
        }
    }
    if (optind + 1 != argc)
        die("listen where? dns_zone --help shows the options");
    option_addr("address", str_of(argv[optind]), at);
    if (z->sites == 0)
        z->sites = z->count;
}

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

/* Without SA_RESTART, so that the wait for the next query ends too. The receive time-out is for a
 * signal that came just before it. */
static void catch_signals(int fd)
{
    struct sigaction act = {.sa_handler = on_signal};
    struct timeval second = {.tv_sec = 1};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
}

int main(int argc, char **argv)
{
    static const char *const names[ZONE_KINDS] = {"MX",       "A",       "other types",
                                                  "no name", "SERVFAIL", "ignored"};
    static char query[4096], reply[ZONE_REPLY_MAX];
    struct zone z = {0};
    struct addr at;
    uint64_t counts[ZONE_KINDS] = {0};
    int buffer = 4 << 20;
    read_options(&z, &at, argc, argv);
    int fd = socket(at.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, &at.sa, at.len) != 0)
        die("%s: %s", argv[argc - 1], strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    catch_signals(fd);
    while (!stopped) {
        struct addr from = {.len = sizeof from.ss};
        ssize_t got = recvfrom(fd, query, sizeof query, 0, &from.sa, &from.len);
        if (got < 0)
            continue;
        size_t n;
        enum zone_kind kind = zone_answer(&z, str_make(query, (size_t)got), reply, &n);
        counts[kind]++;
        if (kind != ZONE_IGNORED)
            (void)!sendto(fd, reply, n, 0, &from.sa, from.len);
    }
    for (int i = 0; i < ZONE_KINDS; i++)
        printf("%s %llu%s", names[i], (unsigned long long)counts[i], i + 1 < ZONE_KINDS ? ", " : "\n");
    return 0;
}
