#include "queue/sched/sheaf.h"

#include <stdlib.h>

#include "io/base/check.h"

static int by_seq(const void *a, const void *b)
{
    uint64_t l = *(const uint64_t *)a, r = *(const uint64_t *)b;
    return (l > r) - (l < r);
}

static const uint64_t *seqs_of(const struct sheaf *s)
{
    return (const uint64_t *)(const void *)s->seqs.ptr;
}

void sheaf_add(struct sheaf *s, const struct store_due *list, size_t n)
{
    CHECK(!sheaf_full(s) && n <= SHEAF_PART);
    if (n == 0)
        return;
    if (s->parts == 0)
        s->first_us = list[0].due_us;
    size_t begin = s->seqs.len / sizeof(uint64_t), part = s->parts++;
    for (size_t i = 0; i < n; i++)
        buf_add(&s->seqs, &list[i].seq, sizeof list[i].seq);
    qsort(s->seqs.ptr + begin * sizeof(uint64_t), n, sizeof(uint64_t), by_seq);
    s->at[part] = (uint32_t)begin;
    s->end[part] = (uint32_t)(begin + n);
    s->head[part] = seqs_of(s)[begin];
    s->left += n;
}

bool sheaf_next(struct sheaf *s, uint64_t *seq_out)
{
    size_t least = 0;
    if (s->left == 0) {
        sheaf_clear(s);
        return false;
    }
    for (size_t i = 1; i < s->parts; i++)
        least = s->head[i] < s->head[least] ? i : least;
    *seq_out = s->head[least];
    s->at[least]++;
    s->head[least] = s->at[least] < s->end[least] ? seqs_of(s)[s->at[least]] : UINT64_MAX;
    s->left--;
    return true;
}

void sheaf_clear(struct sheaf *s)
{
    buf_fini(&s->seqs);
    s->parts = s->left = 0;
}
