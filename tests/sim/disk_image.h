/* disk_image: the bytes of a file on the simulated disk, in pages that copies of the disk share. */
#ifndef SIM_DISK_IMAGE_H
#define SIM_DISK_IMAGE_H

#include <stddef.h>
#include <stdint.h>

enum { PAGE = 4096 };

struct image {
    struct page **pages; /* NULL: zeros */
    size_t n;
    uint64_t size;
};

struct image image_copy(const struct image *m);
void image_free(struct image *m);
void image_write(struct image *m, uint64_t at, const uint8_t *from, size_t n);
/* How many there were. */
size_t image_read(const struct image *m, uint64_t at, uint8_t *to, size_t n);
void image_size(struct image *m, uint64_t size);

#endif
