/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread does one thing at a time, so a start and a release of the same id never meet.
 * The queue's lock is never held while anything is asked of others; the records' lock guards
 * against binder_owns() only, as nobody else changes them.
 */
#include "binder.h"

#include "deviceplugin.pb-c.h"
#include "grant.h"
#include "pods.h"
#include "say.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define JOBS_MAX 64
/* The kubelet may tell of a pod a moment later than it starts its container. */
#define POD_WAIT_US	UINT64_C(5000000)
#define POD_INTERVAL_US UINT64_C(250000)
#define MISSES		2

struct job {
	struct job *next;
	struct server_call *call;
	unsigned resource;
	struct record *record;
	uint64_t deadline_us;
	uint64_t try_us;
};

struct binder {
	struct binder_config c;
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct job *jobs;
	unsigned n_jobs;
	bool poked;
	bool stopping;

	pthread_mutex_t records_lock;
	struct record_table records;
	/* Said once, until it is good again. */
	bool pods_failed;
	bool renew_failed;
	/* Looks at the pods are poll_seconds apart: two in a row are two moments. */
	uint64_t pods_us;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * UINT64_C(1000000) + t.tv_nsec / 1000;
}

static void job_finish(struct job *job, grpc_status_code status, const char *message)
{
	const V1beta1__Empty empty = V1BETA1__EMPTY__INIT;

	server_finish(job->call, status, message, status == GRPC_STATUS_OK ? &empty.base : NULL);
	record_free(job->record);
	free(job);
}

/* ---- records ---- */

static void save(struct binder *binder)
{
	int r = records_save(&binder->records);

	if (r)
		say("the state cannot be written: %s", strerror(-r));
}

static void forget(struct binder *binder, struct record *record)
{
	int r = folder_remove(binder->c.folders, record->ids[0]);

	if (r)
		say("%s: its folder cannot be removed: %s", record->ids[0], strerror(-r));
	pthread_mutex_lock(&binder->records_lock);
	records_drop(&binder->records, record);
	pthread_mutex_unlock(&binder->records_lock);
	save(binder);
	binder->c.changed(binder->c.userdata);
}

/* The record is gone, or is left to be closed later. */
static int release(struct binder *binder, struct record *record, char problem[GRANT_PROBLEM_SIZE])
{
	int r;

	if (!record->closing) {
		record->closing = true;
		save(binder);
	}
	r = grant_close(binder->c.config->broker, record, problem);
	if (r)
		return r;
	say("%s/%s (%s): lease \"%s\" of tenant \"%s\" is closed", record->namespace, record->pod,
	    record->container, record->lease, record->tenant);
	forget(binder, record);
	return 0;
}

static bool records_meet(const struct record *a, const struct record *b)
{
	for (size_t i = 0; i < a->n_ids; i++)
		if (record_has_id(b, a->ids[i]))
			return true;
	return false;
}

/* ---- PreStartContainer ---- */

/* What a lease's name may hold of the name of something. */
static void append_name(char *name, size_t size, const char *text, size_t max)
{
	size_t at = strlen(name), end = at + max + 1;

	if (at + 1 < size)
		name[at++] = '.';
	for (; *text && at < end && at + 1 < size; text++)
		name[at++] = strchr("abcdefghijklmnopqrstuvwxyz0123456789-.", *text) ? *text : '_';
	name[at] = '\0';
}

/* Names for people; what makes the lease unique is random. */
static int name_lease(struct record *record)
{
	char random[9];
	int r = ioasid_key_make(record->key);

	if (r)
		return r;
	snprintf(random, sizeof(random), "%.8s", record->key);
	strcpy(record->lease, "k8s");
	append_name(record->lease, sizeof(record->lease), record->namespace, 40);
	append_name(record->lease, sizeof(record->lease), record->pod, 60);
	append_name(record->lease, sizeof(record->lease), random, 8);
	return 0;
}

static uint64_t times(uint64_t limit, size_t n)
{
	return limit > (UINT64_MAX - 1) / n ? UINT64_MAX : limit * n;
}

