/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cdi generate, list, remove: names by which container engines give out devices of a tenant
 * (podman --device, CRI).  The files are the host's, so whoever runs this needs to write there;
 * which devices a tenant may have is asked of the broker.
 */
#include "args.h"
#include "cdi.h"
#include "cdi_file.h"
#include "cdi_follow.h"
#include "families.h"
#include "objects.h"
#include "session.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where engines look.  The second is empty after a reboot, and goes before the first. */
#define CDI_DIR		 "/etc/cdi"
#define CDI_DIR_VOLATILE "/run/cdi"
#define HOOK_PATH	 "/usr/libexec/ioasid-oci-hook"
#define FILE_PREFIX	 "ioasid-"
#define FILE_SUFFIX	 ".json"
#define INTERVAL_SECONDS 5

SESSION_CLEANUP(ioasid_device, ioasid_device_free)
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
static const struct cli_column generate_form[] = {
	{"file", "file"},
	{"state", "state", .optional = true},
	{"count", "devices", .optional = true},
	{},
};
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

/* The folders that a command is about.  Their number. */
static size_t folders(const struct cli_args *args, const char *ret_folders[2])
{
	ret_folders[0] = args_text(args, "dir", CDI_DIR);
	ret_folders[1] = CDI_DIR_VOLATILE;
	return args_has(args, "dir") ? 1 : 2;
}

/* ---- generate ---- */

