/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See host_use.h.  Each check walks one class of sysfs and stops at the first use that it
 * finds: 1, with the reason written; 0: none; -errno.
 */
#include "host_use.h"

#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct search {
	char component[KEEPER_PCI_MAX + 2]; /* "/0000:3b:00.0/" */
	const char *address;
	bool thorough;
	char reason[KEEPER_REASON_MAX];
	/* What the inner walks look for: a name, and of a disk "MAJOR:MINOR" or "". */
	const char *inner;
	char number[32];
};

#define path_of(path, ...) snprintf(path, sizeof(path), __VA_ARGS__)

/* 1, so that it can be returned. */
static int __attribute__((format(printf, 2, 3)))
used(struct search *search, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(search->reason, sizeof(search->reason), format, args);
	va_end(args);
	return 1;
}

/* Of a table that a kernel may be built without. */
static int optional(int r)
{
	return r == -ENOENT ? 0 : r;
}

/* Does the link of a class lead to something behind the function? */
static int is_behind(const struct host *host, const struct search *search, const char *path)
{
	char target[4096];
	int r = host_link(host, path, target, sizeof(target));

	/* Among the links of a class there are files, too (bonding_masters). */
	if (r < 0)
		return r == -EINVAL ? 0 : r;
	return strstr(target, search->component) != NULL;
}

/* ---- disks ---- */

