/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See host.h.  A function is in the inventory if it has an IOMMU group and an IOMMU, and is
 * no bridge: VFIO takes functions with an ordinary header only, and a bridge in a group is no
 * companion that a tenant must have as well.
 *
 * What sysfs shows to everybody is read here; what it shows to root only (capabilities behind
 * the first 64 bytes of config space) and what the host uses a device for the keeper says.
 *
 * A capability is claimed only where it is known.  What is not known, or not built, is absent
 * with its reason: that is what a refused tenant gets to read.
 */

#include "iommufd/host.h"

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"
#include "iommufd/sysfs.h"
#include "iommufd/vtd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PCI_DEVICES "bus/pci/devices"

/*
 * Where sysfs tells no width: what the narrowest configuration has that Linux supports.  A
 * device that has less is refused at attach by the kernel (IOMMU_IOAS_ALLOW_IOVAS).  AMD:
 * four levels of version 2, lower half; Arm: CONFIG_ARM64_VA_BITS of 39.
 */
#define AMD_INPUT_BITS	 47
#define OTHER_INPUT_BITS 39

#define ABSENT(caps, feature, ...)                                                                 \
	snprintf((caps)->feature_absent[feature], SHIM_REASON_MAX, __VA_ARGS__)

/* ---- IOMMUs ---- */

static void drop_nesting(struct shim_caps *caps)
{
	size_t kept = 0;

	caps->max_depth = 1;
	for (size_t i = 0; i < caps->n_formats; i++) {
		caps->formats[i].nest_parent = false;
		if (!caps->formats[i].nest_child)
			caps->formats[kept++] = caps->formats[i];
	}
	caps->n_formats = kept;
	snprintf(caps->kind_absent[SHIM_KIND_USER], SHIM_REASON_MAX, "%s",
		 caps->feature_absent[SHIM_FEATURE_NESTING]);
}

/* What no unit has through this shim, or not with this kernel. */
static void unit_limits(struct iommufd_unit *unit, const struct iommufd_kernel *kernel)
{
	struct shim_caps *caps = &unit->caps;

	/* ALL and RANGE: the kernel has flushed by itself, so they are done. */
	caps->invalidations |= 1u << SHIM_INVALIDATE_ALL | 1u << SHIM_INVALIDATE_RANGE;
	if (caps->dirty_tracking && !iommufd_kernel_has(kernel, IOMMU_HWPT_GET_DIRTY)) {
		caps->dirty_tracking = false;
		ABSENT(caps, SHIM_FEATURE_DIRTY, "this kernel has no dirty tracking (Linux 6.7)");
	}
	if (caps->recoverable_faults && !iommufd_kernel_has(kernel, IOMMU_FAULT_QUEUE_ALLOC)) {
		caps->recoverable_faults = false;
		ABSENT(caps, SHIM_FEATURE_FAULTS, "this kernel has no fault queue (Linux 6.11)");
	}
	if (unit->nested && !iommufd_kernel_has(kernel, IOMMU_HWPT_INVALIDATE)) {
		unit->nested = NULL;
		ABSENT(caps, SHIM_FEATURE_NESTING, "this kernel does not nest (Linux 6.8)");
	}
	if (unit->nested) {
		caps->invalidations |=
			1u << SHIM_INVALIDATE_PASID | 1u << SHIM_INVALIDATE_DEVICE_TLB;
		caps->native_invalidations = 1u << unit->nested->native;
	} else if (!unit->known || caps->max_depth == 1) {
		/* An SMMUv3 nests in a way of its own. */
		drop_nesting(caps);
	}
	snprintf(caps->kind_absent[SHIM_KIND_PROCESS], SHIM_REASON_MAX,
		 "iommufd offers no page table of a process (SVA) to user space");
	snprintf(caps->kind_absent[SHIM_KIND_KVM], SHIM_REASON_MAX,
		 "iommufd offers no page table of KVM's");
}

