/* block: memory for content, which one thread fills and another throws away. An allocator takes such a block back
 * through the locks of the arena it came from, and returns its pages while the next burst asks for new ones; here the
 * last one given is the next one taken. Blocks are heap memory like any other. Any thread; nothing yields. */
#ifndef IO_BASE_BLOCK_H
#define IO_BASE_BLOCK_H

#include "io/base/buf.h"

enum { BLOCK_BYTES = 16 * 1024 };

/* An empty buffer that has a block's room. It may grow, and be owned as any other buffer is. */
struct buf block_buf(void);
/* As buf_fini, for any buffer. */
void block_buf_fini(struct buf *b);
/* Half of the blocks that nobody has needed since the last time goes back to the heap: to be called once a second or so. */
void block_trim(void);
size_t block_spares(void); /* how many wait for the next who needs one */

#endif
