/* date: RFC 5322 §3.3 dates, and mailq's. Pure: time comes in. Local zone. */
#ifndef CORE_MAIL_DATE_H
#define CORE_MAIL_DATE_H

#include <stdint.h>

#define DATE_TEXT_MAX 64
/* "Sat, 21 Nov 2026 23:36:14 +0000 (UTC)" as Postfix writes it in Received: and Date:. */
const char *date_rfc5322(int64_t wall_us, char out[DATE_TEXT_MAX]);
/* "Sat Nov 21 23:36:14" */
const char *date_ctime(int64_t wall_us, char out[DATE_TEXT_MAX]);

#endif
