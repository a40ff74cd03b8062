/* private: what the files of this room share behind struct snapshot; postconf, which shows and edits
 * the texts themselves, looks behind it too. */
#ifndef CORE_CONFIG_PRIVATE_H
#define CORE_CONFIG_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "core/config/eval.h"
#include "core/config/master_cf.h"
#include "core/config/snapshot.h"

#define SNAPSHOT_MAGIC 0x736e6170u

struct service_private {
    struct dict over;
    struct hmap values; /* under lock */
    struct lists *own_lists; /* NULL = those of main.cf */
};

struct config_private {
    uint32_t magic;
    _Atomic unsigned refs;
    struct arena *arena;
    struct dict main, computed;
    struct notes notes;
    struct map_options map_options;
    struct lists *lists;
    struct master_entry *master;
    size_t master_count;
    size_t listen_addr_count; /* own_addrs begins with those of inet_interfaces */
    pthread_mutex_t lock; /* values asked for by name, made when they are first asked for */
    struct arena *lazy;
    struct hmap values;
};

struct scope config_scope(const struct snapshot *s, const struct service *svc);
/* For postconf: the texts, nothing evaluated (params and lists stay NULL), so that a wrong
 * configuration can be looked at. What is wrong with master.cf goes to the notes. *out is there also
 * after an error, for its notes. */
struct err *config_load_text(const char *config_dir, const char *const *extra, bool defaults_only,
                             struct snapshot **out) MUST_USE;
/* The default of mynetworks, which costs a look at the interfaces and perhaps a name server. */
struct err *config_networks(struct snapshot *s) MUST_USE;

/* host.c: computed defaults, and addresses of our own. */
struct err *host_names(struct config_private *c) MUST_USE;
struct err *host_addrs(struct snapshot *s, struct arena *a, const char *inet_interfaces,
                       const char *proxy_interfaces, const char *inet_protocols) MUST_USE;
struct err *host_networks(const struct snapshot *s, struct arena *a, const char *style,
                          struct str *out) MUST_USE;

/* lists.c: tables. base NULL = open all; else share what has the same text. */
struct err *lists_open(const struct scope *scope, const struct params *p,
                       const struct params *base_params, const struct lists *base,
                       const struct map_options *o, struct lists **out) MUST_USE;
void lists_close(struct lists *l, const struct lists *base);

/* check.c: names nobody uses, parameters known but not acted on (CHECK_INERT): into the notes. */
#define CHECK_INERT " is known but not acted on by this version"
void check_names(const struct snapshot *s, struct arena *scratch);
/* $names that nobody defines. */
void check_undefined(const struct snapshot *s, struct notes *out);
/* compat.c: is compatibility_level one? */
struct err *compat_check(const struct scope *scope, struct arena *scratch) MUST_USE;

#endif
