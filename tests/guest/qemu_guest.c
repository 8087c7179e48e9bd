/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu_guest FOLDER ACT...
 *
 * What happens in a VM whose QEMU has a device of the host's, and at its monitor.  QEMU's
 * sockets, and the file that is the VM's memory, are in FOLDER: qtest, qmp, memory.  Acts:
 *
 *	version    QEMU is a 10 or later, and the VM has one edu
 *	none       the VM has none
 *	boot       its driver finds it and enables it
 *	dma        bytes go through it both ways, inside the VM's memory and nowhere else
 *	interrupt  and one at the end
 *	plug:BDF   a device is claimed in QEMU's lease, which $IOASID_LEASE_FILE names, and added
 *	unplug     it is taken out
 *	again:BDF  the same descriptor is of no use a second time
 *	drop:BDF   it is released, while the VM goes on
 *	quit       QEMU ends
 *
 * Nobody here has more rights than QEMU has.
 */
#include "edu.h"
#include "qemu_driver.h"
#include "qemu_qmp.h"
#include "report.h"

#include <fcntl.h>
#include <ioasid.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOURCE UINT64_C(0x100000)
#define TARGET UINT64_C(0x200000)
/* The firmware: mapped for the device to read. */
#define ROM UINT64_C(0xfffc0000)

struct guest {
	const char *folder;
	struct qtest qtest;
	struct qmp qmp;
	struct driver driver;
	struct ioasid_client *client; /* made for the first act that needs it */
	uint8_t *memory;	      /* as the host sees it */
	size_t size;
	uint8_t seed;
};

static void in_folder(const struct guest *g, const char *name, char *ret_path, size_t size)
{
	snprintf(ret_path, size, "%s/%s", g->folder, name);
}

static void guest_open(struct guest *g)
{
	struct stat status;
	char path[108];
	int fd;

	in_folder(g, "qmp", path, sizeof(path));
	qmp_connect(&g->qmp, path);
	in_folder(g, "qtest", path, sizeof(path));
	qtest_connect(&g->qtest, path);
	in_folder(g, "memory", path, sizeof(path));
	fd = open(path, O_RDWR | O_CLOEXEC);
	need(fd < 0 || fstat(fd, &status) ? -errno : 0, "the VM's memory");
	g->size = (size_t)status.st_size;
	g->memory = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(g->memory == MAP_FAILED ? -errno : 0, "see it");
	close(fd);
	g->seed = (uint8_t)getpid();
}

static void guest_close(struct guest *g)
{
	munmap(g->memory, g->size);
	qtest_close(&g->qtest);
	qmp_close(&g->qmp);
	ioasid_client_unref(g->client);
}

static struct json_object *command(struct guest *g, const char *text, int fd, const char *name)
{
	const char *error = "";
	struct json_object *result = qmp_do(&g->qmp, text, fd, &error);

	report(result != NULL, name, error);
	return result;
}

/* How many edu the VM has. */
static unsigned int count(struct guest *g)
{
	struct json_object *buses =
		command(g, "{\"execute\": \"query-pci\"}", -1, "QEMU lists the VM's devices");
	struct json_object *devices = qmp_get(json_object_array_get_idx(buses, 0), "devices", NULL);
	unsigned int n = 0;

	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *id = qmp_get(json_object_array_get_idx(devices, i), "id", NULL);

		n += json_object_get_int(qmp_get(id, "vendor", NULL)) == 0x1234 &&
		     json_object_get_int(qmp_get(id, "device", NULL)) == 0x11e8;
	}
	json_object_put(buses);
	return n;
}

static void act_version(struct guest *g, const char *argument)
{
	struct json_object *result =
		command(g, "{\"execute\": \"query-version\"}", -1, "QEMU says its version");

	report(json_object_get_int(qmp_get(result, "qemu", "major", NULL)) >= 10, "it is a 10",
	       json_object_get_string(result));
	json_object_put(result);
	report(count(g) == 1, "the VM has one edu", "it has not");
}

static void act_none(struct guest *g, const char *argument)
{
	report(count(g) == 0, "the VM has no edu", "it has one");
}

