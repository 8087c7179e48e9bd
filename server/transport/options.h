/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_OPTIONS_H
#define IOASID_TRANSPORT_OPTIONS_H

/* The command line of ioasidd: strict, and every complaint names its option. */

#include "listener.h"

#include <stddef.h>

#define OPTIONS_POLICY	     "/etc/ioasid/policy.d"
#define OPTIONS_SOCKET	     "/run/ioasid/ioasid.sock"
#define OPTIONS_ADMIN_SOCKET "/run/ioasid/admin.sock"
#define OPTIONS_KEEPER	     "/run/ioasid/keeper.sock"
#define OPTIONS_REGISTRY     "/run/ioasid/registry"

enum options_action {
	OPTIONS_SERVE,
	OPTIONS_CHECK,
	OPTIONS_VERSION,
	OPTIONS_HELP,
};

enum options_error {
	/* *ret_problem says which option and why. */
	OPTIONS_E_USAGE = 1,
};

struct options {
	enum options_action action;
	const char *policy;   /* borrowed from argv, as the others */
	const char *topology; /* NULL: the built-in one */
	const char *shim;     /* "soft", "iommufd" or "auto" */
	const char *keeper;   /* socket of ioasid-keeper; NULL: not given */
	const char *registry; /* a folder, or "none"; NULL: not given */
	const char *audit;    /* "stderr", "none" or a path */
	unsigned workers;
	unsigned keepalive_seconds;
	unsigned grace_seconds;
	unsigned fault_timeout_ms;
	struct listener_spec listen[LISTENERS_MAX];
	size_t n_listen;
};

/* -ENOMEM, OPTIONS_E_USAGE.  Afterwards options_deinit() in any case. */
int options_parse(int argc, char *const *argv, struct options *ret_options, char *ret_problem,
		  size_t problem_size);
void options_deinit(struct options *options);
extern const char options_help[];

#endif
