/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The demo's work as a list of single requests: two tenants under one parent, memory,
 * negotiation, a parent and a nested child, mappings, attachments, DMA, a walk, invalidation,
 * group claims, quota refusals of the tenant and of its parent, a named lease that outlives
 * its connection, and the end of connections that still own objects.
 *
 * Each step makes one request, packed before the fault is armed and looked at after it is
 * disarmed, so that nothing of the test's own is counted.
 */
#include "sequence.h"

#include "alloc_fault.h"
#include "ioasid.pb-c.h"
#include "room_fault.h"
#include "kernel-shim/fail/fail.h"
#include "kernel-shim/shim.h"
#include "kernel-shim/soft/soft.h"
#include "policy/policy.h"
#include "registry/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE	   4096ull
#define MEMORY	   (64 * PAGE)
#define IOVA	   0x10000000ull
#define CHILD_IOVA 0x40000000ull

#define B "/ioasid.v1.Broker/"
#define A "/ioasid.v1.Admin/"

#define OK		    0
#define CANCELLED	    1
#define NOT_FOUND	    5
#define ALREADY_EXISTS	    6
#define RESOURCE_EXHAUSTED  8
#define FAILED_PRECONDITION 9

static const struct broker_peer peer_admin = {.socket = "admin", .uid = 0, .pid = 1};
/* A process that there is, for what depends on it: this one. */
static struct broker_peer peer_red = {.socket = "tenants", .uid = 50001};
static const struct broker_peer peer_blue = {.socket = "tenants", .uid = 50002, .pid = 3};

/* ---- the fault around one request ---- */

static void fault_begin(struct run *run)
{
	struct fault *fault = run->fault;

	if (!fault)
		return;
	if (fault->kind == FAULT_ALLOCATION)
		alloc_fault_arm(fault->nth);
	else if (fault->kind == FAULT_ROOM)
		room_fault_arm(fault->nth);
	else
		fail_shim_arm(run->shim, fault->nth, -EIO);
}

static void fault_end(struct run *run)
{
	struct fault *fault = run->fault;

	if (!fault)
		return;
	if (fault->kind == FAULT_ALLOCATION) {
		fault->calls = alloc_fault_disarm();
		fault->hit = alloc_fault_hit();
	} else if (fault->kind == FAULT_ROOM) {
		fault->calls = room_fault_disarm(&fault->hit);
	} else {
		fault->calls = fail_shim_calls(run->shim);
		fault->hit = fail_shim_fired(run->shim);
		fail_shim_arm(run->shim, 0, 0);
	}
}

static uint8_t packed[65536];

static int call(struct run *run, struct broker_session *session, const char *method, void *message)
{
	size_t length = protobuf_c_message_pack(message, packed);
	int code;

	fault_begin(run);
	code = host_call(&run->host, run->broker, session, method, packed, length);
	fault_end(run);
	return code;
}

/* The response of the last call, or NULL; to be freed with protobuf_c_message_free_unpacked(). */
#define RESPONSE(run, name)                                                                        \
	ioasid__v1__##name##_response__unpack(NULL, (run)->host.n_response, (run)->host.response)
#define FREE_RESPONSE(response) protobuf_c_message_free_unpacked(&(response)->base, NULL)

#define SCOPE(variable, lease_name, key_text)                                                      \
	Ioasid__V1__Scope variable = IOASID__V1__SCOPE__INIT;                                      \
	variable.lease = (lease_name);                                                             \
	variable.key = (key_text)

/* ---- sessions ---- */

static int open_session(struct run *run, const struct broker_peer *peer,
			struct broker_session **ret_session)
{
	bool refused = false;
	int err;

	fault_begin(run);
	err = broker_session_open(run->broker, peer, run, &refused, ret_session);
	host_pump(&run->host, run->broker);
	fault_end(run);
	if (err == -ENOMEM)
		return 8;
	if (err)
		return 13;
	return refused ? 7 : OK;
}

static int close_session(struct run *run, struct broker_session **session)
{
	fault_begin(run);
	broker_session_close(*session);
	*session = NULL;
	host_pump(&run->host, run->broker);
	fault_end(run);
	return STEP_VOID;
}

static int step_open_admin(struct run *run)
{
	return open_session(run, &peer_admin, &run->admin);
}
static int step_open_red(struct run *run)
{
	return open_session(run, &peer_red, &run->red);
}
static int step_open_red2(struct run *run)
{
	return open_session(run, &peer_red, &run->red2);
}
static int step_open_blue(struct run *run)
{
	return open_session(run, &peer_blue, &run->blue);
}
static int step_close_red(struct run *run)
{
	return close_session(run, &run->red);
}
static int step_close_blue(struct run *run)
{
	return close_session(run, &run->blue);
}

/* ---- looking ---- */

static int step_status(struct run *run)
{
	Ioasid__V1__GetStatusRequest m = IOASID__V1__GET_STATUS_REQUEST__INIT;

	return call(run, run->red, B "GetStatus", &m);
}

static int step_list_devices(struct run *run)
{
	Ioasid__V1__ListDevicesRequest m = IOASID__V1__LIST_DEVICES_REQUEST__INIT;

	m.with_capabilities = true;
	return call(run, run->red, B "ListDevices", &m);
}

static int step_get_device(struct run *run)
{
	Ioasid__V1__GetDeviceRequest m = IOASID__V1__GET_DEVICE_REQUEST__INIT;

	m.device = (char *)"0000:10:00.0";
	return call(run, run->red, B "GetDevice", &m);
}

static int step_list_memory(struct run *run)
{
	Ioasid__V1__ListMemoryRequest m = IOASID__V1__LIST_MEMORY_REQUEST__INIT;

	return call(run, run->red, B "ListMemory", &m);
}

static int step_list_ioasids(struct run *run)
{
	Ioasid__V1__ListIoasidsRequest m = IOASID__V1__LIST_IOASIDS_REQUEST__INIT;

	return call(run, run->red, B "ListIoasids", &m);
}

static int step_get_ioasid(struct run *run)
{
	Ioasid__V1__GetIoasidRequest m = IOASID__V1__GET_IOASID_REQUEST__INIT;

	m.ioasid = run->child;
	return call(run, run->red, B "GetIoasid", &m);
}

static int step_list_mappings(struct run *run)
{
	Ioasid__V1__ListMappingsRequest m = IOASID__V1__LIST_MAPPINGS_REQUEST__INIT;

	m.ioasid = run->parent;
	return call(run, run->red, B "ListMappings", &m);
}

static int step_list_attachments(struct run *run)
{
	Ioasid__V1__ListAttachmentsRequest m = IOASID__V1__LIST_ATTACHMENTS_REQUEST__INIT;

	return call(run, run->red, B "ListAttachments", &m);
}

static int step_list_leases(struct run *run)
{
	Ioasid__V1__ListLeasesRequest m = IOASID__V1__LIST_LEASES_REQUEST__INIT;

	return call(run, run->red, B "ListLeases", &m);
}

static int step_get_quota(struct run *run)
{
	Ioasid__V1__GetQuotaRequest m = IOASID__V1__GET_QUOTA_REQUEST__INIT;

	return call(run, run->red, B "GetQuota", &m);
}

static int step_explain_quota(struct run *run)
{
	Ioasid__V1__ExplainQuotaRequest m = IOASID__V1__EXPLAIN_QUOTA_REQUEST__INIT;
	Ioasid__V1__ResourceAmount amount = IOASID__V1__RESOURCE_AMOUNT__INIT;
	Ioasid__V1__ResourceAmount *amounts[] = {&amount};

	amount.resource = (char *)"ioasids";
	amount.amount = 1000;
	m.n_amounts = 1;
	m.amounts = amounts;
	return call(run, run->red, B "ExplainQuota", &m);
}

/* ---- devices ---- */

static int claim(struct run *run, struct broker_session *session, const char *lease,
		 const char *first, const char *second, const char *key)
{
	Ioasid__V1__ClaimDeviceRequest m = IOASID__V1__CLAIM_DEVICE_REQUEST__INIT;
	char *devices[] = {(char *)first, (char *)second};
	SCOPE(scope, (char *)lease, (char *)key);

	m.scope = &scope;
	m.n_devices = second ? 2 : 1;
	m.devices = devices;
	return call(run, session, B "ClaimDevice", &m);
}

