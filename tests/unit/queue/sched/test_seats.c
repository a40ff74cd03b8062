/* Seats: how many recipients of long lists are in memory, by transport and by message. */
#include "queue/sched/seats.h"
#include "queue/why.h"
#include "tests/unit/queue/world.h"

/* --- arithmetic */

/* a, b take one, A, B leave one, p, q pass: as one of two messages. A take that finds none is an x in `shown`. */
static void seats_by_the_book(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t limit, extra;
        const char *script, *shown;
        int64_t free_a, free_b, taken, extra_taken;
    } rows[] = {
        {"all are free", 3, 2, "", "", 3, 3, 0, 0},
        {"who comes takes", 3, 2, "aab", "aab", 0, 0, 3, 0},
        {"none is left, the extra ones are not for all", 3, 2, "aaab", "aaax", 0, 0, 3, 0},
        {"one that is left is for the other", 1, 0, "abAb", "axAb", 0, 0, 1, 0},
        {"who has passed has half of the extra ones", 1, 5, "aqbbbb", "aqbbbx", 0, 0, 1, 3},
        {"and the next one half of what is left then", 1, 5, "aqbbbpaa", "aqbbbpax", 0, 0, 1, 4},
        {"the last one too", 0, 1, "pa", "pa", 0, 0, 0, 1},
        {"passing again gives no more", 0, 4, "paapa", "paapx", 0, 0, 0, 2},
        {"extra ones are left first", 1, 2, "paaA", "paaA", 1, 0, 1, 0},
        {"none at all", 0, 0, "pab", "pxx", 0, 0, 0, 0},
        {"ordinary ones before extra ones", 2, 2, "paab", "paax", 1, 0, 2, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct seat_pool pool = {.limit = rows[i].limit, .extra = rows[i].extra};
        struct seat_share shares[2] = {{.pool = &pool}, {.pool = &pool}};
        char shown[20] = "";
        for (size_t k = 0; rows[i].script[k] != '\0'; k++) {
            char c = rows[i].script[k];
            struct seat_share *s = &shares[strchr("bBq", c) != NULL];
            bool ok = true;
            if (c == 'p' || c == 'q')
                seats_pass(s);
            else if (c == 'A' || c == 'B')
                seats_leave(s);
            else
                ok = seats_take(s);
            shown[k] = ok ? c : 'x';
        }
        if (strcmp(shown, rows[i].shown) != 0 || seats_free(&shares[0]) != rows[i].free_a ||
            seats_free(&shares[1]) != rows[i].free_b)
            fail_msg("%s: %s, %d and %d free", rows[i].name, shown, (int)seats_free(&shares[0]),
                     (int)seats_free(&shares[1]));
        assert_int_equal(pool.taken, rows[i].taken);
        assert_int_equal(pool.extra_taken, rows[i].extra_taken);
    }
}

static void fewer_after_a_reload(void **state)
{
    (void)state;
    struct seat_pool pool = {.limit = 2};
    struct seat_share s = {.pool = &pool};
    assert_true(seats_take(&s) && seats_take(&s));
    pool.limit = 1;
    assert_int_equal(seats_free(&s), 0);
    seats_leave(&s);
    assert_false(seats_take(&s));
    seats_leave(&s);
    assert_true(seats_take(&s));
}

/* --- in a queue */

enum { OWN = 2, POOL = 18, MANY = 300 };

static char text[4 * MANY][48];
static const char *list[4 * MANY];

static void list_fill(size_t from, size_t to, const char *word, const char *domain)
{
    for (size_t i = from; i < to; i++) {
        snprintf(text[i], sizeof text[i], "%s-%zu@%s", word, i, domain);
        list[i] = text[i];
    }
}

static const char *post_list(size_t n)
{
    return post_id((struct posting){.rcpts = list, .rcpt_count = n});
}

static void few_seats(void)
{
    world.so.message_recipient_limit = 100;
    world.so.message_active_limit = 10;
    world.so.recipient_minimum = OWN;
    world.transports[0].pool = POOL;
    world.transports[0].recipient_limit = 1;
    world.transports[0].concurrency_limit = 1000;
    world.transports[0].initial_concurrency = 1000;
    world.transports[0].refill_limit = 5;
    world.transports[0].refill_delay_s = 1;
}

