/* reach: addresses that could not be reached of late. A dead one of a destination's hosts costs the
 * deliveries that find out, and then one probe in a while: whoever comes meanwhile tries it after the
 * others. It is never left out where nothing else is left.
 *
 *     unknown --could not be reached--> behind the others until minimal_backoff_time has passed
 *     behind  --time is up: the first that would ask it is the probe--> behind for as long again
 *     behind  --greeting received--> unknown
 *
 * One bounded table for all workers: 64 KiB, 4096 addresses; where there is none left for one, the oldest of eight makes room. A
 * look-up takes no lock; what was learned is written under one that is held for a few instructions.
 * Where a request comes from (smtp_bind_address) is part of the address: another way may be open. */
#ifndef CORE_SMTP_REACH_H
#define CORE_SMTP_REACH_H

#include "core/smtp/route.h"

/* Puts what is not known to be unreachable first and flags the others; the order stays otherwise.
 * Returns how many are not flagged. A flag that is due goes from the one that would come first, for this
 * caller alone: it is the probe. */
size_t smtp_reach_order(const struct params *p, struct smtp_target *list, size_t count,
                        int64_t now_ns);
/* No connection, or no word on it: refused, timed out, unreachable, dropped before the greeting. */
void smtp_reach_failed(const struct params *p, const struct addr *to, int64_t now_ns);
/* It has greeted, in whatever words. */
void smtp_reach_ok(const struct params *p, const struct addr *to);
/* Forgets all. */
void smtp_reach_clear(void);

#endif
