/* SPDX-License-Identifier: Apache-2.0 */
/* Claiming and giving back on a fake host: refusals, undo, limits, holders, slow devices. */
#include "keeper/vault.h"
#include "keeper/wire.h"

#include "fake_host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define A    "0000:3b:00.0" /* A and B: group 1 */
#define B    "0000:3b:00.1"
#define C    "0000:3c:00.0" /* group 2 */
#define D    "0000:3d:00.0" /* group 3, no driver */
#define PORT "0000:00:01.0" /* group 1, a bridge */

static struct fake_host fake;
static struct vault *vault;
static char reason[KEEPER_REASON_MAX];

static void start(const struct charge_limits *limits)
{
	struct vault_config config = {.host = &fake.host, .limits = *limits};

	assert_int_equal(vault_new(&config, &vault), 0);
}

static int setup(void **state)
{
	static const struct charge_limits limits = {{16, 16, 16}, {16, 16, 16}};

	fake_host_init(&fake);
	fake_add(&fake, PORT, "0x060400", 1, "pcieport");
	fake_add(&fake, A, "0x020000", 1, "e1000e");
	fake_add(&fake, B, "0x020000", 1, "igb");
	fake_add(&fake, C, "0x010802", 2, "nvme");
	fake_add(&fake, D, "0x120000", 3, NULL);
	start(&limits);
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

static uint64_t context_new(const char *owner)
{
	uint64_t context;
	int fd = -1;

	assert_int_equal(vault_context_open(vault, owner, reason, &context, &fd), 0);
	close(fd);
	return context;
}

/* Up to three addresses, NULL behind the last. */
static int claim3(uint64_t context, const char *a, const char *b, const char *c, int *fds)
{
	char addresses[3][KEEPER_PCI_MAX] = {0};
	const char *given[] = {a, b, c};
	size_t n = 0;

	for (; n < 3 && given[n]; n++)
		strcpy(addresses[n], given[n]);
	reason[0] = '\0';
	return vault_claim(vault, context, (const char(*)[KEEPER_PCI_MAX])addresses, n, reason,
			   fds);
}

static int release3(uint64_t context, const char *a, const char *b, const char *c)
{
	char addresses[3][KEEPER_PCI_MAX] = {0};
	const char *given[] = {a, b, c};
	size_t n = 0;

	for (; n < 3 && given[n]; n++)
		strcpy(addresses[n], given[n]);
	return vault_release(vault, context, (const char(*)[KEEPER_PCI_MAX])addresses, n, reason);
}

static void expect_home(void)
{
	assert_string_equal(fake_driver(&fake, A), "e1000e");
	assert_string_equal(fake_driver(&fake, B), "igb");
	assert_string_equal(fake_driver(&fake, C), "nvme");
	assert_string_equal(fake_driver(&fake, D), "");
	assert_string_equal(fake_override(&fake, A), "(null)");
	assert_string_equal(fake_override(&fake, B), "(null)");
	assert_string_equal(fake_override(&fake, C), "(null)");
	assert_string_equal(fake_override(&fake, D), "(null)");
	assert_int_equal(fake_open_cdevs(&fake), 0);
}

static void test_claim_release(void **state)
{
	static const char claimed[] = "/sys/bus/pci/devices/" C "/driver_override=vfio-pci\n"
				      "/sys/bus/pci/devices/" C "/driver/unbind=" C "\n"
				      "/sys/bus/pci/drivers_probe=" C "\n";
	static const char released[] = "/sys/bus/pci/devices/" C "/reset=1\n"
				       "/sys/bus/pci/devices/" C "/driver_override=\n"
				       "/sys/bus/pci/devices/" C "/driver/unbind=" C "\n"
				       "/sys/bus/pci/drivers_probe=" C "\n";
	uint64_t context = context_new("acme");
	int fd = -1;

	assert_int_equal(claim3(context, C, NULL, NULL, &fd), 0);
	assert_string_equal(fake.trace, claimed);
	assert_string_equal(fake_driver(&fake, C), "vfio-pci");
	assert_int_equal(vault_is_free(vault, C, reason), KEEPER_E_BUSY);
	close(fd);
	fake.trace[0] = '\0';
	assert_int_equal(release3(context, C, NULL, NULL), 0);
	assert_string_equal(fake.trace, released);
	assert_int_equal(vault_is_free(vault, C, reason), 0);
	assert_int_equal(release3(context, C, NULL, NULL), KEEPER_E_NOT_FOUND);
	expect_home();
	/* Without a driver before, without one afterwards. */
	assert_int_equal(claim3(context, D, NULL, NULL, &fd), 0);
	close(fd);
	assert_int_equal(vault_context_close(vault, context, reason), 0);
	expect_home();
}

/* An operator's own driver_override, and a device that is with vfio-pci already. */
static void test_previous_override(void **state)
{
	uint64_t context = context_new("acme");
	int fds[2];

	fake_file(&fake, "/sys/bus/pci/devices/" C "/driver_override", "nvme\n");
	fake_link(&fake, "/sys/bus/pci/devices/" D "/driver", "../../../bus/pci/drivers/vfio-pci");
	fake_folder(&fake, "/sys/bus/pci/devices/" D "/vfio-dev/vfio15616");
	assert_int_equal(claim3(context, C, D, NULL, fds), 0);
	wire_close(fds, 2);
	assert_int_equal(release3(context, C, D, NULL), 0);
	assert_string_equal(fake_override(&fake, C), "nvme");
	assert_string_equal(fake_driver(&fake, C), "nvme");
	assert_string_equal(fake_driver(&fake, D), "vfio-pci");
}

static void expect_refused(uint64_t context, const char *a, const char *b, int error,
			   const char *text)
{
	int fds[2] = {-7, -7};

	fake.trace[0] = '\0';
	assert_int_equal(claim3(context, a, b, NULL, fds), error);
	assert_string_equal(reason, text);
	assert_int_equal(fds[0], -7);
	expect_home();
}

static void test_refusals(void **state)
{
	uint64_t context = context_new("acme"), other = context_new("beta");
	int fds[2];

	expect_refused(99, C, NULL, KEEPER_E_NOT_FOUND, "no context 99");
	expect_refused(context, C, "0000:77:00.0", KEEPER_E_NOT_FOUND,
		       "the host has no 0000:77:00.0");
	expect_refused(context, C, PORT, KEEPER_E_FORBIDDEN, PORT " is a bridge");
	expect_refused(context, C, A, KEEPER_E_GROUP, "missing of the group: " B);
	fake_add(&fake, "0000:3e:00.0", "0x060100", 4, "lpc");
	expect_refused(context, "0000:3e:00.0", NULL, KEEPER_E_FORBIDDEN,
		       "0000:3e:00.0 is a bridge");
	fake_add(&fake, "0000:3e:00.1", "0x020000", -1, "e1000e");
	expect_refused(context, "0000:3e:00.1", NULL, KEEPER_E_UNSUPPORTED,
		       "0000:3e:00.1 is behind no IOMMU");
	fake_file(&fake, "/sys/bus/pci/devices/" C "/sriov_numvfs", "2\n");
	expect_refused(context, D, C, KEEPER_E_FORBIDDEN,
		       C ": 2 of its virtual functions are enabled");
	assert_string_equal(fake.trace, "");
	fake_file(&fake, "/sys/bus/pci/devices/" C "/sriov_numvfs", "0\n");
	fake.stubborn = C;
	expect_refused(context, D, C, KEEPER_E_UNSUPPORTED, C ": vfio-pci does not take it");
	fake.stubborn = NULL;
	fake.no_cdev = true;
	expect_refused(context, D, C, KEEPER_E_UNSUPPORTED,
		       D ": VFIO cdev: No such file or directory");
	fake.no_cdev = false;
	fake.bind_error = -EPERM;
	expect_refused(context, D, NULL, KEEPER_E_UNSUPPORTED,
		       D ": no interrupt remapping, or a companion has a driver");
	fake.bind_error = -EBUSY;
	expect_refused(context, D, NULL, KEEPER_E_BUSY,
		       D ": a program still has it open, or a driver its IOMMU group");
	fake.bind_error = 0;
	fake_remove(&fake, "/sys/bus/pci/drivers/vfio-pci");
	expect_refused(context, D, NULL, KEEPER_E_UNSUPPORTED, "vfio-pci is not loaded");
	fake_folder(&fake, "/sys/bus/pci/drivers/vfio-pci");
	assert_int_equal(claim3(context, C, NULL, NULL, fds), 0);
	close(fds[0]);
	assert_int_equal(claim3(other, D, C, NULL, fds), KEEPER_E_BUSY);
	assert_string_equal(reason, C " is claimed");
	assert_int_equal(vault_is_free(vault, D, reason), 0);
	/* Another context's. */
	assert_int_equal(release3(other, C, NULL, NULL), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_is_free(vault, "0000:77:00.0", reason), KEEPER_E_NOT_FOUND);
	assert_int_equal(release3(context, C, D, NULL), KEEPER_E_NOT_FOUND);
	assert_int_equal(release3(context, C, NULL, NULL), 0);
	fake.no_iommu = true;
	assert_int_equal(vault_context_open(vault, "acme", reason, &other, fds),
			 KEEPER_E_UNSUPPORTED);
	assert_string_equal(reason, "/dev/iommu: No such file or directory");
}

/* All or none: whichever look, write, open or bind fails, everything is as before. */
static void test_claim_fail_nth(void **state)
{
	uint64_t context = context_new("acme");
	unsigned n;

	for (n = 1;; n++) {
		int fds[3] = {-7, -7, -7}, r;

		fake.n_ops = 0;
		fake.fail_at = n;
		fake.trace[0] = '\0';
		r = claim3(context, A, C, B, fds);
		if (fake.n_ops < n) {
			assert_int_equal(r, 0);
			wire_close(fds, 3);
			break;
		}
		assert_true(r != 0);
		fake.fail_at = 0;
		assert_int_equal(fds[0], -7);
		expect_home();
		assert_int_equal(vault_is_free(vault, A, reason), 0);
	}
	assert_true(n > 60);
	fake.fail_at = 0;
	assert_int_equal(vault_context_close(vault, context, reason), 0);
	expect_home();
}

/* A claim that fails at its last device gives back in reverse. */
static void test_undo_in_reverse(void **state)
{
	uint64_t context = context_new("acme");
	const char *c, *a;
	int fds[3];

	fake.stubborn = B;
	assert_int_equal(claim3(context, C, A, B, fds), KEEPER_E_UNSUPPORTED);
	c = strstr(fake.trace, C "/driver_override=\n");
	a = strstr(fake.trace, A "/driver_override=\n");
	assert_non_null(a);
	assert_true(c > a);
	expect_home();
}

/* Nothing is forgotten: what fails on the way back is tried again when it is asked for. */
static void test_release_fail_nth(void **state)
{
	uint64_t context = context_new("acme");

	for (unsigned n = 1;; n++) {
		int fds[3];
		bool more;

		assert_int_equal(claim3(context, A, C, B, fds), 0);
		wire_close(fds, 3);
		fake.trace[0] = '\0';
		fake.n_ops = 0;
		fake.fail_at = n;
		assert_int_equal(release3(context, A, C, B), 0);
		more = fake.n_ops >= n;
		fake.fail_at = 0;
		assert_int_equal(vault_is_free(vault, A, reason), 0);
		assert_int_equal(vault_is_free(vault, C, reason), 0);
		/* A driver that does not come back is logged, and nothing more can be done. */
		for (const char *const *d = (const char *const[]){A, B, C, NULL}; *d; d++)
			if (!*fake_driver(&fake, *d))
				fake.host.ops->write(&fake, "/sys/bus/pci/drivers_probe", *d);
		expect_home();
		if (!more)
			break;
	}
}

/* Everything fails from the n-th op on, the way back as well: nothing is forgotten. */
static void test_fail_from_nth(void **state)
{
	bool claimed = false, released = false;

	for (unsigned n = 1; !released; n++) {
		uint64_t context = context_new("acme");
		int fds[3] = {-1, -1, -1}, r;

		fake.trace[0] = '\0';
		fake.n_ops = 0;
		fake.fail_at = n;
		fake.fail_more = 100000;
		r = claim3(context, A, C, B, fds);
		wire_close(fds, 3);
		assert_int_equal(r == 0, fake.n_ops < n);
		claimed = claimed || r == 0;
		assert_int_equal(vault_context_close(vault, context, reason), 0);
		released = fake.n_ops < n;
		fake.fail_at = 0;
		vault_settle(vault, 0);
		for (const char *const *d = (const char *const[]){A, B, C, NULL}; *d; d++) {
			assert_int_equal(vault_is_free(vault, *d, reason), 0);
			if (!*fake_driver(&fake, *d))
				fake.host.ops->write(&fake, "/sys/bus/pci/drivers_probe", *d);
		}
		expect_home();
	}
	assert_true(claimed);
}

/* A former holder: charged, given to no one, until its fd is gone. */
static void test_holder(void **state)
{
	uint64_t context = context_new("acme"), other = context_new("beta");
	int fd = -1, again = -1;

	for (int bound = 0; bound < 2; bound++) {
		assert_int_equal(claim3(context, C, NULL, NULL, &fd), 0);
		if (bound)
			assert_int_equal(fake.host.ops->bind(&fake, fd, -1), 0);
		assert_int_equal(release3(context, C, NULL, NULL), 0);
		assert_string_equal(fake_driver(&fake, C), "vfio-pci");
		assert_int_equal(vault_is_free(vault, C, reason), KEEPER_E_BUSY);
		assert_string_equal(reason, C ": its last holder still has it");
		assert_int_equal(claim3(other, C, NULL, NULL, &again), KEEPER_E_BUSY);
		assert_int_equal(claim3(context, C, NULL, NULL, &again), KEEPER_E_BUSY);
		close(fd);
		assert_int_equal(vault_is_free(vault, C, reason), 0);
		expect_home();
	}
	/* The context is gone before its holder. */
	assert_int_equal(claim3(context, C, NULL, NULL, &fd), 0);
	assert_int_equal(vault_context_close(vault, context, reason), 0);
	assert_int_equal(vault_is_free(vault, C, reason), KEEPER_E_BUSY);
	close(fd);
	vault_settle(vault, 0);
	expect_home();
	/* Held by somebody of whom the keeper knows nothing: its state file is gone. */
	assert_int_equal(claim3(other, C, NULL, NULL, &fd), 0);
	assert_int_equal(fake.host.ops->bind(&fake, fd, -1), 0);
	vault_free(vault);
	start(&(struct charge_limits){{1, 1, 1}, {1, 1, 1}});
	context = context_new("acme");
	assert_int_equal(claim3(context, C, NULL, NULL, &again), KEEPER_E_BUSY);
	assert_int_equal(vault_is_free(vault, C, reason), 0);
	close(fd);
	assert_int_equal(claim3(context, C, NULL, NULL, &again), 0);
	close(again);
}

/* A group goes back as a whole: not while a companion is claimed, or held. */
static void test_group(void **state)
{
	uint64_t context = context_new("acme"), other = context_new("beta");
	int fds[2];

	assert_int_equal(claim3(context, A, B, NULL, fds), 0);
	close(fds[0]);
	assert_int_equal(release3(context, A, NULL, NULL), 0);
	assert_int_equal(vault_is_free(vault, A, reason), KEEPER_E_BUSY);
	assert_string_equal(fake_driver(&fake, A), "vfio-pci");
	assert_int_equal(release3(context, B, NULL, NULL), 0);
	assert_int_equal(vault_is_free(vault, A, reason), KEEPER_E_BUSY);
	close(fds[1]);
	assert_int_equal(vault_is_free(vault, A, reason), 0);
	expect_home();
	/* Also where nobody but the keeper has any of them open. */
	assert_int_equal(claim3(context, A, B, NULL, fds), 0);
	wire_close(fds, 2);
	assert_int_equal(release3(context, A, NULL, NULL), 0);
	assert_int_equal(vault_is_free(vault, A, reason), KEEPER_E_BUSY);
	assert_string_equal(fake_driver(&fake, A), "vfio-pci");
	assert_string_equal(fake_driver(&fake, B), "vfio-pci");
	assert_int_equal(fake_open_cdevs(&fake), 2);
	assert_int_equal(release3(context, B, NULL, NULL), 0);
	expect_home();
	/* One after the other for the same context is not possible, either. */
	assert_int_equal(claim3(other, B, NULL, NULL, fds), KEEPER_E_GROUP);
	assert_string_equal(reason, "missing of the group: " A);
	/* A companion that is no PCI function, or has no driver, is missing as well. */
	fake_link(&fake, "/sys/kernel/iommu_groups/2/devices/platform-x", "../../../x");
	assert_int_equal(claim3(other, C, NULL, NULL, fds), KEEPER_E_GROUP);
	assert_string_equal(reason, "missing of the group: platform-x");
	/* Plugged in later: claimed for the context that has the rest. */
	assert_int_equal(claim3(context, A, B, NULL, fds), 0);
	wire_close(fds, 2);
	fake_add(&fake, "0000:3b:00.2", "0x020000", 1, NULL);
	assert_int_equal(claim3(other, "0000:3b:00.2", NULL, NULL, fds), KEEPER_E_GROUP);
	assert_int_equal(claim3(context, "0000:3b:00.2", NULL, NULL, fds), 0);
	close(fds[0]);
	assert_int_equal(vault_context_close(vault, context, reason), 0);
	expect_home();
}

static void test_limits(void **state)
{
	uint64_t contexts[3], context;
	int fd = -1;

	vault_free(vault);
	start(&(struct charge_limits){{3, 2, 3}, {2, 1, 2}});
	contexts[0] = context_new("acme");
	contexts[1] = context_new("acme");
	assert_int_equal(vault_context_open(vault, "acme", reason, &context, &fd), KEEPER_E_LIMIT);
	assert_string_equal(reason, "acme has 2 contexts already");
	contexts[2] = context_new("beta");
	assert_int_equal(vault_context_open(vault, "beta", reason, &context, &fd), KEEPER_E_LIMIT);
	assert_string_equal(reason, "the keeper has 3 contexts already");
	assert_int_equal(vault_context_close(vault, contexts[0], reason), 0);
	contexts[0] = context_new("acme");

	/* One device an owner: two at once are refused as a whole. */
	assert_int_equal(claim3(contexts[0], C, D, NULL, &fd), KEEPER_E_LIMIT);
	assert_string_equal(reason, "acme has 1 devices already");
	assert_int_equal(claim3(contexts[0], C, NULL, NULL, &fd), 0);
	assert_int_equal(release3(contexts[0], C, NULL, NULL), 0);
	/* Held, and so still charged: also on the owner's other context. */
	{
		int other = -1;

		assert_int_equal(claim3(contexts[1], D, NULL, NULL, &other), KEEPER_E_LIMIT);
		close(fd);
		assert_int_equal(vault_is_free(vault, C, reason), 0);
		assert_int_equal(claim3(contexts[1], D, NULL, NULL, &other), 0);
		close(other);
	}
	assert_int_equal(vault_context_next(vault, 0, &context), 0);
	assert_int_equal(context, contexts[1]);
	assert_int_equal(vault_context_next(vault, contexts[1], &context), 0);
	assert_int_equal(context, contexts[2]);
	assert_int_equal(vault_context_next(vault, contexts[0], &context), KEEPER_E_NOT_FOUND);
}

static int hold(const char *owner, const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC), copy = fd;
	int r = vault_fd_hold(vault, owner, name, &fd, reason);

	/* Taken on success, and the caller's otherwise. */
	assert_int_equal(fd, r ? copy : -1);
	close_fd(&fd);
	return r;
}

