/* SPDX-License-Identifier: Apache-2.0 */
/*
 * createRuntime: a lease, the devices, and both made visible in the container, in an order in
 * which an end at any point leaves nothing for good: the lease ends with the init, which the
 * runtime kills when a hook fails, and a folder without lease is removed by a later run.
 *
 * Called again for the same init (CDI: once for each device) it finds its own work and adds
 * what is missing.
 */
#include "integrations/oci/stages.h"

#include "integrations/oci/bundle.h"
#include "integrations/oci/config.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/init.h"
#include "integrations/oci/lease.h"
#include "integrations/oci/mount.h"
#include "integrations/oci/nodes.h"
#include "integrations/oci/scope.h"
#include "integrations/oci/state.h"

#include <errno.h>
#include <string.h>

struct create {
	const struct config *config;
	const struct state *state;
	struct ask *ask;
	struct bundle bundle;
	struct init init;
	struct folder folder;
	struct record record;
	struct ioasid_client *client;
	const char *tenant_socket;
};

static bool is_of(const struct record *record, const struct state *state)
{
	return !strcmp(record->id, state->id) && !strcmp(record->bundle, state->bundle);
}

/* The record of an earlier container with this id and bundle, whose poststop never came. */
static int end_last(struct create *c)
{
	int r = 0;

	if (init_lives(c->record.pid, c->record.started))
		return hook_fail(-EEXIST,
				 "a container with this id and bundle still runs, its "
				 "init is process %d",
				 c->record.pid);
	if (c->record.has_secret)
		r = lease_end(c->client, c->folder.name, &c->record);
	record_deinit(&c->record);
	return r;
}

static int new_record(struct create *c)
{
	c->record = (struct record){
		.id = strdup(c->state->id),
		.bundle = strdup(c->state->bundle),
		.pid = c->init.pid,
		.started = c->init.started,
	};
	ask_init(&c->record.ask);
	strcpy(c->record.ask.tenant, c->ask->tenant);
	if (!c->record.id || !c->record.bundle)
		return hook_fail(-ENOMEM, "out of memory");
	return folder_write(&c->folder, &c->record);
}

/* What an earlier run left of this name is this container's, the last one's, or not ours. */
static int find_record(struct create *c)
{
	int r = folder_read(&c->folder, &c->record);

	if (r == -ENOENT)
		return new_record(c);
	if (r < 0)
		return r;
	if (!is_of(&c->record, c->state))
		return hook_fail(-EEXIST,
				 "the container \"%s\" of %s has the same lease name; choose "
				 "another id",
				 c->record.id, c->record.bundle);
	if (c->record.pid != c->init.pid || c->record.started != c->init.started) {
		r = end_last(c);
		return r < 0 ? r : new_record(c);
	}
	return ask_add_tenant(c->ask, "an earlier call of the hook", c->record.ask.tenant);
}

static int show(struct create *c)
{
	_cleanup_free_ char *socket_folder = strdup(c->tenant_socket);
	_cleanup_fd_ int container = -1;
	int r;

	if (!socket_folder)
		return hook_fail(-ENOMEM, "out of memory");
	*strrchr(socket_folder, '/') = '\0';
	r = folder_write_container(&c->folder, &c->record, c->tenant_socket, &container);
	if (r < 0)
		return r;
	return mount_into(c->init.mount_ns, c->bundle.rootfs, container, socket_folder);
}

/* A refused start leaves nothing behind; what cannot be ended now ends with the init. */
static void undo(struct create *c)
{
	if (c->client && c->record.has_secret)
		lease_end(c->client, c->folder.name, &c->record);
	folder_remove(&c->folder);
}

static int do_all(struct create *c)
{
	int r = lease_connect(c->config, &c->client);

	if (!r)
		r = find_record(c);
	if (r < 0) {
		/* A record may be another's and is left alone; a folder without one is ours. */
		if (folder_is_new(&c->folder))
			folder_remove(&c->folder);
		return r;
	}
	r = lease_take(c->client, c->config, c->folder.name, &c->init, c->ask, &c->record);
	if (!r)
		r = folder_write(&c->folder, &c->record);
	if (!r)
		r = lease_claim(c->client, c->folder.name, c->ask, &c->record);
	if (!r)
		r = folder_write(&c->folder, &c->record);
	/* Numbers of nodes are those of their devices for as long as these are claimed. */
	if (!r)
		r = nodes_check(&c->bundle, c->ask, "/sys");
	if (!r)
		r = show(c);
	if (r < 0)
		undo(c);
	return r;
}

static int begin(struct create *c, const char *stage)
{
	char name[NAMES_LEASE_SIZE];
	int r = ask_add_annotations(c->ask, c->state);

	if (!r)
		r = bundle_read(c->state->bundle, &c->bundle);
	if (!r)
		r = bundle_add_hooks(&c->bundle, stage, c->ask);
	if (!r)
		r = ask_check(c->ask);
	if (r < 0 || !c->ask->tenant[0])
		return r;
	if (!c->state->pid)
		return hook_fail(-EINVAL, "state on stdin: pid: missing or 0");
	r = config_tenant_socket(c->config, c->ask->tenant, &c->tenant_socket);
	if (!r)
		r = init_open(c->state->pid, &c->init);
	names_lease(c->state->id, c->state->bundle, name);
	if (!r)
		r = folder_open(c->config, name, true, false, &c->folder);
	return r;
}

int create_run(const struct config *config, const struct state *state, const char *stage,
	       struct ask *asked)
{
	struct create c = {
		.config = config,
		.state = state,
		.ask = asked,
		.init = INIT_NONE,
		.folder = FOLDER_NONE,
	};
	int r = begin(&c, stage);

	if (!r && asked->tenant[0])
		r = do_all(&c);
	if (!r && c.client)
		clean_run(config, c.client, c.folder.name);
	record_deinit(&c.record);
	ioasid_client_unref(c.client);
	folder_close(&c.folder);
	init_close(&c.init);
	bundle_deinit(&c.bundle);
	return r;
}