static int step_claim(struct run *run)
{
	return claim(run, run->red, "", "0000:10:00.0", NULL, "claim");
}
static int step_claim_half_group(struct run *run)
{
	return claim(run, run->red, "", "0000:12:00.0", NULL, "");
}
static int step_claim_group(struct run *run)
{
	return claim(run, run->red, "", "0000:12:00.0", "0000:12:00.1", "");
}
static int step_claim_taken(struct run *run)
{
	return claim(run, run->blue, "", "0000:10:00.0", NULL, "");
}
static int step_claim_blue(struct run *run)
{
	return claim(run, run->blue, "", "0000:11:00.0", NULL, "");
}
static int step_claim_blue_group(struct run *run)
{
	return claim(run, run->blue, "", "0000:12:00.0", "0000:12:00.1", "");
}
static int step_claim_last(struct run *run)
{
	return claim(run, run->red2, "", "0000:10:00.0", NULL, "");
}
static int step_claim_brief(struct run *run)
{
	return claim(run, run->red, "brief", "0000:14:00.0", NULL, "");
}
static int step_claim_pool(struct run *run)
{
	return claim(run, run->red, "pool", "0000:13:00.0", NULL, "pool-claim");
}

static int step_release(struct run *run)
{
	Ioasid__V1__ReleaseDeviceRequest m = IOASID__V1__RELEASE_DEVICE_REQUEST__INIT;
	char *devices[] = {(char *)"0000:12:00.0", (char *)"0000:12:00.1"};
	SCOPE(scope, (char *)"", (char *)"release");

	m.scope = &scope;
	m.n_devices = 2;
	m.devices = devices;
	fail_shim_hold(run->shim, true);
	return call(run, run->red, B "ReleaseDevice", &m);
}

static int step_get_device_fd(struct run *run)
{
	Ioasid__V1__GetDeviceFdRequest m = IOASID__V1__GET_DEVICE_FD_REQUEST__INIT;
	Ioasid__V1__GetDeviceFdResponse *response;
	int code;

	m.device = (char *)"0000:12:00.0";
	code = call(run, run->red, B "GetDeviceFd", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, get_device_fd);
	memcpy(run->ticket, response->ticket.data, sizeof(run->ticket));
	FREE_RESPONSE(response);
	return code;
}

static int take(struct run *run, const struct broker_peer *peer)
{
	int fd = -1, status;

	fault_begin(run);
	status = broker_ticket_take(run->broker, peer, run->ticket, &fd);
	fault_end(run);
	if (!status != (fd >= 0))
		return 97;
	if (fd >= 0)
		close(fd);
	return status ? 90 + status : OK;
}

static int step_take(struct run *run)
{
	return take(run, &peer_red);
}
static int step_take_foreign(struct run *run)
{
	return take(run, &peer_blue);
}

static int open_ticket(struct run *run, struct broker_session *session,
		       Ioasid__V1__TicketPurpose purpose)
{
	Ioasid__V1__OpenTicketRequest m = IOASID__V1__OPEN_TICKET_REQUEST__INIT;
	Ioasid__V1__OpenTicketResponse *response;
	int code;

	m.purpose = purpose;
	code = call(run, session, B "OpenTicket", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, open_ticket);
	memcpy(run->ticket, response->ticket.data, sizeof(run->ticket));
	FREE_RESPONSE(response);
	return code;
}

/* Takes the fd over. */
static int give(struct run *run, int fd)
{
	int status;

	fault_begin(run);
	status = broker_ticket_give(run->broker, &peer_red, run->ticket, fd);
	host_pump(&run->host, run->broker);
	fault_end(run);
	if (!status)
		return OK;
	close(fd);
	/* BUSY and UNAVAILABLE leave the ticket good; any other status uses it up. */
	return status == 4 || status == 5 ? 14 : 90 + status;
}

static int step_claim_held(struct run *run)
{
	return claim(run, run->red, "", "0000:12:00.0", "0000:12:00.1", "");
}

/* The broker has looked a few times, and then sees that they are free. */
static int step_holder_goes(struct run *run)
{
	fault_begin(run);
	for (int i = 0; i < 3; i++) {
		run->host.now_us += 200000;
		host_pump(&run->host, run->broker);
	}
	fail_shim_hold(run->shim, false);
	run->host.now_us += 200000;
	host_pump(&run->host, run->broker);
	fault_end(run);
	return STEP_VOID;
}

/* ---- a lease whose context is its process's: this process's ---- */

static int step_open_process_ticket(struct run *run)
{
	return open_ticket(run, run->red, IOASID__V1__TICKET_PURPOSE__TICKET_PURPOSE_PROCESS);
}

static int step_give_process(struct run *run)
{
	return give(run, (int)syscall(SYS_pidfd_open, getpid(), 0));
}

static int step_open_delegated(struct run *run)
{
	Ioasid__V1__OpenLeaseRequest m = IOASID__V1__OPEN_LEASE_REQUEST__INIT;
	Ioasid__V1__ResourceAmount ioasids = IOASID__V1__RESOURCE_AMOUNT__INIT;
	Ioasid__V1__ResourceAmount bytes = IOASID__V1__RESOURCE_AMOUNT__INIT;
	Ioasid__V1__ResourceAmount *limits[] = {&ioasids, &bytes};
	SCOPE(scope, (char *)"", (char *)"vmm");

	ioasids.resource = (char *)"ioasids";
	ioasids.amount = 1;
	bytes.resource = (char *)"registered_bytes";
	bytes.amount = MEMORY;
	m.scope = &scope;
	m.name = (char *)"vmm";
	m.keep = true;
	m.delegate = true;
	m.watch_ticket.data = run->ticket;
	m.watch_ticket.len = sizeof(run->ticket);
	m.limits = limits;
	m.n_limits = 2;
	return call(run, run->red, B "OpenLease", &m);
}

static int step_claim_delegated(struct run *run)
{
	return claim(run, run->red, "vmm", "0000:14:00.0", NULL, "vmm-claim");
}

static int step_get_context_fd(struct run *run)
{
	Ioasid__V1__GetContextFdRequest m = IOASID__V1__GET_CONTEXT_FD_REQUEST__INIT;
	Ioasid__V1__GetContextFdResponse *response;
	SCOPE(scope, (char *)"vmm", (char *)"");
	int code;

	m.scope = &scope;
	code = call(run, run->red, B "GetContextFd", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, get_context_fd);
	memcpy(run->ticket, response->ticket.data, sizeof(run->ticket));
	FREE_RESPONSE(response);
	return code;
}

static int step_get_no_context_fd(struct run *run)
{
	Ioasid__V1__GetContextFdRequest m = IOASID__V1__GET_CONTEXT_FD_REQUEST__INIT;

	return call(run, run->red, B "GetContextFd", &m);
}

static int step_register_delegated(struct run *run)
{
	Ioasid__V1__RegisterMemoryRequest m = IOASID__V1__REGISTER_MEMORY_REQUEST__INIT;
	SCOPE(scope, (char *)"vmm", (char *)"");

	m.scope = &scope;
	m.read = true;
	return call(run, run->red, B "RegisterMemory", &m);
}

/* Somebody still has its device. */
static int step_close_delegated(struct run *run)
{
	Ioasid__V1__CloseLeaseRequest m = IOASID__V1__CLOSE_LEASE_REQUEST__INIT;
	SCOPE(scope, (char *)"vmm", (char *)"");

	m.scope = &scope;
	fail_shim_hold(run->shim, true);
	return call(run, run->red, B "CloseLease", &m);
}

/* ---- memory ---- */

static int step_open_ticket(struct run *run)
{
	return open_ticket(run, run->red, IOASID__V1__TICKET_PURPOSE__TICKET_PURPOSE_MEMORY);
}

static int step_give(struct run *run)
{
	return give(run, fcntl(run->memfd, F_DUPFD_CLOEXEC, 3));
}

