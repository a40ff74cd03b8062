#include "disk_image.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct page {
    uint32_t refs;
    uint8_t bytes[PAGE];
};

static void page_unref(struct page *p)
{
    if (p != NULL && --p->refs == 0)
        free(p);
}

void image_free(struct image *m)
{
    for (size_t i = 0; i < m->n; i++)
        page_unref(m->pages[i]);
    free(m->pages);
    *m = (struct image){0};
}

struct image image_copy(const struct image *m)
{
    struct image to = *m;
    to.pages = m->n != 0 ? malloc(m->n * sizeof *to.pages) : NULL;
    for (size_t i = 0; i < m->n; i++) {
        to.pages[i] = m->pages[i];
        if (to.pages[i] != NULL)
            to.pages[i]->refs++;
    }
    return to;
}

static void image_room(struct image *m, uint64_t size)
{
    size_t need = (size_t)((size + PAGE - 1) / PAGE);
    if (need > m->n) {
        m->pages = realloc(m->pages, need * sizeof *m->pages);
        memset(m->pages + m->n, 0, (need - m->n) * sizeof *m->pages);
        m->n = need;
    }
    if (size > m->size)
        m->size = size;
}

static struct page *own_page(struct image *m, size_t i)
{
    struct page *old = m->pages[i];
    if (old != NULL && old->refs == 1)
        return old;
    struct page *fresh = malloc(sizeof *fresh);
    fresh->refs = 1;
    if (old != NULL) {
        memcpy(fresh->bytes, old->bytes, PAGE);
        old->refs--;
    } else {
        memset(fresh->bytes, 0, PAGE);
    }
    m->pages[i] = fresh;
    return fresh;
}

static bool all_zero(const uint8_t *from, size_t n)
{
    return n == 0 || (from[0] == 0 && memcmp(from, from + 1, n - 1) == 0);
}

void image_write(struct image *m, uint64_t at, const uint8_t *from, size_t n)
{
    image_room(m, at + n);
    while (n > 0) {
        size_t in = (size_t)(at % PAGE), i = (size_t)(at / PAGE);
        size_t part = PAGE - in < n ? PAGE - in : n;
        if (m->pages[i] != NULL || !all_zero(from, part))
            memcpy(own_page(m, i)->bytes + in, from, part);
        at += part;
        from += part;
        n -= part;
    }
}

size_t image_read(const struct image *m, uint64_t at, uint8_t *to, size_t n)
{
    if (at >= m->size)
        return 0;
    if (n > m->size - at)
        n = (size_t)(m->size - at);
    for (size_t done = 0; done < n;) {
        size_t in = (size_t)((at + done) % PAGE), i = (size_t)((at + done) / PAGE);
        size_t part = PAGE - in;
        if (part > n - done)
            part = n - done;
        if (m->pages[i] != NULL)
            memcpy(to + done, m->pages[i]->bytes + in, part);
        else
            memset(to + done, 0, part);
        done += part;
    }
    return n;
}

void image_size(struct image *m, uint64_t size)
{
    image_room(m, size);
    m->size = size;
    size_t keep = (size_t)((size + PAGE - 1) / PAGE);
    for (size_t i = keep; i < m->n; i++) {
        page_unref(m->pages[i]);
        m->pages[i] = NULL;
    }
    m->n = keep;
}
