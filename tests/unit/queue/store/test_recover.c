/* What a power cut, a bad disk or a lost index leaves. A child fills a queue and ends without
 * closing it; the log is then damaged in every way a row of queue/README.md speaks of, and opened
 * again. */
#include "world.h"

/* 10 to 13 share the last batch. */
enum { MESSAGES = 14, LAST = 10, SECTOR = 512 };

struct placed {
    uint64_t epoch;
    uint32_t at, length;
};
static struct placed places[MESSAGES];
static char pristine[96];

/* --- the child: messages 0..5 one by one, 6..8 and 9..13 together: the first of each goes out
 * alone and the others gather behind it, so 7 and 8 share a batch, and 10..13 */

static struct store *child_store;

static void child_one(void *arg)
{
    uint64_t n = (uint64_t)(uintptr_t)arg;
    struct qmsg *m = commit(child_store, n, n == 3 ? 40000 : 1500 + n * 900);
    printf("%llu %llu %u %u\n", (unsigned long long)n, (unsigned long long)m->place.epoch,
           m->place.at, m->place.length);
    if (n == 1)
        defer_first(m, 4242);
    if (n == 2)
        store_remove(m);
    qmsg_unref(m);
}

static void child_some(uintptr_t from, uintptr_t to)
{
    struct group g;
    group_init(&g);
    for (uintptr_t n = from; n < to; n++)
        MUST(group_spawn(&g, "child", child_one, (void *)n));
    OK(group_join(&g, DEADLINE_NEVER));
}

static void child(void *arg)
{
    struct store_options o = world_options();
    (void)arg;
    o.mark_delay_ms = 100000;
    o.index_delay_ms = 100000;
    OK(store_open(&o, &child_store));
    for (uintptr_t n = 0; n < 6; n++)
        child_one((void *)n);
    OK(store_sync(child_store));
    child_one((void *)6);
    child_some(7, 9);
    child_one((void *)9);
    child_some(10, MESSAGES);
    MUST(store_counts(child_store).writes == 10);
    fflush(stdout);
    _exit(0);
}

static int fill_queue(void **state)
{
    char cmd[256];
    unsigned long long n, epoch;
    if (world_setup(state) != 0)
        return 1;
    snprintf(pristine, sizeof pristine, "%s.pristine", world_dir);
    snprintf(cmd, sizeof cmd, "/proc/%d/exe --child %s", (int)getpid(), world_dir);
    FILE *f = popen(cmd, "r");
    struct placed p;
    int lines = 0;
    while (fscanf(f, "%llu %llu %u %u", &n, &epoch, &p.at, &p.length) == 4 && n < MESSAGES) {
        p.epoch = epoch;
        places[n] = p;
        lines++;
    }
    snprintf(cmd, sizeof cmd, "cp -r --sparse=always '%s' '%s'", world_dir, pristine);
    return pclose(f) != 0 || lines != MESSAGES || system(cmd) != 0;
}

static int drop_queue(void **state)
{
    remove_tree(pristine);
    return world_teardown(state);
}

static void start_again(void)
{
    char cmd[256];
    remove_tree(world_dir);
    snprintf(cmd, sizeof cmd, "cp -r --sparse=always '%s' '%s'", pristine, world_dir);
    MUST(system(cmd) == 0);
}

static int open_segment(uint64_t epoch)
{
    char path[160], name[SEGMENT_NAME_MAX];
    segment_name(epoch, name);
    snprintf(path, sizeof path, "%s/log/%s", world_dir, name);
    int fd = open(path, O_RDWR);
    MUST(fd >= 0);
    return fd;
}

