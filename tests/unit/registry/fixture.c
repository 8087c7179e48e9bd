/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct registry_boot_id test_boot = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	if (!f)
		return -1;
	if (!tmp)
		tmp = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	snprintf(f->folder, sizeof(f->folder), "%s/ioasid-registry-XXXXXX", tmp);
	if (!mkdtemp(f->folder))
		return -1;
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	struct dirent *entry;
	char path[600];
	DIR *dir;

	fixture_close(f);
	dir = opendir(f->folder);
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", f->folder, entry->d_name);
		if (entry->d_name[0] != '.')
			unlink(path);
	}
	if (dir)
		closedir(dir);
	rmdir(f->folder);
	free(f);
	return 0;
}

void fixture_open(struct fixture *f, const struct registry_options *options)
{
	const struct registry_options none = {0};

	assert_int_equal(registry_open_with(f->folder, options ? options : &none, &f->registry,
					    &f->image, &f->problem),
			 0);
}

void fixture_start(struct fixture *f, const struct registry_options *options)
{
	fixture_open(f, options);
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	assert_int_equal(registry_commit(f->registry), 0);
}

void fixture_close(struct fixture *f)
{
	registry_close(f->registry);
	registry_image_free(f->image);
	f->registry = NULL;
	f->image = NULL;
}

const struct registry_image *fixture_load(struct fixture *f)
{
	registry_image_free(f->image);
	f->image = NULL;
	assert_int_equal(registry_load(f->folder, &f->image, &f->problem), 0);
	return f->image;
}

void put(struct fixture *f, uint64_t lease, const Ioasid__Registry__Batch *batch)
{
	struct registry_room room = {0};

	if (f->n_bodies < 32 && protobuf_c_message_get_packed_size(&batch->base) <= 512) {
		f->bodies[f->n_bodies].size =
			protobuf_c_message_pack(&batch->base, f->bodies[f->n_bodies].bytes);
		f->n_bodies++;
	}
	assert_int_equal(
		registry_room_take(f->registry, REGISTRY_GROWS, registry_batch_size(batch), &room),
		0);
	registry_append(f->registry, &room, lease, batch);
	assert_int_equal(room.bytes, 0);
}

const struct registry_lease *lease_of(const struct registry_image *image, uint64_t serial)
{
	for (size_t i = 0; i < image->n_leases; i++)
		if (image->leases[i].serial == serial)
			return &image->leases[i];
	return NULL;
}

uint8_t *log_read(const struct fixture *f, const char *name, size_t *ret_size)
{
	char path[600];
	struct stat st;
	uint8_t *bytes;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && !fstat(fd, &st));
	bytes = malloc((size_t)st.st_size + 1);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
	close(fd);
	*ret_size = (size_t)st.st_size;
	return bytes;
}

void log_write(const struct fixture *f, const char *name, const uint8_t *bytes, size_t size)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

