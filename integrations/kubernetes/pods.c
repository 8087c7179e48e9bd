/* SPDX-License-Identifier: Apache-2.0 */
/* A thin view of ListPodResourcesResponse. */
#include "pods.h"

#include "podresources.pb-c.h"

#include <string.h>

#define METHOD	   "/v1.PodResourcesLister/List"
#define TIMEOUT_MS 5000

int pods_list(const char *socket, struct pods **ret_pods, char ret_problem[UNARY_PROBLEM_SIZE])
{
	const V1__ListPodResourcesRequest request = V1__LIST_POD_RESOURCES_REQUEST__INIT;
	ProtobufCMessage *answer;
	int r = unary_call(socket, METHOD, &request.base,
			   &v1__list_pod_resources_response__descriptor, TIMEOUT_MS, &answer,
			   ret_problem);

	if (!r)
		*ret_pods = (struct pods *)answer;
	return r;
}

void pods_free(struct pods *pods)
{
	message_free((ProtobufCMessage *)pods);
}

static bool container_has(const V1__ContainerResources *container, const char *resource,
			  const char *id)
{
	for (size_t i = 0; i < container->n_devices; i++) {
		const V1__ContainerDevices *devices = container->devices[i];

		if (strcmp(devices->resource_name, resource))
			continue;
		for (size_t k = 0; k < devices->n_device_ids; k++)
			if (!strcmp(devices->device_ids[k], id))
				return true;
	}
	return false;
}

static size_t count_ids(const V1__ContainerResources *container, const char *resource,
			char *const *ids, size_t n_ids)
{
	size_t n = 0;

	for (size_t i = 0; i < n_ids; i++)
		n += container_has(container, resource, ids[i]);
	return n;
}

int pods_find(const struct pods *pods, const char *resource, char *const *ids, size_t n_ids,
	      struct pods_container *ret_container)
{
	const V1__ListPodResourcesResponse *list = (const void *)pods;
	const V1__PodResources *found = NULL;
	struct pods_container answer = {0};

	for (size_t i = 0; i < list->n_pod_resources; i++) {
		const V1__PodResources *pod = list->pod_resources[i];

		for (size_t k = 0; k < pod->n_containers; k++) {
			size_t n = count_ids(pod->containers[k], resource, ids, n_ids);

			if (!n)
				continue;
			/* Containers of one pod pass ids on: init containers and those after. */
			if (found && found != pod)
				return PODS_E_SEVERAL;
			found = pod;
			if (n == n_ids)
				answer = (struct pods_container){pod->namespace_, pod->name,
								 pod->containers[k]->name};
		}
	}
	if (!answer.pod)
		return PODS_E_NONE;
	*ret_container = answer;
	return 0;
}

bool pods_know(const struct pods *pods, const char *namespace, const char *pod)
{
	const V1__ListPodResourcesResponse *list = (const void *)pods;

	for (size_t i = 0; i < list->n_pod_resources; i++)
		if (!strcmp(list->pod_resources[i]->namespace_, namespace) &&
		    !strcmp(list->pod_resources[i]->name, pod))
			return true;
	return false;
}

bool pods_has(const struct pods *pods, const struct pods_container *container, const char *resource,
	      const char *id)
{
	const V1__ListPodResourcesResponse *list = (const void *)pods;

	for (size_t i = 0; i < list->n_pod_resources; i++) {
		const V1__PodResources *pod = list->pod_resources[i];

		if (strcmp(pod->namespace_, container->namespace) ||
		    strcmp(pod->name, container->pod))
			continue;
		for (size_t k = 0; k < pod->n_containers; k++)
			if (!strcmp(pod->containers[k]->name, container->container) &&
			    container_has(pod->containers[k], resource, id))
				return true;
	}
	return false;
}
