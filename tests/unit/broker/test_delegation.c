/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases whose context is their process's: who may, what is charged for how long, whom the end of
 * the lease ends, and that a restart changes none of it.  The broker runs on the host of
 * tests/failnth; contexts, descriptors and last holders are the failing shim's.
 */
#include "kernel-shim/fail/fail.h"
#include "kernel-shim/soft/soft.h"
#include "policy/policy.h"
#include "registry/registry.h"
#include "server/broker/broker.h"
#include "tests/failnth/host.h"

#include "ioasid.pb-c.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define B "/ioasid.v1.Broker/"

#define OK		    0
#define INVALID_ARGUMENT    3
#define PERMISSION_DENIED   7
#define RESOURCE_EXHAUSTED  8
#define FAILED_PRECONDITION 9
#define UNIMPLEMENTED	    12

#define DEVICE	"0000:01:00.0"
#define IOASIDS 4
#define BYTES	(UINT64_C(1) << 20)

enum who { MINE, THEIRS, N_SESSIONS };

struct fixture {
	struct host host;
	struct registry *registry;
	char folder[64];
	struct broker *broker;
	struct shim *shim;
	struct broker_session *sessions[N_SESSIONS];
};

/* mine: 4 IOASIDs and 1 MiB by each of the three counts; theirs: not delegated. */
static const char policy_text[] =
	"{\"version\":1,\"tenants\":{\"mine\":{\"devices\":[{\"any\":true}],\"delegate\":true,"
	"\"limits\":{\"ioasids\":4,\"pinned_bytes\":\"1M\",\"kept_fds\":16}},"
	"\"theirs\":{\"devices\":[{\"any\":true}]}},\"identities\":["
	"{\"socket\":\"tenants\",\"uid\":1000,\"role\":\"tenant\",\"tenant\":\"mine\"},"
	"{\"socket\":\"tenants\",\"uid\":1001,\"role\":\"tenant\",\"tenant\":\"theirs\"}]}";

static int call(struct fixture *f, enum who who, const char *method, const ProtobufCMessage *q)
{
	uint8_t bytes[1024];
	size_t n = protobuf_c_message_pack(q, bytes);

	return host_call(&f->host, f->broker, f->sessions[who], method, bytes, n);
}

static struct broker_peer peer(enum who who)
{
	return (struct broker_peer){
		.socket = "tenants", .uid = 1000 + who, .gid = 1000 + who, .pid = getpid()};
}

static void broker_start(struct fixture *f, bool wrapped)
{
	static const struct registry_boot_id boot = {{1}};
	struct broker_config config = {.host_ops = &host_ops, .host = &f->host};
	struct registry_problem damage;
	struct registry_image *image = NULL;
	struct policy_problem problem;
	struct soft_problem trouble;
	struct shim *soft;
	bool refused;

	assert_int_equal(soft_shim_new(NULL, NULL, &soft, &trouble), 0);
	f->shim = soft;
	if (wrapped)
		assert_int_equal(fail_shim_new(soft, &f->shim), 0);
	config.shim = f->shim;
	assert_int_equal(policy_parse("p.json", policy_text, strlen(policy_text),
				      broker_policy_vocabulary(), &config.policy, &problem),
			 0);
	assert_int_equal(broker_new(&config, &f->broker), 0);
	assert_int_equal(registry_open(f->folder, &f->registry, &image, &damage), 0);
	assert_int_equal(broker_restore(f->broker, f->registry, image, &boot, 1000000, NULL), 0);
	registry_image_free(image);
	for (int i = 0; i < N_SESSIONS; i++) {
		struct broker_peer p = peer(i);

		assert_int_equal(
			broker_session_open(f->broker, &p, NULL, &refused, &f->sessions[i]), 0);
	}
}

