/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the size that the broker's have. */

#include "bench.h"

#include <stdio.h>
#include <string.h>

#define TEXT(s) ((char *)(uintptr_t)(s))

void alloc_make(uint64_t n, struct alloc *ret)
{
	static uint64_t valid[4] = {0, 0xfedfffff, 0xfef00000, 0xffffffffffff};
	const uint64_t lease = n / 1000 % 1000 + 1, id = n % 1000 + 1;

	snprintf(ret->key_text, sizeof(ret->key_text), "5f0c1d2e-%08llx-vm-boot",
		 (unsigned long long)n);
	memset(ret->answer, (int)n, sizeof(ret->answer));
	ret->devices[0] = TEXT("0000:3b:00.1");
	ret->intent_message = (Ioasid__Registry__Intent)IOASID__REGISTRY__INTENT__INIT;
	ret->intent_message.method = TEXT("/ioasid.v1.Broker/Alloc");
	ret->intent_message.key = ret->key_text;
	ret->intent_message.hash = n * 0x9e3779b97f4a7c15ull;
	ret->intent_message.ioasid = id;
	ret->intent_message.devices = ret->devices;
	ret->intent_message.n_devices = 1;
	ret->ioasid = (Ioasid__Registry__Ioasid)IOASID__REGISTRY__IOASID__INIT;
	ret->ioasid.id = id;
	ret->ioasid.kind = 1;
	ret->ioasid.format = 1;
	ret->ioasid.input_bits = 48;
	ret->ioasid.output_bits = 52;
	ret->ioasid.page_sizes = 0x40201000;
	ret->ioasid.valid = valid;
	ret->ioasid.n_valid = 4;
	ret->ioasid.devices = ret->devices;
	ret->ioasid.n_devices = 1;
	ret->ioasid.label = TEXT("guest-ram");
	ret->ioasid.table = (ProtobufCBinaryData){16, ret->answer};
	ret->key = (Ioasid__Registry__Key)IOASID__REGISTRY__KEY__INIT;
	ret->key.key = ret->key_text;
	ret->key.method = ret->intent_message.method;
	ret->key.hash = ret->intent_message.hash;
	ret->key.answer = (ProtobufCBinaryData){sizeof(ret->answer), ret->answer};
	ret->key.order = n;
	ret->intent[0] = (struct record){lease, KIND_INTENT, 0, 0, &ret->intent_message.base};
	ret->result[0] = (struct record){lease, KIND_INTENT, 0, 0, NULL};
	ret->result[1] = (struct record){lease, KIND_IOASID, id, 0, &ret->ioasid.base};
	/* The oldest of 100 makes way, as in the broker's table of keys. */
	ret->result[2] = (struct record){lease, KIND_KEY, n % 100, 0, &ret->key.base};
}

void object_make(uint64_t n, struct object *ret)
{
	const uint64_t lease = n / OBJECTS_PER_LEASE + 1, i = n % OBJECTS_PER_LEASE;
	static uint8_t bytes[16];

	if (!i) {
		ret->lease = (Ioasid__Registry__Lease)IOASID__REGISTRY__LEASE__INIT;
		ret->lease.tenant = TEXT("org/team/job");
		ret->lease.secret = (ProtobufCBinaryData){sizeof(bytes), bytes};
		ret->lease.next_id = 11;
		ret->record = (struct record){lease, KIND_LEASE, 0, 0, &ret->lease.base};
	} else if (i <= 10) {
		ret->ioasid = (Ioasid__Registry__Ioasid)IOASID__REGISTRY__IOASID__INIT;
		ret->ioasid.id = i;
		ret->ioasid.kind = 1;
		/* The others map what is the first's: no memories are needed. */
		ret->ioasid.parent = i > 1;
		ret->ioasid.format = 1;
		ret->ioasid.input_bits = 48;
		ret->ioasid.page_sizes = 0x40201000;
		ret->record = (struct record){lease, KIND_IOASID, i, 0, &ret->ioasid.base};
	} else {
		ret->mapping = (Ioasid__Registry__Mapping)IOASID__REGISTRY__MAPPING__INIT;
		ret->mapping.ioasid = 2 + (i - 11) / 110;
		ret->mapping.iova = 0x100000000ull + ((i - 11) % 110 << 21);
		ret->mapping.length = 2u << 20;
		ret->mapping.offset = i << 21;
		ret->mapping.prot = 3;
		ret->record = (struct record){lease, KIND_MAPPING, ret->mapping.ioasid,
					      ret->mapping.iova, &ret->mapping.base};
	}
}

void object_unpack(enum kind kind, const uint8_t *bytes, size_t size)
{
	static const ProtobufCMessageDescriptor *const descriptors[] = {
		[KIND_LEASE] = &ioasid__registry__lease__descriptor,
		[KIND_IOASID] = &ioasid__registry__ioasid__descriptor,
		[KIND_MAPPING] = &ioasid__registry__mapping__descriptor,
		[KIND_KEY] = &ioasid__registry__key__descriptor,
		[KIND_INTENT] = &ioasid__registry__intent__descriptor,
	};
	ProtobufCMessage *message = protobuf_c_message_unpack(descriptors[kind], NULL, size, bytes);

	must(message, "unpack");
	protobuf_c_message_free_unpacked(message, NULL);
}