/* For acts that come after boot. */
static void find(struct guest *g)
{
	if (!report(driver_find(&g->qtest, &g->driver), "the VM's bus has it", "it has not"))
		exit(1);
}

static void act_boot(struct guest *g, const char *argument)
{
	find(g);
	report(driver_enable(&g->driver), "its driver sees its registers", "not those of an edu");
}

static void fill(struct guest *g, uint8_t *bytes)
{
	g->seed += 37;
	for (size_t i = 0; i < DRIVER_LENGTH; i++)
		bytes[i] = (uint8_t)(i * 7 + g->seed) | 1;
}

static void done(bool is, const char *name)
{
	if (!report(is, name, "it is never done"))
		exit(1);
}

/* A pattern into the device, none of whose bytes is zero. */
static void load(struct guest *g, uint8_t *pattern)
{
	fill(g, pattern);
	qtest_write(&g->qtest, SOURCE, pattern, DRIVER_LENGTH);
	done(driver_to_device(&g->driver, SOURCE, DRIVER_LENGTH), "the device reads");
}

/* What the device holds must reach no byte of the VM's memory. */
static void refuse_write(struct guest *g, uint64_t where, const char *name)
{
	uint8_t pattern[DRIVER_LENGTH];
	uint8_t *before = malloc(g->size);

	need(before ? 0 : -ENOMEM, "room for a copy");
	load(g, pattern);
	memcpy(before, g->memory, g->size);
	done(driver_from_device(&g->driver, where, EDU_FAULT_MAX), "it writes");
	report(!memcmp(before, g->memory, g->size), name, "the VM's memory has changed");
	free(before);
}

static void act_dma(struct guest *g, const char *argument)
{
	uint8_t pattern[DRIVER_LENGTH], got[DRIVER_LENGTH], rom[EDU_FAULT_MAX];
	static const uint8_t zero[EDU_FAULT_MAX];

	find(g);
	load(g, pattern);
	memset(g->memory + TARGET, 0, DRIVER_LENGTH + 1);
	done(driver_from_device(&g->driver, TARGET, DRIVER_LENGTH), "and writes");
	qtest_read(&g->qtest, TARGET, got, DRIVER_LENGTH);
	report(!memcmp(got, pattern, DRIVER_LENGTH), "the VM reads what the device wrote",
	       "bytes differ");
	report(!memcmp(g->memory + TARGET, pattern, DRIVER_LENGTH), "it is in the host's memory",
	       "bytes differ");
	report(!g->memory[TARGET + DRIVER_LENGTH], "and not one byte more", "there is");

	refuse_write(g, DRIVER_NOTHING, "beyond the VM's memory the device writes nothing");
	load(g, pattern);
	done(driver_to_device(&g->driver, DRIVER_NOTHING, EDU_FAULT_MAX), "it reads there");
	done(driver_from_device(&g->driver, TARGET, EDU_FAULT_MAX), "and writes that");
	report(!memcmp(g->memory + TARGET, zero, EDU_FAULT_MAX), "and reads nothing",
	       "it has read something");

	qtest_read(&g->qtest, ROM, rom, sizeof(rom));
	refuse_write(g, ROM, "to the firmware the device writes nothing");
	qtest_read(&g->qtest, ROM, got, sizeof(rom));
	report(!memcmp(rom, got, sizeof(rom)), "which is as it was", "it has changed");
}

static void act_interrupt(struct guest *g, const char *argument)
{
	uint8_t pattern[DRIVER_LENGTH];

	find(g);
	load(g, pattern);
	memset(g->memory + TARGET, 0, DRIVER_LENGTH);
	qtest_intercept(&g->qtest, "ioapic");
	report(driver_interrupts(&g->driver, TARGET, DRIVER_LENGTH),
	       "the device interrupts the VM at the end", "it does not");
	report(!memcmp(g->memory + TARGET, pattern, DRIVER_LENGTH), "with the bytes there",
	       "bytes differ");
}

/* The call stored *error before this runs. */
static void broker(int r, struct ioasid_error *const *error, const char *name)
{
	if (!report(r >= 0, name, r < 0 ? (*error)->message : ""))
		exit(1);
}