static int step_register(struct run *run)
{
	Ioasid__V1__RegisterMemoryRequest m = IOASID__V1__REGISTER_MEMORY_REQUEST__INIT;
	Ioasid__V1__RegisterMemoryResponse *response;
	SCOPE(scope, (char *)"", (char *)"register");
	int code;

	m.scope = &scope;
	m.ticket.data = run->ticket;
	m.ticket.len = sizeof(run->ticket);
	m.read = true;
	m.write = true;
	m.label = (char *)"ram";
	code = call(run, run->red, B "RegisterMemory", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, register_memory);
	run->memory = response->memory;
	FREE_RESPONSE(response);
	return code;
}

static int step_unregister(struct run *run)
{
	Ioasid__V1__UnregisterMemoryRequest m = IOASID__V1__UNREGISTER_MEMORY_REQUEST__INIT;

	m.memory = run->memory;
	return call(run, run->red, B "UnregisterMemory", &m);
}

/* ---- ioasids ---- */

static int alloc_or_negotiate(struct run *run, struct broker_session *session, const char *lease,
			      const char *device, uint64_t parent, const char *key, bool dry,
			      uint64_t *ret_ioasid)
{
	Ioasid__V1__AllocRequest m = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__NegotiateRequest negotiate = IOASID__V1__NEGOTIATE_REQUEST__INIT;
	Ioasid__V1__FormatCandidate candidates[2];
	Ioasid__V1__FormatCandidate *list[2] = {&candidates[0], &candidates[1]};
	char *devices[] = {(char *)device};
	Ioasid__V1__AllocResponse *response;
	SCOPE(scope, (char *)lease, (char *)key);
	int code;

	ioasid__v1__format_candidate__init(&candidates[0]);
	ioasid__v1__format_candidate__init(&candidates[1]);
	/* The first is one that no device here has: it is passed over. */
	candidates[0].format = IOASID__V1__PAGE_TABLE_FORMAT__PAGE_TABLE_FORMAT_SV57;
	candidates[1].format = IOASID__V1__PAGE_TABLE_FORMAT__PAGE_TABLE_FORMAT_VTDSS_4L;
	m.scope = &scope;
	m.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	m.n_devices = device ? 1 : 0;
	m.devices = devices;
	m.parent = parent;
	m.n_candidates = 2;
	m.candidates = list;
	m.label = (char *)"space";
	m.dirty_tracking = device != NULL;
	if (dry) {
		negotiate.alloc = &m;
		return call(run, session, B "Negotiate", &negotiate);
	}
	code = call(run, session, B "Alloc", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, alloc);
	*ret_ioasid = response->ioasid;
	FREE_RESPONSE(response);
	return code;
}

/* Below the parent; its table is where the parent maps the memory. */
static int step_alloc_user(struct run *run)
{
	Ioasid__V1__AllocRequest m = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__PageTable table = IOASID__V1__PAGE_TABLE__INIT;
	char *devices[] = {(char *)"0000:10:00.0"};
	Ioasid__V1__AllocResponse *response;
	int code;

	table.root = IOVA;
	table.format = IOASID__V1__PAGE_TABLE_FORMAT__PAGE_TABLE_FORMAT_X86_64_4L;
	m.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_USER;
	m.n_devices = 1;
	m.devices = devices;
	m.parent = run->parent;
	m.table = &table;
	m.faults = true;
	code = call(run, run->red, B "Alloc", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, alloc);
	run->user = response->ioasid;
	FREE_RESPONSE(response);
	return code;
}

static int step_bind_table(struct run *run)
{
	Ioasid__V1__BindPageTableRequest m = IOASID__V1__BIND_PAGE_TABLE_REQUEST__INIT;
	Ioasid__V1__PageTable table = IOASID__V1__PAGE_TABLE__INIT;

	table.root = IOVA + PAGE;
	m.ioasid = run->user;
	m.table = &table;
	return call(run, run->red, B "BindPageTable", &m);
}

static int step_unbind_table(struct run *run)
{
	Ioasid__V1__UnbindPageTableRequest m = IOASID__V1__UNBIND_PAGE_TABLE_REQUEST__INIT;

	m.ioasid = run->user;
	return call(run, run->red, B "UnbindPageTable", &m);
}

static int step_bind_pasid_table(struct run *run)
{
	Ioasid__V1__BindPasidTableRequest m = IOASID__V1__BIND_PASID_TABLE_REQUEST__INIT;

	m.ioasid = run->user;
	m.format = IOASID__V1__PASID_TABLE_FORMAT__PASID_TABLE_FORMAT_VTD;
	m.root = IOVA;
	m.pasid_bits = 20;
	return call(run, run->red, B "BindPasidTable", &m);
}

static int step_unbind_pasid_table(struct run *run)
{
	Ioasid__V1__UnbindPasidTableRequest m = IOASID__V1__UNBIND_PASID_TABLE_REQUEST__INIT;

	m.ioasid = run->user;
	return call(run, run->red, B "UnbindPasidTable", &m);
}

static int step_invalidate_native(struct run *run)
{
	Ioasid__V1__InvalidateRequest m = IOASID__V1__INVALIDATE_REQUEST__INIT;
	/* {u64 addr, u64 npages, u32 flags, u32 0}, twice. */
	uint64_t entries[6] = {0, 1, 0, PAGE, 1, 0};

	m.ioasid = run->user;
	m.native_type = IOASID__V1__NATIVE_INVALIDATION__NATIVE_INVALIDATION_VTD_S1;
	m.native.data = (uint8_t *)entries;
	m.native.len = sizeof(entries);
	return call(run, run->red, B "Invalidate", &m);
}

static int step_free_user(struct run *run)
{
	Ioasid__V1__FreeRequest m = IOASID__V1__FREE_REQUEST__INIT;

	m.ioasid = run->user;
	return call(run, run->red, B "Free", &m);
}

/* The parent tracks, for as long as it is asked to. */
static int set_dirty(struct run *run, bool enable)
{
	Ioasid__V1__SetDirtyTrackingRequest m = IOASID__V1__SET_DIRTY_TRACKING_REQUEST__INIT;

	m.ioasid = run->parent;
	m.enable = enable;
	return call(run, run->red, B "SetDirtyTracking", &m);
}

static int step_dirty_on(struct run *run)
{
	return set_dirty(run, true);
}
static int step_dirty_off(struct run *run)
{
	return set_dirty(run, false);
}

/* A stream that is read to its end, or left by its caller. */
static int read_stream(struct run *run, const char *method, const ProtobufCMessage *request)
{
	size_t length = protobuf_c_message_pack(request, packed);
	int code;

	fault_begin(run);
	code = host_stream(&run->host, run->broker, run->red, method, packed, length);
	fault_end(run);
	return code;
}

static int step_dirty_read(struct run *run)
{
	Ioasid__V1__ReadDirtyBitmapRequest m = IOASID__V1__READ_DIRTY_BITMAP_REQUEST__INIT;

	m.ioasid = run->parent;
	m.iova = IOVA;
	m.length = 8 * PAGE;
	m.page_size = PAGE;
	return read_stream(run, B "ReadDirtyBitmap", &m.base);
}

static int step_watch_faults(struct run *run)
{
	Ioasid__V1__WatchFaultsRequest m = IOASID__V1__WATCH_FAULTS_REQUEST__INIT;

	return read_stream(run, B "WatchFaults", &m.base);
}

static int step_respond(struct run *run)
{
	Ioasid__V1__RespondFaultRequest m = IOASID__V1__RESPOND_FAULT_REQUEST__INIT;

	m.cookie = 1;
	m.code = IOASID__V1__FAULT_RESPONSE_CODE__FAULT_RESPONSE_CODE_SUCCESS;
	return call(run, run->red, B "RespondFault", &m);
}