/* broker_free() asserts that every counter is zero. */
static void broker_stop(struct fixture *f)
{
	broker_shutdown(f->broker);
	for (int i = 0; i < N_SESSIONS; i++)
		broker_session_close(f->sessions[i]);
	host_pump(&f->host, f->broker);
	assert_true(broker_drained(f->broker));
	broker_free(f->broker);
	registry_close(f->registry);
	shim_free(f->shim);
}

static int setup_on(void **state, bool wrapped)
{
	static struct fixture fixture;
	struct fixture *f = *state = &fixture;
	const char *tmp = getenv("TMPDIR") ?: "/tmp";

	memset(f, 0, sizeof(*f));
	host_init(&f->host);
	snprintf(f->folder, sizeof(f->folder), "%.40s/delegate-XXXXXX", tmp);
	assert_non_null(mkdtemp(f->folder));
	broker_start(f, wrapped);
	return 0;
}

static int setup(void **state)
{
	return setup_on(state, true);
}

static int setup_plain(void **state)
{
	return setup_on(state, false);
}

static int teardown(void **state)
{
	static const char *const names[] = {"lock", "log", "log.new"};
	struct fixture *f = *state;
	char path[80];

	broker_stop(f);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", f->folder, names[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(f->folder), 0);
	return 0;
}

/* ---- requests ---- */

/* A ticket with this process's pidfd. */
static void process_ticket(struct fixture *f, enum who who, uint8_t ret_ticket[static 16])
{
	Ioasid__V1__OpenTicketRequest q = IOASID__V1__OPEN_TICKET_REQUEST__INIT;
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	struct broker_peer p = peer(who);
	Ioasid__V1__OpenTicketResponse *r;

	q.purpose = IOASID__V1__TICKET_PURPOSE__TICKET_PURPOSE_PROCESS;
	assert_int_equal(call(f, who, B "OpenTicket", &q.base), OK);
	r = ioasid__v1__open_ticket_response__unpack(NULL, f->host.n_response, f->host.response);
	memcpy(ret_ticket, r->ticket.data, 16);
	ioasid__v1__open_ticket_response__free_unpacked(r, NULL);
	assert_int_equal(broker_ticket_give(f->broker, &p, ret_ticket, fd), 0);
}

/* An amount of UINT64_MAX: that limit is left out. */
static int open_lease(struct fixture *f, enum who who, const char *name, bool with_process,
		      uint64_t ioasids, uint64_t bytes)
{
	Ioasid__V1__OpenLeaseRequest q = IOASID__V1__OPEN_LEASE_REQUEST__INIT;
	Ioasid__V1__ResourceAmount amounts[2], *limits[2];
	uint8_t ticket[16];

	q.name = (char *)name;
	q.delegate = true;
	q.limits = limits;
	for (int i = 0; i < 2; i++) {
		ioasid__v1__resource_amount__init(&amounts[i]);
		amounts[i].resource = (char *)(i ? "registered_bytes" : "ioasids");
		amounts[i].amount = i ? bytes : ioasids;
		if (amounts[i].amount != UINT64_MAX)
			q.limits[q.n_limits++] = &amounts[i];
	}
	if (with_process) {
		process_ticket(f, who, ticket);
		q.keep = true;
		q.watch_ticket.data = ticket;
		q.watch_ticket.len = sizeof(ticket);
	}
	return call(f, who, B "OpenLease", &q.base);
}

static int open_mine(struct fixture *f, const char *name, uint64_t ioasids, uint64_t bytes)
{
	return open_lease(f, MINE, name, true, ioasids, bytes);
}

#define IN_LEASE(request, name)                                                                    \
	Ioasid__V1__Scope scope = IOASID__V1__SCOPE__INIT;                                         \
	scope.lease = (char *)(name);                                                              \
	(request).scope = &scope

static int close_lease(struct fixture *f, const char *name)
{
	Ioasid__V1__CloseLeaseRequest q = IOASID__V1__CLOSE_LEASE_REQUEST__INIT;
	IN_LEASE(q, name);

	return call(f, MINE, B "CloseLease", &q.base);
}

