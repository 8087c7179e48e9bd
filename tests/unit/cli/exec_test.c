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

static int run(struct exec_child *child, const char *script, size_t n_fds)
{
	static const char *const devices[] = {"0000:01:00.0", "0000:01:00.1"};
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
	int fds[] = {file_with("first"), file_with("second")};
	const struct exec_gifts gifts = {
		.lease_fd = file_with("lease"), .n_fds = n_fds, .devices = devices, .fds = fds};
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
	assert_int_equal(exec_child_run(&child, &(const struct exec_gifts){.lease_fd = 0}), 0);
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
		cmocka_unit_test(test_not_to_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
