/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a log.  What is refused says why.  What is read keeps the promises of registry.h,
 * and a lease without damage those of docs/design/registry.md, looked at here in another way than
 * check.c does.
 *
 * No fuzzer finds a CRC.  So bytes that do not begin as a log are made into one: groups of
 * { u8 what, u8 lease, u16 size, body } become frames, sound ones or with one thing wrong.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/log_format.h"
#include "registry/registry.h"
#include "tests/fuzz/policy/fuzz_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LOG_MAX (256u << 10)

enum what {
	SOUND,
	NO_LENGTH,
	BAD_HEADER,
	BAD_BODY,
	LONG,
	_WHAT_MAX,
};

static uint64_t log_words[LOG_MAX / 8];

static size_t forge(const uint8_t *data, size_t size)
{
	uint8_t *log = (uint8_t *)log_words;
	struct log_header header = {.schema = REGISTRY_SCHEMA, .salt = 1, .generation = 1};
	size_t used = LOG_HEADER_SIZE;

	memset(log_words, 0, sizeof(log_words));
	memcpy(header.magic, LOG_MAGIC, sizeof(header.magic));
	header.crc = log_header_crc(&header);
	memcpy(log, &header, sizeof(header));
	while (size >= 4) {
		const enum what what = data[0] % 16 < _WHAT_MAX ? data[0] % 16 : SOUND;
		struct log_frame frame = {.lease = data[1] % 8};
		size_t body = data[2] | (size_t)(data[3] & 15) << 8;

		data += 4;
		size -= 4;
		if (body > size)
			body = size;
		if (used + sizeof(frame) + body + 64 > sizeof(log_words))
			break;
		frame.length = (uint32_t)(sizeof(frame) + body) + (what == LONG ? LOG_MAX : 0);
		frame.body_crc = crc32c(0, data, body) + (what == BAD_BODY);
		frame.crc = log_frame_crc(header.salt, used, frame.length, frame.body_crc,
					  frame.lease, 0) +
			    (what == BAD_HEADER);
		if (what == NO_LENGTH)
			frame.length = 0;
		memcpy(log + used, &frame, sizeof(frame));
		memcpy(log + used + sizeof(frame), data, body);
		used += log_frame_span(sizeof(frame) + body);
		data += body;
		size -= body;
	}
	return used + 64;
}

static const Ioasid__Registry__Ioasid *ioasid_of(const struct registry_lease *l, uint64_t id)
{
	for (size_t i = 0; i < l->n_ioasids; i++)
		if (l->ioasids[i]->id == id)
			return l->ioasids[i];
	return NULL;
}

static const Ioasid__Registry__Memory *memory_of(const struct registry_lease *l, uint64_t id)
{
	for (size_t i = 0; i < l->n_memories; i++)
		if (l->memories[i]->id == id)
			return l->memories[i];
	return NULL;
}

static void check_mappings(const struct registry_lease *l)
{
	for (size_t i = 0; i < l->n_mappings; i++) {
		const Ioasid__Registry__Mapping *m = l->mappings[i];
		const Ioasid__Registry__Memory *memory = memory_of(l, m->memory);

		CHECK(m->length && m->prot && m->length - 1 <= UINT64_MAX - m->iova);
		CHECK(ioasid_of(l, m->ioasid));
		if (m->memory)
			CHECK(memory && m->offset <= memory->length &&
			      m->length <= memory->length - m->offset);
		else
			CHECK(ioasid_of(l, m->ioasid)->parent);
		if (i && l->mappings[i - 1]->ioasid == m->ioasid)
			CHECK(m->iova - l->mappings[i - 1]->iova >= l->mappings[i - 1]->length);
		else if (i)
			CHECK(l->mappings[i - 1]->ioasid < m->ioasid);
	}
}

static void check_sound(const struct registry_lease *l)
{
	CHECK(l->lease && *l->lease->tenant);
	CHECK(l->next_id >= l->lease->next_id);
	for (size_t i = 0; i < l->n_memories; i++) {
		CHECK(l->memories[i]->id && l->memories[i]->id < l->next_id);
		CHECK(!i || l->memories[i - 1]->id < l->memories[i]->id);
		CHECK(!ioasid_of(l, l->memories[i]->id));
	}
	for (size_t i = 0; i < l->n_ioasids; i++) {
		CHECK(l->ioasids[i]->id && l->ioasids[i]->id < l->next_id);
		CHECK(!i || l->ioasids[i - 1]->id < l->ioasids[i]->id);
		CHECK(l->ioasids[i]->kind >= 1 && l->ioasids[i]->kind <= 4);
		CHECK(!l->ioasids[i]->parent || ioasid_of(l, l->ioasids[i]->parent));
	}
	check_mappings(l);
	for (size_t i = 0; i < l->n_attachments; i++)
		CHECK(ioasid_of(l, l->attachments[i]->ioasid));
	for (size_t i = 1; i < l->n_keys; i++)
		CHECK(l->keys[i - 1]->order <= l->keys[i]->order);
}

static void check_devices(const struct registry_image *image)
{
	for (size_t i = 0; i < image->n_leases; i++)
		for (size_t k = i + 1; k < image->n_leases; k++) {
			const struct registry_lease *a = &image->leases[i], *b = &image->leases[k];

			if (*a->damage || *b->damage)
				continue;
			for (size_t m = 0; m < a->n_devices; m++)
				for (size_t n = 0; n < b->n_devices; n++)
					CHECK(strcmp(a->devices[m]->address,
						     b->devices[n]->address));
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct registry_problem problem = {.message = ""};
	struct registry_image *image = NULL;
	int r;

	if (size > LOG_MAX)
		return 0;
	if (size >= 8 && !memcmp(data, LOG_MAGIC, 8))
		memcpy(log_words, data, size);
	else
		size = forge(data, size);
	r = registry_load_bytes(log_words, size, &image, &problem);
	if (r) {
		CHECK(!image && *problem.message);
		CHECK(r == REGISTRY_E_NEWER || r == REGISTRY_E_DAMAGED);
		return 0;
	}
	CHECK(image->bytes <= size + 8);
	CHECK(!image->lost || *image->damage);
	for (size_t i = 0; i < image->n_leases; i++) {
		CHECK(image->leases[i].serial && image->leases[i].serial <= image->last_serial);
		CHECK(!i || image->leases[i - 1].serial < image->leases[i].serial);
		CHECK(!image->lost || *image->leases[i].damage);
		if (!*image->leases[i].damage)
			check_sound(&image->leases[i]);
	}
	check_devices(image);
	registry_image_free(image);
	return 0;
}
