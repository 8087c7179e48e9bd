/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cdi generate, list, remove: names by which container engines give out devices of a tenant
 * (podman --device, CRI).  The files are the host's, so whoever runs this needs to write there;
 * which devices a tenant may have is asked of the broker.
 */
#include "args.h"
#include "cdi.h"
#include "families.h"
#include "objects.h"
#include "session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CDI_DIR	    "/etc/cdi"
#define HOOK_PATH   "/usr/libexec/ioasid-oci-hook"
#define FILE_PREFIX "ioasid-"
#define FILE_SUFFIX ".json"
#define SPEC_BYTES  (16u << 20)

SESSION_CLEANUP(ioasid_device, ioasid_device_free)
SESSION_CLEANUP(ioasid_devices, ioasid_devices_free)
SESSION_CLEANUP(ioasid_server_status, ioasid_server_status_free)

static const struct cli_column list_columns[] = {
	{"name", "NAME"},   {"tenant", "TENANT"}, {"device", "DEVICE"},
	{"state", "STATE"}, {"file", "FILE"},	  {},
};
static const struct cli_section list_sections[] = {
	{"devices", NULL, list_columns, .empty = "no CDI name is there"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "name"};
static const struct cli_column name_columns[] = {{"name", "NAME"}, {"device", "DEVICE"}, {}};
static const struct cli_section generate_sections[] = {{"devices", NULL, name_columns}, {}};
static const struct cli_column generate_form[] = {{"file", "file"}, {}};
static const struct cli_view generate_view = {
	.form = generate_form,
	.sections = generate_sections,
	.id = "name",
};
static const struct cli_column file_columns[] = {{"file", "REMOVED"}, {}};
static const struct cli_section remove_sections[] = {
	{"files", NULL, file_columns, .empty = "nothing to remove"},
	{},
};
static const struct cli_view remove_view = {.sections = remove_sections, .id = "file"};

static const char *directory(const struct cli_args *args)
{
	return args_text(args, "dir", CDI_DIR);
}

/* ---- generate ---- */

/* --tenant, or the tenant that the caller is; free(). */
static int find_tenant(struct cli *cli, struct session_call *c, char **ret_tenant)
{
	_cleanup_with_(ioasid_server_status_free) struct ioasid_server_status *status = NULL;

	if (cli->tenant) {
		*ret_tenant = cli_strdup(cli->tenant);
		return CLI_OK;
	}
	if (ioasid_server_status(c->client, &c->scope, &status, &c->error) < 0)
		return session_fail(cli, c->error);
	if (strcmp(status->role, "tenant"))
		return cli_usage(cli, "--tenant: expected the tenant that the names are for");
	*ret_tenant = cli_strdup(status->tenant);
	return CLI_OK;
}

static bool is_wanted(const struct cli_args *args, const char *address)
{
	size_t n = args_count(args, "DEVICE");

	for (size_t i = 0; i < n; i++)
		if (!strcasecmp(args_at(args, "DEVICE", i)->text, address))
			return true;
	return !n;
}

/* Those of DEVICE... that the tenant may have, or all.  free() the array. */
static int choose(struct cli *cli, const struct cli_args *args,
		  const struct ioasid_devices *devices, const char ***ret_chosen, size_t *ret_n)
{
	const char **chosen = cli_alloc(devices->n * sizeof(*chosen));
	size_t n = 0;

	for (size_t i = 0; i < devices->n; i++)
		if (is_wanted(args, devices->items[i]->address))
			chosen[n++] = devices->items[i]->address;
	*ret_chosen = chosen;
	*ret_n = n;
	for (size_t i = 0; i < args_count(args, "DEVICE"); i++) {
		const char *address = args_at(args, "DEVICE", i)->text;
		size_t j = 0;

		while (j < n && strcasecmp(chosen[j], address))
			j++;
		if (j == n)
			return cli_fail(cli, CLI_NOT_FOUND, "NOT_FOUND", "LOCAL",
					"device %s: the tenant may not have it, or it is not there",
					address);
	}
	return n ? CLI_OK
		 : cli_fail(cli, CLI_NOT_FOUND, "NOT_FOUND", "LOCAL",
			    "there is no device that the tenant may have");
}

static void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* Beside, and renamed; engines look at names that end with .json. */
static int write_spec(struct cli *cli, const char *dir, const char *path, struct json_object *spec)
{
	const char *text = json_object_to_json_string_ext(
		spec,
		JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);
	_cleanup_free_ char *beside = cli_printf("%s/.ioasid-%d.new", dir, getpid());
	__attribute__((cleanup(closep))) int fd = -1;
	size_t n = text ? strlen(text) : 0;
	int error;

	if (!text)
		cli_oom();
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return cli_errno(cli, errno, "%s", dir);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return cli_errno(cli, errno, "%s", beside);
	errno = ENOSPC;
	if (write(fd, text, n) == (ssize_t)n && write(fd, "\n", 1) == 1 && !fsync(fd) &&
	    !rename(beside, path))
		return CLI_OK;
	error = errno;
	unlink(beside);
	return cli_errno(cli, error, "%s", path);
}

static int path_of(struct cli *cli, const char *dir, const char *tenant, char **ret_path)
{
	_cleanup_free_ char *name = cdi_file_name(tenant);

	if (strlen(name) > NAME_MAX)
		return cli_usage(cli, "--tenant: %s: too long for the name of a file", tenant);
	*ret_path = cli_printf("%s/%s", dir, name);
	return CLI_OK;
}

static int show_generated(struct cli *cli, const struct cdi_maker *maker, const char *path,
			  const char *const *devices, size_t n)
{
	struct json_object *document = doc_new("cdi-generate"), *list = doc_array();

	doc_put_text(document, "file", path);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *name = cdi_name(maker->tenant, devices[i]);
		_cleanup_free_ char *full = cli_printf(CDI_KIND "=%s", name);
		struct json_object *o = doc_object();

		doc_put_text(o, "name", full);
		doc_put_text(o, "device", devices[i]);
		doc_put(list, NULL, o);
	}
	doc_put(document, "devices", list);
	return cli_show(cli, document);
}

