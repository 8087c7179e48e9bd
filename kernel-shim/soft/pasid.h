/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_PASID_H
#define IOASID_SOFT_PASID_H

/*
 * A device's PASID table: PASID -> page table, a radix tree with 7 bits a level (20 bits
 * in all), nodes made on first use and freed when they are empty.
 *
 * One thread changes it; lookups may run beside on any thread as long as soft_pasid_clear()
 * is not called meanwhile.
 */

#include <stdint.h>

struct shim_pt;
struct soft_pasid_node;

struct soft_pasid_table {
	struct soft_pasid_node *root;
};

struct shim_pt *soft_pasid_get(const struct soft_pasid_table *table, uint32_t pasid);
/* pt not NULL.  -ENOMEM; replacing an entry never fails. */
int soft_pasid_set(struct soft_pasid_table *table, uint32_t pasid, struct shim_pt *pt);
/* No lookup is running. */
void soft_pasid_clear(struct soft_pasid_table *table, uint32_t pasid);
/* Calls each() for every entry, and empties the table.  No lookup is running. */
void soft_pasid_drain(struct soft_pasid_table *table, void (*each)(struct shim_pt *pt));

#endif
