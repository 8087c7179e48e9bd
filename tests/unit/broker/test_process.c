/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that leases depend on: the same one, another of the same pid, one that has ended. */
#include "server/broker/process.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static pid_t child_new(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		/* A name that would mislead whoever splits the line at blanks. */
		prctl(PR_SET_NAME, "a) 1 2 (b");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	return pid;
}

static void child_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void oneself(void **state)
{
	struct process_id self = process_of_pid(getpid()), again = process_of_pid(getpid());
	struct process_id parent = process_of_pid(getppid());

	assert_int_equal(self.pid, getpid());
	assert_true(self.start_time > 0);
	assert_true(process_is_same(&self, &again));
	assert_false(process_is_same(&self, &parent));
	assert_false(process_is_same(&(struct process_id){0}, &(struct process_id){0}));
}

static void one_that_ends(void **state)
{
	pid_t pid = child_new();
	struct process_id child = process_of_pid(pid), other;
	int by_pid, fd = -1;

	assert_int_equal(child.pid, pid);
	by_pid = syscall(SYS_pidfd_open, pid, 0);
	assert_true(by_pid >= 0);
	other = process_of_pidfd(by_pid);
	assert_true(process_is_same(&child, &other));
	assert_int_equal(process_open(&child, &fd), 0);
	close(fd);

	/* Of the same pid, but begun at another time. */
	other.start_time++;
	fd = -1;
	assert_int_equal(process_open(&other, &fd), -ESRCH);
	assert_int_equal(fd, -1);

	child_end(pid);
	assert_int_equal(process_open(&child, &fd), -ESRCH);
	assert_int_equal(process_of_pid(pid).pid, 0);
	assert_int_equal(process_of_pidfd(by_pid).pid, 0);
	close(by_pid);
}

static void what_is_none(void **state)
{
	int fd = -1;

	assert_int_equal(process_of_pid(0).pid, 0);
	assert_int_equal(process_of_pid(-1).pid, 0);
	assert_int_equal(process_of_pidfd(STDIN_FILENO).pid, 0);
	assert_int_equal(process_open(&(struct process_id){0}, &fd), -ESRCH);
	assert_int_equal(fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(oneself),
		cmocka_unit_test(one_that_ends),
		cmocka_unit_test(what_is_none),
	};

	return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