static int step_negotiate(struct run *run)
{
	return alloc_or_negotiate(run, run->red, "", "0000:10:00.0", 0, "", true, NULL);
}
static int step_alloc_parent(struct run *run)
{
	return alloc_or_negotiate(run, run->red, "", "0000:10:00.0", 0, "gpa", false, &run->parent);
}
static int step_alloc_child(struct run *run)
{
	return alloc_or_negotiate(run, run->red, "", "0000:10:00.0", run->parent, "", false,
				  &run->child);
}
static int step_alloc_pool(struct run *run)
{
	return alloc_or_negotiate(run, run->red, "pool", "0000:13:00.0", 0, "", false,
				  &run->pooled);
}
static int step_alloc_brief(struct run *run)
{
	return alloc_or_negotiate(run, run->red, "brief", "0000:14:00.0", 0, "", false,
				  &run->spare[3]);
}
static int step_alloc_blue1(struct run *run)
{
	return alloc_or_negotiate(run, run->blue, "", NULL, 0, "", false, &run->spare[0]);
}
static int step_alloc_blue2(struct run *run)
{
	return alloc_or_negotiate(run, run->blue, "", NULL, 0, "", false, &run->spare[1]);
}
static int step_alloc_red_spare(struct run *run)
{
	return alloc_or_negotiate(run, run->red, "", NULL, 0, "", false, &run->spare[2]);
}
static int step_alloc_over(struct run *run)
{
	return alloc_or_negotiate(run, run->blue, "", NULL, 0, "", false, &run->spare[3]);
}
static int step_alloc_over_parent(struct run *run)
{
	return alloc_or_negotiate(run, run->red, "", NULL, 0, "", false, &run->spare[3]);
}

static int free_ioasid(struct run *run, struct broker_session *session, const char *lease,
		       uint64_t ioasid)
{
	Ioasid__V1__FreeRequest m = IOASID__V1__FREE_REQUEST__INIT;
	SCOPE(scope, (char *)lease, (char *)"");

	m.scope = &scope;
	m.ioasid = ioasid;
	return call(run, session, B "Free", &m);
}

static int step_free_child(struct run *run)
{
	return free_ioasid(run, run->red, "", run->child);
}
static int step_free_parent(struct run *run)
{
	return free_ioasid(run, run->red, "", run->parent);
}
static int step_free_many(struct run *run)
{
	return free_ioasid(run, run->red, "", run->spare[2]);
}
static int step_free_foreign(struct run *run)
{
	/* Ids of a lease count from 1, so add what blue cannot have. */
	return free_ioasid(run, run->blue, "", run->parent + 1000);
}
static int step_free_pool(struct run *run)
{
	return free_ioasid(run, run->red2, "pool", run->pooled);
}

/* ---- mappings ---- */

static int step_map_parent(struct run *run)
{
	Ioasid__V1__MapRequest m = IOASID__V1__MAP_REQUEST__INIT;
	Ioasid__V1__MapEntry entries[2] = {IOASID__V1__MAP_ENTRY__INIT,
					   IOASID__V1__MAP_ENTRY__INIT};
	Ioasid__V1__MapEntry *list[2] = {&entries[0], &entries[1]};
	SCOPE(scope, (char *)"", (char *)"map");

	m.scope = &scope;
	m.ioasid = run->parent;
	m.n_entries = 2;
	m.entries = list;
	entries[0].iova = IOVA;
	entries[0].length = 16 * PAGE;
	entries[0].memory = run->memory;
	entries[0].read = entries[0].write = true;
	entries[1].choose = true;
	entries[1].length = 4 * PAGE;
	entries[1].memory = run->memory;
	entries[1].offset = 32 * PAGE;
	entries[1].read = true;
	return call(run, run->red, B "Map", &m);
}

static int step_map_child(struct run *run)
{
	Ioasid__V1__MapRequest m = IOASID__V1__MAP_REQUEST__INIT;
	Ioasid__V1__MapEntry entries[3] = {IOASID__V1__MAP_ENTRY__INIT, IOASID__V1__MAP_ENTRY__INIT,
					   IOASID__V1__MAP_ENTRY__INIT};
	Ioasid__V1__MapEntry *list[3] = {&entries[0], &entries[1], &entries[2]};

	m.ioasid = run->child;
	m.n_entries = 3;
	m.entries = list;
	/* Several, so that an Unmap of all of them can fail midway. */
	for (size_t i = 0; i < 3; i++) {
		entries[i].iova = CHILD_IOVA + i * 0x1000000;
		entries[i].length = 8 * PAGE;
		entries[i].from_parent = true;
		entries[i].parent_address = IOVA;
		entries[i].read = entries[i].write = true;
	}
	return call(run, run->red, B "Map", &m);
}

#define MANY 600 /* more than one slice of what the broker takes down at once */

static int step_map_many(struct run *run)
{
	static Ioasid__V1__MapEntry entries[MANY];
	static Ioasid__V1__MapEntry *list[MANY];
	Ioasid__V1__MapRequest m = IOASID__V1__MAP_REQUEST__INIT;
	SCOPE(scope, (char *)"", (char *)"many");

	m.scope = &scope;
	m.ioasid = run->spare[2];
	m.n_entries = MANY;
	m.entries = list;
	for (size_t i = 0; i < MANY; i++) {
		list[i] = &entries[i];
		ioasid__v1__map_entry__init(list[i]);
		entries[i].iova = i * 16 * PAGE;
		entries[i].length = PAGE;
		entries[i].memory = run->memory;
		entries[i].offset = i % 64 * PAGE;
		entries[i].read = true;
	}
	return call(run, run->red, B "Map", &m);
}

static int unmap(struct run *run, uint64_t ioasid, uint64_t iova, uint64_t length)
{
	Ioasid__V1__UnmapRequest m = IOASID__V1__UNMAP_REQUEST__INIT;
	Ioasid__V1__UnmapRange range = IOASID__V1__UNMAP_RANGE__INIT;
	Ioasid__V1__UnmapRange *list[1] = {&range};
	SCOPE(scope, (char *)"", (char *)"unmap");

	m.scope = &scope;
	m.ioasid = ioasid;
	if (length) {
		m.n_ranges = 1;
		m.ranges = list;
		range.iova = iova;
		range.length = length;
	} else {
		m.all = true;
		m.scope = NULL;
	}
	return call(run, run->red, B "Unmap", &m);
}

static int step_unmap_split(struct run *run)
{
	return unmap(run, run->parent, IOVA, PAGE);
}
static int step_unmap_parent(struct run *run)
{
	return unmap(run, run->parent, IOVA, 16 * PAGE);
}
static int step_unmap_all(struct run *run)
{
	return unmap(run, run->child, 0, 0);
}

/* ---- attachments, DMA ---- */

static int attach(struct run *run, uint64_t ioasid, uint32_t pasid)
{
	Ioasid__V1__AttachRequest m = IOASID__V1__ATTACH_REQUEST__INIT;
	Ioasid__V1__Pasid guest = IOASID__V1__PASID__INIT;

	m.device = (char *)"0000:10:00.0";
	m.ioasid = ioasid;
	guest.value = pasid;
	m.pasid = pasid ? &guest : NULL;
	return call(run, run->red, B "Attach", &m);
}

static int step_attach_parent(struct run *run)
{
	return attach(run, run->parent, 0);
}
static int step_attach_child(struct run *run)
{
	return attach(run, run->child, 0);
}
static int step_attach_pasid(struct run *run)
{
	return attach(run, run->parent, 7);
}

static int step_replace(struct run *run)
{
	Ioasid__V1__ReplaceRequest m = IOASID__V1__REPLACE_REQUEST__INIT;

	m.device = (char *)"0000:10:00.0";
	m.ioasid = run->parent;
	return call(run, run->red, B "Replace", &m);
}

static int step_detach(struct run *run)
{
	Ioasid__V1__DetachRequest m = IOASID__V1__DETACH_REQUEST__INIT;

	m.device = (char *)"0000:10:00.0";
	return call(run, run->red, B "Detach", &m);
}

