/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages in, messages out.  A request comes in one of three shapes that all hold lists of
 * ids; how many there may be is bounded by the size of a message and by the inventory.
 */
#include "requests.h"

#include "auto.h"
#include "deviceplugin.pb-c.h"
#include "message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SOCKET_ENV "IOASID_SOCKET"
#define LEASE_ENV  "IOASID_LEASE_FILE"
/* Containers of one Allocate or GetPreferredAllocation: a kubelet asks for one. */
#define CONTAINERS_MAX 64

static void refuse(struct server_call *call, int r, const char *problem)
{
	if (r == -EBUSY)
		server_finish(call, GRPC_STATUS_RESOURCE_EXHAUSTED,
			      "ioasid: too many containers start at once", NULL);
	else if (r < 0)
		server_finish(call, GRPC_STATUS_UNAVAILABLE, strerror(-r), NULL);
	else
		server_finish(call, GRPC_STATUS_INVALID_ARGUMENT, problem, NULL);
}

/* ---- GetDevicePluginOptions ---- */

static void answer_options(struct server_call *call)
{
	V1beta1__DevicePluginOptions options = V1BETA1__DEVICE_PLUGIN_OPTIONS__INIT;

	options.pre_start_required = true;
	options.get_preferred_allocation_available = true;
	server_finish(call, GRPC_STATUS_OK, NULL, &options.base);
}

/* ---- GetPreferredAllocation ---- */

static int prefer_one(const struct requests *requests, unsigned port,
		      const V1beta1__ContainerPreferredAllocationRequest *q,
		      V1beta1__ContainerPreferredAllocationResponse *p)
{
	size_t size = q->allocation_size;
	int r;

	if (q->allocation_size < 0 || size > q->n_available_deviceids)
		return CATALOG_E_UNKNOWN;
	p->deviceids = calloc(size + 1, sizeof(*p->deviceids));
	if (!p->deviceids)
		return -ENOMEM;
	r = catalog_prefer(requests->catalog, port, q->available_deviceids,
			   q->n_available_deviceids, q->must_include_deviceids,
			   q->n_must_include_deviceids, size, p->deviceids);
	if (!r)
		p->n_deviceids = size;
	return r;
}

static void answer_prefer(const struct requests *requests, struct server_call *call, unsigned port,
			  const V1beta1__PreferredAllocationRequest *q)
{
	V1beta1__PreferredAllocationResponse response =
		V1BETA1__PREFERRED_ALLOCATION_RESPONSE__INIT;
	V1beta1__ContainerPreferredAllocationResponse containers[CONTAINERS_MAX];
	V1beta1__ContainerPreferredAllocationResponse *pointers[CONTAINERS_MAX];
	int r = q->n_container_requests > CONTAINERS_MAX ? CATALOG_E_UNKNOWN : 0;

	response.container_responses = pointers;
	for (size_t i = 0; i < q->n_container_requests && !r; i++) {
		v1beta1__container_preferred_allocation_response__init(&containers[i]);
		pointers[i] = &containers[i];
		response.n_container_responses++;
		r = prefer_one(requests, port, q->container_requests[i], &containers[i]);
	}
	if (r)
		refuse(call, r,
		       "ioasid: available, must_include and size do not fit together, or "
		       "name ids that are not there");
	else
		server_finish(call, GRPC_STATUS_OK, NULL, &response.base);
	for (size_t i = 0; i < response.n_container_responses; i++) {
		for (size_t k = 0; k < containers[i].n_deviceids; k++)
			free(containers[i].deviceids[k]);
		free(containers[i].deviceids);
	}
}

/* ---- Allocate ---- */

/* One container's answer, with the texts that it points to. */
struct allocation {
	V1beta1__ContainerAllocateResponse response;
	V1beta1__ContainerAllocateResponse__EnvsEntry envs[4];
	V1beta1__ContainerAllocateResponse__EnvsEntry *env_pointers[4];
	V1beta1__ContainerAllocateResponse__AnnotationsEntry annotation;
	V1beta1__ContainerAllocateResponse__AnnotationsEntry *annotation_pointer;
	V1beta1__Mount mount;
	V1beta1__Mount *mount_pointer;
	V1beta1__CDIDevice *cdi;
	V1beta1__CDIDevice **cdi_pointers;
	struct record *ids;
	char names[2][96];
	char *socket_path;
	char *lease_path;
	char *host_path;
	char *annotation_key;
	char *annotation_value;
};

static void add_env(struct allocation *a, const char *key, const char *value)
{
	size_t n = a->response.n_envs++;

	v1beta1__container_allocate_response__envs_entry__init(&a->envs[n]);
	a->envs[n].key = (char *)key;
	a->envs[n].value = (char *)value;
	a->env_pointers[n] = &a->envs[n];
}

