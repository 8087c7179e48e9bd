/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Devices: claimed from the keeper, bound to the context's iommufd, given back.
 *
 * dev_release() ends this device's DMA, also where its tenant holds a duplicate of its
 * descriptor: it is detached through ours, which is the same open file.  Such a holder can
 * attach it again, by itself, to tables of its own lease and of no other, until it closes;
 * until then the keeper calls the device busy, and nobody else gets it.  Closing ours first
 * would leave it attached.
 *
 * The group.  Linux gives a group, not a function, its table: while a companion is attached, a
 * detached function's DMA still goes through the group's table.  Companions are of the same
 * lease, and share with each other what they reach anyway: there is no isolation inside a
 * group.  It ends when the last is detached.
 */

#include "iommufd/internal.h"
#include "iommufd/viommu.h"

#include <errno.h>
#include <stdlib.h>

static int claim_error(int r)
{
	switch (r) {
	case KEEPER_E_NOT_FOUND:
		return SHIM_E_NO_DEVICE;
	case KEEPER_E_BUSY:
		return SHIM_E_DEVICE_BUSY;
	case KEEPER_E_LIMIT:
		return SHIM_E_LIMIT;
	}
	return SHIM_E_REFUSED;
}

/* Not if it was started anew without its fds. */
static bool keeper_has(const struct iommufd_ctx *ctx)
{
	const struct iommufd_sys *sys = iommufd_sys_of(ctx);
	struct keeper_context_id before = {ctx->id.value - 1}, next;

	int r = sys->context_next(sys->user, before, &next);

	return r ? r != KEEPER_E_NOT_FOUND : next.value == ctx->id.value;
}

static int refuse_claim(const struct iommufd_ctx *ctx, int r, const char *reason, char *ret_reason)
{
	if (r == KEEPER_E_NOT_FOUND && !keeper_has(ctx))
		return iommufd_refuse(ret_reason, SHIM_E_GONE,
				      "the keeper was started anew without what it held: this "
				      "lease can claim no more devices");
	return iommufd_refuse(ret_reason, claim_error(r), "%s",
			      reason[0] ? reason : iommufd_keeper_error(r));
}

void iommufd_dev_free(struct iommufd_dev *dev)
{
	const struct iommufd_backend *backend = iommufd_backend_of(dev->ctx);

	if (backend->deinit)
		backend->deinit(dev);
	free(dev->pasids);
	free(dev->debt);
	free(dev);
}

int iommufd_dev_new(struct iommufd_ctx *ctx, const struct iommufd_slot *slot,
		    struct iommufd_dev **ret_dev)
{
	const struct iommufd_backend *backend = iommufd_backend_of(ctx);
	struct iommufd_dev *dev = calloc(1, sizeof(*dev));
	int r;

	if (dev)
		dev->debt = calloc(1, sizeof(*dev->debt));
	if (!dev || !dev->debt) {
		free(dev);
		return -ENOMEM;
	}
	dev->base.shim = ctx->base.shim;
	dev->ctx = ctx;
	dev->slot = slot;
	dev->fd = -1;
	dev->pasid_bits = slot->info.caps.pasid_bits;
	dev->plain.pasid = SHIM_NO_PASID;
	dev->debt->context = ctx->id;
	memcpy(dev->debt->address, slot->info.address, sizeof(dev->debt->address));
	r = backend->init ? backend->init(dev) : 0;
	if (r) {
		free(dev->debt);
		free(dev);
		return r;
	}
	*ret_dev = dev;
	return 0;
}

/* The devices' records, before anything is asked of anybody. */
static int make_records(struct iommufd_ctx *ctx, const char *const *addresses, size_t n,
			char *ret_reason, struct iommufd_dev **devs)
{
	const struct iommufd_host *host = &iommufd_shim_of(ctx->base.shim)->host;

	for (size_t i = 0; i < n; i++) {
		const struct iommufd_slot *slot = iommufd_host_find(host, addresses[i]);
		int r;

		if (!slot)
			return iommufd_refuse(ret_reason, SHIM_E_NO_DEVICE, "%s: no such device",
					      addresses[i]);
		for (size_t k = 0; k < i; k++)
			if (devs[k]->slot == slot)
				return iommufd_refuse(ret_reason, SHIM_E_DEVICE_BUSY,
						      "%s: named twice", addresses[i]);
		r = iommufd_dev_new(ctx, slot, &devs[i]);
		if (r)
			return r;
	}
	return 0;
}