static int cdi_generate(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_devices_free) struct ioasid_devices *devices = NULL;
	_cleanup_free_ char *tenant = NULL, *path = NULL;
	_cleanup_free_ const char **chosen = NULL;
	_cleanup_json_ struct json_object *spec = NULL;
	_cleanup_call_ struct session_call c = {};
	struct cdi_maker maker = {
		.hook = args_text(args, "hook", HOOK_PATH),
		.hook_config = args_text(args, "hook-config", NULL),
		.sysfs = args_text(args, "sysfs", "/sys"),
	};
	size_t n = 0;
	int r;

	if (maker.hook[0] != '/' || (maker.hook_config && maker.hook_config[0] != '/'))
		return cli_usage(cli, "--hook, --hook-config: expected an absolute path");
	r = session_begin(cli, &c);
	if (!r)
		r = find_tenant(cli, &c, &tenant);
	if (!r)
		r = path_of(cli, directory(args), tenant, &path);
	if (r)
		return r;
	if (ioasid_device_list(c.client, &c.scope, false, &devices, &c.error) < 0)
		return session_fail(cli, c.error);
	r = choose(cli, args, devices, &chosen, &n);
	if (r)
		return r;
	maker.tenant = tenant;
	spec = cdi_spec(&maker, chosen, n);
	r = write_spec(cli, directory(args), path, spec);
	return r ?: show_generated(cli, &maker, path, chosen, n);
}

/* ---- list and remove ---- */

struct found {
	char **paths;
	size_t n;
};

static void found_deinit(struct found *found)
{
	for (size_t i = 0; i < found->n; i++)
		free(found->paths[i]);
	free(found->paths);
}
#define _cleanup_found_ __attribute__((cleanup(found_deinit)))

