#include "io/kv/kv_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, AHEAD = 1 << 20 };

/* LMDB's idea of the file's size stays as it is. */
void kv_file_reserve(int fd, uint64_t at, size_t bytes)
{
    if (fd >= 0)
        (void)fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)bytes);
}

/* LMDB writes neighbouring pages at once, and what is written at once where the file had no end yet
 * becomes one folio of the page cache, of up to 2 MiB. From then on a change of one of its pages is
 * counted as a write of all of it, and by some file systems is one. Pages that are there already stay
 * what they are, so they are looked at first, one by one, where the file is about to grow. */
void kv_file_look_ahead(int fd, uint64_t file_end, uint64_t *looked_to)
{
    struct stat st;
    uint64_t end = file_end + AHEAD, from = *looked_to;
    if (end < from + AHEAD / 2 || fd < 0 || fstat(fd, &st) != 0 || (uint64_t)st.st_size < file_end)
        return;
    *looked_to = end;
    if (from < file_end)
        from = file_end;
    if ((uint64_t)st.st_size < end && ftruncate(fd, (off_t)end) != 0)
        return;
    volatile const char *map = mmap(NULL, end - from, PROT_READ, MAP_SHARED, fd, (off_t)from);
    if (map == MAP_FAILED)
        return;
    (void)madvise((void *)(uintptr_t)map, end - from, MADV_RANDOM);
    for (uint64_t at = 0; at < end - from; at += PAGE)
        (void)map[at];
    (void)munmap((void *)(uintptr_t)map, end - from);
}

void kv_file_look_back(int fd, uint64_t end)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return;
    if ((uint64_t)st.st_size > end && (uint64_t)st.st_size - end <= AHEAD && ftruncate(fd, (off_t)end) != 0)
        return; /* then it stays as long as it is */
}

/* LMDB does not tell where its map lies; the kernel does, by the file's name. */
void *kv_file_map(int fd, size_t bytes)
{
    char line[1536], name[1024], link[64];
    unsigned long long from, end, offset;
    void *map = NULL;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof(name) - 1);
    FILE *maps = n > 0 ? fopen("/proc/self/maps", "re") : NULL;
    while (maps && !map && fgets(line, sizeof(line), maps)) {
        int at = 0;
        if (sscanf(line, "%llx-%llx %*s %llx %*x:%*x %*u %n", &from, &end, &offset, &at) == 3 &&
            at > 0 && offset == 0 && end - from >= bytes &&
            strncmp(line + at, name, (size_t)n) == 0 && line[at + n] == '\n')
            map = (void *)(uintptr_t)from;
    }
    if (maps)
        fclose(maps);
    return map;
}

size_t kv_file_resident(void)
{
    unsigned long long shared = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return SIZE_MAX;
    if (fscanf(f, "%*u %*u %llu", &shared) != 1)
        shared = 0;
    fclose(f);
    return (size_t)shared * (size_t)sysconf(_SC_PAGESIZE);
}