void put_whole_lease(struct fixture *f, uint64_t serial)
{
	LEASE(lease);
	Ioasid__Registry__Watched watched = IOASID__REGISTRY__WATCHED__INIT;
	Ioasid__Registry__Holder holder = IOASID__REGISTRY__HOLDER__INIT;
	Ioasid__Registry__Memory memory = IOASID__REGISTRY__MEMORY__INIT;
	Ioasid__Registry__Ioasid ioasid = IOASID__REGISTRY__IOASID__INIT;
	Ioasid__Registry__Mapping mapping = IOASID__REGISTRY__MAPPING__INIT;
	Ioasid__Registry__Device device = IOASID__REGISTRY__DEVICE__INIT;
	Ioasid__Registry__Attachment attachment = IOASID__REGISTRY__ATTACHMENT__INIT;
	Ioasid__Registry__Key key = IOASID__REGISTRY__KEY__INIT;
	Ioasid__Registry__Intent intent = IOASID__REGISTRY__INTENT__INIT;
	Ioasid__Registry__Range range = IOASID__REGISTRY__RANGE__INIT;
	Ioasid__Registry__Range *ranges[] = {&range};
	uint64_t valid[] = {0, 0xfedfffff, 0xfef00000, 0xffffffffffff};
	uint8_t bytes[] = {9, 0, 7};
	char address[32], name[32];
	char *devices[] = {address};

	snprintf(address, sizeof(address), "0000:%02x:00.0", (unsigned)serial);
	snprintf(name, sizeof(name), "vm-%u", (unsigned)serial);
	watched.pid = 4711;
	watched.start_time = 99;
	holder.socket = TEXT("tenants");
	holder.uid = 1001;
	holder.gid = 1002;
	holder.pid = 4712;
	holder.start_time = 98;
	holder.token = (ProtobufCBinaryData){sizeof(bytes), bytes};
	lease.tenant = TEXT("org/team");
	lease.name = name;
	lease.secret = (ProtobufCBinaryData){sizeof(bytes), bytes};
	lease.linger_seconds = 30;
	lease.linger_until_us = 123456789;
	lease.opener_socket = TEXT("tenants");
	lease.opener_uid = 1001;
	lease.open_key = TEXT("open-1");
	lease.open_hash = 0x123456789abcdef0;
	lease.watched = &watched;
	lease.holder = &holder;
	lease.next_id = 3;
	lease.context = (ProtobufCBinaryData){sizeof(bytes), bytes};
	{
		BATCH(batch);

		batch.lease = &lease;
		put(f, serial, &batch);
	}
	memory.id = 1;
	memory.offset = 4096;
	memory.length = 1 << 20;
	memory.page_size = 4096;
	memory.prot = 3;
	memory.label = TEXT("ram");
	memory.dev = 26;
	memory.ino = 1234;
	{
		Ioasid__Registry__Memory *memories[] = {&memory};
		BATCH(batch);

		batch.memories = memories;
		batch.n_memories = 1;
		put(f, serial, &batch);
	}
	device.address = address;
	device.saved = (ProtobufCBinaryData){sizeof(bytes), bytes};
	device.fd_given = true;
	{
		Ioasid__Registry__Device *put_devices[] = {&device};
		BATCH(batch);

		batch.devices = put_devices;
		batch.n_devices = 1;
		put(f, serial, &batch);
	}
	ioasid.id = 2;
	ioasid.kind = 1;
	ioasid.dirty_tracking = ioasid.faults = ioasid.enforce_snoop = true;
	ioasid.kernel_chosen = ioasid.execute = ioasid.write_only = true;
	ioasid.format = 1;
	ioasid.input_bits = 48;
	ioasid.output_bits = 52;
	ioasid.page_sizes = 0x40201000;
	ioasid.valid = valid;
	ioasid.n_valid = 4;
	ioasid.devices = devices;
	ioasid.n_devices = 1;
	ioasid.label = TEXT("io");
	ioasid.choose_hint = 0x1000;
	ioasid.table = (ProtobufCBinaryData){sizeof(bytes), bytes};
	{
		Ioasid__Registry__Ioasid *ioasids[] = {&ioasid};
		BATCH(batch);

		batch.ioasids = ioasids;
		batch.n_ioasids = 1;
		put(f, serial, &batch);
	}
	mapping.ioasid = 2;
	mapping.iova = 0x10000;
	mapping.length = 0x2000;
	mapping.memory = 1;
	mapping.offset = 0x1000;
	mapping.prot = 3;
	{
		Ioasid__Registry__Mapping *mappings[] = {&mapping};
		BATCH(batch);

		batch.mappings = mappings;
		batch.n_mappings = 1;
		put(f, serial, &batch);
	}
	attachment.device = address;
	attachment.pasid = 6;
	attachment.ioasid = 2;
	attachment.saved = (ProtobufCBinaryData){sizeof(bytes), bytes};
	{
		Ioasid__Registry__Attachment *attachments[] = {&attachment};
		BATCH(batch);

		batch.attachments = attachments;
		batch.n_attachments = 1;
		put(f, serial, &batch);
	}
	key.key = TEXT("key-1");
	key.method = TEXT("/ioasid.v1.Broker/Alloc");
	key.hash = 77;
	key.answer = (ProtobufCBinaryData){sizeof(bytes), bytes};
	key.lost = true;
	key.order = 5;
	{
		Ioasid__Registry__Key *keys[] = {&key};
		BATCH(batch);

		batch.keys = keys;
		batch.n_keys = 1;
		put(f, serial, &batch);
	}
	range.iova = 0x10000;
	range.last = 0x11fff;
	intent.method = TEXT("/ioasid.v1.Broker/Unmap");
	intent.key = TEXT("key-2");
	intent.hash = 78;
	intent.answer = (ProtobufCBinaryData){sizeof(bytes), bytes};
	intent.ioasid = 2;
	intent.memory = 1;
	intent.devices = devices;
	intent.n_devices = 1;
	intent.pasid = 6;
	intent.ranges = ranges;
	intent.n_ranges = 1;
	intent.done_mappings = 3;
	intent.done_bytes = 4096;
	intent.admin_key = true;
	{
		BATCH(batch);

		batch.intent = &intent;
		put(f, serial, &batch);
	}
}

