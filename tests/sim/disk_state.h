/* disk_state: what is on a simulated disk: files and names, live and durable, and between them the
 * pending effects. What a program does to it is in disk_sim.c. */
#ifndef SIM_DISK_STATE_H
#define SIM_DISK_STATE_H

#include "disk_image.h"
#include "disk_names.h"

enum { INODES = 256 };

struct inode {
    bool used, is_dir;
    bool broken; /* a synced write to it failed: none after it lasts, in this process */
    struct image live, durable;
    struct kv_image *kv;
    int64_t mtime_s;
    uint64_t bad_at, bad_n; /* cannot be read */
};

/* First those of files, then those of names. */
enum effect { EFFECT_WRITE, EFFECT_SIZE, EFFECT_LINK, EFFECT_UNLINK, EFFECT_RENAME };

struct pending {
    enum effect what;
    uint64_t ino, at; /* SIZE: at = the size */
    uint64_t dir, to_dir;
    char name[SIM_NAME_MAX], to[SIM_NAME_MAX];
    struct blob *data;
    uint64_t id;
    bool under_way; /* its call has not returned: an fsync does not cover it */
};

/* The bytes of a write, shared by the copies of a disk. */
struct blob {
    uint32_t refs;
    size_t n;
    uint8_t bytes[];
};

struct disk {
    struct inode inodes[INODES];
    struct names live, durable;
    struct pending *pending;
    size_t pending_n, pending_cap;
    uint64_t next_id;
};

void inode_free(struct inode *n);

/* A new one, the last. */
struct pending *pending_add(struct disk *d, enum effect what);
void pending_drop(struct disk *d, size_t i);
/* It becomes durable, whole. */
void pending_keep(struct disk *d, const struct pending *p);
/* The dice: lost, kept, or torn. */
void pending_fate(struct disk *d, const struct pending *p);

#endif
