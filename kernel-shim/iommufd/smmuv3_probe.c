/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What an SMMUv3 can do. Sysfs does not tell it, and the kernel tells it of a bound device only
 * (IOMMU_GET_HW_INFO). So, when the shim starts, one function behind each unit is claimed from
 * the keeper for a moment: one that no driver of the host's has (none, or vfio-pci), with its
 * whole group, so that nothing of the host is disturbed. Whether the unit nests is tried: it
 * depends on more than its registers (cacheable tables of the parent, by the firmware's word).
 *
 * Where there is no such function the unit stays unknown, and what is unknown is absent. After a
 * restart devices may all belong to leases: then the first that is restored tells.
 */

#include "iommufd/smmuv3_tables.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- asking ---- */

static int try_view(struct iommufd_dev *dev, uint32_t ioas)
{
	struct iommufd_hwpt_alloc hwpt = {
		.size = sizeof(hwpt),
		.flags = IOMMU_HWPT_ALLOC_NEST_PARENT,
		.dev_id = dev->id,
		.pt_id = ioas,
		.data_type = IOMMU_HWPT_DATA_NONE,
	};
	struct iommufd_viommu_alloc viommu = {
		.size = sizeof(viommu),
		.type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
		.dev_id = dev->id,
	};
	int r = iommufd_call(dev->ctx, IOMMU_HWPT_ALLOC, &hwpt);

	if (r)
		return r;
	viommu.hwpt_id = hwpt.out_hwpt_id;
	r = iommufd_call(dev->ctx, IOMMU_VIOMMU_ALLOC, &viommu);
	if (!r)
		(void)iommufd_destroy(dev->ctx, viommu.out_viommu_id);
	(void)iommufd_destroy(dev->ctx, hwpt.out_hwpt_id);
	return r;
}

static int try_nesting(struct iommufd_dev *dev)
{
	struct iommufd_ioas_alloc arg = {.size = sizeof(arg)};
	int r = iommufd_call(dev->ctx, IOMMU_IOAS_ALLOC, &arg);

	if (r)
		return r;
	r = try_view(dev, arg.out_ioas_id);
	(void)iommufd_destroy(dev->ctx, arg.out_ioas_id);
	return r;
}

static void why_not(struct iommufd_dev *dev, const struct smmuv3_abilities *a, char *ret_reason)
{
	const struct iommufd_kernel *kernel = &iommufd_shim_of(dev->base.shim)->kernel;
	const char *name = dev->slot->unit->name;
	int r;

	*ret_reason = '\0';
	if (!a->both_stages)
		snprintf(ret_reason, SHIM_REASON_MAX, "SMMUv3 IDR0.S1P or S2P is 0 on %s", name);
	else if (!iommufd_kernel_has(kernel, IOMMU_VDEVICE_ALLOC) ||
		 !iommufd_kernel_has(kernel, IOMMU_HWPT_INVALIDATE))
		snprintf(ret_reason, SHIM_REASON_MAX,
			 "this kernel has no IOMMU_VDEVICE_ALLOC (Linux 6.13)");
	else if ((r = try_nesting(dev)))
		snprintf(
			ret_reason, SHIM_REASON_MAX,
			"the kernel does not nest behind %s (%s): firmware must say that its walks "
			"are coherent (IORT: CANWBS)",
			name, strerror(-r));
}

/* ---- what follows from it ---- */

static void host_add(struct iommufd_host *host, const struct smmuv3_abilities *a)
{
	bool first = !host->smmuv3.output_bits;

	host->smmuv3.asid16 = a->asid16 && (first || host->smmuv3.asid16);
	if (first || a->output_bits < host->smmuv3.output_bits)
		host->smmuv3.output_bits = a->output_bits;
}

int iommufd_smmuv3_learn(struct iommufd_dev *dev)
{
	struct iommufd_host *host = &iommufd_shim_of(dev->base.shim)->host;
	struct iommufd_hw_info_arm_smmuv3 smmuv3 = {0};
	struct iommufd_hw_info info = {
		.size = sizeof(info),
		.dev_id = dev->id,
		.data_len = sizeof(smmuv3),
		.data_uptr = (uintptr_t)&smmuv3,
	};
	struct smmuv3_abilities abilities;
	char no_nesting[SHIM_REASON_MAX];
	int r;

	if (dev->slot->unit->type != IOMMUFD_UNIT_SMMUV3 || dev->slot->unit->known)
		return 0;
	r = iommufd_call(dev->ctx, IOMMU_GET_HW_INFO, &info);
	if (r || info.out_data_type != IOMMU_HW_INFO_TYPE_ARM_SMMUV3)
		return r;
	smmuv3_decode(smmuv3.idr, &abilities);
	why_not(dev, &abilities, no_nesting);
	host_add(host, &abilities);
	return iommufd_host_learn(host, dev->slot->unit, &iommufd_shim_of(dev->base.shim)->kernel,
				  &abilities, no_nesting);
}

/* ---- a device to ask of ---- */

static bool is_idle(const struct iommufd_slot *slot)
{
	const struct shim_device_info *info = &slot->info;

	return !info->host_use[0] && (!info->driver[0] || !strcmp(info->driver, "vfio-pci"));
}

/* The members of the slot's group; 0: one is not idle, or there are too many. */
static size_t group_of(const struct iommufd_host *host, const struct iommufd_slot *slot,
		       const char *addresses[KEEPER_DEVICES_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < host->n_slots; i++) {
		if (host->slots[i].info.group != slot->info.group)
			continue;
		if (!is_idle(&host->slots[i]) || n == KEEPER_DEVICES_MAX)
			return 0;
		addresses[n++] = host->slots[i].info.address;
	}
	return n;
}

/* Whether the unit is known now. */
static int ask(struct iommufd_ctx *ctx, const struct iommufd_slot *slot)
{
	struct iommufd_shim *shim = iommufd_shim_of(ctx->base.shim);
	const struct iommufd_sys *sys = &shim->sys;
	const char *addresses[KEEPER_DEVICES_MAX];
	char reason[KEEPER_REASON_MAX];
	int fds[KEEPER_DEVICES_MAX], r;
	size_t n = group_of(&shim->host, slot, addresses);

	if (!n || sys->claim(sys->user, ctx->id, addresses, n, reason, fds))
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct iommufd_dev dev = {
			.base.shim = &shim->base, .ctx = ctx, .slot = slot, .fd = fds[i]};

		r = 0;
		if (!strcmp(addresses[i], slot->info.address) && !shim->backend->bind(&dev))
			r = iommufd_smmuv3_learn(&dev);
		sys->close(sys->user, fds[i]);
	}
	(void)sys->release(sys->user, ctx->id, addresses, n);
	return r == -ENOMEM ? r : 0;
}

int iommufd_smmuv3_probe(struct iommufd_shim *shim)
{
	const struct iommufd_sys *sys = &shim->sys;
	struct iommufd_ctx ctx = {.base.shim = &shim->base, .fd = -1};
	char reason[KEEPER_REASON_MAX];
	int r = 0;

	if (!shim->backend->has_fds || !iommufd_kernel_has(&shim->kernel, IOMMU_GET_HW_INFO))
		return 0;
	for (size_t i = 0; !r && i < shim->host.n_slots; i++) {
		const struct iommufd_slot *slot = &shim->host.slots[i];

		if (slot->unit->type != IOMMUFD_UNIT_SMMUV3 || slot->unit->known || !is_idle(slot))
			continue;
		if (ctx.fd < 0 && sys->context_open(sys->user, "ioasidd", reason, &ctx.id, &ctx.fd))
			return 0;
		r = ask(&ctx, slot);
	}
	if (ctx.fd >= 0) {
		sys->close(sys->user, ctx.fd);
		(void)sys->context_close(sys->user, ctx.id);
	}
	return r;
}