static void test_held_fds(void **state)
{
	int fd = -1;

	vault_free(vault);
	start(&(struct charge_limits){{3, 3, 3}, {2, 2, 2}});
	assert_int_equal(hold("acme", "m1"), 0);
	assert_int_equal(hold("acme", "m2"), 0);
	assert_int_equal(hold("acme", "m3"), KEEPER_E_LIMIT);
	/* A name that is replaced pays nothing new; of another owner, it pays there. */
	assert_int_equal(hold("acme", "m2"), 0);
	assert_int_equal(hold("beta", "m2"), 0);
	assert_int_equal(hold("acme", "m3"), 0);
	assert_int_equal(hold("beta", "m4"), KEEPER_E_LIMIT);
	assert_string_equal(reason, "the keeper has 3 held fds already");
	assert_int_equal(vault_fd_take(vault, "m1", &fd), 0);
	close(fd);
	assert_int_equal(vault_fd_take(vault, "m4", &fd), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_fd_drop(vault, "m1"), 0);
	assert_int_equal(vault_fd_drop(vault, "m1"), KEEPER_E_NOT_FOUND);
	assert_int_equal(hold("beta", "m4"), 0);
	assert_int_equal(hold("beta", "m5"), KEEPER_E_LIMIT);
}

static void *release_slow(void *arg)
{
	release3(*(uint64_t *)arg, C, NULL, NULL);
	return NULL;
}