static bool is_file_name(const char *name)
{
	size_t n = strlen(name), end = strlen(FILE_SUFFIX);

	return !strncmp(name, FILE_PREFIX, strlen(FILE_PREFIX)) && n > end &&
	       !strcmp(name + n - end, FILE_SUFFIX);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The folder's files that may be ours, by name.  No folder: none. */
static int find_files(struct cli *cli, const char *dir, struct found *ret_found)
{
	DIR *folder = opendir(dir);
	struct found found = {};
	struct dirent *entry;

	if (!folder && errno != ENOENT)
		return cli_errno(cli, errno, "%s", dir);
	while (folder && (entry = readdir(folder))) {
		if (!is_file_name(entry->d_name))
			continue;
		found.paths = cli_grow(found.paths, (found.n + 1) * sizeof(*found.paths));
		found.paths[found.n++] = cli_printf("%s/%s", dir, entry->d_name);
	}
	if (folder)
		closedir(folder);
	if (found.n)
		qsort(found.paths, found.n, sizeof(*found.paths), by_text);
	*ret_found = found;
	return CLI_OK;
}

/* NULL: no file that this program made. */
static struct json_object *read_spec(const char *path)
{
	struct stat st;
	struct json_object *spec;
	const char *kind;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > SPEC_BYTES)
		return NULL;
	spec = json_object_from_file(path);
	kind = json_object_is_type(spec, json_type_object) ? doc_get_text(spec, "kind") : NULL;
	if (kind && !strcmp(kind, CDI_KIND) &&
	    json_object_is_type(doc_get(spec, "devices"), json_type_array))
		return spec;
	json_object_put(spec);
	return NULL;
}

/* Who is asked about devices; client NULL: nobody answers. */
struct inquiry {
	struct session_call call;
	bool agent;
};

/* A broker that does not answer, or not to this caller, makes states unknown and no failure. */
static void inquiry_begin(struct cli *cli, struct inquiry *inquiry)
{
	_cleanup_with_(ioasid_server_status_free) struct ioasid_server_status *status = NULL;

	if (session_begin(cli, &inquiry->call) ||
	    ioasid_server_status(inquiry->call.client, &inquiry->call.scope, &status, NULL) < 0) {
		cli_error_clear(cli);
		inquiry->call.client = NULL;
		return;
	}
	inquiry->agent = !strcmp(status->role, "agent");
}

static const char *state_of(struct inquiry *inquiry, const char *tenant, const char *address)
{
	_cleanup_with_(ioasid_device_free) struct ioasid_device *device = NULL;
	_cleanup_error_ struct ioasid_error *error = NULL;
	struct ioasid_scope scope = inquiry->call.scope;

	if (!inquiry->call.client)
		return "unknown";
	scope.tenant = inquiry->agent ? tenant : NULL;
	if (!ioasid_device_get(inquiry->call.client, &scope, address, &device, &error))
		return ioasid_device_state_name(device->state) ?: "unknown";
	return ioasid_error_is_not_found(error) ? "gone" : "unknown";
}

static void list_file(struct inquiry *inquiry, const char *path, struct json_object *list)
{
	_cleanup_json_ struct json_object *spec = read_spec(path);
	struct json_object *devices = spec ? doc_get(spec, "devices") : NULL;

	for (size_t i = 0; devices && i < json_object_array_length(devices); i++) {
		struct json_object *device = json_object_array_get_idx(devices, i), *o;
		const char *tenant, *address;

		if (!cdi_device_of(device, &tenant, &address))
			continue;
		o = doc_object();
		_cleanup_free_ char *full =
			cli_printf(CDI_KIND "=%s", doc_get_text(device, "name"));
		doc_put_text(o, "name", full);
		doc_put_text(o, "tenant", tenant);
		doc_put_text(o, "device", address);
		doc_put_text(o, "state", state_of(inquiry, tenant, address));
		doc_put_text(o, "file", path);
		doc_put(list, NULL, o);
	}
}

static int cdi_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_found_ struct found found = {};
	struct json_object *document, *list;
	struct inquiry inquiry = {};
	int r = find_files(cli, directory(args), &found);

	if (r)
		return r;
	list = doc_array();
	if (found.n)
		inquiry_begin(cli, &inquiry);
	for (size_t i = 0; i < found.n; i++)
		list_file(&inquiry, found.paths[i], list);
	session_call_deinit(&inquiry.call);
	document = doc_new("cdi-list");
	doc_put(document, "devices", list);
	return cli_show(cli, document);
}

