#include "queue/store/segment.h"

#include <stdio.h>
#include "io/base/clock.h"
#include "io/base/hash.h"

enum { SEGMENT_MAGIC = 0x31735052, BATCH_MAGIC = 0x31625052, SUM_AT = 56 };

void segment_name(uint64_t epoch, char out[SEGMENT_NAME_MAX])
{
    (void)snprintf(out, SEGMENT_NAME_MAX, "seg-%016llx", (unsigned long long)epoch);
}

void segment_header_put(const struct segment_header *h, uint8_t block[BLOCK])
{
    memset(block, 0, BLOCK);
    put_u32(block, SEGMENT_MAGIC);
    put_u32(block + 4, SEGMENT_FORMAT);
    put_u64(block + 8, h->epoch);
    put_u64(block + 16, h->size);
    put_u64(block + 24, h->next_seq);
    put_u64(block + 32, h->secret);
    put_u64(block + 40, (uint64_t)clock_wall_us());
    put_u64(block + 48, h->first);
    put_u64(block + SUM_AT, hash_sum(block, SUM_AT, 0));
}

uint32_t segment_header_version(const uint8_t *block)
{
    bool whole = get_u32(block) == SEGMENT_MAGIC &&
                 get_u64(block + SUM_AT) == hash_sum(block, SUM_AT, 0);
    return whole ? get_u32(block + 4) : 0;
}

bool segment_header_get(const uint8_t *block, struct segment_header *out)
{
    uint32_t version = segment_header_version(block);
    if (version == 0 || version > SEGMENT_FORMAT)
        return false;
    *out = (struct segment_header){.epoch = get_u64(block + 8),
                                   .size = get_u64(block + 16),
                                   .next_seq = get_u64(block + 24),
                                   .secret = get_u64(block + 32),
                                   .first = get_u64(block + 48)};
    return out->epoch != 0;
}

void batch_head_put(const struct batch_head *h, uint64_t secret, uint8_t *to)
{
    memset(to, 0, BATCH_HEAD);
    put_u32(to, BATCH_MAGIC);
    put_u32(to + 4, h->records);
    put_u64(to + 8, h->epoch);
    put_u64(to + 16, h->number);
    put_u32(to + 24, h->bytes);
    put_u64(to + 32, h->next_seq);
    put_u64(to + 40, (uint64_t)clock_wall_us());
    put_u64(to + 48, h->after);
    put_u64(to + SUM_AT, hash_sum(to, SUM_AT, secret));
}

bool batch_head_get(const uint8_t *at, uint64_t epoch, uint64_t secret, struct batch_head *out)
{
    if (get_u32(at) != BATCH_MAGIC || get_u64(at + 8) != epoch ||
        get_u64(at + SUM_AT) != hash_sum(at, SUM_AT, secret))
        return false;
    *out = (struct batch_head){.epoch = epoch,
                               .number = get_u64(at + 16),
                               .next_seq = get_u64(at + 32),
                               .after = get_u64(at + 48),
                               .records = get_u32(at + 4),
                               .bytes = get_u32(at + 24)};
    return out->bytes >= BATCH_HEAD;
}

/* --- the scan */

void segment_scan_init(struct segment_scan *s, struct str bytes, uint32_t base, uint64_t epoch,
                       uint64_t secret)
{
    *s = (struct segment_scan){.bytes = bytes, .base = base, .epoch = epoch, .secret = secret};
}

static bool scan_batch(struct segment_scan *s)
{
    struct batch_head h;
    if (s->at % BLOCK != 0 || s->bytes.len - s->at < BATCH_HEAD ||
        !batch_head_get((const uint8_t *)s->bytes.ptr + s->at, s->epoch, s->secret, &h))
        return false;
    if (h.next_seq > s->next_seq)
        s->next_seq = h.next_seq;
    s->batches++;
    s->batch_at = s->at;
    s->batch_end = s->at + h.bytes;
    s->at += BATCH_HEAD;
    return true;
}

static bool scan_record(struct segment_scan *s, struct scan_item *out)
{
    struct record_head h;
    struct str rest = str_from(s->bytes, s->at);
    if (!record_head_get(rest, s->epoch, s->secret, &h) || h.length > rest.len - RECORD_HEAD)
        return false;
    *out = (struct scan_item){.kind = SCAN_RECORD,
                              .at = s->base + (uint32_t)s->at,
                              .bytes = str_make(rest.ptr + RECORD_HEAD, h.length),
                              .head = h};
    s->at += round_up(RECORD_HEAD + (size_t)h.length, RECORD_ALIGN);
    s->found = true;
    return true;
}

/* From inside a block up to its end, with zeros first: what follows the last record of a batch. How much of it
 * was written is not known, but it ends at a multiple of the least unit. */
static bool is_padding(struct str gap, size_t at)
{
    if (gap.len == 0)
        return true;
    if (at % BLOCK == 0 || gap.len >= BLOCK || (at + gap.len) % BLOCK != 0)
        return false;
    size_t zeros = 0;
    while (zeros < gap.len && gap.ptr[zeros] == 0)
        zeros++;
    return zeros == gap.len || at + zeros >= round_up(at + RECORD_ALIGN, UNIT_LEAST);
}

/* The next valid thing behind a place where none was. True: *out is the damage in between, or there
 * was only padding and *gap_out is false. */
static bool scan_search(struct segment_scan *s, struct scan_item *out, bool *gap_out)
{
    for (; s->at + RECORD_ALIGN <= s->bytes.len; s->at += RECORD_ALIGN) {
        struct segment_scan probe = *s;
        struct scan_item item;
        bool batch = scan_batch(&probe);
        if (!batch && !scan_record(&probe, &item))
            continue;
        struct str gap = str_make(s->bytes.ptr + s->gap, s->at - s->gap);
        /* Where the batch head is whole, it says how far its records go. */
        *gap_out = gap.len > 0 && (s->batch_end != SIZE_MAX || !is_padding(gap, s->gap));
        *out = (struct scan_item){.kind = SCAN_GAP, .at = s->base + (uint32_t)s->gap, .bytes = gap};
        s->lost = false;
        s->batches += batch; /* so that what lies before it is known not to be the end */
        /* Records whose batch head is gone: walk on for as long as they follow each other. */
        s->batch_end = batch ? 0 : SIZE_MAX;
        return true;
    }
    s->at = s->bytes.len;
    return false;
}

bool segment_scan_next(struct segment_scan *s, struct scan_item *out)
{
    while (s->at + RECORD_ALIGN <= s->bytes.len) {
        if (s->lost) {
            bool gap = false;
            if (!scan_search(s, out, &gap))
                return false;
            if (gap)
                return true;
            continue;
        }
        if (s->batch_end == 0) {
            s->gap = s->at;
            s->lost = !scan_batch(s);
            continue;
        }
        if (s->at >= s->batch_end) {
            s->at = round_up(s->at, BLOCK);
            s->batch_end = 0;
            continue;
        }
        size_t end = s->batch_end;
        if (scan_record(s, out))
            return true;
        s->batch_end = end;
        s->gap = s->at;
        s->lost = true;
    }
    return false;
}
