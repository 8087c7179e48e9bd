/* SPDX-License-Identifier: Apache-2.0 */
/* Devices: what there is, what it can do, claim and release. */
#include "convert.h"
#include "fd_pass.h"
#include "list.h"

LIST_LAYOUT(Ioasid__V1__ListDevicesResponse, devices, struct ioasid_devices);
static_assert(sizeof(enum ioasid_granularity) == sizeof(Ioasid__V1__InvalidateGranularity),
	      "invalidations are not copied");

static void convert_format(struct result *result, const void *message, void *ret_format)
{
	const Ioasid__V1__FormatCapability *from = message;
	struct ioasid_format_capability *to = ret_format;

	to->format = (enum ioasid_format)from->format;
	to->input_bits = from->input_bits;
	to->output_bits = from->output_bits;
	to->page_sizes = from->page_sizes;
	to->access_dirty = from->access_dirty;
	to->execute = from->execute;
	to->nest_child = from->nest_child;
	to->nest_parent = from->nest_parent;
	to->tenant_only = from->tenant_only;
	to->table_bits_least = from->table_bits_least;
}

static void convert_kind(struct result *result, const void *message, void *ret_kind)
{
	const Ioasid__V1__KindCapability *from = message;
	struct ioasid_kind_capability *to = ret_kind;

	to->kind = (enum ioasid_kind)from->kind;
	to->supported = from->supported;
	to->reason = from->reason;
}

static void convert_absence(struct result *result, const void *message, void *ret_absence)
{
	const Ioasid__V1__FeatureAbsence *from = message;
	struct ioasid_feature_absence *to = ret_absence;

	to->feature = from->feature;
	to->reason = from->reason;
}

static void convert_capabilities(struct result *result, const void *message, void *ret_capabilities)
{
	const Ioasid__V1__DeviceCapabilities *from = message;
	struct ioasid_device_capabilities *to = ret_capabilities;

	to->n_formats = from->n_formats;
	to->formats = list_convert(result, from->n_formats, (void **)from->formats,
				   sizeof(**to->formats), convert_format);
	to->n_kinds = from->n_kinds;
	to->kinds = list_convert(result, from->n_kinds, (void **)from->kinds, sizeof(**to->kinds),
				 convert_kind);
	to->pasid_bits = from->pasid_bits;
	to->recoverable_faults = from->recoverable_faults;
	to->dirty_tracking = from->dirty_tracking;
	to->snoop_control = from->snoop_control;
	to->device_tlb = from->device_tlb;
	to->n_invalidations = from->n_invalidations;
	to->invalidations = (const enum ioasid_granularity *)from->invalidations;
	to->n_reserved = from->n_reserved;
	to->reserved = list_convert(result, from->n_reserved, (void **)from->reserved,
				    sizeof(**to->reserved), convert_range);
	to->max_depth = from->max_depth;
	to->n_absent = from->n_absent;
	to->absent = list_convert(result, from->n_absent, (void **)from->absent,
				  sizeof(**to->absent), convert_absence);
}

void convert_device(struct result *result, const void *message, void *ret_device)
{
	const Ioasid__V1__Device *from = message;
	struct ioasid_device *to = ret_device;

	to->address = from->address;
	to->vendor_device = from->vendor_device;
	to->class_code = from->class_code;
	to->iommu = from->iommu;
	to->group = from->group;
	to->n_group_members = from->n_group_members;
	to->group_members = list_strings(from->group_members);
	to->hidden_members = from->hidden_members;
	to->numa_node = from->numa_node;
	to->driver = from->driver;
	to->state = (enum ioasid_device_state)from->state;
	to->lease = from->lease;
	to->capabilities = convert_optional(result, from->capabilities, sizeof(*to->capabilities),
					    convert_capabilities);
	to->tenant = from->tenant;
}

int ioasid_device_list(struct ioasid_client *client, const struct ioasid_scope *scope,
		       bool with_capabilities, struct ioasid_devices **ret_devices,
		       struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ListDevices", list_devices_response, false, OUTSIDE_LEASES);
	Ioasid__V1__ListDevicesRequest request = IOASID__V1__LIST_DEVICES_REQUEST__INIT;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_devices), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.with_capabilities = with_capabilities;
	r = list_call(&call, &method, &request.base, &request.page_token,
		      sizeof(struct ioasid_device), convert_device);
	return r < 0 ? r : call_publish(&call, ret_devices);
}

int ioasid_device_get(struct ioasid_client *client, const struct ioasid_scope *scope,
		      const char *device, struct ioasid_device **ret_device,
		      struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "GetDevice", get_device_response, false, OUTSIDE_LEASES);
	Ioasid__V1__GetDeviceRequest request = IOASID__V1__GET_DEVICE_REQUEST__INIT;
	Ioasid__V1__GetDeviceResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(**ret_device), ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.device = text_or_empty(device);
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0)
		return r;
	if (!response->device)
		return error_bad_answer(method.name, "it has no device", ret_error);
	convert_device(call.result, response->device, call_root(&call));
	return call_publish(&call, ret_device);
}

