/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The software IOMMU as a whole: made from a topology, it owns the simulated physical
 * space, the IOMMUs with their IOTLBs and the inventory.  Contexts are made in context.c.
 */

#include "soft/guard.h"
#include "soft/vm.h"
#include "soft/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PHYSICAL_DEFAULT (16ull << 40)
#define PHYSICAL_MIN	 (64ull << 20)

/* Entries of an IOMMU's paging-structure cache and of its PASID cache. */
#define STRUCTURES_CACHED 512
#define PASIDS_CACHED	  256

uint64_t soft_tag_new(struct soft_shim *shim)
{
	/* Never 0, never twice: 64 bits do not run out. */
	return __atomic_add_fetch(&shim->next_tag, 1, __ATOMIC_RELAXED);
}

static void free_shim(struct shim *base)
{
	struct soft_shim *shim = soft_shim_of(base);

	if (shim->iommus)
		for (size_t i = 0; i < shim->topology->n_iommus; i++) {
			soft_iotlb_deinit(&shim->iommus[i].iotlb);
			soft_iotlb_deinit(&shim->iommus[i].structures);
			soft_pasid_cache_deinit(&shim->iommus[i].pasids);
		}
	soft_tables_deinit(&shim->tables);
	soft_window_deinit(&shim->window);
	pthread_mutex_destroy(&shim->lock);
	free(shim->iommus);
	free(shim->slots);
	soft_topology_free(shim->topology);
	free(shim);
}

static size_t device_count(struct shim *shim)
{
	return soft_shim_of(shim)->topology->n_devices;
}

static const struct shim_device_info *device_info(struct shim *base, size_t index)
{
	struct soft_topology *topology = soft_shim_of(base)->topology;

	return index < topology->n_devices ? &topology->devices[index].info : NULL;
}

static const struct shim_ops soft_ops = {
	.name = "soft",
	.free = free_shim,
	.device_count = device_count,
	.device_info = device_info,
	.ctx_new = soft_ctx_new,
	.ctx_free = soft_ctx_free,
	.dev_bind = soft_dev_bind,
	.dev_release = soft_dev_release,
	.mem_register = soft_mem_register,
	.mem_unregister = soft_mem_unregister,
	.pt_create = soft_pt_create,
	.pt_destroy = soft_pt_destroy,
	.pt_table_bytes = soft_pt_table_bytes,
	.pt_map_bound = soft_pt_map_bound,
	.pt_map = soft_pt_map,
	.pt_unmap = soft_pt_unmap,
	.pt_invalidate = soft_pt_invalidate,
	.pt_invalidate_native = soft_pt_invalidate_native,
	.pt_bind_table = soft_pt_bind_table,
	.pt_bind_pasid_table = soft_pt_bind_pasid_table,
	.pt_track_dirty = soft_pt_track_dirty,
	.pt_read_dirty = soft_pt_read_dirty,
	.pt_walk = soft_pt_walk,
	.attach = soft_attach,
	.replace = soft_replace,
	.detach = soft_detach,
	.dma = soft_dma,
	.vm_create = soft_vm_create,
	.vm_destroy = soft_vm_destroy,
	.vm_set_slot = soft_vm_set_slot,
	.vm_slot_bound = soft_vm_slot_bound,
	/* Restart: objects live in this process, and end with it. */
};

/* The IOMMUs' run-time parts, and what all of them can do. */
static int make_iommus(struct soft_shim *shim)
{
	struct soft_topology *t = shim->topology;

	shim->env = (struct soft_env){
		.output_bits = 52,
		.snoop_control = true,
		.device_tlb = true,
		.access_dirty = true,
	};
	shim->iommus = calloc(t->n_iommus, sizeof(*shim->iommus));
	shim->slots = calloc(t->n_devices ? t->n_devices : 1, sizeof(*shim->slots));
	if (!shim->iommus || !shim->slots)
		return -ENOMEM;
	for (size_t i = 0; i < t->n_iommus; i++) {
		const struct soft_iommu_desc *desc = &t->iommus[i];
		struct soft_iommu *iommu = &shim->iommus[i];
		int r = soft_iotlb_init(&iommu->iotlb, desc->iotlb_entries);

		if (!r)
			r = soft_iotlb_init(&iommu->structures, STRUCTURES_CACHED);
		if (!r)
			r = soft_pasid_cache_init(&iommu->pasids, PASIDS_CACHED);
		if (r)
			return r;
		iommu->desc = desc;
		iommu->env = (struct soft_env){
			.output_bits = desc->output_bits,
			.snoop_control = desc->snoop_control,
			.device_tlb = desc->device_tlb_entries != 0,
			.access_dirty = desc->access_dirty,
		};
		if (desc->output_bits < shim->env.output_bits)
			shim->env.output_bits = desc->output_bits;
		shim->env.snoop_control &= iommu->env.snoop_control;
		shim->env.device_tlb &= iommu->env.device_tlb;
		shim->env.access_dirty &= iommu->env.access_dirty;
	}
	for (size_t i = 0; i < t->n_devices; i++) {
		shim->slots[i].desc = &t->devices[i];
		shim->slots[i].iommu = &shim->iommus[t->devices[i].iommu];
		shim->pasid_tables |= t->devices[i].info.caps.pasid_tables;
	}
	return 0;
}

