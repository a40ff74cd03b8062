#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "io/base/log.h"

/* splitmix64 */
uint64_t fuzz_next(struct fuzz_rand *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct fuzz_rand fuzz_rand_of(struct str input, uint64_t salt)
{
    struct fuzz_rand r = {salt};
    for (size_t i = 0; i < input.len; i++)
        r.state = (r.state ^ (uint8_t)input.ptr[i]) * UINT64_C(0x100000001b3);
    return r;
}

const char *fuzz_file(struct str bytes)
{
    static int fd = -1;
    static char path[64];
    if (fd >= 0)
        close(fd);
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0);
    size_t at = 0;
    while (at < bytes.len) {
        ssize_t n = write(fd, bytes.ptr + at, bytes.len - at);
        CHECK(n > 0);
        at += (size_t)n;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

void fuzz_quiet(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    CHECK(!log_start(&(struct log_options){.file = "/dev/null", .syslog_name = "fuzz"}));
}
