/* pair: a stream layer over two descriptors, one to read and one to write: sendmail -bs. */
#ifndef CORE_SMTPD_PAIR_H
#define CORE_SMTPD_PAIR_H

#include "io/net/stream.h"

/* The descriptors stay the caller's. */
struct stream_layer *pair_layer_new(int in_fd, int out_fd);

#endif
