/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a keeper holds, as ioasidd would ask it:
 *
 *	keeper_fds SOCKET list		a name a line
 *	keeper_fds SOCKET drop NAME
 *	keeper_fds SOCKET hold NAME	a memfd of a page
 */
#include "kernel-shim/keeper/client.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int list(struct keeper *keeper)
{
	char name[KEEPER_NAME_MAX] = "", next[KEEPER_NAME_MAX];
	int r;

	while (!(r = keeper_fd_next(keeper, name, next))) {
		puts(next);
		memcpy(name, next, sizeof(name));
	}
	return r == KEEPER_E_NOT_FOUND ? 0 : r;
}

static int hold(struct keeper *keeper, const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 4096) < 0)
		return -1;
	return keeper_fd_hold(keeper, "crash-test", name, fd);
}

int main(int argc, char **argv)
{
	struct keeper *keeper;
	int r = -1;

	if (argc < 3 || (strcmp(argv[2], "list") != 0 && argc < 4)) {
		fputs("usage: keeper_fds SOCKET list | drop NAME | hold NAME\n", stderr);
		return 2;
	}
	if (keeper_connect(argv[1], &keeper)) {
		fputs("keeper_fds: no keeper\n", stderr);
		return 1;
	}
	if (!strcmp(argv[2], "list"))
		r = list(keeper);
	else if (!strcmp(argv[2], "drop"))
		r = keeper_fd_drop(keeper, argv[3]);
	else if (!strcmp(argv[2], "hold"))
		r = hold(keeper, argv[3]);
	keeper_free(keeper);
	if (r)
		fprintf(stderr, "keeper_fds: %d\n", r);
	return r ? 1 : 0;
}
