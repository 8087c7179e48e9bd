/* SPDX-License-Identifier: Apache-2.0 */

/* See fake.h. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Descriptors of the model: contexts, and the open files of devices. */
#define FD_CONTEXT 1000
#define FD_GIVEN   1500
#define FD_DEVICE  2000
#define FD_QUEUE   3000 /* and the context */
#define FD_EVENTS  4000 /* and FAKE_OBJECTS for each context */
#define FD_POLL	   8000
#define FD_MEMORY  9000

void fake_init(struct fake *fake)
{
	static const struct fake_device devices[] = {
		{.address = "0000:00:03.0", .group = 3, .width = 39},
		{.address = "0000:01:00.0", .group = 4, .width = 39},
		{.address = "0000:03:01.0", .group = 5, .width = 39},
		{.address = "0000:03:02.0", .group = 5, .width = 39},
		/* On the large machine's IOMMU: everything is there. */
		{.address = "0000:81:00.0", .group = 9, .width = 57, .pasid_bits = 16},
	};

	memset(fake, 0, sizeof(*fake));
	memcpy(fake->devices, devices, sizeof(devices));
	fake->n_devices = sizeof(devices) / sizeof(devices[0]);
	for (size_t i = 0; i < fake->n_devices; i++) {
		struct fake_device *d = &fake->devices[i];
		bool large = d->width == 57;

		d->reserved_start = 0xfee00000;
		d->reserved_last = 0xfeefffff;
		d->hw_type = IOMMU_HW_INFO_TYPE_INTEL_VTD;
		d->cap = large ? 0x19ed008c40780c66 : 0xd2008c22260286;
		d->ecap = large ? 0x3ef9ea6f050df : 0xf00f4a;
		d->keeper.pasid_bits = large ? 16 : 0;
		d->keeper.ats = large;
	}
}

void fake_init_arm(struct fake *fake)
{
	/* As QEMU 10.0.2 says of its own. */
	static const uint32_t idr[6] = {0x0d44101b, 0x02730010, 0, 0x1414, 0, 0x74};
	static const char *const addresses[] = {"0000:00:03.0", "0001:02:04.1"};

	memset(fake, 0, sizeof(*fake));
	fake->n_devices = 2;
	for (size_t i = 0; i < 2; i++) {
		struct fake_device *d = &fake->devices[i];

		d->address = addresses[i];
		d->group = (uint32_t)i + 3;
		d->width = 44;
		d->reserved_start = 0x8000000;
		d->reserved_last = 0x80fffff;
		d->hw_type = IOMMU_HW_INFO_TYPE_ARM_SMMUV3;
		memcpy(d->idr, idr, sizeof(idr));
	}
}

struct fake_device *fake_device(struct fake *fake, const char *address)
{
	for (size_t i = 0; i < fake->n_devices; i++)
		if (!strcmp(fake->devices[i].address, address))
			return &fake->devices[i];
	return NULL;
}

/* ---- failures ---- */

void fake_arm(struct fake *fake, uint64_t nth, int error)
{
	fake->calls = 0;
	fake->nth = nth;
	fake->error = error;
	fake->failed = 0;
}

void fake_disarm(struct fake *fake)
{
	fake_arm(fake, 0, 0);
	fake->only = 0;
	fake->forever = false;
	fake->keeper_is_down = false;
}

/* 0: go on. */
static int fails(struct fake *fake, unsigned long request)
{
	if (fake->only && request != fake->only)
		return 0;
	if (++fake->calls < FAKE_TRACE)
		fake->trace[fake->calls] = request;
	if (fake->crash_at && fake->calls == fake->crash_at)
		_exit(FAKE_CRASHED);
	if (!fake->nth || (fake->forever ? fake->calls < fake->nth : fake->calls != fake->nth))
		return 0;
	fake->failed = request;
	return fake->error;
}

/* ---- objects ---- */

/* FAKE_NONE: of any type. */
static struct fake_object *object_of(struct fake_context *c, uint32_t id, enum fake_type type)
{
	struct fake_object *o = id && id < FAKE_OBJECTS ? &c->objects[id] : NULL;

	if (!o || !o->type)
		return NULL;
	return type == FAKE_NONE || o->type == type ? o : NULL;
}

static uint32_t object_new(struct fake_context *c, enum fake_type type)
{
	for (uint32_t id = 1; id < FAKE_OBJECTS; id++)
		if (!c->objects[id].type) {
			c->objects[id] = (struct fake_object){.type = type};
			return id;
		}
	fail_msg("too many objects");
	return 0;
}

/* The IOAS of an IOAS or a HWPT; NULL: the id is none. */
static struct fake_object *ioas_of(struct fake_context *c, uint32_t id)
{
	struct fake_object *o = object_of(c, id, FAKE_NONE);

	if (o && o->type == FAKE_HWPT && o->on)
		return ioas_of(c, c->objects[o->on].on);
	if (o && o->type == FAKE_HWPT && o->parent)
		return ioas_of(c, o->parent);
	if (o && o->type == FAKE_HWPT)
		return object_of(c, o->ioas, FAKE_IOAS);
	return o && o->type == FAKE_IOAS ? o : NULL;
}

/* Whether ranges of the device's are in the way of what is mapped or promised. */
static bool collides(const struct fake_device *d, const struct fake_object *ioas)
{
	uint64_t top = (UINT64_C(1) << d->width) - 1;

	for (size_t i = 0; i < ioas->n_areas; i++) {
		uint64_t start = ioas->areas[i].iova, last = start + ioas->areas[i].length - 1;

		if ((start <= d->reserved_last && last >= d->reserved_start) || last > top)
			return true;
	}
	for (size_t i = 0; i < ioas->n_allowed; i++)
		if ((ioas->allowed[i].start <= d->reserved_last &&
		     ioas->allowed[i].last >= d->reserved_start) ||
		    ioas->allowed[i].last > top)
			return true;
	return false;
}

/* The table that the kernel itself makes behind an IOMMU for what is attached to an IOAS. */
static uint32_t automatic_of(const struct fake_device *d, uint32_t ioas)
{
	struct fake_context *c = d->bound;
	uint32_t id;

	for (id = 1; id < FAKE_OBJECTS; id++) {
		const struct fake_object *o = &c->objects[id];

		if (o->type == FAKE_HWPT && o->automatic && o->ioas == ioas && o->width == d->width)
			return id;
	}
	id = object_new(c, FAKE_HWPT);
	c->objects[id].ioas = ioas;
	c->objects[id].width = d->width;
	c->objects[id].automatic = true;
	c->objects[ioas].users++;
	return id;
}

/* The kernel answers what waits on a table when the last device leaves it. */
static void drop_requests(struct fake_context *c, uint32_t hwpt)
{
	for (size_t i = 0; i < c->n_requests;) {
		if (c->requests[i].hwpt == hwpt)
			c->requests[i] = c->requests[--c->n_requests];
		else
			i++;
	}
}

static void put_table(struct fake_context *c, uint32_t id)
{
	struct fake_object *o = &c->objects[id];

	if (o->users == 1)
		drop_requests(c, id);

	if (--o->users || !o->automatic)
		return;
	c->objects[o->ioas].users--;
	*o = (struct fake_object){0};
}