static int bind_error(const struct iommufd_dev *dev, int r, char *ret_reason)
{
	const char *address = dev->slot->info.address;

	switch (r) {
	case -EPERM:
		return iommufd_refuse(ret_reason, SHIM_E_REFUSED,
				      "%s: the kernel does not give it away: a companion of group "
				      "%u has a driver, or interrupts are not isolated",
				      address, dev->slot->info.group);
	case -EBUSY:
	case -EINVAL:
		return iommufd_refuse(ret_reason, SHIM_E_DEVICE_BUSY,
				      "%s: it is bound to another context still", address);
	case -ENODEV:
		return iommufd_refuse(ret_reason, SHIM_E_NO_DEVICE, "%s: it is gone", address);
	}
	return r;
}

static int bind_all(struct iommufd_dev *const *devs, size_t n, char *ret_reason)
{
	for (size_t i = 0; i < n; i++) {
		int r = iommufd_backend_of(devs[i]->ctx)->bind(devs[i]);

		if (r)
			return bind_error(devs[i], r, ret_reason);
		r = iommufd_hw_info_check(devs[i], ret_reason);
		if (r)
			return r;
	}
	return 0;
}

int iommufd_dev_bind(struct shim_ctx *base, const char *const *addresses, size_t n,
		     char *ret_reason, struct shim_dev **ret_devs)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	struct iommufd_shim *shim = iommufd_shim_of(base->shim);
	struct iommufd_dev *devs[KEEPER_DEVICES_MAX] = {0};
	char reason[KEEPER_REASON_MAX] = "";
	struct iommufd_debt *debts = NULL;
	int fds[KEEPER_DEVICES_MAX], r;

	if (!n)
		return 0;
	if (n > KEEPER_DEVICES_MAX)
		return iommufd_refuse(ret_reason, SHIM_E_LIMIT, "at most %d devices at once",
				      KEEPER_DEVICES_MAX);
	iommufd_pay_debts(shim);
	r = make_records(ctx, addresses, n, ret_reason, devs);
	if (r)
		goto fail;
	r = shim->sys.claim(shim->sys.user, ctx->id, addresses, n, reason, fds);
	if (r > 0)
		r = refuse_claim(ctx, r, reason, ret_reason);
	if (r)
		goto fail;
	for (size_t i = 0; i < n; i++) {
		devs[i]->fd = fds[i];
		SHIM_LIST_ADD(ctx->devices, devs[i]);
	}
	/* What has the context binds them by itself: a second bind is an error. */
	r = ctx->delegated ? 0 : bind_all(devs, n, ret_reason);
	if (r) {
		/* Nobody else has a descriptor but the keeper: closing both unbinds. */
		while (n--)
			iommufd_dev_close(devs[n], &debts);
		iommufd_give_back(shim, debts);
		return r;
	}
	for (size_t i = 0; i < n; i++)
		ret_devs[i] = &devs[i]->base;
	return 0;
fail:
	for (size_t i = 0; i < n && devs[i]; i++)
		iommufd_dev_free(devs[i]);
	return r;
}

void iommufd_dev_close(struct iommufd_dev *dev, struct iommufd_debt **debts)
{
	const struct iommufd_backend *backend = iommufd_backend_of(dev->ctx);
	const struct iommufd_sys *sys = iommufd_sys_of(dev->ctx);

	/* Somebody else may have its descriptor still: the vIOMMU must be able to end. */
	iommufd_vdevice_end(dev);
	if (backend->unbind)
		backend->unbind(dev);
	sys->close(sys->user, dev->fd);
	SHIM_LIST_REMOVE(dev->ctx->devices, dev);
	dev->debt->next = *debts;
	*debts = dev->debt;
	dev->debt = NULL;
	iommufd_dev_free(dev);
}

void iommufd_dev_release(struct shim_dev *base)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);
	struct iommufd_debt *debts = NULL;
	struct iommufd_shim *shim;

	if (!dev)
		return;
	shim = iommufd_shim_of(base->shim);
	iommufd_detach_all(dev);
	iommufd_dev_close(dev, &debts);
	iommufd_give_back(shim, debts);
}

int iommufd_dev_is_free(struct shim *base, const char *address)
{
	struct iommufd_shim *shim = iommufd_shim_of(base);
	int r;

	iommufd_pay_debts(shim);
	r = shim->sys.is_free(shim->sys.user, address);
	if (r == KEEPER_E_BUSY)
		return SHIM_E_DEVICE_BUSY;
	return r > 0 ? SHIM_E_NO_DEVICE : r;
}

int iommufd_dev_fd(struct shim_dev *base, int *ret_fd)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);
	const struct iommufd_sys *sys = iommufd_sys_of(dev->ctx);
	int fd;

	if (!iommufd_backend_of(dev->ctx)->has_fds)
		return SHIM_E_UNSUPPORTED;
	fd = sys->dup(sys->user, dev->fd);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}
