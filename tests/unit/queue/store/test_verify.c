/* verify: a whole queue has nothing to tell of; each kind of damage is found, once, and named. */
#include "queue/store/verify.h"
#include "tests/unit/queue/store/world.h"


enum { FINDINGS_MAX = 64, MAIL = 12, LARGE = 3, REMOVED = 5, HELD = 7, DEFERRED = 2 };

struct seen {
    struct finding list[FINDINGS_MAX];
    size_t count;
    size_t items, bad;
};

static struct seen s;

static void found(void *ctx, const struct finding *f)
{
    (void)ctx;
    MUST(s.count < FINDINGS_MAX);
    s.list[s.count++] = *f;
}

static void item(void *ctx, const struct segment_scan *scan, const struct scan_item *i, const char *bad)
{
    (void)ctx;
    (void)scan;
    (void)i;
    s.items++;
    s.bad += bad != NULL;
}

static struct verify look(bool running)
{
    struct verify v = {.directory = world_dir, .running = running, .found = found, .item = item};
    memset(&s, 0, sizeof s);
    OK(verify_queue(&v));
    return v;
}

static const struct finding *the_only(enum finding_kind kind)
{
    for (size_t i = 0; i < s.count; i++)
        if (s.count != 1 || s.list[i].kind != kind)
            fprintf(stderr, "  %d %s %s %s\n", (int)s.list[i].kind, s.list[i].where, s.list[i].id,
                    s.list[i].why);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.list[0].kind, kind);
    return &s.list[0];
}

/* --- a queue with one of everything */

struct mail {
    uint64_t seq;
    char id[QUEUE_ID_MAX];
    struct qmsg_place place;
};
static struct mail mails[MAIL];

static void fill(void *arg)
{
    struct store_options o = world_options();
    struct store *store = NULL;
    (void)arg;
    o.index_delay_ms = 10;
    OK(store_open(&o, &store));
    for (uint64_t i = 0; i < MAIL; i++) {
        struct qmsg *m = commit(store, i, i == LARGE ? 150000 : 1000 + 700 * i);
        mails[i].seq = m->seq;
        mails[i].place = m->place;
        memcpy(mails[i].id, m->id, sizeof m->id);
        if (i == DEFERRED)
            defer_first(m, 1234567890);
        if (i == HELD)
            store_mark(m, &(struct mark){.flags = MESSAGE_HOLD});
        if (i == REMOVED) {
            OK(store_sync(store));
            store_remove(m);
        }
        qmsg_unref(m);
    }
    OK(store_close(store));
}

/* Threads would be missing in a forked child: they live as long as a store is open. */
static void with_store(void (*fn)(void *arg), void *arg)
{
    OK(offload_start(1));
    in_fiber(fn, arg);
    offload_stop();
}

static int setup(void **state)
{
    int rc = world_setup(state);
    with_store(fill, NULL);
    return rc;
}

static const char *in_queue(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", world_dir, name);
    return path;
}

static const char *segment_path(uint64_t epoch)
{
    char name[SEGMENT_NAME_MAX], below[64];
    segment_name(epoch, name);
    snprintf(below, sizeof below, "log/%s", name);
    return in_queue(below);
}

static const char *content_path(const struct mail *m)
{
    char below[64];
    snprintf(below, sizeof below, "content/%016llx", (unsigned long long)m->seq);
    return in_queue(below);
}