static void flip(uint64_t epoch, uint32_t at)
{
    uint8_t byte;
    int fd = open_segment(epoch);
    MUST(pread(fd, &byte, 1, at) == 1);
    byte ^= 0x40;
    MUST(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

static void put_bytes(uint64_t epoch, uint32_t at, const void *bytes, size_t n)
{
    int fd = open_segment(epoch);
    MUST(pwrite(fd, bytes, n, at) == (ssize_t)n);
    close(fd);
}

static void put_zeros(uint64_t epoch, uint32_t at, size_t n)
{
    char *zeros = mem_zalloc(n);
    put_bytes(epoch, at, zeros, n);
    mem_free(zeros);
}

/* --- what is there after opening */

struct seen {
    bool there[MESSAGES];
    uint64_t corrupt;
};

static void look(void *arg)
{
    struct seen *seen = arg;
    struct store_options o = world_options();
    struct store *s = NULL;
    struct arena *a = arena_new(0, 0);
    struct store_row *rows = NULL;
    size_t n = 0;
    OK(store_open(&o, &s));
    OK(store_list(s, 0, 1000, a, &rows, &n));
    for (size_t i = 0; i < n; i++) {
        struct qmsg *m = NULL;
        uint64_t number = rows[i].env->data_size;
        MUST(number < MESSAGES && !seen->there[number]);
        seen->there[number] = true;
        OK(store_get(s, rows[i].seq, &m));
        check_content(m);
        if (number == 1)
            MUST(m->env->rcpts[0].state == RCPT_DEFERRED && qmsg_due_us(m) == 4242);
        qmsg_unref(m);
    }
    seen->corrupt = store_counts(s).corrupt;
    /* It goes on working. */
    struct qmsg *m = commit(s, 5000, 5000);
    check_content(m);
    store_remove(m);
    qmsg_unref(m);
    arena_free(a);
    OK(store_close(s));
}

static struct seen open_and_look(void)
{
    struct seen seen = {0}, again = {0};
    in_fiber(look, &seen);
    /* A second start finds what the first one found. */
    in_fiber(look, &again);
    MUST(memcmp(seen.there, again.there, sizeof seen.there) == 0);
    return seen;
}

static void drop_index(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/index", world_dir);
    remove_tree(path);
}

/* All are there but 2, which was removed, and `missing`. */
static void check_seen(const struct seen *seen, int missing)
{
    for (int i = 0; i < MESSAGES; i++) {
        if (i == missing || i == 2)
            continue;
        if (!seen->there[i])
            fail_msg("message %d is lost", i);
    }
    if (missing >= 0)
        assert_false(seen->there[missing]);
}

/* --- rows of the crash table */

static void a_crash_without_any_index_row_is_replayed(void **state)
{
    (void)state;
    start_again();
    struct seen seen = open_and_look();
    check_seen(&seen, 2);
    assert_int_equal(seen.corrupt, 0);
    start_again();
    drop_index();
    seen = open_and_look();
    check_seen(&seen, 2);
    assert_int_equal(seen.corrupt, 0);
}

static uint32_t last_end(void)
{
    uint32_t end = 0;
    for (int i = 0; i < MESSAGES; i++)
        end = places[i].at + places[i].length > end ? places[i].at + places[i].length : end;
    return (uint32_t)round_up(end, BLOCK);
}

/* The last batch is torn at every sector: records before the tear are whole, those behind are gone,
 * nothing else suffers, and nothing is called damaged. */
static void a_torn_tail_is_ignored(void **state)
{
    uint32_t from = places[LAST].at - BATCH_HEAD;
    (void)state;
    for (uint32_t cut = from; cut < last_end(); cut += SECTOR) {
        start_again();
        put_zeros(places[LAST].epoch, cut, last_end() - cut);
        if (cut % 2 == 0)
            drop_index();
        struct seen seen = open_and_look();
        for (int i = 0; i < MESSAGES; i++) {
            bool whole = places[i].at + places[i].length <= cut;
            if (i < LAST ? i != 2 && !seen.there[i] : whole != seen.there[i])
                fail_msg("torn at %u: message %d at %u+%u", cut, i, places[i].at, places[i].length);
        }
        assert_int_equal(seen.corrupt, 0);
    }
}

/* Sectors of the batch in flight arrive in any order or not at all. What is listed is whole. */
static void sectors_of_the_last_batch_come_in_any_order(void **state)
{
    uint32_t from = places[LAST].at - BATCH_HEAD;
    (void)state;
    for (int seed = 0; seed < 25; seed++) {
        uint64_t x = (uint64_t)seed * 0x9E3779B97F4A7C15U + 1;
        start_again();
        for (uint32_t at = from; at < last_end(); at += SECTOR) {
            x = x * 6364136223846793005U + 1442695040888963407U;
            if ((x >> 33) % 4 == 0)
                put_zeros(places[LAST].epoch, at, SECTOR);
        }
        struct seen seen = open_and_look();
        for (int i = 0; i < LAST; i++)
            assert_true(i == 2 || seen.there[i]);
    }
}

static void a_damaged_middle_takes_no_neighbour_with_it(void **state)
{
    static const struct {
        const char *what;
        int message;   /* whose record, */
        uint32_t into; /* which byte of it */
        bool lost;     /* and is it gone then? */
        bool named;    /* its envelope is whole: set aside under its queue id */
    } rows[] = {
        {"a head's magic", 4, 0, true, false},
        {"a head's length", 4, 9, true, false},
        {"a head's epoch", 4, 17, true, false},
        {"a head's seq", 4, 25, true, false},
        {"a head's sum", 4, 44, true, false},
        {"the fixed part", 4, RECORD_HEAD + 3, true, false},
        {"an envelope", 4, RECORD_HEAD + MESSAGE_FIXED + 20, true, false},
        {"content", 4, 2000, true, true},
        {"large content", 3, 30000, true, true},
        {"a record inside a batch", 7, 100, true, false},
        {"a head inside a batch", 7, 8, true, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        start_again();
        flip(places[rows[i].message].epoch, places[rows[i].message].at + rows[i].into);
        struct seen seen = open_and_look();
        print_message("    %s\n", rows[i].what);
        check_seen(&seen, rows[i].lost ? rows[i].message : -1);
        assert_true(seen.corrupt > 0 && count_files("corrupt", "") == 1);
        assert_int_equal(count_files("corrupt", "seg-"), !rows[i].named);
    }
}

static void a_damaged_batch_head_costs_no_message(void **state)
{
    (void)state;
    start_again();
    flip(places[4].epoch, places[4].at - BATCH_HEAD + 24);
    struct seen seen = open_and_look();
    check_seen(&seen, 2);
    assert_true(seen.corrupt > 0);
}

static void a_block_of_zeros_costs_what_lay_in_it(void **state)
{
    (void)state;
    start_again();
    put_zeros(places[4].epoch, places[4].at - BATCH_HEAD, BLOCK);
    struct seen seen = open_and_look();
    check_seen(&seen, 4);
    assert_true(seen.corrupt > 0);
}

static void a_damaged_header_block_costs_nothing(void **state)
{
    (void)state;
    start_again();
    flip(places[0].epoch, 12);
    /* The secret is in the index; with that gone too nobody could tell records from look-alikes. */
    struct seen seen = open_and_look();
    check_seen(&seen, 2);
}

/* Content that looks like a record is content, also where the scan gropes for the next record. */
static void a_forged_record_in_a_mail_is_not_believed(void **state)
{
    uint8_t forged[RECORD_HEAD];
    struct record r = {.type = RECORD_REMOVE, .seq = FIRST_SEQ};
    (void)state;
    start_again();
    record_sum(&r);
    record_put(&r, forged);
    record_seal(forged, places[4].epoch, 0);
    put_bytes(places[4].epoch, (uint32_t)round_up(places[4].at + 1000, 8), forged, sizeof forged);
    flip(places[4].epoch, places[4].at);
    struct seen seen = open_and_look();
    check_seen(&seen, 4);
}

static void garbage_for_an_index_is_built_again(void **state)
{
    char path[160];
    (void)state;
    start_again();
    snprintf(path, sizeof path, "%s/index/data.mdb", world_dir);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 3000; i++)
        fputs("garbage", f);
    fclose(f);
    struct seen seen = open_and_look();
    check_seen(&seen, 2);
}

/* A lost rename: the header block's epoch decides. */
static void names_of_segments_do_not_matter(void **state)
{
    char from[160], to[160], name[SEGMENT_NAME_MAX];
    (void)state;
    start_again();
    segment_name(places[0].epoch, name);
    snprintf(from, sizeof from, "%s/log/%s", world_dir, name);
    snprintf(to, sizeof to, "%s/log/seg-00000000000000ee", world_dir);
    assert_int_equal(rename(from, to), 0);
    struct seen seen = open_and_look();
    check_seen(&seen, 2);
}

/* The index of an hour ago: what it covers is replayed over it once more. */
static void an_older_index_is_brought_up_to_date(void **state)
{
    char cmd[400];
    struct seen seen = {0};
    (void)state;
    start_again();
    in_fiber(look, &seen);
    snprintf(cmd, sizeof cmd, "rm -rf '%s/index' && cp -r --sparse=always '%s/index' '%s/index'",
             world_dir, pristine, world_dir);
    assert_int_equal(system(cmd), 0);
    seen = open_and_look();
    check_seen(&seen, 2);
    assert_int_equal(seen.corrupt, 0);
}

/* --- nothing that could hold mail is deleted */

static void refuse(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct err *e = store_open(&o, &s);
    MUST(e != NULL && e->kind == ERR_REFUSED && strstr(e->text, "newer version") != NULL);
    *(bool *)arg = true;
}

static void header_of(uint64_t epoch, uint64_t secret, uint32_t version, uint8_t block[BLOCK])
{
    struct segment_header h = {
        .epoch = epoch, .size = 256 << 10, .next_seq = 1, .secret = secret};
    segment_header_put(&h, block);
    put_u32(block + 4, version);
    put_u64(block + 56, hash_sum(block, 56, 0));
}

static void a_segment_of_a_newer_format_refuses_the_start(void **state)
{
    static uint8_t block[BLOCK];
    bool refused = false;
    (void)state;
    start_again();
    size_t files = count_files("log", "seg-");
    header_of(places[0].epoch, 4711, SEGMENT_FORMAT + 1, block);
    put_bytes(places[0].epoch, 0, block, BLOCK);
    in_fiber(refuse, &refused);
    assert_true(refused);
    assert_int_equal(count_files("log", "seg-"), files);
    assert_int_equal(count_files("corrupt", ""), 0);
}

static void make_format_1(uint64_t epoch)
{
    static uint8_t block[BLOCK];
    int fd = open_segment(epoch);
    MUST(pread(fd, block, BLOCK, 0) == BLOCK);
    put_u32(block + 4, 1);
    put_u64(block + 56, hash_sum(block, 56, 0));
    MUST(pwrite(fd, block, BLOCK, 0) == BLOCK);
    close(fd);
}

/* As the program before wrote them: with the index gone, and with it. */
static void segments_of_the_format_before_are_read(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        start_again();
        if (round == 0)
            drop_index();
        for (size_t i = 0; i < MESSAGES; i++)
            make_format_1(places[i].epoch);
        struct seen seen = open_and_look();
        check_seen(&seen, 2);
        assert_int_equal(seen.corrupt, 0);
        assert_int_equal(count_files("corrupt", ""), 0);
    }
}

static void copy_segment(uint64_t epoch, const char *to)
{
    char cmd[400], name[SEGMENT_NAME_MAX];
    segment_name(epoch, name);
    snprintf(cmd, sizeof cmd, "cp '%s/log/%s' '%s/log/%s'", world_dir, name, world_dir, to);
    MUST(system(cmd) == 0);
}

static void segments_that_do_not_belong_here_are_moved_aside(void **state)
{
    static uint8_t block[BLOCK];
    (void)state;
    start_again();
    copy_segment(places[0].epoch, "seg-00000000000000aa"); /* the same epoch twice */
    copy_segment(places[0].epoch, "seg-00000000000000bb");
    header_of(0xbb, 4711, SEGMENT_FORMAT, block); /* another queue's */
    put_bytes(0xbb, 0, block, BLOCK);
    copy_segment(places[0].epoch, "seg-00000000000000cc");
    put_zeros(0xcc, 0, BLOCK); /* no header, and its records are of another epoch */
    struct seen seen = open_and_look();
    check_seen(&seen, 2);
    assert_int_equal(count_files("corrupt", "seg-"), 3);
    assert_int_equal(seen.corrupt, 3);
}

/* --- the last write of all */

static void what_is_left_of_a_torn_write_is_kept(void **state)
{
    (void)state;
    start_again();
    flip(places[LAST + 1].epoch, places[LAST + 1].at + 200);
    struct seen seen = open_and_look();
    assert_int_equal(seen.corrupt, 0);
    assert_false(seen.there[LAST + 1]);
    assert_true(seen.there[LAST] && seen.there[LAST + 2]);
    assert_int_equal(count_files("corrupt", "torn-"), 1);
}

static void stop_cleanly(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    OK(store_open(&o, &s));
    struct qmsg *m = commit(s, 4000, 3000);
    *(struct qmsg_place *)arg = m->place;
    qmsg_unref(m);
    OK(store_close(s));
}

static void count_corrupt(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    OK(store_open(&o, &s));
    COMES(!s->rebuild.sweep); /* the index is looked through first */
    *(uint64_t *)arg = store_counts(s).corrupt;
    OK(store_close(s));
}

static void after_a_clean_stop_damage_at_the_end_is_damage(void **state)
{
    struct qmsg_place place;
    uint64_t corrupt = 0;
    (void)state;
    for (int what = 0; what < 3; what++) {
        start_again();
        in_fiber(stop_cleanly, &place);
        if (what < 2)
            flip(place.epoch, place.at + (what == 0 ? 500 : 3));
        else
            put_zeros(place.epoch, place.at - BATCH_HEAD, BLOCK);
        drop_index();
        in_fiber(count_corrupt, &corrupt);
        assert_true(corrupt > 0);
        assert_true(count_files("corrupt", "") > 0);
    }
}

static void large(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    OK(store_open(&o, &s));
    struct qmsg *m = commit(s, 4000, 300000);
    *(struct qmsg_place *)arg = m->place;
    qmsg_unref(m);
    OK(store_close(s));
}

static void large_content_of_a_damaged_record_is_kept(void **state)
{
    struct qmsg_place place;
    uint64_t corrupt = 0;
    (void)state;
    start_again();
    in_fiber(large, &place);
    flip(place.epoch, place.at + RECORD_HEAD + 60);
    drop_index();
    in_fiber(count_corrupt, &corrupt);
    assert_true(corrupt > 0);
    assert_int_equal(count_files("content", ""), 0);
    assert_int_equal(count_files("corrupt", "0000"), 1);
}

int main(int argc, char **argv)
{
    OK(offload_start(2));
    if (argc == 3 && strcmp(argv[1], "--child") == 0) {
        snprintf(world_dir, sizeof world_dir, "%s", argv[2]);
        in_fiber(child, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_without_any_index_row_is_replayed),
        cmocka_unit_test(a_torn_tail_is_ignored),
        cmocka_unit_test(sectors_of_the_last_batch_come_in_any_order),
        cmocka_unit_test(a_damaged_middle_takes_no_neighbour_with_it),
        cmocka_unit_test(a_damaged_batch_head_costs_no_message),
        cmocka_unit_test(a_block_of_zeros_costs_what_lay_in_it),
        cmocka_unit_test(a_damaged_header_block_costs_nothing),
        cmocka_unit_test(a_forged_record_in_a_mail_is_not_believed),
        cmocka_unit_test(garbage_for_an_index_is_built_again),
        cmocka_unit_test(names_of_segments_do_not_matter),
        cmocka_unit_test(an_older_index_is_brought_up_to_date),
        cmocka_unit_test(a_segment_of_a_newer_format_refuses_the_start),
        cmocka_unit_test(segments_of_the_format_before_are_read),
        cmocka_unit_test(segments_that_do_not_belong_here_are_moved_aside),
        cmocka_unit_test(what_is_left_of_a_torn_write_is_kept),
        cmocka_unit_test(after_a_clean_stop_damage_at_the_end_is_damage),
        cmocka_unit_test(large_content_of_a_damaged_record_is_kept),
    };
    int failed = cmocka_run_group_tests(tests, fill_queue, drop_queue);
    offload_stop();
    return failed;
}
