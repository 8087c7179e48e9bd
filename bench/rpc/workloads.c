/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a lane calls.  Pairs undo themselves, so a run of any length leaves the server as it
 * was, and each lane works on objects of its own.
 */
#include "bench.h"

#include "ioasid.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <fcntl.h>
#include <unistd.h>

#define DEVICE	  "0000:01:00.0"
#define BROKER(x) "/ioasid.v1.Broker/" x
#define PAGE	  4096
#define MEMORY	  (64 * PAGE)
#define BIG	  (1 << 20)

static size_t pack(const ProtobufCMessage *message, uint8_t *bytes)
{
	if (protobuf_c_message_get_packed_size(message) > 1024)
		die("a request is too long");
	return protobuf_c_message_pack(message, bytes);
}

/* ---- without objects ---- */

static size_t request_echo(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	*ret_path = "/bench.Echo/Echo";
	return 0;
}
const struct workload workload_echo = {.name = "echo", .request = request_echo, .period = 1};

static size_t request_unknown(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	*ret_path = BROKER("NoSuchMethod");
	return 0;
}
const struct workload workload_unknown = {
	.name = "unknown method",
	.request = request_unknown,
	.status = GRPC_STATUS_UNIMPLEMENTED,
	.period = 1,
};

static size_t request_health(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	*ret_path = "/grpc.health.v1.Health/Check";
	return 0;
}
const struct workload workload_health = {
	.name = "health check",
	.request = request_health,
	.period = 1,
};

static size_t request_status(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	*ret_path = BROKER("GetStatus");
	return 0;
}
const struct workload workload_status = {
	.name = "GetStatus",
	.request = request_status,
	.period = 1,
};

/* ---- IOASIDs ---- */

static size_t pack_alloc(uint8_t *bytes)
{
	Ioasid__V1__AllocRequest request = IOASID__V1__ALLOC_REQUEST__INIT;

	request.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	return pack(&request.base, bytes);
}

static uint64_t alloc_now(struct client *client)
{
	Ioasid__V1__AllocRequest request = IOASID__V1__ALLOC_REQUEST__INIT;
	Ioasid__V1__AllocResponse *response;
	uint64_t ioasid;

	request.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	response = (Ioasid__V1__AllocResponse *)client_call(
		client, BROKER("Alloc"), &request.base, &ioasid__v1__alloc_response__descriptor);
	ioasid = response->ioasid;
	ioasid__v1__alloc_response__free_unpacked(response, NULL);
	return ioasid;
}

static void free_now(struct client *client, uint64_t ioasid)
{
	Ioasid__V1__FreeRequest request = IOASID__V1__FREE_REQUEST__INIT;

	request.ioasid = ioasid;
	client_call(client, BROKER("Free"), &request.base, NULL);
}

static size_t request_alloc_free(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	Ioasid__V1__FreeRequest request = IOASID__V1__FREE_REQUEST__INIT;

	if (lane->step % 2 == 0) {
		*ret_path = BROKER("Alloc");
		return pack_alloc(bytes);
	}
	*ret_path = BROKER("Free");
	request.ioasid = lane->ioasid;
	return pack(&request.base, bytes);
}

static void answer_alloc_free(struct lane *lane, const uint8_t *bytes, size_t size)
{
	Ioasid__V1__AllocResponse *response;

	if (lane->step % 2)
		return;
	response = ioasid__v1__alloc_response__unpack(NULL, size, bytes);
	if (!response)
		die("Alloc: an answer that cannot be read");
	lane->ioasid = response->ioasid;
	ioasid__v1__alloc_response__free_unpacked(response, NULL);
}
const struct workload workload_alloc_free = {
	.name = "Alloc+Free",
	.request = request_alloc_free,
	.answer = answer_alloc_free,
	.period = 2,
};

static void prepare_ioasid(struct client *client, struct lane *lane, unsigned n_lanes)
{
	lane->ioasid = alloc_now(client);
}

static void finish_ioasid(struct client *client, struct lane *lane, unsigned n_lanes)
{
	free_now(client, lane->ioasid);
}

static size_t request_get(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	Ioasid__V1__GetIoasidRequest request = IOASID__V1__GET_IOASID_REQUEST__INIT;

	*ret_path = BROKER("GetIoasid");
	request.ioasid = lane->ioasid;
	return pack(&request.base, bytes);
}
const struct workload workload_get = {
	.name = "GetIoasid",
	.prepare = prepare_ioasid,
	.request = request_get,
	.finish = finish_ioasid,
	.period = 1,
};

