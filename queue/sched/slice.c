#include "queue/sched/slice.h"

#include "io/base/check.h"
#include "io/base/mem.h"

static void forget_outgrown(struct slice *s)
{
    void *old;
    for (size_t at = 0; at < s->outgrown.len; at += sizeof(old)) {
        memcpy(&old, s->outgrown.ptr + at, sizeof(old));
        mem_free(old);
    }
    buf_fini(&s->outgrown);
}

/* Twice as much, at least. An agent may be looking at what never changes of a recipient: the old array stays for it. */
void slice_make_room(struct slice *s, size_t want)
{
    struct envelope *env = s->m->env;
    size_t all = qmsg_recipients(s->m), room = want > 2 * (size_t)s->room ? want : 2 * (size_t)s->room;
    if (want <= s->room)
        return;
    room = room < all ? room : all;
    struct rcpt *rcpts = mem_zalloc(room * sizeof(*rcpts));
    if (env->rcpt_count > 0)
        memcpy(rcpts, env->rcpts, env->rcpt_count * sizeof(*rcpts));
    if (env->rcpts)
        buf_add(&s->outgrown, &env->rcpts, sizeof(env->rcpts));
    if (s->loaded == 0)
        forget_outgrown(s);
    env->rcpts = rcpts;
    s->text = mem_realloc(s->text, room * sizeof(*s->text));
    s->seat = mem_realloc(s->seat, room * sizeof(*s->seat));
    s->free = mem_realloc(s->free, room * sizeof(*s->free));
    s->room = (uint32_t)room;
}

static void empty_slot(struct slice *s, size_t slot)
{
    mem_free(s->text[slot]);
    s->text[slot] = NULL;
    if (s->seat[slot])
        seats_leave(s->seat[slot]);
    s->seat[slot] = NULL;
}

void slice_leave(struct slice *s, uint32_t slot)
{
    empty_slot(s, slot);
    s->m->env->rcpts[slot] = (struct rcpt){.state = RCPT_DONE}; /* nobody's */
    s->free[s->free_count++] = slot;
    s->loaded--;
}

void slice_leave_all(struct slice *s)
{
    for (size_t i = 0; i < s->m->env->rcpt_count; i++)
        empty_slot(s, i);
    s->m->env->rcpt_count = 0;
    s->loaded = s->free_count = 0;
    forget_outgrown(s);
}

static struct str put(char **to, struct str s)
{
    if (s.len == 0)
        return STR("");
    char *at = *to;
    memcpy(at, s.ptr, s.len);
    *to += s.len;
    return str_make(at, s.len);
}

static const char *put_cstr(char **to, const char *s)
{
    if (!s)
        return NULL;
    char *at = *to;
    size_t n = strlen(s) + 1;
    memcpy(at, s, n);
    *to += n;
    return at;
}

/* All text of one recipient in one piece. */
static char *own(const struct rcpt *from, struct rcpt *to)
{
    bool original = !str_eq(from->original, from->address), resolved = !str_eq(from->resolved, from->address);
    size_t n = from->address.len + from->original.len + from->orcpt.len + from->resolved.len +
               from->why.text.len + from->why.mta.len + from->why.diagnostic.len +
               (from->transport ? strlen(from->transport) + 1 : 0) + (from->nexthop ? strlen(from->nexthop) + 1 : 0);
    if (!original)
        n -= from->address.len;
    if (!resolved)
        n -= from->address.len;
    char *text = mem_alloc(n + 1), *at = text;
    *to = *from;
    to->address = put(&at, from->address);
    to->original = original ? put(&at, from->original) : to->address;
    to->orcpt = put(&at, from->orcpt);
    to->resolved = resolved ? put(&at, from->resolved) : to->address;
    to->why.text = put(&at, from->why.text);
    to->why.mta = put(&at, from->why.mta);
    to->why.diagnostic = put(&at, from->why.diagnostic);
    to->transport = put_cstr(&at, from->transport);
    to->nexthop = put_cstr(&at, from->nexthop);
    return text;
}

uint32_t slice_take(struct slice *s, const struct rcpt *r, struct seat_share *seat)
{
    struct envelope *env = s->m->env;
    uint32_t slot = s->free_count > 0 ? s->free[--s->free_count] : (uint32_t)env->rcpt_count++;
    CHECK(slot < s->room);
    s->text[slot] = own(r, &env->rcpts[slot]);
    s->seat[slot] = seat;
    s->loaded++;
    return slot;
}

/* --- begin and end */

void slice_begin(struct slice *s, struct qmsg *m)
{
    *s = (struct slice){.m = m};
    m->env->rcpts = NULL;
    m->env->rcpt_count = 0;
}

void slice_end(struct slice *s)
{
    slice_leave_all(s);
    mem_free(s->m->env->rcpts);
    s->m->env->rcpts = NULL;
    mem_free(s->text);
    mem_free(s->seat);
    mem_free(s->free);
}
