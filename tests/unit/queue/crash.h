/* A crash of the queue of world.h, played: a copy of its folder, taken file by file while it works, is what a crash at some
 * moment could have left. It lives on in place of the folder for a while. */
#ifndef TEST_QUEUE_CRASH_H
#define TEST_QUEUE_CRASH_H

#include "tests/unit/queue/world.h"

struct crash {
    char live[sizeof world.dir], copy[sizeof world.dir];
};

/* The crash is now. Files that are renamed meanwhile (spares) are missed, as a crash between would have. */
static inline void crash_now(struct crash *c)
{
    static const char end[] = ".copy";
    char cmd[400];
    memcpy(c->live, world.dir, sizeof c->live);
    size_t n = strlen(c->live);
    MUST(n + sizeof end <= sizeof c->copy);
    memcpy(c->copy, c->live, n);
    memcpy(c->copy + n, end, sizeof end);
    snprintf(cmd, sizeof cmd, "mkdir -p '%s' && cp -a '%s/.' '%s/' 2>/dev/null", c->copy, c->live, c->copy);
    int rc = system(cmd);
    MUST(WIFEXITED(rc) && WEXITSTATUS(rc) <= 1);
}

/* It took the index with it. */
static inline void crash_takes_index(const struct crash *c)
{
    char path[sizeof c->copy + 8];
    snprintf(path, sizeof path, "%s/index", c->copy);
    remove_tree(path);
}

/* The queue is down: the world is as it was, with what the copy does not know to be done, and the queue is up in it. */
static inline void crash_up(const struct crash *c)
{
    memcpy(world.dir, c->copy, sizeof world.dir);
    hmap_fini(&world.done);
    queue_up();
}

/* The queue is down: the copy is gone, and the world's own folder is empty. */
static inline void crash_over(const struct crash *c)
{
    memcpy(world.dir, c->live, sizeof world.dir);
    remove_tree(c->copy);
    remove_tree(world.dir);
    MUST(mkdir(world.dir, 0700) == 0);
}

static inline bool was_delivered(const char *id, const char *address)
{
    char key[160];
    snprintf(key, sizeof key, "%s/%s", id, address);
    pthread_mutex_lock(&world.lock);
    bool yes = hmap_get(&world.done, str_of(key)) != NULL;
    pthread_mutex_unlock(&world.lock);
    return yes;
}

#endif