/* While one device's reset hangs, everybody else goes on. */
static void test_slow_device(void **state)
{
	uint64_t context = context_new("acme"), other = context_new("beta");
	pthread_t thread;
	int fds[2];

	assert_int_equal(claim3(context, C, NULL, NULL, fds), 0);
	close(fds[0]);
	fake.slow = C;
	fake.blocked = true;
	assert_int_equal(pthread_create(&thread, NULL, release_slow, &context), 0);
	pthread_mutex_lock(&fake.lock);
	while (!fake.waiting)
		pthread_cond_wait(&fake.changed, &fake.lock);
	pthread_mutex_unlock(&fake.lock);
	assert_int_equal(vault_is_free(vault, C, reason), KEEPER_E_BUSY);
	assert_int_equal(claim3(other, C, NULL, NULL, fds), KEEPER_E_BUSY);
	assert_int_equal(claim3(other, A, B, NULL, fds), 0);
	wire_close(fds, 2);
	assert_int_equal(vault_context_close(vault, other, reason), 0);
	assert_int_equal(vault_context_close(vault, context_new("gamma"), reason), 0);
	assert_int_equal(vault_context_close(vault, context, reason), 0);
	pthread_mutex_lock(&fake.lock);
	fake.blocked = false;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
	pthread_join(thread, NULL);
	expect_home();
}

