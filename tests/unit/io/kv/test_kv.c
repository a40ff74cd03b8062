/* kv: found, not found and error are three answers; a full map says so; walking survives deletes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/fiber/fiber.h"
#include "io/fiber/worker.h"
#include "io/kv/kv.h"
#include "io/kv/kv_file.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_kv.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"env/data.mdb", "env/lock.mdb", "env", "map", "map-lock",
                                        "junk", ""};
    char path[128];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)remove(path);
    }
    return 0;
}

static struct kv *open_env(const char *name, struct kv_options o)
{
    char path[128];
    struct kv *kv = NULL;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    struct err *e = kv_open(path, &o, &kv);
    if (e)
        fail_msg("%s", e->text);
    return kv;
}

static struct kv_txn *begin(struct kv *kv, bool write)
{
    struct kv_txn *t = NULL;
    assert_null(kv_begin(kv, write, &t));
    return t;
}

static kv_table table(struct kv_txn *t, const char *name, bool integer)
{
    kv_table out = 0;
    assert_null(kv_table_open(t, name, true, integer, &out));
    return out;
}

static void what_is_put_is_found_and_the_rest_is_not(void **state)
{
    (void)state;
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4});
    struct kv_txn *t = begin(kv, true);
    kv_table names = table(t, "names", false);
    bool existed = true;
    assert_null(kv_put(t, names, STR("a"), STR("1")));
    assert_null(kv_put_new(t, names, STR("b"), STR(""), &existed));
    assert_false(existed);
    assert_null(kv_put_new(t, names, STR("a"), STR("2"), &existed));
    assert_true(existed);
    assert_null(kv_commit(t));

    static const struct {
        const char *key;
        bool found;
        const char *value;
    } rows[] = {{"a", true, "1"}, {"b", true, ""}, {"c", false, ""}, {"", false, ""}};
    t = begin(kv, false);
    for (size_t i = 0; i < 4; i++) {
        struct str value = STR_NULL;
        bool found = !rows[i].found;
        assert_null(kv_get(t, names, str_of(rows[i].key), &value, &found));
        assert_int_equal(found, rows[i].found);
        if (found)
            assert_true(str_eq(value, str_of(rows[i].value)));
    }
    char longer[600];
    memset(longer, 'x', sizeof(longer));
    bool found = true;
    struct str value;
    assert_null(kv_get(t, names, str_make(longer, sizeof(longer)), &value, &found));
    assert_false(found);
    kv_abort(t);

    t = begin(kv, true);
    struct err *e = kv_put(t, names, str_make(longer, sizeof(longer)), STR("v"));
    assert_non_null(e);
    assert_int_equal(e->kind, ERR_LIMIT);
    kv_abort(t);
    kv_close(kv);
}

/* Rows of 300 bytes: 13 to a page of 4 KiB when it is filled, and half of that when it is split. */
static void rising_keys_fill_pages_and_others_find_their_place(void **state)
{
    (void)state;
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4});
    struct kv_txn *t = begin(kv, true);
    kv_table rising = table(t, "rising", true);
    char bytes[300] = {0};
    uint64_t before = kv_bytes(kv);
    for (uint64_t n = 1; n <= 1300; n++)
        assert_null(kv_put_last(t, rising, str_make((const char *)&n, sizeof n), str_make(bytes, 300)));
    assert_null(kv_commit(t));
    assert_true(kv_bytes(kv) - before < 120 * 4096);

    t = begin(kv, true);
    uint64_t key = 7, count = 0;
    struct str value;
    bool found = false;
    assert_null(kv_put_last(t, rising, str_make((const char *)&key, sizeof key), STR("changed")));
    assert_null(kv_get(t, rising, str_make((const char *)&key, sizeof key), &value, &found));
    assert_true(found && str_eq(value, STR("changed")));
    key = 0;
    assert_null(kv_put_last(t, rising, str_make((const char *)&key, sizeof key), STR("first")));
    assert_null(kv_count(t, rising, &count));
    assert_int_equal(count, 1301);
    kv_abort(t);
    kv_close(kv);
}