/* Writes a pattern that depends on iova, or reads; returns 99 if the DMA went wrong. */
static int dma(struct run *run, bool write, uint64_t iova, uint64_t offset, bool blocked)
{
	Ioasid__V1__DeviceDmaRequest m = IOASID__V1__DEVICE_DMA_REQUEST__INIT;
	Ioasid__V1__DeviceDmaResponse *response;
	uint8_t expected[256], seen[256];
	bool good;
	int code;

	for (size_t i = 0; i < sizeof(expected); i++)
		expected[i] = (uint8_t)(i * 7 + (offset >> 4));
	m.device = (char *)"0000:10:00.0";
	m.iova = iova;
	if (write) {
		m.access = IOASID__V1__ACCESS__ACCESS_WRITE;
		m.data.data = expected;
		m.data.len = sizeof(expected);
	} else {
		m.access = IOASID__V1__ACCESS__ACCESS_READ;
		m.length = sizeof(expected);
	}
	code = call(run, run->red, B "DeviceDma", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, device_dma);
	if (blocked)
		good = response->fault && response->done == 0;
	else if (write)
		good = !response->fault && response->done == sizeof(expected) &&
		       pread(run->memfd, seen, sizeof(seen), (off_t)offset) == sizeof(seen) &&
		       !memcmp(seen, expected, sizeof(seen));
	else
		good = !response->fault && response->data.len == sizeof(expected) &&
		       !memcmp(response->data.data, expected, sizeof(expected));
	FREE_RESPONSE(response);
	return good ? OK : 99;
}

static int step_dma_write(struct run *run)
{
	return dma(run, true, IOVA + 0x1f80, 0x1f80, false);
}
static int step_dma_read(struct run *run)
{
	return dma(run, false, IOVA + 0x1f80, 0x1f80, false);
}
static int step_dma_child(struct run *run)
{
	return dma(run, true, CHILD_IOVA + 0x3000, 0x3000, false);
}
static int step_dma_blocked(struct run *run)
{
	return dma(run, false, IOVA, 0, true);
}

static int step_translate(struct run *run)
{
	Ioasid__V1__TranslateRequest m = IOASID__V1__TRANSLATE_REQUEST__INIT;

	m.ioasid = run->child;
	m.iova = CHILD_IOVA + 0x2010;
	m.access = IOASID__V1__ACCESS__ACCESS_READ;
	return call(run, run->red, B "Translate", &m);
}

/* ---- virtual machines ---- */

#define GUEST 0x40000000ull

static int step_create_vm(struct run *run)
{
	Ioasid__V1__CreateVmRequest m = IOASID__V1__CREATE_VM_REQUEST__INIT;
	Ioasid__V1__CreateVmResponse *response;
	SCOPE(scope, (char *)"", (char *)"vm");
	int code;

	m.scope = &scope;
	m.label = (char *)"guest";
	code = call(run, run->red, B "CreateVm", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, create_vm);
	run->vm = response->vm;
	FREE_RESPONSE(response);
	return code;
}

static int set_slot(struct run *run, uint32_t slot, uint64_t address, uint64_t size,
		    const char *key)
{
	Ioasid__V1__SetMemorySlotRequest m = IOASID__V1__SET_MEMORY_SLOT_REQUEST__INIT;
	SCOPE(scope, (char *)"", (char *)key);

	m.scope = &scope;
	m.vm = run->vm;
	m.slot = slot;
	m.guest_address = address;
	m.size = size;
	m.memory = size ? run->memory : 0;
	return call(run, run->red, B "SetMemorySlot", &m);
}

static int step_slot(struct run *run)
{
	return set_slot(run, 0, GUEST, 0x2000, "slot");
}
static int step_slot_more(struct run *run)
{
	return set_slot(run, 1, GUEST + 0x10000, 0x1000, "");
}
static int step_slot_overlap(struct run *run)
{
	return set_slot(run, 2, GUEST + 0x1000, 0x1000, "");
}
static int step_slot_moved(struct run *run)
{
	/* Over the end of a table: it costs more there. */
	return set_slot(run, 0, 2 * GUEST - 0x1000, 0x2000, "moved");
}
static int step_slot_deleted(struct run *run)
{
	return set_slot(run, 0, 0, 0, "deleted");
}

static int step_alloc_guest(struct run *run)
{
	Ioasid__V1__AllocRequest m = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__AllocResponse *response;
	int code;

	m.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KVM;
	m.vm = run->vm;
	code = call(run, run->red, B "Alloc", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, alloc);
	run->guest = response->ioasid;
	FREE_RESPONSE(response);
	return code;
}

static int step_translate_guest(struct run *run)
{
	Ioasid__V1__TranslateRequest m = IOASID__V1__TRANSLATE_REQUEST__INIT;
	Ioasid__V1__TranslateResponse *response;
	bool good;
	int code;

	m.ioasid = run->guest;
	m.iova = GUEST + 0x1010;
	m.access = IOASID__V1__ACCESS__ACCESS_WRITE;
	code = call(run, run->red, B "Translate", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, translate);
	good = !response->fault && response->memory == run->memory && response->offset == 0x1010;
	FREE_RESPONSE(response);
	return good ? OK : 99;
}

static int step_list_vms(struct run *run)
{
	Ioasid__V1__ListVmsRequest m = IOASID__V1__LIST_VMS_REQUEST__INIT;

	return call(run, run->red, B "ListVms", &m);
}

static int step_destroy_vm(struct run *run)
{
	Ioasid__V1__DestroyVmRequest m = IOASID__V1__DESTROY_VM_REQUEST__INIT;
	SCOPE(scope, (char *)"", (char *)"destroy");

	m.scope = &scope;
	m.vm = run->vm;
	return call(run, run->red, B "DestroyVm", &m);
}
static int step_free_guest(struct run *run)
{
	return free_ioasid(run, run->red, "", run->guest);
}

/* ---- processes ---- */

static int step_open_service(struct run *run)
{
	Ioasid__V1__OpenDmaServiceRequest m = IOASID__V1__OPEN_DMA_SERVICE_REQUEST__INIT;
	Ioasid__V1__OpenDmaServiceResponse *response;
	int code = call(run, run->red, B "OpenDmaService", &m);

	if (code != OK)
		return code;
	response = RESPONSE(run, open_dma_service);
	memcpy(run->ticket, response->ticket.data, sizeof(run->ticket));
	FREE_RESPONSE(response);
	return code;
}

static int step_alloc_process(struct run *run)
{
	Ioasid__V1__AllocRequest m = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__AllocResponse *response;
	int code;

	m.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_PROCESS;
	code = call(run, run->red, B "Alloc", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, alloc);
	run->guest = response->ioasid;
	FREE_RESPONSE(response);
	return code;
}

static int step_invalidate(struct run *run)
{
	Ioasid__V1__InvalidateRequest m = IOASID__V1__INVALIDATE_REQUEST__INIT;
	Ioasid__V1__InvalidateEntry entries[2] = {IOASID__V1__INVALIDATE_ENTRY__INIT,
						  IOASID__V1__INVALIDATE_ENTRY__INIT};
	Ioasid__V1__InvalidateEntry *list[2] = {&entries[0], &entries[1]};

	m.ioasid = run->parent;
	m.n_entries = 2;
	m.entries = list;
	entries[0].granularity = IOASID__V1__INVALIDATE_GRANULARITY__INVALIDATE_GRANULARITY_RANGE;
	entries[0].iova = IOVA;
	entries[0].length = PAGE;
	entries[1].granularity = IOASID__V1__INVALIDATE_GRANULARITY__INVALIDATE_GRANULARITY_ALL;
	return call(run, run->red, B "Invalidate", &m);
}

/* ---- leases ---- */

static int open_lease(struct run *run, const char *name, uint32_t linger_seconds)
{
	Ioasid__V1__OpenLeaseRequest m = IOASID__V1__OPEN_LEASE_REQUEST__INIT;
	Ioasid__V1__ResourceAmount amount = IOASID__V1__RESOURCE_AMOUNT__INIT;
	Ioasid__V1__ResourceAmount *limits[1] = {&amount};
	Ioasid__V1__OpenLeaseResponse *response;
	SCOPE(scope, (char *)"", (char *)name);
	int code;

	amount.resource = (char *)"ioasids";
	amount.amount = 100;
	m.scope = &scope;
	m.name = (char *)name;
	m.linger_seconds = linger_seconds;
	m.limits = limits;
	m.n_limits = 1;
	code = call(run, run->red, B "OpenLease", &m);
	if (code != OK)
		return code;
	response = RESPONSE(run, open_lease);
	memcpy(run->secret, response->secret.data, sizeof(run->secret));
	FREE_RESPONSE(response);
	return code;
}

