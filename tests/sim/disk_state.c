#include "disk_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dice.h"

enum { SECTOR = 512 };

/* --- pending effects */

struct pending *pending_add(struct disk *d, enum effect what)
{
    if (d->pending_n == d->pending_cap) {
        d->pending_cap = d->pending_cap != 0 ? 2 * d->pending_cap : 32;
        d->pending = realloc(d->pending, d->pending_cap * sizeof *d->pending);
    }
    struct pending *p = &d->pending[d->pending_n++];
    memset(p, 0, sizeof *p);
    p->what = what;
    p->id = ++d->next_id;
    return p;
}

void pending_drop(struct disk *d, size_t i)
{
    struct pending *p = &d->pending[i];
    if (p->data != NULL && --p->data->refs == 0)
        free(p->data);
    memmove(p, p + 1, (--d->pending_n - i) * sizeof *p);
}

void pending_keep(struct disk *d, const struct pending *p)
{
    const struct entry *e;
    switch (p->what) {
    case EFFECT_WRITE:
        image_write(&d->inodes[p->ino].durable, p->at, p->data->bytes, p->data->n);
        break;
    case EFFECT_SIZE:
        image_size(&d->inodes[p->ino].durable, p->at);
        break;
    case EFFECT_LINK:
        name_put(&d->durable, p->dir, p->name, p->ino);
        break;
    case EFFECT_UNLINK:
        name_del(&d->durable, p->dir, p->name);
        break;
    case EFFECT_RENAME: /* the file is there under its new name even when the old one was lost */
        while ((e = name_of(&d->durable, p->ino)) != NULL) /* and under that one alone */
            name_del(&d->durable, e->dir, e->name);
        name_put(&d->durable, p->to_dir, p->to, p->ino);
        break;
    }
}

/* Any of its units may be there. */
static void pending_tear(struct disk *d, const struct pending *p)
{
    size_t unit = sim_chance(50) ? SECTOR : PAGE;
    for (uint64_t at = p->at, end = p->at + p->data->n; at < end;) {
        uint64_t stop = (at / unit + 1) * unit;
        if (stop > end)
            stop = end;
        if (sim_chance(50))
            image_write(&d->inodes[p->ino].durable, at, p->data->bytes + (at - p->at),
                        (size_t)(stop - at));
        at = stop;
    }
}

void pending_fate(struct disk *d, const struct pending *p)
{
    uint64_t dice = sim_below(p->what == EFFECT_WRITE ? 4 : 2);
    if (dice == 0)
        return;
    if (dice == 1)
        pending_keep(d, p);
    else
        pending_tear(d, p);
}

/* --- disks */

struct disk *disk_new(void)
{
    struct disk *d = calloc(1, sizeof *d);
    d->inodes[SIM_ROOT_INO].used = d->inodes[SIM_ROOT_INO].is_dir = true;
    return d;
}

struct disk *disk_copy(const struct disk *from)
{
    struct disk *d = calloc(1, sizeof *d);
    for (size_t i = 0; i < INODES; i++) {
        const struct inode *n = &from->inodes[i];
        if (!n->used)
            continue;
        d->inodes[i] = *n;
        d->inodes[i].live = image_copy(&n->live);
        d->inodes[i].durable = image_copy(&n->durable);
        if (n->kv != NULL)
            (void)kv_image_ref(n->kv);
    }
    d->live = names_copy(&from->live);
    d->durable = names_copy(&from->durable);
    d->pending_n = d->pending_cap = from->pending_n;
    d->pending = from->pending_n != 0 ? malloc(from->pending_n * sizeof *d->pending) : NULL;
    for (size_t i = 0; i < from->pending_n; i++) {
        d->pending[i] = from->pending[i];
        if (d->pending[i].data != NULL)
            d->pending[i].data->refs++;
    }
    d->next_id = from->next_id;
    return d;
}

void inode_free(struct inode *n)
{
    image_free(&n->live);
    image_free(&n->durable);
    if (n->kv != NULL)
        kv_image_unref(n->kv);
    *n = (struct inode){0};
}

void disk_free(struct disk *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < INODES; i++)
        inode_free(&d->inodes[i]);
    while (d->pending_n > 0)
        pending_drop(d, d->pending_n - 1);
    free(d->pending);
    free(d->live.at);
    free(d->durable.at);
    free(d);
}

/* What no name leads to is gone. */
static void forget_nameless(struct disk *d)
{
    bool more = true;
    while (more) {
        more = false;
        for (size_t i = 0; i < d->durable.n; i++) {
            if (!d->inodes[d->durable.at[i].dir].used) {
                d->durable.at[i--] = d->durable.at[--d->durable.n];
                more = true;
            }
        }
        for (size_t i = SIM_ROOT_INO + 1; i < INODES; i++) {
            bool named = false;
            for (size_t k = 0; !named && k < d->durable.n; k++)
                named = d->durable.at[k].ino == i;
            if (d->inodes[i].used && !named) {
                inode_free(&d->inodes[i]);
                more = true;
            }
        }
    }
}

struct disk *disk_crash(const struct disk *from)
{
    struct disk *d = disk_copy(from);
    for (size_t i = 0; i < d->pending_n; i++)
        pending_fate(d, &d->pending[i]);
    while (d->pending_n > 0)
        pending_drop(d, d->pending_n - 1);
    forget_nameless(d);
    free(d->live.at);
    d->live = names_copy(&d->durable);
    for (size_t i = 0; i < INODES; i++) {
        if (!d->inodes[i].used)
            continue;
        image_free(&d->inodes[i].live);
        d->inodes[i].live = image_copy(&d->inodes[i].durable);
        d->inodes[i].broken = false;
    }
    return d;
}