/* "IOASID_LEASE_FILE_MY_NIC" of "my-nic": for containers with two resources. */
static void name_env(char name[96], const char *base, const char *suffix)
{
	snprintf(name, 96, "%s_%s", base, suffix);
	for (char *p = name; *p; p++)
		*p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p;
}

static int add_paths(const struct requests *requests, const struct config_resource *resource,
		     struct allocation *a)
{
	if (asprintf(&a->socket_path, "%s/ioasid.sock", resource->container_path) < 0)
		return a->socket_path = NULL, -ENOMEM;
	if (asprintf(&a->lease_path, "%s/lease.json", resource->container_path) < 0)
		return a->lease_path = NULL, -ENOMEM;
	if (asprintf(&a->host_path, "%s/ids/%s", requests->config->state_dir, a->ids->ids[0]) < 0)
		return a->host_path = NULL, -ENOMEM;
	add_env(a, SOCKET_ENV, a->socket_path);
	add_env(a, LEASE_ENV, a->lease_path);
	name_env(a->names[0], SOCKET_ENV, resource->suffix);
	name_env(a->names[1], LEASE_ENV, resource->suffix);
	add_env(a, a->names[0], a->socket_path);
	add_env(a, a->names[1], a->lease_path);
	v1beta1__mount__init(&a->mount);
	a->mount.container_path = resource->container_path;
	a->mount.host_path = a->host_path;
	a->mount.read_only = true;
	a->mount_pointer = &a->mount;
	a->response.mounts = &a->mount_pointer;
	a->response.n_mounts = 1;
	return 0;
}

/* The field for kubelets that know it, the annotation for those that do not. */
static int add_cdi(const struct requests *requests, const struct config_resource *resource,
		   struct allocation *a)
{
	size_t n = a->ids->n_devices, length = 0, size = 1;

	if (!requests->config->cdi || !n)
		return 0;
	a->cdi = calloc(n, sizeof(*a->cdi));
	a->cdi_pointers = calloc(n, sizeof(*a->cdi_pointers));
	for (size_t i = 0; i < n; i++)
		size += strlen(requests->config->cdi) + strlen(a->ids->devices[i]) + 2;
	a->annotation_value = calloc(1, size);
	if (!a->cdi || !a->cdi_pointers || !a->annotation_value)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		v1beta1__cdidevice__init(&a->cdi[i]);
		a->cdi_pointers[i] = &a->cdi[i];
		if (asprintf(&a->cdi[i].name, "%s=%s", requests->config->cdi, a->ids->devices[i]) <
		    0)
			return a->cdi[i].name = NULL, -ENOMEM;
		a->response.cdi_devices = a->cdi_pointers;
		a->response.n_cdi_devices = i + 1;
		length += snprintf(a->annotation_value + length, size - length, "%s%s",
				   i ? "," : "", a->cdi[i].name);
	}
	if (asprintf(&a->annotation_key, "cdi.k8s.io/ioasid_%s", resource->suffix) < 0)
		return a->annotation_key = NULL, -ENOMEM;
	v1beta1__container_allocate_response__annotations_entry__init(&a->annotation);
	a->annotation.key = a->annotation_key;
	a->annotation.value = a->annotation_value;
	a->annotation_pointer = &a->annotation;
	a->response.annotations = &a->annotation_pointer;
	a->response.n_annotations = 1;
	return 0;
}

static int allocate_one(const struct requests *requests, unsigned port,
			const V1beta1__ContainerAllocateRequest *q, struct allocation *a,
			char problem[CONFIG_PROBLEM_SIZE])
{
	const struct config_resource *resource = &requests->config->resources[port];
	int r;

	v1beta1__container_allocate_response__init(&a->response);
	a->response.envs = a->env_pointers;
	a->ids = record_new();
	if (!a->ids)
		return -ENOMEM;
	r = catalog_fill(requests->catalog, port, q->devices_ids, q->n_devices_ids, a->ids,
			 problem);
	if (!r)
		r = add_paths(requests, resource, a) ?: add_cdi(requests, resource, a);
	if (!r)
		r = folder_reset(requests->folders, a->ids->ids[0]);
	return r;
}

static void allocation_deinit(struct allocation *a)
{
	for (size_t i = 0; i < a->response.n_cdi_devices; i++)
		free(a->cdi[i].name);
	free(a->cdi);
	free(a->cdi_pointers);
	free(a->socket_path);
	free(a->lease_path);
	free(a->host_path);
	free(a->annotation_key);
	free(a->annotation_value);
	record_free(a->ids);
}