static int describe(const struct binder *binder, const struct job *job,
		    const struct pods_container *container, const struct config_namespace *ns)
{
	const struct config_resource *resource = &binder->c.config->resources[job->resource];
	struct record *record = job->record;

	record->tenant = strdup(ns->tenant);
	record->socket = strdup(ns->socket);
	record->namespace = strdup(container->namespace);
	record->pod = strdup(container->pod);
	record->container = strdup(container->container);
	record->max_ioasids = times(resource->max_ioasids, record->n_ids);
	record->max_registered_bytes = times(resource->max_registered_bytes, record->n_ids);
	record->linger_seconds = binder->c.config->linger_seconds;
	if (!record->tenant || !record->socket || !record->namespace || !record->pod ||
	    !record->container)
		return -ENOMEM;
	return name_lease(record);
}

static int open_folder(struct binder *binder, const struct record *record)
{
	char *text;
	int r = record_lease_text(record, &text);

	if (r)
		return r;
	r = folder_reset(binder->c.folders, record->ids[0]);
	if (!r)
		r = folder_fill(binder->c.folders, record->ids[0], record->socket, text,
				strlen(text));
	explicit_bzero(text, strlen(text));
	free(text);
	return r;
}

/* The record is the table's from here on; false: the problem says why the container must wait. */
static bool bind_ids(struct binder *binder, struct record *record, grpc_status_code *ret_status,
		     char problem[GRANT_PROBLEM_SIZE])
{
	char ignored[GRANT_PROBLEM_SIZE], text[GRANT_PROBLEM_SIZE] = "";
	int r;

	pthread_mutex_lock(&binder->records_lock);
	records_add(&binder->records, record);
	pthread_mutex_unlock(&binder->records_lock);
	r = records_save(&binder->records);
	if (r) {
		snprintf(problem, GRANT_PROBLEM_SIZE, "ioasid: the state cannot be written: %s",
			 strerror(-r));
		*ret_status = GRPC_STATUS_UNAVAILABLE;
		forget(binder, record);
		return false;
	}
	r = grant_open(binder->c.config->broker, record, text);
	if (r) {
		*ret_status = r > 0 ? GRPC_STATUS_FAILED_PRECONDITION : GRPC_STATUS_UNAVAILABLE;
		snprintf(problem, GRANT_PROBLEM_SIZE,
			 "ioasid: namespace \"%.63s\" is tenant \"%.255s\": %.600s",
			 record->namespace, record->tenant, text);
	} else {
		save(binder);
		r = open_folder(binder, record);
		if (r) {
			*ret_status = GRPC_STATUS_UNAVAILABLE;
			snprintf(problem, GRANT_PROBLEM_SIZE,
				 "ioasid: the socket %.107s of tenant \"%.255s\" cannot be given: "
				 "%s",
				 record->socket, record->tenant, strerror(-r));
		}
	}
	if (r) {
		(void)release(binder, record, ignored);
		return false;
	}
	say("%s/%s (%s): %s %s%s is lease \"%s\" of tenant \"%s\"", record->namespace, record->pod,
	    record->container, record->resource, record->ids[0], record->n_ids > 1 ? ", ..." : "",
	    record->lease, record->tenant);
	return true;
}

/* Leases of earlier containers. */
static int make_room(struct binder *binder, const struct record *record,
		     char problem[GRANT_PROBLEM_SIZE])
{
	char text[GRANT_PROBLEM_SIZE] = "";
	struct record *next;

	for (struct record *other = binder->records.first; other; other = next) {
		int r;

		next = other->next;
		if (!records_meet(record, other))
			continue;
		r = release(binder, other, text);
		if (r) {
			snprintf(problem, GRANT_PROBLEM_SIZE,
				 "ioasid: the last lease of id \"%.127s\" is still there: %.700s",
				 other->ids[0], text);
			return r;
		}
	}
	return 0;
}

/* False: the kubelet does not tell of the container yet. */
static bool find_container(struct binder *binder, struct job *job, struct pods *pods,
			   struct pods_container *ret_container, char problem[GRANT_PROBLEM_SIZE])
{
	const struct record *record = job->record;
	int r = pods_find(pods, record->resource, record->ids, record->n_ids, ret_container);

	if (!r)
		return true;
	snprintf(problem, GRANT_PROBLEM_SIZE,
		 "ioasid: the kubelet's PodResources name %s of %s %.127s",
		 r == PODS_E_NONE ? "no container" : "several pods as users", record->resource,
		 record->ids[0]);
	return false;
}

