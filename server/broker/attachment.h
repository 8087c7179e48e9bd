/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_ATTACHMENT_H
#define IOASID_BROKER_ATTACHMENT_H

#include "server/broker/call.h"

/* pasid: SHIM_NO_PASID for the RID.  NULL: not attached. */
struct attachment *attachment_find(struct lease *lease, const struct device *device,
				   uint32_t pasid);
/* Whether the device's PASIDs are entries of a table of the tenant's, and so the guest's own. */
bool attachment_has_pasid_table(struct lease *lease, const struct device *device);
/*
 * That through which an access with this PASID goes: its own, else the device's if a PASID
 * table of the tenant's is bound there, which has all PASIDs.  NULL: none.
 */
struct attachment *attachment_reached(struct lease *lease, const struct device *device,
				      uint32_t pasid);
/* Into the lease's tree, counted by its device and IOASID. */
void attachment_insert(struct lease *lease, struct attachment *attachment);
/* The shim's side is gone: the record goes, the IOASID is let go. */
void attachment_reap(struct attachment *attachment);
void attachments_reap_device(struct device *device);
/* The device of a request, claimed by its lease and settled; an outcome. */
int attachment_device(struct broker_call *call, const char *address, struct device **ret_device);
/* 0 < value < 2^bits of the device; absent: SHIM_NO_PASID.  An outcome. */
int attachment_pasid(struct broker_call *call, const struct device *device,
		     const Ioasid__V1__Pasid *pasid, uint32_t *ret_pasid);
Ioasid__V1__Attachment *attachment_describe(struct scratch *scratch, const struct attachment *a);
struct attachment *attachment_first(struct lease *lease);
struct attachment *attachment_next(struct lease *lease, struct attachment *a);

int rpc_attach(struct broker_call *call);
int rpc_detach(struct broker_call *call);
int rpc_replace(struct broker_call *call);
int rpc_list_attachments(struct broker_call *call);

#endif