static void detach_plain(struct fake_device *d)
{
	if (!d->attached)
		return;
	put_table(d->bound, d->automatic ? d->automatic : d->attached);
	d->attached = d->automatic = 0;
	d->disturbed++;
}

static int attach_plain(struct fake *fake, struct fake_device *d, uint32_t pt)
{
	bool is_ioas = d->bound->objects[pt].type == FAKE_IOAS;
	uint32_t automatic;

	for (size_t i = 0; i < fake->n_devices; i++) {
		struct fake_device *other = &fake->devices[i];

		/* The kernel's replace would move it along: the shim must not ask. */
		if (other != d && other->group == d->group && other->attached)
			assert_int_equal(other->attached, pt);
	}
	if (d->attached == pt)
		return 0;
	automatic = is_ioas ? automatic_of(d, pt) : 0;
	d->bound->objects[is_ioas ? automatic : pt].users++;
	detach_plain(d);
	d->attached = pt;
	d->automatic = automatic;
	return 0;
}

static int attach(struct fake *fake, struct fake_device *d, uint32_t pasid, uint32_t pt)
{
	struct fake_object *o, *ioas;
	size_t slot = FAKE_PASIDS;

	if (!d->bound)
		return -EINVAL;
	o = object_of(d->bound, pt, FAKE_NONE);
	ioas = ioas_of(d->bound, pt);
	if (!ioas)
		return -ENOENT;
	if (collides(d, ioas))
		return -EADDRINUSE;
	if (pasid == SHIM_NO_PASID)
		return attach_plain(fake, d, pt);
	if (!d->pasid_bits)
		return -EOPNOTSUPP;
	/* Tables that were made for PASIDs only, also for what goes without. */
	if (o->type != FAKE_HWPT ||
	    (d->attached && d->bound->objects[d->attached].type != FAKE_HWPT))
		return -EINVAL;
	for (size_t i = 0; i < FAKE_PASIDS; i++)
		if (d->pts[i] ? d->pasids[i] == pasid : slot == FAKE_PASIDS)
			slot = i;
	assert_true(slot < FAKE_PASIDS);
	if (d->pts[slot] == pt)
		return 0;
	o->users++;
	if (d->pts[slot]) {
		put_table(d->bound, d->pts[slot]);
		d->disturbed++;
	}
	d->pasids[slot] = pasid;
	d->pts[slot] = pt;
	return 0;
}

static void detach(struct fake_device *d, uint32_t pasid)
{
	if (pasid == SHIM_NO_PASID)
		detach_plain(d);
	for (size_t i = 0; pasid != SHIM_NO_PASID && i < FAKE_PASIDS; i++)
		if (d->pts[i] && d->pasids[i] == pasid) {
			put_table(d->bound, d->pts[i]);
			d->pts[i] = 0;
			d->disturbed++;
		}
}

/* The last descriptor of a context or of what is bound to it is gone. */
static void context_put(struct fake_context *c)
{
	if (!c->open && !c->kept && !c->given && !c->bound)
		memset(c, 0, sizeof(*c));
}

static void device_put(struct fake_device *d)
{
	if (d->fds || d->kept || !d->bound)
		return;
	detach(d, SHIM_NO_PASID);
	for (size_t i = 0; i < FAKE_PASIDS; i++)
		if (d->pts[i])
			detach(d, d->pasids[i]);
	if (d->vdevice) {
		d->bound->objects[d->bound->objects[d->vdevice].on].users--;
		d->bound->objects[d->vdevice] = (struct fake_object){0};
		d->vdevice = 0;
	}
	d->bound->objects[d->id] = (struct fake_object){0};
	d->bound->bound--;
	context_put(d->bound);
	d->bound = NULL;
}

/* ---- the calls of /dev/iommu ---- */

static int call_destroy(struct fake *fake, struct fake_context *c, const struct iommufd_destroy *a)
{
	struct fake_object *o;

	if (fake->hostile && fake->hostile_times) {
		fake->hostile_times--;
		(void)attach(fake, fake->hostile, SHIM_NO_PASID, fake->hostile_pt);
	}
	o = object_of(c, a->id, FAKE_NONE);
	if (!o)
		return -ENOENT;
	if (o->users || o->type == FAKE_DEVICE || o->fd_open)
		return -EBUSY;
	for (size_t i = 0; o->type == FAKE_VDEVICE && i < fake->n_devices; i++)
		if (fake->devices[i].bound == c && fake->devices[i].vdevice == a->id)
			fake->devices[i].vdevice = 0;
	if (o->on) {
		c->objects[o->on].users--;
		*o = (struct fake_object){0};
		return 0;
	}
	if (o->type == FAKE_HWPT && o->parent)
		object_of(c, o->parent, FAKE_HWPT)->users--;
	else if (o->type == FAKE_HWPT)
		object_of(c, o->ioas, FAKE_IOAS)->users--;
	if (o->type == FAKE_HWPT && o->queue)
		object_of(c, o->queue, FAKE_QUEUE)->users--;
	*o = (struct fake_object){0};
	return 0;
}

static int call_allow(struct fake_context *c, const struct iommufd_ioas_allow_iovas *a)
{
	const struct iommufd_iova_range *ranges = (const void *)(uintptr_t)a->allowed_iovas;
	struct fake_object *o = object_of(c, a->ioas_id, FAKE_IOAS);

	if (!o)
		return -ENOENT;
	assert_in_range(a->num_iovas, 1, 16);
	for (uint32_t i = 0; i < a->num_iovas; i++) {
		if (ranges[i].start >= ranges[i].last)
			return -EINVAL;
		if (i && ranges[i].start <= ranges[i - 1].last)
			return -EINVAL;
		o->allowed[i] = ranges[i];
	}
	o->n_allowed = a->num_iovas;
	return 0;
}

static int call_map(struct fake *fake, struct fake_context *c,
		    const struct iommufd_ioas_map_file *a)
{
	struct fake_object *o = object_of(c, a->ioas_id, FAKE_IOAS);
	uint64_t last = a->iova + a->length - 1;

	if (!o)
		return -ENOENT;
	if (a->fd < 0)
		return -EBADF;
	assert_true(a->flags & IOMMU_IOAS_MAP_FIXED_IOVA);
	assert_true(a->flags & (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE));
	assert_int_equal((a->iova | a->length | a->start) % 4096, 0);
	for (size_t i = 0; i < o->n_areas; i++)
		if (a->iova < o->areas[i].iova + o->areas[i].length && last >= o->areas[i].iova)
			return -EEXIST;
	for (size_t i = 0; i < fake->n_devices; i++) {
		const struct fake_device *d = &fake->devices[i];

		if (d->bound == c && d->attached && ioas_of(c, d->attached) == o &&
		    ((a->iova <= d->reserved_last && last >= d->reserved_start) ||
		     last >> d->width))
			return -EINVAL;
	}
	assert_true(o->n_areas < FAKE_AREAS);
	o->areas[o->n_areas++] = (struct fake_area){a->iova, a->length};
	if (a->fd == FD_MEMORY) {
		assert_false(a->flags & IOMMU_IOAS_MAP_WRITEABLE);
		fake->memory_iova = a->iova;
	}
	if (fake->cancel && ++fake->maps == fake->cancel_after)
		fake->cancel->requested = true;
	return 0;
}