static void start_container(struct binder *binder, struct job *job,
			    const struct pods_container *container)
{
	const struct config_namespace *ns =
		config_find_namespace(binder->c.config, container->namespace);
	grpc_status_code status = GRPC_STATUS_OK;
	char problem[GRANT_PROBLEM_SIZE] = "";
	int r;

	if (!ns) {
		snprintf(
			problem, sizeof(problem),
			"ioasid: namespace \"%.63s\" has no tenant: it is not in \"namespaces\" of "
			"the device plugin's configuration on this node",
			container->namespace);
		status = GRPC_STATUS_PERMISSION_DENIED;
	} else if (make_room(binder, job->record, problem)) {
		status = GRPC_STATUS_UNAVAILABLE;
	} else {
		r = describe(binder, job, container, ns);
		if (r) {
			snprintf(problem, sizeof(problem), "ioasid: %s", strerror(-r));
			status = GRPC_STATUS_UNAVAILABLE;
		} else {
			struct record *record = job->record;

			job->record = NULL;
			(void)bind_ids(binder, record, &status, problem);
		}
	}
	if (status)
		say("%s/%s (%s): refused: %s", container->namespace, container->pod,
		    container->container, problem);
	binder->c.changed(binder->c.userdata);
	job_finish(job, status, problem);
}

/* False: to be tried again at job->try_us. */
static bool job_run(struct binder *binder, struct job *job)
{
	const struct config *config = binder->c.config;
	char why[UNARY_PROBLEM_SIZE], problem[GRANT_PROBLEM_SIZE] = "";
	struct pods_container container;
	struct pods *pods = NULL;
	bool found = false;
	int r;

	r = catalog_fill(binder->c.catalog, job->resource, job->record->ids, job->record->n_ids,
			 job->record, why);
	if (r) {
		snprintf(problem, sizeof(problem), "ioasid: %s: %s", job->record->resource,
			 r > 0 ? why : strerror(-r));
		job_finish(job, r > 0 ? GRPC_STATUS_NOT_FOUND : GRPC_STATUS_UNAVAILABLE, problem);
		return true;
	}
	r = pods_list(config->pod_resources, &pods, why);
	if (r)
		snprintf(problem, sizeof(problem),
			 "ioasid: the kubelet does not tell who this is: %s", why);
	else
		found = find_container(binder, job, pods, &container, problem);
	if (found) {
		start_container(binder, job, &container);
	} else if (now_us() >= job->deadline_us) {
		job_finish(job, GRPC_STATUS_UNAVAILABLE, problem);
		found = true;
	} else {
		job->try_us = now_us() + POD_INTERVAL_US;
	}
	pods_free(pods);
	return found;
}

/* ---- release ---- */

static void close_again(struct binder *binder)
{
	char problem[GRANT_PROBLEM_SIZE];
	struct record *next;

	for (struct record *record = binder->records.first; record; record = next) {
		next = record->next;
		/* One broker: if it is not there for this one, it is for none. */
		if ((record->closing || !record->has_secret) &&
		    release(binder, record, problem) < 0)
			return;
	}
}

static const struct ioasid_lease *find_lease(const struct ioasid_leases *leases,
					     const struct record *record)
{
	for (size_t i = 0; i < leases->n; i++)
		if (!leases->items[i]->closing && !strcmp(leases->items[i]->name, record->lease) &&
		    !strcmp(leases->items[i]->tenant, record->tenant))
			return leases->items[i];
	return NULL;
}

/*
 * A container may run for days without a program that holds its lease.  The broker gives such a
 * lease linger_seconds; this gives it as many again, until the container is known to be gone.
 */
static void keep_lease(struct binder *binder, struct record *record,
		       const struct ioasid_lease *lease)
{
	uint64_t every_us = record->linger_seconds * UINT64_C(1000000) / CONFIG_RENEWALS;
	char problem[GRANT_PROBLEM_SIZE];
	int r;

	if (lease->held) {
		record->held_us = now_us();
		return;
	}
	if (record->closing || !record->has_secret ||
	    (record->held_us && now_us() - record->held_us < every_us))
		return;
	r = grant_renew(record, problem);
	if (!r)
		record->held_us = now_us();
	else if (!binder->renew_failed)
		say("%s/%s (%s): its lease cannot be renewed and ends when no program has held it "
		    "for %" PRIu64 " seconds: %s",
		    record->namespace, record->pod, record->container, record->linger_seconds,
		    problem);
	binder->renew_failed = r;
}

/* Keeps the leases of records, forgets records whose leases ended at the broker; `tenant` is not
 * one of theirs: a copy. */
