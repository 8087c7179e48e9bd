/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One lock for everything; handlers run on threads of their own.  A restart replaces the fake
 * broker below and keeps the leases, or not.  The thread that revives is the only one that
 * frees a fake broker, so that a handler may kill the one that it runs in.
 */
#include "model_broker.h"
#include "fake_broker.h"
#include "wire.h"

#include "ioasid.pb-c.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEASES_MAX  64
#define KEYS_MAX    4096
#define OBJECTS_MAX 4096
#define METHODS_MAX 64
#define TICKETS_MAX 256
#define EVENTS_MAX  1024

static void check(bool ok, const char *text)
{
	if (ok)
		return;
	fprintf(stderr, "model broker: %s\n", text);
	abort();
}

struct lease {
	bool there;
	char name[64];
	uint64_t holder;
	bool awaited;
	uint64_t next_id;
	char open_key[65];
	uint8_t secret[32];
};

struct key {
	struct lease *lease;
	char key[65];
	char method[32];
	uint8_t request[512];
	size_t n_request;
	uint64_t answer;
};

struct object {
	struct lease *lease;
	uint64_t id;
};

struct ticket {
	uint64_t number;
	struct lease *lease;
	bool given;
	unsigned life;
};

struct count {
	char method[32];
	unsigned calls;
	unsigned effects;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct model_options options;
	struct fake_broker *broker;
	char directory[32];
	char path[48];
	/* Starts so far. */
	unsigned life;
	bool dead;
	unsigned reconciling;
	unsigned delay_ms;
	uint64_t n_events;
	uint64_t first_event;

	struct lease leases[LEASES_MAX];
	struct key keys[KEYS_MAX];
	size_t n_keys;
	struct object objects[OBJECTS_MAX];
	size_t n_objects;
	struct ticket tickets[TICKETS_MAX];
	size_t n_tickets;
	struct count counts[METHODS_MAX];
	uint64_t connections[1024];
	size_t n_connections;

	char die_method[32];
	unsigned die_nth;
	enum model_moment die_moment;
	unsigned pause_ms;
	bool reviving;
	pthread_t reviver;
	bool reviver_made;
} m = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct count *count_of(const char *method)
{
	size_t i = 0;

	while (i < METHODS_MAX && *m.counts[i].method && strcmp(m.counts[i].method, method))
		i++;
	check(i < METHODS_MAX, "too many methods");
	snprintf(m.counts[i].method, sizeof(m.counts[i].method), "%s", method);
	return &m.counts[i];
}

static void refuse(struct fake_call *call, int code, const char *reason, const char *field)
{
	struct wire wire, bad = {.n = 0}, violation = {.n = 0};

	wire_status(&wire, code, reason);
	wire_error_info(&wire, reason, NULL, NULL);
	if (field) {
		wire_text(&violation, 1, field);
		wire_text(&violation, 2, "unknown");
		wire_message(&bad, 1, &violation);
		wire_detail(&wire, "google.rpc.BadRequest", &bad);
	}
	fake_call_finish(call, code, reason, wire.bytes, wire.n);
}

/* ---- leases, under lock ---- */

static struct lease *lease_held(uint64_t connection, const char *name)
{
	for (size_t i = 0; i < LEASES_MAX; i++)
		if (m.leases[i].there && !m.leases[i].awaited && m.leases[i].holder == connection &&
		    !strcmp(m.leases[i].name, name))
			return &m.leases[i];
	return NULL;
}

static struct lease *lease_named(const char *name)
{
	for (size_t i = 0; i < LEASES_MAX; i++)
		if (m.leases[i].there && !strcmp(m.leases[i].name, name))
			return &m.leases[i];
	return NULL;
}

static struct lease *lease_new(uint64_t connection, const char *name)
{
	struct lease *lease = m.leases;

	while (lease < m.leases + LEASES_MAX && lease->there)
		lease++;
	check(lease < m.leases + LEASES_MAX, "too many leases");
	*lease = (struct lease){.there = true, .holder = connection, .next_id = 1};
	snprintf(lease->name, sizeof(lease->name), "%s", name);
	return lease;
}

static void lease_end(struct lease *lease)
{
	size_t n = 0;

	lease->there = false;
	for (size_t i = 0; i < m.n_keys; i++)
		if (m.keys[i].lease != lease)
			m.keys[n++] = m.keys[i];
	m.n_keys = n;
	n = 0;
	for (size_t i = 0; i < m.n_objects; i++)
		if (m.objects[i].lease != lease)
			m.objects[n++] = m.objects[i];
	m.n_objects = n;
}

