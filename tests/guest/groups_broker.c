/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two edu of one IOMMU group, through the broker, with DMA of both.
 *
 *	groups_broker TENANTS-SOCKET ADMIN-SOCKET EDU EDU
 *
 * They are had together or not at all; one that is released goes to nobody before the other is
 * back; and whatever ends their lease ends the DMA of both, though the tenant keeps its fds,
 * and makes them free for the next tenant once those are closed.
 */
#include "director.h"

#define RW     (IOASID_READ | IOASID_WRITE)
#define SOURCE UINT64_C(0x100000)
#define TARGET UINT64_C(0x101000)

static const char *tenants, *edu[2];
static char both[64];
static struct ioasid_client *admin;
static uint64_t seed = 7;

/* Device n takes a fresh pattern from page 0 into its buffer. */
static void load(struct actor *actor, unsigned n)
{
	seed++;
	must(DO(actor, ACT_FILL, .a = 0, .b = seed), "fill");
	must(DO(actor, ACT_TO_DEVICE, .a = SOURCE, .e = n), "the device reads");
}

/* Device n moves page 0 to page 1. */
static void moves(struct actor *actor, unsigned n, const char *name)
{
	load(actor, n);
	must(DO(actor, ACT_FILL, .a = 1, .b = 1), "mark");
	must(DO(actor, ACT_FROM_DEVICE, .a = TARGET, .e = n), "the device writes");
	expect(DO(actor, ACT_COMPARE, .a = 1, .b = seed), 0, name);
}

/* What device n loaded does not arrive on page 1. */
static void blocked(struct actor *actor, unsigned n, const char *name)
{
	must(DO(actor, ACT_FILL, .a = 1, .b = 5001), "mark");
	must(DO(actor, ACT_FROM_DEVICE, .a = TARGET, .e = n), "the device writes");
	expect(DO(actor, ACT_COMPARE, .a = 1, .b = 5001), 0, name);
}

/* Memory, a table with two pages of it, both devices attached, and their fds. */
static uint64_t set_up(struct actor *actor)
{
	uint64_t memory, space;

	memory = (uint64_t)must(DO(actor, ACT_MEMORY, .a = ACTOR_MEMORY), "register");
	space = (uint64_t)must(DO(actor, ACT_ALLOC, .text = edu[0]), "alloc");
	for (uint64_t page = 0; page < 2; page++)
		must(DO(actor, ACT_MAP, .a = space, .b = SOURCE + page * ACTOR_PAGE, .c = page,
			.d = RW, .e = memory),
		     "map");
	for (unsigned n = 0; n < 2; n++) {
		must(DO(actor, ACT_ATTACH, .text = edu[n], .a = space), "attach");
		must(DO(actor, ACT_DEVICE_FD, .text = edu[n], .e = n), "device fd");
	}
	return space;
}

static void test_together(struct actor *ana, struct actor *bob)
{
	uint64_t other;

	expect(DO(ana, ACT_CLAIM, .text = edu[0]), -EBUSY, "half a group cannot be claimed");
	expect(DO(ana, ACT_CLAIM, .text = both), 0, "both can");
	set_up(ana);
	moves(ana, 0, "the first one moves bytes");
	moves(ana, 1, "and so does the other");
	expect(DO(bob, ACT_CLAIM, .text = both), -EBUSY, "another tenant's group");
	other = (uint64_t)must(DO(ana, ACT_ALLOC, .text = edu[1]), "alloc");
	must(DO(ana, ACT_DETACH, .text = edu[1]), "detach");
	expect(DO(ana, ACT_ATTACH, .text = edu[1], .a = other), -EBUSY,
	       "the kernel gives a group one table: another one is refused");
	must(DO(ana, ACT_FREE, .a = other), "free");
	moves(ana, 0, "which changes nothing for the first");
}

/* After test_together: the second is detached. */
static void test_release(struct actor *ana, struct actor *bob)
{
	uint64_t space = (uint64_t)must(DO(ana, ACT_ALLOC, .text = edu[1]), "alloc");

	must(DO(ana, ACT_FREE, .a = space), "free");
	must(DO(ana, ACT_RELEASE, .text = edu[1]), "release");
	moves(ana, 0, "one is released: the other goes on");
	expect(DO(bob, ACT_CLAIM, .text = edu[1]), -EBUSY, "the released one goes to nobody");
	expect(DO(bob, ACT_CLAIM, .text = both), -EBUSY, "nor do both");
	must(DO(ana, ACT_CLOSE_FD, .e = 1), "close");
	usleep(500000);
	expect(DO(bob, ACT_CLAIM, .text = edu[1]), -EBUSY, "nor when its fd is closed");
	moves(ana, 0, "the other still goes on");
	load(ana, 0);
	must(DO(ana, ACT_RELEASE, .text = edu[0]), "release");
	blocked(ana, 0, "the last is released, its fd still held: no DMA");
	expect(DO(bob, ACT_CLAIM, .text = both), -EBUSY, "and nobody gets them");
	must(DO(ana, ACT_CLOSE_FD), "close");
}