static void answer_allocate(const struct requests *requests, struct server_call *call,
			    unsigned port, const V1beta1__AllocateRequest *q)
{
	V1beta1__AllocateResponse response = V1BETA1__ALLOCATE_RESPONSE__INIT;
	V1beta1__ContainerAllocateResponse *pointers[CONTAINERS_MAX];
	char problem[CONFIG_PROBLEM_SIZE] = "more containers than one request may have";
	AUTO_FREE struct allocation *all = NULL;
	size_t n = 0;
	int r = q->n_container_requests > CONTAINERS_MAX ? CATALOG_E_UNKNOWN : 0;

	if (!r) {
		all = calloc(q->n_container_requests + 1, sizeof(*all));
		r = all ? 0 : -ENOMEM;
	}
	while (!r && n < q->n_container_requests) {
		pointers[n] = &all[n].response;
		r = allocate_one(requests, port, q->container_requests[n], &all[n], problem);
		n++;
	}
	response.container_responses = pointers;
	response.n_container_responses = n;
	if (r)
		refuse(call, r, problem);
	else
		server_finish(call, GRPC_STATUS_OK, NULL, &response.base);
	while (n)
		allocation_deinit(&all[--n]);
}

/* ---- PreStartContainer ---- */

static void answer_pre_start(const struct requests *requests, struct server_call *call,
			     unsigned port, const V1beta1__PreStartContainerRequest *q)
{
	char problem[CONFIG_PROBLEM_SIZE];
	int r = catalog_check(requests->catalog, port, q->devices_ids, q->n_devices_ids, problem);

	if (!r)
		r = binder_pre_start(requests->binder, call, port, q->devices_ids,
				     q->n_devices_ids);
	if (r)
		refuse(call, r, problem);
}

/* ---- all ---- */

static const ProtobufCMessageDescriptor *const types[] = {
	[SERVER_OPTIONS] = &v1beta1__empty__descriptor,
	[SERVER_PREFER] = &v1beta1__preferred_allocation_request__descriptor,
	[SERVER_ALLOCATE] = &v1beta1__allocate_request__descriptor,
	[SERVER_PRE_START] = &v1beta1__pre_start_container_request__descriptor,
};

static void requested(void *userdata, struct server_call *call, unsigned port,
		      enum server_method method, const uint8_t *bytes, size_t length)
{
	const struct requests *requests = userdata;
	ProtobufCMessage *message = message_unpack(types[method], bytes, length);

	if (!message) {
		server_finish(call, GRPC_STATUS_INVALID_ARGUMENT, "unreadable message", NULL);
		return;
	}
	switch (method) {
	case SERVER_OPTIONS:
		answer_options(call);
		break;
	case SERVER_PREFER:
		answer_prefer(requests, call, port, (const void *)message);
		break;
	case SERVER_ALLOCATE:
		answer_allocate(requests, call, port, (const void *)message);
		break;
	case SERVER_PRE_START:
		answer_pre_start(requests, call, port, (const void *)message);
		break;
	}
	message_free(message);
}

const struct server_ops requests_ops = {
	.request = requested,
};

/* ---- ListAndWatch ---- */

struct offer {
	V1beta1__Device device;
	V1beta1__TopologyInfo topology;
	V1beta1__NUMANode node;
	V1beta1__NUMANode *node_pointer;
};

static void offer_init(struct offer *offer, const struct inventory_id *id)
{
	v1beta1__device__init(&offer->device);
	offer->device.id = id->name;
	offer->device.health = (char *)(id->healthy ? "Healthy" : "Unhealthy");
	if (id->numa_node < 0)
		return;
	v1beta1__topology_info__init(&offer->topology);
	v1beta1__numanode__init(&offer->node);
	offer->node.id = id->numa_node;
	offer->node_pointer = &offer->node;
	offer->topology.nodes = &offer->node_pointer;
	offer->topology.n_nodes = 1;
	offer->device.topology = &offer->topology;
}

void requests_publish(struct server *server, unsigned port,
		      const struct inventory_resource *resource)
{
	V1beta1__ListAndWatchResponse list = V1BETA1__LIST_AND_WATCH_RESPONSE__INIT;
	AUTO_FREE struct offer *offers = calloc(resource->n_ids + 1, sizeof(*offers));
	AUTO_FREE V1beta1__Device **pointers = calloc(resource->n_ids + 1, sizeof(*pointers));

	if (!offers || !pointers)
		return;
	for (size_t i = 0; i < resource->n_ids; i++) {
		offer_init(&offers[i], &resource->ids[i]);
		pointers[i] = &offers[i].device;
	}
	list.devices = pointers;
	list.n_devices = resource->n_ids;
	server_publish(server, port, &list.base);
}