static int claim(struct fixture *f, enum who who, const char *name)
{
	Ioasid__V1__ClaimDeviceRequest q = IOASID__V1__CLAIM_DEVICE_REQUEST__INIT;
	char *device = (char *)DEVICE;
	IN_LEASE(q, name);

	q.devices = &device;
	q.n_devices = 1;
	return call(f, who, B "ClaimDevice", &q.base);
}

static int get_context(struct fixture *f, const char *name)
{
	Ioasid__V1__GetContextFdRequest q = IOASID__V1__GET_CONTEXT_FD_REQUEST__INIT;
	IN_LEASE(q, name);

	return call(f, MINE, B "GetContextFd", &q.base);
}

static int get_device(struct fixture *f, const char *name)
{
	Ioasid__V1__GetDeviceFdRequest q = IOASID__V1__GET_DEVICE_FD_REQUEST__INIT;
	IN_LEASE(q, name);

	q.device = (char *)DEVICE;
	return call(f, MINE, B "GetDeviceFd", &q.base);
}

/* What the tenant itself is charged of a resource. */
static uint64_t own(struct fixture *f, const char *resource)
{
	Ioasid__V1__GetQuotaRequest q = IOASID__V1__GET_QUOTA_REQUEST__INIT;
	Ioasid__V1__GetQuotaResponse *r;
	uint64_t found = UINT64_MAX;

	assert_int_equal(call(f, MINE, B "GetQuota", &q.base), OK);
	r = ioasid__v1__get_quota_response__unpack(NULL, f->host.n_response, f->host.response);
	for (size_t i = 0; i < r->n_resources; i++)
		if (!strcmp(r->resources[i]->resource, resource))
			found = r->resources[i]->own;
	ioasid__v1__get_quota_response__free_unpacked(r, NULL);
	return found;
}

static void assert_charged(struct fixture *f, uint64_t ioasids, uint64_t bytes)
{
	assert_int_equal(own(f, "ioasids"), ioasids);
	assert_int_equal(own(f, "ioasids_kernel"), ioasids);
	assert_int_equal(own(f, "registered_bytes"), bytes);
	assert_int_equal(own(f, "mapped_bytes"), bytes);
	assert_int_equal(own(f, "pinned_bytes"), bytes);
}

/* ---- tests ---- */

static void test_who_may(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(open_lease(f, THEIRS, "v", true, 1, 4096), PERMISSION_DENIED);
	assert_string_equal(f->host.reason, "POLICY_FORBIDDEN");
	assert_non_null(strstr(f->host.message, "no tenant of the chain has \"delegate\": true"));
	assert_int_equal(open_mine(f, "v", 1, 4096), OK);
}

static void test_shim_that_cannot(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(open_mine(f, "v", 1, 4096), UNIMPLEMENTED);
	assert_string_equal(f->host.message,
			    "delegate: shim \"soft\" has no contexts to give away");
	assert_charged(f, 0, 0);
}

