/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_host.h. */
#include "fake_host.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *real(struct fake_host *fake, const char *path, char *buffer)
{
	snprintf(buffer, 4096, "%s%s", fake->root, path);
	return buffer;
}

static void make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		assert(mkdir(path, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
}

void fake_folder(struct fake_host *fake, const char *path)
{
	char buffer[4096];

	real(fake, path, buffer);
	make_parents(buffer);
	assert(mkdir(buffer, 0755) == 0 || errno == EEXIST);
}

void fake_file(struct fake_host *fake, const char *path, const char *text)
{
	char buffer[4096];
	FILE *file;

	real(fake, path, buffer);
	make_parents(buffer);
	file = fopen(buffer, "w");
	assert(file);
	fputs(text, file);
	fclose(file);
}

void fake_link(struct fake_host *fake, const char *path, const char *target)
{
	char buffer[4096];

	real(fake, path, buffer);
	make_parents(buffer);
	unlink(buffer);
	assert(symlink(target, buffer) == 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	return remove(path);
}

void fake_remove(struct fake_host *fake, const char *path)
{
	char buffer[4096];

	nftw(real(fake, path, buffer), remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void fake_add(struct fake_host *fake, const char *address, const char *class, int group,
	      const char *driver)
{
	char path[512], target[512];

#define AT(...) (snprintf(path, sizeof(path), __VA_ARGS__), path)
	snprintf(target, sizeof(target), "../../../devices/pci0000:00/%s", address);
	fake_link(fake, AT("/sys/bus/pci/devices/%s", address), target);
	fake_file(fake, AT("/sys/devices/pci0000:00/%s/class", address), class);
	fake_file(fake, AT("/sys/devices/pci0000:00/%s/driver_override", address), "(null)\n");
	fake_file(fake, AT("/sys/devices/pci0000:00/%s/reset", address), "");
	fake_file(fake, AT("/sys/devices/pci0000:00/%s/config", address), "none");
	if (group >= 0) {
		snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%d", group);
		fake_link(fake, AT("/sys/devices/pci0000:00/%s/iommu_group", address), target);
		snprintf(target, sizeof(target), "../../../../devices/pci0000:00/%s", address);
		fake_link(fake, AT("/sys/kernel/iommu_groups/%d/devices/%s", group, address),
			  target);
	}
	fake_file(fake, AT("/natural/%s", address), driver ? driver : "");
	if (!driver)
		return;
	fake_folder(fake, AT("/sys/bus/pci/drivers/%s", driver));
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	fake_link(fake, AT("/sys/devices/pci0000:00/%s/driver", address), target);
}

static void read_file(struct fake_host *fake, const char *path, char *ret_text, size_t size)
{
	char buffer[4096];
	FILE *file = fopen(real(fake, path, buffer), "r");

	*ret_text = '\0';
	if (!file)
		return;
	if (!fgets(ret_text, size, file))
		*ret_text = '\0';
	ret_text[strcspn(ret_text, "\n")] = '\0';
	fclose(file);
}

const char *fake_override(struct fake_host *fake, const char *address)
{
	static char text[64];
	char path[512];

	read_file(fake, AT("/sys/bus/pci/devices/%s/driver_override", address), text, sizeof(text));
	return text;
}

static void driver_of(struct fake_host *fake, const char *address, char *ret_driver)
{
	char path[512], buffer[4096], target[512];
	ssize_t n = readlink(real(fake, AT("/sys/bus/pci/devices/%s/driver", address), buffer),
			     target, sizeof(target) - 1);

	*ret_driver = '\0';
	if (n < 0)
		return;
	target[n] = '\0';
	strcpy(ret_driver, strrchr(target, '/') + 1);
}

const char *fake_driver(struct fake_host *fake, const char *address)
{
	static char driver[512];

	driver_of(fake, address, driver);
	return driver;
}

/* ---- the kernel ---- */

/* 1: another op; its turn to fail. */
static bool op_fails(struct fake_host *fake)
{
	fake->n_ops++;
	return fake->fail_at && fake->n_ops >= fake->fail_at &&
	       fake->n_ops <= fake->fail_at + fake->fail_more;
}

static bool open_lives(const struct fake_open *open)
{
	struct pollfd polled = {.fd = open->read_end};

	return open->read_end >= 0 && poll(&polled, 1, 0) == 0;
}

/* Every device's number is unique: bus, device and function of its address. */
static unsigned node_of(const char *address)
{
	unsigned domain, bus, device, function;

	assert(sscanf(address, "%x:%x:%x.%x", &domain, &bus, &device, &function) == 4);
	return bus << 8 | device << 3 | function;
}

static bool has_holder(struct fake_host *fake, unsigned node)
{
	for (size_t i = 0; i < fake->n_opens; i++)
		if (fake->opens[i].node == node && open_lives(&fake->opens[i]))
			return true;
	return false;
}

unsigned fake_open_cdevs(struct fake_host *fake)
{
	unsigned n = 0;

	pthread_mutex_lock(&fake->lock);
	for (size_t i = 0; i < fake->n_opens; i++)
		n += open_lives(&fake->opens[i]);
	pthread_mutex_unlock(&fake->lock);
	return n;
}

static int open_cdev(struct fake_host *fake, unsigned node)
{
	struct fake_open *open = &fake->opens[fake->n_opens];
	struct stat st;
	int ends[2];

	assert(fake->n_opens < FAKE_OPENS_MAX);
	if (fake->no_cdev)
		return -ENOENT;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	assert(fstat(ends[0], &st) == 0);
	*open = (struct fake_open){.read_end = ends[0], .inode = st.st_ino, .node = node};
	fake->n_opens++;
	return ends[1];
}

static int fake_open_locked(struct fake_host *fake, const char *path, int flags)
{
	char buffer[4096];
	unsigned node;
	int fd;

	if (sscanf(path, "/dev/vfio/devices/vfio%u", &node) == 1)
		return open_cdev(fake, node);
	if (!strcmp(path, "/dev/iommu")) {
		fd = fake->no_iommu ? -1 : memfd_create("iommu", MFD_CLOEXEC);
		return fd < 0 ? -ENOENT : fd;
	}
	if (flags & O_EXCL && fake->busy_disk && !strcmp(path + strlen("/dev/"), fake->busy_disk))
		return -EBUSY;
	fd = open(real(fake, path, buffer), flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int fake_open(void *data, const char *path, int flags)
{
	struct fake_host *fake = data;
	int r;

	pthread_mutex_lock(&fake->lock);
	r = op_fails(fake) ? fake->fail_with : fake_open_locked(fake, path, flags);
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static ssize_t fake_read_link(void *data, const char *path, char *ret_target, size_t size)
{
	struct fake_host *fake = data;
	char buffer[4096];
	ssize_t n;

	pthread_mutex_lock(&fake->lock);
	n = op_fails(fake) ? fake->fail_with : readlink(real(fake, path, buffer), ret_target, size);
	if (n == -1)
		n = -errno;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

static void kernel_probe(struct fake_host *fake, const char *address)
{
	char driver[64], path[512], target[128], now[512];

	driver_of(fake, address, now);
	if (*now)
		return;
	read_file(fake, AT("/sys/bus/pci/devices/%s/driver_override", address), driver,
		  sizeof(driver));
	if (!strcmp(driver, "(null)"))
		read_file(fake, AT("/natural/%s", address), driver, sizeof(driver));
	if (!*driver ||
	    (!strcmp(driver, "vfio-pci") && fake->stubborn && !strcmp(fake->stubborn, address)))
		return;
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	fake_link(fake, AT("/sys/devices/pci0000:00/%s/driver", address), target);
	if (!strcmp(driver, "vfio-pci"))
		fake_folder(fake, AT("/sys/devices/pci0000:00/%s/vfio-dev/vfio%u", address,
				     node_of(address)));
}

static int kernel_write(struct fake_host *fake, const char *path_in, const char *text)
{
	char address[64] = "", leaf[64] = "", path[512], driver[512];
	size_t used = strlen(fake->trace);

	snprintf(fake->trace + used, sizeof(fake->trace) - used, "%s=%s%s", path_in, text,
		 strchr(text, '\n') ? "" : "\n");
	if (!strcmp(path_in, "/sys/bus/pci/drivers_probe")) {
		kernel_probe(fake, text);
		return 0;
	}
	if (sscanf(path_in, "/sys/bus/pci/devices/%63[^/]/%63s", address, leaf) != 2)
		return -ENOENT;
	if (!strcmp(leaf, "driver_override")) {
		fake_file(fake, AT("/sys/bus/pci/devices/%s/driver_override", address),
			  *text == '\n' ? "(null)\n" : text);
		return 0;
	}
	driver_of(fake, address, driver);
	if (!strcmp(leaf, "driver/unbind")) {
		if (!*driver)
			return -ENODEV;
		if (!strcmp(driver, "vfio-pci") && has_holder(fake, node_of(address)))
			fake->n_offences++;
		fake_remove(fake, AT("/sys/devices/pci0000:00/%s/driver", address));
		fake_remove(fake, AT("/sys/devices/pci0000:00/%s/vfio-dev", address));
		return 0;
	}
	if (strcmp(leaf, "reset") != 0)
		return -ENOENT;
	if (has_holder(fake, node_of(address)))
		fake->n_offences++;
	if (fake->bad_reset && !strncmp(address, fake->bad_reset, strlen(fake->bad_reset)))
		return fake->reset_error;
	while (fake->slow && !strcmp(fake->slow, address) && fake->blocked) {
		fake->waiting = true;
		pthread_cond_broadcast(&fake->changed);
		pthread_cond_wait(&fake->changed, &fake->lock);
	}
	return 0;
}

static int fake_write(void *data, const char *path, const char *text)
{
	struct fake_host *fake = data;
	int r;

	pthread_mutex_lock(&fake->lock);
	r = op_fails(fake) ? fake->fail_with : kernel_write(fake, path, text);
	pthread_mutex_unlock(&fake->lock);
	return r;
}

/* Which group the owner of a node is in, and whether another driver has one of it. */
static bool group_has_driver(struct fake_host *fake, unsigned node)
{
	bool found = false, has = false;
	char path[512], buffer[4096];

	for (int group = 0; group < 16 && !found; group++) {
		DIR *dir = opendir(
			real(fake, AT("/sys/kernel/iommu_groups/%d/devices", group), buffer));
		struct dirent *entry;

		has = false;
		while (dir && (entry = readdir(dir))) {
			char driver[512];

			if (entry->d_name[0] == '.')
				continue;
			found |= node_of(entry->d_name) == node;
			driver_of(fake, entry->d_name, driver);
			has |= *driver && strcmp(driver, "vfio-pci") != 0 &&
			       strcmp(driver, "pcieport") != 0;
		}
		if (dir)
			closedir(dir);
	}
	return found && has;
}

static int kernel_bind(struct fake_host *fake, int cdev)
{
	struct fake_open *found = NULL;
	struct stat st;

	assert(fstat(cdev, &st) == 0);
	if (fake->bind_error)
		return fake->bind_error;
	for (size_t i = 0; i < fake->n_opens; i++)
		if (fake->opens[i].inode == st.st_ino && open_lives(&fake->opens[i]))
			found = &fake->opens[i];
	assert(found);
	for (size_t i = 0; i < fake->n_opens; i++)
		if (fake->opens[i].node == found->node && fake->opens[i].bound &&
		    open_lives(&fake->opens[i]))
			return -EINVAL;
	if (group_has_driver(fake, found->node))
		return -EPERM;
	found->bound = true;
	return 0;
}

static int fake_bind(void *data, int cdev, int iommu)
{
	struct fake_host *fake = data;
	int r;

	pthread_mutex_lock(&fake->lock);
	r = op_fails(fake) ? fake->fail_with : kernel_bind(fake, cdev);
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_has_address(void *data, const char *interface)
{
	struct fake_host *fake = data;
	int r;

	pthread_mutex_lock(&fake->lock);
	r = op_fails(fake) ? fake->fail_with
			   : fake->with_address && !strcmp(fake->with_address, interface);
	pthread_mutex_unlock(&fake->lock);
	return r;
}

static int fake_process(void *data, int pidfd, pid_t *ret_pid, uid_t *ret_uid)
{
	struct fake_host *fake = data;

	if (pidfd < 0 || fake->process_error)
		return pidfd < 0 ? -EBADF : fake->process_error;
	*ret_pid = 4711;
	*ret_uid = fake->process_uid;
	return 0;
}

static int fake_limit_memlock(void *data, pid_t pid, uint64_t bytes)
{
	struct fake_host *fake = data;

	if (pid != 4711 || fake->limit_error)
		return fake->limit_error ?: -ESRCH;
	fake->process_locks = bytes;
	return 0;
}

static int fake_count_by_process(void *data, int iommu)
{
	struct fake_host *fake = data;

	if (iommu < 0 || fake->count_error)
		return fake->count_error ?: -EBADF;
	fake->n_counted++;
	return 0;
}

static int fake_end(void *data, int pidfd)
{
	struct fake_host *fake = data;

	if (!fake->end_error)
		fake->n_ended++;
	return fake->end_error;
}

static const struct host_ops fake_ops = {
	.open = fake_open,
	.read_link = fake_read_link,
	.write = fake_write,
	.bind = fake_bind,
	.has_address = fake_has_address,
	.process = fake_process,
	.limit_memlock = fake_limit_memlock,
	.count_by_process = fake_count_by_process,
	.end = fake_end,
};

void fake_host_init(struct fake_host *fake)
{
	const char *folder = getenv("TMPDIR");

	memset(fake, 0, sizeof(*fake));
	pthread_mutex_init(&fake->lock, NULL);
	pthread_cond_init(&fake->changed, NULL);
	fake->host = (struct host){.ops = &fake_ops, .data = fake};
	fake->fail_with = -EIO;
	snprintf(fake->root, sizeof(fake->root), "%s/keeper.XXXXXX", folder ? folder : "/tmp");
	assert(mkdtemp(fake->root));
	fake_folder(fake, "/sys/bus/pci/drivers/vfio-pci");
	fake_file(fake, "/proc/self/mountinfo", "21 26 0:20 / /proc rw - proc proc rw\n");
	fake_file(fake, "/proc/swaps", "Filename Type Size Used Priority\n");
	fake_file(fake, "/proc/net/route", "Iface Destination\n");
}

void fake_host_deinit(struct fake_host *fake)
{
	for (size_t i = 0; i < fake->n_opens; i++)
		close(fake->opens[i].read_end);
	fake_remove(fake, "");
	pthread_mutex_destroy(&fake->lock);
	pthread_cond_destroy(&fake->changed);
}