static struct object *object_find(struct lease *lease, uint64_t id)
{
	for (size_t i = 0; i < m.n_objects; i++)
		if (m.objects[i].lease == lease && m.objects[i].id == id)
			return &m.objects[i];
	return NULL;
}

/* ---- life and death ---- */

static void handler(struct fake_call *call, const char *path, void *userdata);
static void fd_handler(int connection, const uint8_t request[static 32], int fd, void *userdata);

/* Not under lock. */
static void revive(void)
{
	struct fake_broker *old = m.broker, *new;

	fake_broker_free(old);
	pthread_mutex_lock(&m.lock);
	m.life++;
	m.reconciling = m.options.reconciling;
	for (size_t i = 0; i < LEASES_MAX; i++) {
		if (!m.leases[i].there)
			continue;
		if (m.options.registry && !m.options.no_grace)
			m.leases[i].awaited = true;
		else
			lease_end(&m.leases[i]);
	}
	m.first_event = m.n_events;
	if (m.options.counts_anew)
		m.n_events = m.first_event = 0;
	m.dead = false;
	pthread_mutex_unlock(&m.lock);
	new = fake_broker_new_at(m.path, handler, fd_handler, NULL);
	pthread_mutex_lock(&m.lock);
	m.broker = new;
	m.reviving = false;
	pthread_cond_broadcast(&m.changed);
	pthread_mutex_unlock(&m.lock);
}

static void *reviver(void *argument)
{
	poll(NULL, 0, (int)m.pause_ms);
	revive();
	return NULL;
}

/* Under lock. */
static void die(void)
{
	while (m.reviving && !m.dead)
		pthread_cond_wait(&m.changed, &m.lock);
	if (m.dead)
		return;
	m.dead = true;
	m.reviving = true;
	*m.die_method = 0;
	pthread_cond_broadcast(&m.changed);
	fake_broker_kill(m.broker);
	if (m.reviver_made)
		pthread_join(m.reviver, NULL);
	m.reviver_made = true;
	check(!pthread_create(&m.reviver, NULL, reviver, NULL), "no thread");
}

/* Under lock: is this the moment?  Then it is dead. */
static bool dies(const char *method, enum model_moment moment)
{
	if (strcmp(m.die_method, method) || m.die_moment != moment || --m.die_nth)
		return false;
	die();
	return true;
}

void model_kill(void)
{
	pthread_mutex_lock(&m.lock);
	while (m.reviving)
		pthread_cond_wait(&m.changed, &m.lock);
	check(!m.dead, "killed twice");
	m.dead = true;
	pthread_cond_broadcast(&m.changed);
	fake_broker_kill(m.broker);
	pthread_mutex_unlock(&m.lock);
}

void model_revive(void)
{
	revive();
}

void model_die_at(const char *method, unsigned nth, enum model_moment moment, unsigned pause_ms)
{
	pthread_mutex_lock(&m.lock);
	snprintf(m.die_method, sizeof(m.die_method), "%s", method);
	m.die_nth = nth;
	m.die_moment = moment;
	m.pause_ms = pause_ms;
	pthread_mutex_unlock(&m.lock);
}

void model_wait_revived(void)
{
	pthread_mutex_lock(&m.lock);
	while (m.reviving)
		pthread_cond_wait(&m.changed, &m.lock);
	pthread_mutex_unlock(&m.lock);
}

void model_start(const struct model_options *options)
{
	pthread_mutex_lock(&m.lock);
	m.options = *options;
	m.life = 1;
	m.dead = m.reviving = m.reviver_made = false;
	m.reconciling = m.delay_ms = 0;
	m.n_events = m.first_event = 0;
	m.n_keys = m.n_objects = m.n_tickets = m.n_connections = 0;
	memset(m.leases, 0, sizeof(m.leases));
	memset(m.counts, 0, sizeof(m.counts));
	*m.die_method = 0;
	pthread_mutex_unlock(&m.lock);
	strcpy(m.directory, "/tmp/ioasid-model-XXXXXX");
	check(mkdtemp(m.directory), "no directory");
	snprintf(m.path, sizeof(m.path), "%s/s", m.directory);
	m.broker = fake_broker_new_at(m.path, handler, fd_handler, NULL);
}

void model_stop(void)
{
	model_wait_revived();
	if (m.reviver_made)
		pthread_join(m.reviver, NULL);
	pthread_mutex_lock(&m.lock);
	m.dead = true;
	pthread_cond_broadcast(&m.changed);
	pthread_mutex_unlock(&m.lock);
	fake_broker_free(m.broker);
	unlink(m.path);
	rmdir(m.directory);
}

