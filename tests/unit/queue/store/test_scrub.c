/* The scrub looks through the index beside the queue's work: each small lie in it is found, and no
 * traffic is taken for one. */
#include "old_world.h"

/* --- lies */

enum table { MSG, CHANGING, DUE_AT, ON_HOLD, LIVE, TABLES };

/* The index of a queue that is closed. */
struct index_file {
    struct kv *kv;
    struct kv_txn *t;
    kv_table tables[TABLES];
};

struct lie {
    const char *what;
    void (*tell)(const struct index_file *x, const struct lie *l);
    enum table table;
    uint64_t message;
};

enum { PLAIN_ONE = 13, HELD_ONE = 12 };

static struct str key_of(const struct lie *l)
{
    return str_make((const char *)&seqs[l->message], sizeof seqs[l->message]);
}

static void put(const struct index_file *x, enum table in, struct str key, struct str value)
{
    OK(kv_put(x->t, x->tables[in], key, value));
}

static void del(const struct index_file *x, enum table in, struct str key)
{
    bool found = false;
    OK(kv_del(x->t, x->tables[in], key, &found));
    MUST(found);
}

/* A copy of the row of the lie's message. */
static void get_row(const struct index_file *x, const struct lie *l, struct buf *out)
{
    struct str value;
    bool found = false;
    OK(kv_get(x->t, x->tables[l->table], key_of(l), &value, &found));
    MUST(found);
    buf_add_str(out, value);
}

static void get_first(const struct index_file *x, const struct lie *l, struct buf *key_out,
                      struct buf *value_out)
{
    struct str key, value, all = STR_NULL;
    struct kv_cursor *c;
    bool found = false;
    OK(kv_cursor_open(x->t, x->tables[l->table], all, &c));
    OK(kv_cursor_next(c, &key, &value, &found));
    MUST(found);
    buf_add_str(key_out, key);
    buf_add_str(value_out, value);
    kv_cursor_close(c);
}

static void byte_changes(const struct index_file *x, const struct lie *l)
{
    struct buf row = {0};
    get_row(x, l, &row);
    row.ptr[row.len - 3] ^= 1;
    put(x, l->table, key_of(l), buf_str(&row));
    buf_fini(&row);
}

static void row_goes(const struct index_file *x, const struct lie *l)
{
    del(x, l->table, key_of(l));
}

static void row_comes(const struct index_file *x, const struct lie *l)
{
    put(x, l->table, key_of(l), STR(""));
}

static void half_comes(const struct index_file *x, const struct lie *l)
{
    struct buf row = {0};
    get_row(x, l, &row);
    put(x, l->table, str_make("\1\0\0\0\0\0\0\0", 8), buf_str(&row));
    buf_fini(&row);
}

static void first_goes(const struct index_file *x, const struct lie *l)
{
    struct buf key = {0}, value = {0};
    get_first(x, l, &key, &value);
    del(x, l->table, buf_str(&key));
    buf_fini(&key);
    buf_fini(&value);
}

static void first_key_changes(const struct index_file *x, const struct lie *l)
{
    struct buf key = {0}, value = {0};
    get_first(x, l, &key, &value);
    del(x, l->table, buf_str(&key));
    key.ptr[7] ^= 4;
    put(x, l->table, buf_str(&key), buf_str(&value));
    buf_fini(&key);
    buf_fini(&value);
}

static void first_value_changes(const struct index_file *x, const struct lie *l)
{
    struct buf key = {0}, value = {0};
    get_first(x, l, &key, &value);
    value.ptr[0] ^= 4;
    put(x, l->table, buf_str(&key), buf_str(&value));
    buf_fini(&key);
    buf_fini(&value);
}

