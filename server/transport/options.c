/* SPDX-License-Identifier: Apache-2.0 */
/* Parses ioasidd's command line.  No I/O but the look-up of groups; main thread. */
#include "options.h"

#include "workers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char options_help[] =
	"Usage: ioasidd [OPTION]...\n"
	"The broker between tenants and the IOMMUs of this host.\n"
	"\n"
	"  --policy PATH     policy file, or a folder of *.json (" OPTIONS_POLICY ")\n"
	"  --shim NAME       what drives the IOMMU: iommufd, the kernel's, through ioasid-keeper;\n"
	"                    soft, the embedded software IOMMU; auto (the default): iommufd where\n"
	"                    /dev/iommu exists, else soft\n"
	"  --keeper SOCKET   where ioasid-keeper listens (" OPTIONS_KEEPER ")\n"
	"  --registry DIR    where it is written down what a restart must find again, on a tmpfs;\n"
	"                    or none (" OPTIONS_REGISTRY "; none with --listen)\n"
	"  --grace N         after a restart a connection's leases wait N seconds for its process\n"
	"                    to connect again, 0 to 3600 (30)\n"
	"  --fault-timeout MS\n"
	"                    a device's page request that nobody answers is answered INVALID "
	"after\n"
	"                    MS milliseconds, 1 to 600000 (5000)\n"
	"  --topology FILE   of the software IOMMU: simulated IOMMUs and devices as JSON (a\n"
	"                    built-in set)\n"
	"  --listen NAME=PATH[:MODE[:GROUP]]\n"
	"                    a socket; NAME is what the policy calls it.  Repeatable.  Without\n"
	"                    this option, and without sockets from systemd:\n"
	"                      tenants=" OPTIONS_SOCKET ":0666\n"
	"                      admin=" OPTIONS_ADMIN_SOCKET ":0600\n"
	"  --audit TARGET    audit records as lines of JSON: a file, stderr, or none (stderr)\n"
	"  --workers N       threads for calls that block, 1 to 256 (4)\n"
	"  --keepalive N     ping peers with open calls after N idle seconds, 0 to 86400 (0:\n"
	"                    never); who does not answer within 10 seconds is let go\n"
	"  --check-config    check policy and topology, then exit\n"
	"  --version         print the version, then exit\n"
	"  --help            print this, then exit\n"
	"\n"
	"SIGHUP reads the policy again and reopens the audit file.  SIGTERM ends in order.\n"
	"Exit status: 0 ended in order, 1 failed, 2 the command line is wrong.\n";

enum {
	OPT_POLICY,
	OPT_SHIM,
	OPT_KEEPER,
	OPT_REGISTRY,
	OPT_GRACE,
	OPT_FAULT_TIMEOUT,
	OPT_TOPOLOGY,
	OPT_LISTEN,
	OPT_AUDIT,
	OPT_WORKERS,
	OPT_KEEPALIVE,
	OPT_CHECK,
	OPT_VERSION,
	OPT_HELP,
	N_OPTIONS,
};

static const struct {
	const char *name;
	bool has_value;
} option_table[N_OPTIONS] = {
	[OPT_POLICY] = {"--policy", true},	 [OPT_SHIM] = {"--shim", true},
	[OPT_KEEPER] = {"--keeper", true},	 [OPT_REGISTRY] = {"--registry", true},
	[OPT_GRACE] = {"--grace", true},	 [OPT_FAULT_TIMEOUT] = {"--fault-timeout", true},
	[OPT_TOPOLOGY] = {"--topology", true},	 [OPT_LISTEN] = {"--listen", true},
	[OPT_AUDIT] = {"--audit", true},	 [OPT_WORKERS] = {"--workers", true},
	[OPT_KEEPALIVE] = {"--keepalive", true}, [OPT_CHECK] = {"--check-config", false},
	[OPT_VERSION] = {"--version", false},	 [OPT_HELP] = {"--help", false},
};

