/* SPDX-License-Identifier: Apache-2.0 */
/* See function.h. */
#include "function.h"

#include "config_space.h"
#include "host_use.h"
#include "log.h"
#include "reason.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VFIO_PCI "vfio-pci"

static void device_path(host_path path, const char *address, const char *leaf)
{
	snprintf(path, HOST_PATH_MAX, "/sys/bus/pci/devices/%s%s%s", address, *leaf ? "/" : "",
		 leaf);
}

/* The process being out of something says nothing about the device. */
static int unsupported(char *ret_reason, const struct function *function, const char *what, int r)
{
	if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
		return r;
	return reason_refuse(ret_reason, KEEPER_E_UNSUPPORTED, "%s: %s: %s", function->address,
			     what, strerror(-r));
}

static int driver_now(const struct host *host, const char *address, char *ret_driver)
{
	host_path path;

	device_path(path, address, "driver");
	return host_link_name(host, path, ret_driver, KEEPER_DRIVER_MAX);
}

/* ---- looking ---- */

/* PCI-to-PCI bridges may stay with the host while their group is given away. */
static int class_of(const struct host *host, const char *address, unsigned long *ret_class)
{
	char text[32];
	host_path path;
	int r;

	device_path(path, address, "class");
	r = host_read_line(host, path, text, sizeof(text));
	if (!r)
		*ret_class = strtoul(text, NULL, 16) >> 8;
	return r;
}

static int visit_member(const struct host *host, const char *name, void *arg)
{
	struct function_group *group = arg;
	unsigned long class = 0;
	int r = keeper_address_is_valid(name) ? class_of(host, name, &class) : 0;

	/* A member that is no PCI function at all stays in the list: nobody can claim it. */
	if (r < 0 || class == 0x0604 || class == 0x0609)
		return r;
	if (group->n == FUNCTION_GROUP_MAX)
		return -E2BIG;
	snprintf(group->members[group->n++], KEEPER_PCI_MAX, "%.*s", KEEPER_PCI_MAX - 1, name);
	return 0;
}

static int group_of(const struct host *host, struct function *function, char *ret_reason,
		    struct function_group *ret_group)
{
	char name[16];
	host_path path;
	int r;

	device_path(path, function->address, "iommu_group");
	r = host_link_name(host, path, name, sizeof(name));
	if (r < 0)
		return r;
	if (!*name || strspn(name, "0123456789") != strlen(name) || strlen(name) > 9)
		return reason_refuse(ret_reason, KEEPER_E_UNSUPPORTED, "%s is behind no IOMMU",
				     function->address);
	function->group = atoi(name);
	ret_group->n = 0;
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/devices", name);
	r = host_each(host, path, visit_member, ret_group);
	if (r == -E2BIG)
		return reason_refuse(ret_reason, KEEPER_E_FORBIDDEN,
				     "the group of %s has too many members", function->address);
	return r;
}

int function_inspect(const struct host *host, const char *address, char *ret_reason,
		     struct function *ret_function, struct function_group *ret_group)
{
	struct function function = {0};
	char use[KEEPER_REASON_MAX] = "";
	unsigned long class = 0;
	host_path path;
	int r;