static int look_at_leases(struct binder *binder, const char *tenant)
{
	char problem[GRANT_PROBLEM_SIZE];
	struct ioasid_leases *leases;
	struct record *next;
	int r = grant_list(binder->c.config->broker, tenant, &leases, problem);

	/* A tenant that the policy no longer has. */
	if (r)
		return r < 0 ? r : 0;
	for (struct record *record = binder->records.first; record; record = next) {
		const struct ioasid_lease *lease = find_lease(leases, record);

		next = record->next;
		if (strcmp(record->tenant, tenant))
			continue;
		if (lease) {
			keep_lease(binder, record, lease);
			continue;
		}
		say("%s/%s (%s): lease \"%s\" has ended at the broker", record->namespace,
		    record->pod, record->container, record->lease);
		forget(binder, record);
	}
	ioasid_leases_free(leases);
	return 0;
}

static void look_at_tenants(struct binder *binder)
{
	const struct config *config = binder->c.config;

	for (size_t i = 0; i < config->n_namespaces; i++) {
		bool used = false, before = false;

		for (size_t k = 0; k < i; k++)
			before = before || !strcmp(config->namespaces[k].tenant,
						   config->namespaces[i].tenant);
		for (const struct record *r = binder->records.first; r; r = r->next)
			used = used || !strcmp(r->tenant, config->namespaces[i].tenant);
		if (used && !before && look_at_leases(binder, config->namespaces[i].tenant) < 0)
			return;
	}
}

/* A kubelet that has just started does not know all of its pods. */
static bool kubelet_is_settled(const struct config *config)
{
	char path[256];
	struct timespec now;
	struct stat st;

	snprintf(path, sizeof(path), "%s/kubelet.sock", config->kubelet_dir);
	if (lstat(path, &st) < 0)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec - st.st_ctim.tv_sec > (time_t)config->settle_seconds;
}

static void look_at_pods(struct binder *binder)
{
	char problem[GRANT_PROBLEM_SIZE], why[UNARY_PROBLEM_SIZE];
	struct record *next;
	struct pods *pods;
	int r;

	if (now_us() < binder->pods_us || !kubelet_is_settled(binder->c.config))
		return;
	binder->pods_us = now_us() + binder->c.config->poll_seconds * UINT64_C(1000000);
	r = pods_list(binder->c.config->pod_resources, &pods, why);
	if (r && !binder->pods_failed)
		say("pods cannot be looked at, nothing is released: %s", why);
	binder->pods_failed = r;
	if (r)
		return;
	for (struct record *record = binder->records.first; record; record = next) {
		const struct pods_container container = {record->namespace, record->pod,
							 record->container};

		next = record->next;
		record->missed = pods_has(pods, &container, record->resource, record->ids[0])
					 ? 0
					 : record->missed + 1;
		if (record->missed >= MISSES)
			(void)release(binder, record, problem);
	}
	pods_free(pods);
}

static void follow_sockets(struct binder *binder)
{
	for (const struct record *r = binder->records.first; r; r = r->next) {
		int error = r->closing ? 0 : folder_follow(binder->c.folders, r->ids[0], r->socket);

		/* While the broker is restarted its socket is not there. */
		if (error && error != -ENOENT)
			say("%s: the broker's new socket cannot be given: %s", r->ids[0],
			    strerror(-error));
	}
}

static void reconcile(struct binder *binder)
{
	if (!binder->records.first)
		return;
	close_again(binder);
	look_at_tenants(binder);
	look_at_pods(binder);
	follow_sockets(binder);
}

/* ---- the thread ---- */

/* Under the lock. */
static struct job *take_job(struct binder *binder, uint64_t now, uint64_t *next_us)
{
	for (struct job **at = &binder->jobs; *at; at = &(*at)->next) {
		struct job *job = *at;

		if (job->try_us <= now || binder->stopping) {
			*at = job->next;
			return job;
		}
		if (job->try_us < *next_us)
			*next_us = job->try_us;
	}
	return NULL;
}

/* Under the lock: in order of arrival. */
static void put_job(struct binder *binder, struct job *job)
{
	struct job **at = &binder->jobs;

	while (*at)
		at = &(*at)->next;
	job->next = NULL;
	*at = job;
}

static void run_one(struct binder *binder, struct job *job)
{
	bool stopping = binder->stopping, done;

	pthread_mutex_unlock(&binder->lock);
	if (stopping)
		job_finish(job, GRPC_STATUS_UNAVAILABLE, "ioasid: the device plugin is stopping");
	done = stopping || job_run(binder, job);
	pthread_mutex_lock(&binder->lock);
	if (done)
		binder->n_jobs--;
	else
		put_job(binder, job);
}

