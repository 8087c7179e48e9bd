/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_DMA_SERVICE_H
#define IOASID_BROKER_DMA_SERVICE_H

#include "server/broker/call.h"

/* How long a process may take for one access. */
#define DMA_SERVICE_TIMEOUT_US UINT64_C(1000000)
/* Accesses that are under way in a process, or timed out and still not answered by it. */
#define DMA_SERVICE_ACCESSES_MAX 8
/* Bytes of one piece of an access. */
#define DMA_SERVICE_CHUNK 16384

struct dma_service;
struct dma_access;

/* ---- for PROCESS IOASIDs ---- */

/* That of the calling process in the call's lease, if it has taken its end; NULL: none. */
struct dma_service *dma_service_of_caller(struct broker_call *call);
/* The IOASID is of the service's process from now on, as long as both live. */
void dma_service_add(struct dma_service *service, struct ioasid *ioasid);
/* Restored: of this process, whose service is to be opened again. */
void dma_service_await(struct ioasid *ioasid, const struct process_id *process);
/* The IOASID ends.  Fine for any. */
void dma_service_remove(struct ioasid *ioasid);

/* ---- for DeviceDma ---- */

struct dma_request {
	const struct attachment *attachment;
	uint32_t access; /* SHIM_READ: into buffer, or SHIM_WRITE: from it */
	uint64_t address;
	uint8_t *buffer; /* lives as long as the call */
	size_t length;	 /* as much of it as fits is done at once */
};

/*
 * Called once a piece, for a call that still is, and is parked: it moved so many bytes, and then
 * this fault (NONE: all of the piece).
 */
typedef void (*dma_service_done_fn)(struct broker_call *call, size_t moved,
				    enum shim_fault_cause cause);

/*
 * Asks the process for the first piece of a call's access (*access is NULL) or for the next.
 * SHIM_FAULT_NONE: the call is to be parked, and *access, which is the call's, names its access
 * until dma_service_forget(), or is set to NULL when the service or the attachment ends before;
 * else why the device is refused at once.
 */
enum shim_fault_cause dma_service_ask(struct broker_call *call, const struct dma_request *request,
				      dma_service_done_fn done, struct dma_access **access);
/* The call ends, or goes on without the process.  NULL-safe. */
void dma_service_forget(struct dma_access *access);
/* Detached: what is under way there ends as blocked. */
void dma_services_drop_attachment(const struct attachment *attachment);
void dma_services_expire(struct broker *broker, uint64_t now_us, uint64_t *next_us);

/* ---- lives ---- */

/* The ticket of its other end was redeemed. */
void dma_service_taken(struct dma_service *service);
/* All of a lease. */
void dma_services_end(struct lease *lease);
typedef void (*dma_service_charge_fn)(void *data, const struct charge *charge);
void dma_services_each_charge(const struct lease *lease, dma_service_charge_fn each, void *data);

int rpc_open_dma_service(struct broker_call *call);

#endif
