/* post: the delivery mode of sendmail(1): a message from standard input into the queue of the running server. */
#ifndef CORE_CMD_POST_H
#define CORE_CMD_POST_H

#include "core/config/snapshot.h"

/* EX_TEMPFAIL: whatever stands in the way of sendmail, the caller may try again later. */
enum { POST_FAILED = 75 };

struct post {
    const char *sender;    /* -f; NULL = the user */
    const char *full_name; /* -F; NULL = $NAME, or the user's own */
    bool keep_dots;        /* -i */
    bool from_headers;     /* -t */
    bool gateway;          /* -G */
    bool eight_bit;        /* -B8BITMIME */
    uint8_t ret, notify;
    const char *envid;     /* NULL = none */
    char *const *recipients;
    size_t recipient_count;
};
int post_message(const struct snapshot *s, const struct post *p);
/* sendmail -bs: the dialogue with smtpd over standard input and output. */
int post_dialogue(const struct snapshot *s);

#endif
