#include "show.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "disk_sim.h"
#include "queue/store/segment.h"

enum { BYTES_MAX = 64 << 10, PATH_BYTES = 200 };

static void show_folder(const char *path)
{
    char name[SIM_NAME_MAX], full[PATH_BYTES];
    struct disk_stat st = {0};
    int fd = disk_open(-1, path, O_RDONLY);
    for (size_t at = 0; fd >= 0 && disk_name(fd, at, name); at++) {
        snprintf(full, sizeof full, "%s/%s", path, name);
        if (disk_stat(-1, full, &st) != 0)
            continue;
        fprintf(stderr, "sim: %s %llu\n", full, (unsigned long long)st.size);
        if (st.is_dir)
            show_folder(full);
    }
    if (fd >= 0)
        (void)disk_close(fd);
}

static const char *name_of_type(enum record_type type)
{
    return type == RECORD_MESSAGE ? "MESSAGE" : type == RECORD_MARK ? "MARK" : "REMOVE";
}

static void show_records(int fd, const struct segment_header *h)
{
    static char bytes[BYTES_MAX];
    struct segment_scan scan;
    struct scan_item item;
    ssize_t n = disk_read(fd, bytes, sizeof bytes, 0);
    if (n <= BLOCK)
        return;
    segment_scan_init(&scan, str_make(bytes + BLOCK, (size_t)n - BLOCK), BLOCK, h->epoch,
                      h->secret);
    while (segment_scan_next(&scan, &item)) {
        if (item.kind == SCAN_GAP)
            fprintf(stderr, "    %6u gap of %zu\n", item.at, item.bytes.len);
        else
            fprintf(stderr, "    %6u %s of %llx\n", item.at, name_of_type(item.head.type),
                    (unsigned long long)item.head.seq);
    }
}

static void show_segment(const char *path)
{
    static uint8_t block[2 * BLOCK];
    struct segment_header h = {0};
    int fd = disk_open(-1, path, O_RDONLY);
    if (fd < 0)
        return;
    (void)disk_read(fd, block, sizeof block, 0);
    bool good = segment_header_get(block, &h);
    fprintf(stderr, "sim: %s: header %s, epoch %llu, log began with %llu, %s\n", path,
            good ? "good" : "bad", (unsigned long long)h.epoch, (unsigned long long)h.first,
            get_u64(block + BLOCK + 8) == h.epoch ? "written to" : "not written to");
    show_records(fd, &h);
    (void)disk_close(fd);
}

void show_disk(const char *queue_dir)
{
    char name[SIM_NAME_MAX], log[PATH_BYTES / 2], path[PATH_BYTES];
    show_folder(queue_dir);
    snprintf(log, sizeof log, "%s/log", queue_dir);
    int dir = disk_open(-1, log, O_RDONLY);
    for (size_t i = 0; dir >= 0 && disk_name(dir, i, name); i++) {
        snprintf(path, sizeof path, "%s/%s", log, name);
        if (strncmp(name, "seg-", 4) == 0)
            show_segment(path);
    }
    if (dir >= 0)
        (void)disk_close(dir);
}
