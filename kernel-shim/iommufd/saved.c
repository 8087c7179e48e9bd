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
	uint8_t kind; /* 'c' */
	uint64_t id;
} __attribute__((packed));

struct saved_device {
	uint8_t kind; /* 'd' */
	uint32_t id;
} __attribute__((packed));

enum table_flags {
	TABLE_SNOOP = 1u << 0,
	TABLE_BROKEN = 1u << 1,
};

struct saved_table {
	uint8_t kind; /* 't' */
	uint32_t ioas;
	uint8_t format;
	uint8_t input_bits;
	uint8_t flags;
} __attribute__((packed));

struct saved_user_table {
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

/* Ids are the lowest that are free; strays.c goes through all below the highest. */
#define ID_MAX (1u << 24)

_Static_assert(sizeof(struct saved_context) <= SHIM_SAVED_MAX, "the largest");

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

void iommufd_save_context(struct keeper_context_id id, struct shim_saved *ret_saved)
{
	struct saved_context s = {.kind = 'c', .id = htole64(id.value)};

	put(&s, sizeof(s), ret_saved);
}

void iommufd_save_device(uint32_t id, struct shim_saved *ret_saved)
{
	struct saved_device s = {.kind = 'd', .id = htole32(id)};

	put(&s, sizeof(s), ret_saved);
}

void iommufd_save_table(const struct iommufd_pt *pt, struct shim_saved *ret_saved)
{
	struct saved_table s = {
		.kind = 't',
		.ioas = htole32(pt->ioas),
		.format = pt->format,
		.input_bits = pt->input_bits,
		.flags = (uint8_t)((pt->snoop ? TABLE_SNOOP : 0) | (pt->broken ? TABLE_BROKEN : 0)),
	};

	put(&s, sizeof(s), ret_saved);
}

void iommufd_save_user_table(const struct iommufd_pt *pt, struct shim_saved *ret_saved)
{
	struct saved_user_table s = {
		.kind = 'u',
		.format = pt->format,
		.input_bits = pt->input_bits,
		.bound = (uint8_t)pt->bound.what,
		.pasid_bits = pt->bound.pasid_bits,
		.shape = pt->bound.shape,
		.root = htole64(pt->bound.root),
	};

	put(&s, sizeof(s), ret_saved);
}

void iommufd_save_attachment(uint32_t hwpt, struct shim_saved *ret_saved)
{
	struct saved_attachment s = {.kind = 'a', .hwpt = htole32(hwpt)};

	put(&s, sizeof(s), ret_saved);
}

int iommufd_load_context(const struct shim_saved *saved, struct keeper_context_id *ret_id)
{
	struct saved_context s;
	int r = get(saved, 'c', &s, sizeof(s));

	if (!r)
		ret_id->value = le64toh(s.id);
	return r;
}

int iommufd_load_device(const struct shim_saved *saved, uint32_t *ret_id)
{
	struct saved_device s;
	int r = get(saved, 'd', &s, sizeof(s));

	if (r)
		return r;
	if (!le32toh(s.id) || le32toh(s.id) > ID_MAX)
		return -EINVAL;
	*ret_id = le32toh(s.id);
	return 0;
}

int iommufd_load_table(const struct shim_saved *saved, struct iommufd_pt *ret_pt)
{
	struct saved_table s;
	int r = get(saved, 't', &s, sizeof(s));

	if (r)
		return r;
	if (!le32toh(s.ioas) || le32toh(s.ioas) > ID_MAX || s.input_bits <= 12 ||
	    s.input_bits >= 64 || s.format >= _SHIM_FORMAT_MAX)
		return -EINVAL;
	ret_pt->ioas = le32toh(s.ioas);
	ret_pt->format = s.format;
	ret_pt->input_bits = s.input_bits;
	ret_pt->snoop = s.flags & TABLE_SNOOP;
	ret_pt->broken = s.flags & TABLE_BROKEN;
	return 0;
}

int iommufd_load_user_table(const struct shim_saved *saved, struct iommufd_pt *ret_pt)
{
	struct saved_user_table s;
	int r = get(saved, 'u', &s, sizeof(s));

	if (r)
		return r;
	if (s.input_bits < 25 || s.input_bits >= 64 || s.bound > SMMUV3_PASID_TABLE)
		return -EINVAL;
	ret_pt->format = s.format;
	ret_pt->input_bits = s.input_bits;
	ret_pt->bound.what = s.bound;
	ret_pt->bound.pasid_bits = s.pasid_bits;
	ret_pt->bound.shape = s.shape;
	ret_pt->bound.root = le64toh(s.root);
	ret_pt->bound.slot = -1;
	return 0;
}

int iommufd_load_attachment(const struct shim_saved *saved, uint32_t *ret_hwpt)
{
	struct saved_attachment s;
	int r;

	/* It may not have come about. */
	if (!saved->n) {
		*ret_hwpt = 0;
		return 0;
	}
	r = get(saved, 'a', &s, sizeof(s));
	if (r)
		return r;
	if (le32toh(s.hwpt) > ID_MAX)
		return -EINVAL;
	*ret_hwpt = le32toh(s.hwpt);
	return 0;
}