static int call_unmap(struct fake_context *c, struct iommufd_ioas_unmap *a)
{
	struct fake_object *o = object_of(c, a->ioas_id, FAKE_IOAS);
	bool all = !a->iova && a->length == UINT64_MAX;
	uint64_t last = all ? UINT64_MAX : a->iova + a->length - 1, n = 0;

	if (!o)
		return -ENOENT;
	for (size_t i = 0; i < o->n_areas; i++) {
		const struct fake_area *area = &o->areas[i];
		uint64_t area_last = area->iova + area->length - 1;

		if (area->iova <= last && area_last >= a->iova &&
		    (area->iova < a->iova || area_last > last))
			return -ENOENT;
	}
	for (size_t i = 0; i < o->n_areas;) {
		if (o->areas[i].iova < a->iova || o->areas[i].iova > last) {
			i++;
			continue;
		}
		n += o->areas[i].length;
		o->areas[i] = o->areas[--o->n_areas];
	}
	if (!n)
		return -ENOENT;
	a->length = n;
	return 0;
}

static int call_ranges(struct fake_context *c, struct iommufd_ioas_iova_ranges *a)
{
	if (!object_of(c, a->ioas_id, FAKE_IOAS))
		return -ENOENT;
	/* The shim asks for none. */
	assert_int_equal(a->num_iovas, 0);
	a->num_iovas = 1;
	return -EMSGSIZE;
}

static struct fake_device *bound_device(struct fake *fake, struct fake_context *c, uint32_t id)
{
	for (size_t i = 0; i < fake->n_devices; i++)
		if (fake->devices[i].bound == c && fake->devices[i].id == id)
			return &fake->devices[i];
	return NULL;
}

/* ---- nesting behind an SMMUv3 ---- */

static uint32_t object_on(struct fake_context *c, enum fake_type type, uint32_t on)
{
	uint32_t id = object_new(c, type);

	c->objects[id].on = on;
	c->objects[on].users++;
	return id;
}

static int call_vste(struct fake_context *c, const struct fake_device *d,
		     struct iommufd_hwpt_alloc *a)
{
	const uint64_t *ste = (const void *)(uintptr_t)a->data_uptr;
	bool translates;

	if (!d || !object_of(c, a->pt_id, FAKE_VIOMMU))
		return -ENOENT;
	assert_int_equal(a->flags, 0);
	assert_int_equal(a->data_len, 16);
	if (ste[0] & ~0xf80fffffffffffff || ste[1] & ~UINT64_C(0x380000ff))
		return -EIO;
	translates = (ste[0] & 1) && (ste[0] >> 1 & 7) == 5;
	if (translates && (!d->vdevice || c->objects[d->vdevice].on != a->pt_id))
		return -ENOENT;
	a->out_hwpt_id = object_on(c, FAKE_HWPT, a->pt_id);
	memcpy(c->objects[a->out_hwpt_id].ste, ste, 16);
	return 0;
}

static int call_viommu(struct fake *fake, struct fake_context *c, struct iommufd_viommu_alloc *a)
{
	struct fake_object *parent = object_of(c, a->hwpt_id, FAKE_HWPT);

	if (!bound_device(fake, c, a->dev_id) || !parent)
		return -ENOENT;
	assert_int_equal(a->type, IOMMU_VIOMMU_TYPE_ARM_SMMUV3);
	if (fake->no_canwbs)
		return -EOPNOTSUPP;
	if (!(parent->flags & IOMMU_HWPT_ALLOC_NEST_PARENT))
		return -EINVAL;
	a->out_viommu_id = object_on(c, FAKE_VIOMMU, a->hwpt_id);
	return 0;
}

static int call_vdevice(struct fake *fake, struct fake_context *c, struct iommufd_vdevice_alloc *a)
{
	struct fake_device *d = bound_device(fake, c, a->dev_id);

	if (!d || !object_of(c, a->viommu_id, FAKE_VIOMMU))
		return -ENOENT;
	if (d->vdevice)
		return -EEXIST;
	for (size_t i = 0; i < fake->n_devices; i++) {
		const struct fake_device *other = &fake->devices[i];

		if (other->bound == c && other->vdevice && other->number == a->virt_id &&
		    c->objects[other->vdevice].on == a->viommu_id)
			return -EEXIST;
	}
	d->vdevice = a->out_vdevice_id = object_on(c, FAKE_VDEVICE, a->viommu_id);
	d->number = a->virt_id;
	return 0;
}

static int call_events(struct fake *fake, struct fake_context *c, struct iommufd_veventq_alloc *a)
{
	uint32_t id;

	if (!object_of(c, a->viommu_id, FAKE_VIOMMU))
		return -ENOENT;
	for (id = 1; id < FAKE_OBJECTS; id++)
		if (c->objects[id].type == FAKE_EVENTS && c->objects[id].on == a->viommu_id)
			return -EEXIST;
	assert_int_equal(a->type, IOMMU_VEVENTQ_TYPE_ARM_SMMUV3);
	assert_true(a->veventq_depth > 0);
	id = object_on(c, FAKE_EVENTS, a->viommu_id);
	c->objects[id].fd_open = true;
	a->out_veventq_id = id;
	a->out_veventq_fd = FD_EVENTS + (uint32_t)(c - fake->contexts) * FAKE_OBJECTS + id;
	return 0;
}

/* What the kernel takes of a tenant; streams must be vDEVICEs of the vIOMMU. */
static bool command_is_good(const struct fake *fake, const struct fake_context *c, uint32_t viommu,
			    const struct smmuv3_command *command)
{
	unsigned op = command->word[0] & 0xff;

	if (op == 0x10 || op == 0x11 || op == 0x12 || op == 0x13 || op == 0x30)
		return true;
	for (size_t i = 0; (op == 0x05 || op == 0x06) && i < fake->n_devices; i++) {
		const struct fake_device *d = &fake->devices[i];

		if (d->bound == c && d->vdevice && c->objects[d->vdevice].on == viommu &&
		    d->number == command->word[0] >> 32)
			return true;
	}
	return false;
}

static int call_commands(struct fake *fake, struct fake_context *c,
			 struct iommufd_hwpt_invalidate *a)
{
	const struct smmuv3_command *commands = (const void *)(uintptr_t)a->data_uptr;
	uint32_t n = a->entry_num;

	if (!object_of(c, a->hwpt_id, FAKE_VIOMMU))
		return -ENOENT;
	assert_int_equal(a->entry_len, 16);
	assert_int_equal(a->data_type, IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3);
	for (a->entry_num = 0; a->entry_num < n; a->entry_num++) {
		if (!command_is_good(fake, c, a->hwpt_id, &commands[a->entry_num]))
			return -EIO;
		assert_true(fake->n_commands < FAKE_COMMANDS);
		fake->commands[fake->n_commands++] = commands[a->entry_num];
	}
	return 0;
}

const uint64_t *fake_ste(const struct fake *fake, const char *address)
{
	const struct fake_device *d = fake_device((struct fake *)fake, address);
	const struct fake_object *o = d->attached ? &d->bound->objects[d->attached] : NULL;

	return o && o->on ? o->ste : NULL;
}

static int call_nested(struct fake_context *c, const struct iommufd_hwpt_alloc *a,
		       struct fake_object *parent)
{
	const struct iommufd_hwpt_vtd_s1 *data = (const void *)(uintptr_t)a->data_uptr;