static size_t request_negotiate(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	Ioasid__V1__NegotiateRequest request = IOASID__V1__NEGOTIATE_REQUEST__INIT;
	Ioasid__V1__AllocRequest alloc = IOASID__V1__ALLOC_REQUEST__INIT;

	*ret_path = BROKER("Negotiate");
	alloc.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	request.alloc = &alloc;
	return pack(&request.base, bytes);
}
const struct workload workload_negotiate = {
	.name = "Negotiate",
	.request = request_negotiate,
	.period = 1,
};

/* ---- attachments ---- */

/* The first lane claims for all. */
static void claim(struct client *client, const struct lane *lane)
{
	Ioasid__V1__ClaimDeviceRequest request = IOASID__V1__CLAIM_DEVICE_REQUEST__INIT;
	char *devices[] = {(char *)DEVICE};

	if (lane->index)
		return;
	request.n_devices = 1;
	request.devices = devices;
	client_call(client, BROKER("ClaimDevice"), &request.base, NULL);
}

static void release(struct client *client, const struct lane *lane, unsigned n_lanes)
{
	Ioasid__V1__ReleaseDeviceRequest request = IOASID__V1__RELEASE_DEVICE_REQUEST__INIT;
	char *devices[] = {(char *)DEVICE};

	if (lane->index != n_lanes - 1)
		return;
	request.n_devices = 1;
	request.devices = devices;
	client_call(client, BROKER("ReleaseDevice"), &request.base, NULL);
}

static void prepare_attach(struct client *client, struct lane *lane, unsigned n_lanes)
{
	claim(client, lane);
	lane->ioasid = alloc_now(client);
}

/* Lane 0 is the device itself, the others are PASIDs of it. */
static size_t request_attach(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	Ioasid__V1__Pasid pasid = IOASID__V1__PASID__INIT;
	Ioasid__V1__AttachRequest attach = IOASID__V1__ATTACH_REQUEST__INIT;
	Ioasid__V1__DetachRequest detach = IOASID__V1__DETACH_REQUEST__INIT;

	pasid.value = lane->index;
	if (lane->step % 2 == 0) {
		*ret_path = BROKER("Attach");
		attach.device = (char *)DEVICE;
		attach.ioasid = lane->ioasid;
		attach.pasid = lane->index ? &pasid : NULL;
		return pack(&attach.base, bytes);
	}
	*ret_path = BROKER("Detach");
	detach.device = (char *)DEVICE;
	detach.pasid = lane->index ? &pasid : NULL;
	return pack(&detach.base, bytes);
}

static void finish_attach(struct client *client, struct lane *lane, unsigned n_lanes)
{
	free_now(client, lane->ioasid);
	release(client, lane, n_lanes);
}
const struct workload workload_attach_detach = {
	.name = "Attach+Detach",
	.prepare = prepare_attach,
	.request = request_attach,
	.finish = finish_attach,
	.period = 2,
};

/* ---- memory ---- */

