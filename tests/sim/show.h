/* show: what lies on the simulated disk, for one who looks at a single cut. */
#ifndef SIM_SHOW_H
#define SIM_SHOW_H

/* The files of a queue directory, and the records in its segments, to stderr. */
void show_disk(const char *queue_dir);

#endif
