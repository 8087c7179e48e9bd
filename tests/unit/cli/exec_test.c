/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process of `exec`, with fds of devices, which simulated ones do not have: what the program
 * finds of them, and what becomes of a child that is not to run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "exec_child.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int file_with(const char *text)
{
	int fd = memfd_create("gift", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	return fd;
}

static int run_with(struct exec_child *child, const char *script, size_t n_fds, int context_fd)
{
	static const char *const devices[] = {"0000:01:00.0", "0000:01:00.1"};
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
	int fds[] = {file_with("first"), file_with("second")};
	const struct exec_gifts gifts = {
		.lease_fd = file_with("lease"),
		.context_fd = context_fd,
		.n_fds = n_fds,
		.devices = devices,
		.fds = fds,
	};
	struct cli cli = {};
	int r;

	*child = (struct exec_child)EXEC_CHILD_INIT;
	assert_int_equal(exec_child_fork(&cli, argv, "/the/socket", child), 0);
	assert_true(child->pid > 0 && child->pidfd >= 0);
	r = exec_child_run(child, &gifts);
	close(fds[0]);
	close(fds[1]);
	close(gifts.lease_fd);
	return r;
}

static int run(struct exec_child *child, const char *script, size_t n_fds)
{
	return run_with(child, script, n_fds, -1);
}

static void test_context(void **state)
{
	static const char context[] =
		"[ \"$(cat /proc/self/fd/$IOASID_CONTEXT_FD)\" = context ] && "
		"[ \"$(cat /proc/self/fd/${IOASID_LEASE_FILE#fd:})\" = lease ] ";
	int fd = file_with("context");
	struct exec_child child;
	char script[512];

	setenv("IOASID_CONTEXT_FD", "1", 1);
	snprintf(script, sizeof(script), "%s && [ -z \"${IOASID_DEVICE_FDS+set}\" ] && exit 44",
		 context);
	assert_int_equal(run_with(&child, script, 0, fd), 0);
	assert_int_equal(exec_child_wait(&child), 44);
	snprintf(script, sizeof(script),
		 "%s && set -- $IOASID_DEVICE_FDS && [ $# = 2 ] && "
		 "[ \"$(cat /proc/self/fd/${2#*=})\" = second ] && exit 45",
		 context);
	assert_int_equal(run_with(&child, script, 2, fd), 0);
	assert_int_equal(exec_child_wait(&child), 45);
	/* None: not that of a launcher before this one either. */
	assert_int_equal(run(&child, "[ -z \"${IOASID_CONTEXT_FD+set}\" ] && exit 46", 2), 0);
	assert_int_equal(exec_child_wait(&child), 46);
	unsetenv("IOASID_CONTEXT_FD");
	close(fd);
}

static void test_devices(void **state)
{
	struct exec_child child;

	setenv("IOASID_DEVICE_FDS", "0000:09:00.0=1", 1);
	assert_int_equal(
		run(&child,
		    "set -- $IOASID_DEVICE_FDS; "
		    "[ $# = 2 ] && [ ${1%=*} = 0000:01:00.0 ] && [ ${2%=*} = 0000:01:00.1 ] && "
		    "[ \"$(cat /proc/self/fd/${1#*=})\" = first ] && "
		    "[ \"$(cat /proc/self/fd/${2#*=})\" = second ] && "
		    "[ \"$(cat /proc/self/fd/${IOASID_LEASE_FILE#fd:})\" = lease ] && "
		    "[ $IOASID_SOCKET = /the/socket ] && exit 42",
		    2),
		0);
	assert_int_equal(exec_child_wait(&child), 42);
	/* None: not those of a launcher before this one either. */
	assert_int_equal(run(&child, "[ -z \"${IOASID_DEVICE_FDS+set}\" ] && exit 43", 0), 0);
	assert_int_equal(exec_child_wait(&child), 43);
	unsetenv("IOASID_DEVICE_FDS");
}

static void test_not_to_run(void **state)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)"exit 1", NULL};
	struct exec_child child = EXEC_CHILD_INIT;
	struct cli cli = {};
	pid_t pid;

	exec_child_end(&child);
	assert_int_equal(exec_child_fork(&cli, argv, NULL, &child), 0);
	pid = child.pid;
	exec_child_end(&child);
	assert_int_equal(child.pid, 0);
	assert_int_equal(child.pidfd, -1);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);

	/* Killed while it waits: there is no program, and its end is told as any. */
	assert_int_equal(exec_child_fork(&cli, argv, NULL, &child), 0);
	kill(child.pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)child.pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	assert_int_equal(exec_child_run(&child, &(const struct exec_gifts){.context_fd = -1}), 0);
	assert_int_equal(exec_child_wait(&child), 137);

	/* Its parent has gone. */
	assert_int_equal(exec_child_fork(&cli, argv, NULL, &child), 0);
	close(child.channel);
	child.channel = -1;
	assert_int_equal(exec_child_wait(&child), CLI_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_context),
		cmocka_unit_test(test_not_to_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
