/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The end of a restore: the record of a context is complete, and the kernel and the keeper are
 * made to agree with it.  In this order, each step for the next one's sake:
 *
 *	1. devices that are claimed and not recorded (a dev_bind() was cut short) go back;
 *	2. recorded devices are put where the record says (iommufd_reassert());
 *	3. where page requests are asked for, tables get a queue that somebody reads;
 *	4. objects that are not recorded are emptied and destroyed, and then what only they had
 *	   used.
 *
 * Which ids to try.  iommufd cannot list its objects, but gives the lowest id that is free.
 * When the broker was killed, at most one call was making objects in the context; everything
 * else there is recorded, or in use: a table that the kernel made by itself when a device was
 * attached to an IOAS, at most one a device (without PASIDs), and the devices of a claim under
 * way.  So what that call made cannot lie higher than all these and itself together, whatever
 * came and went before.  Strays from before, of calls that the kernel let down, may: they are
 * empty, attached to nothing, and end with the context.
 *
 * What is in use answers EBUSY and stays: devices, and the tables that the kernel made.
 */

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"

#include <errno.h>
#include <stdlib.h>

/* One call makes fewer objects, devices of a claim apart. */
#define OBJECTS_OF_A_CALL 8u
/* A table's own, its parent's view and its devices' vDEVICEs, before a restart and after it. */
#define OBJECTS_OF_AN_SMMUV3_TABLE 16u

/* Ids from 1 to last; the recorded ones are not to be touched. */
struct ids {
	uint32_t last;
	bool *known; /* [last + 1] */
};

/* ---- claims ---- */

/*
 * Ends DMA through the keeper's descriptor, if it is recorded nowhere why there is any.  What has
 * none is an object, and ends as one.
 */
static void detach_claimed(struct iommufd_ctx *ctx, const char *address)
{
	const struct iommufd_sys *sys = &iommufd_shim_of(ctx->base.shim)->sys;
	struct iommufd_dev dev = {.base.shim = ctx->base.shim, .ctx = ctx};

	if (!iommufd_backend_of(ctx)->has_fds)
		return;
	if (sys->devices_take(sys->user, ctx->id, &address, 1, &dev.fd))
		return;
	/* EINVAL: it was never bound. */
	(void)iommufd_backend_of(ctx)->detach(&dev, SHIM_NO_PASID);
	sys->close(sys->user, dev.fd);
}

static bool is_recorded(const struct iommufd_ctx *ctx, const char *address)
{
	for (const struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next)
		if (!strcmp(dev->slot->info.address, address))
			return true;
	return false;
}

static int owe_claim(struct iommufd_ctx *ctx, const char *address, struct iommufd_debt **debts)
{
	struct iommufd_debt *debt = calloc(1, sizeof(*debt));

	if (!debt)
		return -ENOMEM;
	debt->context = ctx->id;
	memcpy(debt->address, address, sizeof(debt->address));
	debt->next = *debts;
	*debts = debt;
	return 0;
}

/* All at once: the keeper gives a group back as a whole. */
int iommufd_end_claims(struct iommufd_ctx *ctx, size_t *ended)
{
	struct iommufd_shim *shim = iommufd_shim_of(ctx->base.shim);
	const struct iommufd_sys *sys = &shim->sys;
	char address[KEEPER_ADDRESS_MAX] = "";
	struct iommufd_debt *debts = NULL;
	int r;

	_Static_assert(KEEPER_ADDRESS_MAX == SHIM_NAME_MAX, "addresses are copied");
	while (!(r = sys->claim_next(sys->user, ctx->id, address, address))) {
		if (is_recorded(ctx, address))
			continue;
		detach_claimed(ctx, address);
		r = owe_claim(ctx, address, &debts);
		if (r)
			break;
		++*ended;
	}
	iommufd_give_back(shim, debts);
	if (r == KEEPER_E_NOT_FOUND)
		return 0;
	return r > 0 ? -EPROTO : r;
}

/* ---- objects ---- */

static void note_highest(uint32_t id, void *data)
{
	uint32_t *highest = data;

	if (id > *highest)
		*highest = id;
}

static void note_known(uint32_t id, void *data)
{
	((struct ids *)data)->known[id] = true;
}

