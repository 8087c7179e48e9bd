/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the nth request for room in the registry fail, as on a full tmpfs: the linker puts
 * __wrap_registry_room_take() in place of the registry's own.  What gives something back has
 * room always, and is not counted.
 */
#include "room_fault.h"

#include "registry/registry.h"

#include <errno.h>

int __real_registry_room_take(struct registry *registry, enum registry_class class, size_t bytes,
			      struct registry_room *room);
int __wrap_registry_room_take(struct registry *registry, enum registry_class class, size_t bytes,
			      struct registry_room *room);

static uint64_t armed, calls;
static bool fired;

void room_fault_arm(uint64_t nth)
{
	armed = nth;
	calls = 0;
	fired = false;
}

uint64_t room_fault_disarm(bool *ret_fired)
{
	armed = 0;
	*ret_fired = fired;
	return calls;
}

int __wrap_registry_room_take(struct registry *registry, enum registry_class class, size_t bytes,
			      struct registry_room *room)
{
	if (class == REGISTRY_GROWS && ++calls == armed) {
		fired = true;
		return -ENOSPC;
	}
	return __real_registry_room_take(registry, class, bytes, room);
}