static void *run(void *argument)
{
	struct binder *binder = argument;
	uint64_t tick_us = 0;

	pthread_mutex_lock(&binder->lock);
	for (;;) {
		uint64_t now = now_us(), next_us = tick_us;
		struct job *job = take_job(binder, now, &next_us);
		struct timespec until;

		if (job) {
			run_one(binder, job);
		} else if (binder->stopping) {
			break;
		} else if (binder->poked || now >= tick_us) {
			binder->poked = false;
			pthread_mutex_unlock(&binder->lock);
			reconcile(binder);
			pthread_mutex_lock(&binder->lock);
			tick_us = now_us() + binder->c.config->poll_seconds * UINT64_C(1000000);
		} else {
			until.tv_sec = next_us / 1000000;
			until.tv_nsec = next_us % 1000000 * 1000;
			pthread_cond_timedwait(&binder->wake, &binder->lock, &until);
		}
	}
	pthread_mutex_unlock(&binder->lock);
	return NULL;
}

int binder_pre_start(struct binder *binder, struct server_call *call, unsigned resource,
		     char *const *ids, size_t n_ids)
{
	struct job *job = calloc(1, sizeof(*job));
	int r = -ENOMEM;

	if (!job)
		return r;
	job->call = call;
	job->resource = resource;
	job->deadline_us = now_us() + POD_WAIT_US;
	job->record = record_new();
	if (job->record) {
		job->record->resource = strdup(binder->c.config->resources[resource].name);
		r = job->record->resource ? record_set_ids(job->record, ids, n_ids) : -ENOMEM;
	}
	pthread_mutex_lock(&binder->lock);
	if (!r && (binder->n_jobs == JOBS_MAX || binder->stopping))
		r = -EBUSY;
	if (!r) {
		binder->n_jobs++;
		put_job(binder, job);
		pthread_cond_signal(&binder->wake);
	}
	pthread_mutex_unlock(&binder->lock);
	if (r) {
		record_free(job->record);
		free(job);
	}
	return r;
}

void binder_poke(struct binder *binder)
{
	pthread_mutex_lock(&binder->lock);
	binder->poked = true;
	pthread_cond_signal(&binder->wake);
	pthread_mutex_unlock(&binder->lock);
}

bool binder_owns(struct binder *binder, const char *address)
{
	bool owns = false;

	pthread_mutex_lock(&binder->records_lock);
	for (const struct record *r = binder->records.first; r && !owns; r = r->next)
		for (size_t i = 0; i < r->n_devices && !owns; i++)
			owns = !strcmp(r->devices[i], address);
	pthread_mutex_unlock(&binder->records_lock);
	return owns;
}

static bool is_bound(void *userdata, const char *id)
{
	const struct binder *binder = userdata;

	for (const struct record *r = binder->records.first; r; r = r->next)
		if (!strcmp(r->ids[0], id))
			return true;
	return false;
}

int binder_new(const struct binder_config *config, struct binder **ret_binder,
	       char problem[CONFIG_PROBLEM_SIZE])
{
	struct binder *binder = calloc(1, sizeof(*binder));
	pthread_condattr_t monotonic;
	int r;

	if (!binder)
		return -ENOMEM;
	binder->c = *config;
	pthread_mutex_init(&binder->lock, NULL);
	pthread_mutex_init(&binder->records_lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&binder->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	r = records_load(folders_state_fd(config->folders), &binder->records, problem);
	if (!r) {
		folders_sweep(config->folders, is_bound, binder);
		r = -pthread_create(&binder->thread, NULL, run, binder);
		binder->has_thread = !r;
	}
	if (r) {
		binder_free(binder);
		return r;
	}
	*ret_binder = binder;
	return 0;
}

void binder_stop(struct binder *binder)
{
	if (!binder)
		return;
	pthread_mutex_lock(&binder->lock);
	binder->stopping = true;
	pthread_cond_signal(&binder->wake);
	pthread_mutex_unlock(&binder->lock);
	if (binder->has_thread)
		pthread_join(binder->thread, NULL);
	binder->has_thread = false;
}

void binder_free(struct binder *binder)
{
	if (!binder)
		return;
	binder_stop(binder);
	records_clear(&binder->records);
	pthread_cond_destroy(&binder->wake);
	pthread_mutex_destroy(&binder->records_lock);
	pthread_mutex_destroy(&binder->lock);
	free(binder);
}