void put_vm(struct fixture *f, uint64_t serial, uint64_t vm, uint64_t ioasid)
{
	Ioasid__Registry__Vm v = IOASID__REGISTRY__VM__INIT, *vms[] = {&v};
	Ioasid__Registry__Slot slot = IOASID__REGISTRY__SLOT__INIT, *slots[] = {&slot};
	Ioasid__Registry__Ioasid space = IOASID__REGISTRY__IOASID__INIT, *spaces[] = {&space};

	v.id = vm;
	v.label = TEXT("guest");
	v.freed = true;
	{
		BATCH(batch);

		batch.vms = vms;
		batch.n_vms = 1;
		put(f, serial, &batch);
	}
	slot.vm = vm;
	slot.slot = 7;
	slot.guest_address = 0x40000000;
	slot.size = 0x4000;
	slot.memory = 1;
	slot.offset = 0x1000;
	slot.read_only = true;
	{
		BATCH(batch);

		batch.slots = slots;
		batch.n_slots = 1;
		put(f, serial, &batch);
	}
	space.id = ioasid;
	space.kind = 4;
	space.vm = vm;
	{
		BATCH(batch);

		batch.ioasids = spaces;
		batch.n_ioasids = 1;
		put(f, serial, &batch);
	}
}

void put_zero(struct fixture *f)
{
	Ioasid__Registry__Tenant tenant = IOASID__REGISTRY__TENANT__INIT;
	Ioasid__Registry__Limit limit = IOASID__REGISTRY__LIMIT__INIT;
	Ioasid__Registry__Limit *limits[] = {&limit};
	Ioasid__Registry__Tenant *tenants[] = {&tenant};
	Ioasid__Registry__Held held = IOASID__REGISTRY__HELD__INIT;
	Ioasid__Registry__Held *helds[] = {&held};
	Ioasid__Registry__Key key = IOASID__REGISTRY__KEY__INIT;
	Ioasid__Registry__Key *keys[] = {&key};
	Ioasid__Registry__Broker broker = IOASID__REGISTRY__BROKER__INIT;

	limit.resource = TEXT("ioasids");
	limit.amount = 17;
	tenant.path = TEXT("org/team");
	tenant.draining = true;
	tenant.limits = limits;
	tenant.n_limits = 1;
	{
		BATCH(batch);

		batch.tenants = tenants;
		batch.n_tenants = 1;
		put(f, 0, &batch);
	}
	held.address = TEXT("0000:ff:00.0");
	held.tenant = TEXT("org");
	{
		BATCH(batch);

		batch.held = helds;
		batch.n_held = 1;
		put(f, 0, &batch);
	}
	key.key = TEXT("admin-1");
	key.method = TEXT("/ioasid.v1.Admin/SetLimits");
	key.order = 1;
	{
		BATCH(batch);

		batch.keys = keys;
		batch.n_keys = 1;
		put(f, 0, &batch);
	}
	broker.last_serial = 40;
	broker.event_sequence = 1000;
	{
		BATCH(batch);

		batch.broker = &broker;
		put(f, 0, &batch);
	}
}
