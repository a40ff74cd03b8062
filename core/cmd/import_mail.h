/* import_mail: one file of a Postfix queue, read and sent to whoever serves our queue. For import.c. */
#ifndef CORE_CMD_IMPORT_MAIL_H
#define CORE_CMD_IMPORT_MAIL_H

#include "core/cmd/access.h"
#include "core/cmd/import_walk.h"
#include "core/import/queue_file.h"

struct import_mail {
    struct queue_file file;
    struct queue_file_source source;
    struct str origin; /* its name there, and when it came */
    int64_t due_us;
    bool hold;
    bool posted; /* of maildrop: still to go through cleanup */
    int64_t uid; /* who posted it */
    int fd;
};

/* Reads all but the content, with the logs of its recipients. Those who are done are left out. Closed by import_mail_close. */
struct err *import_mail_open(const struct import_dir *d, const struct import_entry *entry, struct arena *a,
                             struct import_mail *out) MUST_USE;
void import_mail_close(struct import_mail *m);

/* *unreadable_out: what the source said in the middle, or why cleanup does not want it; then the message is not here.
 * Returned: trouble with our queue. */
struct err *import_mail_send(struct access *a, struct import_mail *m, bool mask_cr, char *id_out,
                             struct err **unreadable_out) MUST_USE;

#endif
