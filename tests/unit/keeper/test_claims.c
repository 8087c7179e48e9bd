/* SPDX-License-Identifier: Apache-2.0 */
/* What a broker that starts finds again: claims, copies of their cdevs, names of held fds. */
#include "keeper/vault.h"
#include "keeper/wire.h"

#include "fake_host.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#define A "0000:3b:00.0" /* A and B: group 1 */
#define B "0000:3b:00.1"
#define C "0000:3c:00.0" /* group 2 */
#define D "0001:00:00.0" /* group 3 */

#define HELD 4096

static struct fake_host fake;
static struct vault *vault;
static char reason[KEEPER_REASON_MAX];

static int setup(void **state)
{
	struct vault_config config = {
		.host = &fake.host,
		.limits = {{16, 16, HELD}, {16, 16, HELD}},
	};

	fake_host_init(&fake);
	fake_add(&fake, D, "0x120000", 3, NULL);
	fake_add(&fake, A, "0x020000", 1, "e1000e");
	fake_add(&fake, C, "0x010802", 2, "nvme");
	fake_add(&fake, B, "0x020000", 1, "igb");
	assert_int_equal(vault_new(&config, &vault), 0);
	return 0;
}

static int teardown(void **state)
{
	vault_free(vault);
	vault = NULL;
	assert_int_equal(fake.n_offences, 0);
	fake_host_deinit(&fake);
	return 0;
}

static uint64_t context_new(void)
{
	uint64_t context;
	int fd = -1;

	assert_int_equal(vault_context_open(vault, "acme", reason, &context, &fd), 0);
	close(fd);
	return context;
}

static ino_t inode_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static void expect_next(uint64_t context, const char *after, const char *address)
{
	char next[KEEPER_PCI_MAX] = "as it was";
	int r = vault_claim_next(vault, context, after, next);

	assert_int_equal(r, address ? 0 : KEEPER_E_NOT_FOUND);
	assert_string_equal(next, address ? address : "as it was");
}

static void expect_not_taken(uint64_t context, const char (*addresses)[KEEPER_PCI_MAX], size_t n,
			     int error, const char *text)
{
	unsigned n_cdevs = fake_open_cdevs(&fake);
	int fds[4] = {-7, -7, -7, -7};

	reason[0] = '\0';
	assert_int_equal(vault_take(vault, context, addresses, n, reason, fds), error);
	assert_string_equal(reason, text);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(fds[i], -7);
	assert_int_equal(fake_open_cdevs(&fake), n_cdevs);
}

static void test_claim_next(void **state)
{
	static const char claimed[][KEEPER_PCI_MAX] = {C, B, A}, last[][KEEPER_PCI_MAX] = {D};
	uint64_t context = context_new(), other = context_new();
	int fds[3];

	expect_next(context, "", NULL);
	expect_next(99, "", NULL);
	assert_int_equal(vault_claim(vault, context, claimed, 3, reason, fds), 0);
	wire_close(fds, 3);
	assert_int_equal(vault_claim(vault, other, last, 1, reason, fds), 0);
	expect_next(context, "", A);
	expect_next(context, A, B);
	expect_next(context, B, C);
	expect_next(context, C, NULL);
	/* One that is not claimed, or not there at all, is a place to go on from, too. */
	expect_next(context, "0000:00:00.0", A);
	expect_next(context, "0000:3b:1f.7", C);
	expect_next(other, A, D);
	expect_next(other, D, NULL);
	/* Released, though its last holder still has it. */
	assert_int_equal(vault_release(vault, other, last, 1, reason), 0);
	assert_int_equal(vault_is_free(vault, D, reason), KEEPER_E_BUSY);
	expect_next(other, "", NULL);
	close(fds[0]);
	assert_int_equal(vault_release(vault, context, claimed + 1, 2, reason), 0);
	expect_next(context, "", C);
	assert_int_equal(vault_context_close(vault, context, reason), 0);
	expect_next(context, "", NULL);
}