/* Takes the topology over, also on failure. */
static int make_shim(struct soft_topology *topology, const struct soft_options *options,
		     struct shim **ret_shim)
{
	static const struct soft_options defaults;
	struct soft_shim *shim;
	uint64_t bytes, widest;
	int r;

	if (!options)
		options = &defaults;
	shim = calloc(1, sizeof(*shim));
	if (!shim) {
		soft_topology_free(topology);
		return -ENOMEM;
	}
	shim->base.ops = &soft_ops;
	shim->topology = topology;
	pthread_mutex_init(&shim->lock, NULL);
	bytes = options->physical_bytes ? options->physical_bytes : PHYSICAL_DEFAULT;
	if (bytes < PHYSICAL_MIN || (bytes & (bytes - 1))) {
		r = -EINVAL;
		goto fail;
	}
	r = soft_guard_init();
	if (r)
		goto fail;
	r = make_iommus(shim);
	if (r)
		goto fail;
	widest = 1ull << shim->env.output_bits;
	r = soft_window_init(&shim->window, bytes < widest ? bytes : widest,
			     !options->physical_bytes, soft_mem_drop);
	if (r)
		goto fail;
	r = soft_tables_init(&shim->tables, &shim->window, options->table_pages);
	if (r)
		goto fail;
	*ret_shim = &shim->base;
	return 0;
fail:
	free_shim(&shim->base);
	return r;
}

static int new_from_text(const char *name, const char *text, size_t length,
			 const struct soft_options *options, struct shim **ret_shim,
			 struct soft_problem *ret_problem)
{
	struct soft_problem problem = {0};
	struct soft_topology *topology;
	int r;

	r = soft_topology_parse(text, length, &topology, &problem);
	if (r == SOFT_E_TOPOLOGY && ret_problem) {
		snprintf(problem.file, sizeof(problem.file), "%s", name);
		*ret_problem = problem;
	}
	if (r)
		return r;
	return make_shim(topology, options, ret_shim);
}

int soft_shim_new_from_memory(const char *text, size_t length, const struct soft_options *options,
			      struct shim **ret_shim, struct soft_problem *ret_problem)
{
	return new_from_text("<memory>", text, length, options, ret_shim, ret_problem);
}

/* Reads a regular file whole; free() *ret_text. */
static int read_file(const char *path, char **ret_text, size_t *ret_length)
{
	size_t room, n = 0;
	struct stat st;
	char *text;
	int fd, r = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		r = -errno;
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
		goto out;
	}
	if (st.st_size > SOFT_JSON_BYTES_MAX) {
		r = -EFBIG;
		goto out;
	}
	room = (size_t)st.st_size;
	text = malloc(room + 1);
	if (!text) {
		r = -ENOMEM;
		goto out;
	}
	while (n < room) {
		ssize_t got = read(fd, text + n, room - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			r = -errno;
			free(text);
			goto out;
		}
		if (!got)
			break;
		n += (size_t)got;
	}
	*ret_text = text;
	*ret_length = n;
out:
	close(fd);
	return r;
}

int soft_shim_new(const char *topology_path, const struct soft_options *options,
		  struct shim **ret_shim, struct soft_problem *ret_problem)
{
	size_t length = 0;
	char *text = NULL;
	int r;

	if (!topology_path)
		return new_from_text("<built in>", soft_builtin_topology,
				     strlen(soft_builtin_topology), options, ret_shim, ret_problem);
	r = read_file(topology_path, &text, &length);
	if (r)
		return r;
	r = new_from_text(topology_path, text, length, options, ret_shim, ret_problem);
	free(text);
	return r;
}