static off_t length_of(const char *name)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void a_file_that_is_often_written_is_longer_while_it_is_open(void **state)
{
    (void)state;
    char bytes[300] = {0};
    uint64_t n = 0;
    for (int round = 0; round < 3; round++) {
        struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4, .often_written = true});
        for (int i = 0; i < 10; i++) {
            struct kv_txn *t = begin(kv, true);
            kv_table rows = table(t, "rows", true);
            for (int k = 0; k < 500; k++) {
                n++;
                assert_null(kv_put(t, rows, str_make((const char *)&n, sizeof n), str_make(bytes, 300)));
            }
            assert_null(kv_commit(t));
        }
        assert_true(length_of("env/data.mdb") > (off_t)kv_bytes(kv));
        off_t used = (off_t)kv_bytes(kv);
        kv_close(kv);
        assert_int_equal(length_of("env/data.mdb"), used);
    }
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4, .read_only = true});
    struct kv_txn *t = begin(kv, false);
    kv_table rows = 0;
    uint64_t count = 0;
    assert_null(kv_table_open(t, "rows", false, true, &rows));
    assert_null(kv_count(t, rows, &count));
    assert_int_equal(count, n);
    kv_abort(t);
    kv_close(kv);
}

static void an_aborted_write_leaves_nothing(void **state)
{
    (void)state;
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4});
    struct kv_txn *t = begin(kv, true);
    kv_table names = table(t, "names", false);
    assert_null(kv_commit(t));
    t = begin(kv, true);
    bool found;
    assert_null(kv_put(t, names, STR("ghost"), STR("1")));
    kv_abort(t);
    t = begin(kv, false);
    struct str value;
    assert_null(kv_get(t, names, STR("ghost"), &value, &found));
    assert_false(found);
    kv_abort(t);
    kv_close(kv);
}

static void tables_opened_by_a_reader_stay_open(void **state)
{
    (void)state;
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4});
    struct kv_txn *t = begin(kv, true);
    table(t, "stays", false);
    assert_null(kv_put(t, table(t, "stays", false), STR("k"), STR("v")));
    assert_null(kv_commit(t));
    kv_close(kv);
    kv = open_env("env", (struct kv_options){.tables_max = 4});
    t = begin(kv, false);
    kv_table stays = 0, none = 0;
    assert_null(kv_table_open(t, "stays", false, false, &stays));
    struct err *e = kv_table_open(t, "missing", false, false, &none);
    assert_int_equal(e->kind, ERR_NOTFOUND);
    kv_abort(t);
    t = begin(kv, false);
    struct str value;
    bool found = false;
    assert_null(kv_get(t, stays, STR("k"), &value, &found));
    assert_true(found);
    assert_null(kv_commit(t));
    kv_close(kv);
}

static struct str key_of(uint64_t *n)
{
    return str_make((const char *)n, sizeof(*n));
}

static void integer_keys_walk_in_number_order(void **state)
{
    (void)state;
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4});
    struct kv_txn *t = begin(kv, true);
    kv_table due = table(t, "due", true);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t n = i * 7919 % 1000 * 1000;
        assert_null(kv_put(t, due, key_of(&n), STR("x")));
    }
    uint64_t count = 0;
    assert_null(kv_count(t, due, &count));
    assert_int_equal(count, 1000);
    struct kv_cursor *c;
    uint64_t from = 499001, expect = 500000;
    assert_null(kv_cursor_open(t, due, key_of(&from), &c));
    struct str k, v;
    bool found = false;
    for (;;) {
        assert_null(kv_cursor_next(c, &k, &v, &found));
        if (!found)
            break;
        assert_memory_equal(k.ptr, &expect, 8);
        /* Deleting what the cursor stands on must not skip the next one. */
        bool deleted = false;
        assert_null(kv_del(t, due, key_of(&expect), &deleted));
        assert_true(deleted);
        expect += 1000;
    }
    assert_int_equal(expect, 1000000);
    kv_cursor_close(c);
    assert_null(kv_count(t, due, &count));
    assert_int_equal(count, 500);
    assert_null(kv_clear(t, due));
    assert_null(kv_count(t, due, &count));
    assert_int_equal(count, 0);
    assert_null(kv_commit(t));
    kv_close(kv);
}

