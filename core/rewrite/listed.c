/* listed: the recipient tables of each class (smtpd_reject_unlisted_recipient). */
#include "core/mail/address.h"
#include "core/rewrite/classes.h"

struct local_ctx {
    const struct service *svc;
    struct arena *arena;
    struct err *err; /* of the list lookup inside map_addr_find */
};

static bool is_local(void *ctx, struct str domain)
{
    struct local_ctx *c = ctx;
    bool local = false;

    if (!c->err)
        c->err = resolve_local(c->svc, c->arena, domain, &local);
    return local;
}

static struct err *find(const struct service *svc, struct arena *a, const struct map_list *maps,
                        struct str address, bool *found_out)
{
    struct local_ctx ctx = {svc, a, NULL};
    struct str value, ext;
    struct err *e = map_addr_find(maps, a, address, svc->params->recipient_delimiter, is_local, &ctx,
                                  &value, &ext, found_out);
    return e ? e : *found_out ? NULL : ctx.err;
}

/* Names that always exist: made by the bounce service, or taken by the queue manager. */
static bool always_local(const struct params *p, struct str local)
{
    return str_eq_nocase(local, str_of(p->double_bounce_sender)) ||
           str_eq_nocase(local, STR("postmaster")) || str_eq_nocase(local, STR("mailer-daemon"));
}

struct err *relocated_find(const struct service *svc, struct arena *a, struct str address,
                           struct str *value_out, struct str *ext_out, bool *found_out)
{
    struct local_ctx ctx = {svc, a, NULL};
    struct err *e = map_addr_find(&svc->lists->relocated_maps, a, address,
                                  svc->params->recipient_delimiter, is_local, &ctx, value_out,
                                  ext_out, found_out);
    return e ? e : *found_out ? NULL : ctx.err;
}

struct err *resolve_listed(const struct service *svc, struct arena *a, const struct resolved *r,
                           bool *listed_out, const char **table_out)
{
    const struct lists *l = svc->lists;
    const struct map_list *maps = NULL;
    struct err *e = find(svc, a, &l->virtual_alias_maps, r->recipient, listed_out);

    if (e || *listed_out)
        return e;
    switch (r->class) {
    case CLASS_VIRTUAL_ALIAS:
        *table_out = "virtual alias table";
        /* transport_maps may have given the domain a way of its own. */
        *listed_out = r->transport && strcmp(r->transport, "error") != 0;
        return NULL;
    case CLASS_LOCAL:
        maps = always_local(svc->params, address_local(r->recipient)) ? NULL : &l->local_recipient_maps;
        *table_out = "local recipient table";
        break;
    case CLASS_VIRTUAL_MAILBOX:
        maps = &l->virtual_mailbox_maps;
        *table_out = "virtual mailbox table";
        break;
    case CLASS_RELAY:
        maps = &l->relay_recipient_maps;
        *table_out = "relay recipient table";
        break;
    case CLASS_DEFAULT:
        break;
    }
    if (maps && maps->count)
        return find(svc, a, maps, r->recipient, listed_out);
    *listed_out = true;
    return NULL;
}
