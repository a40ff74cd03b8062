/* file: whole files, folders, locks. Outside fibers, and once inside one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/base/clock.h"
#include "io/fiber/fiber.h"
#include "io/fiber/worker.h"
#include "io/file/file.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_file.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static const char *in(const char *name)
{
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"f", "big", "a/b/c", "a/b", "a", "box", "box.lock", ""};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)remove(in(names[i]));
    return rmdir(folder) != 0 && errno == ENOENT ? 0 : -1; /* nothing else was left in it */
}

static void replace_and_read(void *arg)
{
    struct arena *a = arena_new(0, 0);
    struct str text = STR_NULL;
    struct stat st;
    (void)arg;
    assert_null(file_replace(in("f"), STR("old"), 0600));
    assert_null(file_replace(in("f"), STR("new\0text"), 0644));
    assert_int_equal(stat(in("f"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_null(file_read(a, in("f"), 100, &text));
    assert_true(str_eq(text, STR("new\0text")));
    assert_null(file_read(a, in("f"), 8, &text));
    assert_int_equal(file_read(a, in("f"), 7, &text)->kind, ERR_LIMIT);
    assert_int_equal(file_read(a, in("none"), 7, &text)->kind, ERR_NOTFOUND);
    assert_non_null(file_replace(in("none/f"), STR(""), 0600));
    assert_null(file_replace(in("f"), STR(""), 0600));
    assert_null(file_read(a, in("f"), 7, &text));
    assert_int_equal(text.len, 0);

    static char big[300000];
    memset(big, 'b', sizeof(big));
    assert_null(file_replace(in("big"), str_make(big, sizeof(big)), 0600));
    assert_null(file_read(a, in("big"), sizeof(big), &text));
    assert_true(str_eq(text, str_make(big, sizeof(big))));
    /* Files that do not know their size. */
    assert_null(file_read(a, "/proc/self/status", 100000, &text));
    assert_true(text.len > 100);
    uint64_t bytes = 0;
    assert_null(file_free_space(folder, &bytes));
    assert_true(bytes > 0);
    assert_int_equal(file_free_space(in("none"), &bytes)->kind, ERR_NOTFOUND);
    arena_free(a);
}

static void a_file_is_replaced_whole_and_read_whole(void **state)
{
    (void)state;
    replace_and_read(NULL);
}

static void the_same_inside_a_fiber(void **state)
{
    (void)state;
    struct err *e = worker_run_here(&(struct worker_options){.name = "test", .cpu = -1},
                                    replace_and_read, NULL);
    if (e && (e->kind == ERR_REFUSED || e->kind == ERR_UNSUPPORTED))
        skip();
    assert_null(e);
}

static void folders_above_are_made(void **state)
{
    (void)state;
    struct stat st;
    assert_null(file_mkdirs(in("a/b/c"), 0700));
    assert_null(file_mkdirs(in("a/b/c/"), 0700));
    assert_int_equal(stat(in("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_null(file_replace(in("f"), STR(""), 0600));
    struct err *e = file_mkdirs(in("f/x"), 0700);
    assert_non_null(e);
    assert_int_equal(e->code, ENOTDIR);
    assert_null(file_sync_dir(in("a")));
    assert_int_equal(file_sync_dir(in("none"))->kind, ERR_NOTFOUND);
}

static void one_holds_the_lock(void **state)
{
    (void)state;
    int first = open(in("box"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int second = open(in("box"), O_RDWR | O_CLOEXEC);
    for (int how = FILE_LOCK_FCNTL; how <= FILE_LOCK_FLOCK; how++) {
        assert_null(file_lock(first, (enum file_lock)how, clock_in_ms(50)));
        struct err *e = file_lock(second, (enum file_lock)how, clock_in_ms(20));
        assert_non_null(e);
        assert_int_equal(e->kind, ERR_TIMEOUT);
    }
    close(first);
    assert_null(file_lock(second, FILE_LOCK_FCNTL, clock_in_s(5)));
    assert_null(file_lock(second, FILE_LOCK_FLOCK, clock_in_s(5)));
    close(second);
}

static void a_lock_beside_the_file(void **state)
{
    (void)state;
    assert_null(file_dotlock(in("box"), 500, clock_in_ms(50)));
    assert_int_equal(file_dotlock(in("box"), 500, clock_in_ms(20))->kind, ERR_TIMEOUT);
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, in("box.lock"), old, 0), 0);
    assert_int_equal(file_dotlock(in("box"), 0, clock_in_ms(20))->kind, ERR_TIMEOUT);
    assert_null(file_dotlock(in("box"), 500, clock_in_ms(20)));
    file_dotunlock(in("box"));
    assert_int_equal(access(in("box.lock"), F_OK), -1);
    assert_int_equal(file_dotlock(in("none/box"), 500, clock_in_ms(20))->kind, ERR_NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_replaced_whole_and_read_whole),
        cmocka_unit_test(the_same_inside_a_fiber),
        cmocka_unit_test(folders_above_are_made),
        cmocka_unit_test(one_holds_the_lock),
        cmocka_unit_test(a_lock_beside_the_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