static int parse_number(const char *text, unsigned min, unsigned max, unsigned *ret_value)
{
	unsigned long value;

	if (!*text || strlen(text) > 9 || strspn(text, "0123456789") != strlen(text))
		return -EINVAL;
	value = strtoul(text, NULL, 10);
	if (value < min || value > max)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

/* NULL: fine. */
static const char *option_set(struct options *options, int option, const char *value)
{
	const char *problem = NULL;

	switch (option) {
	case OPT_POLICY:
		options->policy = value;
		return *value ? NULL : "expected a path";
	case OPT_SHIM:
		options->shim = value;
		return strcmp(value, "soft") && strcmp(value, "iommufd") && strcmp(value, "auto")
			       ? "expected iommufd, soft or auto"
			       : NULL;
	case OPT_KEEPER:
		options->keeper = value;
		return *value ? NULL : "expected a path";
	case OPT_REGISTRY:
		options->registry = value;
		return *value ? NULL : "expected a folder, or none";
	case OPT_GRACE:
		return parse_number(value, 0, 3600, &options->grace_seconds) < 0
			       ? "expected a number from 0 to 3600"
			       : NULL;
	case OPT_FAULT_TIMEOUT:
		return parse_number(value, 1, 600000, &options->fault_timeout_ms) < 0
			       ? "expected a number from 1 to 600000"
			       : NULL;
	case OPT_TOPOLOGY:
		options->topology = value;
		return *value ? NULL : "expected a path";
	case OPT_AUDIT:
		options->audit = value;
		return *value ? NULL : "expected a path, stderr or none";
	case OPT_WORKERS:
		return parse_number(value, 1, WORKERS_MAX, &options->workers) < 0
			       ? "expected a number from 1 to 256"
			       : NULL;
	case OPT_KEEPALIVE:
		return parse_number(value, 0, 86400, &options->keepalive_seconds) < 0
			       ? "expected a number from 0 to 86400"
			       : NULL;
	case OPT_LISTEN:
		if (options->n_listen == LISTENERS_MAX)
			return "given too often";
		if (listener_spec_parse(value, &options->listen[options->n_listen], &problem) < 0)
			return "out of memory";
		if (!problem)
			options->n_listen++;
		return problem;
	case OPT_CHECK:
		options->action = OPTIONS_CHECK;
		return NULL;
	case OPT_VERSION:
		options->action = OPTIONS_VERSION;
		return NULL;
	case OPT_HELP:
		options->action = OPTIONS_HELP;
		return NULL;
	}
	return NULL;
}

/* The index in the table, and the text after '='; -1: no such option. */
static int option_find(const char *argument, const char **ret_value)
{
	for (int i = 0; i < N_OPTIONS; i++) {
		size_t n = strlen(option_table[i].name);

		if (strncmp(argument, option_table[i].name, n) ||
		    (argument[n] && argument[n] != '='))
			continue;
		*ret_value = argument[n] ? argument + n + 1 : NULL;
		return i;
	}
	return -1;
}

int options_parse(int argc, char *const *argv, struct options *ret_options, char *ret_problem,
		  size_t problem_size)
{
	unsigned given = 0;

	*ret_options = (struct options){
		.action = OPTIONS_SERVE,
		.policy = OPTIONS_POLICY,
		.shim = "auto",
		.audit = "stderr",
		.workers = 4,
		.grace_seconds = 30,
		.fault_timeout_ms = 5000,
	};
	for (int i = 1; i < argc; i++) {
		const char *value = NULL, *problem;
		int option = option_find(argv[i], &value);

		if (option < 0) {
			snprintf(ret_problem, problem_size, "%s: no such option", argv[i]);
			return OPTIONS_E_USAGE;
		}
		if (!option_table[option].has_value && value) {
			problem = "takes no value";
		} else if (option_table[option].has_value && !value && i + 1 == argc) {
			problem = "needs a value";
		} else if (option != OPT_LISTEN && given & 1u << option) {
			problem = "given twice";
		} else {
			if (option_table[option].has_value && !value)
				value = argv[++i];
			given |= 1u << option;
			problem = option_set(ret_options, option, value);
		}
		if (problem && value)
			snprintf(ret_problem, problem_size, "%s %s: %s", option_table[option].name,
				 value, problem);
		else if (problem)
			snprintf(ret_problem, problem_size, "%s: %s", option_table[option].name,
				 problem);
		if (problem)
			return OPTIONS_E_USAGE;
	}
	return 0;
}

void options_deinit(struct options *options)
{
	for (size_t i = 0; i < options->n_listen; i++)
		listener_spec_deinit(&options->listen[i]);
	options->n_listen = 0;
}
