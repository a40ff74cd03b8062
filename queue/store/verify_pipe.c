#include "queue/store/verify_pipe.h"

#include <errno.h>
#include <unistd.h>

bool verify_put(int fd, const void *from, size_t n)
{
    for (const char *at = from; n > 0;) {
        ssize_t done = write(fd, at, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        at += done;
        n -= (size_t)done;
    }
    return true;
}

bool verify_get(int fd, void *to, size_t n)
{
    for (char *at = to; n > 0;) {
        ssize_t done = read(fd, at, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        at += done;
        n -= (size_t)done;
    }
    return true;
}
