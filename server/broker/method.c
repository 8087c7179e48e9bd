/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The method table: every method of the API, who may call it, what it does to a lease, and
 * where its handler is.  The one place to look for how a request is answered.
 */
#include "server/broker/attachment.h"
#include "server/broker/call.h"
#include "server/broker/delegation.h"
#include "server/broker/device.h"
#include "server/broker/device_fd.h"
#include "server/broker/dirty.h"
#include "server/broker/dma.h"
#include "server/broker/dma_service.h"
#include "server/broker/event.h"
#include "server/broker/fault.h"
#include "server/broker/invalidate.h"
#include "server/broker/ioasid.h"
#include "server/broker/mapping.h"
#include "server/broker/memory.h"
#include "server/broker/page_table.h"
#include "server/broker/rpc_admin.h"
#include "server/broker/rpc_check.h"
#include "server/broker/rpc_lease.h"
#include "server/broker/rpc_quota.h"
#include "server/broker/rpc_resume.h"
#include "server/broker/rpc_status.h"
#include "server/broker/translate.h"
#include "server/broker/vm.h"

#include <string.h>

#define BROKER(name) "/ioasid.v1.Broker/" #name
#define ADMIN(name)  "/ioasid.v1.Admin/" #name
#define TYPES(q, p)                                                                                \
	.request = &ioasid__v1__##q##__descriptor, .response = &ioasid__v1__##p##__descriptor
#define UNARY(m) TYPES(m##_request, m##_response)

/* What most methods are. */
#define READS	(METHOD_SCOPE | METHOD_LEASE)
#define CHANGES (METHOD_SCOPE | METHOD_LEASE | METHOD_MUTATES | METHOD_EXCLUSIVE)
#define MAKES	(CHANGES | METHOD_MAKES_LEASE)
#define RETURNS (CHANGES | METHOD_RELEASES)
#define KEYED	(METHOD_MUTATES | METHOD_BROKER_KEY)
#define ALL	(ROLES_TA | ROLES_OM)
#define VIEWS	(ROLES_OM | ROLE_BIT(POLICY_ROLE_AGENT))