static int step_open_brief_lease(struct run *run)
{
	return open_lease(run, "brief", 5);
}
/* Second, as its secret is the one that is kept. */
static int step_open_lease(struct run *run)
{
	return open_lease(run, "pool", 3600);
}

/* Nobody adopts the brief lease in time; tickets expire. */
static int step_wait(struct run *run)
{
	run->host.now_us += 20 * 1000000;
	fault_begin(run);
	host_pump(&run->host, run->broker);
	fault_end(run);
	return STEP_VOID;
}

static int step_adopt_lease(struct run *run)
{
	Ioasid__V1__AdoptLeaseRequest m = IOASID__V1__ADOPT_LEASE_REQUEST__INIT;

	m.name = (char *)"pool";
	m.secret.data = run->secret;
	m.secret.len = sizeof(run->secret);
	return call(run, run->red2, B "AdoptLease", &m);
}

static int step_close_lease(struct run *run)
{
	Ioasid__V1__CloseLeaseRequest m = IOASID__V1__CLOSE_LEASE_REQUEST__INIT;
	SCOPE(scope, (char *)"pool", (char *)"");

	m.scope = &scope;
	return call(run, run->red2, B "CloseLease", &m);
}

/* ---- administration ---- */

static int step_list_tenants(struct run *run)
{
	Ioasid__V1__ListTenantsRequest m = IOASID__V1__LIST_TENANTS_REQUEST__INIT;

	return call(run, run->admin, A "ListTenants", &m);
}

static int step_list_objects(struct run *run)
{
	Ioasid__V1__ListObjectsRequest m = IOASID__V1__LIST_OBJECTS_REQUEST__INIT;

	return call(run, run->admin, A "ListObjects", &m);
}

static int step_set_limits(struct run *run)
{
	Ioasid__V1__SetLimitsRequest m = IOASID__V1__SET_LIMITS_REQUEST__INIT;
	Ioasid__V1__ResourceAmount amount = IOASID__V1__RESOURCE_AMOUNT__INIT;
	Ioasid__V1__ResourceAmount *list[1] = {&amount};

	m.tenant = (char *)"org/blue";
	m.n_limits = 1;
	m.limits = list;
	amount.resource = (char *)"devices";
	amount.amount = 3;
	return call(run, run->admin, A "SetLimits", &m);
}

static int set_drain(struct run *run, bool drain)
{
	Ioasid__V1__DrainTenantRequest m = IOASID__V1__DRAIN_TENANT_REQUEST__INIT;

	m.tenant = (char *)"org/blue";
	m.drain = drain;
	m.close_leases = drain;
	return call(run, run->admin, A "DrainTenant", &m);
}
static int step_drain(struct run *run)
{
	return set_drain(run, true);
}
static int step_end_drain(struct run *run)
{
	return set_drain(run, false);
}

static int step_revoke(struct run *run)
{
	Ioasid__V1__RevokeRequest m = IOASID__V1__REVOKE_REQUEST__INIT;

	m.what_case = IOASID__V1__REVOKE_REQUEST__WHAT_DEVICE;
	m.device = (char *)"0000:12:00.0";
	return call(run, run->admin, A "Revoke", &m);
}

static int step_reload(struct run *run)
{
	Ioasid__V1__ReloadPolicyRequest m = IOASID__V1__RELOAD_POLICY_REQUEST__INIT;

	m.key = (char *)"reload";
	return call(run, run->admin, A "ReloadPolicy", &m);
}

/* A stream is opened, sees what there is and is left by its caller. */
static int step_watch_events(struct run *run)
{
	Ioasid__V1__WatchEventsRequest m = IOASID__V1__WATCH_EVENTS_REQUEST__INIT;

	return read_stream(run, B "WatchEvents", &m.base);
}

/* ---- the broker itself ---- */

/* The end of it all with objects alive. */
static int step_shutdown(struct run *run)
{
	struct broker_session **sessions[] = {&run->red2, &run->blue, &run->admin};

	fault_begin(run);
	broker_shutdown(run->broker);
	host_pump(&run->host, run->broker);
	for (size_t i = 0; i < 3; i++) {
		if (*sessions[i])
			broker_session_close(*sessions[i]);
		*sessions[i] = NULL;
		host_pump(&run->host, run->broker);
	}
	fault_end(run);
	return STEP_VOID;
}

/* blue may have 2 IOASIDs; red's 2, blue's 2 and 1 more fill their parent's limit. */
static const char policy_text[] =
	"{\"version\": 1,"
	" \"tenants\": {"
	"  \"org\": {\"devices\": [{\"any\": true}], \"limits\": {\"ioasids\": 5}},"
	"  \"org/red\": {\"limits\": {\"ioasids\": 5, \"devices\": 8}, \"delegate\": true},"
	"  \"org/blue\": {\"limits\": {\"ioasids\": 2}}},"
	" \"identities\": ["
	"  {\"socket\": \"tenants\", \"uid\": 50001, \"role\": \"tenant\", \"tenant\": "
	"\"org/red\"},"
	"  {\"socket\": \"tenants\", \"uid\": 50002, \"role\": \"tenant\", \"tenant\": "
	"\"org/blue\"},"
	"  {\"socket\": \"admin\", \"uid\": 0, \"role\": \"admin\"}]}";

static int step_broker(struct run *run)
{
	static const struct registry_boot_id boot = {{1}};
	struct policy_problem problem = {0};
	struct policy *policy = NULL;
	struct broker_config config = {
		.host_ops = &host_ops,
		.host = &run->host,
		.shim = run->shim,
		.policy_path = run->policy_path,
	};
	int err;

	err = policy_parse("failnth", policy_text, strlen(policy_text), broker_policy_vocabulary(),
			   &policy, &problem);
	if (err) {
		snprintf(run->problem, sizeof(run->problem), "policy: %.64s: %.256s", problem.path,
			 problem.message);
		return 98;
	}
	config.policy = policy;
	fault_begin(run);
	err = broker_new(&config, &run->broker);
	if (!err) {
		policy = NULL;
		err = broker_restore(run->broker, run->registry, NULL, &boot, 1, NULL);
		if (err) {
			broker_free(run->broker);
			run->broker = NULL;
		}
	}
	fault_end(run);
	if (!err)
		return OK;
	policy_free(policy);
	return err == -ENOMEM ? 8 : 13;
}