const char *model_path(void)
{
	return m.path;
}

void model_delay(unsigned ms)
{
	pthread_mutex_lock(&m.lock);
	m.delay_ms = ms;
	pthread_mutex_unlock(&m.lock);
}

void model_event(void)
{
	pthread_mutex_lock(&m.lock);
	m.n_events++;
	pthread_cond_broadcast(&m.changed);
	pthread_mutex_unlock(&m.lock);
}

/* ---- what a test asks ---- */

#define ASK(type, expression)                                                                      \
	do {                                                                                       \
		type value_;                                                                       \
                                                                                                   \
		pthread_mutex_lock(&m.lock);                                                       \
		value_ = (expression);                                                             \
		pthread_mutex_unlock(&m.lock);                                                     \
		return value_;                                                                     \
	} while (0)

unsigned model_calls(const char *method)
{
	ASK(unsigned, count_of(method)->calls);
}

unsigned model_effects(const char *method)
{
	ASK(unsigned, count_of(method)->effects);
}

static unsigned n_leases(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < LEASES_MAX; i++)
		n += m.leases[i].there;
	return n;
}

unsigned model_leases(void)
{
	ASK(unsigned, n_leases());
}

unsigned model_connections(void)
{
	ASK(unsigned, (unsigned)m.n_connections);
}

bool model_has(const char *lease, uint64_t id)
{
	ASK(bool, lease_named(lease) && object_find(lease_named(lease), id));
}

/* ---- requests ---- */

struct request {
	struct fake_call *call;
	const char *method;
	uint64_t connection;
	const Ioasid__V1__Scope *scope;
};

/* Under lock.  0: go on; 1: answered already, *ret_answer; -1: refused. */
static int begin(struct request *r, bool makes, struct lease **ret_lease, uint64_t *ret_answer)
{
	struct lease *lease = lease_held(r->connection, r->scope->lease);
	size_t n;
	const uint8_t *bytes = fake_call_request(r->call, &n);

	if (!lease && makes && !*r->scope->lease)
		lease = lease_new(r->connection, "");
	if (!lease) {
		refuse(r->call, 5, "NOT_FOUND", NULL);
		return -1;
	}
	*ret_lease = lease;
	for (size_t i = 0; *r->scope->key && i < m.n_keys; i++) {
		const struct key *k = &m.keys[i];

		if (k->lease != lease || strcmp(k->key, r->scope->key))
			continue;
		if (strcmp(k->method, r->method) || k->n_request != n ||
		    memcmp(k->request, bytes, n)) {
			refuse(r->call, 6, "KEY_REUSED", NULL);
			return -1;
		}
		*ret_answer = k->answer;
		return 1;
	}
	return 0;
}

/* Under lock: the effect has happened. */
static void keep(struct request *r, struct lease *lease, uint64_t answer)
{
	struct key *k;
	size_t n;
	const uint8_t *bytes = fake_call_request(r->call, &n);

	count_of(r->method)->effects++;
	if (!*r->scope->key)
		return;
	/* The oldest make way. */
	if (m.n_keys == KEYS_MAX) {
		m.n_keys /= 2;
		memmove(m.keys, m.keys + m.n_keys, m.n_keys * sizeof(*m.keys));
	}
	k = &m.keys[m.n_keys];
	check(n <= sizeof(k->request), "a request with a key is too long");
	m.n_keys++;
	*k = (struct key){.lease = lease, .n_request = n, .answer = answer};
	snprintf(k->key, sizeof(k->key), "%s", r->scope->key);
	snprintf(k->method, sizeof(k->method), "%s", r->method);
	memcpy(k->request, bytes, n);
}

static uint64_t object_new(struct lease *lease)
{
	uint64_t id = lease->next_id++;

	check(m.n_objects < OBJECTS_MAX, "too many objects");
	m.objects[m.n_objects++] = (struct object){lease, id};
	return id;
}

/* Each returns with the lock, and whether the call is finished already. */