int ioasid_claim(struct ioasid_client *client, const struct ioasid_scope *scope,
		 const char *const *devices, size_t n_devices, struct ioasid_devices **ret_devices,
		 struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ClaimDevice", claim_device_response, true, MAKES_LEASE);
	Ioasid__V1__ClaimDeviceRequest request = IOASID__V1__CLAIM_DEVICE_REQUEST__INIT;
	Ioasid__V1__ClaimDeviceResponse *response;
	struct ioasid_devices *root;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, sizeof(*root), ret_error);

	if (r < 0)
		return r;
	r = call_check_strings(&call, "devices", devices, n_devices);
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.n_devices = n_devices;
	request.devices = (char **)devices;
	r = call_unary(&call, &method, &request.base, &response);
	if (r < 0 || !ret_devices)
		return r;
	root = call_root(&call);
	root->n = response->n_devices;
	root->items = list_convert(call.result, response->n_devices, (void **)response->devices,
				   sizeof(struct ioasid_device), convert_device);
	return call_publish(&call, ret_devices);
}

int ioasid_release(struct ioasid_client *client, const struct ioasid_scope *scope,
		   const char *const *devices, size_t n_devices, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ReleaseDevice", release_device_response, true, IN_LEASE);
	Ioasid__V1__ReleaseDeviceRequest request = IOASID__V1__RELEASE_DEVICE_REQUEST__INIT;
	Ioasid__V1__ReleaseDeviceResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	r = call_check_strings(&call, "devices", devices, n_devices);
	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.n_devices = n_devices;
	request.devices = (char **)devices;
	return call_unary(&call, &method, &request.base, &response);
}

/* device NULL: of the lease's own context. */
static int ask_ticket(struct call *call, const char *device, struct ioasid_ticket *ret_ticket)
{
	static const struct method of_device =
		METHOD("Broker", "GetDeviceFd", get_device_fd_response, false, IN_LEASE);
	static const struct method of_context =
		METHOD("Broker", "GetContextFd", get_context_fd_response, false, IN_LEASE);
	Ioasid__V1__GetDeviceFdRequest device_request = IOASID__V1__GET_DEVICE_FD_REQUEST__INIT;
	Ioasid__V1__GetContextFdRequest context_request = IOASID__V1__GET_CONTEXT_FD_REQUEST__INIT;
	Ioasid__V1__GetContextFdResponse *context;
	Ioasid__V1__GetDeviceFdResponse *response;
	int r;

	if (device) {
		device_request.scope = call_scope(call);
		device_request.device = (char *)device;
		r = call_unary(call, &of_device, &device_request.base, &response);
		return r < 0 ? r
			     : fd_pass_ticket(call, of_device.name, &response->ticket, 0,
					      ret_ticket);
	}
	context_request.scope = call_scope(call);
	r = call_unary(call, &of_context, &context_request.base, &context);
	return r < 0 ? r : fd_pass_ticket(call, of_context.name, &context->ticket, 0, ret_ticket);
}

static int get_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
		      const char *device, struct ioasid_ticket *ret_ticket,
		      struct ioasid_error **ret_error)
{
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	return r < 0 ? r : ask_ticket(&call, device, ret_ticket);
}

static int get_fd(struct ioasid_client *client, const struct ioasid_scope *scope,
		  const char *device, int *ret_fd, struct ioasid_error **ret_error)
{
	struct fd_pass_retry retry;
	struct ioasid_ticket ticket;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	fd_pass_begin(&retry, &call);
	do {
		r = ask_ticket(&call, device, &ticket);
		if (!r)
			r = fd_pass_take(&call, ticket.bytes, ret_fd);
	} while (fd_pass_again(&retry, r));
	return fd_pass_end(&retry, r);
}

int ioasid_device_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			 const char *device, struct ioasid_ticket *ret_ticket,
			 struct ioasid_error **ret_error)
{
	return get_ticket(client, scope, text_or_empty(device), ret_ticket, ret_error);
}

int ioasid_device_fd(struct ioasid_client *client, const struct ioasid_scope *scope,
		     const char *device, int *ret_fd, struct ioasid_error **ret_error)
{
	return get_fd(client, scope, text_or_empty(device), ret_fd, ret_error);
}

int ioasid_context_ticket(struct ioasid_client *client, const struct ioasid_scope *scope,
			  struct ioasid_ticket *ret_ticket, struct ioasid_error **ret_error)
{
	return get_ticket(client, scope, NULL, ret_ticket, ret_error);
}

int ioasid_context_fd(struct ioasid_client *client, const struct ioasid_scope *scope, int *ret_fd,
		      struct ioasid_error **ret_error)
{
	return get_fd(client, scope, NULL, ret_fd, ret_error);
}

void ioasid_device_free(struct ioasid_device *device)
{
	result_free_root(device);
}

void ioasid_devices_free(struct ioasid_devices *devices)
{
	result_free_root(devices);
}