static const struct lie lies[] = {
    {"a byte of a row", byte_changes, MSG, PLAIN_ONE},
    {"a byte of its other half", byte_changes, CHANGING, PLAIN_ONE},
    {"a row is gone", row_goes, MSG, PLAIN_ONE},
    {"half a row is gone", row_goes, CHANGING, PLAIN_ONE},
    {"a half has no other", half_comes, CHANGING, PLAIN_ONE},
    {"one too many on hold", row_comes, ON_HOLD, PLAIN_ONE},
    {"no longer on hold", row_goes, ON_HOLD, HELD_ONE},
    {"a due time is gone", first_goes, DUE_AT, 0},
    {"another due time", first_key_changes, DUE_AT, 0},
    {"a segment has less in it", first_value_changes, LIVE, 0},
    {"a segment has nothing in it", first_goes, LIVE, 0},
};

static void tell(const struct lie *l)
{
    static const struct {
        const char *name;
        bool by_number;
    } tables[TABLES] = {[MSG] = {"msg", true},
                        [CHANGING] = {"state", true},
                        [DUE_AT] = {"due", false},
                        [ON_HOLD] = {"held", true},
                        [LIVE] = {"live", true}};
    char path[128];
    struct index_file x;
    MUST(fates[PLAIN_ONE] == PLAIN && fates[HELD_ONE] == HELD);
    snprintf(path, sizeof path, "%s/index", world_dir);
    OK(kv_open(path, &(struct kv_options){.tables_max = 8}, &x.kv));
    OK(kv_begin(x.kv, true, &x.t));
    for (int i = 0; i < TABLES; i++)
        OK(kv_table_open(x.t, tables[i].name, false, tables[i].by_number, &x.tables[i]));
    l->tell(&x, l);
    OK(kv_commit(x.t));
    kv_close(x.kv);
}

static void heal(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    (void)arg;
    OK(store_open(&o, &s));
    MUST(store_ready(s) && !s->proven);
    COMES(s->proven);
    MUST(store_ready(s));
    check_world(s);
    OK(store_close(s));
}

static void the_scrub_finds_each_lie(void **state)
{
    char path[160];
    (void)state;
    snprintf(path, sizeof path, "%s/index/damaged.mdb", world_dir);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        tell(&lies[i]);
        in_fiber(heal, NULL);
        if (unlink(path) != 0)
            fail_msg("it was believed: %s", lies[i].what);
    }
    in_fiber(heal, NULL);
    assert_int_equal(count_files("index", "damaged.mdb"), 0);
}

/* --- traffic */

struct bustle {
    struct store *store;
    uint64_t changes;
    bool stop;
};

static void bustle(void *arg)
{
    struct bustle *b = arg;
    struct store *s = b->store;
    for (uint64_t n = 0; !b->stop; n = (n + 7) % OLD) {
        if (fates[n] == REMOVED)
            continue;
        struct qmsg *m = get(s, n);
        fate_is(m, n, n % 11 == 0 ? REMOVED : n % 3 == 0 ? HELD : DEFERRED);
        qmsg_unref(m);
        if (++b->changes % 10 == 0)
            OK(keeper_round(s, 0));
    }
}

static void scrub_in_traffic(void *arg)
{
    struct store_options o = world_options();
    struct store *s = NULL;
    struct group g;
    (void)arg;
    OK(store_open(&o, &s));
    COMES(s->proven);
    s->scrub_rows = 25;
    struct bustle b = {.store = s};
    group_init(&g);
    MUST(group_spawn(&g, "bustle", bustle, &b));
    for (int i = 0; i < 5; i++)
        OK(scrub(s));
    b.stop = true;
    OK(group_join(&g, DEADLINE_NEVER));
    MUST(b.changes > 100);
    check_world(s);
    OK(store_close(s));
}

static void the_scrub_is_not_misled_by_traffic(void **state)
{
    (void)state;
    in_fiber(scrub_in_traffic, NULL);
    assert_int_equal(count_files("index", "damaged.mdb"), 0);
}

int main(void)
{
    OK(offload_start(2));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_scrub_finds_each_lie, make_old_world, world_teardown),
        cmocka_unit_test_setup_teardown(the_scrub_is_not_misled_by_traffic, make_old_world,
                                        world_teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    offload_stop();
    return failed;
}