static bool do_alloc(struct request *r)
{
	Ioasid__V1__AllocResponse response = IOASID__V1__ALLOC_RESPONSE__INIT;
	Ioasid__V1__Choice choice = IOASID__V1__CHOICE__INIT;
	struct lease *lease;
	uint64_t id;
	int b;

	r->scope = ((Ioasid__V1__AllocRequest *)fake_call_unpack(
			    r->call, &ioasid__v1__alloc_request__descriptor))
			   ->scope;
	b = begin(r, true, &lease, &id);
	if (b < 0)
		return true;
	if (!b) {
		id = object_new(lease);
		keep(r, lease, id);
	}
	if (dies(r->method, MODEL_AFTER))
		return false;
	response.ioasid = id;
	response.choice = &choice;
	fake_call_reply(r->call, &response.base);
	return true;
}

static bool do_free(struct request *r)
{
	Ioasid__V1__FreeResponse response = IOASID__V1__FREE_RESPONSE__INIT;
	Ioasid__V1__FreeRequest *q =
		fake_call_unpack(r->call, &ioasid__v1__free_request__descriptor);
	struct object *object;
	struct lease *lease;
	uint64_t ignored;
	int b;

	r->scope = q->scope;
	b = begin(r, false, &lease, &ignored);
	if (b < 0)
		return true;
	if (!b) {
		object = object_find(lease, q->ioasid);
		if (!object) {
			refuse(r->call, 5, "NOT_FOUND", NULL);
			return true;
		}
		*object = m.objects[--m.n_objects];
		keep(r, lease, 0);
	}
	if (dies(r->method, MODEL_AFTER))
		return false;
	fake_call_reply(r->call, &response.base);
	return true;
}

static bool do_list(struct request *r)
{
	Ioasid__V1__ListIoasidsResponse response = IOASID__V1__LIST_IOASIDS_RESPONSE__INIT;
	Ioasid__V1__Ioasid items[64], *pointers[64];
	struct lease *lease;

	r->scope = ((Ioasid__V1__ListIoasidsRequest *)fake_call_unpack(
			    r->call, &ioasid__v1__list_ioasids_request__descriptor))
			   ->scope;
	lease = lease_held(r->connection, r->scope->lease);
	for (size_t i = 0; lease && i < m.n_objects && response.n_ioasids < 64; i++) {
		Ioasid__V1__Ioasid *item = &items[response.n_ioasids];

		if (m.objects[i].lease != lease)
			continue;
		ioasid__v1__ioasid__init(item);
		item->ioasid = m.objects[i].id;
		pointers[response.n_ioasids++] = item;
	}
	response.ioasids = pointers;
	if (dies(r->method, MODEL_AFTER))
		return false;
	fake_call_reply(r->call, &response.base);
	return true;
}

static bool do_open_ticket(struct request *r)
{
	Ioasid__V1__OpenTicketResponse response = IOASID__V1__OPEN_TICKET_RESPONSE__INIT;
	uint8_t bytes[16] = {0x77};
	struct ticket *ticket = &m.tickets[m.n_tickets];
	struct lease *lease;
	uint64_t ignored;

	r->scope = ((Ioasid__V1__OpenTicketRequest *)fake_call_unpack(
			    r->call, &ioasid__v1__open_ticket_request__descriptor))
			   ->scope;
	if (begin(r, true, &lease, &ignored) < 0)
		return true;
	check(m.n_tickets < TICKETS_MAX, "too many tickets");
	*ticket = (struct ticket){.number = ++m.n_tickets, .lease = lease, .life = m.life};
	if (dies(r->method, MODEL_AFTER))
		return false;
	memcpy(bytes + 8, &ticket->number, 8);
	response.ticket.len = 16;
	response.ticket.data = bytes;
	fake_call_reply(r->call, &response.base);
	return true;
}

static struct ticket *ticket_find(const uint8_t *bytes, size_t n)
{
	uint64_t number;

	check(n == 16, "a ticket has not 16 bytes");
	memcpy(&number, bytes + 8, 8);
	if (!number || number > m.n_tickets || m.tickets[number - 1].life != m.life)
		return NULL;
	return &m.tickets[number - 1];
}

static void fd_handler(int connection, const uint8_t request[static 32], int fd, void *userdata)
{
	uint8_t reply[16] = {'I', 'O', 'F', 'D', 1, 0};
	struct ticket *ticket;

	pthread_mutex_lock(&m.lock);
	count_of("give")->calls++;
	if (dies("give", MODEL_BEFORE)) {
		pthread_mutex_unlock(&m.lock);
		return;
	}
	ticket = ticket_find(request + 8, 16);
	if (ticket && fd >= 0)
		ticket->given = true;
	else
		reply[5] = 2;
	if (!dies("give", MODEL_AFTER))
		check(write(connection, reply, sizeof(reply)) == sizeof(reply), "no reply");
	pthread_mutex_unlock(&m.lock);
}

