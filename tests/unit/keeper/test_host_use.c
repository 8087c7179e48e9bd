/* SPDX-License-Identifier: Apache-2.0 */
/* What counts as use by the host; and that what cannot be read never counts as no use. */
#include "keeper/function.h"
#include "keeper/host_use.h"

#include "fake_host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEV    "0000:3b:00.0"
#define BEHIND "../../devices/pci0000:00/" DEV
#define OTHER  "../../devices/pci0000:00/0000:3c:00.0"

static struct fake_host fake;
static char reason[KEEPER_REASON_MAX];

static int setup(void **state)
{
	fake_host_init(&fake);
	fake_add(&fake, DEV, "0x010802", 1, "nvme");
	return 0;
}

static int teardown(void **state)
{
	fake_host_deinit(&fake);
	return 0;
}

static void expect(bool thorough, const char *use)
{
	strcpy(reason, "untouched");
	assert_int_equal(host_use(&fake.host, DEV, thorough, reason), 0);
	assert_string_equal(reason, use);
}

static void disk(const char *name, const char *parent, const char *number)
{
	char path[128], target[256];

	snprintf(path, sizeof(path), "/sys/class/block/%s", name);
	snprintf(target, sizeof(target), "%s/nvme/nvme0/nvme0n1/%s", parent, name);
	fake_link(&fake, path, target);
	snprintf(path, sizeof(path), "/sys/devices/pci0000:00/%s/nvme/nvme0/nvme0n1/%s/dev",
		 strrchr(parent, '/') + 1, name);
	fake_file(&fake, path, number);
}

static void test_disks(void **state)
{
	disk("nvme0n1", BEHIND, "259:0\n");
	disk("nvme0n1p2", BEHIND, "259:2\n");
	disk("sda", OTHER, "8:0\n");
	expect(true, "");
	fake_file(&fake, "/proc/self/mountinfo", "29 1 8:0 / / rw - ext4 /dev/sda rw\n");
	expect(true, "");
	fake_file(&fake, "/proc/self/mountinfo",
		  "29 1 0:30 / / rw shared:1 - overlay overlay rw\n"
		  "30 1 259:2 /a /data rw shared:1 master:2 - ext4 /dev/root rw\n");
	expect(false, "disk nvme0n1p2 is mounted on /data");
	/* Longer than any buffer; short; nothing at the end of the line. */
	fake_file(&fake, "/proc/self/mountinfo", "1 2\n\n29 1 259:0 / /boot");
	expect(false, "disk nvme0n1 is mounted on /boot");
	/* btrfs: an anonymous number. */
	fake_file(&fake, "/proc/self/mountinfo",
		  "29 1 0:33 /@ /b rw - btrfs /dev/nvme0n1p2 rw,subvol=/@\n");
	expect(false, "disk nvme0n1p2 is mounted on /b");
	fake_file(&fake, "/proc/self/mountinfo", "");
	fake_folder(&fake, "/sys/fs/btrfs/features");
	fake_file(&fake, "/sys/fs/btrfs/0d3e/devices/nvme0n1p2", "");
	expect(false, "disk nvme0n1p2 is part of a mounted btrfs");
	fake_remove(&fake, "/sys/fs/btrfs");
	fake_file(&fake, "/proc/swaps", "Filename\n/dev/nvme0n1p2   partition 1 0 -2\n");
	expect(false, "disk nvme0n1p2 is swap");
	fake_file(&fake, "/proc/swaps", "Filename\n/dev/sda partition 1 0 -2\n");
	expect(false, "");
	fake_folder(&fake, "/sys/class/block/nvme0n1p2/holders/dm-0");
	expect(false, "disk nvme0n1p2 is part of dm-0");
	fake_remove(&fake, "/sys/devices/pci0000:00/" DEV "/nvme/nvme0/nvme0n1/nvme0n1p2/holders");
	fake.busy_disk = "nvme0n1";
	expect(false, "");
	expect(true, "disk nvme0n1 is in use");
}