	if (!(parent->flags & IOMMU_HWPT_ALLOC_NEST_PARENT))
		return -EINVAL;
	assert_int_equal(a->data_type, IOMMU_HWPT_DATA_VTD_S1);
	assert_int_equal(a->data_len, sizeof(*data));
	assert_int_equal(data->reserved, 0);
	parent->users++;
	return 0;
}

static int call_hwpt(struct fake *fake, struct fake_context *c, struct iommufd_hwpt_alloc *a)
{
	struct fake_device *d = bound_device(fake, c, a->dev_id);
	struct fake_object *on = object_of(c, a->pt_id, FAKE_NONE), *queue = NULL, *o;
	int r = 0;

	if (a->data_type == IOMMU_HWPT_DATA_ARM_SMMUV3)
		return call_vste(c, d, a);
	if (!d || !on || !ioas_of(c, a->pt_id))
		return -ENOENT;
	if (a->flags & IOMMU_HWPT_ALLOC_PASID && !d->pasid_bits)
		return -EOPNOTSUPP;
	if (a->flags & IOMMU_HWPT_FAULT_ID_VALID) {
		assert_false(a->flags & IOMMU_HWPT_ALLOC_NEST_PARENT);
		queue = object_of(c, a->fault_id, FAKE_QUEUE);
		assert_non_null(queue);
	}
	if (on->type == FAKE_HWPT)
		r = call_nested(c, a, on);
	else if (collides(d, on))
		r = -EADDRINUSE;
	else
		on->users++;
	if (r)
		return r;
	a->out_hwpt_id = object_new(c, FAKE_HWPT);
	o = &c->objects[a->out_hwpt_id];
	o->flags = a->flags;
	if (on->type == FAKE_HWPT) {
		o->parent = a->pt_id;
		o->data = *(const struct iommufd_hwpt_vtd_s1 *)(uintptr_t)a->data_uptr;
	} else {
		o->ioas = a->pt_id;
	}
	if (queue) {
		queue->users++;
		o->queue = a->fault_id;
	}
	return 0;
}

static int call_queue(struct fake *fake, struct fake_context *c, struct iommufd_fault_alloc *a)
{
	assert_int_equal(c->queue, 0);
	a->out_fault_id = c->queue = object_new(c, FAKE_QUEUE);
	a->out_fault_fd = (uint32_t)(FD_QUEUE + (c - fake->contexts));
	c->objects[c->queue].users++;
	return 0;
}

/* The shim's batches stay below eight here. */
static int call_invalidate(struct fake *fake, struct fake_context *c,
			   struct iommufd_hwpt_invalidate *a)
{
	const struct iommufd_vtd_s1_invalidate *entries = (const void *)(uintptr_t)a->data_uptr;
	struct fake_object *o = object_of(c, a->hwpt_id, FAKE_HWPT);
	uint32_t n = a->entry_num;

	if (object_of(c, a->hwpt_id, FAKE_VIOMMU))
		return call_commands(fake, c, a);
	if (!o || !o->parent)
		return -EINVAL;
	assert_int_equal(a->data_type, IOMMU_HWPT_INVALIDATE_DATA_VTD_S1);
	assert_int_equal(a->entry_len, sizeof(*entries));
	o->n_invalidated = 0;
	for (a->entry_num = 0; a->entry_num < n; a->entry_num++) {
		/* One that this hardware finds it cannot do. */
		if (entries[a->entry_num].addr == 0xbad000)
			return -EINVAL;
		assert_true(o->n_invalidated < 8);
		o->invalidated[o->n_invalidated++] = entries[a->entry_num];
	}
	return 0;
}

static int call_set_dirty(struct fake_context *c, const struct iommufd_set_dirty *a)
{
	struct fake_object *o = object_of(c, a->hwpt_id, FAKE_HWPT);

	if (!o)
		return -ENOENT;
	if (!(o->flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING))
		return -EOPNOTSUPP;
	if (!o->tracked)
		o->n_dirty = 0;
	o->tracked = a->flags & IOMMU_HWPT_DIRTY_ENABLE;
	return 0;
}

static bool all_mapped(const struct fake_object *ioas, uint64_t iova, uint64_t length)
{
	for (size_t i = 0; i < ioas->n_areas; i++) {
		const struct fake_area *area = &ioas->areas[i];

		if (iova - area->iova >= area->length)
			continue;
		if (iova + length <= area->iova + area->length)
			return true;
		return all_mapped(ioas, area->iova + area->length,
				  iova + length - area->iova - area->length);
	}
	return false;
}

static int call_get_dirty(struct fake_context *c, const struct iommufd_get_dirty *a)
{
	uint64_t *bits = (uint64_t *)(uintptr_t)a->data;
	struct fake_object *o = object_of(c, a->hwpt_id, FAKE_HWPT);

	if (!o)
		return -ENOENT;
	if (!o->tracked || !all_mapped(ioas_of(c, a->hwpt_id), a->iova, a->length))
		return -EINVAL;
	for (size_t i = 0; i < o->n_dirty;) {
		uint64_t bit = (o->dirty[i] - a->iova) / a->page_size;

		if (o->dirty[i] - a->iova >= a->length) {
			i++;
			continue;
		}
		bits[bit / 64] |= UINT64_C(1) << bit % 64;
		if (a->flags & IOMMU_HWPT_DIRTY_NO_CLEAR)
			i++;
		else
			o->dirty[i] = o->dirty[--o->n_dirty];
	}
	return 0;
}

static int call_hw_info(struct fake *fake, struct fake_context *c, struct iommufd_hw_info *a)
{
	struct iommufd_hw_info_vtd *vtd = (void *)(uintptr_t)a->data_uptr;
	struct fake_device *d = bound_device(fake, c, a->dev_id);

	if (!d)
		return -ENOENT;
	a->out_data_type = d->hw_type;
	a->out_max_pasid_log2 = d->pasid_bits;
	if (d->hw_type == IOMMU_HW_INFO_TYPE_INTEL_VTD) {
		assert_true(a->data_len >= sizeof(*vtd));
		*vtd = (struct iommufd_hw_info_vtd){.cap_reg = d->cap, .ecap_reg = d->ecap};
	} else if (d->hw_type == IOMMU_HW_INFO_TYPE_ARM_SMMUV3) {
		struct iommufd_hw_info_arm_smmuv3 whole = {0};

		memcpy(whole.idr, d->idr, sizeof(whole.idr));
		memcpy(vtd, &whole, a->data_len < sizeof(whole) ? a->data_len : sizeof(whole));
	}
	return 0;
}