const struct step sequence[] = {
	{"broker_new", step_broker, OK},
	{"open the admin's session", step_open_admin, OK},
	{"open red's session", step_open_red, OK},
	{"open blue's session", step_open_blue, OK},
	{"GetStatus", step_status, OK},
	{"ListDevices", step_list_devices, OK},
	{"GetDevice", step_get_device, OK},
	{"ClaimDevice", step_claim, OK, .makes_lease = true},
	{"ClaimDevice, half a group", step_claim_half_group, FAILED_PRECONDITION},
	{"ClaimDevice, a whole group", step_claim_group, OK},
	{"GetDeviceFd", step_get_device_fd, OK},
	{"TAKE, another's ticket", step_take_foreign, 92},
	{"TAKE", step_take, OK},
	{"TAKE, used", step_take, 92},
	{"ClaimDevice, taken", step_claim_taken, FAILED_PRECONDITION, .makes_lease = true},
	{"ClaimDevice, blue", step_claim_blue, OK},
	{"OpenTicket, a process", step_open_process_ticket, OK},
	{"GIVE, a process", step_give_process, OK},
	{"OpenLease, delegated", step_open_delegated, OK},
	{"GetContextFd, not delegated", step_get_no_context_fd, FAILED_PRECONDITION},
	{"ClaimDevice, delegated", step_claim_delegated, OK},
	{"GetContextFd", step_get_context_fd, OK},
	{"TAKE, another's context", step_take_foreign, 92},
	{"TAKE, the context", step_take, OK},
	{"RegisterMemory, delegated", step_register_delegated, FAILED_PRECONDITION},
	{"CloseLease, delegated", step_close_delegated, OK},
	{"its last holder goes", step_holder_goes, STEP_VOID},
	{"OpenTicket", step_open_ticket, OK},
	{"GIVE", step_give, OK},
	{"RegisterMemory", step_register, OK},
	{"Negotiate", step_negotiate, OK},
	{"Alloc, parent", step_alloc_parent, OK},
	{"Alloc, child", step_alloc_child, OK},
	{"Map, parent", step_map_parent, OK},
	{"Map, child", step_map_child, OK},
	{"Attach, parent", step_attach_parent, OK},
	{"Attach, PASID", step_attach_pasid, OK},
	{"DeviceDma, write", step_dma_write, OK},
	{"DeviceDma, read", step_dma_read, OK},
	{"Attach, child in its parent's place", step_attach_child, OK},
	{"DeviceDma, nested", step_dma_child, OK},
	{"Translate", step_translate, OK},
	{"Alloc, a table of the tenant's", step_alloc_user, OK},
	{"BindPageTable", step_bind_table, OK},
	{"Invalidate, native", step_invalidate_native, OK},
	{"UnbindPageTable", step_unbind_table, OK},
	{"BindPasidTable", step_bind_pasid_table, OK},
	{"UnbindPasidTable", step_unbind_pasid_table, OK},
	{"Free, a table of the tenant's", step_free_user, OK},
	{"SetDirtyTracking", step_dirty_on, OK},
	{"ReadDirtyBitmap", step_dirty_read, OK},
	{"SetDirtyTracking, off", step_dirty_off, OK},
	{"WatchFaults", step_watch_faults, CANCELLED},
	{"RespondFault, to nobody", step_respond, NOT_FOUND},
	{"Invalidate", step_invalidate, OK},
	{"GetIoasid", step_get_ioasid, OK},
	{"ListIoasids", step_list_ioasids, OK},
	{"ListMappings", step_list_mappings, OK},
	{"ListAttachments", step_list_attachments, OK},
	{"ListMemory", step_list_memory, OK},
	{"ListLeases", step_list_leases, OK},
	{"GetQuota", step_get_quota, OK},
	{"ExplainQuota", step_explain_quota, OK},
	{"Replace", step_replace, OK},
	{"Unmap, a split", step_unmap_split, FAILED_PRECONDITION},
	{"Unmap", step_unmap_parent, OK},
	{"DeviceDma, blocked", step_dma_blocked, OK},
	{"Free, another's", step_free_foreign, NOT_FOUND},
	{"CreateVm", step_create_vm, OK},
	{"SetMemorySlot", step_slot, OK},
	{"SetMemorySlot, another", step_slot_more, OK},
	{"SetMemorySlot, in the way", step_slot_overlap, ALREADY_EXISTS},
	{"Alloc, of the VM", step_alloc_guest, OK},
	{"Translate, of the VM", step_translate_guest, OK},
	{"SetMemorySlot, moved", step_slot_moved, OK},
	{"SetMemorySlot, deleted", step_slot_deleted, OK},
	{"ListVms", step_list_vms, OK},
	{"DestroyVm, in use", step_destroy_vm, OK},
	{"Free, the last of a VM", step_free_guest, OK},
	{"OpenDmaService", step_open_service, OK},
	{"Alloc, of a process too early", step_alloc_process, FAILED_PRECONDITION},
	{"OpenDmaService, again", step_open_service, OK},
	{"TAKE, another's service", step_take_foreign, 92},
	{"TAKE, the service", step_take, OK},
	{"OpenDmaService, a second", step_open_service, FAILED_PRECONDITION},
	{"Alloc, of the process", step_alloc_process, OK},
	{"Free, of the process", step_free_guest, OK},
	{"Alloc, blue", step_alloc_blue1, OK},
	{"Alloc, blue again", step_alloc_blue2, OK},
	{"Alloc, over blue's limit", step_alloc_over, RESOURCE_EXHAUSTED},
	{"Alloc, the parent's last", step_alloc_red_spare, OK},
	{"Alloc, over the parent's limit", step_alloc_over_parent, RESOURCE_EXHAUSTED},
	{"ListTenants", step_list_tenants, OK},
	{"ListObjects", step_list_objects, OK},
	{"SetLimits", step_set_limits, OK},
	{"WatchEvents", step_watch_events, CANCELLED},
	{"ReloadPolicy", step_reload, OK},
	{"Map, many", step_map_many, OK},
	{"Free, many", step_free_many, OK},
	{"Unmap, all", step_unmap_all, OK},
	{"Free, child", step_free_child, OK},
	{"Free, attached", step_free_parent, OK},
	{"Detach", step_detach, OK},
	{"ReleaseDevice", step_release, OK},
	{"ClaimDevice, held", step_claim_held, FAILED_PRECONDITION},
	{"a last holder goes", step_holder_goes, STEP_VOID},
	{"close blue's session", step_close_blue, STEP_VOID},
	{"OpenLease, brief", step_open_brief_lease, OK},
	{"ClaimDevice, brief lease", step_claim_brief, OK},
	{"Alloc, brief lease", step_alloc_brief, OK},
	{"OpenLease", step_open_lease, OK},
	{"ClaimDevice, named lease", step_claim_pool, OK},
	{"Alloc, named lease", step_alloc_pool, OK},
	{"open blue's session again", step_open_blue, OK},
	{"ClaimDevice, blue again", step_claim_blue_group, OK, .makes_lease = true},
	{"Alloc, blue's third", step_alloc_blue1, OK},
	{"open red's second session", step_open_red2, OK},
	{"UnregisterMemory", step_unregister, OK},
	{"close red's session", step_close_red, STEP_VOID},
	{"a lease nobody adopts", step_wait, STEP_VOID},
	{"Revoke", step_revoke, OK},
	{"DrainTenant", step_drain, OK},
	{"DrainTenant, no more", step_end_drain, OK},
	{"AdoptLease", step_adopt_lease, OK},
	{"Free, adopted", step_free_pool, OK},
	{"CloseLease", step_close_lease, OK},
	{"ClaimDevice, last", step_claim_last, OK, .makes_lease = true},
	{"shut down", step_shutdown, STEP_VOID},
};
const size_t sequence_length = sizeof(sequence) / sizeof(sequence[0]);

/* ---- a run ---- */

#define DEVICE(address, group)                                                                     \
	"{\"address\": \"" address "\", \"vendor_device\": \"8086:10fb\", \"class\": \"020000\","  \
	" \"iommu\": \"soft0\", \"group\": " group "}"

static const char topology_text[] =
	"{\"version\": 1,"
	" \"iommus\": [{\"name\": \"soft0\", \"formats\": [\"vtdss-4l\", \"ept-4l\", "
	"\"x86_64-4l\"], "
	"\"pasid_bits\": 20, \"access_dirty\": true, \"page_requests\": true,"
	"  \"snoop_control\": true, \"iotlb_entries\": 64, \"reserved\": [{\"start\": "
	"\"0xfee00000\","
	"  \"last\": \"0xfeefffff\", \"use\": \"msi\"}]}],"
	" \"devices\": [" DEVICE("0000:10:00.0", "10") ", " DEVICE(
		"0000:11:00.0",
		"11") ", " DEVICE("0000:12:00.0",
				  "12") ", " DEVICE("0000:12:00.1",
						    "12") ", " DEVICE("0000:13:00.0",
								      "13") ", " DEVICE("0000:14:"
											"00.0",
											"14") "]}";

