/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_PASID_H
#define IOASID_BROKER_PASID_H

/* Guest PASIDs and the physical ones that stand for them; see pasid.c. */

#include "server/broker/call.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The physical PASID for one more attachment of a guest's in this lease: that of the others, or
 * by the policy of its tenant.  An outcome.  pasid_put() gives it back.
 */
int pasid_take(struct broker_call *call, const struct device *device, uint32_t guest,
	       uint32_t *ret_physical);
/* The same for what a registry says.  -EPROTO, -ENOMEM. */
int pasid_restore(struct lease *lease, uint32_t guest, uint32_t physical, bool translated);
void pasid_put(struct lease *lease, uint32_t guest);
bool pasid_is_translated(const struct lease *lease, uint32_t guest);
/*
 * What stands for a guest's PASID now; itself where none is translated.  This and what follows
 * are not for devices whose own table has all PASIDs: attachment_has_pasid_table().
 */
uint32_t pasid_physical(const struct lease *lease, uint32_t guest);
/* It is not the guest's, but stands for another of the lease: the guest's device has none such. */
bool pasid_is_hidden(const struct lease *lease, uint32_t guest);
uint32_t pasid_guest(const struct lease *lease, uint32_t physical);

/* What an attachment by PASID costs beside itself. */
#define PASID_RECORD 64

/* All physical PASIDs that are in use for translated ones. */
struct pasid_pool;
void pasid_pool_free(struct pasid_pool *pool);

#endif
