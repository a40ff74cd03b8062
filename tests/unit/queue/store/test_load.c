/* Many at once: commits on two workers beside the scheduler's, with segments recycled and compacted
 * under them, checked against a model; then what a kill leaves. */
#include "world.h"

enum { WORKERS = 2, FIBERS = 16, EACH = 40 };

struct load {
    struct store *store;
    struct worker *workers[WORKERS];
    _Atomic uint64_t next;
    _Atomic int left;
    struct completion done;
    int rounds;
};

static void committer(void *arg)
{
    struct load *l = arg;
    for (int i = 0; i < EACH; i++) {
        uint64_t n = atomic_fetch_add(&l->next, 1);
        struct qmsg *m = commit(l->store, n, 500 + n * 977 % 20000);
        check_content(m);
        if (n % 3 == 0)
            qmsg_drop_content(m);
        check_content(m);
        qmsg_unref(m);
    }
    if (atomic_fetch_sub(&l->left, 1) == 1)
        completion_signal(&l->done);
}

static void run_committers(struct load *l)
{
    completion_init(&l->done);
    atomic_store(&l->left, WORKERS * FIBERS);
    for (int i = 0; i < WORKERS * FIBERS; i++)
        worker_spawn(l->workers[i % WORKERS], "committer", committer, l);
    completion_wait(&l->done);
}

/* Every message of the store is one that was committed and not removed, once, with its own content.
 */
static void check_all(struct store *s, const bool *alive, uint64_t count)
{
    struct arena *a = arena_new(0, 0);
    bool *seen = mem_zalloc(count * sizeof *seen);
    uint64_t after = 0;
    size_t n = 1, at = 0;
    while (n > 0) {
        struct store_row *rows = NULL;
        arena_reset(a);
        OK(store_list(s, after, 50, a, &rows, &n));
        for (size_t i = 0; i < n; i++) {
            struct qmsg *m = NULL;
            uint64_t number = rows[i].env->data_size;
            MUST(rows[i].seq > after);
            after = rows[i].seq;
            MUST(number < count && alive[number] && !seen[number]);
            seen[number] = true;
            OK(store_get(s, after, &m));
            MUST(m != NULL && m->env->data_size == number);
            check_content(m);
            qmsg_unref(m);
            at++;
        }
    }
    for (uint64_t i = 0; i < count; i++)
        MUST(!alive[i] || seen[i]);
    MUST(store_counts(s).messages == at);
    mem_free(seen);
    arena_free(a);
}

/* Some are removed, some deferred; about one in ten lives long, which is what compaction is for. */
static void thin_out(struct load *l, bool *alive)
{
    struct arena *a = arena_new(0, 0);
    struct store_row *rows = NULL;
    size_t n = 0;
    OK(store_list(l->store, 0, 100000, a, &rows, &n));
    for (size_t i = 0; i < n; i++) {
        struct qmsg *m = NULL;
        uint64_t number = rows[i].env->data_size;
        OK(store_get(l->store, rows[i].seq, &m));
        MUST(m != NULL);
        if (number % 10 != 0) {
            alive[number] = false;
            store_remove(m);
        } else {
            defer_first(m, (int64_t)number * 1000 + 1);
        }
        qmsg_unref(m);
    }
    arena_free(a);
}

static void load_run(void *arg)
{
    struct load *l = arg;
    struct store_options o = world_options();
    struct worker_options wo = {.name = "worker", .cpu = -1};
    uint64_t all = (uint64_t)l->rounds * WORKERS * FIBERS * EACH;
    bool *alive = mem_zalloc(all * sizeof *alive);
    o.index_delay_ms = 10;
    o.purge_rows = 20;
    OK(store_open(&o, &l->store));
    for (int i = 0; i < WORKERS; i++)
        OK(worker_start(&wo, NULL, NULL, &l->workers[i]));
    for (int i = 0; i < l->rounds; i++) {
        uint64_t first = atomic_load(&l->next);
        run_committers(l);
        for (uint64_t n = first; n < atomic_load(&l->next); n++)
            alive[n] = true;
        check_all(l->store, alive, all);
        thin_out(l, alive);
        check_all(l->store, alive, all);
    }
    struct store_counts c = store_counts(l->store);
    MUST(c.commits == all && c.writes < all);
    /* The log does not grow with what has passed through it. */
    COMES(store_counts(l->store).segments * 262144 <=
          3 * store_counts(l->store).live_bytes + 6 * 262144);
    check_all(l->store, alive, all);
    MUST(store_counts(l->store).corrupt == 0);
    OK(store_close(l->store));
    OK(store_open(&o, &l->store));
    check_all(l->store, alive, all);
    OK(store_close(l->store));
    mem_free(alive);
    for (int i = 0; i < WORKERS; i++)
        worker_stop(l->workers[i]);
}

static void commits_on_two_workers_while_segments_are_recycled(void **state)
{
    struct load l = {.rounds = 4};
    (void)state;
    in_fiber(load_run, &l);
    for (int i = 0; i < WORKERS; i++)
        worker_join(l.workers[i]);
}

