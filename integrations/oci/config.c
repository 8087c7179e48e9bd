/* SPDX-License-Identifier: Apache-2.0 */
/* See config.h.  Every entry is checked at each run, not only the one that is asked for. */
#include "integrations/oci/config.h"

#include "integrations/oci/fail.h"
#include "integrations/oci/strict.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define SIZE_LIMIT	    (4u << 20)
#define STATE_DIR	    "/run/ioasid-oci"
#define AGENTS_SOCKET	    "/run/ioasid/agents.sock"
#define TIMEOUT_SECONDS	    10
#define TIMEOUT_SECONDS_MAX 600

static int path_member(struct json_object *object, const char *what, const char *name,
		       bool required, const char **ret_path)
{
	const char *path = NULL;
	int r = strict_text(object, what, name, required, &path);

	if (r < 0)
		return r;
	if (path && path[0] != '/')
		return hook_fail(-EINVAL, "%s: %s: expected an absolute path", what, name);
	if (path)
		*ret_path = path;
	return 0;
}

static int check_tenant(const struct config *config, const char *tenant, struct json_object *entry)
{
	static const char *const names[] = {"socket", NULL};
	const char *socket = NULL;
	char what[512];
	int r;

	snprintf(what, sizeof(what), "%s: tenants.%s", config->path, tenant);
	if (!json_object_is_type(entry, json_type_object))
		return hook_fail(-EINVAL, "%s: expected an object", what);
	r = strict_only(entry, what, names);
	if (!r)
		r = path_member(entry, what, "socket", true, &socket);
	if (!r && strlen(socket) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		r = hook_fail(-EINVAL, "%s: socket: too long for a socket", what);
	/* Its folder is what the container gets to see. */
	if (!r && (strrchr(socket, '/') == socket || !strrchr(socket, '/')[1]))
		r = hook_fail(-EINVAL, "%s: socket: expected a socket in a folder of its own",
			      what);
	return r;
}

static int read_members(struct config *config)
{
	static const char *const names[] = {"socket", "state_dir", "timeout", "tenants", NULL};
	int64_t seconds = TIMEOUT_SECONDS;
	int r = strict_only(config->document, config->path, names);

	if (!r)
		r = path_member(config->document, config->path, "socket", false, &config->socket);
	if (!r)
		r = path_member(config->document, config->path, "state_dir", false,
				&config->state_dir);
	if (!r)
		r = strict_number(config->document, config->path, "timeout", false, 1,
				  TIMEOUT_SECONDS_MAX, &seconds);
	if (!r)
		r = strict_object(config->document, config->path, "tenants", true,
				  &config->tenants);
	if (r < 0)
		return r;
	config->timeout_ms = (uint32_t)seconds * 1000;
	json_object_object_foreach(config->tenants, tenant, entry)
	{
		r = check_tenant(config, tenant, entry);
		if (r < 0)
			return r;
	}
	return 0;
}

int config_read(const char *path, struct config *ret_config)
{
	struct config config = {
		.path = path,
		.socket = AGENTS_SOCKET,
		.state_dir = STATE_DIR,
	};
	int r = strict_read_file(AT_FDCWD, path, SIZE_LIMIT, path, &config.document);

	if (!r)
		r = read_members(&config);
	if (r < 0) {
		config_deinit(&config);
		return r;
	}
	*ret_config = config;
	return 0;
}

void config_deinit(struct config *config)
{
	json_object_put(config->document);
	config->document = NULL;
}

int config_tenant_socket(const struct config *config, const char *tenant, const char **ret_socket)
{
	struct json_object *entry;
	const char *what = config->path;

	if (!json_object_object_get_ex(config->tenants, tenant, &entry))
		return hook_fail(-ENOENT, "tenant %s: %s names no socket for it (tenants.%s)",
				 tenant, what, tenant);
	return strict_text(entry, what, "socket", true, ret_socket);
}
