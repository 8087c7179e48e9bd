/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every bit of a log with every kind of record, flipped alone: what the table of
 * docs/design/registry.md says is what comes out, and nobody else's lease is touched.  Then cuts,
 * forged frames, and the states that only a killed writer leaves.
 */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/log.h"
#include "registry/scan.h"

struct frame {
	size_t offset, length;
	uint64_t lease;
};

struct log {
	uint8_t *bytes;
	size_t size; /* cut to a little more than is used */
	size_t end;
	struct frame frames[64];
	size_t n;
};

static struct log log_make(struct fixture *f)
{
	struct log log = {0};
	struct scan scan;

	fixture_start(f, NULL);
	put_whole_lease(f, 1);
	put_whole_lease(f, 2);
	put_zero(f);
	put_whole_lease(f, 3);
	put_vm(f, 3, 4, 5);
	fixture_close(f);
	log.bytes = log_read(f, "log", &log.size);
	assert_int_equal(scan_begin(&scan, log.bytes, log.size, NULL), 0);
	while (scan_next(&scan) == SCAN_FRAME) {
		assert_true(log.n < 64);
		log.frames[log.n++] = (struct frame){
			scan.offset, sizeof(struct log_frame) + scan.body_size, scan.lease};
	}
	log.end = scan.offset;
	log.size = log.end + 256;
	assert_int_equal(log.n, 31);
	return log;
}

static struct registry_image *load(const struct log *log, size_t size)
{
	struct registry_problem problem;
	struct registry_image *image = NULL;

	assert_int_equal(registry_load_bytes(log->bytes, size, &image, &problem), 0);
	return image;
}

/* Exactly these leases have damage (bit n: lease n). */
static void assert_damaged(const struct registry_image *image, unsigned leases)
{
	for (uint64_t serial = 1; serial <= 3; serial++) {
		const struct registry_lease *l = lease_of(image, serial);

		assert_non_null(l);
		assert_int_equal(!!*l->damage, leases >> serial & 1);
	}
	assert_int_equal(image->n_leases, 3);
}

