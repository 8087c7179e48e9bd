/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_OBJECTS_H
#define IOASID_CLI_OBJECTS_H

/*
 * The library's objects as members of documents: the one place that fixes their JSON keys.
 */

#include "doc.h"

#include "lib/ioasid.h"

struct json_object *object_device(const struct ioasid_device *device);
struct json_object *object_memory(const struct ioasid_memory *memory);
struct json_object *object_vm(const struct ioasid_vm *vm);
struct json_object *object_choice(const struct ioasid_choice *choice);
struct json_object *object_ioasid(const struct ioasid_info *info);
struct json_object *object_mapping(const struct ioasid_mapping *mapping);
struct json_object *object_attachment(const struct ioasid_attachment *attachment);
struct json_object *object_fault(const struct ioasid_fault *fault);
struct json_object *object_walk_level(const struct ioasid_walk_level *level);
struct json_object *object_lease(const struct ioasid_lease *lease);
struct json_object *object_usage(const struct ioasid_resource_usage *usage);
struct json_object *object_tenant(const struct ioasid_tenant *tenant);
/* Adds the event's members to a document. */
void object_event(struct json_object *document, const struct ioasid_event *event);

/* Array of texts. */
struct json_object *object_texts(const char *const *texts, size_t n);
/* One line: "not-present at level 2 of stage 1, address 0x1000"; free(). */
char *fault_text(const struct ioasid_fault *fault);

#endif