static int cdi_generate(struct cli *cli, const struct cli_args *args)
{
	bool follow = args_has(args, "watch");
	size_t n_wanted;
	_cleanup_free_ char **wanted = args_texts(args, "DEVICE", &n_wanted);
	const struct cdi_request request = {
		.maker =
			{
				.tenant = cli->tenant,
				.hook = args_text(args, "hook", HOOK_PATH),
				.hook_config = args_text(args, "hook-config", NULL),
			},
		.dir = args_text(args, "dir", follow ? CDI_DIR_VOLATILE : CDI_DIR),
		.wanted = wanted,
		.n_wanted = n_wanted,
		.sysfs = args_text(args, "sysfs", "/sys"),
		.dev = args_text(args, "dev", "/dev"),
		.interval_ms = 1000 * args_number(args, "interval", INTERVAL_SECONDS),
	};

	if (request.maker.hook[0] != '/' ||
	    (request.maker.hook_config && request.maker.hook_config[0] != '/'))
		return cli_usage(cli, "--hook, --hook-config: expected an absolute path");
	if (!follow && args_has(args, "interval"))
		return cli_usage(cli, "--interval: only with --watch");
	return follow ? cdi_generate_follow(cli, &request) : cdi_generate_once(cli, &request);
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

/* The folder's files that may be ours, by name, after those that were found.  No folder: none. */
static int find_files(struct cli *cli, const char *dir, struct found *found)
{
	DIR *folder = opendir(dir);
	size_t before = found->n;
	struct dirent *entry;

	if (!folder && errno != ENOENT)
		return cli_errno(cli, errno, "%s", dir);
	while (folder && (entry = readdir(folder))) {
		if (!is_file_name(entry->d_name))
			continue;
		found->paths = cli_grow(found->paths, (found->n + 1) * sizeof(*found->paths));
		found->paths[found->n++] = cli_printf("%s/%s", dir, entry->d_name);
	}
	if (folder)
		closedir(folder);
	if (found->n > before)
		qsort(found->paths + before, found->n - before, sizeof(*found->paths), by_text);
	return CLI_OK;
}

static int find_all(struct cli *cli, const struct cli_args *args, struct found *found)
{
	const char *dirs[2];
	size_t n = folders(args, dirs);
	int r = CLI_OK;

	for (size_t i = 0; !r && i < n; i++)
		r = find_files(cli, dirs[i], found);
	return r;
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
	_cleanup_json_ struct json_object *spec = cdi_file_read(path);
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
	int r = find_all(cli, args, &found);

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

/* Not while another process writes it: it would be back at once. */
static int remove_one(struct cli *cli, const char *path, struct json_object *removed)
{
	__attribute__((cleanup(cdi_file_deinit))) struct cdi_file file = CDI_FILE_NONE;
	const char *name = strrchr(path, '/') + 1;
	_cleanup_free_ char *dir = cli_printf("%.*s", (int)(name - 1 - path), path);
	bool changed;
	struct json_object *o;
	int r = cdi_file_init(cli, dir, name, &file);

	if (!r)
		r = cdi_file_remove(cli, &file, &changed);
	if (r || !changed)
		return r;
	o = doc_object();
	doc_put_text(o, "file", path);
	doc_put(removed, NULL, o);
	return CLI_OK;
}

static int remove_of_tenant(struct cli *cli, const struct cli_args *args,
			    struct json_object *removed)
{
	_cleanup_free_ char *name = cdi_file_name(cli->tenant);
	const char *dirs[2];
	size_t n = folders(args, dirs);
	int r = CLI_OK;

	for (size_t i = 0; !r && i < n; i++) {
		_cleanup_free_ char *path = cli_printf("%s/%s", dirs[i], name);
		struct stat st;

		if (!lstat(path, &st))
			r = remove_one(cli, path, removed);
		else if (errno != ENOENT)
			r = cli_errno(cli, errno, "%s", path);
	}
	if (r || json_object_array_length(removed))
		return r;
	return cli_fail(cli, CLI_NOT_FOUND, "NOT_FOUND", "LOCAL", "%s: not in %s%s%s", name,
			dirs[0], n > 1 ? " or " : "", n > 1 ? dirs[1] : "");
}

static int remove_all(struct cli *cli, const struct cli_args *args, struct json_object *removed)
{
	_cleanup_found_ struct found found = {};
	int r = find_all(cli, args, &found);

	for (size_t i = 0; !r && i < found.n; i++) {
		_cleanup_json_ struct json_object *spec = cdi_file_read(found.paths[i]);

		if (spec)
			r = remove_one(cli, found.paths[i], removed);
	}
	return r;
}

static int cdi_remove(struct cli *cli, const struct cli_args *args)
{
	_cleanup_json_ struct json_object *removed = doc_array();
	struct json_object *document;
	int r;

	if (!cli->tenant == !args_has(args, "all"))
		return cli_usage(cli, "cdi remove: expected either --tenant PATH or --all");
	r = cli->tenant ? remove_of_tenant(cli, args, removed) : remove_all(cli, args, removed);
	if (r)
		return r;
	document = doc_new("cdi-remove");
	doc_put(document, "files", json_object_get(removed));
	return cli_show(cli, document);
}

/* ---- the rows ---- */

static const struct cli_param generate_args[] = {
	{"DEVICE", CLI_DEVICE, CLI_REPEATED, .help = "only these (all that the tenant may have)"},
	{},
};
static const struct cli_param generate_options[] = {
	{"dir", CLI_FILE,
	 .help = "folder of CDI files (" CDI_DIR "; with --watch " CDI_DIR_VOLATILE ")"},
	{"watch", CLI_FLAG, .help = "stay, and write it again when something changes"},
	{"interval", CLI_UINT, .value = "SECONDS",
	 .help = "with --watch: look at least so often (5)", .min = 1, .max = 3600},
	{"hook", CLI_FILE, .help = "the hook that is called (" HOOK_PATH ")"},
	{"hook-config", CLI_FILE, .help = "its --config (its own default)"},
	{"sysfs", CLI_FILE, .help = "where a device's VFIO node is looked up (/sys)"},
	{"dev", CLI_FILE, .help = "where that node is (/dev)"},
	{},
};
#define DIRS_OPTION                                                                                \
	{                                                                                          \
		"dir", CLI_FILE,                                                                   \
			.help = "folder of CDI files (" CDI_DIR " and " CDI_DIR_VOLATILE ")"       \
	}
static const struct cli_param list_options[] = {DIRS_OPTION, {}};
static const struct cli_param remove_options[] = {
	DIRS_OPTION,
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
		"place of the tenant's last one.  With --watch it is written again whenever the "
		"tenant's devices or their VFIO nodes change, until SIGTERM, and stays then; a "
		"line says what was done.  Without a broker it stays as it is.  It is removed "
		"while "
		"the tenant may have no device.",
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