/* Two of three go, by two cursors side by side, in order and then from the other end; other keys come meanwhile. */
static void what_a_cursor_finds_it_takes_out(void **state)
{
    (void)state;
    enum { KEYS = 3000 };
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4});
    struct kv_txn *t = begin(kv, true);
    const kv_table tables[2] = {table(t, "long", true), table(t, "short", true)};
    static const char text[200] = "value";
    for (uint64_t i = 1; i <= KEYS; i++) {
        assert_null(kv_put(t, tables[0], key_of(&i), str_make(text, sizeof(text))));
        assert_null(kv_put(t, tables[1], key_of(&i), STR("x")));
    }
    struct kv_cursor *c[2];
    for (int k = 0; k < 2; k++)
        assert_null(kv_cursor_open(t, tables[k], STR_NULL, &c[k]));
    struct str key, v;
    bool found = false;
    for (uint64_t n = 1; n <= KEYS; n++) {
        uint64_t i = n <= KEYS / 2 ? n : KEYS + KEYS / 2 + 1 - n, fresh = KEYS + n;
        for (int k = 0; k < 2 && i % 3 != 0; k++) {
            assert_null(kv_cursor_seek(c[k], key_of(&i), &v, &found));
            assert_true(found);
            assert_int_equal(v.len, k == 0 ? sizeof(text) : 1);
            assert_null(kv_cursor_del(c[k]));
            assert_null(kv_cursor_seek(c[k], key_of(&i), &v, &found));
            assert_false(found);
        }
        if (n % 7 == 0)
            assert_null(kv_put(t, tables[0], key_of(&fresh), str_make(text, sizeof(text))));
    }
    /* What is next lies behind it. */
    uint64_t at = 300;
    assert_null(kv_cursor_seek(c[1], key_of(&at), &v, &found));
    assert_true(found);
    assert_null(kv_cursor_del(c[1]));
    assert_null(kv_cursor_next(c[1], &key, &v, &found));
    at = 303;
    assert_true(found && str_eq(key, key_of(&at)));
    kv_cursor_close(c[0]);
    kv_cursor_close(c[1]);
    assert_null(kv_commit(t));
    t = begin(kv, false);
    uint64_t count = 0;
    assert_null(kv_count(t, tables[0], &count));
    assert_int_equal(count, KEYS / 3 + KEYS / 7);
    assert_null(kv_count(t, tables[1], &count));
    assert_int_equal(count, KEYS / 3 - 1);
    for (uint64_t i = 1; i <= KEYS; i++) {
        assert_null(kv_get(t, tables[0], key_of(&i), &v, &found));
        assert_int_equal(found, i % 3 == 0);
    }
    kv_abort(t);
    kv_close(kv);
}

static void a_walk_from_nothing_starts_at_the_first(void **state)
{
    (void)state;
    struct kv *kv = open_env("map", (struct kv_options){.one_file = true, .no_sync = true});
    struct kv_txn *t = begin(kv, true);
    kv_table only = table(t, NULL, false);
    assert_null(kv_put(t, only, STR("b"), STR("2")));
    assert_null(kv_put(t, only, STR("a"), STR("1")));
    struct kv_cursor *c;
    struct str k, v;
    bool found = false;
    assert_null(kv_cursor_open(t, only, STR_NULL, &c));
    assert_null(kv_cursor_next(c, &k, &v, &found));
    assert_true(found && str_eq(k, STR("a")) && str_eq(v, STR("1")));
    assert_null(kv_cursor_next(c, &k, &v, &found));
    assert_true(found && str_eq(k, STR("b")));
    assert_null(kv_cursor_next(c, &k, &v, &found));
    assert_false(found);
    kv_cursor_close(c);
    assert_null(kv_commit(t));
    assert_null(kv_sync(kv));
    kv_close(kv);
}

