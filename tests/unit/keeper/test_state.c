/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives a keeper: the state file and systemd's fd store, played by the test. */
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#define A "0000:3b:00.0"
#define B "0000:3b:00.1"
#define C "0000:3c:00.0"

static struct fake_host fake;
static struct vault *vault;
static char reason[KEEPER_REASON_MAX];
static char state_path[128];

/* The service manager: a thread that keeps fds by name, and hears nothing of memfds. */
static struct {
	int sock;
	pthread_t thread;
	pthread_mutex_t lock;
	struct backup_fd fds[16];
	size_t n;
	unsigned n_messages;
} manager = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void manager_hear(char *text, int *fds, size_t n_fds)
{
	char *name = strstr(text, "FDNAME=");
	size_t length;

	manager.n_messages++;
	if (!name)
		return; /* BARRIER=1: its fd is closed by the caller */
	name += strlen("FDNAME=");
	length = strcspn(name, "\n");
	name[length] = '\0';
	if (!strncmp(text, "FDSTORE=1", 9)) {
		assert_int_equal(n_fds, 1);
		snprintf(manager.fds[manager.n].name, BACKUP_NAME_MAX, "%s", name);
		manager.fds[manager.n++].fd = fds[0];
		fds[0] = -1;
		return;
	}
	for (size_t i = 0; i < manager.n; i++) {
		if (strcmp(manager.fds[i].name, name) != 0)
			continue;
		close(manager.fds[i].fd);
		manager.fds[i] = manager.fds[--manager.n];
		return;
	}
}

static void *manager_main(void *arg)
{
	for (;;) {
		char text[512];
		int fds[WIRE_FDS_MAX];
		size_t n_fds = 0;
		ssize_t n = wire_receive(manager.sock, text, sizeof(text) - 1, fds, &n_fds);

		if (n <= 0)
			return NULL;
		text[n] = '\0';
		pthread_mutex_lock(&manager.lock);
		if (!strcmp(text, "END")) {
			pthread_mutex_unlock(&manager.lock);
			return NULL;
		}
		manager_hear(text, fds, n_fds);
		pthread_mutex_unlock(&manager.lock);
		wire_close(fds, n_fds);
	}
}

/* What it has now: after all that was sent before. */
static size_t manager_count(void)
{
	struct backup all = {.fd_store = true};
	size_t n;

	backup_barrier(&all);
	pthread_mutex_lock(&manager.lock);
	n = manager.n;
	pthread_mutex_unlock(&manager.lock);
	return n;
}

static void start(bool fd_store)
{
	struct vault_config config = {
		.host = &fake.host,
		.limits = {{8, 8, 8}, {8, 8, 8}},
		.backup = {.state_path = state_path, .fd_store = fd_store},
	};

	assert_int_equal(vault_new(&config, &vault), 0);
}

/* The keeper is killed and started again. */
static int restart(bool fd_store)
{
	struct backup_fd fds[16];
	size_t n;

	vault_free(vault);
	start(fd_store);
	pthread_mutex_lock(&manager.lock);
	n = fd_store ? manager.n : 0;
	for (size_t i = 0; i < n; i++) {
		fds[i] = manager.fds[i];
		fds[i].fd = dup(fds[i].fd);
	}
	pthread_mutex_unlock(&manager.lock);
	return vault_restore(vault, fds, n);
}

