/* lmdb: what the reading and the building half of LMDB tables agree on. */
#ifndef MAPS_DB_LMDB_H
#define MAPS_DB_LMDB_H

#define MAP_LMDB_SUFFIX ".lmdb"
enum { MAP_LMDB_KEY_MAX = 511 }; /* LMDB's own limit */

#endif
