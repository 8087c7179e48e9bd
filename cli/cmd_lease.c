/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease open, adopt, close, list: the lease is what ties objects to a client's life.  Work
 * over several runs of ioasidctl needs a named lease: open it, then give --lease and
 * --secret-file to every later run.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

SESSION_CLEANUP(ioasid_leases, ioasid_leases_free)

static const struct cli_column open_form[] = {
	{"lease", "lease"},
	{"linger_seconds", "lingers (s)"},
	{"secret", "secret", .optional = true},
	{"secret_file", "secret written to", .optional = true},
	{},
};
static const struct cli_view open_view = {.form = open_form, .id = "lease"};
static const struct cli_column name_form[] = {{"lease", "lease"}, {}};
static const struct cli_view name_view = {.form = name_form, .id = "lease"};

static const struct cli_column list_columns[] = {
	{"lease", "LEASE"},
	{"tenant", "TENANT"},
	{"mine", "MINE", RENDER_BOOL},
	{"held", "HELD", RENDER_BOOL},
	{"awaited", "AWAITED", RENDER_BOOL, .optional = true},
	{"closing", "CLOSING", RENDER_BOOL, .optional = true},
	{"linger_seconds", "LINGER"},
	{"keep", "KEPT", RENDER_BOOL, .optional = true},
	{"handover", "HANDOVER", RENDER_BOOL, .optional = true},
	{"delegate", "DELEGATED", RENDER_BOOL, .optional = true},
	{"devices", "DEVICES"},
	{"memories", "MEMORY"},
	{"ioasids", "IOASIDS"},
	{"attachments", "ATTACHED"},
	{"serial", "SERIAL", .optional = true},
	{"uid", "UID", .optional = true},
	{"pid", "PID", .optional = true},
	{},
};
static const struct cli_section list_sections[] = {
	{"leases", NULL, list_columns, .empty = "no lease is open"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "lease"};

static void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* From here on the lines of a shell act in this lease ("": the connection's). */
static void make_current(struct cli *cli, const char *name)
{
	if (!cli->in_shell)
		return;
	free(cli->shell_lease);
	cli->shell_lease = *name ? cli_strdup(name) : NULL;
}

static int lease_open(struct cli *cli, const struct cli_args *args)
{
	const char *name = args_text(args, "NAME", NULL), *file = cli->secret_file;
	bool keep = args_has(args, "keep");
	struct ioasid_lease_options options = IOASID_LEASE_OPTIONS_INIT;
	__attribute__((cleanup(closep))) int pidfd = -1;
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r;

	if (keep && !args_has(args, "watch-pid"))
		return cli_usage(cli, "--keep: as long as which process lives? (--watch-pid)");
	if (args_has(args, "delegate") &&
	    !(args_has(args, "watch-pid") && args_has(args, "ioasids") && args_has(args, "memory")))
		return cli_usage(cli, "--delegate: expected --watch-pid, the process that has the "
				      "context, and --ioasids and --memory, which are charged in "
				      "full");
	if (keep && args_has(args, "linger"))
		return cli_usage(cli, "--keep and --linger: one of them");
	options.linger_seconds = keep ? 0 : (uint32_t)args_number(args, "linger", 60);
	options.keep = keep;
	options.handover = args_has(args, "handover");
	options.delegate = args_has(args, "delegate");
	options.max_ioasids = args_number(args, "ioasids", UINT64_MAX);
	options.max_registered_bytes = args_number(args, "memory", UINT64_MAX);
	if (!options.linger_seconds && !keep && !cli->in_shell)
		return cli_usage(cli, "--linger: expected at least 1; with 0 the lease ends with "
				      "this run of ioasidctl");
	if (args_has(args, "watch-pid")) {
		pidfd = (int)syscall(SYS_pidfd_open, (pid_t)args_number(args, "watch-pid", 0), 0);
		if (pidfd < 0)
			return cli_errno(cli, errno, "--watch-pid: cannot watch process %s",
					 args_text(args, "watch-pid", ""));
	}
	r = session_begin(cli, &c);
	if (r)
		return r;
	c.scope.lease = "";
	options.pidfd = pidfd;
	if (ioasid_lease_open_with(c.client, &c.scope, name, &options, secret, &c.error) < 0)
		return session_fail(cli, c.error);
	session_lease_held(cli, name);
	document = doc_new("lease-open");
	doc_put_text(document, "lease", name);
	doc_put_u64(document, "linger_seconds", options.linger_seconds);
	if (file) {
		r = session_secret_write(cli, file, secret);
		doc_put_text(document, "secret_file", file);
	} else {
		doc_put_bytes(document, "secret", secret, sizeof(secret));
	}
	explicit_bzero(secret, sizeof(secret));
	if (r) {
		/* A lease that nobody can adopt is of no use. */
		c.scope.lease = name;
		c.scope.key = NULL;
		ioasid_lease_close(c.client, &c.scope, NULL);
		session_lease_gone(cli, name);
		json_object_put(document);
		return r;
	}
	make_current(cli, name);
	return cli_show(cli, document);
}

static int show_name(struct cli *cli, const char *type, const char *name)
{
	struct json_object *document = doc_new(type);

	doc_put_text(document, "lease", name);
	return cli_show(cli, document);
}

static int lease_adopt(struct cli *cli, const struct cli_args *args)
{
	const char *name = args_text(args, "NAME", NULL);
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (!r)
		r = session_lease_adopt(cli, c.client, name);
	if (r)
		return r;
	make_current(cli, name);
	return show_name(cli, "lease-adopt", name);
}

static int lease_close(struct cli *cli, const struct cli_args *args)
{
	/* The name may be that of the shell's lease, which ends here. */
	_cleanup_free_ char *name = cli_strdup(args_text(args, "NAME", cli->lease ?: ""));
	_cleanup_call_ struct session_call c = {};
	int r;

	if (!*name && !cli->in_shell)
		return cli_usage(cli, "lease close: expected NAME; the connection lease ends with "
				      "this run of ioasidctl anyway");
	r = session_begin(cli, &c);
	if (!r && *name && !session_lease_is_held(cli, name))
		r = session_lease_adopt(cli, c.client, name);
	if (r)
		return r;
	c.scope.lease = name;
	if (ioasid_lease_close(c.client, &c.scope, &c.error) < 0)
		return session_fail(cli, c.error);
	session_lease_gone(cli, name);
	if (cli->shell_lease && !strcmp(cli->shell_lease, name))
		make_current(cli, "");
	return show_name(cli, "lease-close", name);
}

static int lease_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_leases_free) struct ioasid_leases *leases = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document, *list;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_lease_list(c.client, &c.scope, &leases, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("lease-list");
	list = doc_array();
	for (size_t i = 0; i < leases->n; i++)
		doc_put(list, NULL, object_lease(leases->items[i]));
	doc_put(document, "leases", list);
	return cli_show(cli, document);
}

static const struct cli_param name_args[] = {
	{"NAME", CLI_TEXT, CLI_REQUIRED, .help = "letters, digits, dot, dash, underscore; 1 to 128",
	 .max = 128},
	{},
};
static const struct cli_param close_args[] = {
	{"NAME", CLI_TEXT, .help = "name of the lease (that of --lease)", .max = 128},
	{},
};
static const struct cli_param open_options[] = {
	{"linger", CLI_UINT, .value = "SECONDS", .help = "how long it lives without a holder (60)",
	 .max = 86400},
	{"watch-pid", CLI_UINT, .value = "PID", .help = "close it when that process ends", .min = 1,
	 .max = 4194304},
	{"keep", CLI_FLAG, .help = "it lives without a holder for as long as that process does"},
	{"handover", CLI_FLAG,
	 .help = "agents: programs of the tenant adopt it, and the agent takes it back"},
	{"delegate", CLI_FLAG,
	 .help = "the watched process has the lease's IOMMU context, and ends with the lease"},
	{"ioasids", CLI_UINT, .value = "N", .help = "IOASIDs that this lease may have"},
	{"memory", CLI_SIZE, .value = "SIZE",
	 .help = "memory that this lease may have registered, in all"},
	{},
};

const struct cli_command cmd_lease_open = {
	.noun = "lease",
	.verb = "open",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent",
	.summary = "open a named lease, which survives between runs of ioasidctl",
	.help = "Prints the lease's secret, or stores it in --secret-file, readable by its owner "
		"only.  In a shell the lines that follow act in the new lease.  --ioasids and "
		"--memory are limits below the tenant's.",
	.example = "ioasidctl lease open web --linger 60 --secret-file web.secret",
	.args = name_args,
	.options = open_options,
	.view = &open_view,
	.run = lease_open,
};
const struct cli_command cmd_lease_adopt = {
	.noun = "lease",
	.verb = "adopt",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent",
	.summary = "take a named lease over with its secret (--secret-file)",
	.help = "In a shell the lines that follow act in it.  Outside, --lease does it for each "
		"run.",
	.args = name_args,
	.view = &name_view,
	.run = lease_adopt,
};
const struct cli_command cmd_lease_close = {
	.noun = "lease",
	.verb = "close",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent",
	.summary = "end a lease and every object of it",
	.args = close_args,
	.view = &name_view,
	.run = lease_close,
};
const struct cli_command cmd_lease_list = {
	.noun = "lease",
	.verb = "list",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary = "list leases and how much they hold",
	.view = &list_view,
	.run = lease_list,
};
