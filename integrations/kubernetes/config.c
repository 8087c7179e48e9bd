/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the configuration.  Every member is taken by a function that says where it is when
 * it is wrong; keys that nobody took are refused, so a misspelt limit is not no limit.
 */
#include "config.h"
#include "auto.h"
#include "file.h"
#include "integrations/json/json_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define TEXT_MAX       (4 << 20)
#define DEPTH_MAX      8
#define VALUES_MAX     200000
#define SECONDS_MAX    86400
#define SOCKET_SIZE    sizeof(((struct sockaddr_un *)NULL)->sun_path)
#define DOMAIN_MAX     253
#define LABEL_MAX      63
#define HEX	       "0123456789abcdef"
#define LOWER	       "abcdefghijklmnopqrstuvwxyz"
#define ALNUM	       LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define DEFAULT_FOLDER "/run/ioasid"

struct reader {
	char *problem;
	char where[160];
};

__attribute__((format(printf, 2, 3))) static int refuse(struct reader *in, const char *format, ...)
{
	int n = snprintf(in->problem, CONFIG_PROBLEM_SIZE, "%s%s", in->where,
			 in->where[0] ? ": " : "");
	va_list args;

	if (n < CONFIG_PROBLEM_SIZE) {
		va_start(args, format);
		vsnprintf(in->problem + n, CONFIG_PROBLEM_SIZE - n, format, args);
		va_end(args);
	}
	for (char *p = in->problem; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return CONFIG_E_INVALID;
}

/* Goes into a member; returns the length to which step_out() shortens again. */
__attribute__((format(printf, 2, 3))) static size_t step_in(struct reader *in, const char *format,
							    ...)
{
	size_t n = strlen(in->where);
	va_list args;

	va_start(args, format);
	vsnprintf(in->where + n, sizeof(in->where) - n, format, args);
	va_end(args);
	return n;
}

static void step_out(struct reader *in, size_t n)
{
	in->where[n] = '\0';
}

/* ---- values ---- */

static int read_text(struct reader *in, struct json_object *value, char **ret_text)
{
	const char *text;

	if (!json_object_is_type(value, json_type_string))
		return refuse(in, "expected a string");
	text = json_object_get_string(value);
	if (!text[0] || strlen(text) != (size_t)json_object_get_string_len(value))
		return refuse(in, "must not be empty or hold a NUL");
	free(*ret_text);
	*ret_text = strdup(text);
	return *ret_text ? 0 : -ENOMEM;
}

static int read_path(struct reader *in, struct json_object *value, size_t max, char **ret_path)
{
	int r = read_text(in, value, ret_path);
	char *path = *ret_path;
	size_t n;

	if (r)
		return r;
	n = strlen(path);
	if (path[0] != '/' || strstr(path, "//") || strstr(path, "/../") || strstr(path, "/./") ||
	    (n >= 3 && !strcmp(path + n - 3, "/..")) || n == 1 || path[n - 1] == '/')
		return refuse(in,
			      "\"%s\": must be an absolute path without '//', '.', '..' or a "
			      "slash at its end",
			      path);
	if (n >= max)
		return refuse(in, "is longer than %zu bytes", max - 1);
	return 0;
}

static int read_number(struct reader *in, struct json_object *value, uint64_t least, uint64_t most,
		       uint64_t *ret_number)
{
	uint64_t number;

	if (!json_object_is_type(value, json_type_int))
		return refuse(in, "expected a whole number");
	number = json_object_get_int64(value) < 0 ? UINT64_MAX : json_object_get_uint64(value);
	if (number < least || number > most)
		return refuse(in, "must be %llu to %llu", (unsigned long long)least,
			      (unsigned long long)most);
	*ret_number = number;
	return 0;
}

static int read_u32(struct reader *in, struct json_object *value, uint32_t least, uint32_t most,
		    uint32_t *ret_number)
{
	uint64_t number;
	int r = read_number(in, value, least, most, &number);

	if (!r)
		*ret_number = number;
	return r;
}

static int want_object(struct reader *in, struct json_object *value)
{
	return json_object_is_type(value, json_type_object) ? 0 : refuse(in, "expected an object");
}

/* A DNS label, as Kubernetes names namespaces. */
static bool is_label(const char *text, size_t n)
{
	if (!n || n > LABEL_MAX || text[0] == '-' || text[n - 1] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!strchr(LOWER "0123456789-", text[i]))
			return false;
	return true;
}

/* ---- namespaces ---- */

static bool is_tenant(const char *path)
{
	size_t n = 0, components = 1;

	for (const char *p = path; *p; p++) {
		if (*p == '/') {
			if (!n)
				return false;
			n = 0;
			components++;
			continue;
		}
		if (!strchr(n ? ALNUM "-_." : ALNUM, *p) || ++n > 63)
			return false;
	}
	return n && components <= 8 && strlen(path) <= 255;
}

static int read_namespace(struct reader *in, struct json_object *value, struct config_namespace *ns)
{
	int r = want_object(in, value);

	if (r)
		return r;
	json_object_object_foreach(value, key, member)
	{
		size_t before = step_in(in, ".%s", key);

		if (!strcmp(key, "tenant")) {
			r = read_text(in, member, &ns->tenant);
			if (!r && !is_tenant(ns->tenant))
				r = refuse(in, "\"%s\" is no path of a tenant", ns->tenant);
		} else if (!strcmp(key, "socket")) {
			r = read_path(in, member, SOCKET_SIZE, &ns->socket);
		} else {
			r = refuse(in, "unknown key (tenant, socket)");
		}
		if (r)
			return r;
		step_out(in, before);
	}
	if (!ns->tenant || !ns->socket)
		return refuse(in, "%s is missing", ns->tenant ? "socket" : "tenant");
	return 0;
}

static int read_namespaces(struct reader *in, struct json_object *value, struct config *config)
{
	int r = want_object(in, value);

	if (r)
		return r;
	if (json_object_object_length(value) > CONFIG_NAMESPACES_MAX)
		return refuse(in, "more than %d", CONFIG_NAMESPACES_MAX);
	config->namespaces =
		calloc(json_object_object_length(value) + 1, sizeof(*config->namespaces));
	if (!config->namespaces)
		return -ENOMEM;
	json_object_object_foreach(value, key, member)
	{
		struct config_namespace *ns = &config->namespaces[config->n_namespaces];
		size_t before = step_in(in, ".%s", key);

		if (!is_label(key, strlen(key)))
			return refuse(in, "no name of a namespace");
		ns->name = strdup(key);
		if (!ns->name)
			return -ENOMEM;
		config->n_namespaces++;
		r = read_namespace(in, member, ns);
		if (r)
			return r;
		step_out(in, before);
	}
	return 0;
}

/* ---- resources ---- */

/* "domain/name" as Kubernetes wants an extended resource to be. */
static bool is_resource_name(const char *name)
{
	const char *slash = strchr(name, '/'), *label = name;
	size_t n;

	if (!slash || slash - name > DOMAIN_MAX || strchr(slash + 1, '/'))
		return false;
	for (;;) {
		const char *end = strpbrk(label, "./");

		if (!is_label(label, end - label))
			return false;
		if (end == slash)
			break;
		label = end + 1;
	}
	n = strlen(slash + 1);
	return is_label(slash + 1, n) && n <= 40;
}

static bool is_address(const char *text)
{
	size_t n = strspn(text, HEX);
	const char *p = text + n;

	return n >= 4 && n <= 8 && p[0] == ':' && strspn(p + 1, HEX) == 2 && p[3] == ':' &&
	       strspn(p + 4, HEX) == 2 && p[6] == '.' && p[7] >= '0' && p[7] <= '7' && !p[8];
}

static bool is_vendor_device(const char *text)
{
	return strspn(text, HEX) == 4 && text[4] == ':' &&
	       (!strcmp(text + 5, "*") || (strspn(text + 5, HEX) == 4 && !text[9]));
}

static bool is_class(const char *text)
{
	size_t n = strlen(text);

	return strspn(text, HEX) == n && (n == 2 || n == 4 || n == 6);
}

static int read_addresses(struct reader *in, struct json_object *value,
			  struct config_resource *resource)
{
	size_t n;

	if (!json_object_is_type(value, json_type_array))
		return refuse(in, "expected a list");
	n = json_object_array_length(value);
	if (!n || n > CONFIG_ADDRESSES_MAX)
		return refuse(in, "must have 1 to %d addresses", CONFIG_ADDRESSES_MAX);
	resource->addresses = calloc(n, sizeof(*resource->addresses));
	if (!resource->addresses)
		return -ENOMEM;
	resource->n_addresses = n;
	for (size_t i = 0; i < n; i++) {
		size_t before = step_in(in, "[%zu]", i);
		int r = read_text(in, json_object_array_get_idx(value, i), &resource->addresses[i]);

		if (!r && !is_address(resource->addresses[i]))
			r = refuse(in, "\"%s\" is no address like 0000:3b:00.0",
				   resource->addresses[i]);
		if (r)
			return r;
		step_out(in, before);
	}
	return 0;
}

static int read_match(struct reader *in, struct json_object *value,
		      struct config_resource *resource)
{
	int r = want_object(in, value);

	if (r)
		return r;
	if (json_object_object_length(value) != 1)
		return refuse(in, "must have one of class, vendor_device, addresses");
	json_object_object_foreach(value, key, member)
	{
		size_t before = step_in(in, ".%s", key);

		if (!strcmp(key, "class")) {
			r = read_text(in, member, &resource->class_prefix);
			if (!r && !is_class(resource->class_prefix))
				r = refuse(in,
					   "must be 2, 4 or 6 hexadecimal digits in lower case");
		} else if (!strcmp(key, "vendor_device")) {
			r = read_text(in, member, &resource->vendor_device);
			if (!r && !is_vendor_device(resource->vendor_device))
				r = refuse(in, "must be like 8086:10fb or 8086:*, in lower case");
		} else if (!strcmp(key, "addresses")) {
			r = read_addresses(in, member, resource);
		} else {
			r = refuse(in, "unknown key (class, vendor_device, addresses)");
		}
		if (r)
			return r;
		step_out(in, before);
	}
	return 0;
}

static int read_resource_member(struct reader *in, const char *key, struct json_object *value,
				struct config_resource *resource)
{
	int r;

	if (!strcmp(key, "name")) {
		r = read_text(in, value, &resource->name);
		if (!r && !is_resource_name(resource->name))
			r = refuse(in,
				   "\"%s\": must be like ioasid.io/nic, in lower case, at most "
				   "40 bytes behind the slash",
				   resource->name);
		if (!r)
			resource->suffix = strchr(resource->name, '/') + 1;
		return r;
	}
	if (!strcmp(key, "ioas"))
		return read_u32(in, value, 1, CONFIG_IOAS_MAX, &resource->ioas);
	if (!strcmp(key, "match"))
		return read_match(in, value, resource);
	if (!strcmp(key, "container_path"))
		return read_path(in, value, 256, &resource->container_path);
	if (!strcmp(key, "max_ioasids"))
		return read_number(in, value, 1, UINT32_MAX, &resource->max_ioasids);
	if (!strcmp(key, "max_registered_bytes"))
		return read_number(in, value, 1, INT64_MAX, &resource->max_registered_bytes);
	return refuse(in, "unknown key (name, ioas, match, container_path, max_ioasids, "
			  "max_registered_bytes)");
}

static int read_resource(struct reader *in, struct json_object *value,
			 struct config_resource *resource)
{
	int r = want_object(in, value);

	if (r)
		return r;
	resource->max_ioasids = resource->max_registered_bytes = UINT64_MAX;
	json_object_object_foreach(value, key, member)
	{
		size_t before = step_in(in, ".%s", key);

		r = read_resource_member(in, key, member, resource);
		if (r)
			return r;
		step_out(in, before);
	}
	if (!resource->name)
		return refuse(in, "name is missing");
	if (!!resource->ioas ==
	    (resource->class_prefix || resource->vendor_device || resource->n_addresses))
		return refuse(in, "must have one of ioas and match");
	/* An id of such a resource is one address space. */
	if (resource->ioas && resource->max_ioasids == UINT64_MAX)
		resource->max_ioasids = 1;
	return 0;
}

/* Two folders of one container must not lie in each other. */
static bool paths_meet(const char *a, const char *b)
{
	size_t n = strlen(a);

	return !strncmp(a, b, n) && (b[n] == '\0' || b[n] == '/');
}

static int finish_resources(struct reader *in, struct config *config)
{
	for (size_t i = 0; i < config->n_resources; i++) {
		struct config_resource *resource = &config->resources[i];
		size_t before = step_in(in, "[%zu]", i);

		if (!resource->container_path &&
		    asprintf(&resource->container_path, "%s%s%s", DEFAULT_FOLDER, i ? "-" : "",
			     i ? resource->suffix : "") < 0) {
			resource->container_path = NULL;
			return -ENOMEM;
		}
		for (size_t k = 0; k < i; k++) {
			const struct config_resource *other = &config->resources[k];

			if (!strcmp(other->suffix, resource->suffix))
				return refuse(in, "name: resources[%zu] ends with \"%s\", too", k,
					      resource->suffix);
			if (paths_meet(other->container_path, resource->container_path) ||
			    paths_meet(resource->container_path, other->container_path))
				return refuse(in,
					      "container_path: \"%s\" and \"%s\" of resources[%zu] "
					      "lie in each other",
					      resource->container_path, other->container_path, k);
		}
		step_out(in, before);
	}
	return 0;
}

static int read_resources(struct reader *in, struct json_object *value, struct config *config)
{
	size_t n;
	int r;

	if (!json_object_is_type(value, json_type_array))
		return refuse(in, "expected a list");
	n = json_object_array_length(value);
	if (!n || n > CONFIG_RESOURCES_MAX)
		return refuse(in, "must have 1 to %d resources", CONFIG_RESOURCES_MAX);
	config->resources = calloc(n, sizeof(*config->resources));
	if (!config->resources)
		return -ENOMEM;
	config->n_resources = n;
	for (size_t i = 0; i < n; i++) {
		size_t before = step_in(in, "[%zu]", i);

		r = read_resource(in, json_object_array_get_idx(value, i), &config->resources[i]);
		if (r)
			return r;
		step_out(in, before);
	}
	return finish_resources(in, config);
}

/* ---- the whole ---- */

static bool is_cdi_kind(const char *kind)
{
	const char *slash = strchr(kind, '/');

	return slash && slash != kind && slash[1] && !strchr(slash + 1, '/') &&
	       strspn(kind, ALNUM "-_.") == (size_t)(slash - kind) &&
	       strspn(slash + 1, ALNUM "-_") == strlen(slash + 1);
}

static int read_member(struct reader *in, const char *key, struct json_object *value,
		       struct config *config)
{
	uint64_t number;
	int r;

	if (!strcmp(key, "version"))
		return read_number(in, value, 1, 1, &number);
	if (!strcmp(key, "broker"))
		return read_path(in, value, SOCKET_SIZE, &config->broker);
	if (!strcmp(key, "kubelet_dir"))
		/* Room for the names of sockets in it. */
		return read_path(in, value, SOCKET_SIZE - 54, &config->kubelet_dir);
	if (!strcmp(key, "pod_resources"))
		return read_path(in, value, SOCKET_SIZE, &config->pod_resources);
	if (!strcmp(key, "state_dir"))
		return read_path(in, value, 1024, &config->state_dir);
	if (!strcmp(key, "poll_seconds"))
		return read_u32(in, value, 1, SECONDS_MAX, &config->poll_seconds);
	if (!strcmp(key, "grace_seconds"))
		return read_u32(in, value, 0, SECONDS_MAX, &config->grace_seconds);
	if (!strcmp(key, "settle_seconds"))
		return read_u32(in, value, 0, SECONDS_MAX, &config->settle_seconds);
	if (!strcmp(key, "linger_seconds"))
		return read_u32(in, value, 1, SECONDS_MAX, &config->linger_seconds);
	if (!strcmp(key, "namespaces"))
		return read_namespaces(in, value, config);
	if (!strcmp(key, "resources"))
		return read_resources(in, value, config);
	if (!strcmp(key, "cdi")) {
		r = read_text(in, value, &config->cdi);
		if (!r && !is_cdi_kind(config->cdi))
			r = refuse(in, "\"%s\": must be VENDOR/CLASS", config->cdi);
		return r;
	}
	return refuse(in, "unknown key");
}

static int set_default(char **text, const char *value)
{
	if (!*text)
		*text = strdup(value);
	return *text ? 0 : -ENOMEM;
}

static int finish(struct reader *in, struct json_object *root, struct config *config)
{
	static const char *const needed[] = {"version", "namespaces", "resources"};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!json_object_object_get_ex(root, needed[i], NULL))
			return refuse(in, "%s is missing", needed[i]);
	if (config->linger_seconds / CONFIG_RENEWALS < config->poll_seconds)
		return refuse(in, "linger_seconds: must be at least %d times poll_seconds",
			      CONFIG_RENEWALS);
	if (set_default(&config->broker, "/run/ioasid/agents.sock") ||
	    set_default(&config->kubelet_dir, "/var/lib/kubelet/device-plugins") ||
	    set_default(&config->pod_resources, "/var/lib/kubelet/pod-resources/kubelet.sock") ||
	    set_default(&config->state_dir, "/run/ioasid-kubernetes"))
		return -ENOMEM;
	return 0;
}

