/* hash: xxhash's door, and a map from byte strings to pointers. */
#ifndef IO_BASE_HASH_H
#define IO_BASE_HASH_H

#include "io/base/str.h"

/* Checksums of stored bytes: XXH3-64, no secret. Chain by giving the last result as seed. */
uint64_t hash_sum(const void *bytes, size_t n, uint64_t seed);
/* Keyed with a secret of this process: for tables whose keys outsiders choose. */
uint64_t hash_key(struct str key);

/* hmap: open addressing, keys copied in. Not locked. Zero-initialised is empty. */
struct hmap {
    struct hmap_slot *slots;
    size_t count, cap, dead;
};
void hmap_fini(struct hmap *m);
void *hmap_get(const struct hmap *m, struct str key);              /* NULL = absent */
void *hmap_put(struct hmap *m, struct str key, void *value);       /* value not NULL; old or NULL */
void *hmap_del(struct hmap *m, struct str key);                    /* old or NULL */
/* Walk: *at starts at 0; false at the end. Deleting the entry just given is fine; putting is not. */
bool hmap_next(const struct hmap *m, size_t *at, struct str *key_out, void **value_out);

/* umap: the same for uint64_t keys. */
struct umap {
    struct umap_slot *slots;
    size_t count, cap, dead;
};
void umap_fini(struct umap *m);
void *umap_get(const struct umap *m, uint64_t key);
void *umap_put(struct umap *m, uint64_t key, void *value);
void *umap_del(struct umap *m, uint64_t key);
bool umap_next(const struct umap *m, size_t *at, uint64_t *key_out, void **value_out);

#endif
