/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_OPTIONS_H
#define IOASID_KEEPER_OPTIONS_H

/* The command line of ioasid-keeper. */

#include "charge.h"

#include <sys/types.h>

#define OPTIONS_SOCKET "/run/ioasid/keeper.sock"
#define OPTIONS_STATE  "/run/ioasid-keeper/state"

#define OPTIONS_HOLDERS_MAX 64

enum options_action {
	OPTIONS_SERVE,
	OPTIONS_HELP,
	OPTIONS_VERSION,
};

struct options {
	enum options_action action;
	const char *listen; /* NULL: not given */
	const char *state;
	uid_t client;
	bool fd_store;
	struct charge_limits limits;
	char (*allowed)[KEEPER_PCI_MAX];
	size_t n_allowed;
	uid_t holders[OPTIONS_HOLDERS_MAX];
	size_t n_holders;
};

extern const char options_help[];

/* 0; 1: wrong, and ret_problem (256 bytes) says what; -ENOMEM. */
int options_parse(int argc, char **argv, struct options *ret_options, char *ret_problem);
void options_deinit(struct options *options);

#endif