static int read_root(struct reader *in, struct json_object *root, struct config *config)
{
	int r = want_object(in, root);

	if (r)
		return r;
	json_object_object_foreach(root, key, member)
	{
		size_t before = step_in(in, "%s", key);

		r = read_member(in, key, member, config);
		if (r)
			return r;
		step_out(in, before);
	}
	return finish(in, root, config);
}

int config_parse(const char *text, size_t length, struct config **ret_config,
		 char ret_problem[CONFIG_PROBLEM_SIZE])
{
	const struct json_text_limits limits = {
		.bytes_max = TEXT_MAX,
		.depth_max = DEPTH_MAX,
		.values_max = VALUES_MAX,
	};
	char problem[JSON_TEXT_PROBLEM_SIZE];
	AUTO_JSON struct json_object *root = NULL;
	struct reader in = {.problem = ret_problem};
	struct config *config;
	int r;

	ret_problem[0] = '\0';
	r = json_text_parse(text, length, &limits, &root, problem);
	if (r < 0)
		return r;
	if (r)
		return refuse(&in, "%s", problem);
	config = calloc(1, sizeof(*config));
	if (!config)
		return -ENOMEM;
	config->poll_seconds = 5;
	config->grace_seconds = 10;
	config->settle_seconds = 60;
	config->linger_seconds = SECONDS_MAX;
	r = read_root(&in, root, config);
	if (r) {
		config_free(config);
		return r;
	}
	*ret_config = config;
	return 0;
}

