/* log_sink: where the logger thread's lines go; part of log. One owner: the logger thread, except
 * log_sink_panic. */
#ifndef IO_BASE_LOG_SINK_H
#define IO_BASE_LOG_SINK_H

#include "io/base/buf.h"
#include "io/base/err.h"
#include "io/base/log.h"

struct log_sink {
    const char *file; /* borrowed; "" = the syslog socket */
    int facility;
    int fd;          /* -1 = closed */
    struct buf out;  /* lines for the file, not written yet */
    int64_t date_s;  /* the second that date is of */
    long gmtoff_s;   /* local time minus UTC at date_s */
    int64_t retry_s; /* when to try the file again; the lines go to stderr meanwhile */
    char date[32];
    char host[65];
    int pid;
    char pid_text[16];  /* "[123]: " */
    char panic_pri[16]; /* "<18>" */
};

/* host: its first label is shown; NULL = the machine's name. */
struct err *log_sink_open(struct log_sink *sink, const char *file, const char *host,
                          int facility) MUST_USE;
void log_sink_close(struct log_sink *sink);
void log_sink_reopen(struct log_sink *sink);
/* Texts are made printable here. Lines may wait in memory until log_sink_flush. */
void log_sink_put(struct log_sink *sink, int64_t wall_s, enum log_level level, struct str tag,
                  struct str text);
void log_sink_flush(struct log_sink *sink);
/* One line at once from any thread, even in a signal handler. */
void log_sink_panic(const struct log_sink *sink, int64_t wall_s, const char *tag, const char *text);

/* "warning: " and so on; "" for info. */
const char *log_level_label(enum log_level level);
/* Bytes that are neither printable ASCII nor part of valid UTF-8 become '?'. */
void log_printable(char *text, size_t len);
/* "Nov 21 23:36:14"; space_pad as syslog wants it ("Nov  1"). out has 16 bytes. */
void log_date(int64_t local_s, bool space_pad, char *out);

#endif