static int remove_one(struct cli *cli, const char *path, struct json_object *removed)
{
	struct json_object *o;

	if (unlink(path) < 0)
		return errno == ENOENT ? cli_fail(cli, CLI_NOT_FOUND, "NOT_FOUND", "LOCAL",
						  "%s: not there", path)
				       : cli_errno(cli, errno, "%s", path);
	o = doc_object();
	doc_put_text(o, "file", path);
	doc_put(removed, NULL, o);
	return CLI_OK;
}

static int remove_all(struct cli *cli, const char *dir, struct json_object *removed)
{
	_cleanup_found_ struct found found = {};
	int r = find_files(cli, dir, &found);

	for (size_t i = 0; !r && i < found.n; i++) {
		_cleanup_json_ struct json_object *spec = read_spec(found.paths[i]);

		if (spec)
			r = remove_one(cli, found.paths[i], removed);
	}
	return r;
}

static int cdi_remove(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ struct json_object *removed = doc_array();
	_cleanup_free_ char *path = NULL;
	struct json_object *document;
	int r;

	if (!cli->tenant == !args_has(args, "all"))
		return cli_usage(cli, "cdi remove: expected either --tenant PATH or --all");
	if (cli->tenant) {
		r = path_of(cli, directory(args), cli->tenant, &path);
		if (!r)
			r = remove_one(cli, path, removed);
	} else {
		r = remove_all(cli, directory(args), removed);
	}
	if (r)
		return r;
	document = doc_new("cdi-remove");
	doc_put(document, "files", json_object_get(removed));
	return cli_show(cli, document);
}

/* ---- the rows ---- */

#define DIR_OPTION                                                                                 \
	{                                                                                          \
		"dir", CLI_FILE, .help = "folder of CDI files (" CDI_DIR ")"                       \
	}

static const struct cli_param generate_args[] = {
	{"DEVICE", CLI_DEVICE, CLI_REPEATED, .help = "only these (all that the tenant may have)"},
	{},
};
static const struct cli_param generate_options[] = {
	DIR_OPTION,
	{"hook", CLI_FILE, .help = "the hook that is called (" HOOK_PATH ")"},
	{"hook-config", CLI_FILE, .help = "its --config (its own default)"},
	{"sysfs", CLI_FILE, .help = "where VFIO nodes are looked up (/sys)"},
	{},
};
static const struct cli_param list_options[] = {DIR_OPTION, {}};
static const struct cli_param remove_options[] = {
	DIR_OPTION,
	{"all", CLI_FLAG, .help = "the files of every tenant"},
	{},
};

const struct cli_command cmd_cdi_generate = {
	.noun = "cdi",
	.verb = "generate",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent",
	.summary = "write the CDI file of a tenant (--tenant)",
	.help = "One name for each device, as ioasid.io/device=acme-web-0000_01_00.0; a container "
		"with several of them gets one lease with all the devices.  The file takes the "
		"place of the tenant's last one.",
	.example = "ioasidctl -s /run/ioasid/agents.sock -t acme/web cdi generate",
	.args = generate_args,
	.options = generate_options,
	.view = &generate_view,
	.run = cdi_generate,
};
const struct cli_command cmd_cdi_list = {
	.noun = "cdi",
	.verb = "list",
	.flags = CLI_OFFLINE | CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary = "list CDI names, and what their devices are now",
	.help = "The state is the device's, gone if it is not there any more or the tenant may not "
		"have it, unknown if the broker does not tell.",
	.options = list_options,
	.view = &list_view,
	.run = cdi_list,
};
const struct cli_command cmd_cdi_remove = {
	.noun = "cdi",
	.verb = "remove",
	.flags = CLI_OFFLINE | CLI_NO_LEASE,
	.roles = "whoever may write to the folder",
	.summary = "remove the CDI file of a tenant (--tenant), or all",
	.options = remove_options,
	.view = &remove_view,
	.run = cdi_remove,
};