static void test_fields(void **state)
{
	static const struct {
		bool with_process;
		uint64_t ioasids, bytes;
		const char *word;
	} bad[] = {
		{false, 1, 4096, "watch_ticket"},
		{true, UINT64_MAX, 4096, "both"},
		{true, 1, UINT64_MAX, "both"},
		{true, 0, 4096, "not 0"},
		{true, 1, 0, "not 0"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(
			open_lease(f, MINE, "v", bad[i].with_process, bad[i].ioasids, bad[i].bytes),
			INVALID_ARGUMENT);
		assert_non_null(strstr(f->host.message, bad[i].word));
		assert_charged(f, 0, 0);
	}
}

/* n is allowed, n + 1 refused, and what no counter holds; in full, and at once. */
static void test_limits(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(open_mine(f, "v", IOASIDS + 1, BYTES), RESOURCE_EXHAUSTED);
	assert_non_null(strstr(f->host.message, "ioasids"));
	assert_int_equal(open_mine(f, "v", IOASIDS, BYTES + 1), RESOURCE_EXHAUSTED);
	assert_non_null(strstr(f->host.message, "pinned_bytes"));
	assert_int_equal(open_mine(f, "v", UINT64_MAX - 1, BYTES), RESOURCE_EXHAUSTED);
	assert_int_equal(open_mine(f, "v", IOASIDS, UINT64_MAX - 1), RESOURCE_EXHAUSTED);
	assert_charged(f, 0, 0);
	assert_int_equal(open_mine(f, "v", IOASIDS, BYTES), OK);
	assert_charged(f, IOASIDS, BYTES);
	assert_int_equal(open_mine(f, "w", 1, 1), RESOURCE_EXHAUSTED);
	assert_int_equal(close_lease(f, "v"), OK);
	assert_charged(f, 0, 0);
	assert_int_equal(open_mine(f, "w", 1, 1), OK);
	assert_charged(f, 1, 1);
}

/* Nothing of the broker's in it. */
static void test_nothing_is_made(void **state)
{
	Ioasid__V1__RegisterMemoryRequest memory = IOASID__V1__REGISTER_MEMORY_REQUEST__INIT;
	Ioasid__V1__OpenDmaServiceRequest dma = IOASID__V1__OPEN_DMA_SERVICE_REQUEST__INIT;
	Ioasid__V1__NegotiateRequest negotiate = IOASID__V1__NEGOTIATE_REQUEST__INIT;
	Ioasid__V1__CreateVmRequest vm = IOASID__V1__CREATE_VM_REQUEST__INIT;
	Ioasid__V1__AllocRequest alloc = IOASID__V1__ALLOC_REQUEST__INIT;
	const struct {
		const char *method;
		const ProtobufCMessage *request;
	} calls[] = {
		{B "Alloc", &alloc.base},	    {B "Negotiate", &negotiate.base},
		{B "RegisterMemory", &memory.base}, {B "CreateVm", &vm.base},
		{B "OpenDmaService", &dma.base},
	};
	struct fixture *f = *state;
	IN_LEASE(alloc, "v");

	alloc.kind = IOASID__V1__IOASID_KIND__IOASID_KIND_KERNEL;
	negotiate.alloc = &alloc;
	memory.scope = dma.scope = vm.scope = &scope;
	assert_int_equal(open_mine(f, "v", 1, 4096), OK);
	assert_int_equal(claim(f, MINE, "v"), OK);
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		assert_int_equal(call(f, MINE, calls[i].method, calls[i].request),
				 FAILED_PRECONDITION);
		assert_string_equal(f->host.reason, "WRONG_STATE");
	}
	/* In another lease of the same connection they go as ever. */
	scope.lease = (char *)"";
	assert_int_equal(call(f, MINE, B "Alloc", &alloc.base), OK);
	assert_int_equal(get_context(f, ""), FAILED_PRECONDITION);
	assert_string_equal(f->host.reason, "WRONG_STATE");
}

/* Whoever has nothing of it is not ended. */
static void test_who_is_ended(void **state)
{
	static int (*const give[])(struct fixture *, const char *) = {get_context, get_device};
	struct fixture *f = *state;

	assert_int_equal(open_mine(f, "v", 1, 4096), OK);
	assert_int_equal(close_lease(f, "v"), OK);
	assert_int_equal(open_mine(f, "v", 1, 4096), OK);
	assert_int_equal(claim(f, MINE, "v"), OK);
	assert_int_equal(close_lease(f, "v"), OK);
	assert_int_equal(fail_shim_holders_ended(f->shim), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(open_mine(f, "v", 1, 4096), OK);
		assert_int_equal(claim(f, MINE, "v"), OK);
		assert_int_equal(give[i](f, "v"), OK);
		assert_int_equal(close_lease(f, "v"), OK);
		assert_int_equal(fail_shim_holders_ended(f->shim), i + 1);
		assert_charged(f, 0, 0);
	}
}