static int setup(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	fake_host_init(&fake);
	fake_add(&fake, A, "0x020000", 1, "e1000e");
	fake_add(&fake, B, "0x020000", 1, "Intel with blanks");
	fake_add(&fake, C, "0x010802", 2, "nvme");
	snprintf(state_path, sizeof(state_path), "%s/state", fake.root);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", fake.root);
	manager.sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(manager.sock, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	manager.n = 0;
	assert_int_equal(pthread_create(&manager.thread, NULL, manager_main, NULL), 0);
	start(true);
	return 0;
}

static int teardown(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	vault_free(vault);
	vault = NULL;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", fake.root);
	assert_int_equal(
		sendto(manager.sock, "END", 3, 0, (struct sockaddr *)&address, sizeof(address)), 3);
	pthread_join(manager.thread, NULL);
	close(manager.sock);
	for (size_t i = 0; i < manager.n; i++)
		close(manager.fds[i].fd);
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

static const char pair[2][KEEPER_PCI_MAX] = {A, B};
static const char single[1][KEEPER_PCI_MAX] = {C};

/* Whatever a broker that starts asks for; the inodes are those of the cdevs of the pair. */
static void expect_found(uint64_t context, uint64_t last, const ino_t *inodes)
{
	char address[KEEPER_PCI_MAX] = "", name[KEEPER_NAME_MAX];
	uint64_t next;
	int fds[2] = {-1, -1};
	struct stat st;

	assert_int_equal(vault_context_next(vault, 0, &next), 0);
	assert_int_equal(next, context);
	assert_int_equal(vault_context_next(vault, context, &next), 0);
	assert_int_equal(next, last);
	assert_int_equal(vault_context_next(vault, last, &next), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_context_take(vault, context, &fds[0]), 0);
	close(fds[0]);
	assert_int_equal(vault_claim_next(vault, context, "", address), 0);
	assert_string_equal(address, A);
	assert_int_equal(vault_claim_next(vault, context, address, address), 0);
	assert_string_equal(address, B);
	assert_int_equal(vault_claim_next(vault, context, address, address), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_claim_next(vault, last, "", address), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_take(vault, last, pair, 2, reason, fds), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_take(vault, context, pair, 2, reason, fds), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(fstat(fds[i], &st), 0);
		assert_int_equal(st.st_ino, inodes[i]);
	}
	wire_close(fds, 2);
	assert_int_equal(vault_fd_next(vault, "", name), KEEPER_E_NOT_FOUND);
}

static void test_restart(void **state)
{
	ino_t inodes[2];
	struct stat st;
	uint64_t context = context_new("acme"), last = context_new("beta"), next;
	int fds[2], fd;

	assert_int_equal(vault_claim(vault, context, pair, 2, reason, fds), 0);
	assert_int_equal(manager_count(), 4);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(fstat(fds[i], &st), 0);
		inodes[i] = st.st_ino;
	}
	expect_found(context, last, inodes);
	fd = memfd_create("m", MFD_CLOEXEC);
	assert_int_equal(vault_fd_hold(vault, "acme", "m", &fd, reason), 0);
	assert_int_equal(manager_count(), 4);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(restart(true), 0);
		vault_settle(vault, 0);
		assert_int_equal(vault_is_free(vault, A, reason), KEEPER_E_BUSY);
		expect_found(context, last, inodes);
	}
	assert_int_equal(vault_fd_take(vault, "m", &fd), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_context_next(vault, 0, &next), 0);
	assert_int_equal(next, context);
	assert_int_equal(vault_context_next(vault, next, &next), 0);
	assert_int_equal(next, last);
	/* An id is never given twice. */
	assert_int_equal(context_new("acme"), last + 1);
	assert_int_equal(fake.host.ops->bind(&fake, fds[0], -1), 0);
	wire_close(fds, 2);
	assert_int_equal(vault_release(vault, context, pair, 2, reason), 0);
	assert_int_equal(vault_is_free(vault, A, reason), 0);
	assert_string_equal(fake_driver(&fake, A), "e1000e");
	assert_string_equal(fake_driver(&fake, B), "Intel with blanks");
	assert_int_equal(manager_count(), 3);
	assert_int_equal(vault_context_close(vault, context, reason), 0);
	assert_int_equal(manager_count(), 2);
}

/* Released, but not yet let go of: no restart makes it the context's again. */
static void test_left(void **state)
{
	uint64_t context = context_new("acme");
	int fds[1];

	assert_int_equal(vault_claim(vault, context, single, 1, reason, fds), 0);
	wire_close(fds, 1);
	fake.bind_error = -ENOMEM;
	assert_int_equal(vault_release(vault, context, single, 1, reason), 0);
	assert_int_equal(vault_is_free(vault, C, reason), KEEPER_E_BUSY);
	assert_int_equal(manager_count(), 2);
	assert_int_equal(restart(true), 0);
	assert_int_equal(vault_release(vault, context, single, 1, reason), KEEPER_E_NOT_FOUND);
	fake.bind_error = 0;
	assert_int_equal(vault_is_free(vault, C, reason), 0);
	assert_string_equal(fake_driver(&fake, C), "nvme");
	assert_int_equal(manager_count(), 1);
}

/* No fd store: contexts are lost, and devices go home when their holder has let go. */
static void test_without_store(void **state)
{
	uint64_t context, next;
	int fds[2];

	vault_free(vault);
	start(false);
	context = context_new("acme");
	assert_int_equal(vault_claim(vault, context, pair, 2, reason, fds), 0);
	assert_int_equal(fake.host.ops->bind(&fake, fds[0], -1), 0);
	close(fds[1]);
	assert_int_equal(restart(false), 0);
	vault_settle(vault, 0);
	assert_int_equal(vault_context_next(vault, 0, &next), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_is_free(vault, B, reason), KEEPER_E_BUSY);
	assert_string_equal(fake_driver(&fake, B), "vfio-pci");
	assert_int_equal(restart(false), 0);
	close(fds[0]);
	vault_settle(vault, 0);
	assert_string_equal(fake_driver(&fake, A), "e1000e");
	assert_string_equal(fake_driver(&fake, B), "Intel with blanks");
	assert_int_equal(vault_is_free(vault, B, reason), 0);
	assert_int_equal(manager_count(), 0);
}