static bool do_register(struct request *r)
{
	Ioasid__V1__RegisterMemoryResponse response = IOASID__V1__REGISTER_MEMORY_RESPONSE__INIT;
	Ioasid__V1__RegisterMemoryRequest *q =
		fake_call_unpack(r->call, &ioasid__v1__register_memory_request__descriptor);
	struct ticket *ticket;
	struct lease *lease;
	uint64_t id;
	int b;

	r->scope = q->scope;
	b = begin(r, true, &lease, &id);
	if (b < 0)
		return true;
	if (!b) {
		ticket = ticket_find(q->ticket.data, q->ticket.len);
		if (!ticket || !ticket->given || ticket->lease != lease) {
			refuse(r->call, 7, "TICKET_REFUSED", NULL);
			return true;
		}
		ticket->life = 0;
		id = object_new(lease);
		keep(r, lease, id);
	}
	if (dies(r->method, MODEL_AFTER))
		return false;
	response.memory = id;
	response.length = 4096;
	fake_call_reply(r->call, &response.base);
	return true;
}

static bool do_open_lease(struct request *r)
{
	Ioasid__V1__OpenLeaseResponse response = IOASID__V1__OPEN_LEASE_RESPONSE__INIT;
	Ioasid__V1__OpenLeaseRequest *q =
		fake_call_unpack(r->call, &ioasid__v1__open_lease_request__descriptor);
	struct lease *lease = lease_named(q->name);

	r->scope = q->scope;
	if (lease && (!*q->scope->key || strcmp(lease->open_key, q->scope->key))) {
		refuse(r->call, 6, "NAME_TAKEN", NULL);
		return true;
	}
	if (!lease) {
		lease = lease_new(r->connection, q->name);
		snprintf(lease->open_key, sizeof(lease->open_key), "%s", q->scope->key);
		memset(lease->secret, (int)(r->connection + 1), sizeof(lease->secret));
		count_of(r->method)->effects++;
	}
	lease->holder = r->connection;
	lease->awaited = false;
	if (dies(r->method, MODEL_AFTER))
		return false;
	response.secret.len = 32;
	response.secret.data = lease->secret;
	fake_call_reply(r->call, &response.base);
	return true;
}

static bool do_adopt(struct request *r)
{
	Ioasid__V1__AdoptLeaseResponse response = IOASID__V1__ADOPT_LEASE_RESPONSE__INIT;
	Ioasid__V1__AdoptLeaseRequest *q =
		fake_call_unpack(r->call, &ioasid__v1__adopt_lease_request__descriptor);
	struct lease *lease = lease_named(q->name);

	r->scope = q->scope;
	if (!lease || q->secret.len != 32 || memcmp(q->secret.data, lease->secret, 32)) {
		refuse(r->call, 5, "NOT_FOUND", NULL);
		return true;
	}
	lease->holder = r->connection;
	lease->awaited = false;
	if (dies(r->method, MODEL_AFTER))
		return false;
	fake_call_reply(r->call, &response.base);
	return true;
}

static bool do_close(struct request *r)
{
	Ioasid__V1__CloseLeaseResponse response = IOASID__V1__CLOSE_LEASE_RESPONSE__INIT;
	struct lease *lease;

	r->scope = ((Ioasid__V1__CloseLeaseRequest *)fake_call_unpack(
			    r->call, &ioasid__v1__close_lease_request__descriptor))
			   ->scope;
	lease = lease_held(r->connection, r->scope->lease);
	if (!lease) {
		refuse(r->call, 5, "NOT_FOUND", NULL);
		return true;
	}
	lease_end(lease);
	count_of(r->method)->effects++;
	if (dies(r->method, MODEL_AFTER))
		return false;
	fake_call_reply(r->call, &response.base);
	return true;
}

static void token_of(uint64_t connection, uint8_t ret_token[32])
{
	memset(ret_token, 0xaa, 32);
	memcpy(ret_token, &connection, sizeof(connection));
}

static bool do_status(struct request *r)
{
	Ioasid__V1__GetStatusResponse response = IOASID__V1__GET_STATUS_RESPONSE__INIT;
	uint8_t token[32];

	token_of(r->connection, token);
	response.tenant = (char *)"org/a";
	response.role = (char *)"tenant";
	response.resume_token.len = 32;
	response.resume_token.data = token;
	response.registry_generation = m.options.registry ? m.life : 0;
	if (dies(r->method, MODEL_AFTER))
		return false;
	fake_call_reply(r->call, &response.base);
	return true;
}