static void unit_unknown(struct iommufd_unit *unit)
{
	struct shim_caps *caps = &unit->caps;
	bool amd = unit->type == IOMMUFD_UNIT_AMD;
	/* Of an SMMUv3 the kernel tells where a device can be asked with: smmuv3_probe.c. */
	const char *who = amd				      ? "AMD IOMMU"
			  : unit->type == IOMMUFD_UNIT_SMMUV3 ? "SMMUv3"
							      : "IOMMU";
	uint64_t pages = (uint64_t)sysconf(_SC_PAGESIZE);

	caps->max_depth = 1;
	caps->formats[caps->n_formats++] = (struct shim_format_cap){
		.format = SHIM_FORMAT_KERNEL_CHOSEN,
		.input_bits = amd ? AMD_INPUT_BITS : OTHER_INPUT_BITS,
		.output_bits = amd ? 52 : 48,
		/* Both table formats of AMD have these; elsewhere the page is what is certain. */
		.page_sizes =
			amd ? UINT64_C(1) << 12 | UINT64_C(1) << 21 | UINT64_C(1) << 30 : pages,
	};
	ABSENT(caps, SHIM_FEATURE_SNOOP, "whether %s %s enforces snooping, sysfs does not tell",
	       who, unit->name);
	ABSENT(caps, SHIM_FEATURE_PASID, "whether %s %s has PASIDs, sysfs does not tell", who,
	       unit->name);
	ABSENT(caps, SHIM_FEATURE_FAULTS, "whether %s %s takes page requests, sysfs does not tell",
	       who, unit->name);
	ABSENT(caps, SHIM_FEATURE_DIRTY, "whether %s %s tracks dirty pages, sysfs does not tell",
	       who, unit->name);
	ABSENT(caps, SHIM_FEATURE_NESTING, "whether %s %s nests, sysfs does not tell", who,
	       unit->name);
}

static int unit_read(struct iommufd_unit *unit, const char *root,
		     const struct iommufd_kernel *kernel)
{
	int64_t cap, ecap;
	char text[64];
	int r;

	r = sysfs_read_number(root, 16, &cap, "class/iommu/%s/intel-iommu/cap", unit->name);
	if (!r)
		r = sysfs_read_number(root, 16, &ecap, "class/iommu/%s/intel-iommu/ecap",
				      unit->name);
	if (!r) {
		struct vtd_unit vtd = {.cap = (uint64_t)cap, .ecap = (uint64_t)ecap};

		unit->type = IOMMUFD_UNIT_VTD;
		unit->cap = vtd.cap;
		unit->ecap = vtd.ecap;
		memcpy(vtd.name, unit->name, sizeof(vtd.name));
		vtd_caps(&vtd, &unit->caps);
		unit->nested = unit->caps.max_depth > 1 ? &iommufd_nested_vtd : NULL;
	} else if (r == -ENOENT || r == -ENOTDIR) {
		if (!sysfs_read(root, text, sizeof(text), "class/iommu/%s/amd-iommu/cap",
				unit->name))
			unit->type = IOMMUFD_UNIT_AMD;
		/* So arm-smmu-v3 names what it registers. */
		else if (!strncmp(unit->name, "smmu3.", strlen("smmu3.")))
			unit->type = IOMMUFD_UNIT_SMMUV3;
		unit_unknown(unit);
	} else {
		return r;
	}
	unit_limits(unit, kernel);
	return 0;
}