static const struct broker_method methods[] = {
	{BROKER(Alloc), UNARY(alloc), ROLES_TA, MAKES | METHOD_BUILDS, rpc_alloc},
	{BROKER(Free), UNARY(free), ROLES_TA, RETURNS, rpc_free},
	{BROKER(Map), UNARY(map), ROLES_TA, CHANGES, rpc_map},
	{BROKER(Unmap), UNARY(unmap), ROLES_TA, RETURNS, rpc_unmap},
	{BROKER(Attach), UNARY(attach), ROLES_TA, CHANGES, rpc_attach},
	{BROKER(Detach), UNARY(detach), ROLES_TA, RETURNS, rpc_detach},
	{BROKER(Replace), UNARY(replace), ROLES_TA, CHANGES, rpc_replace},
	{BROKER(Invalidate), UNARY(invalidate), ROLES_TA, CHANGES, rpc_invalidate},
	{BROKER(DeviceDma), UNARY(device_dma), ROLES_TA, READS | METHOD_EXCLUSIVE, rpc_device_dma},
	{BROKER(Negotiate), UNARY(negotiate), ROLES_TA,
	 METHOD_SCOPE_IN_ALLOC | METHOD_LEASE | METHOD_BUILDS, rpc_negotiate},
	{BROKER(Translate), UNARY(translate), ROLES_TA, READS | METHOD_EXCLUSIVE, rpc_translate},
	{BROKER(GetIoasid), UNARY(get_ioasid), ROLES_TA, READS, rpc_get_ioasid},
	{BROKER(ListIoasids), UNARY(list_ioasids), ROLES_TA, READS, rpc_list_ioasids},
	{BROKER(ListMappings), UNARY(list_mappings), ROLES_TA, READS, rpc_list_mappings},
	{BROKER(ListAttachments), UNARY(list_attachments), ROLES_TA, READS, rpc_list_attachments},

	{BROKER(GetStatus), UNARY(get_status), ALL, 0, rpc_get_status},
	{BROKER(ListDevices), UNARY(list_devices), ALL, METHOD_SCOPE, rpc_list_devices},
	{BROKER(GetDevice), UNARY(get_device), ALL, METHOD_SCOPE, rpc_get_device},
	{BROKER(ClaimDevice), UNARY(claim_device), ROLES_TA, MAKES, rpc_claim_device},
	{BROKER(ReleaseDevice), UNARY(release_device), ROLES_TA, RETURNS, rpc_release_device},
	{BROKER(GetDeviceFd), UNARY(get_device_fd), ROLES_TA, CHANGES | METHOD_TRANSIENT,
	 rpc_get_device_fd},
	{BROKER(GetContextFd), UNARY(get_context_fd), ROLES_TA, CHANGES | METHOD_TRANSIENT,
	 rpc_get_context_fd},

	{BROKER(OpenTicket), UNARY(open_ticket), ROLES_TA, MAKES | METHOD_TRANSIENT,
	 rpc_open_ticket},
	{BROKER(RegisterMemory), UNARY(register_memory), ROLES_TA,
	 MAKES | METHOD_TICKET | METHOD_BUILDS, rpc_register_memory},
	{BROKER(UnregisterMemory), UNARY(unregister_memory), ROLES_TA, RETURNS,
	 rpc_unregister_memory},
	{BROKER(ListMemory), UNARY(list_memory), ROLES_TA, READS, rpc_list_memory},

	{BROKER(BindPageTable), UNARY(bind_page_table), ROLES_TA, CHANGES, rpc_bind_page_table},
	{BROKER(UnbindPageTable), UNARY(unbind_page_table), ROLES_TA, RETURNS,
	 rpc_unbind_page_table},
	{BROKER(BindPasidTable), UNARY(bind_pasid_table), ROLES_TA, CHANGES, rpc_bind_pasid_table},
	{BROKER(UnbindPasidTable), UNARY(unbind_pasid_table), ROLES_TA, RETURNS,
	 rpc_unbind_pasid_table},
	{BROKER(SetDirtyTracking), UNARY(set_dirty_tracking), ROLES_TA, CHANGES,
	 rpc_set_dirty_tracking},
	{BROKER(ReadDirtyBitmap), UNARY(read_dirty_bitmap), ROLES_TA,
	 READS | METHOD_STREAMS | METHOD_EXCLUSIVE, rpc_read_dirty_bitmap},
	{BROKER(WatchFaults), TYPES(watch_faults_request, fault_event), ROLES_TA,
	 READS | METHOD_STREAMS | METHOD_MAKES_LEASE, rpc_watch_faults},
	{BROKER(RespondFault), UNARY(respond_fault), ROLES_TA, CHANGES | METHOD_TRANSIENT,
	 rpc_respond_fault},
	{BROKER(CreateVm), UNARY(create_vm), ROLES_TA, MAKES | METHOD_BUILDS, rpc_create_vm},
	{BROKER(SetMemorySlot), UNARY(set_memory_slot), ROLES_TA, CHANGES, rpc_set_memory_slot},
	{BROKER(DestroyVm), UNARY(destroy_vm), ROLES_TA, RETURNS, rpc_destroy_vm},
	{BROKER(ListVms), UNARY(list_vms), ROLES_TA, READS, rpc_list_vms},
	{BROKER(OpenDmaService), UNARY(open_dma_service), ROLES_TA,
	 MAKES | METHOD_TRANSIENT | METHOD_BUILDS, rpc_open_dma_service},

	{BROKER(OpenLease), UNARY(open_lease), ROLES_TA,
	 METHOD_SCOPE | METHOD_MUTATES | METHOD_TICKET, rpc_open_lease},
	{BROKER(AdoptLease), UNARY(adopt_lease), ROLES_TA, METHOD_SCOPE | METHOD_MUTATES,
	 rpc_adopt_lease},
	{BROKER(CloseLease), UNARY(close_lease), ROLES_TA, READS | METHOD_MUTATES | METHOD_RELEASES,
	 rpc_close_lease},
	{BROKER(Resume), UNARY(resume), ROLES_TA, METHOD_MUTATES, rpc_resume},
	{BROKER(ListLeases), UNARY(list_leases), ALL, METHOD_SCOPE | METHOD_TENANT_OPTIONAL,
	 rpc_list_leases},

	{BROKER(GetQuota), UNARY(get_quota), ALL, METHOD_SCOPE, rpc_get_quota},
	{BROKER(ExplainQuota), UNARY(explain_quota), ALL, METHOD_SCOPE, rpc_explain_quota},
	{BROKER(WatchEvents), TYPES(watch_events_request, event), ALL,
	 METHOD_SCOPE | METHOD_STREAMS, event_watch_own},

	{ADMIN(ListTenants), UNARY(list_tenants), VIEWS, 0, rpc_list_tenants},
	{ADMIN(SetLimits), UNARY(set_limits), ROLES_M, KEYED, rpc_set_limits},
	{ADMIN(ReloadPolicy), UNARY(reload_policy), ROLES_M, KEYED, rpc_reload_policy},
	{ADMIN(DrainTenant), UNARY(drain_tenant), ROLES_M, KEYED, rpc_drain_tenant},
	{ADMIN(Revoke), UNARY(revoke), ROLES_M, KEYED, rpc_revoke},
	{ADMIN(ListObjects), UNARY(list_objects), VIEWS, 0, rpc_list_objects},
	{ADMIN(Check), UNARY(check), ROLES_OM, 0, rpc_check},
	{ADMIN(WatchEvents), TYPES(watch_events_request, event), ROLES_OM,
	 METHOD_SCOPE | METHOD_STREAMS | METHOD_TENANT_OPTIONAL, event_watch_all},
};

#define N_METHODS (sizeof(methods) / sizeof(methods[0]))

const struct broker_method *broker_method_find(const char *path, size_t length)
{
	/* The hot ones come first in the table. */
	for (size_t i = 0; i < N_METHODS; i++)
		if (strlen(methods[i].path) == length && !memcmp(methods[i].path, path, length))
			return &methods[i];
	return NULL;
}

bool broker_method_is_streaming(const struct broker_method *method)
{
	return method->flags & METHOD_STREAMS;
}

const char *broker_method_path(const struct broker_method *method)
{
	return method->path;
}

const struct broker_method *broker_method_at(size_t index)
{
	return index < N_METHODS ? &methods[index] : NULL;
}
