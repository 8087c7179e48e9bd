/* SPDX-License-Identifier: Apache-2.0 */

/* See mock.h: the operations of the kernel's mock devices in the place of VFIO's calls. */

#include "door.h"
#include "mock.h"
#include "mock_uapi.h"

#include <errno.h>

/* Tests attach those that are higher only where they detach them as well. */
#define PASIDS_TRIED 1024u

/* What the shim keeps of a device for us; the order does not matter, all must end. */
enum own { OWN_DEVICE, OWN_HWPT, OWN_IOAS };

int mock_call(struct iommufd_ctx *ctx, unsigned int op, struct mock_cmd *cmd)
{
	cmd->size = sizeof(*cmd);
	cmd->op = op;
	return iommufd_call(ctx, MOCK_CALL, cmd);
}

static int init(struct iommufd_dev *dev)
{
	struct mock_routes *routes;
	int r = mock_routes_new(&routes);

	if (r)
		return r;
	dev->backend = routes;
	mock_door_add(dev);
	return 0;
}

static void deinit(struct iommufd_dev *dev)
{
	mock_door_remove(dev);
	mock_routes_free(dev->backend);
}

static void end_object(struct iommufd_dev *dev, enum own which)
{
	if (dev->own[which])
		iommufd_destroy_surely(dev->ctx, dev->own[which]);
	dev->own[which] = 0;
}

static void unbind(struct iommufd_dev *dev)
{
	end_object(dev, OWN_DEVICE);
	end_object(dev, OWN_HWPT);
	end_object(dev, OWN_IOAS);
}

static int replace(struct iommufd_dev *dev, uint32_t pt)
{
	struct mock_cmd cmd = {.id = dev->own[OWN_DEVICE], .replace = {.pt = pt}};

	return mock_call(dev->ctx, MOCK_OP_REPLACE, &cmd);
}

/* Its empty address space, the device, and a table there that goes together with PASIDs. */
static int make(struct iommufd_dev *dev)
{
	struct iommufd_ioas_alloc ioas = {.size = sizeof(ioas)};
	struct mock_cmd device = {.device = {.flags = MOCK_DEVICE_PASID}};
	struct iommufd_hwpt_alloc hwpt = {.size = sizeof(hwpt), .flags = IOMMU_HWPT_ALLOC_PASID};
	int r = iommufd_call(dev->ctx, IOMMU_IOAS_ALLOC, &ioas);

	if (r)
		return r;
	dev->own[OWN_IOAS] = device.id = hwpt.pt_id = ioas.out_ioas_id;
	r = mock_call(dev->ctx, MOCK_OP_DEVICE, &device);
	if (r)
		return r;
	dev->own[OWN_DEVICE] = device.device.out_device;
	dev->id = hwpt.dev_id = device.device.out_bound;
	r = iommufd_call(dev->ctx, IOMMU_HWPT_ALLOC, &hwpt);
	if (r)
		return r;
	dev->own[OWN_HWPT] = hwpt.out_hwpt_id;
	return replace(dev, dev->own[OWN_HWPT]);
}

static int bind(struct iommufd_dev *dev)
{
	int r = make(dev);

	if (r)
		unbind(dev);
	return r;
}

static int pasid_call(struct iommufd_dev *dev, enum mock_op op, uint32_t pasid, uint32_t pt)
{
	struct mock_cmd cmd = {.id = dev->own[OWN_DEVICE], .pasid = {.pasid = pasid, .pt = pt}};

	return mock_call(dev->ctx, op, &cmd);
}

static int move(struct iommufd_dev *dev, uint32_t pasid, uint32_t pt)
{
	int r;

	if (pasid == SHIM_NO_PASID)
		return replace(dev, pt);
	/* After a restart, what is attached is not known here.  EINVAL: it is not. */
	r = pasid_call(dev, MOCK_OP_PASID_REPLACE, pasid, pt);
	if (r == -EINVAL && !mock_routes_has(dev->backend, pasid))
		r = pasid_call(dev, MOCK_OP_PASID_ATTACH, pasid, pt);
	return r;
}

static int attach(struct iommufd_dev *dev, uint32_t pasid, uint32_t pt_id, uint32_t ioas)
{
	int r = mock_routes_reserve(dev->backend);

	if (!r)
		r = move(dev, pasid, pt_id);
	if (!r)
		mock_routes_set(dev->backend, pasid, pt_id, ioas);
	return r;
}

static int detach(struct iommufd_dev *dev, uint32_t pasid)
{
	int r;

	if (pasid == SHIM_NO_PASID) {
		r = replace(dev, dev->own[OWN_HWPT]);
	} else {
		/* The kernel warns of a detach without an attachment. */
		r = pasid_call(dev, MOCK_OP_PASID_REPLACE, pasid, dev->own[OWN_HWPT]);
		if (!r)
			r = pasid_call(dev, MOCK_OP_PASID_DETACH, pasid, 0);
		else if (r == -EINVAL && !mock_routes_has(dev->backend, pasid))
			r = 0;
	}
	if (!r)
		mock_routes_clear(dev->backend, pasid);
	return r;
}

static int check_pasid(struct iommufd_ctx *ctx, uint32_t id, uint32_t pasid)
{
	struct mock_cmd cmd = {.id = id, .pasid = {.pasid = pasid}};

	/* 0: nothing is attached by it; ENOENT: the object is no device. */
	return mock_call(ctx, MOCK_OP_PASID_CHECK, &cmd);
}

/* VFIO does this when a device's last descriptor is closed; a mock device has none. */
static void forget(struct iommufd_ctx *ctx, uint32_t id)
{
	for (uint32_t pasid = 1; pasid < PASIDS_TRIED; pasid++) {
		struct mock_cmd cmd = {.id = id, .pasid = {.pasid = pasid}};
		int r = check_pasid(ctx, id, pasid);

		if (r == -ENOENT)
			return;
		if (r)
			(void)mock_call(ctx, MOCK_OP_PASID_DETACH, &cmd);
	}
}

const struct iommufd_backend mock_backend = {
	.name = "mock",
	/* And the table that the kernel makes when it attaches the device to its IOAS. */
	.objects = 2 + IOMMUFD_BACKEND_OBJECTS,
	.host = mock_host,
	.init = init,
	.deinit = deinit,
	.bind = bind,
	.unbind = unbind,
	.forget = forget,
	.attach = attach,
	.detach = detach,
	.dma = mock_dma,
};