static int ids_init(const struct iommufd_ctx *ctx, struct ids *ret_ids)
{
	struct ids ids = {.last = KEEPER_DEVICES_MAX * iommufd_backend_of(ctx)->objects +
				  OBJECTS_OF_A_CALL};
	uint32_t highest = 0;

	for (const struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next)
		ids.last++;
	/* What is made anew of it, beside what was there. */
	for (const struct iommufd_pt *pt = ctx->tables; pt; pt = pt->next)
		ids.last += pt->smmuv3 ? OBJECTS_OF_AN_SMMUV3_TABLE : 0;
	/* As many recorded objects as the highest id, at most. */
	iommufd_ids_each(ctx, note_highest, &highest);
	ids.last += highest;
	ids.known = calloc((size_t)ids.last + 1, sizeof(*ids.known));
	if (!ids.known)
		return -ENOMEM;
	iommufd_ids_each(ctx, note_known, &ids);
	*ret_ids = ids;
	return 0;
}

static int empty(struct iommufd_ctx *ctx, const struct ids *ids)
{
	for (uint32_t id = 1; id <= ids->last; id++) {
		int r = ids->known[id] ? 0 : iommufd_unmap_all(ctx, id);

		if (r)
			return r;
	}
	return 0;
}

/* Whether it is worth another pass: something ended, or failed without a reason. */
static bool destroy(struct iommufd_ctx *ctx, const struct ids *ids, size_t *ended)
{
	bool again = false;

	for (uint32_t id = ids->last; id; id--) {
		int r = ids->known[id] ? -EBUSY : iommufd_destroy(ctx, id);

		if (r == -ENOENT || r == -EBUSY)
			continue;
		again = true;
		if (!r)
			++*ended;
	}
	return again;
}

static int end_objects(struct iommufd_ctx *ctx, size_t *ended)
{
	struct ids ids;
	int r = ids_init(ctx, &ids);

	if (r)
		return r;
	r = empty(ctx, &ids);
	/* An IOAS is in use as long as its tables of hardware are there. */
	for (int i = 0; !r && i < IOMMUFD_TRIES && destroy(ctx, &ids, ended); i++)
		;
	free(ids.known);
	return r;
}

/*
 * Kind USER behind an SMMUv3: what the earlier broker made is unknown by now, and what was in no
 * use has ended.  All is made anew, the devices are moved, and then the rest ends, too.
 */
static int restored_smmuv3(struct iommufd_ctx *ctx, size_t *ended)
{
	bool any = false;
	int r;

	for (const struct iommufd_pt *pt = ctx->tables; pt; pt = pt->next)
		any |= pt->smmuv3;
	if (!any)
		return 0;
	r = iommufd_smmuv3_restored(ctx);
	if (!r)
		r = end_objects(ctx, ended);
	for (struct iommufd_pt *pt = ctx->tables; !r && pt; pt = pt->next)
		if (pt->n_children)
			iommufd_smmuv3_page_settle(pt);
	return r;
}

/*
 * Recorded, and in use by nobody that is recorded: a call that was cut short has used it, and what
 * it made there was a stray until now.
 */
static void settle_unused(struct iommufd_ctx *ctx)
{
	for (struct iommufd_pt *pt = ctx->tables; pt; pt = pt->next)
		for (struct iommufd_hwpt *hwpt = pt->hwpts, *next; hwpt; hwpt = next) {
			next = hwpt->next;
			iommufd_hwpt_settle(pt, hwpt);
		}
}

int iommufd_ctx_restored(struct shim_ctx *base, size_t *ret_strays)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	size_t ended = 0;
	int r = iommufd_end_claims(ctx, &ended);

	/* What is in it is its holder's. */
	if (ctx->delegated) {
		if (r)
			return r;
		ctx->restoring = false;
		*ret_strays = ended;
		return 0;
	}
	if (!r)
		r = iommufd_reassert(ctx);
	if (!r)
		r = iommufd_faults_renew(ctx);
	if (!r)
		r = end_objects(ctx, &ended);
	if (!r)
		r = restored_smmuv3(ctx, &ended);
	if (r)
		return r;
	settle_unused(ctx);
	ctx->restoring = false;
	*ret_strays = ended;
	return 0;
}