/* An index: the array moves while it grows. */
static int unit_find(struct iommufd_host *host, const char *root, const char *name,
		     const struct iommufd_kernel *kernel, size_t *ret_index)
{
	struct iommufd_unit *grown, unit = {0};
	int r;

	for (size_t i = 0; i < host->n_units; i++)
		if (!strcmp(host->units[i].name, name)) {
			*ret_index = i;
			return 0;
		}
	snprintf(unit.name, sizeof(unit.name), "%s", name);
	r = unit_read(&unit, root, kernel);
	if (r)
		return r;
	grown = realloc(host->units, (host->n_units + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	host->units = grown;
	host->units[host->n_units] = unit;
	*ret_index = host->n_units++;
	return 0;
}

/* ---- reserved ranges ---- */

void iommufd_host_parse_reserved(const char *text, struct shim_range *ret_ranges, size_t *ret_n)
{
	size_t n = 0;

	for (; text && *text; text = strchr(text, '\n'), text = text ? text + 1 : NULL) {
		struct shim_range *last = n ? &ret_ranges[n - 1] : NULL;
		unsigned long long first, end;
		struct shim_range range = {0};
		char use[32];

		if (sscanf(text, "0x%llx 0x%llx %31s", &first, &end, use) != 3 || end < first)
			continue;
		/* The kernel lets user space map over these (iommu_get_resv_regions()). */
		if (!strcmp(use, "direct-relaxable"))
			continue;
		range.start = first;
		range.last = end;
		snprintf(range.use, sizeof(range.use), "%.*s", (int)sizeof(range.use) - 1, use);
		/* The kernel lists them in order; more is refused than has to be, never less. */
		if (n == SHIM_RESERVED_MAX) {
			if (range.last > last->last)
				last->last = range.last;
			if (range.start < last->start)
				last->start = range.start;
			continue;
		}
		ret_ranges[n++] = range;
	}
	*ret_n = n;
}

static int range_compare(const void *a, const void *b)
{
	const struct shim_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static int reserved_unite(struct iommufd_host *host)
{
	size_t n = 0, kept = 0;
	struct shim_range *all;

	for (size_t i = 0; i < host->n_slots; i++)
		n += host->slots[i].info.caps.n_reserved;
	all = calloc(n ? n : 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	n = 0;
	for (size_t i = 0; i < host->n_slots; i++) {
		const struct shim_caps *caps = &host->slots[i].info.caps;

		memcpy(&all[n], caps->reserved, caps->n_reserved * sizeof(*all));
		n += caps->n_reserved;
	}
	qsort(all, n, sizeof(*all), range_compare);
	for (size_t i = 0; i < n; i++) {
		if (kept && all[i].start <= all[kept - 1].last) {
			if (all[i].last > all[kept - 1].last)
				all[kept - 1].last = all[i].last;
			continue;
		}
		all[kept++] = all[i];
	}
	host->reserved = all;
	host->n_reserved = kept;
	return 0;
}

/* ---- devices ---- */

static int read_u16(const char *root, const char *address, const char *name, uint16_t *ret)
{
	int64_t value;
	int r = sysfs_read_number(root, 16, &value, PCI_DEVICES "/%s/%s", address, name);

	if (!r)
		*ret = (uint16_t)value;
	return r;
}

/* PCI base class 6: host bridges and what has a bridge's header.  An ISA bridge has not. */
static bool is_bridge(uint32_t class_code)
{
	unsigned subclass = class_code >> 8 & 0xff;

	return class_code >> 16 == 6 && subclass != 1 && subclass != 2 && subclass != 0x80;
}

static void device_limits(struct shim_device_info *info, const struct keeper_device *device,
			  const struct iommufd_unit *unit, const struct iommufd_kernel *kernel)
{
	struct shim_caps *caps = &info->caps;

	caps->device_tlb = caps->device_tlb && device->ats;
	if (caps->recoverable_faults && !(device->pri && device->ats)) {
		caps->recoverable_faults = false;
		ABSENT(caps, SHIM_FEATURE_FAULTS, "the device has no %s capability",
		       device->ats ? "PRI" : "ATS");
	}
	if (caps->pasid_bits && !device->pasid_bits) {
		ABSENT(caps, SHIM_FEATURE_PASID, "the device has no PASID capability");
		caps->pasid_bits = 0;
	} else if (caps->pasid_bits && !iommufd_kernel_has(kernel, IOMMU_VEVENTQ_ALLOC)) {
		/* They came with the same release, 6.15; a flag cannot be asked for alone. */
		ABSENT(caps, SHIM_FEATURE_PASID,
		       "this kernel has no VFIO_DEVICE_ATTACH_PASID (Linux 6.15)");
		caps->pasid_bits = 0;
	} else if (device->pasid_bits < caps->pasid_bits) {
		caps->pasid_bits = device->pasid_bits;
	}
	snprintf(info->host_use, sizeof(info->host_use), "%s", device->host_use);
}

/* 0 and *ret_wanted false: it does not belong into the inventory. */
static int device_read(struct iommufd_host *host, const char *root, const char *address,
		       const struct iommufd_kernel *kernel, struct shim_device_info *info,
		       size_t *ret_unit, bool *ret_wanted)
{
	char name[SHIM_NAME_MAX], text[4096];
	int64_t number;
	int r;

	*ret_wanted = false;
	if (strlen(address) >= sizeof(info->address))
		return 0;
	snprintf(info->address, sizeof(info->address), "%s", address);
	r = sysfs_read_link(root, name, sizeof(name), PCI_DEVICES "/%s/iommu_group", address);
	if (r == -ENOENT)
		return 0;
	if (r)
		return r;
	info->group = (uint32_t)strtoul(name, NULL, 10);
	r = sysfs_read_link(root, info->iommu, sizeof(info->iommu), PCI_DEVICES "/%s/iommu",
			    address);
	if (r == -ENOENT)
		return 0;
	if (!r)
		r = sysfs_read_number(root, 16, &number, PCI_DEVICES "/%s/class", address);
	if (r)
		return r;
	info->class_code = (uint32_t)number & 0xffffff;
	if (is_bridge(info->class_code))
		return 0;
	r = read_u16(root, address, "vendor", &info->vendor);
	if (!r)
		r = read_u16(root, address, "device", &info->device);
	if (!r)
		r = unit_find(host, root, info->iommu, kernel, ret_unit);
	if (r)
		return r;
	/* Without NUMA there is no such file. */
	if (sysfs_read_number(root, 10, &number, PCI_DEVICES "/%s/numa_node", address))
		number = -1;
	info->numa_node = (int32_t)number;
	r = sysfs_read_link(root, info->driver, sizeof(info->driver), PCI_DEVICES "/%s/driver",
			    address);
	if (r && r != -ENOENT)
		return r;
	r = sysfs_read(root, text, sizeof(text), "kernel/iommu_groups/%u/reserved_regions",
		       info->group);
	if (r)
		return r;
	info->caps = host->units[*ret_unit].caps;
	iommufd_host_parse_reserved(text, info->caps.reserved, &info->caps.n_reserved);
	*ret_wanted = true;
	return 0;
}

static int device_add(const struct iommufd_sys *sys, struct iommufd_host *host, const char *root,
		      const char *address, const struct iommufd_kernel *kernel, size_t *units,
		      struct iommufd_problem *ret_problem)
{
	struct iommufd_slot *slot = &host->slots[host->n_slots];
	struct keeper_device device = {0};
	bool wanted;
	size_t unit;
	int r;

	memset(slot, 0, sizeof(*slot));
	r = device_read(host, root, address, kernel, &slot->info, &unit, &wanted);
	/* Pulled out while we read. */
	if (r == -ENODEV || r == -ENOENT || (!r && !wanted))
		return 0;
	if (r == -ENOMEM)
		return r;
	if (r) {
		iommufd_problem_set(ret_problem, "%s: its entry in sysfs: %s", address,
				    strerror(-r));
		return IOMMUFD_E_HOST;
	}
	r = sys->examine(sys->user, address, &device);
	if (r == KEEPER_E_NOT_FOUND)
		return 0;
	if (r) {
		iommufd_problem_set(ret_problem, "%s: the keeper cannot examine it: %s", address,
				    r < 0 ? strerror(-r) : iommufd_keeper_error(r));
		return IOMMUFD_E_KEEPER;
	}
	device_limits(&slot->info, &device, &host->units[unit], kernel);
	units[host->n_slots++] = unit;
	return 0;
}

int iommufd_host_read(const struct iommufd_sys *sys, const char *sysfs_root,
		      const struct iommufd_kernel *kernel, struct iommufd_host *ret_host,
		      struct iommufd_problem *ret_problem)
{
	struct iommufd_host host = {0};
	size_t n = 0, *units = NULL;
	char **names = NULL;
	int r = sysfs_list(sysfs_root, PCI_DEVICES, &names, &n);

	if (r == -ENOMEM)
		return r;
	if (r) {
		iommufd_problem_set(ret_problem, "%s/%s: %s", sysfs_root, PCI_DEVICES,
				    strerror(-r));
		return IOMMUFD_E_HOST;
	}
	host.slots = calloc(n ? n : 1, sizeof(*host.slots));
	units = calloc(n ? n : 1, sizeof(*units));
	if (!host.slots || !units)
		r = -ENOMEM;
	for (size_t i = 0; !r && i < n; i++)
		r = device_add(sys, &host, sysfs_root, names[i], kernel, units, ret_problem);
	if (!r && !host.n_slots) {
		iommufd_problem_set(ret_problem, "no PCI function of this host is behind an IOMMU");
		r = IOMMUFD_E_HOST;
	}
	/* The units stand still now. */
	for (size_t i = 0; !r && i < host.n_slots; i++)
		host.slots[i].unit = &host.units[units[i]];
	if (!r)
		r = reserved_unite(&host);
	free(units);
	sysfs_list_free(names, n);
	if (r) {
		iommufd_host_deinit(&host);
		return r;
	}
	*ret_host = host;
	return 0;
}

/* The addresses that the shim itself needs in a parent; false: there is no room in the list. */
static bool reserve_window(struct shim_caps *caps)
{
	const struct shim_range window = {
		.start = SMMUV3_WINDOW,
		.last = SMMUV3_WINDOW + 2 * SMMUV3_PAGE - 1,
		.use = "broker",
	};
	size_t at = 0;

	if (caps->n_reserved == SHIM_RESERVED_MAX)
		return false;
	while (at < caps->n_reserved && caps->reserved[at].start < window.start)
		at++;
	memmove(&caps->reserved[at + 1], &caps->reserved[at],
		(caps->n_reserved - at) * sizeof(window));
	caps->reserved[at] = window;
	caps->n_reserved++;
	return true;
}

static void slot_learn(struct iommufd_slot *slot)
{
	struct shim_caps *caps = &slot->info.caps, before = *caps;

	*caps = slot->unit->caps;
	memcpy(caps->reserved, before.reserved, sizeof(caps->reserved));
	caps->n_reserved = before.n_reserved;
	if (caps->max_depth == 1 || reserve_window(caps))
		return;
	ABSENT(caps, SHIM_FEATURE_NESTING, "the device has more than %d reserved ranges",
	       SHIM_RESERVED_MAX - 1);
	drop_nesting(caps);
}

int iommufd_host_learn(struct iommufd_host *host, const struct iommufd_unit *unit,
		       const struct iommufd_kernel *kernel,
		       const struct smmuv3_abilities *abilities, const char *no_nesting)
{
	struct iommufd_unit *known = &host->units[unit - host->units];
	uint64_t pages = (uint64_t)sysconf(_SC_PAGESIZE);

	known->known = true;
	known->smmuv3 = *abilities;
	smmuv3_caps(unit->name, abilities, no_nesting, &known->caps);
	if (pages != 4096 || !known->caps.formats[0].page_sizes)
		known->caps.formats[0].page_sizes = pages;
	unit_limits(known, kernel);
	for (size_t i = 0; i < host->n_slots; i++)
		if (host->slots[i].unit == unit)
			slot_learn(&host->slots[i]);
	free(host->reserved);
	host->reserved = NULL;
	host->n_reserved = 0;
	return reserved_unite(host);
}

void iommufd_host_deinit(struct iommufd_host *host)
{
	free(host->units);
	free(host->slots);
	free(host->reserved);
}

const struct iommufd_slot *iommufd_host_find(const struct iommufd_host *host, const char *address)
{
	size_t low = 0, high = host->n_slots;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(address, host->slots[middle].info.address);

		if (!order)
			return &host->slots[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
