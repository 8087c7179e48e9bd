/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_IMAGE_H
#define IOASID_REGISTRY_IMAGE_H

/*
 * Making an image: load.c feeds frames to replay.c, which makes the tables, which check.c judges.
 * Threads: one an image.
 */

#include "batch.h"
#include "registry.h"

/* The image and its memory; a struct registry_image * is one of these. */
struct image {
	struct registry_image image; /* first */
	struct record_arena arena;
};

struct replay;

/* -ENOMEM. */
int replay_new(struct image *image, struct replay **ret_replay);
void replay_free(struct replay *replay); /* NULL-safe */
/* A batch that is intact: 0; 1: it is no batch of this lease (nothing is changed); -ENOMEM. */
int replay_batch(struct replay *replay, uint64_t lease, const uint8_t *body, size_t size);
/* Changes of this lease are missing.  Only the first reason is kept. */
int replay_damage(struct replay *replay, uint64_t lease, const char *why);
/* From everything that was replayed to the sorted tables of the image. */
int replay_finish(struct replay *replay);

/* The first violation of each lease becomes its damage.  -ENOMEM. */
int image_check(struct image *image);

/* Keeps the first text.  What is not printable ASCII becomes '?': it may come from the log. */
void damage_set(char *damage, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The registry in these bytes, as registry_load().  size >= 0; any bytes will do.  ret_early
 * (or NULL): the log seemed to end before its end - so does one that is being written.
 */
int image_from_bytes(const uint8_t *bytes, size_t size, struct registry_image **ret_image,
		     bool *ret_early, struct registry_problem *ret_problem);

#endif