/* --- a kill at any time: run by a child that tells over a pipe what was acknowledged */

static int tell_fd;

static void tell(char what, uint64_t n)
{
    char line[32];
    int len = snprintf(line, sizeof line, "%c%llu\n", what, (unsigned long long)n);
    MUST(write(tell_fd, line, (size_t)len) == len);
}

static _Atomic uint64_t victim_next;

static void victim_fiber(void *arg)
{
    struct store *s = arg;
    for (;;) {
        uint64_t n = atomic_fetch_add(&victim_next, 1);
        size_t size = n % 17 == 0 ? 150000 : 200 + n * 977 % 20000;
        struct qmsg *m = commit(s, n, size);
        tell('+', n);
        if (n % 4 != 0) {
            tell('-', n); /* from here on it may be gone */
            store_remove(m);
        } else {
            defer_first(m, 1000);
        }
        qmsg_unref(m);
    }
}

static void victim(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    o.index_delay_ms = 15;
    OK(store_open(&o, &s));
    for (int i = 0; i < 8; i++)
        MUST(fiber_spawn("victim", victim_fiber, s) != NULL);
    fiber_sleep_until(DEADLINE_NEVER);
}

struct told {
    bool *acked, *removed;
    uint64_t count;
};

static void check_told(void *arg)
{
    const struct told *t = arg;
    struct store_options o = world_options();
    struct store *s = NULL;
    struct arena *a = arena_new(0, 0);
    bool *seen = mem_zalloc(t->count);
    struct store_row *rows = NULL;
    size_t n = 0;
    OK(store_open(&o, &s));
    OK(store_list(s, 0, 1000000, a, &rows, &n));
    for (size_t i = 0; i < n; i++) {
        struct qmsg *m = NULL;
        uint64_t number = rows[i].env->data_size;
        MUST(number < t->count && !seen[number]);
        seen[number] = true;
        OK(store_get(s, rows[i].seq, &m));
        check_content(m);
        qmsg_unref(m);
    }
    for (uint64_t i = 0; i < t->count; i++) {
        if (t->acked[i] && !t->removed[i] && !seen[i])
            fprintf(stderr, "message %llu is lost\n", (unsigned long long)i), abort();
    }
    MUST(store_counts(s).corrupt == 0);
    mem_free(seen);
    arena_free(a);
    OK(store_close(s));
}

static void read_told(FILE *f, struct told *t)
{
    char line[64];
    while (fgets(line, sizeof line, f) != NULL) {
        uint64_t n = strtoull(line + 1, NULL, 10);
        MUST(n < t->count);
        *(line[0] == '+' ? &t->acked[n] : &t->removed[n]) = true;
    }
}

static uint64_t kill_once(struct told *t, uint64_t first, int after_ms)
{
    int fds[2];
    char from[32];
    MUST(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        char fd[16];
        snprintf(fd, sizeof fd, "%d", fds[1]);
        snprintf(from, sizeof from, "%llu", (unsigned long long)first);
        close(fds[0]);
        execl("/proc/self/exe", "test", "--victim", world_dir, fd, from, (char *)NULL);
        _exit(99);
    }
    close(fds[1]);
    FILE *f = fdopen(fds[0], "r");
    char line[64];
    /* The clock starts with the first message: a slow machine must not kill before anything runs.
     */
    MUST(fgets(line, sizeof line, f) != NULL);
    uint64_t n = strtoull(line + 1, NULL, 10);
    MUST(n < t->count && line[0] == '+');
    t->acked[n] = true;
    usleep((useconds_t)after_ms * 1000);
    kill(pid, SIGKILL);
    read_told(f, t);
    fclose(f);
    MUST(waitpid(pid, NULL, 0) == pid);
    while (n < t->count && t->count - n > 1 && t->acked[n])
        n++;
    for (uint64_t i = 0; i < t->count; i++)
        n = t->acked[i] && i > n ? i : n;
    return n + 100;
}

static void no_acknowledged_message_is_lost_by_kill(void **state)
{
    struct told t = {.count = 2000000};
    uint64_t first = 0;
    (void)state;
    t.acked = mem_zalloc(t.count);
    t.removed = mem_zalloc(t.count);
    for (int i = 0; i < 8; i++) {
        first = kill_once(&t, first, (int)rand_below(120));
        if (i % 3 == 2) { /* the index may be deleted at any time */
            char path[128];
            snprintf(path, sizeof path, "%s/index", world_dir);
            remove_tree(path);
        }
        in_fiber(check_told, &t);
    }
    mem_free(t.acked);
    mem_free(t.removed);
}

int main(int argc, char **argv)
{
    OK(offload_start(2));
    if (argc == 5 && strcmp(argv[1], "--victim") == 0) {
        snprintf(world_dir, sizeof world_dir, "%s", argv[2]);
        tell_fd = atoi(argv[3]);
        atomic_store(&victim_next, strtoull(argv[4], NULL, 10));
        in_fiber(victim, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commits_on_two_workers_while_segments_are_recycled,
                                        world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(no_acknowledged_message_is_lost_by_kill, world_setup,
                                        world_teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return failed;
}