	snprintf(function.address, sizeof(function.address), "%s", address);
	r = class_of(host, address, &class);
	if (r == -ENOENT)
		return reason_refuse(ret_reason, KEEPER_E_NOT_FOUND, "the host has no %s", address);
	if (r < 0)
		return r;
	if (class >> 8 == 0x06)
		return reason_refuse(ret_reason, KEEPER_E_FORBIDDEN, "%s is a bridge", address);
	r = host_use(host, address, true, use);
	if (r < 0)
		return r;
	if (*use)
		return reason_refuse(ret_reason, KEEPER_E_FORBIDDEN, "%s: %.*s", address,
				     KEEPER_REASON_MAX - KEEPER_PCI_MAX, use);
	r = group_of(host, &function, ret_reason, ret_group);
	if (!r)
		r = driver_now(host, address, function.driver);
	if (r)
		return r;
	device_path(path, address, "driver_override");
	r = host_read_line(host, path, function.override, sizeof(function.override));
	if (r == -ENOENT)
		return unsupported(ret_reason, &function, "driver_override", r);
	if (r < 0)
		return r;
	if (!strcmp(function.override, "(null)"))
		function.override[0] = '\0';
	r = host_exists(host, "/sys/bus/pci/drivers/" VFIO_PCI);
	if (r == 0)
		return reason_refuse(ret_reason, KEEPER_E_UNSUPPORTED, VFIO_PCI " is not loaded");
	if (r < 0)
		return r;
	*ret_function = function;
	return 0;
}

int function_examine(const struct host *host, const char *address, struct keeper_device *ret_device)
{
	struct keeper_device device = {0};
	struct config_capabilities own, shared;
	uint8_t bytes[CONFIG_SPACE_MAX];
	host_path path;
	ssize_t n;
	int r;

	device_path(path, address, "config");
	n = host_read(host, path, bytes, sizeof(bytes));
	if (n < 0)
		return n == -ENOENT ? KEEPER_E_NOT_FOUND : n;
	config_space_examine(bytes, n, &own);
	/* A virtual function uses the PASID and PRI capabilities of its physical one. */
	device_path(path, address, "physfn/config");
	n = host_read(host, path, bytes, sizeof(bytes));
	if (n < 0 && n != -ENOENT)
		return n;
	shared = own;
	if (n >= 0)
		config_space_examine(bytes, n, &shared);
	device.pasid_bits = shared.pasid_bits;
	device.pasid_exec = shared.pasid_exec;
	device.ats = own.ats;
	device.pri = shared.pri;
	device_path(path, address, "reset");
	r = host_exists(host, path);
	if (r < 0)
		return r;
	device.reset = r;
	r = driver_now(host, address, device.driver);
	if (!r)
		r = host_use(host, address, false, device.host_use);
	if (!r)
		*ret_device = device;
	return r;
}

/* ---- taking ---- */

int function_take(const struct host *host, const struct function *function, char *ret_reason)
{
	char driver[KEEPER_DRIVER_MAX];
	host_path path;
	int r;

	/* Somebody gave it to vfio-pci for us: so it stays. */
	if (!strcmp(function->driver, VFIO_PCI))
		return 0;
	device_path(path, function->address, "driver_override");
	r = host_write(host, path, VFIO_PCI);
	if (r < 0)
		return unsupported(ret_reason, function, "driver_override", r);
	if (*function->driver) {
		device_path(path, function->address, "driver/unbind");
		r = host_write(host, path, function->address);
		if (r < 0)
			return unsupported(ret_reason, function, "its driver does not let go", r);
	}
	r = host_write(host, "/sys/bus/pci/drivers_probe", function->address);
	if (r < 0)
		return unsupported(ret_reason, function, VFIO_PCI " does not take it", r);
	r = driver_now(host, function->address, driver);
	if (r < 0)
		return r;
	if (strcmp(driver, VFIO_PCI) != 0)
		return reason_refuse(ret_reason, KEEPER_E_UNSUPPORTED,
				     "%s: " VFIO_PCI " does not take it", function->address);
	return 0;
}

static int visit_node(const struct host *host, const char *name, void *arg)
{
	char *node = arg;

	if (strncmp(name, "vfio", 4) != 0 || !name[4] || strlen(name) > 15 ||
	    strspn(name + 4, "0123456789") != strlen(name + 4))
		return 0;
	memcpy(node, name, strlen(name) + 1);
	return 1;
}

/* -ENOENT: the kernel has no VFIO cdev, or it is not with vfio-pci. */
static int open_cdev(const struct host *host, const struct function *function)
{
	char node[16];
	host_path path;
	int r;

	device_path(path, function->address, "vfio-dev");
	r = host_each(host, path, visit_node, node);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", node);
	return host_open(host, path, O_RDWR);
}