/* Killed anywhere in a claim: the next start gives back what had been touched. */
static void test_killed_in_claim(void **state)
{
	static const char *const steps[] = {"driver_override", "unbind", "drivers_probe"};
	uint64_t context = context_new("acme");
	int fds[2];

	assert_int_equal(vault_claim(vault, context, pair, 2, reason, fds), 0);
	wire_close(fds, 2);
	for (size_t i = 0; i < 3; i++) {
		char path[256], text[4096];
		FILE *file;
		size_t n;

		/* The intent is in the file, and the device half-way. */
		file = fopen(state_path, "w");
		assert_non_null(file);
		fprintf(file, "ioasid-keeper\t1\t9\ncontext\t1\tacme\n"
			      "device\t" C "\t0\t2\tacme\tnvme\t\n");
		fclose(file);
		fake.host.ops->write(&fake, "/sys/bus/pci/devices/" C "/driver_override",
				     "vfio-pci");
		if (strcmp(steps[i], "driver_override") != 0)
			fake.host.ops->write(&fake, "/sys/bus/pci/devices/" C "/driver/unbind", C);
		if (!strcmp(steps[i], "drivers_probe"))
			fake.host.ops->write(&fake, "/sys/bus/pci/drivers_probe", C);
		assert_int_equal(restart(true), 0);
		assert_int_equal(vault_is_free(vault, C, reason), 0);
		assert_string_equal(fake_driver(&fake, C), "nvme");
		assert_string_equal(fake_override(&fake, C), "(null)");
		snprintf(path, sizeof(path), "%s", state_path);
		file = fopen(path, "r");
		assert_non_null(file);
		n = fread(text, 1, sizeof(text) - 1, file);
		text[n] = '\0';
		fclose(file);
		assert_null(strstr(text, "device"));
	}
}

static void test_bad_files(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"ioasid-keeper\t2\t1\n",
		"ioasid-keeper\t1\t0\n",
		"ioasid-keeper\t1\tx\n",
		"ioasid-keeper\t1\t-1\n",
		"ioasid-keeper\t1\t99999999999999999999\n",
		"ioasid-keeper\t1\n",
		"context\t1\tacme\n",
		"ioasid-keeper\t1\t2\nioasid-keeper\t1\t2\n",
		"ioasid-keeper\t1\t2\ncontext\t2\tacme\n", /* not given yet */
		"ioasid-keeper\t1\t2\ncontext\t0\tacme\n",
		"ioasid-keeper\t1\t2\ncontext\t1\t\n",
		"ioasid-keeper\t1\t2\ndevice\t" C "\t0\t2\tacme\tnvme\n",
		"ioasid-keeper\t1\t2\ndevice\t" C "\t0\t2\tacme\tnvme\t\t\n",
		"ioasid-keeper\t1\t2\ndevice\t../x\t0\t2\tacme\tnvme\t\n",
		"ioasid-keeper\t1\t2\ndevice\t" C "\t0\t-1\tacme\tnvme\t\n",
		"ioasid-keeper\t1\t2\ndevice\t" C "\t0\t2\t\tnvme\t\n",
		"ioasid-keeper\t1\t2\ndevice\t" C "\t0\t2\tacme\t"
		"a-driver-of-thirty-two-characters\t\n",
		"ioasid-keeper\t1\t2\ndevice\t" C "\t0\t2\ta\tnvme\t\n"
		"device\t" C "\t0\t2\ta\tnvme\t\n",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char text[512] = "";
		FILE *file = fopen(state_path, "w");

		assert_non_null(file);
		fputs(bad[i], file);
		fclose(file);
		assert_int_equal(restart(true), -EBADMSG);
		/* Not overwritten: the operator may mend it. */
		file = fopen(state_path, "r");
		assert_non_null(file);
		assert_int_equal(fread(text, 1, sizeof(text), file), strlen(bad[i]));
		fclose(file);
		assert_string_equal(text, bad[i]);
	}
}