/* The next blank-separated word of *text, NULL at the end of the line. */
static char *next_word(char **text)
{
	char *word = strsep(text, " \t");

	while (word && !*word)
		word = strsep(text, " \t");
	return word;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS */
static int visit_mount(char *line, void *arg)
{
	struct search *search = arg;
	const char *words[5], *word, *source = NULL;

	for (size_t i = 0; i < 5; i++) {
		words[i] = next_word(&line);
		if (!words[i])
			return 0;
	}
	while ((word = next_word(&line)) && strcmp(word, "-") != 0)
		continue;
	if (word && next_word(&line))
		source = next_word(&line);
	/* btrfs and its like have an anonymous number, but name their device. */
	if (!strcmp(words[2], search->number) ||
	    (source && !strncmp(source, "/dev/", 5) && !strcmp(base_name(source), search->inner)))
		return used(search, "disk %s is mounted on %s", search->inner, words[4]);
	return 0;
}

/* A heading, then PATH TYPE ... */
static int visit_swap(char *line, void *arg)
{
	struct search *search = arg;
	const char *path = next_word(&line);

	if (!path || path[0] != '/' || strcmp(base_name(path), search->inner) != 0)
		return 0;
	return used(search, "disk %s is swap", search->inner);
}

static int visit_holder(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;

	return used(search, "disk %s is part of %s", search->inner, name);
}

static int visit_btrfs(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;
	host_path path;
	int r;

	path_of(path, "/sys/fs/btrfs/%s/devices/%s", name, search->inner);
	r = host_exists(host, path);
	return r <= 0 ? r : used(search, "disk %s is part of a mounted btrfs", search->inner);
}

static int is_held(const struct host *host, struct search *search, const char *name)
{
	__attribute__((cleanup(close_fd))) int fd = -1;
	host_path path;

	path_of(path, "/dev/%s", name);
	fd = host_open(host, path, O_RDONLY | O_NONBLOCK | O_EXCL);
	if (fd >= 0 || fd == -ENOENT || fd == -ENXIO || fd == -ENOMEDIUM)
		return 0;
	if (fd == -EBUSY)
		return used(search, "disk %s is in use", name);
	return fd;
}

/* NVMe with several paths: the disk is virtual, its controllers are linked beside it. */
static int visit_path(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;
	host_path path;

	path_of(path, "/sys/class/nvme-subsystem/%s/%s", search->inner, name);
	if (strncmp(name, "nvme", 4) != 0)
		return 0;
	return is_behind(host, search, path);
}

static int disk_is_behind(const struct host *host, struct search *search, const char *path)
{
	static const char part[] = "/nvme-subsystem/";
	char target[4096], subsystem[64];
	host_path folder;
	const char *at;
	int r = host_link(host, path, target, sizeof(target));

	if (r < 0)
		return r;
	if (strstr(target, search->component))
		return 1;
	at = strstr(target, part);
	if (!at || sscanf(at + sizeof(part) - 1, "%63[^/]", subsystem) != 1)
		return 0;
	search->inner = subsystem;
	path_of(folder, "/sys/class/nvme-subsystem/%s", subsystem);
	return host_each(host, folder, visit_path, search);
}

static int visit_disk(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;
	host_path path;
	int r;

	path_of(path, "/sys/class/block/%s", name);
	r = disk_is_behind(host, search, path);
	if (r <= 0)
		return r;
	search->inner = name;
	search->number[0] = '\0';
	path_of(path, "/sys/class/block/%s/dev", name);
	r = host_read_line(host, path, search->number, sizeof(search->number));
	/* Hidden paths of a virtual disk have no number. */
	if (r == 0 || r == -ENOENT)
		r = host_each_line(host, "/proc/self/mountinfo", visit_mount, search);
	if (!r)
		r = optional(host_each_line(host, "/proc/swaps", visit_swap, search));
	path_of(path, "/sys/class/block/%s/holders", name);
	if (!r)
		r = host_each(host, path, visit_holder, search);
	if (!r)
		r = host_each(host, "/sys/fs/btrfs", visit_btrfs, search);
	if (!r && search->thorough)
		r = is_held(host, search, name);
	return r;
}

/* ---- network ---- */

/* IFACE DESTINATION GATEWAY FLAGS REFCNT USE METRIC MASK ... */
static int visit_route(char *line, void *arg)
{
	struct search *search = arg;
	char interface[64], destination[16], mask[16];

	if (sscanf(line, "%63s %15s %*s %*s %*s %*s %*s %15s", interface, destination, mask) != 3 ||
	    strcmp(interface, search->inner) != 0 || strcmp(destination, "00000000") != 0 ||
	    strcmp(mask, "00000000") != 0)
		return 0;
	return used(search, "interface %s has the default route", search->inner);
}

/* DESTINATION LENGTH SOURCE LENGTH GATEWAY METRIC REFCNT USE FLAGS IFACE */
static int visit_route6(char *line, void *arg)
{
	struct search *search = arg;
	char interface[64], destination[64], length[8];

	if (sscanf(line, "%63s %7s %*s %*s %*s %*s %*s %*s %*s %63s", destination, length,
		   interface) != 3 ||
	    strcmp(interface, search->inner) != 0 || strcmp(length, "00") != 0 ||
	    strspn(destination, "0") != strlen(destination))
		return 0;
	return used(search, "interface %s has the default route", search->inner);
}

static int visit_upper(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;

	if (!strcmp(name, "master"))
		return used(search, "interface %s belongs to a bridge or bond", search->inner);
	if (!strncmp(name, "upper_", 6))
		return used(search, "interface %s carries %s", search->inner, name + 6);
	return 0;
}

static int visit_interface(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;
	char flags[32];
	host_path path;
	int r;

	path_of(path, "/sys/class/net/%s", name);
	r = is_behind(host, search, path);
	if (r <= 0)
		return r;
	r = host->ops->has_address(host->data, name);
	if (r < 0)
		return r;
	if (r)
		return used(search, "interface %s has an address", name);
	search->inner = name;
	r = optional(host_each_line(host, "/proc/net/route", visit_route, search));
	if (!r)
		r = optional(host_each_line(host, "/proc/net/ipv6_route", visit_route6, search));
	if (r)
		return r;
	path_of(path, "/sys/class/net/%s/flags", name);
	r = host_read_line(host, path, flags, sizeof(flags));
	if (r < 0)
		return r;
	if (!(strtoul(flags, NULL, 16) & IFF_UP))
		return 0;
	path_of(path, "/sys/class/net/%s", name);
	return host_each(host, path, visit_upper, search);
}

static int visit_any(const struct host *host, const char *name, void *arg)
{
	return 1;
}

/* Its folder is there while it exists; what another namespace has is not shown in it. */
static int is_elsewhere(const struct host *host, struct search *search)
{
	host_path path;
	int r;

	path_of(path, "/sys/bus/pci/devices/%s/net", search->address);
	r = host_exists(host, path);
	if (r <= 0)
		return r;
	r = host_each(host, path, visit_any, NULL);
	if (r)
		return r < 0 ? r : 0;
	return used(search, "its network interface is in another namespace");
}

/* ---- display, virtual functions ---- */

static int visit_connector(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;
	char enabled[32];
	host_path path;
	int r;

	path_of(path, "/sys/class/drm/%s", name);
	r = is_behind(host, search, path);
	if (r <= 0)
		return r;
	path_of(path, "/sys/class/drm/%s/enabled", name);
	r = host_read_line(host, path, enabled, sizeof(enabled));
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return strcmp(enabled, "enabled") != 0 ? 0 : used(search, "display %s is on", name);
}

static int visit_framebuffer(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;
	host_path path;
	int r;

	path_of(path, "/sys/class/graphics/%s", name);
	r = is_behind(host, search, path);
	return r <= 0 ? r : used(search, "console %s", name);
}

static int attribute(const struct host *host, struct search *search, const char *name,
		     unsigned long *ret_value)
{
	char text[32] = "0";
	host_path path;
	int r;

	path_of(path, "/sys/bus/pci/devices/%s/%s", search->address, name);
	r = host_read_line(host, path, text, sizeof(text));
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_value = strtoul(text, NULL, 10);
	return 0;
}

static int function_is_used(const struct host *host, struct search *search)
{
	unsigned long boot_vga, n_functions;
	int r = attribute(host, search, "boot_vga", &boot_vga);

	if (!r)
		r = attribute(host, search, "sriov_numvfs", &n_functions);
	if (r < 0)
		return r;
	if (boot_vga)
		return used(search, "the display that the host booted with");
	if (n_functions)
		return used(search, "%lu of its virtual functions are enabled", n_functions);
	return 0;
}

/* ---- file systems of a hypervisor ---- */

/*
 * 9p and virtiofs have no disk, and no file tells whether one is mounted, in whatever mount
 * namespace: perhaps it is the root of this host.
 */
static int visit_virtio(const struct host *host, const char *name, void *arg)
{
	struct search *search = arg;
	char driver[KEEPER_DRIVER_MAX];
	host_path path;
	int r;

	if (strncmp(name, "virtio", 6) != 0)
		return 0;
	path_of(path, "/sys/bus/pci/devices/%s/%s/driver", search->address, name);
	r = host_link_name(host, path, driver, sizeof(driver));
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (strcmp(driver, "9pnet_virtio") != 0 && strcmp(driver, "virtiofs") != 0)
		return 0;
	return used(search, "it carries file systems of the hypervisor (%s)", driver);
}

static int shares_files(const struct host *host, struct search *search)
{
	host_path path;

	path_of(path, "/sys/bus/pci/devices/%s", search->address);
	return host_each(host, path, visit_virtio, search);
}

/* ---- all of them ---- */

int host_use(const struct host *host, const char *address, bool thorough, char *ret_reason)
{
	struct search search = {.address = address, .thorough = thorough};
	int r;

	for (size_t i = 0; i < host->n_allowed; i++) {
		if (!strcmp(host->allowed[i], address)) {
			*ret_reason = '\0';
			return 0;
		}
	}
	snprintf(search.component, sizeof(search.component), "/%s/", address);
	r = function_is_used(host, &search);
	if (!r)
		r = shares_files(host, &search);
	if (!r)
		r = host_each(host, "/sys/class/block", visit_disk, &search);
	if (!r)
		r = host_each(host, "/sys/class/net", visit_interface, &search);
	if (!r)
		r = is_elsewhere(host, &search);
	if (!r)
		r = host_each(host, "/sys/class/drm", visit_connector, &search);
	if (!r)
		r = host_each(host, "/sys/class/graphics", visit_framebuffer, &search);
	if (r < 0)
		return r;
	memcpy(ret_reason, search.reason, sizeof(search.reason));
	return 0;
}
