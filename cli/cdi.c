/* SPDX-License-Identifier: Apache-2.0 */
/* See cdi.h.  Pure: looks at nothing of the host. */
#include "cdi.h"

#include "cli.h"
#include "doc.h"

#include <string.h>

#define HOOK_SECONDS 60

/* ---- names ---- */

static char *encode_tenant(const char *tenant)
{
	char *text = cli_alloc(2 * strlen(tenant) + 1), *to = text;

	for (; *tenant; tenant++) {
		if (*tenant == '-')
			*to++ = '-';
		*to++ = *tenant == '/' ? '-' : *tenant;
	}
	return text;
}

char *cdi_name(const char *tenant, const char *device)
{
	_cleanup_free_ char *encoded = encode_tenant(tenant);
	char *name = cli_printf("%s-%s", encoded, device);

	for (char *c = name; *c; c++)
		if (*c == ':')
			*c = '_';
	return name;
}

char *cdi_file_name(const char *tenant)
{
	_cleanup_free_ char *encoded = encode_tenant(tenant);

	return cli_printf("ioasid-%s.json", encoded);
}

/* ---- what a name does ---- */

static void add_text(struct json_object *list, const char *text)
{
	doc_put_text(list, NULL, text);
}

static struct json_object *hook(const struct cdi_maker *maker, const char *stage,
				const char *device)
{
	struct json_object *o = doc_object(), *args = doc_array();

	doc_put_text(o, "hookName", stage);
	doc_put_text(o, "path", maker->hook);
	add_text(args, "ioasid-oci-hook");
	add_text(args, stage);
	if (maker->hook_config) {
		add_text(args, "--config");
		add_text(args, maker->hook_config);
	}
	add_text(args, "--tenant");
	add_text(args, maker->tenant);
	add_text(args, "--device");
	add_text(args, device);
	doc_put(o, "args", args);
	doc_put_u64(o, "timeout", HOOK_SECONDS);
	return o;
}

/* Read and write, never mknod. */
static void add_node(struct json_object *edits, const char *path)
{
	struct json_object *list = doc_array(), *node = doc_object();

	doc_put_text(node, "path", path);
	doc_put_text(node, "permissions", "rw");
	doc_put(list, NULL, node);
	doc_put(edits, "deviceNodes", list);
}

static struct json_object *device_edits(const struct cdi_maker *maker,
					const struct cdi_device *device)
{
	struct json_object *edits = doc_object(), *hooks = doc_array();

	if (device->node)
		add_node(edits, device->node);
	doc_put(hooks, NULL, hook(maker, "createRuntime", device->address));
	doc_put(hooks, NULL, hook(maker, "poststop", device->address));
	doc_put(edits, "hooks", hooks);
	return edits;
}

static struct json_object *common_edits(void)
{
	struct json_object *edits = doc_object(), *env = doc_array();

	add_text(env, "IOASID_SOCKET=/run/ioasid/ioasid.sock");
	add_text(env, "IOASID_LEASE_FILE=/run/ioasid/lease.json");
	doc_put(edits, "env", env);
	return edits;
}

struct json_object *cdi_spec(const struct cdi_maker *maker, const struct cdi_device *devices,
			     size_t n)
{
	struct json_object *spec = doc_object(), *list = doc_array();

	doc_put_text(spec, "cdiVersion", "0.5.0");
	doc_put_text(spec, "kind", CDI_KIND);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *name = cdi_name(maker->tenant, devices[i].address);
		struct json_object *device = doc_object();

		doc_put_text(device, "name", name);
		doc_put(device, "containerEdits", device_edits(maker, &devices[i]));
		doc_put(list, NULL, device);
	}
	doc_put(spec, "devices", list);
	doc_put(spec, "containerEdits", common_edits());
	return spec;
}

/* ---- reading one back ---- */

static const char *argument(struct json_object *args, const char *option)
{
	for (size_t i = 0; i + 1 < json_object_array_length(args); i++) {
		const char *word = json_object_get_string(json_object_array_get_idx(args, i));

		if (word && !strcmp(word, option))
			return json_object_get_string(json_object_array_get_idx(args, i + 1));
	}
	return NULL;
}

bool cdi_device_of(struct json_object *device, const char **ret_tenant, const char **ret_address)
{
	struct json_object *hooks = doc_get(device, "containerEdits.hooks"), *args;
	const char *tenant, *address, *name = doc_get_text(device, "name");
	_cleanup_free_ char *expected = NULL;

	if (!json_object_is_type(hooks, json_type_array) || !json_object_array_length(hooks))
		return false;
	args = doc_get(json_object_array_get_idx(hooks, 0), "args");
	if (!json_object_is_type(args, json_type_array))
		return false;
	tenant = argument(args, "--tenant");
	address = argument(args, "--device");
	if (!tenant || !address || !name)
		return false;
	expected = cdi_name(tenant, address);
	if (strcmp(expected, name))
		return false;
	*ret_tenant = tenant;
	*ret_address = address;
	return true;
}

const char *cdi_node_in(struct json_object *spec, const char *tenant, const char *device)
{
	_cleanup_free_ char *name = cdi_name(tenant, device);
	struct json_object *devices = doc_get(spec, "devices"), *nodes;

	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *o = json_object_array_get_idx(devices, i);
		const char *its =
			json_object_is_type(o, json_type_object) ? doc_get_text(o, "name") : NULL;

		if (!its || strcmp(its, name))
			continue;
		nodes = doc_get(o, "containerEdits.deviceNodes");
		if (!json_object_is_type(nodes, json_type_array) ||
		    !json_object_array_length(nodes))
			return NULL;
		o = json_object_array_get_idx(nodes, 0);
		return json_object_is_type(o, json_type_object) ? doc_get_text(o, "path") : NULL;
	}
	return NULL;
}