/* Fds without a line are closed, lines without fds lost; the limits now do not count. */
static void test_odd_ends(void **state)
{
	struct backup_fd fds[] = {{"ctx.77", dup(0)}, {"dev.0000-77-00.0", dup(0)}};
	uint64_t next;
	FILE *file = fopen(state_path, "w");

	assert_non_null(file);
	fputs("ioasid-keeper\t1\t20\ncontext\t5\tacme\n"
	      "device\t" C "\t5\t2\tacme\tnvme\t\n",
	      file);
	fclose(file);
	assert_int_equal(vault_restore(vault, fds, 2), 0);
	assert_int_equal(fds[0].fd, -1);
	assert_int_equal(vault_context_next(vault, 0, &next), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_release(vault, 5, single, 1, reason), KEEPER_E_NOT_FOUND);
	assert_int_equal(vault_is_free(vault, C, reason), 0);
	/* An id of which only the fd was left is not given again, either. */
	assert_int_equal(context_new("acme"), 78);
}

/* Ids of one boot are all different, whatever became of the file and of the contexts. */
static void test_ids(void **state)
{
	uint64_t id, last = 0;

	for (int i = 0; i < 12; i++) {
		if (i % 3 == 1)
			assert_int_equal(unlink(state_path), 0);
		assert_int_equal(restart(i % 2), 0);
		id = context_new("acme");
		assert_true(id > last);
		last = context_new("beta");
		assert_int_equal(last, id + 1);
		assert_int_equal(vault_context_close(vault, last, reason), 0);
	}
	/* The last one is closed, and nobody else has been given its id. */
	assert_int_equal(restart(true), 0);
	assert_int_equal(context_new("acme"), last + 1);
}

static void test_odd_ids(void **state)
{
	static const char *const odd[] = {"ctx.18446744073709551615", "ctx.", "ctx.-1", "ctx.1x",
					  "ctx.99999999999999999999"};

	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		struct backup_fd fd = {.fd = dup(0)};
		FILE *file = fopen(state_path, "w");

		assert_non_null(file);
		fputs("ioasid-keeper\t1\t20\n", file);
		fclose(file);
		snprintf(fd.name, sizeof(fd.name), "%s", odd[i]);
		vault_free(vault);
		start(true);
		assert_int_equal(vault_restore(vault, &fd, 1), 0);
		assert_int_equal(context_new("acme"), 20);
	}
}

/* A claim does not begin where its intent cannot be written. */
static void test_no_state_file(void **state)
{
	uint64_t context = context_new("acme");
	int fds[2];

	fake_folder(&fake, "/state.new");
	fake.trace[0] = '\0';
	assert_int_equal(vault_claim(vault, context, pair, 2, reason, fds), -EISDIR);
	assert_string_equal(fake.trace, "");
	fake_remove(&fake, "/state.new");
	assert_int_equal(vault_claim(vault, context, pair, 2, reason, fds), 0);
	wire_close(fds, 2);
}

/* No further file from the moment at which the first driver is touched. */
static struct host_ops blocking_ops;
static int (*true_write)(void *data, const char *path, const char *text);

static int write_and_block(void *data, const char *path, const char *text)
{
	fake_folder(&fake, "/state.new");
	return true_write(data, path, text);
}

/* What the next keeper would not know is no claim: all goes back. */
static void test_no_state_file_at_the_end(void **state)
{
	uint64_t context = context_new("acme");
	char address[KEEPER_PCI_MAX];
	int fds[2] = {-7, -7};

	blocking_ops = *fake.host.ops;
	true_write = blocking_ops.write;
	blocking_ops.write = write_and_block;
	fake.host.ops = &blocking_ops;
	assert_int_equal(vault_claim(vault, context, pair, 2, reason, fds), -EISDIR);
	assert_int_equal(fds[0], -7);
	assert_int_equal(vault_claim_next(vault, context, "", address), KEEPER_E_NOT_FOUND);
	blocking_ops.write = true_write;
	fake_remove(&fake, "/state.new");
	assert_int_equal(vault_is_free(vault, A, reason), 0);
	assert_int_equal(vault_is_free(vault, B, reason), 0);
	assert_string_equal(fake_driver(&fake, A), "e1000e");
	assert_int_equal(fake_open_cdevs(&fake), 0);
	assert_int_equal(manager_count(), 1);
	assert_int_equal(restart(true), 0);
	assert_int_equal(vault_is_free(vault, A, reason), 0);
	assert_int_equal(vault_claim(vault, context, pair, 2, reason, fds), 0);
	wire_close(fds, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_store, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_in_claim, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_state_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_state_file_at_the_end, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