int config_load(const char *path, struct config **ret_config, char ret_problem[CONFIG_PROBLEM_SIZE])
{
	struct reader in = {.problem = ret_problem};
	AUTO_FREE char *text = NULL;
	size_t length;
	int r = file_read(AT_FDCWD, path, TEXT_MAX, &text, &length);

	if (r)
		return refuse(&in, "%s", strerror(-r));
	return config_parse(text, length, ret_config, ret_problem);
}

static void resource_deinit(struct config_resource *resource)
{
	free(resource->name);
	free(resource->container_path);
	free(resource->class_prefix);
	free(resource->vendor_device);
	for (size_t i = 0; i < resource->n_addresses; i++)
		free(resource->addresses[i]);
	free(resource->addresses);
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->n_namespaces; i++) {
		free(config->namespaces[i].name);
		free(config->namespaces[i].tenant);
		free(config->namespaces[i].socket);
	}
	for (size_t i = 0; i < config->n_resources; i++)
		resource_deinit(&config->resources[i]);
	free(config->namespaces);
	free(config->resources);
	free(config->broker);
	free(config->kubelet_dir);
	free(config->pod_resources);
	free(config->state_dir);
	free(config->cdi);
	free(config);
}

const struct config_namespace *config_find_namespace(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_namespaces; i++)
		if (!strcmp(config->namespaces[i].name, name))
			return &config->namespaces[i];
	return NULL;
}

int config_find_resource(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->n_resources; i++)
		if (!strcmp(config->resources[i].name, name))
			return i;
	return -1;
}