static void adopt(struct guest *g)
{
	struct ioasid_error *error = NULL;

	if (g->client)
		return;
	broker(ioasid_connect(NULL, NULL, &g->client, &error), &error, "ioasidd is there");
	broker(ioasid_lease_adopt_given(g->client, NULL, &error), &error, "the lease is QEMU's");
}

/* Whether QEMU takes the device; if not, why. */
static bool add(struct guest *g, const char *device, const char **ret_error)
{
	struct ioasid_error *error = NULL;
	struct json_object *result;
	int fd = -1;

	broker(ioasid_device_fd(g->client, NULL, device, &fd, &error), &error,
	       "its descriptor is had");
	json_object_put(command(g,
				"{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"cdev\"}}",
				fd, "QEMU takes it"));
	close(fd);
	result = qmp_do(&g->qmp,
			"{\"execute\": \"device_add\", \"arguments\": {\"driver\": \"vfio-pci\", "
			"\"iommufd\": \"iommufd0\", \"fd\": \"cdev\", \"id\": \"dev0\"}}",
			-1, ret_error);
	json_object_put(result);
	return result != NULL;
}

static void act_plug(struct guest *g, const char *device)
{
	struct ioasid_devices *devices;
	struct ioasid_error *error = NULL;
	const char *why = "";

	adopt(g);
	broker(ioasid_claim(g->client, NULL, &device, 1, &devices, &error), &error,
	       "a device is claimed");
	ioasid_devices_free(devices);
	report(add(g, device, &why), "and added to the VM", why);
	report(count(g) == 1, "which has it", "it has not");
}

static void act_again(struct guest *g, const char *device)
{
	const char *why = "it was added";

	adopt(g);
	report(!add(g, device, &why) && strstr(why, "error bind device"),
	       "what was bound cannot be added again", why);
}

static void act_drop(struct guest *g, const char *device)
{
	struct ioasid_error *error = NULL;

	adopt(g);
	broker(ioasid_release(g->client, NULL, &device, 1, &error), &error, "it is released");
}

static void act_unplug(struct guest *g, const char *argument)
{
	find(g);
	json_object_put(command(g,
				"{\"execute\": \"device_del\", \"arguments\": {\"id\": \"dev0\"}}",
				-1, "QEMU asks the VM to let go of it"));
	driver_eject(&g->driver);
	report(qmp_event(&g->qmp, "DEVICE_DELETED"), "the VM does", "QEMU does not say so");
	report(count(g) == 0, "and has it no more", "it has");
}

static void act_quit(struct guest *g, const char *argument)
{
	json_object_put(command(g, "{\"execute\": \"quit\"}", -1, "QEMU ends"));
}

static const struct {
	const char *name;
	void (*act)(struct guest *g, const char *argument);
} acts[] = {
	{"version", act_version}, {"none", act_none},		{"boot", act_boot},
	{"dma", act_dma},	  {"interrupt", act_interrupt}, {"plug", act_plug},
	{"unplug", act_unplug},	  {"again", act_again},		{"drop", act_drop},
	{"quit", act_quit},
};

/* NAME or NAME:ARGUMENT */
static bool perform(struct guest *g, const char *text)
{
	size_t length = strcspn(text, ":");

	for (size_t i = 0; i < sizeof(acts) / sizeof(*acts); i++)
		if (!strncmp(acts[i].name, text, length) && !acts[i].name[length]) {
			acts[i].act(g, text + length + (text[length] == ':'));
			return true;
		}
	return false;
}

int main(int argc, char **argv)
{
	struct guest g = {};

	if (argc < 3) {
		fprintf(stderr, "usage: qemu_guest FOLDER ACT...\n");
		return 2;
	}
	g.folder = argv[1];
	guest_open(&g);
	for (int i = 2; i < argc; i++)
		if (!perform(&g, argv[i])) {
			fprintf(stderr, "qemu_guest: no act '%s'\n", argv[i]);
			return 2;
		}
	guest_close(&g);
	return report_failed;
}
