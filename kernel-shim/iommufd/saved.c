/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is kept of objects for a restart (struct shim_saved): a letter for the kind of object,
 * then numbers, little-endian.  A later release reads what an earlier one wrote: a kind that
 * needs more gets another letter.
 *
 * A device's address, a table's mappings and a PASID the caller has anyway.
 */

#include "iommufd/internal.h"

#include <endian.h>
#include <errno.h>

struct saved_context {
	uint8_t kind; /* 'c'; 'g': delegated */
	uint64_t id;
} __attribute__((packed));

struct saved_device {
	uint8_t kind; /* 'd'; 'g': of a delegated context, id 0 */
	uint32_t id;
} __attribute__((packed));

/* With objects of its back end. */
struct saved_device_more {
	uint8_t kind; /* 'D' */
	uint32_t id;
	uint32_t own[IOMMUFD_BACKEND_OBJECTS];
} __attribute__((packed));

enum table_flags {
	TABLE_SNOOP = 1u << 0,
	TABLE_BROKEN = 1u << 1,
	TABLE_USER = 1u << 2,
	TABLE_BOUND = 1u << 3,
	TABLE_FAULTS = 1u << 4,
	TABLE_DIRTY = 1u << 5,
	TABLE_TRACKED = 1u << 6,
	/* Some mapping is dirty whatever the kernel says: after a restart, all that was mapped. */
	TABLE_UNKNOWN = 1u << 7,
};
#define TABLE_MORE (TABLE_USER | TABLE_BOUND | TABLE_FAULTS | TABLE_DIRTY | TABLE_TRACKED)

struct saved_table {
	uint8_t kind; /* 't' */
	uint32_t ioas;
	uint8_t format;
	uint8_t input_bits;
	uint8_t flags;
} __attribute__((packed));

/* With any of TABLE_MORE. */
struct saved_table_more {
	uint8_t kind; /* 'T' */
	struct saved_table table;
	uint64_t root;
	uint8_t root_flags;
	uint32_t epoch;
} __attribute__((packed));

/* Behind an SMMUv3. */
struct saved_smmuv3_table {
	uint8_t kind; /* 'u' */
	uint8_t format;
	uint8_t input_bits;
	uint8_t bound; /* 0: nothing, 1: a table, 2: a PASID table */
	uint8_t pasid_bits;
	uint8_t shape;
	uint64_t root;
} __attribute__((packed));

struct saved_attachment {
	uint8_t kind;  /* 'a' */
	uint32_t hwpt; /* 0: attached to the IOAS */
} __attribute__((packed));

/* To a table of the second epoch or later, or a nested one. */
struct saved_attachment_more {
	uint8_t kind; /* 'A' */
	uint32_t hwpt;
	uint32_t parent;
	uint32_t epoch;
} __attribute__((packed));

/* Ids are the lowest that are free; strays.c goes through all below the highest. */
#define ID_MAX (1u << 24)

_Static_assert(sizeof(struct saved_table_more) <= SHIM_SAVED_MAX, "the largest");

static void put(const void *bytes, size_t n, struct shim_saved *ret_saved)
{
	*ret_saved = (struct shim_saved){.n = (uint8_t)n};
	memcpy(ret_saved->bytes, bytes, n);
}

/* The first byte is the kind. */
static int get(const struct shim_saved *saved, uint8_t kind, void *ret_bytes, size_t n)
{
	if (saved->n != n || saved->bytes[0] != kind)
		return -EINVAL;
	memcpy(ret_bytes, saved->bytes, n);
	return 0;
}

void iommufd_save_context(const struct iommufd_ctx *ctx, struct shim_saved *ret_saved)
{
	struct saved_context s = {
		.kind = ctx->delegated ? 'g' : 'c',
		.id = htole64(ctx->id.value),
	};

	put(&s, sizeof(s), ret_saved);
}

static bool has_own(const struct iommufd_dev *dev)
{
	for (size_t i = 0; i < IOMMUFD_BACKEND_OBJECTS; i++)
		if (dev->own[i])
			return true;
	return false;
}