static void *close_slow(void *arg)
{
	char mine[KEEPER_REASON_MAX];

	assert_int_equal(vault_context_close(vault, *(uint64_t *)arg, mine), 0);
	return NULL;
}

/* Its id is dead from the beginning of its end. */
static void test_closing_context(void **state)
{
	uint64_t context = context_new("acme"), next;
	pthread_t thread;
	int fd = -1;

	assert_int_equal(claim3(context, C, NULL, NULL, &fd), 0);
	close(fd);
	fake.slow = C;
	fake.blocked = true;
	assert_int_equal(pthread_create(&thread, NULL, close_slow, &context), 0);
	pthread_mutex_lock(&fake.lock);
	while (!fake.waiting)
		pthread_cond_wait(&fake.changed, &fake.lock);
	pthread_mutex_unlock(&fake.lock);
	assert_int_equal(claim3(context, D, NULL, NULL, &fd), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_context_close(vault, context, reason), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_context_next(vault, 0, &next), KEEPER_E_NOT_FOUND);
	pthread_mutex_lock(&fake.lock);
	fake.blocked = false;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
	pthread_join(thread, NULL);
	expect_home();
}

static void *churn(void *arg)
{
	char mine[KEEPER_REASON_MAX];
	uint64_t context;
	int fd;

	for (unsigned i = 0; i < 40; i++) {
		char addresses[2][KEEPER_PCI_MAX] = {A, B};
		const char(*list)[KEEPER_PCI_MAX] = (const char(*)[KEEPER_PCI_MAX])addresses;
		int fds[2];

		if (vault_context_open(vault, arg, mine, &context, &fd))
			continue;
		close(fd);
		if (vault_claim(vault, context, list, 2, mine, fds) == 0) {
			wire_close(fds, 2);
			if (i % 2)
				(void)vault_release(vault, context, list + i % 4 / 3, 1, mine);
		}
		(void)vault_is_free(vault, i % 2 ? A : B, mine);
		assert_int_equal(vault_context_close(vault, context, mine), 0);
	}
	return NULL;
}

/* For ThreadSanitizer: threads that fight for the same group. */
static void test_threads(void **state)
{
	static char names[4][8] = {"a", "b", "c", "d"};
	pthread_t threads[4];

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, names[i]), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	vault_settle(vault, 0);
	expect_home();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_claim_release, setup, teardown),
		cmocka_unit_test_setup_teardown(test_previous_override, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_claim_fail_nth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_undo_in_reverse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_release_fail_nth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fail_from_nth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_holder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_group, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_held_fds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_device, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closing_context, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
