/* map: everything Postfix calls a lookup table, opened by "type:name" (DATABASE_README). A lookup
 * answers found, not found, or error, and the three are never mixed: an error defers.
 *
 * A map is opened once per configuration snapshot and shared by all workers: find is thread-safe.
 * find may yield for some types (network tables), so callers assume it does. */
#ifndef MAPS_MAP_H
#define MAPS_MAP_H

#include "io/base/arena.h"
#include "io/base/buf.h"
#include "io/base/err.h"

struct map;

enum map_flags {
    MAP_FOLD = 1,       /* keys are folded to lower case before the lookup (addresses, domains) */
    MAP_REGEXP_SUB = 2, /* pattern results may use $1 (not for security-sensitive tables) */
    MAP_LAZY = 4,       /* a file that cannot be opened now is no error of map_open: it is logged, and
                           find is an error until the file appears; so is every find in a table whose
                           type Postfix has and this program has not */
};

/* What the house needs of main.cf, filled by core/config. */
struct map_options {
    const char *config_dir;   /* relative file names in tables start here */
    const char *default_type; /* default_database_type: for a name without "type:" */
};

/* ERR_CONFIG: unknown type ("unsupported dictionary type: foo"), bad inline text. ERR_UNSUPPORTED: a type of
 * Postfix that is not built in, unless MAP_LAZY. ERR_NOTFOUND, ERR_REFUSED, ERR_IO, ERR_DAMAGED for files, unless MAP_LAZY: the
 * caller decides whether to refuse the configuration. "proxy:" before a type means nothing here. */
struct err *map_open(struct str type_name, unsigned flags, const struct map_options *options,
                     struct map **out) MUST_USE;
void map_close(struct map *m);
/* Whose name warnings about tables carry; "proxymap" unless a command says "postmap". A literal. */
void map_log_as(const char *service);
const char *map_log_service(void);
const char *map_name(const struct map *m); /* "hash:/etc/postfix/virtual" */
/* true when it takes the key as it is (regexp, pcre, cidr, joins of these): no partial address keys. */
bool map_is_pattern(const struct map *m);

/* value is copied into a. NULL error: *found_out says which. */
struct err *map_find(struct map *m, struct arena *a, struct str key, struct str *value_out,
                     bool *found_out) MUST_USE;

/* A new type is a row in map_types.def: name, these functions. */
struct map_type {
    const char *name;
    bool pattern; /* no partial keys */
    struct err *(*open)(struct map *m, struct str name, const struct map_options *options);
    void (*close)(struct map *m); /* also after a failed open; impl may be NULL */
    struct err *(*find)(struct map *m, struct arena *a, struct str key, struct str *value_out,
                        bool *found_out);
    const char *(*build_suffix)(void); /* postmap can build it; NULL = it cannot */
    /* Every entry, for postmap -s; NULL = it cannot. */
    struct err *(*walk)(struct map *m, void (*each)(void *ctx, struct str key, struct str value),
                        void *ctx);
};
struct map {
    const struct map_type *type;
    char *name;
    unsigned flags;
    bool pattern; /* of the type, or as open found it */
    void *impl;
};
const struct map_type *map_type_find(struct str name); /* NULL = no such type */
/* All names, for `postconf -m`; NULL-terminated, sorted. */
const char *const *map_type_names(void);

/* --- lists of maps: "hash:/a, inline:{x=y}, /etc/file?" as virtual_alias_maps has it. */
struct map_list {
    struct map **maps;
    size_t count;
};
struct err *map_list_open(const char *text, unsigned flags, const struct map_options *options,
                          struct map_list *out) MUST_USE;
void map_list_close(struct map_list *l); /* leaves it empty */
/* First map that has it; an error of an earlier one ends the search. */
struct err *map_list_find(const struct map_list *l, struct arena *a, struct str key,
                          struct str *value_out, bool *found_out) MUST_USE;
/* The same, without the pattern tables: for keys that are a part of what was asked. */
struct err *map_list_find_fixed(const struct map_list *l, struct arena *a, struct str key,
                                struct str *value_out, bool *found_out) MUST_USE;
/* Postfix's address search order (mail_addr_find): user+ext@domain, user@domain, [user+ext, user
 * when domain is `local` to us], @domain. delimiters = recipient_delimiter. ext_out gets the
 * extension cut off by the match ("+foo"), empty when none. is_local(ctx, domain) NULL = never. */
struct err *map_addr_find(const struct map_list *l, struct arena *a, struct str address,
                          const char *delimiters, bool (*is_local)(void *ctx, struct str domain),
                          void *ctx, struct str *value_out, struct str *ext_out,
                          bool *found_out) MUST_USE;

/* --- match lists: mynetworks, mydestination, relay_domains ...: names, .names, addresses,
 * networks, /files, type:tables, !negation, left to right, first match decides. */
struct match_list;
enum match_kind {
    MATCH_DOMAIN,         /* exact name; ".name" matches subdomains */
    MATCH_DOMAIN_PARENTS, /* "name" also matches subdomains (parent_domain_matches_subdomains) */
    MATCH_NETWORK,        /* addresses and networks */
    MATCH_HOST,           /* names and networks: client lists */
    MATCH_STRING,         /* plain strings without case */
};
struct err *match_list_open(const char *param_name, const char *text, enum match_kind kind,
                            const struct map_options *options, struct match_list **out) MUST_USE;
void match_list_close(struct match_list *l);
/* Domain or string. */
struct err *match_list_name(struct match_list *l, struct arena *a, struct str name, bool *match_out) MUST_USE;
struct addr;
/* name may be empty or "unknown". */
struct err *match_list_client(struct match_list *l, struct arena *a, struct str name,
                              const struct addr *addr, bool *match_out) MUST_USE;

/* --- building (postmap, postalias). */
struct map_build_options {
    bool alias;       /* aliases(5) source syntax */
    bool incremental; /* -i */
    bool fold;        /* not -f */
    bool null_key;    /* -N: not used by LMDB files; accepted */
    bool replace;     /* -r: a later duplicate replaces */
    bool warn_dup;    /* not -w */
    const char *tag;  /* "postmap" for messages */
};
/* Source file -> type's file (path + suffix), built aside and renamed: a reader sees the old table or
 * the new one. Source from source_fd when >= 0 (-i). The file gets the mode and owner of the source.
 * Lines that cannot be read are warned about and left out. */
struct err *map_build(const struct map_type *type, const char *path, int source_fd,
                      const struct map_build_options *options) MUST_USE;
/* Take keys out (postmap -d), as one replacement of the file. */
struct err *map_build_delete(const struct map_type *type, const char *path, const struct str *keys,
                             size_t count, size_t *deleted_out) MUST_USE;

#endif