static int call_context(struct fake *fake, struct fake_context *c, unsigned long request, void *arg)
{
	uint32_t size = *(const uint32_t *)arg;

	if (fake->missing >> (_IOC_NR(request) - 0x80) & 1)
		return -ENOTTY;
	if (!size)
		return -EINVAL;
	switch (request) {
	case IOMMU_DESTROY:
		return call_destroy(fake, c, arg);
	case IOMMU_IOAS_ALLOC:
		((struct iommufd_ioas_alloc *)arg)->out_ioas_id = object_new(c, FAKE_IOAS);
		return 0;
	case IOMMU_IOAS_ALLOW_IOVAS:
		return call_allow(c, arg);
	case IOMMU_IOAS_IOVA_RANGES:
		return call_ranges(c, arg);
	case IOMMU_IOAS_MAP_FILE:
		return call_map(fake, c, arg);
	case IOMMU_IOAS_UNMAP:
		return call_unmap(c, arg);
	case IOMMU_HWPT_ALLOC:
		return call_hwpt(fake, c, arg);
	case IOMMU_FAULT_QUEUE_ALLOC:
		return call_queue(fake, c, arg);
	case IOMMU_HWPT_INVALIDATE:
		return call_invalidate(fake, c, arg);
	case IOMMU_VIOMMU_ALLOC:
		return call_viommu(fake, c, arg);
	case IOMMU_VDEVICE_ALLOC:
		return call_vdevice(fake, c, arg);
	case IOMMU_VEVENTQ_ALLOC:
		return call_events(fake, c, arg);
	case IOMMU_HWPT_SET_DIRTY:
		return call_set_dirty(c, arg);
	case IOMMU_HWPT_GET_DIRTY:
		return call_get_dirty(c, arg);
	case IOMMU_GET_HW_INFO:
		return call_hw_info(fake, c, arg);
	}
	fail_msg("call %lx", request);
	return -ENOTTY;
}

/* ---- the calls of a character device ---- */

static int call_bind(struct fake *fake, struct fake_device *d, struct vfio_cdev_bind *a)
{
	assert_in_range(a->iommufd, FD_CONTEXT, FD_CONTEXT + FAKE_CONTEXTS - 1);
	if (d->bound)
		return -EINVAL;
	d->bound = &fake->contexts[a->iommufd - FD_CONTEXT];
	assert_true(d->bound->open);
	d->bound->bound++;
	d->id = a->out_devid = object_new(d->bound, FAKE_DEVICE);
	return 0;
}

static int call_device(struct fake *fake, struct fake_device *d, unsigned long request, void *arg)
{
	const struct vfio_cdev_attach *at = arg;
	const struct vfio_cdev_detach *de = arg;

	switch (request) {
	case VFIO_CDEV_BIND_IOMMUFD:
		return call_bind(fake, d, arg);
	case VFIO_CDEV_ATTACH_PT:
		assert_int_equal(at->argsz, at->flags ? sizeof(*at) : VFIO_CDEV_ATTACH_SIZE);
		return attach(fake, d, at->flags ? at->pasid : SHIM_NO_PASID, at->pt_id);
	case VFIO_CDEV_DETACH_PT:
		assert_int_equal(de->argsz, de->flags ? sizeof(*de) : VFIO_CDEV_DETACH_SIZE);
		detach(d, de->flags ? de->pasid : SHIM_NO_PASID);
		return 0;
	}
	fail_msg("call %lx", request);
	return -ENOTTY;
}

static int sys_ioctl(void *user, int fd, unsigned long request, void *arg)
{
	struct fake *fake = user;
	int r = fails(fake, request);

	if (r)
		return r;
	if (fd >= FD_DEVICE) {
		assert_in_range(fd, FD_DEVICE, FD_DEVICE + fake->n_devices - 1);
		assert_true(fake->devices[fd - FD_DEVICE].fds);
		return call_device(fake, &fake->devices[fd - FD_DEVICE], request, arg);
	}
	assert_in_range(fd, FD_CONTEXT, FD_CONTEXT + FAKE_CONTEXTS - 1);
	assert_true(fake->contexts[fd - FD_CONTEXT].open);
	return call_context(fake, &fake->contexts[fd - FD_CONTEXT], request, arg);
}

static int sys_dup(void *user, int fd)
{
	struct fake *fake = user;
	int r = fails(fake, FAKE_DUP);

	if (r)
		return r;
	if (fd < FD_GIVEN) {
		assert_in_range(fd, FD_CONTEXT, FD_CONTEXT + FAKE_CONTEXTS - 1);
		fake->contexts[fd - FD_CONTEXT].given = true;
		return fd - FD_CONTEXT + FD_GIVEN;
	}
	assert_in_range(fd, FD_DEVICE, FD_DEVICE + fake->n_devices - 1);
	fake->devices[fd - FD_DEVICE].fds++;
	fake->devices[fd - FD_DEVICE].tenants++;
	return fd;
}

/* The last of a queue's users may be its descriptor. */
static void queue_close(struct fake_context *c)
{
	if (c->queue)
		c->objects[c->queue].users--;
	c->queue = 0;
}

static struct fake_context *queue_context(struct fake *fake, int fd)
{
	assert_in_range(fd, FD_QUEUE, FD_QUEUE + FAKE_CONTEXTS - 1);
	assert_true(fake->contexts[fd - FD_QUEUE].queue);
	return &fake->contexts[fd - FD_QUEUE];
}

static ssize_t events_read(struct fake *fake, void *bytes, size_t n)
{
	size_t got = fake->n_events;

	assert_true(got <= n);
	memcpy(bytes, fake->events, got);
	fake->n_events = 0;
	return (ssize_t)got;
}

/* As the kernel does: whole groups, and none of those that are left for want of room. */
static ssize_t sys_read(void *user, int fd, void *bytes, size_t n)
{
	struct fake *fake = user;
	struct fake_context *c;
	struct iommufd_pgfault *out = bytes;
	size_t done = 0;
	int r = fails(fake, FAKE_READ);

	if (r)
		return r;
	if (fd >= FD_EVENTS)
		return events_read(fake, bytes, n);
	c = queue_context(fake, fd);
	for (size_t i = 0; i < c->n_requests;) {
		size_t end = i;

		while (!(c->requests[end].fault.flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE))
			end++;
		if (!c->requests[i].read && (done + end + 1 - i) * sizeof(*out) > n)
			break;
		for (; i <= end; i++) {
			if (!c->requests[i].read)
				out[done++] = c->requests[i].fault;
			c->requests[i].read = true;
		}
	}
	return (ssize_t)(done * sizeof(*out));
}

static int sys_write(void *user, int fd, const void *bytes, size_t n)
{
	const struct iommufd_page_response *response = bytes;
	struct fake *fake = user;
	struct fake_context *c = queue_context(fake, fd);
	int r = fails(fake, FAKE_WRITE);
	size_t kept = 0;

	if (r)
		return r;
	assert_int_equal(n, sizeof(*response));
	assert_in_range(response->code, 0, 1);
	for (size_t i = 0; i < c->n_requests; i++)
		if (c->requests[i].fault.cookie != response->cookie || !c->requests[i].read)
			c->requests[kept++] = c->requests[i];
	if (kept == c->n_requests)
		return -EINVAL;
	c->n_requests = kept;
	c->answers[response->code]++;
	return 0;
}

