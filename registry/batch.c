/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fields of Batch are walked here, and each record is unpacked by protobuf-c into the arena
 * of the image: a log has a million batches of one record, and a struct Batch for each would be
 * most of the work.  What a body can make grow is limited: AMPLIFICATION bytes of arena a byte.
 *
 * A field of an unknown number is skipped: written by a newer release that this one can still
 * read.  A known field in a form that it cannot have is damage.
 */

#include "batch.h"

#include <errno.h>
#include <stdlib.h>

/* An empty record in two bytes becomes at most some 100 bytes; records that mean something far
 * less a byte. */
#define AMPLIFICATION	   64
#define AMPLIFICATION_FREE ((size_t)64 << 10)

static const struct field {
	const ProtobufCMessageDescriptor *descriptor;
	bool in_lease, in_zero;
} fields[_BATCH_FIELD_MAX] = {
	[BATCH_DROP] = {&ioasid__registry__drop__descriptor, true, true},
	[BATCH_LEASE] = {&ioasid__registry__lease__descriptor, true},
	[BATCH_MEMORY] = {&ioasid__registry__memory__descriptor, true},
	[BATCH_IOASID] = {&ioasid__registry__ioasid__descriptor, true},
	[BATCH_MAPPING] = {&ioasid__registry__mapping__descriptor, true},
	[BATCH_ATTACHMENT] = {&ioasid__registry__attachment__descriptor, true},
	[BATCH_DEVICE] = {&ioasid__registry__device__descriptor, true},
	[BATCH_KEY] = {&ioasid__registry__key__descriptor, true, true},
	[BATCH_INTENT] = {&ioasid__registry__intent__descriptor, true},
	[BATCH_TENANT] = {&ioasid__registry__tenant__descriptor, false, true},
	[BATCH_HELD] = {&ioasid__registry__held__descriptor, false, true},
	[BATCH_BROKER] = {&ioasid__registry__broker__descriptor, false, true},
	[BATCH_PROGRESS] = {&ioasid__registry__progress__descriptor, true},
	[BATCH_VM] = {&ioasid__registry__vm__descriptor, true},
	[BATCH_SLOT] = {&ioasid__registry__slot__descriptor, true},
};

static bool read_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
		uint8_t byte = *(*p)++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

/* The payload of a field of this wire type; ret_size: of its bytes. */
static bool skip_payload(unsigned wire_type, const uint8_t **p, const uint8_t *end,
			 uint64_t *ret_size)
{
	uint64_t value;

	switch (wire_type) {
	case 0:
		*ret_size = 0;
		return read_varint(p, end, &value);
	case 1:
		*ret_size = 8;
		break;
	case 2:
		if (!read_varint(p, end, ret_size))
			return false;
		break;
	case 5:
		*ret_size = 4;
		break;
	default:
		return false;
	}
	return *ret_size <= (uint64_t)(end - *p);
}

/* Exactly one thing is dropped, and one that a batch of this lease may name. */
static bool drop_is_sound(const Ioasid__Registry__Drop *drop, bool in_lease)
{
	const unsigned n_lease = drop->lease + !!drop->memory + !!drop->ioasid + !!drop->mapping +
				 !!drop->attachment + !!*drop->device + drop->intent + !!drop->vm +
				 !!drop->slot;
	const unsigned n_zero = !!*drop->tenant + !!*drop->held;
	const unsigned n_key = !!*drop->key;

	return (in_lease ? n_lease : n_zero) + n_key == 1 && !(in_lease ? n_zero : n_lease);
}

static int append(struct batch_records *records, enum batch_field field, const void *message)
{
	if (records->n == records->room) {
		size_t room = records->room ? records->room * 2 : 64;
		void *p = reallocarray(records->items, room, sizeof(*records->items));

		if (!p)
			return -ENOMEM;
		records->items = p;
		records->room = room;
	}
	records->items[records->n++] = (struct batch_record){field, message};
	return 0;
}

static int unpack_fields(struct record_arena *arena, uint64_t lease, const uint8_t *p,
			 const uint8_t *end, struct batch_records *records)
{
	ProtobufCAllocator allocator = record_arena_allocator(arena);

	while (p < end) {
		uint64_t tag, size;
		const struct field *field;
		const void *message;
		int r;

		if (!read_varint(&p, end, &tag) || !(tag >> 3) || tag > UINT32_MAX ||
		    !skip_payload(tag & 7, &p, end, &size))
			return 1;
		if (tag >> 3 < _BATCH_FIELD_MAX) {
			field = &fields[tag >> 3];
			if ((tag & 7) != 2 || !(lease ? field->in_lease : field->in_zero))
				return 1;
			message = protobuf_c_message_unpack(field->descriptor, &allocator,
							    (size_t)size, p);
			if (!message || (tag >> 3 == BATCH_DROP && !drop_is_sound(message, lease)))
				return 1;
			r = append(records, tag >> 3, message);
			if (r)
				return r;
		}
		p += size;
	}
	return 0;
}

int batch_unpack(struct record_arena *arena, uint64_t lease, const uint8_t *body, size_t size,
		 struct batch_records *ret_records)
{
	int r;

	ret_records->n = 0;
	arena->limit = arena->used + AMPLIFICATION_FREE + AMPLIFICATION * size;
	arena->out_of_memory = false;
	r = unpack_fields(arena, lease, body, body + size, ret_records);
	arena->limit = 0;
	/* protobuf-c does not tell bad bytes from no memory. */
	return r > 0 && arena->out_of_memory ? -ENOMEM : r;
}

void batch_records_deinit(struct batch_records *records)
{
	free(records->items);
	*records = (struct batch_records){0};
}

size_t batch_n_puts(const Ioasid__Registry__Batch *batch)
{
	return !!batch->lease + batch->n_memories + batch->n_ioasids + batch->n_mappings +
	       batch->n_attachments + batch->n_devices + batch->n_keys + !!batch->intent +
	       batch->n_tenants + batch->n_held + !!batch->broker + !!batch->progress +
	       batch->n_vms + batch->n_slots;
}