/* The disk of an NVMe subsystem is virtual; its controllers are linked in the subsystem. */
static void test_multipath(void **state)
{
	fake_link(&fake, "/sys/class/block/nvme0n1",
		  "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1");
	fake_file(&fake, "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/dev", "259:0\n");
	fake_link(&fake, "/sys/class/nvme-subsystem/nvme-subsys0",
		  "../../devices/virtual/nvme-subsystem/nvme-subsys0");
	fake_file(&fake, "/proc/self/mountinfo", "29 1 259:0 / / rw - ext4 /dev/root rw\n");
	expect(true, "");
	fake_link(&fake, "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0",
		  "../../../pci0000:00/" DEV "/nvme/nvme0");
	expect(true, "disk nvme0n1 is mounted on /");
}

static void test_network(void **state)
{
	fake_link(&fake, "/sys/class/net/eth0", BEHIND "/net/eth0");
	fake_file(&fake, "/sys/devices/pci0000:00/" DEV "/net/eth0/flags", "0x1003\n");
	fake_file(&fake, "/sys/class/net/bonding_masters", "\n");
	expect(true, "");
	fake.with_address = "eth0";
	expect(true, "interface eth0 has an address");
	fake.with_address = "eth1";
	fake_file(&fake, "/proc/net/route",
		  "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
		  "eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
		  "eth1 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n");
	expect(true, "");
	fake_file(&fake, "/proc/net/route",
		  "eth0\t00000000\t0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	expect(true, "interface eth0 has the default route");
	fake_remove(&fake, "/proc/net/route");
	fake_file(
		&fake, "/proc/net/ipv6_route",
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n");
	expect(true, "interface eth0 has the default route");
	fake_remove(&fake, "/proc/net/ipv6_route");
	fake_link(&fake, "/sys/class/net/eth0/master", "../br0");
	expect(true, "interface eth0 belongs to a bridge or bond");
	fake_remove(&fake, "/sys/devices/pci0000:00/" DEV "/net/eth0/master");
	fake_link(&fake, "/sys/class/net/eth0/upper_eth0.5", "../eth0.5");
	expect(true, "interface eth0 carries eth0.5");
	/* Down: what hangs on it does not work either. */
	fake_file(&fake, "/sys/class/net/eth0/flags", "0x1002\n");
	expect(true, "");
	fake_remove(&fake, "/sys/class/net/eth0");
	fake_remove(&fake, "/sys/devices/pci0000:00/" DEV "/net/eth0");
	expect(true, "its network interface is in another namespace");
}

static void test_display(void **state)
{
	fake_file(&fake, "/sys/class/drm/version", "drm 1.1.0\n");
	fake_link(&fake, "/sys/class/drm/card0-DP-1", BEHIND "/drm/card0/card0-DP-1");
	fake_file(&fake, "/sys/devices/pci0000:00/" DEV "/drm/card0/card0-DP-1/enabled",
		  "disabled\n");
	fake_file(&fake, "/sys/devices/pci0000:00/" DEV "/boot_vga", "0\n");
	fake_file(&fake, "/sys/devices/pci0000:00/" DEV "/sriov_numvfs", "0\n");
	expect(true, "");
	fake_file(&fake, "/sys/class/drm/card0-DP-1/enabled", "enabled\n");
	expect(true, "display card0-DP-1 is on");
	fake_file(&fake, "/sys/class/drm/card0-DP-1/enabled", "disabled\n");
	fake_link(&fake, "/sys/class/graphics/fb0", BEHIND "/graphics/fb0");
	expect(true, "console fb0");
	fake_file(&fake, "/sys/devices/pci0000:00/" DEV "/sriov_numvfs", "4\n");
	expect(true, "4 of its virtual functions are enabled");
	fake_file(&fake, "/sys/devices/pci0000:00/" DEV "/boot_vga", "1\n");
	expect(true, "the display that the host booted with");
}

static void test_shared_files(void **state)
{
	fake_folder(&fake, "/sys/bus/pci/devices/" DEV "/virtio3");
	expect(true, "");
	fake_link(&fake, "/sys/bus/pci/devices/" DEV "/virtio3/driver",
		  "../../../../bus/virtio/drivers/virtio_net");
	expect(true, "");
	fake_link(&fake, "/sys/bus/pci/devices/" DEV "/virtio3/driver",
		  "../../../../bus/virtio/drivers/9pnet_virtio");
	expect(false, "it carries file systems of the hypervisor (9pnet_virtio)");
	fake_link(&fake, "/sys/bus/pci/devices/" DEV "/virtio3/driver",
		  "../../../../bus/virtio/drivers/virtiofs");
	expect(false, "it carries file systems of the hypervisor (virtiofs)");
}

static void test_allowed(void **state)
{
	char allowed[2][KEEPER_PCI_MAX] = {"0000:00:00.0", DEV};

	fake_file(&fake, "/sys/devices/pci0000:00/" DEV "/boot_vga", "1\n");
	fake.host.allowed = allowed;
	fake.host.n_allowed = 1;
	expect(true, "the display that the host booted with");
	fake.host.n_allowed = 2;
	expect(true, "");
}

/* A claimable device, one look-up failing: never "not used", in whatever way it fails. */
static void test_failures(void **state)
{
	static const int errors[] = {-EIO, -ENOMEM, -EMFILE, -EACCES};

	disk("nvme0n1", BEHIND, "259:0\n");
	fake_link(&fake, "/sys/class/net/eth0", BEHIND "/net/eth0");
	fake_file(&fake, "/sys/devices/pci0000:00/" DEV "/net/eth0/flags", "0x1003\n");
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		unsigned n;

		fake.fail_with = errors[i];
		for (n = 1;; n++) {
			int r;

			fake.n_ops = 0;
			fake.fail_at = n;
			strcpy(reason, "untouched");
			r = host_use(&fake.host, DEV, true, reason);
			if (fake.n_ops < n)
				break;
			assert_int_equal(r, errors[i]);
			assert_string_equal(reason, "untouched");
		}
		assert_true(n > 15);
	}
	fake.fail_at = 0;
	fake_remove(&fake, "/proc/self/mountinfo");
	assert_int_equal(host_use(&fake.host, DEV, true, reason), -ENOENT);
}

static void test_examine(void **state)
{
	struct keeper_device device;
	uint8_t config[0x110] = {0};
	char path[256];
	FILE *file;

	memcpy(config + 0x100, "\x1b\0\1\0\2\x14", 6);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/" DEV "/config", fake.root);
	file = fopen(path, "w");
	assert_non_null(file);
	fwrite(config, sizeof(config), 1, file);
	fclose(file);
	assert_int_equal(function_examine(&fake.host, DEV, &device), 0);
	assert_int_equal(device.pasid_bits, 20);
	assert_true(device.pasid_exec && device.reset && !device.ats && !device.pri);
	assert_string_equal(device.driver, "nvme");
	assert_string_equal(device.host_use, "");
	/* A virtual function has the PASID capability of its physical one. */
	fake_add(&fake, "0000:3b:00.4", "0x010802", 2, NULL);
	fake_link(&fake, "/sys/bus/pci/devices/0000:3b:00.4/physfn", "../" DEV);
	fake_remove(&fake, "/sys/devices/pci0000:00/0000:3b:00.4/reset");
	assert_int_equal(function_examine(&fake.host, "0000:3b:00.4", &device), 0);
	assert_int_equal(device.pasid_bits, 20);
	assert_false(device.reset);
	assert_string_equal(device.driver, "");
	assert_int_equal(function_examine(&fake.host, "0000:3b:00.5", &device), KEEPER_E_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_disks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_multipath, setup, teardown),
		cmocka_unit_test_setup_teardown(test_network, setup, teardown),
		cmocka_unit_test_setup_teardown(test_display, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_allowed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_examine, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