static void sys_close(void *user, int fd)
{
	struct fake *fake = user;

	if (fd >= FD_POLL) {
		assert_true(fake->polls);
		fake->polls--;
		return;
	}
	if (fd >= FD_EVENTS) {
		struct fake_object *o = &fake->contexts[(fd - FD_EVENTS) / FAKE_OBJECTS]
						 .objects[(fd - FD_EVENTS) % FAKE_OBJECTS];

		assert_true(o->type == FAKE_EVENTS && o->fd_open);
		o->fd_open = false;
		return;
	}
	if (fd >= FD_QUEUE) {
		queue_close(queue_context(fake, fd));
		return;
	}

	if (fd >= FD_DEVICE) {
		assert_true(fake->devices[fd - FD_DEVICE].fds);
		fake->devices[fd - FD_DEVICE].fds--;
		device_put(&fake->devices[fd - FD_DEVICE]);
		return;
	}
	assert_in_range(fd, FD_CONTEXT, FD_CONTEXT + FAKE_CONTEXTS - 1);
	assert_true(fake->contexts[fd - FD_CONTEXT].open);
	fake->contexts[fd - FD_CONTEXT].open = false;
	context_put(&fake->contexts[fd - FD_CONTEXT]);
}

/* Room behind it: which it is tells where it is mapped. */
static int sys_memory_new(void *user, size_t size, int *ret_fd, void **ret_bytes)
{
	struct fake *fake = user;
	int r = fails(fake, FAKE_MEMORY);

	if (r)
		return r;
	*ret_bytes = calloc(1, size);
	assert_non_null(*ret_bytes);
	fake->memories++;
	*ret_fd = FD_MEMORY;
	fake->memory = *ret_bytes;
	return 0;
}

static void sys_memory_free(void *user, int fd, void *bytes, size_t size)
{
	struct fake *fake = user;

	assert_true(fd == FD_MEMORY && fake->memories);
	fake->memories--;
	free(bytes);
}

const uint64_t *fake_descriptor(const struct fake *fake, uint64_t iova)
{
	assert_true(fake->memories && iova >= fake->memory_iova);
	return (const uint64_t *)(const void *)(fake->memory + (iova - fake->memory_iova));
}

static int sys_poll_new(void *user)
{
	struct fake *fake = user;
	int r = fails(fake, FAKE_MEMORY);

	if (r)
		return r;
	fake->polls++;
	return FD_POLL;
}

static int sys_poll_add(void *user, int poll, int fd)
{
	struct fake *fake = user;
	int r = fails(fake, FAKE_MEMORY);

	assert_int_equal(poll, FD_POLL);
	assert_in_range(fd, FD_QUEUE, FD_POLL - 1);
	if (!r)
		fake->watched++;
	return r;
}

/* ---- the keeper ---- */

static int keeper_fails(struct fake *fake, unsigned long request)
{
	int r = fails(fake, request);

	return fake->keeper_is_down ? -EPIPE : r;
}

static int keeper_open(void *user, const char *owner, char *ret_reason,
		       struct keeper_context_id *ret_context, int *ret_fd)
{
	struct fake *fake = user;
	int r = keeper_fails(fake, FAKE_KEEPER);

	if (r > 0)
		snprintf(ret_reason, KEEPER_REASON_MAX, "for a reason");
	if (r)
		return r;
	for (size_t i = 0; i < FAKE_CONTEXTS; i++) {
		struct fake_context *c = &fake->contexts[i];

		if (c->open || c->kept || c->given || c->bound)
			continue;
		c->open = c->kept = true;
		ret_context->value = i + 100;
		*ret_fd = (int)(FD_CONTEXT + i);
		return 0;
	}
	fail_msg("too many contexts");
	return 0;
}

static int keeper_delegate(void *user, struct keeper_context_id context, int pidfd, uid_t opener,
			   uint64_t bytes, char *ret_reason)
{
	struct fake *fake = user;
	int r = keeper_fails(fake, FAKE_KEEPER) ?: fake->delegate_status;
	struct fake_context *c = &fake->contexts[context.value - 100];

	if (r > 0)
		snprintf(ret_reason, KEEPER_REASON_MAX, "for a reason");
	if (r)
		return r;
	assert_true(c->kept && pidfd >= 0 && bytes);
	for (size_t k = 0; k < FAKE_OBJECTS; k++)
		assert_int_equal(c->objects[k].type, FAKE_NONE);
	c->locks = bytes;
	c->opener = opener;
	return 0;
}

static int keeper_end(void *user, const char *owner, int pidfd, char *ret_reason)
{
	struct fake *fake = user;
	int r = keeper_fails(fake, FAKE_KEEPER) ?: fake->delegate_status;

	if (r > 0)
		snprintf(ret_reason, KEEPER_REASON_MAX, "for a reason");
	if (r)
		return r;
	assert_true(owner[0] && pidfd >= 0);
	fake->n_ended++;
	return 0;
}

static bool is_claimed_for(const struct fake_device *d, struct keeper_context_id context)
{
	return d && d->claimed && d->kept && d->claimed_for == context.value;
}

static void take_back(struct fake_device *d)
{
	if (!d->claimed)
		return;
	d->kept = false;
	device_put(d);
	d->claimed = d->fds != 0;
}

static int keeper_close(void *user, struct keeper_context_id context)
{
	struct fake *fake = user;
	int r = keeper_fails(fake, FAKE_RELEASE);
	struct fake_context *c = &fake->contexts[context.value - 100];

	if (r)
		return r;
	if (!c->kept)
		return KEEPER_E_NOT_FOUND;
	for (size_t i = 0; i < fake->n_devices; i++)
		if (is_claimed_for(&fake->devices[i], context))
			take_back(&fake->devices[i]);
	c->kept = false;
	context_put(c);
	return 0;
}

static int keeper_next(void *user, struct keeper_context_id after,
		       struct keeper_context_id *ret_context)
{
	struct fake *fake = user;
	int r = keeper_fails(fake, FAKE_KEEPER);

	if (r)
		return r;
	for (size_t i = 0; i < FAKE_CONTEXTS; i++) {
		if (!fake->contexts[i].kept || i + 100 <= after.value)
			continue;
		ret_context->value = i + 100;
		return 0;
	}
	return KEEPER_E_NOT_FOUND;
}

static int keeper_take(void *user, struct keeper_context_id context, int *ret_fd)
{
	struct fake *fake = user;
	struct fake_context *c = &fake->contexts[context.value - 100];
	int r = keeper_fails(fake, FAKE_KEEPER);

	if (r)
		return r;
	if (!c->kept)
		return KEEPER_E_NOT_FOUND;
	assert_false(c->open);
	c->open = true;
	*ret_fd = (int)(FD_CONTEXT + context.value - 100);
	return 0;
}

static int keeper_claim(void *user, struct keeper_context_id context, const char *const *addresses,
			size_t n, char *ret_reason, int *ret_fds)
{
	struct fake *fake = user;
	int r = keeper_fails(fake, FAKE_KEEPER);

	if (r > 0)
		snprintf(ret_reason, KEEPER_REASON_MAX, "for a reason");
	if (r)
		return r;
	if (!fake->contexts[context.value - 100].kept) {
		snprintf(ret_reason, KEEPER_REASON_MAX, "no context %llu",
			 (unsigned long long)context.value);
		return KEEPER_E_NOT_FOUND;
	}
	for (size_t i = 0; i < n; i++) {
		struct fake_device *d = fake_device(fake, addresses[i]);

		if (!d)
			return KEEPER_E_NOT_FOUND;
		if (d->claimed) {
			snprintf(ret_reason, KEEPER_REASON_MAX, "%s: claimed", d->address);
			return KEEPER_E_BUSY;
		}
	}
	for (size_t i = 0; i < n; i++) {
		struct fake_device *d = fake_device(fake, addresses[i]);

		d->claimed = d->kept = true;
		d->claimed_for = context.value;
		d->fds = 1;
		ret_fds[i] = (int)(FD_DEVICE + (d - fake->devices));
	}
	return 0;
}

