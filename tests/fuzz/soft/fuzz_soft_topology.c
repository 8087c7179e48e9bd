/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The topology parser on any text: what it refuses is named by place and reason, what it
 * takes keeps every limit.
 */

#include "soft/format.h"
#include "soft/topology.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static bool terminated(const char *text, size_t size)
{
	return memchr(text, 0, size) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct soft_topology *topology = NULL;
	struct soft_problem problem = {0};
	/* A copy of just this size, so that a read beyond it is seen. */
	char *text = malloc(size ? size : 1);
	int r;

	must(text != NULL);
	memcpy(text, data, size);
	r = soft_topology_parse(text, size, &topology, &problem);
	free(text);
	if (r == -ENOMEM)
		return 0;
	if (r) {
		must(r == SOFT_E_TOPOLOGY && !topology);
		must(problem.line > 0 && problem.column > 0 && problem.message[0]);
		must(terminated(problem.path, sizeof(problem.path)));
		must(terminated(problem.message, sizeof(problem.message)));
		return 0;
	}
	must(topology->n_iommus >= 1 && topology->n_iommus <= SOFT_IOMMUS_MAX);
	must(topology->n_devices <= SOFT_DEVICES_MAX);
	for (size_t i = 0; i < topology->n_iommus; i++) {
		const struct soft_iommu_desc *iommu = &topology->iommus[i];

		must(terminated(iommu->name, sizeof(iommu->name)) && iommu->name[0]);
		must(iommu->output_bits >= 32 && iommu->output_bits <= 52);
		must(iommu->max_depth >= 1 && iommu->max_depth <= SOFT_DEPTH_MAX);
		must(iommu->n_reserved <= SHIM_RESERVED_MAX && iommu->formats);
	}
	for (size_t i = 0; i < topology->n_devices; i++) {
		const struct soft_device_desc *device = &topology->devices[i];

		must(soft_topology_find(topology, device->info.address) == i);
		must(device->iommu < topology->n_iommus);
		must(device->info.caps.n_formats > 0 &&
		     device->info.caps.n_formats <= SHIM_FORMATS_MAX);
		must(device->info.caps.pasid_bits <= topology->iommus[device->iommu].pasid_bits);
		must(device->info.caps.n_reserved <= SHIM_RESERVED_MAX);
	}
	must(soft_topology_find(topology, "no such device") == topology->n_devices);
	soft_topology_free(topology);
	return 0;
}