/* For ReloadPolicy. */
static int write_policy(struct run *run)
{
	ssize_t length = (ssize_t)strlen(policy_text);
	int fd;

	snprintf(run->policy_path, sizeof(run->policy_path), "/tmp/ioasid-failnth-XXXXXX");
	fd = mkstemp(run->policy_path);
	if (fd < 0)
		return -1;
	if (write(fd, policy_text, (size_t)length) != length) {
		close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

static int open_registry(struct run *run)
{
	const char *tmp = getenv("TMPDIR") ?: "/tmp";
	struct registry_problem problem;
	struct registry_image *image;

	snprintf(run->folder, sizeof(run->folder), "%.40s/failnth-XXXXXX", tmp);
	if (!mkdtemp(run->folder))
		return -errno;
	return registry_open(run->folder, &run->registry, &image, &problem);
}

static void remove_registry(struct run *run)
{
	static const char *const names[] = {"lock", "log", "log.new"};
	char path[80];

	registry_close(run->registry);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", run->folder, names[i]);
		unlink(path);
	}
	rmdir(run->folder);
}

int run_begin(struct run *run)
{
	/* Little address space: a run is made and thrown away thousands of times. */
	static const struct soft_options options = {.physical_bytes = 64 << 20};
	/* Written, not only allocated: a page that was never written counts as a hole. */
	static const char filler[MEMORY];
	struct soft_problem problem = {0};
	int err;

	peer_red.pid = getpid();
	memset(run, 0, sizeof(*run));
	host_init(&run->host);
	run->memfd = memfd_create("failnth", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (run->memfd < 0 || pwrite(run->memfd, filler, MEMORY, 0) != MEMORY ||
	    fcntl(run->memfd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		snprintf(run->problem, sizeof(run->problem), "memfd: %s", strerror(errno));
		return -1;
	}
	if (write_policy(run)) {
		snprintf(run->problem, sizeof(run->problem), "policy file: %s", strerror(errno));
		return -1;
	}
	if (open_registry(run)) {
		snprintf(run->problem, sizeof(run->problem), "registry in %s", run->folder);
		return -1;
	}
	err = soft_shim_new_from_memory(topology_text, strlen(topology_text), &options, &run->soft,
					&problem);
	if (err) {
		snprintf(run->problem, sizeof(run->problem), "topology: %.64s: %.256s (%d)",
			 problem.path, problem.message, err);
		return -1;
	}
	err = fail_shim_new(run->soft, &run->shim);
	if (err) {
		snprintf(run->problem, sizeof(run->problem), "fail_shim_new: %d", err);
		shim_free(run->soft);
		return -1;
	}
	return 0;
}

int run_end(struct run *run)
{
	struct broker_session **sessions[] = {&run->red, &run->red2, &run->blue, &run->admin};
	int result = 0;

	if (run->broker) {
		for (size_t i = 0; i < 4; i++) {
			const char *left;

			if (sessions[i] == &run->admin && run->admin) {
				left = run_counters(run);
				if (left) {
					snprintf(run->problem, sizeof(run->problem), "%s", left);
					result = -1;
				}
			}
			if (*sessions[i])
				broker_session_close(*sessions[i]);
			*sessions[i] = NULL;
			host_pump(&run->host, run->broker);
		}
		broker_shutdown(run->broker);
		host_pump(&run->host, run->broker);
		if (!broker_drained(run->broker)) {
			snprintf(run->problem, sizeof(run->problem), "the broker does not drain");
			return -1;
		}
		broker_free(run->broker);
		if (run->host.n_watches) {
			snprintf(run->problem, sizeof(run->problem), "fds are still watched");
			result = -1;
		}
	}
	remove_registry(run);
	shim_free(run->shim);
	if (run->memfd >= 0)
		close(run->memfd);
	unlink(run->policy_path);
	return result;
}

/* Every tenant's counters, or NULL. */
static Ioasid__V1__ListTenantsResponse *list_tenants(struct run *run)
{
	Ioasid__V1__ListTenantsRequest m = IOASID__V1__LIST_TENANTS_REQUEST__INIT;
	size_t length;

	m.with_unused = true;
	length = protobuf_c_message_pack(&m.base, packed);
	if (host_call(&run->host, run->broker, run->admin, A "ListTenants", packed, length) != OK)
		return NULL;
	return RESPONSE(run, list_tenants);
}

/* Is it one of the counters that an empty connection lease moves? */
static bool counts_leases(const char *resource)
{
	return !strcmp(resource, "leases") || !strcmp(resource, "broker_bytes");
}

/* Takes leases that hold nothing out of a list. */
static void drop_empty_leases(Ioasid__V1__ListObjectsResponse *objects)
{
	size_t kept = 0;

	for (size_t i = 0; i < objects->n_leases; i++) {
		Ioasid__V1__LeaseObjects *l = objects->leases[i];

		if (l->n_ioasids || l->n_memory || l->n_attachments || l->n_devices)
			objects->leases[kept++] = l;
		else
			protobuf_c_message_free_unpacked(&l->base, NULL);
	}
	objects->n_leases = kept;
}

size_t run_snapshot(struct run *run, bool but_leases, uint8_t *ret, size_t size)
{
	Ioasid__V1__ListObjectsRequest m = IOASID__V1__LIST_OBJECTS_REQUEST__INIT;
	Ioasid__V1__ListObjectsResponse *objects;
	Ioasid__V1__ListTenantsResponse *tenants;
	size_t length, used, more;

	if (!run->broker || !run->admin)
		return 0;
	tenants = list_tenants(run);
	if (!tenants)
		return 0;
	for (size_t i = 0; i < tenants->n_tenants; i++) {
		Ioasid__V1__Tenant *tenant = tenants->tenants[i];

		for (size_t k = 0; k < tenant->n_resources; k++) {
			Ioasid__V1__ResourceUsage *r = tenant->resources[k];

			r->peak = r->refused = r->refused_local = 0;
			if (but_leases && counts_leases(r->resource))
				r->own = r->used = 0;
		}
	}
	used = protobuf_c_message_get_packed_size(&tenants->base);
	if (used <= size)
		protobuf_c_message_pack(&tenants->base, ret);
	FREE_RESPONSE(tenants);
	length = protobuf_c_message_pack(&m.base, packed);
	if (used > size ||
	    host_call(&run->host, run->broker, run->admin, A "ListObjects", packed, length) != OK)
		return 0;
	objects = RESPONSE(run, list_objects);
	if (!objects)
		return 0;
	if (but_leases)
		drop_empty_leases(objects);
	more = protobuf_c_message_get_packed_size(&objects->base);
	if (more <= size - used)
		protobuf_c_message_pack(&objects->base, ret + used);
	FREE_RESPONSE(objects);
	return more <= size - used ? used + more : 0;
}

const char *run_check(struct run *run)
{
	Ioasid__V1__CheckRequest m = IOASID__V1__CHECK_REQUEST__INIT;
	Ioasid__V1__CheckResponse *answer;
	static char text[256];
	size_t length;

	if (!run->broker || !run->admin)
		return NULL;
	length = protobuf_c_message_pack(&m.base, packed);
	if (host_call(&run->host, run->broker, run->admin, A "Check", packed, length) != OK)
		return "Check is refused";
	answer = RESPONSE(run, check);
	text[0] = '\0';
	if (answer && answer->n_problems)
		snprintf(text, sizeof(text), "%s: %s", answer->problems[0]->subject,
			 answer->problems[0]->text);
	FREE_RESPONSE(answer);
	return text[0] ? text : NULL;
}

const char *run_counters(struct run *run)
{
	static char text[256];
	Ioasid__V1__ListTenantsResponse *tenants = list_tenants(run);
	const char *found = NULL;

	if (!tenants)
		return "ListTenants is refused at the end";
	for (size_t i = 0; i < tenants->n_tenants && !found; i++) {
		const Ioasid__V1__Tenant *tenant = tenants->tenants[i];

		for (size_t k = 0; k < tenant->n_resources && !found; k++) {
			const Ioasid__V1__ResourceUsage *r = tenant->resources[k];
			bool admins =
				!tenant->path[0] && (!strcmp(r->resource, "connections") ||
						     !strcmp(r->resource, "broker_bytes") ||
						     !strcmp(r->resource, "requests_in_flight"));

			if (!r->own && (!r->used || !tenant->path[0]))
				continue;
			if (admins)
				continue;
			snprintf(text, sizeof(text), "at the end %s has %s own %llu used %llu",
				 tenant->path, r->resource, (unsigned long long)r->own,
				 (unsigned long long)r->used);
			found = text;
		}
	}
	FREE_RESPONSE(tenants);
	return found;
}