int function_open(const struct host *host, const struct function *function, char *ret_reason,
		  int *ret_fd)
{
	int fd = open_cdev(host, function);

	if (fd < 0)
		return unsupported(ret_reason, function, "VFIO cdev", fd);
	*ret_fd = fd;
	return 0;
}

/* ---- giving back ---- */

int function_seal(const struct host *host, int cdev)
{
	__attribute__((cleanup(close_fd))) int iommu = host_open(host, "/dev/iommu", O_RDWR);
	int r = iommu < 0 ? iommu : host_bind(host, cdev, iommu);

	/* EINVAL: it is bound already. */
	return r == -EINVAL ? 0 : r;
}

int function_is_quiet(const struct host *host, const struct function *function, bool giving_back,
		      char *ret_reason)
{
	__attribute__((cleanup(close_fd))) int iommu = -1, cdev = -1;
	char driver[KEEPER_DRIVER_MAX];
	int r = driver_now(host, function->address, driver);

	/* With another driver, or none, there is no cdev: vfio-pci waits for its holders. */
	if (r < 0 || strcmp(driver, VFIO_PCI) != 0)
		return r;
	iommu = host_open(host, "/dev/iommu", O_RDWR);
	if (iommu < 0)
		return unsupported(ret_reason, function, "/dev/iommu", iommu);
	cdev = open_cdev(host, function);
	if (cdev < 0)
		return unsupported(ret_reason, function, "VFIO cdev", cdev);
	r = host_bind(host, cdev, iommu);
	/* EBUSY: through the group of the older interface, or the group has another driver. */
	if (r == -EINVAL || r == -EBUSY)
		return reason_refuse(ret_reason, KEEPER_E_BUSY,
				     "%s: a program still has it open, or a "
				     "driver its IOMMU group",
				     function->address);
	/* Whoever had it bound would be told of before (EINVAL). */
	if (r == -EPERM && giving_back)
		return 0;
	if (r == -EPERM)
		return reason_refuse(ret_reason, KEEPER_E_UNSUPPORTED,
				     "%s: no interrupt remapping, or a companion has a driver",
				     function->address);
	return r < 0 ? unsupported(ret_reason, function, "iommufd", r) : 0;
}

int function_reset(const struct host *host, const struct function *function)
{
	host_path path;
	int r;

	device_path(path, function->address, "reset");
	r = host_exists(host, path);
	if (r <= 0)
		return r;
	r = host_write(host, path, "1");
	/* There is a file, but no method: its bus has other functions. */
	return r == -ENOTTY ? 0 : r;
}

int function_give_back(const struct host *host, const struct function *function)
{
	char driver[KEEPER_DRIVER_MAX];
	host_path path;
	int r;

	if (!strcmp(function->driver, VFIO_PCI))
		return 0;
	r = driver_now(host, function->address, driver);
	if (r < 0)
		return r;
	/* A newline clears it.  While it names vfio-pci, no other driver comes. */
	device_path(path, function->address, "driver_override");
	r = host_write(host, path, *function->override ? function->override : "\n");
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* the device has been unplugged */
	if (!strcmp(driver, VFIO_PCI)) {
		device_path(path, function->address, "driver/unbind");
		r = host_write(host, path, function->address);
		if (r < 0)
			return r;
		driver[0] = '\0';
	}
	if (*function->driver && !*driver) {
		r = host_write(host, "/sys/bus/pci/drivers_probe", function->address);
		if (!r)
			r = driver_now(host, function->address, driver);
		if (r < 0 || strcmp(driver, function->driver) != 0)
			keeper_log(LOG_WARNING, "%s did not go back to %s: %s", function->address,
				   function->driver, r < 0 ? strerror(-r) : "it has none");
	}
	return 0;
}
