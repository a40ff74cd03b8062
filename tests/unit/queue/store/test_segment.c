/* The scan, on what a batch leaves of its last block as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/store/segment.h"

enum { EPOCH = 7, SECRET = 4711, BATCHES = 3, BYTES = 4 * BATCHES * BLOCK };

static uint8_t bytes[BYTES];
static size_t heads[BATCHES + 1], ends[BATCHES]; /* of batches; where their last record ends */

static size_t put_record(size_t at, uint64_t seq, size_t n, uint64_t epoch)
{
    static char body[BLOCK];
    struct record r = {.type = RECORD_MARK, .seq = seq, .first = str_make(body, n)};
    memset(body, 'm', sizeof body);
    record_sum(&r);
    record_put(&r, bytes + at);
    record_seal(bytes + at, epoch, SECRET);
    return at + record_bytes(&r);
}

/* Each batch has two records, the second of `last` bytes in all; `unit` is what writes are multiples of. Before
 * that the file was full of records of an earlier life. */
static void write_batches(size_t last, size_t unit)
{
    size_t at = 0;
    for (size_t old = 0; old + BLOCK <= BYTES;)
        old = put_record(old, 99, 40, EPOCH - 1);
    for (uint64_t n = 0; n < BATCHES; n++) {
        size_t head = heads[n] = at;
        at = put_record(head + BATCH_HEAD, 2 * n, 100, EPOCH);
        at = ends[n] = put_record(at, 2 * n + 1, last - RECORD_HEAD, EPOCH);
        struct batch_head h = {.epoch = EPOCH,
                               .number = n + 1,
                               .next_seq = 100,
                               .records = 2,
                               .bytes = (uint32_t)(at - head)};
        batch_head_put(&h, SECRET, bytes + head);
        memset(bytes + at, 0, batch_written(h.bytes, unit) - h.bytes);
        at = heads[n + 1] = round_up(at, BLOCK);
    }
}

/* Records and damage that a scan meets. */
struct met {
    size_t records, gaps, gap_bytes;
};

static struct met scan(void)
{
    struct segment_scan s;
    struct scan_item item;
    struct met met = {0};
    segment_scan_init(&s, str_make((const char *)bytes, heads[BATCHES]), BLOCK, EPOCH, SECRET);
    while (segment_scan_next(&s, &item)) {
        met.records += item.kind == SCAN_RECORD && record_whole(&item.head, item.bytes);
        met.gaps += item.kind == SCAN_GAP;
        met.gap_bytes += item.kind == SCAN_GAP ? item.bytes.len : 0;
    }
    return met;
}

/* So that the last record ends at, before and behind the multiples of 512 and of 4096. */
static const size_t lasts[] = {48,   200,  296,  304,  312,  808,  816,
                               824,  1000, 3880, 3888, 3896, 4000, 4088};
static const size_t units[] = {512, 1024, 4096};

static void each(void (*check)(void))
{
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t i = 0; i < sizeof lasts / sizeof *lasts; i++) {
            write_batches(lasts[i], units[u]);
            check();
        }
    }
}

static void check_whole(void)
{
    struct met met = scan();
    assert_int_equal(met.records, 2 * BATCHES);
    assert_int_equal(met.gaps, 0);
}

static void what_an_earlier_life_left_behind_a_batch_is_not_met(void **state)
{
    (void)state;
    each(check_whole);
}

static void check_without_head(void)
{
    bytes[heads[1] + 20] ^= 1;
    struct met met = scan();
    assert_int_equal(met.records, 2 * BATCHES);
    assert_int_equal(met.gaps, 1);
    assert_int_equal(met.gap_bytes, BATCH_HEAD);
}

static void nor_is_it_damage_when_the_batch_head_is(void **state)
{
    (void)state;
    each(check_without_head);
}

static void check_zeroed(void)
{
    size_t at = heads[1] + BATCH_HEAD + 152; /* the second record */
    memset(bytes + at, 0, round_up(ends[1], BLOCK) - at);
    struct met met = scan();
    assert_int_equal(met.records, 2 * BATCHES - 1);
    assert_int_equal(met.gaps, 1);
}

static void zeros_where_the_batch_head_tells_of_a_record_are_damage(void **state)
{
    (void)state;
    each(check_zeroed);
}

static void a_batch_ends_in_zeros_or_with_its_block(void **state)
{
    static const struct {
        size_t bytes, unit, written;
    } rows[] = {{112, 512, 512},    {504, 512, 512},    {512, 512, 1024},   {11168, 512, 11264},
                {11168, 4096, 12288}, {4088, 512, 4096}, {4096, 512, 4096}, {4096, 4096, 4096},
                {4104, 4096, 8192}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(batch_written(rows[i].bytes, rows[i].unit), rows[i].written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_earlier_life_left_behind_a_batch_is_not_met),
        cmocka_unit_test(nor_is_it_damage_when_the_batch_head_is),
        cmocka_unit_test(zeros_where_the_batch_head_tells_of_a_record_are_damage),
        cmocka_unit_test(a_batch_ends_in_zeros_or_with_its_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