static bool do_resume(struct request *r)
{
	Ioasid__V1__ResumeResponse response = IOASID__V1__RESUME_RESPONSE__INIT;
	Ioasid__V1__ResumeRequest *q =
		fake_call_unpack(r->call, &ioasid__v1__resume_request__descriptor);
	Ioasid__V1__Lease items[LEASES_MAX], *pointers[LEASES_MAX];
	uint64_t old;

	check(q->token.len == 32, "a token has not 32 bytes");
	memcpy(&old, q->token.data, sizeof(old));
	for (size_t i = 0; i < LEASES_MAX; i++) {
		struct lease *lease = &m.leases[i];
		Ioasid__V1__Lease *item = &items[response.n_leases];

		if (!lease->there || !lease->awaited || lease->holder != old)
			continue;
		lease->holder = r->connection;
		lease->awaited = false;
		ioasid__v1__lease__init(item);
		item->name = lease->name;
		item->tenant = (char *)"org/a";
		item->mine = true;
		pointers[response.n_leases++] = item;
	}
	response.leases = pointers;
	if (dies(r->method, MODEL_AFTER))
		return false;
	if (response.n_leases)
		fake_call_reply(r->call, &response.base);
	else
		refuse(r->call, 5, "NOT_FOUND", NULL);
	return true;
}

/* Sends what there is, waits for more, until death. */
static bool do_watch(struct request *r)
{
	Ioasid__V1__WatchEventsRequest *q =
		fake_call_unpack(r->call, &ioasid__v1__watch_events_request__descriptor);
	uint64_t next = q->after_sequence ? q->after_sequence + 1 : m.n_events + 1;
	unsigned life = m.life;

	if (q->after_sequence > m.n_events) {
		refuse(r->call, 3, "INVALID_FIELD", "after_sequence");
		return true;
	}
	count_of("WatchEvents")->effects++;
	while (!m.dead && m.life == life) {
		Ioasid__V1__Event event = IOASID__V1__EVENT__INIT;
		bool sent;

		if (next > m.n_events) {
			pthread_cond_wait(&m.changed, &m.lock);
			continue;
		}
		event.sequence = next++;
		event.type = IOASID__V1__EVENT_TYPE__EVENT_TYPE_ATTACHED;
		pthread_mutex_unlock(&m.lock);
		sent = fake_call_send(r->call, &event.base);
		pthread_mutex_lock(&m.lock);
		if (!sent)
			break;
	}
	return false;
}

static const struct {
	const char *method;
	bool (*run)(struct request *r);
} methods[] = {
	{"Alloc", do_alloc},
	{"Free", do_free},
	{"ListIoasids", do_list},
	{"OpenTicket", do_open_ticket},
	{"RegisterMemory", do_register},
	{"OpenLease", do_open_lease},
	{"AdoptLease", do_adopt},
	{"CloseLease", do_close},
	{"GetStatus", do_status},
	{"Resume", do_resume},
	{"WatchEvents", do_watch},
};

static void note_connection(uint64_t connection)
{
	for (size_t i = 0; i < m.n_connections; i++)
		if (m.connections[i] == connection)
			return;
	check(m.n_connections < 1024, "too many connections");
	m.connections[m.n_connections++] = connection;
}

static void handler(struct fake_call *call, const char *path, void *userdata)
{
	static const Ioasid__V1__Scope none = IOASID__V1__SCOPE__INIT;
	struct request r = {
		.call = call,
		.method = strrchr(path, '/') + 1,
		.connection = fake_call_connection(call),
		.scope = &none,
	};
	bool finished = false;

	pthread_mutex_lock(&m.lock);
	note_connection(r.connection);
	count_of(r.method)->calls++;
	if (m.delay_ms) {
		unsigned ms = m.delay_ms;

		pthread_mutex_unlock(&m.lock);
		poll(NULL, 0, (int)ms);
		pthread_mutex_lock(&m.lock);
	}
	if (m.reconciling) {
		m.reconciling--;
		refuse(call, 14, "RECONCILING", NULL);
		finished = true;
	} else if (!m.dead && !dies(r.method, MODEL_BEFORE)) {
		for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
			if (!strcmp(methods[i].method, r.method)) {
				finished = methods[i].run(&r);
				break;
			}
	}
	pthread_mutex_unlock(&m.lock);
	/* Nobody hears it any more. */
	if (!finished)
		fake_call_finish(call, 14, "", NULL, 0);
}
