/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device list, show, claim, release, fd: which devices there are, what they can do with their
 * IOMMU, taking them into a lease, and a program that drives one.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

SESSION_CLEANUP(ioasid_device, ioasid_device_free)
SESSION_CLEANUP(ioasid_devices, ioasid_devices_free)

static const struct cli_column list_columns[] = {
	{"device", "DEVICE"},
	{"state", "STATE"},
	{"vendor_device", "ID"},
	{"class", "CLASS"},
	{"iommu", "IOMMU"},
	{"group", "GROUP"},
	{"group_members", "TOGETHER WITH"},
	{"lease", "LEASE", .optional = true},
	{"tenant", "TENANT", .optional = true},
	{},
};
static const struct cli_section list_sections[] = {
	{"devices", NULL, list_columns, .empty = "no device that this caller may use"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "device"};

static const struct cli_column show_form[] = {
	{"device", "device"},
	{"state", "state"},
	{"vendor_device", "vendor:device"},
	{"class", "class"},
	{"iommu", "IOMMU"},
	{"group", "group"},
	{"group_members", "together with"},
	{"hidden_members", "and devices not to be had", .optional = true},
	{"numa_node", "NUMA node"},
	{"driver", "host's driver", .optional = true},
	{"lease", "lease", .optional = true},
	{"tenant", "tenant", .optional = true},
	{"capabilities.pasid_bits", "PASID bits"},
	{"capabilities.max_depth", "nesting depth"},
	{"capabilities.recoverable_faults", "page requests"},
	{"capabilities.dirty_tracking", "dirty tracking"},
	{"capabilities.snoop_control", "snoop control"},
	{"capabilities.device_tlb", "device TLB"},
	{"capabilities.invalidations", "invalidations"},
	{},
};
static const struct cli_column format_columns[] = {
	{"format", "FORMAT"},
	{"input_bits", "IN"},
	{"output_bits", "OUT"},
	{"page_sizes", "PAGES", RENDER_SIZES},
	{"access_dirty", "A/D", RENDER_BOOL},
	{"execute", "EXEC", RENDER_BOOL},
	{"nest_child", "CHILD", RENDER_BOOL},
	{"table_bits_least", "FROM", .optional = true},
	{"nest_parent", "PARENT", RENDER_BOOL},
	{"tenant_only", "TENANT'S", RENDER_BOOL},
	{},
};
static const struct cli_column kind_columns[] = {
	{"kind", "KIND"},
	{"supported", "SUPPORTED", RENDER_BOOL},
	{"reason", "REASON", .optional = true},
	{},
};
static const struct cli_column range_columns[] = {
	{"start", "RESERVED FROM"},
	{"last", "TO"},
	{"use", "FOR"},
	{},
};
static const struct cli_column absent_columns[] = {
	{"feature", "ABSENT"},
	{"reason", "REASON"},
	{},
};
static const struct cli_section show_sections[] = {
	{"capabilities.formats", NULL, format_columns},
	{"capabilities.kinds", NULL, kind_columns},
	{"capabilities.absent", NULL, absent_columns},
	{"capabilities.reserved", NULL, range_columns},
	{},
};
static const struct cli_view show_view = {
	.form = show_form,
	.sections = show_sections,
	.id = "device",
};

static struct json_object *devices_document(const char *type, const struct ioasid_devices *devices)
{
	struct json_object *document = doc_new(type), *list = doc_array();

	for (size_t i = 0; i < devices->n; i++)
		doc_put(list, NULL, object_device(devices->items[i]));
	doc_put(document, "devices", list);
	return document;
}

static int device_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_devices_free) struct ioasid_devices *devices = NULL;
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_device_list(c.client, &c.scope, args_has(args, "capabilities"), &devices,
			       &c.error) < 0)
		return session_fail(cli, c.error);
	return cli_show(cli, devices_document("device-list", devices));
}

static int device_show(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_device_free) struct ioasid_device *device = NULL;
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_device_get(c.client, &c.scope, args_text(args, "DEVICE", NULL), &device,
			      &c.error) < 0)
		return session_fail(cli, c.error);
	return cli_show(cli, doc_of("device", object_device(device)));
}

static int device_claim(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_devices_free) struct ioasid_devices *devices = NULL;
	_cleanup_call_ struct session_call c = {};
	size_t n;
	_cleanup_free_ char **names = args_texts(args, "DEVICE", &n);
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_claim(c.client, &c.scope, (const char *const *)names, n, &devices, &c.error) < 0)
		return session_fail(cli, c.error);
	return cli_show(cli, devices_document("device-claim", devices));
}