/* Of this message. */
static size_t flying_of(const char *id)
{
    size_t n = 0, at = 0;
    struct str key;
    void *value;
    pthread_mutex_lock(&world.lock);
    while (hmap_next(&world.flying, &at, &key, &value))
        n += str_starts(key, str_of(id));
    pthread_mutex_unlock(&world.lock);
    return n;
}

struct seen_seats {
    const char *transport;
    struct seat_pool pool;
    size_t held, parts, in_part, reading;
    uint64_t whole;
};

static void seats_main(void *arg)
{
    struct seen_seats *out = arg;
    const struct sched *s = world.q->sched;
    const struct transport *t = hmap_get(&s->transports, str_of(out->transport));
    size_t at = 0;
    uint64_t seq;
    void *value;
    while (umap_next(&s->active, &at, &seq, &value))
        out->parts += ((struct active *)value)->refill != NULL;
    out->whole = s->recipients;
    out->reading = s->reading;
    if (t == NULL)
        return;
    out->pool = t->seats;
    out->held = t->held_count;
}

static struct seen_seats seats_of(const char *transport)
{
    struct seen_seats s = {.transport = transport};
    there(world.sched, seats_main, &s);
    return s;
}

static void asked_main(void *arg)
{
    struct arena *a = arena_new(0, 0);
    OK(queue_dest(world.q, (struct queue_route){"smtp", "a.org"}, a, arg));
    arena_free(a);
}

static void nothing_is_taken(const char *transport)
{
    struct seen_seats s = seats_of(transport);
    assert_int_equal(s.pool.taken, 0);
    assert_int_equal(s.pool.extra_taken, 0);
    assert_int_equal(s.held, 0);
    assert_int_equal(s.reading, 0);
    assert_int_equal(s.whole, 0);
}

/* Those of another transport come behind so many that the seats are full of. */
static void a_full_transport_keeps_no_other_out(void **state)
{
    (void)state;
    static const char *const domains[][2] = {{"a.org", "relay.org"}, {"relay.org", "a.org"}};
    for (size_t i = 0; i < 2; i++) {
        few_seats();
        world.so.transport_count = 1;
        (void)transport_add("relay");
        world.gate_open = false;
        queue_up();
        uint64_t sent = seen(&world.sent);
        list_fill(0, MANY, "gate", domains[i][0]);
        list_fill(MANY, MANY + 50, "ok", domains[i][1]);
        const char *id = post_list(MANY + 50);
        WAIT_FOR(seen(&world.sent) == sent + 50);
        WAIT_FOR(flying_of(id) == OWN + POOL);
        struct seen_seats s = seats_of(i == 0 ? "smtp" : "relay");
        assert_int_equal(s.pool.taken, POOL);
        assert_int_equal(s.held, MANY - OWN - POOL);
        world.gate_open = true;
        WAIT_FOR(gone(id));
        assert_int_equal(seen(&world.sent), sent + MANY + 50);
        nothing_is_taken("smtp");
        nothing_is_taken("relay");
        assert_true(queue_down(5000));
    }
}

/* The first list has the seats of its transport, those behind it what is their own; another transport's has all. */
static void the_first_list_has_the_seats(void **state)
{
    (void)state;
    char id[4][QUEUE_ID_MAX];
    few_seats();
    (void)transport_add("relay");
    queue_up();
    list_fill(0, MANY, "gate", "a.org");
    for (size_t i = 0; i < 3; i++) {
        str_copy(id[i], sizeof id[i], str_of(post_list(MANY)));
        WAIT_FOR(flying_of(id[i]) == (i == 0 ? OWN + POOL : OWN));
    }
    const char *small = post_to("ok@b.org");
    WAIT_FOR(gone(small));
    list_fill(0, MANY, "gate", "relay.org");
    str_copy(id[3], sizeof id[3], str_of(post_list(MANY)));
    WAIT_FOR(flying_of(id[3]) == OWN + POOL);
    WAIT_FOR(seats_of("smtp").held == 3 * (MANY - OWN) - POOL);
    struct queue_dest asked;
    there(world.workers[0], asked_main, &asked);
    assert_int_equal(asked.seats, POOL);
    assert_int_equal(asked.seats_taken, POOL);
    assert_int_equal(asked.held, 3 * (MANY - OWN) - POOL);
    world.gate_open = true;
    for (size_t i = 0; i < 4; i++)
        WAIT_FOR(gone(id[i]));
    assert_int_equal(seen(&world.sent), 4 * MANY + 1);
    nothing_is_taken("smtp");
    assert_true(queue_down(5000));
}