/* docs/fd-protocol.md */
static void give_fd(const char *path, const uint8_t ticket[16], int fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint8_t request[32] = {'I', 'O', 'F', 'D', 1, 1}, reply[16] = {0};
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec vector = {.iov_base = request, .iov_len = sizeof(request)};
	struct msghdr message = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	memcpy(request + 8, ticket, 16);
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	if (connect(s, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    sendmsg(s, &message, MSG_NOSIGNAL) != sizeof(request) ||
	    recv(s, reply, sizeof(reply), MSG_WAITALL) != sizeof(reply) || reply[5])
		die("giving an fd: status %u", reply[5]);
	close(s);
}

uint64_t client_register_memory(struct client *client, size_t size)
{
	Ioasid__V1__OpenTicketRequest ticket = IOASID__V1__OPEN_TICKET_REQUEST__INIT;
	Ioasid__V1__RegisterMemoryRequest request = IOASID__V1__REGISTER_MEMORY_REQUEST__INIT;
	Ioasid__V1__RegisterMemoryResponse *response;
	Ioasid__V1__OpenTicketResponse *opened;
	int fd = memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint64_t memory;

	if (fd < 0 || fallocate(fd, 0, 0, size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		die("no memfd");
	ticket.purpose = IOASID__V1__TICKET_PURPOSE__TICKET_PURPOSE_MEMORY;
	opened = (Ioasid__V1__OpenTicketResponse *)client_call(
		client, BROKER("OpenTicket"), &ticket.base,
		&ioasid__v1__open_ticket_response__descriptor);
	if (opened->ticket.len != 16)
		die("not a ticket");
	give_fd(client->socket, opened->ticket.data, fd);
	request.ticket = opened->ticket;
	request.read = request.write = true;
	response = (Ioasid__V1__RegisterMemoryResponse *)client_call(
		client, BROKER("RegisterMemory"), &request.base,
		&ioasid__v1__register_memory_response__descriptor);
	memory = response->memory;
	ioasid__v1__open_ticket_response__free_unpacked(opened, NULL);
	ioasid__v1__register_memory_response__free_unpacked(response, NULL);
	close(fd);
	return memory;
}

static void unregister_memory(struct client *client, uint64_t memory)
{
	Ioasid__V1__UnregisterMemoryRequest request = IOASID__V1__UNREGISTER_MEMORY_REQUEST__INIT;

	request.memory = memory;
	client_call(client, BROKER("UnregisterMemory"), &request.base, NULL);
}

static size_t pack_map(struct lane *lane, uint64_t length, uint8_t *bytes)
{
	Ioasid__V1__MapRequest request = IOASID__V1__MAP_REQUEST__INIT;
	Ioasid__V1__MapEntry entry = IOASID__V1__MAP_ENTRY__INIT;
	Ioasid__V1__MapEntry *entries[] = {&entry};

	entry.iova = UINT64_C(1) << 30;
	entry.length = length;
	entry.memory = lane->memory;
	entry.read = entry.write = true;
	request.ioasid = lane->ioasid;
	request.n_entries = 1;
	request.entries = entries;
	return pack(&request.base, bytes);
}

static size_t pack_unmap(struct lane *lane, uint64_t length, uint8_t *bytes)
{
	Ioasid__V1__UnmapRequest request = IOASID__V1__UNMAP_REQUEST__INIT;
	Ioasid__V1__UnmapRange range = IOASID__V1__UNMAP_RANGE__INIT;
	Ioasid__V1__UnmapRange *ranges[] = {&range};

	range.iova = UINT64_C(1) << 30;
	range.length = length;
	request.ioasid = lane->ioasid;
	request.n_ranges = 1;
	request.ranges = ranges;
	return pack(&request.base, bytes);
}

static void prepare_map(struct client *client, struct lane *lane, unsigned n_lanes)
{
	lane->ioasid = alloc_now(client);
	lane->memory = client_register_memory(client, MEMORY);
}

static size_t request_map(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	*ret_path = lane->step % 2 ? BROKER("Unmap") : BROKER("Map");
	return lane->step % 2 ? pack_unmap(lane, PAGE, bytes) : pack_map(lane, PAGE, bytes);
}

static void finish_map(struct client *client, struct lane *lane, unsigned n_lanes)
{
	free_now(client, lane->ioasid);
	unregister_memory(client, lane->memory);
}
const struct workload workload_map_unmap = {
	.name = "Map+Unmap 4K",
	.prepare = prepare_map,
	.request = request_map,
	.finish = finish_map,
	.period = 2,
};

/* ---- big: a mapping of a megabyte, and a megabyte of DMA through it ---- */

static void prepare_big(struct client *client, struct lane *lane, unsigned n_lanes)
{
	Ioasid__V1__AttachRequest attach = IOASID__V1__ATTACH_REQUEST__INIT;
	Ioasid__V1__Pasid pasid = IOASID__V1__PASID__INIT;

	claim(client, lane);
	lane->ioasid = alloc_now(client);
	lane->memory = client_register_memory(client, BIG);
	pasid.value = lane->index;
	attach.device = (char *)DEVICE;
	attach.ioasid = lane->ioasid;
	attach.pasid = lane->index ? &pasid : NULL;
	client_call(client, BROKER("Attach"), &attach.base, NULL);
}

static size_t request_big(struct lane *lane, const char **ret_path, uint8_t *bytes)
{
	Ioasid__V1__DeviceDmaRequest dma = IOASID__V1__DEVICE_DMA_REQUEST__INIT;
	Ioasid__V1__Pasid pasid = IOASID__V1__PASID__INIT;

	switch (lane->step % 3) {
	case 0:
		*ret_path = BROKER("Map");
		return pack_map(lane, BIG, bytes);
	case 1:
		*ret_path = BROKER("DeviceDma");
		pasid.value = lane->index;
		dma.device = (char *)DEVICE;
		dma.pasid = lane->index ? &pasid : NULL;
		dma.access = IOASID__V1__ACCESS__ACCESS_READ;
		dma.iova = UINT64_C(1) << 30;
		dma.length = BIG;
		return pack(&dma.base, bytes);
	default:
		*ret_path = BROKER("Unmap");
		return pack_unmap(lane, BIG, bytes);
	}
}
const struct workload workload_big = {
	.name = "Map, DMA and Unmap 1M",
	.prepare = prepare_big,
	.request = request_big,
	.period = 3,
};
