/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to frames.  It reads every byte at most a few times and never outside [0, size).
 *
 * What a crash of the writer can leave behind the last published frame: a length of zero, and
 * behind it anything.  So a length of zero is the end - unless a whole frame follows: frames are
 * published in order, so then the zero was not written by us.  Any other finding is the work of
 * something that is not a crash of the writer:
 *
 *	header intact, body not		the frame's lease is known; on with the next
 *	header broken, then only zeros	one torn write of 24 bytes at most: nothing was said yet
 *	header broken, then anything	its lease and its length are unknown; the search for the
 *					next frame goes in steps of 8
 *	header intact, beyond the file	the file was cut: as a damaged body, and the last
 *
 * A frame found by searching counts only if its body is intact, too; bodies looked at in vain
 * have a budget, so that a file made for it cannot keep the loader busy.
 */

#include "scan.h"

#include <stdio.h>
#include <string.h>

static int refuse(struct registry_problem *ret_problem, int error, const char *text)
{
	if (ret_problem)
		snprintf(ret_problem->message, sizeof(ret_problem->message), "%s", text);
	return error;
}

int scan_begin(struct scan *scan, const uint8_t *bytes, size_t size,
	       struct registry_problem *ret_problem)
{
	struct log_header header;
	char text[128];

	/* Magic and schema first: a newer release may have changed all else, the size included. */
	if (size < offsetof(struct log_header, crc))
		return refuse(ret_problem, REGISTRY_E_DAMAGED, "the log is too short to be one");
	memcpy(&header, bytes, offsetof(struct log_header, crc));
	if (memcmp(header.magic, LOG_MAGIC, sizeof(header.magic)))
		return refuse(ret_problem, REGISTRY_E_DAMAGED, "the log does not begin as one");
	if (header.schema > REGISTRY_SCHEMA) {
		snprintf(text, sizeof(text),
			 "the log was written by a newer release (schema %u; this one knows %u)",
			 header.schema, REGISTRY_SCHEMA);
		return refuse(ret_problem, REGISTRY_E_NEWER, text);
	}
	if (size < LOG_HEADER_SIZE)
		return refuse(ret_problem, REGISTRY_E_DAMAGED, "the log is cut off in its header");
	memcpy(&header, bytes, sizeof(header));
	if (!header.schema || header.crc != log_header_crc(&header))
		return refuse(ret_problem, REGISTRY_E_DAMAGED, "the header of the log is damaged");
	*scan = (struct scan){.bytes = bytes,
			      .size = size,
			      .salt = header.salt,
			      .next = LOG_HEADER_SIZE,
			      .budget = 4 * size};
	return 0;
}

/* Nothing but zeros from there on. */
static size_t data_end(struct scan *scan)
{
	size_t end = scan->size;
	uint64_t word;

	if (scan->data_end)
		return scan->data_end;
	while (end & 7 && !scan->bytes[end - 1])
		end--;
	if (!(end & 7))
		for (; end > LOG_HEADER_SIZE; end -= 8) {
			memcpy(&word, scan->bytes + end - 8, 8);
			if (word)
				break;
		}
	scan->data_end = end;
	return end;
}

static bool header_at(const struct scan *scan, size_t offset, struct log_frame *ret_frame)
{
	struct log_frame frame;

	if (offset > scan->size || scan->size - offset < sizeof(frame))
		return false;
	memcpy(&frame, scan->bytes + offset, sizeof(frame));
	if (frame.length < sizeof(frame) ||
	    frame.crc != log_frame_crc(scan->salt, offset, frame.length, frame.body_crc,
				       frame.lease, frame.reserved))
		return false;
	*ret_frame = frame;
	return true;
}

static bool body_is_intact(const struct scan *scan, size_t offset, const struct log_frame *frame)
{
	return frame->length <= scan->size - offset &&
	       crc32c(0, scan->bytes + offset + sizeof(*frame), frame->length - sizeof(*frame)) ==
		       frame->body_crc;
}

/* The next whole frame; 0: none. */
static size_t search(struct scan *scan, size_t from)
{
	const size_t end = data_end(scan);
	struct log_frame frame;

	for (size_t offset = from; offset < end; offset += 8) {
		if (!header_at(scan, offset, &frame) || frame.length > scan->size - offset)
			continue;
		if (frame.length > scan->budget)
			break;
		scan->budget -= frame.length;
		if (body_is_intact(scan, offset, &frame))
			return offset;
	}
	return 0;
}

static enum scan_result lose(struct scan *scan, size_t found)
{
	scan->next = found ? found : scan->size;
	return SCAN_LOST;
}

static uint32_t length_at(const struct scan *scan, size_t offset)
{
	uint32_t length;

	memcpy(&length, scan->bytes + offset, sizeof(length));
	return length;
}

enum scan_result scan_next(struct scan *scan)
{
	struct log_frame frame;
	size_t offset = scan->next, found;

	scan->offset = offset;
	if (offset >= scan->size || scan->size - offset < sizeof(frame))
		return SCAN_END;
	if (header_at(scan, offset, &frame)) {
		scan->lease = frame.lease;
		scan->body = scan->bytes + offset + sizeof(frame);
		scan->body_size = frame.length - sizeof(frame);
		if (frame.length > scan->size - offset) {
			scan->next = scan->size;
			return SCAN_DAMAGED;
		}
		scan->next = offset + log_frame_span(frame.length);
		return body_is_intact(scan, offset, &frame) ? SCAN_FRAME : SCAN_DAMAGED;
	}
	found = search(scan, offset + 8);
	if (!length_at(scan, offset)) {
		if (!found)
			return SCAN_END;
		scan->ended_early = true;
		return lose(scan, found);
	}
	if (data_end(scan) <= offset + sizeof(frame)) {
		scan->next = scan->size;
		return SCAN_TORN;
	}
	return lose(scan, found);
}