static int keeper_release(void *user, struct keeper_context_id context,
			  const char *const *addresses, size_t n)
{
	struct fake *fake = user;
	int r = keeper_fails(fake, FAKE_RELEASE);

	if (r)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct fake_device *d = fake_device(fake, addresses[i]);

		if (!is_claimed_for(d, context))
			return KEEPER_E_NOT_FOUND;
		take_back(d);
	}
	return 0;
}

static int keeper_devices(void *user, struct keeper_context_id context,
			  const char *const *addresses, size_t n, int *ret_fds)
{
	struct fake *fake = user;
	int r = keeper_fails(fake, FAKE_KEEPER);

	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		if (!is_claimed_for(fake_device(fake, addresses[i]), context))
			return KEEPER_E_NOT_FOUND;
	for (size_t i = 0; i < n; i++) {
		struct fake_device *d = fake_device(fake, addresses[i]);

		d->fds++;
		ret_fds[i] = (int)(FD_DEVICE + (d - fake->devices));
	}
	return 0;
}

static int keeper_claims(void *user, struct keeper_context_id context, const char *after,
			 char *ret_address)
{
	struct fake *fake = user;
	const char *best = NULL;
	int r = keeper_fails(fake, FAKE_KEEPER);

	if (r)
		return r;
	for (size_t i = 0; i < fake->n_devices; i++) {
		const struct fake_device *d = &fake->devices[i];

		if (is_claimed_for(d, context) && strcmp(d->address, after) > 0 &&
		    (!best || strcmp(d->address, best) < 0))
			best = d->address;
	}
	if (!best)
		return KEEPER_E_NOT_FOUND;
	snprintf(ret_address, KEEPER_ADDRESS_MAX, "%s", best);
	return 0;
}

static int keeper_is_free(void *user, const char *address)
{
	struct fake *fake = user;
	struct fake_device *d = fake_device(fake, address);
	int r = keeper_fails(fake, FAKE_KEEPER);

	if (r)
		return r;
	if (!d)
		return KEEPER_E_NOT_FOUND;
	if (d->claimed && !d->kept && !d->fds)
		d->claimed = false;
	return d->claimed ? KEEPER_E_BUSY : 0;
}

static int keeper_examine(void *user, const char *address, struct keeper_device *ret_device)
{
	struct fake *fake = user;
	struct fake_device *d = fake_device(fake, address);
	int r = keeper_fails(fake, FAKE_KEEPER);

	if (r)
		return r;
	if (!d)
		return KEEPER_E_NOT_FOUND;
	*ret_device = d->keeper;
	return 0;
}

static void sys_end(void *user)
{
	((struct fake *)user)->ended = true;
}

struct iommufd_sys fake_sys(struct fake *fake)
{
	return (struct iommufd_sys){
		.user = fake,
		.ioctl = sys_ioctl,
		.dup = sys_dup,
		.close = sys_close,
		.memory_new = sys_memory_new,
		.memory_free = sys_memory_free,
		.poll_new = sys_poll_new,
		.poll_add = sys_poll_add,
		.read = sys_read,
		.write = sys_write,
		.context_open = keeper_open,
		.context_close = keeper_close,
		.context_next = keeper_next,
		.context_take = keeper_take,
		.context_delegate = keeper_delegate,
		.holder_end = keeper_end,
		.claim = keeper_claim,
		.release = keeper_release,
		.devices_take = keeper_devices,
		.claim_next = keeper_claims,
		.is_free = keeper_is_free,
		.examine = keeper_examine,
		.end = sys_end,
	};
}

/* ---- what tests ask ---- */

int fake_tenant_attach(struct fake *fake, struct fake_device *device, uint32_t pt)
{
	return attach(fake, device, SHIM_NO_PASID, pt);
}

void fake_tenant_close(struct fake *fake, int fd)
{
	assert_true(fake->devices[fd - FD_DEVICE].tenants);
	fake->devices[fd - FD_DEVICE].tenants--;
	sys_close(fake, fd);
}

uint32_t fake_holder_maps(struct fake *fake, int context, const char *address, uint64_t iova)
{
	struct fake_context *c = &fake->contexts[context - FD_GIVEN];
	struct fake_device *d = fake_device(fake, address);
	uint32_t ioas;

	assert_true(c->given && d->tenants);
	if (!d->bound) {
		d->bound = c;
		c->bound++;
		d->id = object_new(c, FAKE_DEVICE);
	}
	assert_ptr_equal(d->bound, c);
	ioas = object_new(c, FAKE_IOAS);
	c->objects[ioas].areas[c->objects[ioas].n_areas++] = (struct fake_area){iova, 4096};
	assert_int_equal(attach(fake, d, SHIM_NO_PASID, ioas), 0);
	return ioas;
}

void fake_holder_closes(struct fake *fake, int context)
{
	struct fake_context *c = &fake->contexts[context - FD_GIVEN];

	assert_true(c->given);
	c->given = false;
	context_put(c);
}

void fake_broker_is_gone(struct fake *fake)
{
	fake->polls = 0;
	for (size_t i = 0; i < fake->n_devices; i++) {
		fake->devices[i].fds = fake->devices[i].tenants;
		device_put(&fake->devices[i]);
	}
	for (size_t i = 0; i < FAKE_CONTEXTS; i++) {
		queue_close(&fake->contexts[i]);
		for (size_t k = 0; k < FAKE_OBJECTS; k++)
			fake->contexts[i].objects[k].fd_open = false;
		fake->contexts[i].open = false;
		context_put(&fake->contexts[i]);
	}
}

bool fake_reaches(const struct fake *fake, const char *address, uint64_t iova)
{
	struct fake_device *d = fake_device((struct fake *)fake, address);
	const struct fake_object *ioas;

	if (!d->bound || !d->attached)
		return false;
	ioas = ioas_of(d->bound, d->attached);
	for (size_t i = 0; ioas && i < ioas->n_areas; i++)
		if (iova - ioas->areas[i].iova < ioas->areas[i].length)
			return true;
	return false;
}

struct fake_object *fake_hwpt(struct fake *fake, const char *address, uint32_t pasid)
{
	struct fake_device *d = fake_device(fake, address);
	uint32_t id = 0;

	if (!d->bound)
		return NULL;
	if (pasid == SHIM_NO_PASID)
		id = d->automatic ? d->automatic : d->attached;
	for (size_t i = 0; pasid != SHIM_NO_PASID && i < FAKE_PASIDS; i++)
		if (d->pts[i] && d->pasids[i] == pasid)
			id = d->pts[i];
	return object_of(d->bound, id, FAKE_HWPT);
}

void fake_write(struct fake *fake, const char *address, uint32_t pasid, uint64_t iova)
{
	struct fake_object *o = fake_hwpt(fake, address, pasid);

	assert_non_null(o);
	if (o->parent)
		o = &fake_device(fake, address)->bound->objects[o->parent];
	if (!o->tracked)
		return;
	assert_true(o->n_dirty < 8);
	o->dirty[o->n_dirty++] = iova & ~UINT64_C(4095);
}

