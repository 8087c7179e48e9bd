/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of a tenant and an admin, as bytes: records of {u8 method, u16 little-endian
 * length, that many bytes}; bit 7 of the method: by the admin.  They meet a broker on the
 * software IOMMU with one registered memory (id 1), one IOASID (id 2) and one claimed
 * device.  After each input both sessions end; nothing may be left, every counter is zero.
 */
#include "kernel-shim/soft/soft.h"
#include "policy/policy.h"
#include "server/broker/broker.h"
#include "tests/failnth/host.h"

#include "ioasid.pb-c.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_SIZE (64 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct host host;

static const char policy_text[] =
	"{\"version\":1,\"tenants\":{\"t\":{\"devices\":[{\"any\":true}],\"limits\":"
	"{\"registered_bytes\":\"1M\",\"map_entries\":64,\"ioasids\":16,\"leases\":8}}},"
	"\"identities\":[{\"socket\":\"tenants\",\"role\":\"tenant\",\"tenant\":\"t\"},"
	"{\"socket\":\"admin\",\"role\":\"admin\"}]}";

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct broker *broker_start(struct shim **ret_shim)
{
	struct broker_config config = {.host_ops = &host_ops, .host = &host};
	struct policy_problem problem;
	struct soft_problem trouble;
	struct broker *broker;

	host_init(&host);
	REQUIRE(!soft_shim_new(NULL, NULL, ret_shim, &trouble));
	config.shim = *ret_shim;
	REQUIRE(!policy_parse("fuzz", policy_text, strlen(policy_text), broker_policy_vocabulary(),
			      &config.policy, &problem));
	REQUIRE(!broker_new(&config, &broker));
	return broker;
}

static struct broker_session *session_start(struct broker *broker, const char *socket)
{
	struct broker_peer peer = {.socket = socket, .uid = 1000, .gid = 1000, .pid = 1};
	struct broker_session *session;
	bool refused;

	REQUIRE(!broker_session_open(broker, &peer, NULL, &refused, &session) && !refused);
	return session;
}

static void call(struct broker *broker, struct broker_session *session, const char *method,
		 const ProtobufCMessage *request)
{
	uint8_t bytes[1024];
	size_t n = protobuf_c_message_pack(request, bytes);

	REQUIRE(host_call(&host, broker, session, method, bytes, n) == 0);
}

/* Memory 1, IOASID 2, one device. */
static void prepare(struct broker *broker, struct broker_session *session)
{
	Ioasid__V1__OpenTicketRequest ticket = IOASID__V1__OPEN_TICKET_REQUEST__INIT;
	Ioasid__V1__RegisterMemoryRequest memory = IOASID__V1__REGISTER_MEMORY_REQUEST__INIT;
	Ioasid__V1__ClaimDeviceRequest claim = IOASID__V1__CLAIM_DEVICE_REQUEST__INIT;
	Ioasid__V1__AllocRequest alloc = IOASID__V1__ALLOC_REQUEST__INIT;
	struct broker_peer peer = {.socket = "tenants", .uid = 1000, .gid = 1000, .pid = 1};
	Ioasid__V1__OpenTicketResponse *given;
	char *devices[] = {(char *)"0000:01:00.0"};
	static char content[MEMORY_SIZE];
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	REQUIRE(fd >= 0 && write(fd, content, sizeof(content)) == sizeof(content));
	REQUIRE(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	ticket.purpose = IOASID__V1__TICKET_PURPOSE__TICKET_PURPOSE_MEMORY;
	call(broker, session, "/ioasid.v1.Broker/OpenTicket", &ticket.base);
	given = ioasid__v1__open_ticket_response__unpack(NULL, host.n_response, host.response);
	REQUIRE(given && given->ticket.len == 16);
	REQUIRE(!broker_ticket_give(broker, &peer, given->ticket.data, fd));
	memory.ticket = given->ticket;
	memory.read = memory.write = 1;
	call(broker, session, "/ioasid.v1.Broker/RegisterMemory", &memory.base);
	ioasid__v1__open_ticket_response__free_unpacked(given, NULL);
	claim.devices = devices;
	claim.n_devices = 1;
	call(broker, session, "/ioasid.v1.Broker/ClaimDevice", &claim.base);
	alloc.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	alloc.devices = devices;
	alloc.n_devices = 1;
	call(broker, session, "/ioasid.v1.Broker/Alloc", &alloc.base);
}

static size_t count_methods(void)
{
	size_t n = 0;

	while (broker_method_at(n))
		n++;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct broker_session *tenant, *admin;
	size_t n_methods = count_methods();
	struct broker *broker;
	struct shim *shim;

	broker = broker_start(&shim);
	tenant = session_start(broker, "tenants");
	admin = session_start(broker, "admin");
	prepare(broker, tenant);
	while (size >= 3) {
		const struct broker_method *method = broker_method_at((data[0] & 0x7f) % n_methods);
		struct broker_session *session = data[0] & 0x80 ? admin : tenant;
		size_t length = data[1] | (size_t)data[2] << 8;

		data += 3;
		size -= 3;
		if (length > size)
			length = size;
		/* A stream stays open until the session ends; its calls are not waited for. */
		if (!broker_method_is_streaming(method))
			host_call(&host, broker, session, broker_method_path(method), data, length);
		host.now_us += 1000;
		broker_tick(broker);
		data += length;
		size -= length;
	}
	broker_session_close(tenant);
	broker_session_close(admin);
	broker_shutdown(broker);
	host_pump(&host, broker);
	REQUIRE(broker_drained(broker));
	/* Asserts that every counter is zero. */
	broker_free(broker);
	shim_free(shim);
	return 0;
}
