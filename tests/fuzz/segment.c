/* queue/store: the scan of a damaged segment. The input is a text:
 *
 *     words of a record      one record a line, all of them one batch; an empty line begins the next batch
 *     !XYZ                   damage: three bytes a place and a value, X and Y the place, Z put there
 *
 * However it is damaged: what the scan gives out lies in the segment, in order; a record whose sums fit is one that was written;
 * without damage all of them come. */
#include "fuzz.h"
#include "io/base/hash.h"
#include "io/base/mem.h"
#include "queue/store/segment.h"

enum { EPOCH = 7, SECRET = 4711, RECORDS_MAX = 64, BYTES_MAX = 16 * BLOCK };

static struct {
    uint8_t bytes[BYTES_MAX];
    size_t end, batch, records, batches;
    struct str written[RECORDS_MAX];
    bool damaged;
} w;

static void end_batch(void)
{
    if (w.end <= w.batch + BATCH_HEAD)
        return;
    struct batch_head h = {.epoch = EPOCH,
                           .number = ++w.batches,
                           .next_seq = w.records,
                           .records = 1,
                           .bytes = (uint32_t)(w.end - w.batch)};
    batch_head_put(&h, SECRET, w.bytes + w.batch);
    w.batch = round_up(w.end, BLOCK);
    w.end = w.batch + BATCH_HEAD;
}

static void put(struct str line)
{
    static const enum record_type types[] = {RECORD_MESSAGE, RECORD_MARK, RECORD_REMOVE};
    struct record r = {.type = types[line.len % 3], .seq = w.records, .first = line};
    if (w.records == RECORDS_MAX || w.end + record_bytes(&r) > BYTES_MAX)
        return;
    record_sum(&r);
    record_put(&r, w.bytes + w.end);
    record_seal(w.bytes + w.end, EPOCH, SECRET);
    w.end += record_bytes(&r);
    w.written[w.records++] = line;
}

static void write_segment(struct str in)
{
    memset(&w, 0, sizeof w);
    w.end = BATCH_HEAD;
    struct str rest = in, line;
    while (fuzz_line(&rest, &line)) {
        if (line.len == 0)
            end_batch();
        else if (line.ptr[0] != '!')
            put(line);
    }
    end_batch();
    rest = in;
    while (fuzz_line(&rest, &line)) {
        if (line.len < 4 || line.ptr[0] != '!')
            continue;
        const uint8_t *b = (const uint8_t *)line.ptr;
        size_t at = (size_t)b[1] << 8 | b[2];
        w.damaged |= at < w.batch && w.bytes[at] != b[3];
        w.bytes[at % BYTES_MAX] = b[3];
        w.damaged |= at >= w.batch;
    }
}

/* Returns the records that are whole. */
static size_t scan(struct str bytes)
{
    struct segment_scan s;
    struct scan_item item;
    size_t came = 0, turns = 0;
    uint32_t last = 0;
    segment_scan_init(&s, bytes, BLOCK, EPOCH, SECRET);
    while (segment_scan_next(&s, &item)) {
        CHECK(++turns <= BYTES_MAX / RECORD_ALIGN);
        CHECK(fuzz_inside(item.bytes, bytes) && item.at >= last && item.at >= BLOCK);
        last = item.at;
        if (item.kind != SCAN_RECORD || hash_sum(item.bytes.ptr, item.bytes.len, 0) != item.head.body_sum)
            continue;
        CHECK(item.head.seq < w.records && str_eq(item.bytes, w.written[item.head.seq]));
        came++;
    }
    return came;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_str(data, size);
    write_segment(in);
    struct str bytes = str_make((const char *)w.bytes, w.batch < BYTES_MAX ? w.batch : BYTES_MAX);
    size_t came = scan(bytes);
    CHECK(w.damaged ? came <= w.records : came == w.records);
    /* A file that ends too early; a copy, so that a read behind it is seen. */
    struct fuzz_rand r = fuzz_rand_of(in, 1);
    size_t cut = fuzz_below(&r, bytes.len + 1);
    char *copy = mem_alloc(cut ? cut : 1);
    memcpy(copy, w.bytes, cut);
    CHECK(scan(str_make(copy, cut)) <= came);
    mem_free(copy);
    return 0;
}