static void let_go(struct fixture *f)
{
	fail_shim_hold(f->shim, false);
	f->host.now_us += 200000;
	host_pump(&f->host, f->broker);
}

/* Somebody has its device still: charged, and nobody's, until that is closed. */
static void test_charged_until_free(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(open_mine(f, "v", IOASIDS, BYTES), OK);
	assert_int_equal(claim(f, MINE, "v"), OK);
	assert_int_equal(get_context(f, "v"), OK);
	fail_shim_hold(f->shim, true);
	assert_int_equal(close_lease(f, "v"), OK);
	assert_charged(f, IOASIDS, BYTES);
	assert_int_equal(own(f, "devices"), 1);
	assert_int_equal(open_mine(f, "w", 1, 1), RESOURCE_EXHAUSTED);
	assert_int_equal(claim(f, THEIRS, ""), FAILED_PRECONDITION);
	let_go(f);
	assert_charged(f, 0, 0);
	assert_int_equal(own(f, "devices"), 0);
	assert_int_equal(open_mine(f, "w", IOASIDS, BYTES), OK);
	assert_int_equal(claim(f, THEIRS, ""), OK);
}

static void restart(struct fixture *f)
{
	broker_ending(f->broker);
	broker_stop(f);
	f->host.first = NULL;
	f->host.last = &f->host.first;
	broker_start(f, true);
	host_pump(&f->host, f->broker);
}

static int adopt(struct fixture *f, const char *name, const uint8_t *secret)
{
	Ioasid__V1__AdoptLeaseRequest q = IOASID__V1__ADOPT_LEASE_REQUEST__INIT;

	q.name = (char *)name;
	q.secret.data = (uint8_t *)secret;
	q.secret.len = 32;
	return call(f, MINE, B "AdoptLease", &q.base);
}

/* What it costs, and that it was given, the next broker knows. */
static void restart_once(struct fixture *f, bool again)
{
	Ioasid__V1__OpenLeaseResponse *r;
	uint8_t secret[32];

	assert_int_equal(open_mine(f, "v", 3, 8192), OK);
	r = ioasid__v1__open_lease_response__unpack(NULL, f->host.n_response, f->host.response);
	memcpy(secret, r->secret.data, sizeof(secret));
	ioasid__v1__open_lease_response__free_unpacked(r, NULL);
	assert_int_equal(claim(f, MINE, "v"), OK);
	assert_int_equal(get_context(f, "v"), OK);
	restart(f);
	assert_charged(f, 3, 8192);
	assert_int_equal(adopt(f, "v", secret), OK);
	if (again)
		assert_int_equal(get_context(f, "v"), OK);
	assert_int_equal(close_lease(f, "v"), OK);
	assert_int_equal(fail_shim_holders_ended(f->shim), 1);
	assert_charged(f, 0, 0);
}

static void test_restart(void **state)
{
	restart_once(*state, false);
	restart_once(*state, true);
}

/* Held devices, too. */
static void test_restart_while_held(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(open_mine(f, "v", 3, 8192), OK);
	assert_int_equal(claim(f, MINE, "v"), OK);
	assert_int_equal(get_device(f, "v"), OK);
	fail_shim_hold(f->shim, true);
	assert_int_equal(close_lease(f, "v"), OK);
	assert_charged(f, 3, 8192);
	restart(f);
	/* Until the first look at it. */
	assert_charged(f, 3, 8192);
	let_go(f);
	assert_charged(f, 0, 0);
	assert_int_equal(own(f, "devices"), 0);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_who_may),
		cmocka_unit_test_setup_teardown(test_shim_that_cannot, setup_plain, teardown),
		T(test_fields),
		T(test_limits),
		T(test_nothing_is_made),
		T(test_who_is_ended),
		T(test_charged_until_free),
		T(test_restart),
		T(test_restart_while_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
