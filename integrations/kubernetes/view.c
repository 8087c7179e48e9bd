/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client for all tenants; it reconnects by itself, and every call gives up soon, because
 * not being there is an answer here.
 */
#include "view.h"

#include "say.h"

#include <errno.h>
#include <ioasid.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_MS   5000
#define RECONNECT_MS 200

struct tenant_view {
	const char *path;
	struct ioasid_watch *watch;
	struct ioasid_devices *devices;
	/* The broker refuses this tenant; said once. */
	bool refused;
};

struct view {
	const struct config *config;
	bool (*owns)(void *userdata, const char *address);
	void *userdata;
	struct ioasid_client *client;
	bool alive;
	bool ever_alive;
	time_t alive_at;
	size_t n_tenants;
	struct tenant_view tenants[];
};

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

int view_new(const struct config *config, bool (*owns)(void *userdata, const char *address),
	     void *userdata, struct view **ret_view)
{
	struct view *view =
		calloc(1, sizeof(*view) + config->n_namespaces * sizeof(struct tenant_view));

	if (!view)
		return -ENOMEM;
	view->config = config;
	view->owns = owns;
	view->userdata = userdata;
	for (size_t i = 0; i < config->n_namespaces; i++) {
		bool known = false;

		for (size_t k = 0; k < view->n_tenants; k++)
			known = known ||
				!strcmp(view->tenants[k].path, config->namespaces[i].tenant);
		if (!known)
			view->tenants[view->n_tenants++].path = config->namespaces[i].tenant;
	}
	*ret_view = view;
	return 0;
}

void view_free(struct view *view)
{
	if (!view)
		return;
	for (size_t i = 0; i < view->n_tenants; i++) {
		ioasid_watch_close(view->tenants[i].watch);
		ioasid_devices_free(view->tenants[i].devices);
	}
	ioasid_client_unref(view->client);
	free(view);
}

size_t view_poll_fds(const struct view *view, struct pollfd *ret_fds)
{
	size_t n = 0;

	for (size_t i = 0; i < view->n_tenants && i < VIEW_WATCHES_MAX; i++)
		if (view->tenants[i].watch)
			ret_fds[n++] = (struct pollfd){
				.fd = ioasid_watch_fd(view->tenants[i].watch),
				.events = POLLIN,
			};
	return n;
}

/* Of a flood of events one look is enough; what is left is taken the next time. */
#define EVENTS_AT_ONCE 256

static bool tenant_events(struct tenant_view *tenant)
{
	struct ioasid_event *event;
	bool any = false;
	int r = 0;

	for (int i = 0; tenant->watch && i < EVENTS_AT_ONCE && !r; i++) {
		r = ioasid_watch_next_event(tenant->watch, 0, &event, NULL);
		if (!r) {
			ioasid_event_free(event);
			any = true;
		}
	}
	if (r && r != -EAGAIN) {
		tenant->watch = ioasid_watch_close(tenant->watch);
		any = true;
	}
	return any;
}

bool view_events(struct view *view)
{
	bool any = false;

	for (size_t i = 0; i < view->n_tenants; i++)
		any = tenant_events(&view->tenants[i]) || any;
	return any;
}

static void tenant_watch(struct view *view, struct tenant_view *tenant)
{
	static const enum ioasid_event_type types[] = {
		IOASID_EVENT_LEASE_CLOSED,   IOASID_EVENT_LEASE_REVOKED,
		IOASID_EVENT_DEVICE_CLAIMED, IOASID_EVENT_DEVICE_RELEASED,
		IOASID_EVENT_DEVICE_REMOVED, IOASID_EVENT_POLICY_RELOADED,
	};
	const struct ioasid_event_filter filter = {
		.n_types = sizeof(types) / sizeof(types[0]),
		.types = types,
	};
	const struct ioasid_scope scope = {
		.tenant = tenant->path,
		.timeout_ms = IOASID_NO_TIMEOUT,
	};

	/* Refused or without memory: the poll is there all the same. */
	(void)ioasid_watch_events(view->client, &scope, &filter, &tenant->watch, NULL);
}

/* -errno: the broker is not there. */
static int tenant_refresh(struct view *view, struct tenant_view *tenant)
{
	const struct ioasid_scope scope = {.tenant = tenant->path};
	struct ioasid_devices *devices;
	struct ioasid_error *error;
	int r = ioasid_device_list(view->client, &scope, false, &devices, &error);

	if (!r) {
		ioasid_devices_free(tenant->devices);
		tenant->devices = devices;
		tenant->refused = false;
		return 0;
	}
	if (error->origin == IOASID_ORIGIN_BROKER && !ioasid_error_is_retryable(error)) {
		if (!tenant->refused)
			say("tenant \"%s\": %s", tenant->path, error->message);
		tenant->refused = true;
		ioasid_devices_free(tenant->devices);
		tenant->devices = NULL;
		r = 0;
	} else if (view->alive || !view->ever_alive) {
		say("the broker does not answer: %s", error->message);
	}
	ioasid_error_free(error);
	return r;
}

static int view_connect(struct view *view)
{
	const struct ioasid_options options = {
		.timeout_ms = TIMEOUT_MS,
		.connect_timeout_ms = TIMEOUT_MS,
		.reconnect_ms = RECONNECT_MS,
	};
	struct ioasid_error *error;
	int r;

	if (view->client)
		return 0;
	r = ioasid_connect(view->config->broker, &options, &view->client, &error);
	if (r) {
		if (view->alive || !view->alive_at)
			say("no broker: %s", error->message);
		ioasid_error_free(error);
	}
	return r;
}

static void look(struct view *view)
{
	bool was_alive = view->alive;
	int r = view_connect(view);

	for (size_t i = 0; i < view->n_tenants && !r; i++) {
		r = tenant_refresh(view, &view->tenants[i]);
		if (!r && !view->tenants[i].watch && i < VIEW_WATCHES_MAX)
			tenant_watch(view, &view->tenants[i]);
	}
	view->alive = !r;
	if (!r || !view->alive_at)
		view->alive_at = now();
	if (!r)
		view->ever_alive = true;
	if (!r && !was_alive)
		say("the broker at %s answers", view->config->broker);
}

static bool is_usable(const struct view *view, const struct ioasid_device *device)
{
	switch (device->state) {
	case IOASID_DEVICE_FREE:
		return true;
	case IOASID_DEVICE_CLAIMED:
	case IOASID_DEVICE_UNAVAILABLE:
		return view->owns(view->userdata, device->address);
	default:
		return false;
	}
}

int view_refresh(struct view *view, struct inventory **ret_inventory)
{
	struct inventory_device *all;
	size_t n = 0, k = 0;
	bool healthy;
	int r;

	look(view);
	healthy = view->alive || (view->ever_alive &&
				  now() - view->alive_at < (time_t)view->config->grace_seconds);
	for (size_t i = 0; i < view->n_tenants; i++)
		n += view->tenants[i].devices ? view->tenants[i].devices->n : 0;
	all = calloc(n + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < view->n_tenants; i++)
		for (size_t m = 0; view->tenants[i].devices && m < view->tenants[i].devices->n;
		     m++) {
			const struct ioasid_device *device = view->tenants[i].devices->items[m];

			all[k++] = (struct inventory_device){
				device->address,
				device->vendor_device,
				device->class_code,
				device->group,
				device->numa_node,
				is_usable(view, device),
				device->hidden_members > 0,
			};
		}
	r = inventory_new(view->config, all, n, healthy, ret_inventory);
	free(all);
	return r;
}

bool view_is_alive(const struct view *view)
{
	return view->alive;
}