void iommufd_save_device(const struct iommufd_dev *dev, struct shim_saved *ret_saved)
{
	struct saved_device_more more = {.kind = 'D', .id = htole32(dev->id)};
	struct saved_device s = {.kind = dev->ctx->delegated ? 'g' : 'd', .id = htole32(dev->id)};

	if (!has_own(dev)) {
		put(&s, sizeof(s), ret_saved);
		return;
	}
	for (size_t i = 0; i < IOMMUFD_BACKEND_OBJECTS; i++)
		more.own[i] = htole32(dev->own[i]);
	put(&more, sizeof(more), ret_saved);
}

static uint8_t flags_of(const struct iommufd_pt *pt)
{
	return (uint8_t)((pt->snoop ? TABLE_SNOOP : 0) | (pt->broken ? TABLE_BROKEN : 0) |
			 (pt->user ? TABLE_USER : 0) | (pt->bound ? TABLE_BOUND : 0) |
			 (pt->faults ? TABLE_FAULTS : 0) | (pt->dirty ? TABLE_DIRTY : 0) |
			 (iommufd_dirty_is_tracked(pt) ? TABLE_TRACKED : 0) |
			 (iommufd_dirty_is_unknown(pt) ? TABLE_UNKNOWN : 0));
}

void iommufd_save_table(const struct iommufd_pt *pt, struct shim_saved *ret_saved)
{
	struct saved_table s = {
		.kind = 't',
		.ioas = htole32(pt->ioas),
		.format = pt->format,
		.input_bits = pt->input_bits,
		.flags = flags_of(pt),
	};
	struct saved_table_more more = {
		.kind = 'T',
		.table = s,
		.root = htole64(pt->table.root),
		.root_flags = (uint8_t)pt->table.flags,
		.epoch = htole32(pt->epoch),
	};

	if (s.flags & TABLE_MORE)
		put(&more, sizeof(more), ret_saved);
	else
		put(&s, sizeof(s), ret_saved);
}

void iommufd_save_smmuv3_table(const struct iommufd_pt *pt, struct shim_saved *ret_saved)
{
	struct saved_smmuv3_table s = {
		.kind = 'u',
		.format = pt->format,
		.input_bits = pt->input_bits,
		.bound = (uint8_t)pt->binding.what,
		.pasid_bits = pt->binding.pasid_bits,
		.shape = pt->binding.shape,
		.root = htole64(pt->binding.root),
	};

	put(&s, sizeof(s), ret_saved);
}

void iommufd_save_attachment(const struct iommufd_hwpt *hwpt, struct shim_saved *ret_saved)
{
	struct saved_attachment s = {.kind = 'a', .hwpt = htole32(hwpt ? hwpt->id : 0)};
	struct saved_attachment_more more = {.kind = 'A'};

	if (!hwpt || (!hwpt->parent && !hwpt->epoch)) {
		put(&s, sizeof(s), ret_saved);
		return;
	}
	more.hwpt = htole32(hwpt->id);
	more.parent = htole32(hwpt->parent ? hwpt->parent->id : 0);
	more.epoch = htole32(hwpt->epoch);
	put(&more, sizeof(more), ret_saved);
}

static bool is_kind(const struct shim_saved *saved, uint8_t kind)
{
	return saved->n && saved->bytes[0] == kind;
}

static bool id_valid(uint32_t id)
{
	return id && id <= ID_MAX;
}

int iommufd_load_context(const struct shim_saved *saved, struct keeper_context_id *ret_id,
			 bool *ret_delegated)
{
	bool delegated = is_kind(saved, 'g');
	struct saved_context s;
	int r = get(saved, delegated ? 'g' : 'c', &s, sizeof(s));

	if (r)
		return r;
	ret_id->value = le64toh(s.id);
	*ret_delegated = delegated;
	return 0;
}

int iommufd_load_device(const struct shim_saved *saved, struct iommufd_dev *ret_dev)
{
	struct saved_device_more more = {0};
	struct saved_device s;
	int r;

	if (ret_dev->ctx->delegated) {
		r = get(saved, 'g', &s, sizeof(s));
		return !r && s.id ? -EINVAL : r;
	}
	if (is_kind(saved, 'D')) {
		r = get(saved, 'D', &more, sizeof(more));
	} else {
		r = get(saved, 'd', &s, sizeof(s));
		more.id = s.id;
	}
	if (r)
		return r;
	if (!id_valid(le32toh(more.id)))
		return -EINVAL;
	for (size_t i = 0; i < IOMMUFD_BACKEND_OBJECTS; i++)
		if (le32toh(more.own[i]) > ID_MAX)
			return -EINVAL;
	ret_dev->id = le32toh(more.id);
	for (size_t i = 0; i < IOMMUFD_BACKEND_OBJECTS; i++)
		ret_dev->own[i] = le32toh(more.own[i]);
	return 0;
}