static void a_map_file_is_read_without_lock_files(void **state)
{
    (void)state;
    char lock[128];
    snprintf(lock, sizeof(lock), "%s/map-lock", folder);
    struct kv *kv = open_env("map", (struct kv_options){.one_file = true, .read_only = true});
    struct kv_txn *t = begin(kv, false), *second = begin(kv, false);
    struct str v;
    bool found = false;
    assert_null(kv_get(t, table(t, NULL, false), STR("a"), &v, &found));
    assert_true(found);
    assert_null(kv_get(second, table(second, NULL, false), STR("b"), &v, &found));
    assert_true(found);
    kv_abort(t);
    kv_abort(second);
    kv_close(kv);
    assert_int_equal(access(lock, F_OK), -1);
}

static void a_full_map_says_so_and_stays_whole(void **state)
{
    (void)state;
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4, .map_bytes = 1 << 20});
    struct kv_txn *t = begin(kv, true);
    kv_table fill = table(t, "fill", false);
    assert_null(kv_put(t, fill, STR("before"), STR("1")));
    assert_null(kv_commit(t));
    t = begin(kv, true);
    static const char big[4000];
    struct err *e = NULL;
    for (uint64_t i = 0; !e && i < 1000; i++)
        e = kv_put(t, fill, key_of(&i), str_make(big, sizeof(big)));
    assert_non_null(e);
    assert_int_equal(e->kind, ERR_FULL);
    assert_non_null(strstr(e->text, "limit"));
    kv_abort(t);
    t = begin(kv, false);
    uint64_t count = 0;
    assert_null(kv_count(t, fill, &count));
    assert_int_equal(count, 1);
    kv_abort(t);
    kv_close(kv);
}

static void errors_tell_what_is_wrong(void **state)
{
    (void)state;
    char path[128];
    struct kv *kv = NULL;
    uint64_t dev, ino;
    int64_t mtime;
    snprintf(path, sizeof(path), "%s/missing", folder);
    struct err *e = kv_open(path, &(struct kv_options){.one_file = true, .read_only = true}, &kv);
    assert_int_equal(e->kind, ERR_NOTFOUND);
    assert_int_equal(kv_path_id(path, &dev, &ino, &mtime)->kind, ERR_NOTFOUND);
    snprintf(path, sizeof(path), "%s/junk", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 9000; i++)
        fputc('j', f);
    fclose(f);
    e = kv_open(path, &(struct kv_options){.one_file = true, .read_only = true}, &kv);
    assert_int_equal(e->kind, ERR_DAMAGED);
    assert_non_null(strstr(e->text, path));
    assert_null(kv_path_id(path, &dev, &ino, &mtime));
    assert_true(ino > 0 && mtime > 0);
}

static atomic_bool stop;

static void *read_often(void *arg)
{
    struct kv *kv = arg;
    while (!atomic_load(&stop)) {
        struct kv_txn *t;
        struct str v;
        bool found = false;
        if (kv_begin(kv, false, &t))
            abort();
        if (kv_get(t, 1, STR("k"), &v, &found))
            abort();
        if (found && v.len != 8)
            abort();
        kv_abort(t);
    }
    return NULL;
}

static void readers_on_many_threads_see_whole_writes(void **state)
{
    (void)state;
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 4});
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_often, kv), 0);
    for (uint64_t i = 0; i < 200; i++) {
        struct kv_txn *t = begin(kv, true);
        assert_null(kv_put(t, 1, STR("k"), key_of(&i)));
        assert_null(kv_commit(t));
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    kv_close(kv);
}