static void flip(struct log *log, size_t bit)
{
	log->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

static void every_bit_of_a_frame(void **state)
{
	struct fixture *f = *state;
	struct log log = log_make(f);
	char text[64];

	for (size_t i = 0; i < log.n; i++) {
		const struct frame *frame = &log.frames[i];
		const size_t span = log_frame_span(frame->length);

		for (size_t bit = frame->offset * 8; bit < (frame->offset + span) * 8; bit++) {
			const size_t at = bit / 8 - frame->offset;
			struct registry_image *image;

			flip(&log, bit);
			image = load(&log, log.size);
			if (at < sizeof(struct log_frame)) {
				assert_true(image->lost);
				assert_int_equal(image->damaged, 1);
				/* A lease may be gone with the frame; those that are read have
				 * damage. */
				for (size_t k = 0; k < image->n_leases; k++)
					assert_true(*image->leases[k].damage);
				assert_int_equal(image->batches, log.n - 1);
			} else if (at < frame->length) {
				assert_false(image->lost);
				assert_int_equal(image->damaged, 1);
				assert_int_equal(image->batches, log.n - 1);
				assert_damaged(image, frame->lease ? 1u << frame->lease : 0);
				snprintf(text, sizeof(text), "the batch at offset %zu is damaged",
					 frame->offset);
				assert_string_equal(frame->lease
							    ? lease_of(image, frame->lease)->damage
							    : image->damage,
						    text);
			} else {
				assert_int_equal(image->damaged, 0);
				assert_int_equal(image->batches, log.n);
				assert_damaged(image, 0);
			}
			registry_image_free(image);
			flip(&log, bit);
		}
	}
	free(log.bytes);
}

static void every_bit_after_the_end(void **state)
{
	struct fixture *f = *state;
	struct log log = log_make(f);

	for (size_t bit = log.end * 8; bit < log.size * 8; bit++) {
		struct registry_image *image;

		flip(&log, bit);
		image = load(&log, log.size);
		assert_false(image->lost);
		assert_damaged(image, 0);
		assert_int_equal(image->batches, log.n);
		/* Of the length alone it cannot be told that it was not a torn write. */
		assert_int_equal(image->damaged, bit < log.end * 8 + 32);
		assert_int_equal(image->bytes, log.end);
		registry_image_free(image);
		flip(&log, bit);
	}
	free(log.bytes);
}

static void every_bit_of_the_header(void **state)
{
	struct fixture *f = *state;
	struct log log = log_make(f);

	for (size_t bit = 0; bit < LOG_HEADER_SIZE * 8; bit++) {
		struct registry_problem problem = {.message = ""};
		struct registry_image *image = NULL;
		int r;

		flip(&log, bit);
		r = registry_load_bytes(log.bytes, log.size, &image, &problem);
		if (bit / 8 < LOG_STALE_OFFSET) {
			const bool newer = bit >= 64 && bit < 96 &&
					   (REGISTRY_SCHEMA ^ 1u << (bit - 64)) > REGISTRY_SCHEMA;

			assert_int_equal(r, newer ? REGISTRY_E_NEWER : REGISTRY_E_DAMAGED);
			assert_true(*problem.message);
			assert_null(image);
		} else {
			const bool set = bit / 8 % sizeof(struct log_stale) >=
					 offsetof(struct log_stale, set);

			assert_int_equal(r, 0);
			assert_int_equal(image->lost, set);
			assert_damaged(image, set ? 0xe : 0);
			registry_image_free(image);
		}
		flip(&log, bit);
	}
	free(log.bytes);
}

static void every_length_of_the_file(void **state)
{
	struct fixture *f = *state;
	struct log log = log_make(f);
	size_t whole = 0;

	for (size_t size = 0; size <= log.size; size++) {
		struct registry_problem problem;
		struct registry_image *image = NULL;
		int r = registry_load_bytes(log.bytes, size, &image, &problem);

		if (size < LOG_HEADER_SIZE) {
			assert_int_equal(r, REGISTRY_E_DAMAGED);
			continue;
		}
		assert_int_equal(r, 0);
		while (whole < log.n && log.frames[whole].offset + log.frames[whole].length <= size)
			whole++;
		assert_int_equal(image->batches, whole);
		/* Cut in a body: of whose frame it is, is known.  Cut in a header: nothing. */
		assert_int_equal(image->damaged,
				 whole < log.n && size >= log.frames[whole].offset +
								  sizeof(struct log_frame));
		assert_false(image->lost);
		registry_image_free(image);
	}
	free(log.bytes);
}

/* All that a kill can leave behind: the length is zero, and any part of the rest is there. */
static void a_killed_append_is_nothing(void **state)
{
	struct fixture *f = *state;
	struct log log = log_make(f);
	const struct frame *last = &log.frames[log.n - 1];
	uint8_t copy[1024];
	struct registry_image *image;

	assert_true(last->length <= sizeof(copy));
	memcpy(copy, log.bytes + last->offset, last->length);
	memset(log.bytes + last->offset, 0, last->length);
	for (size_t body = 0; body <= last->length - 4; body++) {
		/* The body first, then the fields of the header, the length never. */
		const size_t from = body <= last->length - sizeof(struct log_frame)
					    ? sizeof(struct log_frame)
					    : 4;

		memcpy(log.bytes + last->offset + from, copy + from,
		       from == 4 ? last->length - 4 : body);
		image = load(&log, log.size);
		assert_int_equal(image->damaged, 0);
		assert_int_equal(image->batches, log.n - 1);
		assert_int_equal(image->bytes, last->offset);
		assert_damaged(image, 0);
		registry_image_free(image);
	}
	/* A tenant's bytes that look like a frame are none: they lack the salt. */
	{
		struct log_file forged = {.bytes = log.bytes, .used = last->offset + 64};
		struct log_frame zero = {0};

		memset(log.bytes + last->offset, 0, last->length);
		log_append(&forged, 2, (const uint8_t *)"xyz", 3, NULL);
		memcpy(log.bytes + last->offset, &zero, sizeof(zero));
		image = load(&log, log.size);
		assert_int_equal(image->damaged, 0);
		assert_int_equal(image->batches, log.n - 1);
		registry_image_free(image);
	}
	free(log.bytes);
}

static void an_end_before_the_end(void **state)
{
	struct fixture *f = *state;
	struct log log = log_make(f);
	struct registry_image *image;

	memset(log.bytes + log.frames[9].offset, 0, 4);
	image = load(&log, log.size);
	assert_true(image->lost);
	assert_non_null(strstr(image->damage, "more follows"));
	assert_int_equal(image->batches, log.n - 1);
	assert_damaged(image, 0xe);
	registry_image_free(image);
	free(log.bytes);
}

static void a_torn_tail_is_left_out(void **state)
{
	struct fixture *f = *state;
	struct log log = log_make(f);
	const struct frame *last = &log.frames[log.n - 1];
	struct registry_image *image;

	memset(log.bytes + last->offset + 24, 0, last->length - 24);
	log.bytes[last->offset + 5] ^= 1;
	image = load(&log, log.size);
	assert_false(image->lost);
	assert_int_equal(image->damaged, 1);
	assert_non_null(strstr(image->damage, "cut off"));
	assert_int_equal(image->batches, log.n - 1);
	assert_damaged(image, 0);
	registry_image_free(image);
	free(log.bytes);
}

static void put_frame(struct log *log, uint64_t lease, const void *body, size_t size)
{
	struct scan scan;
	struct log_file file = {.bytes = log->bytes, .used = log->end};

	assert_int_equal(scan_begin(&scan, log->bytes, log->size, NULL), 0);
	file.salt = scan.salt;
	memset(log->bytes + log->end, 0, log->size - log->end);
	log_append(&file, lease, body, size, NULL);
	assert_true(file.used <= log->size);
}

static void a_batch_that_is_none(void **state)
{
	static const struct {
		uint64_t lease;
		uint8_t bytes[12];
		size_t size;
		bool fine;
	} cases[] = {
		{2, {0xff}, 1},				/* no tag */
		{2, {0x00, 0x00}, 2},			/* field 0 */
		{2, {0x08, 0x01}, 2},			/* drops as a number */
		{2, {0x1a, 0x05, 0x08}, 3},		/* a memory beyond the end */
		{2, {0x1a, 0x02, 0x0a, 0x05}, 4},	/* inside it, too */
		{2, {0x0a, 0x00}, 2},			/* a drop of nothing */
		{2, {0x0a, 0x04, 0x08, 1, 0x10, 1}, 6}, /* of two things */
		{2, {0x52, 0x00}, 2},			/* a tenant in a lease */
		{0, {0x1a, 0x00}, 2},			/* a memory in none */
		{0, {0x0a, 0x02, 0x08, 1}, 4},		/* the end of lease 0 */
		{2, {0x0b}, 1},				/* a group */
		{2, {0xf8, 0x01, 0x05}, 3, true},	/* field 31: of a later release */
		{2, {0xfa, 0x01, 0x02, 0xff, 0xff}, 5, true},
	};
	struct fixture *f = *state;
	struct log log = log_make(f);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct registry_image *image;

		put_frame(&log, cases[i].lease, cases[i].bytes, cases[i].size);
		image = load(&log, log.size);
		assert_int_equal(image->damaged, !cases[i].fine);
		assert_damaged(image, cases[i].fine ? 0 : cases[i].lease ? 4 : 0);
		assert_int_equal(!!*image->damage, !cases[i].lease);
		registry_image_free(image);
	}
	free(log.bytes);
}

