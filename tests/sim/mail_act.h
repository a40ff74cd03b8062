/* mail_act: operators' acts on letters, and what the model knows of them. */
#ifndef SIM_MAIL_ACT_H
#define SIM_MAIL_ACT_H

#include "mail_system.h"

/* to: one letter, or LETTERS: all that are in `in`. */
void mail_act(struct mail *w, enum queue_act what, uint64_t to, enum queue_name in);

#endif