/* Inside a fiber the guard is taken and given back: parking afterwards is fine. */
static void in_fiber(void *arg)
{
    struct kv *kv = open_env("map", (struct kv_options){.one_file = true, .read_only = true});
    for (int i = 0; i < 3; i++) {
        struct kv_txn *t = begin(kv, false);
        kv_abort(t);
        fiber_yield();
        t = begin(kv, false);
        assert_null(kv_commit(t));
        fiber_yield();
    }
    kv_close(kv);
    *(bool *)arg = true;
}

static void a_fiber_may_wait_again_after_a_transaction(void **state)
{
    (void)state;
    bool done = false;
    struct err *e = worker_run_here(&(struct worker_options){.name = "test", .cpu = -1}, in_fiber,
                                    &done);
    if (e && (e->kind == ERR_REFUSED || e->kind == ERR_UNSUPPORTED))
        skip();
    assert_null(e);
    assert_true(done);
}

/* An address range of our own that lies before that of the database, full of 'Z', with a page of
 * the database's file at its beginning: what kv_file_look_ahead on another thread looks like. */
static char *part_before(const char *inside, int fd, size_t bytes)
{
    const size_t page = 4096, step = (size_t)64 << 20;
    uintptr_t at = ((uintptr_t)inside - step) & ~(uintptr_t)(page - 1);
    void *area = MAP_FAILED;
    for (int i = 0; i < 1000 && area == MAP_FAILED; i++, at -= step)
        area = mmap((void *)at, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_not_equal(area, MAP_FAILED);
    memset(area, 'Z', bytes);
    assert_ptr_equal(mmap(area, page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)page), area);
    return area;
}

static void what_is_forgotten_is_the_database_alone(void **state)
{
    (void)state;
    enum { AREA = 4 << 20, MAP = 16 << 20, PAGE = 4096 };
    static char block[64 << 10];
    char path[128];
    struct str value = STR_NULL;
    bool found = false;
    struct kv *kv = open_env("env", (struct kv_options){.tables_max = 1, .map_bytes = MAP});
    struct kv_txn *t = begin(kv, true);
    kv_table big = table(t, "big", false);
    for (char key = 'a'; key < 'q'; key++)
        assert_null(kv_put(t, big, str_make(&key, 1), str_make(block, sizeof(block))));
    assert_null(kv_commit(t));
    t = begin(kv, false);
    assert_null(kv_get(t, big, STR("a"), &value, &found));
    assert_true(found);

    snprintf(path, sizeof(path), "%s/env/data.mdb", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *area = part_before(value.ptr, fd, AREA);
    char *map = kv_file_map(fd, MAP);
    assert_true(map > area && map <= value.ptr && value.ptr < map + MAP);
    assert_null(kv_file_map(fd, (size_t)1 << 46));
    kv_forget(kv, 0);
    for (size_t i = PAGE; i < AREA; i += PAGE)
        assert_int_equal(area[i], 'Z');
    munmap(area, AREA);
    close(fd);
    kv_abort(t);
    kv_close(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_found_and_the_rest_is_not),
        cmocka_unit_test(rising_keys_fill_pages_and_others_find_their_place),
        cmocka_unit_test(a_file_that_is_often_written_is_longer_while_it_is_open),
        cmocka_unit_test(an_aborted_write_leaves_nothing),
        cmocka_unit_test(tables_opened_by_a_reader_stay_open),
        cmocka_unit_test(integer_keys_walk_in_number_order),
        cmocka_unit_test(what_a_cursor_finds_it_takes_out),
        cmocka_unit_test(a_walk_from_nothing_starts_at_the_first),
        cmocka_unit_test(a_map_file_is_read_without_lock_files),
        cmocka_unit_test(a_full_map_says_so_and_stays_whole),
        cmocka_unit_test(what_is_forgotten_is_the_database_alone),
        cmocka_unit_test(errors_tell_what_is_wrong),
        cmocka_unit_test(readers_on_many_threads_see_whole_writes),
        cmocka_unit_test(a_fiber_may_wait_again_after_a_transaction),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