static void test_take(void **state)
{
	static const char claimed[][KEEPER_PCI_MAX] = {A, B, C}, mixed[][KEEPER_PCI_MAX] = {C, D},
			  again[][KEEPER_PCI_MAX] = {C, A, B}, last[][KEEPER_PCI_MAX] = {D};
	uint64_t context = context_new(), other = context_new();
	int fds[3], copies[3], third = -1;

	expect_not_taken(context, mixed, 1, KEEPER_E_NOT_FOUND,
			 C " is not claimed for the context");
	expect_not_taken(99, mixed, 1, KEEPER_E_NOT_FOUND, "no context 99");
	assert_int_equal(vault_claim(vault, context, claimed, 3, reason, fds), 0);
	assert_int_equal(vault_claim(vault, other, last, 1, reason, &third), 0);
	assert_int_equal(vault_take(vault, context, again, 3, reason, copies), 0);
	assert_int_equal(inode_of(copies[0]), inode_of(fds[2]));
	assert_int_equal(inode_of(copies[1]), inode_of(fds[0]));
	assert_int_equal(inode_of(copies[2]), inode_of(fds[1]));
	for (size_t i = 0; i < 3; i++)
		assert_true(fcntl(copies[i], F_GETFD) & FD_CLOEXEC);
	/* None, where one of them is another's. */
	expect_not_taken(context, mixed, 2, KEEPER_E_NOT_FOUND,
			 D " is not claimed for the context");
	expect_not_taken(other, mixed, 2, KEEPER_E_NOT_FOUND, C " is not claimed for the context");
	/* Who took a copy is a holder: the device is LEFT until he lets go. */
	wire_close(fds, 3);
	assert_int_equal(vault_release(vault, context, claimed, 3, reason), 0);
	assert_int_equal(vault_is_free(vault, C, reason), KEEPER_E_BUSY);
	expect_not_taken(context, again, 3, KEEPER_E_NOT_FOUND,
			 C " is not claimed for the context");
	wire_close(copies, 3);
	assert_int_equal(vault_is_free(vault, C, reason), 0);
	assert_int_equal(vault_is_free(vault, A, reason), 0);
	close(third);
	assert_int_equal(vault_context_close(vault, other, reason), 0);
	expect_not_taken(other, last, 1, KEEPER_E_NOT_FOUND, "no context 2");
}

/* All or none: the second copy finds no room. */
static void test_take_without_room(void **state)
{
	static const char both[][KEEPER_PCI_MAX] = {A, B};
	uint64_t context = context_new();
	struct rlimit files, few;
	int fds[2], spare[64], lowest;

	assert_int_equal(vault_claim(vault, context, both, 2, reason, fds), 0);
	/* No gaps below, so that a limit leaves room for just one. */
	for (size_t i = 0; i < 64; i++)
		spare[i] = dup(fds[0]);
	lowest = dup(fds[0]);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	few = files;
	few.rlim_cur = lowest + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	{
		int copies[2] = {-7, -7}, next;
		int r = vault_take(vault, context, both, 2, reason, copies);

		next = dup(fds[0]);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
		assert_int_equal(r, -EMFILE);
		assert_int_equal(copies[0], -7);
		assert_int_equal(copies[1], -7);
		assert_int_equal(next, lowest);
		close(next);
	}
	wire_close(spare, 64);
	wire_close(fds, 2);
}

static int hold(const char *name)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int r = vault_fd_hold(vault, "acme", name, &fd, reason);

	close_fd(&fd);
	return r;
}

static void expect_next_fd(const char *after, const char *name)
{
	char next[KEEPER_NAME_MAX] = "as it was";
	int r = vault_fd_next(vault, after, next);

	assert_int_equal(r, name ? 0 : KEEPER_E_NOT_FOUND);
	assert_string_equal(next, name ? name : "as it was");
}

static void test_fd_next(void **state)
{
	char longest[KEEPER_NAME_MAX] = "";

	memset(longest, 'z', sizeof(longest) - 1);
	expect_next_fd("", NULL);
	assert_int_equal(hold("mem.2"), 0);
	assert_int_equal(hold("mem.10"), 0);
	assert_int_equal(hold("Mem"), 0);
	assert_int_equal(hold("-"), 0);
	assert_int_equal(hold(longest), 0);
	expect_next_fd("", "-");
	expect_next_fd("-", "Mem");
	expect_next_fd("Mem", "mem.10");
	expect_next_fd("mem.10", "mem.2");
	expect_next_fd("mem.11", "mem.2");
	expect_next_fd("mem.2", longest);
	expect_next_fd(longest, NULL);
	/* Replaced, it is there once. */
	assert_int_equal(hold("mem.10"), 0);
	expect_next_fd("Mem", "mem.10");
	assert_int_equal(vault_fd_drop(vault, "mem.10"), 0);
	expect_next_fd("Mem", "mem.2");
}

/* As many as the system allows: every shape that the tree may have. */
static void test_fd_next_of_many(void **state)
{
	struct rlimit files;
	char name[KEEPER_NAME_MAX], next[KEEPER_NAME_MAX] = "";
	unsigned n = HELD;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	while (n + 256 > files.rlim_cur)
		n /= 2;
	assert_true(n >= 256);
	/* 4001 and n have no common divisor: all numbers, in no order. */
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "mem.%08u", i * 4001 % n);
		assert_int_equal(hold(name), 0);
		if (i % 3 == 0)
			assert_int_equal(vault_fd_drop(vault, name), 0);
		if (i % 6 == 0)
			assert_int_equal(hold(name), 0);
	}
	for (unsigned i = 0; i < n; i++) {
		int fd = -1;

		snprintf(name, sizeof(name), "mem.%08u", i);
		if (vault_fd_take(vault, name, &fd) == KEEPER_E_NOT_FOUND)
			continue;
		close(fd);
		assert_int_equal(vault_fd_next(vault, next, next), 0);
		assert_string_equal(next, name);
	}
	assert_int_equal(vault_fd_next(vault, next, next), KEEPER_E_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_claim_next, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take_without_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fd_next, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fd_next_of_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