/* Bob gets both and works with them; then they are free. */
static void next_tenant(struct actor *bob, const char *name)
{
	uint64_t space;

	expect(claim_in_time(bob, both), 0, name);
	space = set_up(bob);
	moves(bob, 0, "the next tenant's first device moves bytes");
	moves(bob, 1, "and its second");
	for (unsigned n = 0; n < 2; n++)
		must(DO(bob, ACT_CLOSE_FD, .e = n), "close");
	must(DO(bob, ACT_RELEASE, .text = both), "release");
	must(DO(bob, ACT_FREE, .a = space), "free");
}

/* ---- what ends a lease ---- */

static void end_disconnect(struct actor *actor)
{
	must(DO(actor, ACT_DISCONNECT), "disconnect");
}

static void end_drain(struct actor *actor)
{
	struct ioasid_error *error;

	if (ioasid_tenant_drain(admin, NULL, "org/ana", true, true, NULL, &error) < 0) {
		report(0, "drain", error->message);
		exit(1);
	}
	expect(DO(actor, ACT_MEMORY, .a = ACTOR_MEMORY) < 0, true, "drained: nothing new");
}

/* The only lease that has devices. */
static void end_revoke(struct actor *actor)
{
	struct ioasid_error *error;
	struct ioasid_leases *list;
	int r = ioasid_lease_list(admin, NULL, &list, &error);

	for (size_t i = 0; r >= 0 && i < list->n; i++)
		if (list->items[i]->devices)
			r = ioasid_revoke_lease(admin, NULL, list->items[i]->serial, &error);
	if (r < 0) {
		report(0, "revoke", error->message);
		exit(1);
	}
	ioasid_leases_free(list);
}

/* Its tenant has an fd of it: the whole lease ends, or it could attach it again. */
static void end_revoke_device(struct actor *actor)
{
	struct ioasid_error *error;

	if (ioasid_revoke_device(admin, NULL, edu[0], &error) < 0) {
		report(0, "revoke", error->message);
		exit(1);
	}
}

static void test_end(struct actor *actor, struct actor *bob, void (*end)(struct actor *actor),
		     const char *what)
{
	char name[128];

	must(DO(actor, ACT_CONNECT, .text = tenants), "connect");
	must(claim_in_time(actor, both), "claim");
	set_up(actor);
	for (unsigned n = 0; n < 2; n++)
		moves(actor, n, "it works");
	for (unsigned n = 0; n < 2; n++)
		load(actor, n);
	end(actor);
	for (unsigned n = 0; n < 2; n++) {
		snprintf(name, sizeof(name), "%s: device %u is taken back", what, n);
		report(revoking_in_time(admin, edu[n]), name, "it is not");
		snprintf(name, sizeof(name), "%s: no DMA of device %u, its fd still held", what, n);
		blocked(actor, n, name);
	}
	expect(DO(bob, ACT_CLAIM, .text = both), -EBUSY, "and nobody gets them");
	for (unsigned n = 0; n < 2; n++)
		must(DO(actor, ACT_CLOSE_FD, .e = n), "close");
	snprintf(name, sizeof(name), "%s: both are free for the next", what);
	next_tenant(bob, name);
	actor_end(actor, false);
}

static void test_kill(struct actor *actor, struct actor *bob)
{
	must(DO(actor, ACT_CONNECT, .text = tenants), "connect");
	must(claim_in_time(actor, both), "claim");
	set_up(actor);
	moves(actor, 0, "it works");
	actor_end(actor, true);
	next_tenant(bob, "kill -9: both are free for the next");
}

int main(int argc, char **argv)
{
	struct actor ana, bob, ends[5];
	struct ioasid_error *error;

	if (argc != 5) {
		fprintf(stderr, "usage: groups_broker TENANTS ADMIN EDU EDU\n");
		return 2;
	}
	tenants = argv[1];
	edu[0] = argv[3];
	edu[1] = argv[4];
	snprintf(both, sizeof(both), "%s %s", edu[0], edu[1]);
	/* Before a client of our own: it has threads, and a fork takes none along. */
	actor_start(&ana, UID_ANA);
	actor_start(&bob, UID_BOB);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		actor_start(&ends[i], UID_ANA);
	if (ioasid_connect(argv[2], NULL, &admin, &error) < 0) {
		report(0, "connect", error->message);
		return 1;
	}
	must(DO(&ana, ACT_CONNECT, .text = tenants), "connect");
	must(DO(&bob, ACT_CONNECT, .text = tenants), "connect");
	test_together(&ana, &bob);
	test_release(&ana, &bob);
	next_tenant(&bob, "both are back: another tenant claims them");
	test_end(&ends[0], &bob, end_disconnect, "the connection ends");
	test_end(&ends[1], &bob, end_revoke, "the lease is revoked");
	test_end(&ends[2], &bob, end_revoke_device, "one device is revoked");
	test_kill(&ends[3], &bob);
	/* It ends the leases of ana as well. */
	test_end(&ends[4], &bob, end_drain, "the tenant is drained");
	if (ioasid_tenant_drain(admin, NULL, "org/ana", false, false, NULL, &error) < 0)
		report(0, "end of draining", error->message);
	actor_end(&ana, false);
	actor_end(&bob, false);
	director_check_idle(admin, "org/ana");
	director_check_idle(admin, "org/bob");
	ioasid_client_unref(admin);
	return report_failed;
}
