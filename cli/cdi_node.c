/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See cdi_node.h.  Reads sysfs and /dev, opens no device.  sysfs tells nobody when a driver is
 * bound; devtmpfs does, as its nodes come and go like files, so inotify is enough and no netlink
 * socket is needed, which a container or another network namespace would not hear anything on.
 */
#include "cdi_node.h"

#include "cli.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* From the root of /dev down, each beginning to exist in the one before it. */
static const char *const folders[] = {"", "/vfio", "/vfio/devices"};

static void dir_closep(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static void file_closep(FILE **file)
{
	if (*file)
		fclose(*file);
}

/* The number in DIR/NAME/dev. */
static bool read_number(const char *dir, const char *name, dev_t *ret_number)
{
	_cleanup_free_ char *path = cli_printf("%s/%s/dev", dir, name);
	__attribute__((cleanup(file_closep))) FILE *file = fopen(path, "re");
	unsigned major_number, minor_number;

	if (!file || fscanf(file, "%u:%u", &major_number, &minor_number) != 2)
		return false;
	*ret_number = makedev(major_number, minor_number);
	return true;
}

static bool is_node(const char *dev, const char *name, dev_t number)
{
	_cleanup_free_ char *path = cli_printf("%s/vfio/devices/%s", dev, name);
	struct stat st;

	return !stat(path, &st) && S_ISCHR(st.st_mode) && st.st_rdev == number;
}

char *cdi_node_find(const char *sysfs, const char *dev, const char *device)
{
	_cleanup_free_ char *path = cli_printf("%s/bus/pci/devices/%s/vfio-dev", sysfs, device);
	__attribute__((cleanup(dir_closep))) DIR *dir = opendir(path);
	struct dirent *entry;
	dev_t number;

	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "vfio", 4) &&
		    read_number(path, entry->d_name, &number) &&
		    is_node(dev, entry->d_name, number))
			return cli_printf("/dev/vfio/devices/%s", entry->d_name);
	return NULL;
}

void cdi_node_watch_init(struct cdi_node_watch *watch, const char *dev)
{
	*watch = (struct cdi_node_watch){
		.dev = dev,
		.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC),
	};
	cdi_node_watch_renew(watch);
}

void cdi_node_watch_deinit(struct cdi_node_watch *watch)
{
	if (watch->fd >= 0)
		close(watch->fd);
	watch->fd = -1;
}

void cdi_node_watch_renew(struct cdi_node_watch *watch)
{
	for (size_t i = 0; watch->fd >= 0 && i < sizeof(folders) / sizeof(folders[0]); i++) {
		_cleanup_free_ char *path = cli_printf("%s%s", watch->dev, folders[i]);

		/* One that is watched already stays so. */
		(void)inotify_add_watch(watch->fd, path,
					IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
						IN_ONLYDIR);
	}
}

/* In /dev many things come and go; of ours each is called so. */
static bool is_ours(const struct inotify_event *event)
{
	return event->mask & IN_Q_OVERFLOW || (event->len && !strncmp(event->name, "vfio", 4)) ||
	       (event->len && !strcmp(event->name, "devices"));
}

bool cdi_node_watch_drain(struct cdi_node_watch *watch)
{
	char buffer[16 * (sizeof(struct inotify_event) + NAME_MAX + 1)]
		__attribute__((aligned(__alignof__(struct inotify_event))));
	bool found = false;
	ssize_t n;

	while (watch->fd >= 0 && (n = read(watch->fd, buffer, sizeof(buffer))) > 0)
		for (char *at = buffer; at < buffer + n;) {
			const struct inotify_event *event = (const void *)at;

			found = found || is_ours(event);
			at += sizeof(*event) + event->len;
		}
	return found;
}