void fake_request_page(struct fake *fake, const char *address, uint32_t pasid, uint32_t group,
		       uint64_t iova, bool last)
{
	struct fake_device *d = fake_device(fake, address);
	struct fake_object *o = fake_hwpt(fake, address, pasid);

	assert_non_null(o);
	assert_true(o->queue && d->bound->n_requests < FAKE_REQUESTS);
	d->bound->requests[d->bound->n_requests++] = (struct fake_request){
		.fault = {.flags = (last ? IOMMU_PGFAULT_FLAGS_LAST_PAGE : 0) |
				   (pasid == SHIM_NO_PASID ? 0 : IOMMU_PGFAULT_FLAGS_PASID_VALID),
			  .dev_id = d->id,
			  .pasid = pasid == SHIM_NO_PASID ? 0 : pasid,
			  .grpid = group,
			  .perm = IOMMU_PGFAULT_PERM_WRITE,
			  .addr = iova,
			  /* Groups of the tests have numbers of their own: 0 is the first. */
			  .cookie = group},
		.hwpt = (uint32_t)(o - d->bound->objects),
	};
}

size_t fake_areas(const struct fake *fake)
{
	size_t n = 0;

	for (size_t i = 0; i < FAKE_CONTEXTS; i++)
		for (size_t k = 0; k < FAKE_OBJECTS; k++)
			n += fake->contexts[i].objects[k].n_areas;
	return n;
}

void fake_expect_empty(const struct fake *fake)
{
	assert_int_equal(fake->polls, 0);
	assert_int_equal(fake->memories, 0);
	for (size_t i = 0; i < fake->n_devices; i++) {
		const struct fake_device *d = &fake->devices[i];

		assert_false(d->claimed);
		assert_false(d->kept);
		assert_int_equal(d->fds, 0);
		assert_null(d->bound);
		assert_int_equal(d->attached, 0);
	}
	for (size_t i = 0; i < FAKE_CONTEXTS; i++) {
		const struct fake_context *c = &fake->contexts[i];

		assert_false(c->open || c->kept || c->given);
		assert_int_equal(c->bound, 0);
		for (size_t k = 0; k < FAKE_OBJECTS; k++)
			assert_int_equal(c->objects[k].type, FAKE_NONE);
	}
}

/* ---- sysfs ---- */

void fake_tree_new(struct fake_tree *tree)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(tree->root, sizeof(tree->root), "%s/iommufd.XXXXXX",
		 tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	assert_non_null(mkdtemp(tree->root));
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

void fake_tree_free(struct fake_tree *tree)
{
	assert_int_equal(nftw(tree->root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Makes the folders above a path below the root. */
static void make_way(struct fake_tree *tree, const char *path, char *ret_whole, size_t size)
{
	assert_true(snprintf(ret_whole, size, "%s/%s", tree->root, path) < (int)size);
	for (char *p = ret_whole + strlen(tree->root) + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		assert_true(!mkdir(ret_whole, 0755) || errno == EEXIST);
		*p = '/';
	}
}

void fake_tree_file(struct fake_tree *tree, const char *path, const char *text)
{
	char whole[512];
	FILE *f;

	make_way(tree, path, whole, sizeof(whole));
	f = fopen(whole, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

void fake_tree_link(struct fake_tree *tree, const char *path, const char *target)
{
	char whole[512];

	make_way(tree, path, whole, sizeof(whole));
	assert_int_equal(symlink(target, whole), 0);
}

void fake_tree_device(struct fake_tree *tree, const char *address, const char *class_code,
		      const char *group, const char *iommu, const char *driver)
{
	const struct {
		const char *name, *text;
	} files[] = {{"class", class_code},
		     {"vendor", "0x1234\n"},
		     {"device", "0x11e8\n"},
		     {"numa_node", "-1\n"}};
	char path[256], target[256];

	for (size_t i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "bus/pci/devices/%s/%s", address, files[i].name);
		fake_tree_file(tree, path, files[i].text);
	}
	snprintf(path, sizeof(path), "bus/pci/devices/%s/iommu_group", address);
	snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%s", group);
	if (group) {
		fake_tree_link(tree, path, target);
		snprintf(path, sizeof(path), "kernel/iommu_groups/%s/reserved_regions", group);
		fake_tree_file(tree, path, "0x00000000fee00000 0x00000000feefffff msi\n");
	}
	snprintf(path, sizeof(path), "bus/pci/devices/%s/iommu", address);
	snprintf(target, sizeof(target), "../../virtual/iommu/%s", iommu);
	if (iommu)
		fake_tree_link(tree, path, target);
	snprintf(path, sizeof(path), "bus/pci/devices/%s/driver", address);
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	if (driver)
		fake_tree_link(tree, path, target);
}

void fake_tree_vtd(struct fake_tree *tree, const char *iommu, const char *cap, const char *ecap)
{
	char path[256];

	snprintf(path, sizeof(path), "class/iommu/%s/intel-iommu/cap", iommu);
	fake_tree_file(tree, path, cap);
	snprintf(path, sizeof(path), "class/iommu/%s/intel-iommu/ecap", iommu);
	fake_tree_file(tree, path, ecap);
}

void fake_tree_arm(struct fake_tree *tree)
{
	static const char *const reserved[] = {"kernel/iommu_groups/3/reserved_regions",
					       "kernel/iommu_groups/4/reserved_regions"};
	static const char smmu[] = "smmu3.0x0000000009050000";

	fake_tree_new(tree);
	fake_tree_device(tree, "0000:00:03.0", "0x00ff00\n", "3", smmu, NULL);
	fake_tree_device(tree, "0001:02:04.1", "0x00ff00\n", "4", smmu, "vfio-pci");
	for (size_t i = 0; i < 2; i++)
		fake_tree_file(tree, reserved[i], "0x0000000008000000 0x00000000080fffff msi\n");
	fake_tree_file(tree, "class/iommu/smmu3.0x0000000009050000/devices/nothing", "\n");
}

void fake_tree_standard(struct fake_tree *tree)
{
	fake_tree_new(tree);
	fake_tree_vtd(tree, "dmar0", "d2008c22260286\n", "f00f4a\n");
	fake_tree_vtd(tree, "dmar1", "19ed008c40780c66\n", "3ef9ea6f050df\n");
	fake_tree_device(tree, "0000:00:00.0", "0x060000\n", "0", "dmar0", NULL);
	fake_tree_device(tree, "0000:00:03.0", "0x00ff00\n", "3", "dmar0", NULL);
	fake_tree_device(tree, "0000:00:04.0", "0x060400\n", "4", "dmar0", "pcieport");
	fake_tree_device(tree, "0000:01:00.0", "0x00ff00\n", "4", "dmar0", "vfio-pci");
	fake_tree_device(tree, "0000:02:00.0", "0x060400\n", "5", "dmar0", NULL);
	fake_tree_device(tree, "0000:03:01.0", "0x00ff00\n", "5", "dmar0", NULL);
	fake_tree_device(tree, "0000:03:02.0", "0x00ff00\n", "5", "dmar0", NULL);
	fake_tree_device(tree, "0000:81:00.0", "0x010802\n", "9", "dmar1", "nvme");
}