/* The end of a lease is the end of its damage. */
static void a_dropped_lease_has_none(void **state)
{
	static const uint8_t drop_lease[] = {0x0a, 0x02, 0x08, 1};
	struct fixture *f = *state;
	struct log log = log_make(f);
	struct registry_image *image;

	put_frame(&log, 1, drop_lease, sizeof(drop_lease));
	log.bytes[log.frames[1].offset + 30] ^= 4;
	image = load(&log, log.size);
	assert_int_equal(image->damaged, 1);
	assert_int_equal(image->n_leases, 2);
	assert_string_equal(image->leases[0].damage, "");
	assert_string_equal(image->leases[1].damage, "");
	registry_image_free(image);
	free(log.bytes);
}

/* What a lease that lacks changes seems to have is no case against one that is whole. */
static void a_damaged_lease_accuses_nobody(void **state)
{
	struct fixture *f = *state;
	Ioasid__Registry__Device d = IOASID__REGISTRY__DEVICE__INIT;
	Ioasid__Registry__Device *devices[] = {&d};
	struct log log = log_make(f);
	struct registry_image *image;
	uint8_t body[64];
	BATCH(batch);

	d.address = TEXT("0000:01:00.0");
	batch.devices = devices;
	batch.n_devices = 1;
	put_frame(&log, 3, body, ioasid__registry__batch__pack(&batch, body));
	image = load(&log, log.size);
	assert_damaged(image, 0xa);
	registry_image_free(image);
	log.bytes[log.frames[1].offset + 30] ^= 4;
	image = load(&log, log.size);
	assert_damaged(image, 2);
	registry_image_free(image);
	free(log.bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_bit_of_a_frame),	  TEST(every_bit_after_the_end),
		TEST(every_bit_of_the_header),	  TEST(every_length_of_the_file),
		TEST(a_killed_append_is_nothing), TEST(an_end_before_the_end),
		TEST(a_torn_tail_is_left_out),	  TEST(a_batch_that_is_none),
		TEST(a_dropped_lease_has_none),	  TEST(a_damaged_lease_accuses_nobody),
	};

	return cmocka_run_group_tests_name("registry damage", tests, NULL, NULL);
}