/* What is removed, or held, leaves its seats to the next. */
static void who_ends_leaves_the_seats(void **state)
{
    (void)state;
    static const enum queue_act acts[] = {QUEUE_ACT_REMOVE, QUEUE_ACT_HOLD};
    for (size_t i = 0; i < 2; i++) {
        char first[QUEUE_ID_MAX];
        few_seats();
        world.gate_open = false;
        queue_up();
        list_fill(0, MANY, "gate", "a.org");
        str_copy(first, sizeof first, str_of(post_list(MANY)));
        WAIT_FOR(flying_of(first) == OWN + POOL);
        list_fill(0, MANY, "ok", "b.org");
        const char *second = post_list(MANY);
        assert_int_equal(act(acts[i], first, QUEUE_ANY), 1);
        world.gate_open = true;
        WAIT_FOR(gone(second));
        WAIT_FOR(idle());
        nothing_is_taken("smtp");
        if (acts[i] == QUEUE_ACT_HOLD)
            assert_int_equal(act(QUEUE_ACT_REMOVE, first, QUEUE_ANY), 1);
        assert_true(queue_down(5000));
    }
}

/* A list that passes another, ten times as long, takes of the extra ones. */
static void who_passes_has_extra_seats(void **state)
{
    (void)state;
    few_seats();
    world.transports[0].concurrency_limit = world.transports[0].initial_concurrency = 1;
    world.transports[0].recipient_limit = 2; /* with 1 each recipient is a destination */
    world.transports[0].pool = 58;
    world.transports[0].extra_pool = 9;
    world.transports[0].refill_limit = 1;
    world.slow_ms = 3;
    queue_up();
    list_fill(0, 4 * MANY, "slow", "a.org");
    char first[QUEUE_ID_MAX];
    str_copy(first, sizeof first, str_of(post_list(4 * MANY)));
    WAIT_FOR(flying_of(first) == 2);
    const char *second = post_list(110);
    WAIT_FOR(seats_of("smtp").pool.extra_taken == 5);
    assert_false(gone(first));
    WAIT_FOR(gone(second) && gone(first));
    nothing_is_taken("smtp");
    assert_true(queue_down(5000));
}

/* Shorter lists are in memory whole while there is room for them, then in part too. */
static void short_lists_come_in_part_when_there_are_many(void **state)
{
    (void)state;
    few_seats();
    world.so.message_recipient_limit = 50;
    world.so.message_active_limit = 30; /* and 2 each: 60 */
    queue_up();
    list_fill(0, 50, "gate", "a.org");
    const char *whole = post_list(50);
    WAIT_FOR(flying_of(whole) == 50);
    assert_int_equal(seats_of("smtp").whole, 50);
    char part[QUEUE_ID_MAX];
    str_copy(part, sizeof part, str_of(post_list(40)));
    WAIT_FOR(flying_of(part) == OWN + POOL);
    struct seen_seats s = seats_of("smtp");
    assert_int_equal(s.parts, 1);
    assert_int_equal(s.whole, 50);
    const char *small = post_list(OWN);
    WAIT_FOR(flying_of(small) == OWN);
    world.gate_open = true;
    WAIT_FOR(list_count() == 0 && idle());
    assert_int_equal(seen(&world.sent), 90 + OWN);
    nothing_is_taken("smtp");
    assert_true(queue_down(5000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seats_by_the_book),
        cmocka_unit_test(fewer_after_a_reload),
        QUEUE_TEST(a_full_transport_keeps_no_other_out),
        QUEUE_TEST(the_first_list_has_the_seats),
        QUEUE_TEST(who_ends_leaves_the_seats),
        QUEUE_TEST(who_passes_has_extra_seats),
        QUEUE_TEST(short_lists_come_in_part_when_there_are_many),
    };
    return cmocka_run_group_tests(tests, log_setup, log_teardown);
}
