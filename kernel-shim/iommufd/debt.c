/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Debts: devices and contexts that the keeper could not be told to take back, because it was
 * not there.  The caller of a release cannot do anything about that, so it is done later: at
 * the next call that needs the keeper anyway.  Until then the device is not free.
 */

#include "iommufd/internal.h"

#include <stdlib.h>

static int pay(struct iommufd_shim *shim, const struct iommufd_debt *debt)
{
	const char *address = debt->address;
	int r;

	if (address[0])
		r = shim->sys.release(shim->sys.user, debt->context, &address, 1);
	else
		r = shim->sys.context_close(shim->sys.user, debt->context);
	/* A keeper that knows nothing of it has nothing to take back. */
	return r == KEEPER_E_NOT_FOUND ? 0 : r;
}

static void owe(struct iommufd_shim *shim, struct iommufd_debt *debt)
{
	pthread_mutex_lock(&shim->lock);
	debt->next = shim->debts;
	shim->debts = debt;
	pthread_mutex_unlock(&shim->lock);
}

/* Devices of one context in one call: the keeper sees a group whole.  Whether it was done. */
static bool pay_together(struct iommufd_shim *shim, const struct iommufd_debt *debts)
{
	struct keeper_context_id context = debts->context;
	const char *addresses[KEEPER_DEVICES_MAX];
	size_t n = 0;

	for (; debts; debts = debts->next) {
		if (n == KEEPER_DEVICES_MAX || !debts->address[0] ||
		    debts->context.value != context.value)
			return false;
		addresses[n++] = debts->address;
	}
	return n > 1 && !shim->sys.release(shim->sys.user, context, addresses, n);
}

void iommufd_give_back(struct iommufd_shim *shim, struct iommufd_debt *debts)
{
	bool paid = debts && pay_together(shim, debts);
	struct iommufd_debt *debt;

	while ((debt = debts)) {
		debts = debt->next;
		if (paid || !pay(shim, debt))
			free(debt);
		else
			owe(shim, debt);
	}
}

void iommufd_pay_debts(struct iommufd_shim *shim)
{
	struct iommufd_debt *debts, *debt;

	pthread_mutex_lock(&shim->lock);
	debts = shim->debts;
	shim->debts = NULL;
	pthread_mutex_unlock(&shim->lock);
	while ((debt = debts)) {
		debts = debt->next;
		debt->next = NULL;
		iommufd_give_back(shim, debt);
	}
}

void iommufd_forget_debts(struct iommufd_shim *shim)
{
	struct iommufd_debt *debt;

	iommufd_pay_debts(shim);
	while ((debt = shim->debts)) {
		shim->debts = debt->next;
		free(debt);
	}
}