static bool table_valid(const struct saved_table *s)
{
	return id_valid(le32toh(s->ioas)) && s->input_bits > 12 && s->input_bits < 64 &&
	       s->format < _SHIM_FORMAT_MAX &&
	       !(s->flags & TABLE_BOUND && !(s->flags & TABLE_USER)) &&
	       !(s->flags & TABLE_TRACKED && !(s->flags & TABLE_DIRTY)) &&
	       !(s->flags & TABLE_UNKNOWN && !(s->flags & TABLE_TRACKED));
}

int iommufd_load_table(const struct shim_saved *saved, struct iommufd_pt *ret_pt, bool *ret_dirty,
		       bool *ret_tracked, bool *ret_unknown)
{
	struct saved_table_more more = {0};
	struct saved_table *s = &more.table;
	int r;

	if (is_kind(saved, 'T'))
		r = get(saved, 'T', &more, sizeof(more));
	else
		r = get(saved, 't', s, sizeof(*s));
	if (r)
		return r;
	if (!table_valid(s) || (more.kind != 'T' && s->flags & TABLE_MORE))
		return -EINVAL;
	ret_pt->ioas = le32toh(s->ioas);
	ret_pt->format = s->format;
	ret_pt->input_bits = s->input_bits;
	ret_pt->snoop = s->flags & TABLE_SNOOP;
	ret_pt->broken = s->flags & TABLE_BROKEN;
	ret_pt->user = s->flags & TABLE_USER;
	ret_pt->bound = s->flags & TABLE_BOUND;
	ret_pt->faults = s->flags & TABLE_FAULTS;
	ret_pt->table = (struct shim_table){le64toh(more.root), more.root_flags};
	ret_pt->epoch = le32toh(more.epoch);
	*ret_dirty = s->flags & TABLE_DIRTY;
	*ret_tracked = s->flags & TABLE_TRACKED;
	*ret_unknown = s->flags & TABLE_UNKNOWN;
	return 0;
}

int iommufd_load_smmuv3_table(const struct shim_saved *saved, struct iommufd_pt *ret_pt)
{
	struct saved_smmuv3_table s;
	int r = get(saved, 'u', &s, sizeof(s));

	if (r)
		return r;
	if (s.input_bits < SMMUV3_TABLE_BITS_LEAST || s.input_bits >= 64 ||
	    s.bound > SMMUV3_PASID_TABLE)
		return -EINVAL;
	ret_pt->smmuv3 = true;
	ret_pt->format = s.format;
	ret_pt->input_bits = s.input_bits;
	ret_pt->binding.what = s.bound;
	ret_pt->binding.pasid_bits = s.pasid_bits;
	ret_pt->binding.shape = s.shape;
	ret_pt->binding.root = le64toh(s.root);
	ret_pt->binding.slot = -1;
	return 0;
}

int iommufd_load_attachment(const struct shim_saved *saved, struct iommufd_saved_hwpt *ret_hwpt)
{
	struct saved_attachment_more more = {0};
	struct saved_attachment s = {0};
	int r;

	/* It may not have come about. */
	if (!saved->n) {
		*ret_hwpt = (struct iommufd_saved_hwpt){0};
		return 0;
	}
	if (is_kind(saved, 'A')) {
		r = get(saved, 'A', &more, sizeof(more));
	} else {
		r = get(saved, 'a', &s, sizeof(s));
		more.hwpt = s.hwpt;
	}
	if (r)
		return r;
	if (le32toh(more.hwpt) > ID_MAX || le32toh(more.parent) > ID_MAX)
		return -EINVAL;
	*ret_hwpt = (struct iommufd_saved_hwpt){
		.id = le32toh(more.hwpt),
		.parent = le32toh(more.parent),
		.epoch = le32toh(more.epoch),
	};
	return 0;
}
