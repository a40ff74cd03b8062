/* postconf: what its files share. */
#ifndef CORE_CMD_POSTCONF_H
#define CORE_CMD_POSTCONF_H

#include <stdio.h>
#include "core/config/private.h"

enum postconf_act { ACT_PRINT, ACT_EDIT, ACT_EXCLUDE, ACT_COMMENT };
enum postconf_of { OF_MAIN, OF_SERVICES, OF_FIELDS, OF_SERVICE_PARAMS };

struct postconf {
    const char *config_dir;
    bool dir_given; /* -c or $MAIL_CONFIG: config_directory then counts as set */
    enum postconf_act act;
    enum postconf_of of;
    bool defaults, set_only, expand, fold, no_name, no_value;
    const char *class; /* -C: builtin service user all, and inert: known, not acted on */
    const char **overrides; /* -o, NULL-terminated */
    size_t override_count;
    char **args; /* what follows the options */
    size_t arg_count;
    struct arena *arena;
    struct snapshot *s;
};

void postconf_warn(const char *fmt, ...) PRINTF(1, 2);
/* "postconf: fatal: text"; returns the exit status 1. */
int postconf_fatal(const char *fmt, ...) PRINTF(1, 2);
/* Notes from number `from` on that contain `about`; not those about parameters that are not acted on:
 * the log of a start has them, and -C inert lists the names. */
void postconf_warn_notes(const struct notes *n, size_t from, const char *about);
/* About $names that nobody defines. */
void postconf_warn_undefined(const struct postconf *p);
/* Print words with one blank between them, folded at 80 columns with -f. */
void postconf_words(const struct postconf *p, struct str text, size_t *column);
/* "name = value" with -h, -H, -f. */
void postconf_print(const struct postconf *p, const char *prefix, struct str name, struct str value);

int postconf_show_main(struct postconf *p);
int postconf_show_services(struct postconf *p);
int postconf_show_fields(struct postconf *p);
int postconf_show_service_params(struct postconf *p);
int postconf_edit_main(struct postconf *p);
int postconf_edit_services(struct postconf *p); /* -M -F -P */
/* A whole entry in columns. */
void postconf_entry(const struct postconf *p, const struct master_entry *m, struct buf *out);
/* "name/type", "name", either part "*". */
bool postconf_entry_matches(const struct master_entry *m, struct str name, struct str type);
extern const char *const postconf_field_names[MASTER_FIELDS];

#endif
