/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages devices have written: switched on and off, and read as one bitmap. */
#include "mend.h"
#include "stream.h"

#include <string.h>

/* 512 MiB of bits. */
#define PAGES_MAX (1ULL << 32)

int ioasid_dirty_set(struct ioasid_client *client, const struct ioasid_scope *scope,
		     uint64_t ioasid, bool enable, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "SetDirtyTracking", set_dirty_tracking_response, true, IN_LEASE);
	Ioasid__V1__SetDirtyTrackingRequest request = IOASID__V1__SET_DIRTY_TRACKING_REQUEST__INIT;
	Ioasid__V1__SetDirtyTrackingResponse *response;
	CALL_AUTO struct call call;
	int r = call_begin(&call, client, scope, 0, ret_error);

	if (r < 0)
		return r;
	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.enable = enable;
	return call_unary(&call, &method, &request.base, &response);
}

/* Adds one part to the bitmap; false: it lies outside, or is not in whole bytes of ours. */
static bool add_part(struct ioasid_dirty_bitmap *bitmap, uint8_t *bits,
		     const Ioasid__V1__ReadDirtyBitmapResponse *part)
{
	uint64_t first, n_bytes = (bitmap->n_pages + 7) / 8;

	if (part->page_size != bitmap->page_size || part->iova < bitmap->iova)
		return false;
	first = (part->iova - bitmap->iova) / bitmap->page_size;
	if (first % 8 || first / 8 > n_bytes || part->bitmap.len > n_bytes - first / 8)
		return false;
	for (size_t i = 0; i < part->bitmap.len; i++)
		bits[first / 8 + i] |= part->bitmap.data[i];
	return true;
}

static int read_parts(struct call *call, struct stream *stream, struct ioasid_dirty_bitmap *bitmap,
		      uint8_t *bits)
{
	for (;;) {
		__attribute__((cleanup(result_freep))) struct result *scratch = NULL;
		Ioasid__V1__ReadDirtyBitmapResponse *part;
		struct ioasid_error *error = NULL;
		int r;

		scratch = result_new(0);
		if (!scratch)
			return error_no_memory(call->ret_error);
		r = stream_read(stream, scratch, &part, &error);
		if (r < 0) {
			bool end = error->code == IOASID_OK;

			if (call->ret_error && !end)
				*call->ret_error = error;
			else
				ioasid_error_free(error);
			return end ? 0 : r;
		}
		if (!add_part(bitmap, bits, part))
			return error_bad_answer("ReadDirtyBitmap",
						"a part is not in the range that was asked for",
						call->ret_error);
	}
}

int ioasid_dirty_read(struct ioasid_client *client, const struct ioasid_scope *scope,
		      uint64_t ioasid, uint64_t iova, uint64_t length, uint64_t page_size,
		      bool clear, struct ioasid_dirty_bitmap **ret_bitmap,
		      struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "ReadDirtyBitmap", read_dirty_bitmap_response, false, IN_LEASE);
	Ioasid__V1__ReadDirtyBitmapRequest request = IOASID__V1__READ_DIRTY_BITMAP_REQUEST__INIT;
	struct ioasid_dirty_bitmap *bitmap;
	struct ioasid_error *error = NULL;
	struct stream stream = {0};
	CALL_AUTO struct call call;
	bool opened;
	uint8_t *bits;
	int r = call_begin(&call, client, scope, sizeof(*bitmap), ret_error);

	if (r < 0)
		return r;
	if (!page_size || page_size & (page_size - 1) || iova % page_size || !length ||
	    length % page_size || length / page_size > PAGES_MAX)
		return call_invalid(&call, "page_size is no power of two, or iova and length are "
					   "no multiples of it, or there are more than 2^32 pages");
	bitmap = call_root(&call);
	bitmap->iova = iova;
	bitmap->page_size = page_size;
	bitmap->n_pages = length / page_size;
	bits = result_alloc(call.result, (bitmap->n_pages + 7) / 8, 1);
	if (!bits)
		return error_no_memory(ret_error);
	bitmap->bits = bits;

	request.scope = call_scope(&call);
	request.ioasid = ioasid;
	request.iova = iova;
	request.length = length;
	request.page_size = page_size;
	request.no_clear = !clear;
	do {
		ioasid_error_free(error);
		error = NULL;
		call.ret_error = &error;
		r = stream_open(&stream, &call, &method, &request.base, NULL);
		if (!r) {
			opened = true;
			r = read_parts(&call, &stream, bitmap, bits);
			stream_close(&stream);
		} else {
			opened = false;
		}
	} while (r < 0 && opened && !clear && mend_helps(client, error));
	call.ret_error = ret_error;
	if (r < 0 && ret_error)
		*ret_error = error;
	else
		ioasid_error_free(error);
	return r < 0 ? r : call_publish(&call, ret_bitmap);
}

void ioasid_dirty_bitmap_free(struct ioasid_dirty_bitmap *bitmap)
{
	result_free_root(bitmap);
}
