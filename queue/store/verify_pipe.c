#include "queue/store/verify_pipe.h"

#include <errno.h>
#include <unistd.h>

/* What one call has moved; an interrupted one nothing. False: there will be no more. */
static bool moved(ssize_t done, size_t *at)
{
    if (done < 0 && errno == EINTR)
        return true;
    if (done <= 0)
        return false;
    *at += (size_t)done;
    return true;
}

bool verify_put(int fd, const void *from, size_t n)
{
    size_t at = 0;
    while (at < n)
        if (!moved(write(fd, (const char *)from + at, n - at), &at))
            return false;
    return true;
}

bool verify_get(int fd, void *to, size_t n)
{
    size_t at = 0;
    while (at < n)
        if (!moved(read(fd, (char *)to + at, n - at), &at))
            return false;
    return true;
}