static int device_release(struct cli *cli, const struct cli_args *args)
{
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	size_t n;
	_cleanup_free_ char **names = args_texts(args, "DEVICE", &n);
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_release(c.client, &c.scope, (const char *const *)names, n, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("device-release");
	doc_put(document, "released", object_texts((const char *const *)names, n));
	return cli_show(cli, document);
}

/* SIGPIPE is as this process got it; what ioasidctl ignores for itself is no program's business. */
static int spawn(const struct cli *cli, char **argv, char **environment, pid_t *ret_pid)
{
	posix_spawnattr_t attributes;
	sigset_t defaults;
	int r = posix_spawnattr_init(&attributes);

	if (r)
		return r;
	sigemptyset(&defaults);
	if (!cli->sigpipe_was_ignored)
		sigaddset(&defaults, SIGPIPE);
	r = posix_spawnattr_setsigdefault(&attributes, &defaults);
	r = r ?: posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
	r = r ?: posix_spawnp(ret_pid, argv[0], NULL, &attributes, argv, environment);
	posix_spawnattr_destroy(&attributes);
	return r;
}

/*
 * Runs a program that inherits the device's fd, and waits: a connection lease would end with
 * this process.
 */
static int run_with_fd(struct cli *cli, char **argv, int fd)
{
	_cleanup_free_ char *number = cli_printf("IOASID_DEVICE_FD=%d", fd);
	_cleanup_free_ char **environment = NULL;
	int r = cli_flush(cli), status;
	size_t n = 0, kept = 0;
	pid_t pid;

	if (r)
		return r;
	while (environ[n])
		n++;
	environment = cli_alloc((n + 2) * sizeof(*environment));
	/* setenv() is not for a process with threads, and gRPC has some. */
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "IOASID_DEVICE_FD=", 17) != 0 &&
		    !(cli->grpc_is_quiet && !strncmp(environ[i], "GRPC_VERBOSITY=", 15)))
			environment[kept++] = environ[i];
	environment[kept] = number;
	r = spawn(cli, argv, environment, &pid);
	if (r)
		return cli_errno(cli, r, "%s", argv[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return cli_errno(cli, errno, "waiting for %s", argv[0]);
	if (WIFSIGNALED(status))
		return cli_fail(cli, CLI_FAILED, "UNKNOWN", "LOCAL", "%s was ended by signal %d",
				argv[0], WTERMSIG(status));
	if (WEXITSTATUS(status))
		return cli_fail(cli, CLI_FAILED, "UNKNOWN", "LOCAL", "%s ended with status %d",
				argv[0], WEXITSTATUS(status));
	return CLI_OK;
}

static int device_fd(struct cli *cli, const struct cli_args *args)
{
	_cleanup_call_ struct session_call c = {};
	size_t n;
	_cleanup_free_ char **words = args_texts(args, "PROGRAM", &n);
	_cleanup_free_ char **argv = cli_alloc((n + 1) * sizeof(*argv));
	int r = session_begin(cli, &c), fd;

	if (r)
		return r;
	if (ioasid_device_fd(c.client, &c.scope, args_text(args, "DEVICE", NULL), &fd, &c.error) <
	    0)
		return session_fail(cli, c.error);
	for (size_t i = 0; i < n; i++)
		argv[i] = words[i];
	/* Only this program gets it: nothing else is started meanwhile. */
	if (fcntl(fd, F_SETFD, 0) < 0)
		r = cli_errno(cli, errno, "the fd of %s", args_text(args, "DEVICE", NULL));
	else
		r = run_with_fd(cli, argv, fd);
	close(fd);
	return r;
}

static const struct cli_column release_form[] = {{"released", "released"}, {}};
static const struct cli_view release_view = {.form = release_form};

static const struct cli_param list_options[] = {
	{"capabilities", CLI_FLAG, .help = "with the capabilities of each (JSON)"},
	{},
};
static const struct cli_param one_device[] = {
	{"DEVICE", CLI_DEVICE, CLI_REQUIRED, .help = "address of the device, 0000:3b:00.0"},
	{},
};
static const struct cli_param devices_args[] = {
	{"DEVICE", CLI_DEVICE, CLI_REQUIRED | CLI_REPEATED, .help = "addresses of 1 to 64 devices"},
	{},
};
static const struct cli_param fd_args[] = {
	{"DEVICE", CLI_DEVICE, CLI_REQUIRED, .help = "address of a claimed device"},
	{"PROGRAM", CLI_ARGUMENT, CLI_REQUIRED | CLI_REPEATED,
	 .help = "program and its arguments, after --"},
	{},
};

const struct cli_command cmd_device_list = {
	.noun = "device",
	.verb = "list",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary = "list the devices that the caller may use",
	.options = list_options,
	.view = &list_view,
	.run = device_list,
};
const struct cli_command cmd_device_show = {
	.noun = "device",
	.verb = "show",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary = "show one device: formats, kinds, PASIDs, faults, reserved ranges",
	.args = one_device,
	.view = &show_view,
	.run = device_show,
};
const struct cli_command cmd_device_claim = {
	.noun = "device",
	.verb = "claim",
	.roles = "tenant, agent",
	.summary = "claim devices into the lease, all or none",
	.help = "Devices of one isolation group can only be claimed together; a refusal names the "
		"missing companions.",
	.example = "ioasidctl --lease web --secret-file s device claim 0000:3b:00.0 0000:3b:00.1",
	.args = devices_args,
	.view = &list_view,
	.run = device_claim,
};
const struct cli_command cmd_device_release = {
	.noun = "device",
	.verb = "release",
	.roles = "tenant, agent",
	.summary = "detach devices and give them back",
	.args = devices_args,
	.view = &release_view,
	.run = device_release,
};
const struct cli_command cmd_device_fd = {
	.noun = "device",
	.verb = "fd",
	.roles = "tenant, agent",
	.summary = "run a program that drives the device by its VFIO descriptor",
	.help = "The program inherits the descriptor; its number is in $IOASID_DEVICE_FD.  A "
		"device "
		"that a program still has open is not free after its release.",
	.example =
		"ioasidctl --lease web --secret-file s device fd 0000:3b:00.0 -- ./driver --poll",
	.args = fd_args,
	.run = device_fd,
};
