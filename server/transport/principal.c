/* SPDX-License-Identifier: Apache-2.0 */
/* Counts and rates at the door, by (listening socket, uid); see principal.h. */
#include "principal.h"

#include "listener.h"

#include <errno.h>
#include <grpc/grpc.h>
#include <pthread.h>
#include <stdlib.h>

#define N_BUCKETS 1024

struct principal {
	struct principal *next;
	size_t listener;
	uid_t uid;
	unsigned n_pending;
	unsigned n_open;
	/* Token bucket in microseconds of credit: one connection costs 1 s / rate. */
	uint64_t credit_us;
	uint64_t credited_at_us;
	uint64_t barred_until_us;
	unsigned n_offences;
	grpc_resource_quota *quota;
	size_t unsent; /* the state thread's, without the lock */
};

struct principal_table {
	pthread_mutex_t lock;
	struct principal_limits limits;
	unsigned n_open[LISTENERS_MAX];
	struct principal *buckets[N_BUCKETS];
};

/* A full bucket of credit. */
#define SECOND_US UINT64_C(1000000)
/* A bar is of a second, then of four times as long as the last, and so long at most. */
#define BAR_MAX_US (300 * SECOND_US)
/* Offences are forgotten so long after the last bar is over. */
#define BAR_MEMORY_US (600 * SECOND_US)

static struct principal **bucket_of(struct principal_table *table, size_t listener, uid_t uid)
{
	uint64_t hash = ((uint64_t)uid * LISTENERS_MAX + listener) * UINT64_C(0x9e3779b97f4a7c15);

	return &table->buckets[hash >> 54];
}

int principal_table_new(const struct principal_limits *limits, struct principal_table **ret_table)
{
	struct principal_table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&table->lock, NULL);
	table->limits = *limits;
	*ret_table = table;
	return 0;
}

static void principal_free(struct principal *principal)
{
	if (principal->quota)
		grpc_resource_quota_unref(principal->quota);
	free(principal);
}

void principal_table_free(struct principal_table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < N_BUCKETS; i++) {
		while (table->buckets[i]) {
			struct principal *principal = table->buckets[i];

			table->buckets[i] = principal->next;
			principal_free(principal);
		}
	}
	pthread_mutex_destroy(&table->lock);
	free(table);
}

static void principal_credit(struct principal *principal, uint64_t now_us)
{
	uint64_t credit = principal->credit_us + (now_us - principal->credited_at_us);

	principal->credit_us = credit < SECOND_US ? credit : SECOND_US;
	principal->credited_at_us = now_us;
}

static void principal_forgive(struct principal *principal, uint64_t now_us)
{
	if (principal->barred_until_us + BAR_MEMORY_US <= now_us)
		principal->n_offences = 0;
}

/*
 * Frees entries of the chain that have nothing open and their full credit.  An entry that
 * has not is kept: else closing before the next connect would reset the rate.
 */
static void bucket_sweep(struct principal **link, uint64_t now_us)
{
	while (*link) {
		struct principal *principal = *link;

		principal_credit(principal, now_us);
		principal_forgive(principal, now_us);
		if (principal->n_pending || principal->n_open || principal->credit_us < SECOND_US ||
		    principal->n_offences) {
			link = &principal->next;
			continue;
		}
		*link = principal->next;
		principal_free(principal);
	}
}

int principal_arrive(struct principal_table *table, size_t listener, uid_t uid, uint64_t now_us,
		     struct principal **ret_principal)
{
	struct principal **link, *principal;
	int r = 0;

	pthread_mutex_lock(&table->lock);
	bucket_sweep(bucket_of(table, listener, uid), now_us);
	for (link = bucket_of(table, listener, uid); *link; link = &(*link)->next)
		if ((*link)->uid == uid && (*link)->listener == listener)
			break;
	principal = *link;
	if (!principal) {
		principal = calloc(1, sizeof(*principal));
		if (!principal) {
			r = -ENOMEM;
			goto out;
		}
		principal->listener = listener;
		principal->uid = uid;
		principal->credit_us = SECOND_US;
		principal->credited_at_us = now_us;
		*link = principal;
	}
	if (principal->n_pending >= table->limits.pending)
		r = PRINCIPAL_E_LIMIT;
	else
		principal->n_pending++;
out:
	pthread_mutex_unlock(&table->lock);
	if (!r)
		*ret_principal = principal;
	return r;
}

void principal_leave_pending(struct principal_table *table, struct principal *principal,
			     uint64_t now_us)
{
	pthread_mutex_lock(&table->lock);
	principal->n_pending--;
	bucket_sweep(bucket_of(table, principal->listener, principal->uid), now_us);
	pthread_mutex_unlock(&table->lock);
}

int principal_promote(struct principal_table *table, struct principal *principal, uint64_t now_us,
		      uint64_t *ret_retry_us)
{
	uint64_t price = SECOND_US / table->limits.rate;
	int r = 0;

	pthread_mutex_lock(&table->lock);
	principal_credit(principal, now_us);
	if (principal->n_open >= table->limits.open) {
		r = PRINCIPAL_E_LIMIT;
	} else if (table->n_open[principal->listener] >= table->limits.open_listener) {
		r = PRINCIPAL_E_TOTAL;
	} else if (principal->barred_until_us > now_us) {
		r = PRINCIPAL_E_RATE;
		*ret_retry_us = principal->barred_until_us - now_us;
	} else if (principal->credit_us < price) {
		r = PRINCIPAL_E_RATE;
		*ret_retry_us = price - principal->credit_us;
	} else {
		principal->credit_us -= price;
		principal->n_pending--;
		principal->n_open++;
		table->n_open[principal->listener]++;
	}
	pthread_mutex_unlock(&table->lock);
	return r;
}

void principal_leave(struct principal_table *table, struct principal *principal, uint64_t now_us)
{
	pthread_mutex_lock(&table->lock);
	principal->n_open--;
	table->n_open[principal->listener]--;
	bucket_sweep(bucket_of(table, principal->listener, principal->uid), now_us);
	pthread_mutex_unlock(&table->lock);
}

grpc_resource_quota *principal_quota(struct principal_table *table, struct principal *principal)
{
	pthread_mutex_lock(&table->lock);
	if (!principal->quota) {
		principal->quota = grpc_resource_quota_create(NULL);
		if (principal->quota)
			grpc_resource_quota_resize(principal->quota, table->limits.memory);
	}
	pthread_mutex_unlock(&table->lock);
	return principal->quota;
}

void principal_bar(struct principal_table *table, struct principal *principal, uint64_t now_us)
{
	uint64_t bar = SECOND_US;

	pthread_mutex_lock(&table->lock);
	/* Several connections that are expelled together are one offence. */
	if (principal->barred_until_us <= now_us) {
		principal_forgive(principal, now_us);
		for (unsigned i = 0; i < principal->n_offences && bar < BAR_MAX_US; i++)
			bar *= 4;
		principal->n_offences++;
		principal->barred_until_us = now_us + (bar < BAR_MAX_US ? bar : BAR_MAX_US);
	}
	pthread_mutex_unlock(&table->lock);
}

size_t *principal_unsent(struct principal *principal)
{
	return &principal->unsent;
}