static void flip(const char *path, off_t at)
{
    char byte;
    int fd = open(path, O_RDWR);
    MUST(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 0x10;
    MUST(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

static void whole(void **state)
{
    (void)state;
    struct verify v = look(false);
    if (s.count != 0)
        (void)the_only(FINDING_TORN);
    assert_int_equal(v.messages, MAIL - 1);
    assert_int_equal(v.rows, MAIL - 1);
    assert_int_equal(v.large, 1);
    assert_true(v.records >= MAIL + 3 && s.items == v.records && s.bad == 0);
    assert_false(v.index_unfit);
}

static void no_index(void **state)
{
    (void)state;
    remove_tree(in_queue("index"));
    struct verify v = look(false);
    assert_int_equal(s.count, 0);
    assert_int_equal(v.messages, MAIL - 1);
}

/* --- one damage each */

static void content_of_a_record(void **state)
{
    (void)state;
    flip(segment_path(mails[1].place.epoch), mails[1].place.at + mails[1].place.length - 10);
    struct verify v = look(false);
    const struct finding *f = the_only(FINDING_RECORD);
    assert_int_equal(f->seq, mails[1].seq);
    assert_string_equal(f->id, mails[1].id);
    assert_false(v.index_unfit);
}

static void envelope_of_a_record(void **state)
{
    (void)state;
    flip(segment_path(mails[1].place.epoch), mails[1].place.at + RECORD_HEAD + MESSAGE_FIXED + 20);
    look(false);
    assert_string_equal(the_only(FINDING_RECORD)->id, mails[1].id); /* the index knows */
}

static void head_of_a_record(void **state)
{
    (void)state;
    flip(segment_path(mails[4].place.epoch), mails[4].place.at + 9);
    look(false);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.list[0].kind, FINDING_LOST);
    assert_int_equal(s.list[1].kind, FINDING_GAP);
    assert_string_equal(s.list[0].id, mails[4].id);
    assert_string_equal(s.list[0].where, s.list[1].where);
}

static void removed_record(void **state)
{
    (void)state;
    flip(segment_path(mails[REMOVED].place.epoch), mails[REMOVED].place.at + 400);
    struct verify v = look(false);
    (void)the_only(FINDING_SCAR);
    assert_int_equal(v.damaged, 0);
    flip(segment_path(mails[REMOVED].place.epoch), mails[REMOVED].place.at + 9);
    look(false);
    (void)the_only(FINDING_SCAR);
    remove_tree(in_queue("index")); /* nobody knows now what stood there */
    look(false);
    (void)the_only(FINDING_GAP);
}

static void header_of_a_segment(void **state)
{
    (void)state;
    flip(segment_path(mails[0].place.epoch), 20);
    look(false);
    (void)the_only(FINDING_HEADER);
}

static void segment_gone(void **state)
{
    (void)state;
    MUST(unlink(segment_path(mails[0].place.epoch)) == 0);
    struct verify v = look(false);
    size_t lost = 0;
    for (size_t i = 0; i < s.count; i++)
        lost += s.list[i].kind == FINDING_LOST && s.list[i].id[0] != '\0';
    assert_true(v.index_unfit || lost == MAIL - 1);
}

static void large_content_gone(void **state)
{
    (void)state;
    MUST(unlink(content_path(&mails[LARGE])) == 0);
    look(false);
    assert_string_equal(the_only(FINDING_CONTENT)->id, mails[LARGE].id);
}

static void large_content_short(void **state)
{
    (void)state;
    MUST(truncate(content_path(&mails[LARGE]), 65536) == 0);
    look(false);
    assert_string_equal(the_only(FINDING_CONTENT)->id, mails[LARGE].id);
}

static void large_content_flipped(void **state)
{
    (void)state;
    flip(content_path(&mails[LARGE]), 70000);
    look(false);
    assert_string_equal(the_only(FINDING_CONTENT)->id, mails[LARGE].id);
}

static void stray_content(void **state)
{
    (void)state;
    int fd = open(in_queue("content/00000000000fffff"), O_CREAT | O_WRONLY, 0600);
    MUST(fd >= 0);
    close(fd);
    struct verify v = look(false);
    (void)the_only(FINDING_STRAY);
    assert_int_equal(v.damaged, 0);
}

static void garbage_index(void **state)
{
    (void)state;
    int fd = open(in_queue("index/data.mdb"), O_WRONLY);
    for (int i = 0; i < 20000; i++) {
        uint64_t r = rand_u64();
        MUST(write(fd, &r, sizeof r) == sizeof r);
    }
    close(fd);
    struct verify v = look(false);
    (void)the_only(FINDING_INDEX);
    assert_true(v.index_unfit);
    assert_int_equal(v.messages, MAIL - 1); /* the log is looked at all the same */
}

/* Every page of the index, one after the other: found or harmless, never fatal. */
static void index_pages(void **state)
{
    struct stat st;
    static char page[4096], zeros[4096];
    const char *path = in_queue("index/data.mdb");
    char copy[200];
    (void)state;
    str_copy(copy, sizeof copy, str_of(path));
    MUST(stat(copy, &st) == 0);
    size_t noticed = 0;
    for (off_t at = 2 * 4096; at + 4096 <= st.st_size && at < 20 * 4096; at += 4096) {
        int fd = open(copy, O_RDWR);
        MUST(pread(fd, page, sizeof page, at) == sizeof page);
        MUST(pwrite(fd, zeros, sizeof zeros, at) == sizeof zeros);
        struct verify v = look(false);
        noticed += v.index_unfit;
        MUST(pwrite(fd, page, sizeof page, at) == sizeof page);
        close(fd);
    }
    assert_true(noticed > 0);
    look(false);
    assert_int_equal(s.count, 0);
}

/* --- a torn tail is no damage */

static void killed(void *arg)
{
    struct store_options o = world_options();
    struct store *store = NULL;
    (void)arg;
    OK(store_open(&o, &store));
    for (uint64_t i = 0; i < 3; i++) {
        struct qmsg *m = commit(store, 100 + i, 3000);
        mails[0].place = m->place;
        qmsg_unref(m);
    }
    _exit(0);
}

static void torn_tail(void **state)
{
    int status;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        with_store(killed, NULL);
        _exit(1);
    }
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
    /* Which segment the child wrote to is known by its epoch alone: the youngest with a batch. */
    struct verify v = look(false);
    assert_int_equal(s.count, 0);
    assert_int_equal(v.messages, MAIL - 1 + 3);
    uint64_t epoch = mails[1].place.epoch;
    for (uint64_t next = epoch + 1; next < epoch + 8; next++) {
        int fd = open(segment_path(next), O_RDONLY);
        char magic[4] = "";
        if (fd >= 0 && pread(fd, magic, 4, BLOCK) == 4 && memcmp(magic, "RPb1", 4) == 0)
            epoch = next;
        if (fd >= 0)
            close(fd);
    }
    off_t last = BLOCK;
    int fd = open(segment_path(epoch), O_RDWR);
    char magic[4];
    for (off_t at = BLOCK; pread(fd, magic, 4, at) == 4; at += BLOCK)
        last = memcmp(magic, "RPb1", 4) == 0 ? at : last;
    close(fd);
    flip(segment_path(epoch), last + 2000);
    v = look(false);
    (void)the_only(FINDING_TORN);
    assert_int_equal(v.damaged, 0);
}

/* --- while a server writes */

static void busy(void *arg)
{
    struct store_options o = world_options();
    struct store *store = NULL;
    int *ready = arg;
    o.index_delay_ms = 10;
    OK(store_open(&o, &store));
    for (uint64_t i = 0; i < 100000; i++) {
        struct qmsg *m = commit(store, 1000 + i, i % 50 == 0 ? 100000 : 15000);
        if (i % 7 != 0)
            store_remove(m);
        qmsg_unref(m);
        if (i == 40)
            MUST(write(*ready, "x", 1) == 1);
        if (i % 20 == 0)
            fiber_sleep_until(clock_in_ms(2));
    }
}

static void running(void **state)
{
    int fds[2], status;
    char byte;
    (void)state;
    MUST(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        with_store(busy, &fds[1]);
        _exit(1);
    }
    MUST(read(fds[0], &byte, 1) == 1);
    for (int i = 0; i < 15; i++) {
        look(true);
        if (s.count != 0)
            (void)the_only(FINDING_TORN);
        usleep(20000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    close(fds[0]);
    close(fds[1]);
}

#define ROW(name, fn) {name, fn, setup, world_teardown, NULL}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW("a whole queue has nothing to tell of", whole),
        ROW("a missing index is no damage", no_index),
        ROW("content in a record is damaged: its message is named", content_of_a_record),
        ROW("an envelope is damaged: the index names its message", envelope_of_a_record),
        ROW("a record's head is damaged: a gap, and a row without a record", head_of_a_record),
        ROW("the record of a removed message is damaged: a scar", removed_record),
        ROW("a segment's header block is damaged", header_of_a_segment),
        ROW("a segment is gone: what was in it is named", segment_gone),
        ROW("a large content is gone", large_content_gone),
        ROW("a large content is too short", large_content_short),
        ROW("a large content is damaged", large_content_flipped),
        ROW("a content that nobody refers to is no damage", stray_content),
        ROW("an index of garbage", garbage_index),
        ROW("no page of the index can end the check", index_pages),
        ROW("a torn tail is no damage", torn_tail),
        ROW("a busy queue has nothing to tell of", running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
