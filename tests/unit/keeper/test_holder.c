/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that a context is given to: whose, what is said when not, and the kernel's answer. */
#include "fake_host.h"
#include "keeper/holder.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const uid_t holders[] = {1000, 1001};
static struct fake_host fake;
static char reason[KEEPER_REASON_MAX];

static int setup(void **state)
{
	fake_host_init(&fake);
	fake.host.holders = holders;
	fake.host.n_holders = 2;
	fake.process_uid = 1000;
	return 0;
}

static int teardown(void **state)
{
	fake_host_deinit(&fake);
	return 0;
}

static int bind_by(uid_t opener, uint64_t bytes)
{
	memset(reason, 0, sizeof(reason));
	return holder_bind(&fake.host, 3, opener, 4, bytes, reason);
}

static int bind_one(uint64_t bytes)
{
	return bind_by(0, bytes);
}

static int end_one(void)
{
	memset(reason, 0, sizeof(reason));
	return holder_end(&fake.host, 3, reason);
}

static void test_whose(void **state)
{
	static const struct {
		uid_t uid;
		bool may;
	} uids[] = {{1000, true}, {1001, true}, {999, false}, {1002, false}, {0, false}};

	for (size_t i = 0; i < sizeof(uids) / sizeof(*uids); i++) {
		unsigned counted = fake.n_counted, ended = fake.n_ended;

		fake.process_uid = uids[i].uid;
		assert_int_equal(bind_one(8192), uids[i].may ? 0 : KEEPER_E_FORBIDDEN);
		assert_int_equal(end_one(), uids[i].may ? 0 : KEEPER_E_FORBIDDEN);
		assert_int_equal(fake.n_counted - counted, uids[i].may);
		assert_int_equal(fake.n_ended - ended, uids[i].may);
	}
	assert_int_equal(fake.process_locks, 8192);
}

/* Nobody has a process limited, and ended later, that it could not end by itself. */
static void test_by_whom(void **state)
{
	assert_int_equal(bind_by(1001, 4096), KEEPER_E_FORBIDDEN);
	assert_string_equal(reason, "process 4711 is of uid 1000: uid 1001, which names it, could "
				    "not end it");
	assert_int_equal(bind_by((uid_t)-2, 4096), KEEPER_E_FORBIDDEN);
	assert_int_equal(fake.n_counted, 0);
	assert_int_equal(fake.process_locks, 0);
	assert_int_equal(bind_by(1000, 4096), 0);
	assert_int_equal(bind_by(0, 4096), 0);
	/* Root's word does not widen whom the keeper may end. */
	fake.process_uid = 999;
	assert_int_equal(bind_by(0, 4096), KEEPER_E_FORBIDDEN);
	assert_int_equal(bind_by(999, 4096), KEEPER_E_FORBIDDEN);
}

static void test_has_ended(void **state)
{
	fake.process_error = -ESRCH;
	assert_int_equal(bind_one(4096), KEEPER_E_NOT_FOUND);
	assert_string_equal(reason, "the process has ended");
	/* It is what was wanted. */
	assert_int_equal(end_one(), 0);
	fake.process_error = 0;
	fake.end_error = fake.limit_error = -ESRCH;
	assert_int_equal(bind_one(4096), KEEPER_E_NOT_FOUND);
	assert_int_equal(end_one(), 0);
	assert_int_equal(fake.n_ended, 0);
}

static void test_kernel_refuses(void **state)
{
	static const int absent[] = {-ENOTTY, -EINVAL, -ENOSYS};

	for (size_t i = 0; i < 3; i++) {
		fake.process_error = absent[i];
		assert_int_equal(bind_one(4096), KEEPER_E_UNSUPPORTED);
		assert_non_null(strstr(reason, "PIDFD_GET_INFO"));
		assert_int_equal(end_one(), KEEPER_E_UNSUPPORTED);
	}
	fake.process_error = -EIO;
	assert_int_equal(bind_one(4096), -EIO);
	assert_int_equal(end_one(), -EIO);
	fake.process_error = 0;
	fake.count_error = -EBUSY;
	assert_int_equal(bind_one(4096), KEEPER_E_BUSY);
	fake.count_error = -EPERM;
	assert_int_equal(bind_one(4096), KEEPER_E_UNSUPPORTED);
	fake.count_error = 0;
	fake.limit_error = -EPERM;
	assert_int_equal(bind_one(4096), KEEPER_E_UNSUPPORTED);
	assert_string_equal(reason, "RLIMIT_MEMLOCK of process 4711: Operation not permitted");
	fake.end_error = -EPERM;
	assert_int_equal(end_one(), -EPERM);
	assert_int_equal(fake.process_locks, 0);
}

static void child(void)
{
	for (;;)
		pause();
}

/* The calls themselves, on a child. */
static void test_linux(void **state)
{
	struct rlimit limit = {0};
	pid_t pid = fork(), told = -1;
	uid_t uid = (uid_t)-1;
	int pidfd, r, status;

	if (!pid)
		child();
	assert_true(pid > 0);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(pidfd >= 0);
	r = host_linux.process(NULL, pidfd, &told, &uid);
	/* Before Linux 6.13 there is no such call. */
	if (r == 0) {
		assert_int_equal(told, pid);
		assert_int_equal(uid, getuid());
	} else {
		assert_true(r == -ENOTTY || r == -EINVAL);
		assert_int_equal(told, -1);
	}
	assert_int_equal(host_linux.limit_memlock(NULL, pid, 4096), 0);
	assert_int_equal(prlimit(pid, RLIMIT_MEMLOCK, NULL, &limit), 0);
	assert_int_equal(limit.rlim_cur, 4096);
	assert_int_equal(limit.rlim_max, 4096);
	assert_true(host_linux.count_by_process(NULL, pidfd) < 0);
	assert_int_equal(host_linux.end(NULL, pidfd), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(host_linux.end(NULL, pidfd), -ESRCH);
	assert_true(host_linux.process(NULL, pidfd, &told, &uid) < 0);
	close(pidfd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whose, setup, teardown),
		cmocka_unit_test_setup_teardown(test_by_whom, setup, teardown),
		cmocka_unit_test_setup_teardown(test_has_ended, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel_refuses, setup, teardown),
		cmocka_unit_test(test_linux),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
