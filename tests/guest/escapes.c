/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Escapes: every way by which a tenant's device might reach memory that it must not, each
 * tried with a DMA and a comparison of bytes; after the ways in which it must.
 *
 *	escapes TENANTS-SOCKET ADMIN-SOCKET EDU EDU EDU
 *
 * ana and bob are two tenants, ann is ana's second connection and so another lease of the
 * same tenant.  A blocked write leaves memory as it was, a blocked read leaves zeros in the
 * device's buffer; where a tenant asks the broker, its refusal is checked as well.  What the
 * IOMMU reported is for the job to look at, in the kernel's log.
 */
#include "raw.h"
#include "scene.h"

#include <ioasid.h>
#include <sys/mman.h>
#include <unistd.h>

/* IOVAs beside SOURCE and TARGET. */
#define READONLY 0x102000u
#define EXTRA	 0x103000u
#define PUNCHED	 0x104000u
#define BOBS	 0x200000u
#define ANNS	 0x400000u
#define NOWHERE	 0x300000u
#define MSI	 0xfee00000u

/* Object ids that a cdev's holder can think of: a context's ids are small numbers. */
#define IDS 64

static const char *tenants, *admins;
static const char *edu[3];
static struct ioasid_client *admin;
/* What the last MEMORY and ALLOC of each gave. */
static uint64_t ana_memory, ana_space, bob_memory, bob_space;

static void test_outside(struct actor *ana)
{
	load(ana);
	blocked_write(ana, NOWHERE, ana, 1, "a write outside the mapping");
	load(ana);
	must(DO(ana, ACT_TO_DEVICE, .a = NOWHERE), "the device reads");
	must(DO(ana, ACT_FROM_DEVICE, .a = TARGET), "the device writes");
	expect(DO(ana, ACT_COMPARE, .a = 1, .b = 0), 0, "a read outside the mapping gives zeros");
}

static void test_read_only(struct actor *ana)
{
	must(DO(ana, ACT_MAP, .a = ana_space, .b = READONLY, .c = 2, .d = IOASID_READ,
		.e = ana_memory),
	     "map for reading");
	load(ana);
	blocked_write(ana, READONLY, ana, 2, "a write to a mapping for reading");
	mark(ana, 2, 77);
	must(DO(ana, ACT_TO_DEVICE, .a = READONLY), "the device reads");
	must(DO(ana, ACT_FROM_DEVICE, .a = TARGET), "the device writes");
	expect(DO(ana, ACT_COMPARE, .a = 1, .b = 77), 0, "which can be read");
	must(DO(ana, ACT_UNMAP, .a = ana_space, .b = READONLY), "unmap");
}

static void test_unmap(struct actor *ana)
{
	load(ana);
	must(DO(ana, ACT_UNMAP, .a = ana_space, .b = TARGET), "unmap");
	blocked_write(ana, TARGET, ana, 1, "a write after unmap");
	expect(DO(ana, ACT_TRANSLATE, .a = ana_space, .b = TARGET), -EFAULT,
	       "which Translate says, too");
	must(DO(ana, ACT_MAP, .a = ana_space, .b = TARGET, .c = 1, .d = RW, .e = ana_memory),
	     "map again");
	expect(DO(ana, ACT_TRANSLATE, .a = ana_space, .b = TARGET + 16), ACTOR_PAGE + 16,
	       "mapped again, as Translate says");
	moves(ana, "and bytes move again");
}

static void test_other_tenant(struct actor *ana, struct actor *bob)
{
	load(ana);
	blocked_write(ana, BOBS, bob, 2, "a write to another tenant's IOVA");
	expect(DO(ana, ACT_ATTACH, .text = edu[0], .a = bob_space + 1000), -ENOENT,
	       "an id that nobody has");
	expect(DO(ana, ACT_ATTACH, .text = edu[1], .a = ana_space), -EBUSY,
	       "another tenant's device");
}

static void test_other_lease(struct actor *ana, struct actor *ann)
{
	uint64_t memory, space;

	set_up(ann, edu[2], &memory, &space);
	must(DO(ann, ACT_MAP, .a = space, .b = ANNS, .c = 2, .d = RW, .e = memory), "map");
	load(ana);
	blocked_write(ana, ANNS, ann, 2, "a write to an IOVA of the tenant's other lease");
	expect(DO(ann, ACT_ATTACH, .text = edu[0], .a = space), -EBUSY,
	       "a device of the tenant's other lease");
	moves(ann, "which works in its own");
}

static void test_self_attach(struct actor *ana, struct actor *bob)
{
	int64_t n;

	n = must(DO(ana, ACT_SELF_ATTACH, .a = 0, .b = IDS), "attaching by itself");
	printf("# by itself attached to %lld of its own lease's objects\n", (long long)n);
	load(ana);
	blocked_write(ana, BOBS, bob, 2, "a write after the fd's holder attached by itself");
	must(DO(ana, ACT_DETACH, .text = edu[0]), "detach");
	must(DO(ana, ACT_ATTACH, .text = edu[0], .a = ana_space), "attach");
	moves(ana, "and the broker's attachment holds again");
}

static void test_detach(struct actor *ana)
{
	load(ana);
	must(DO(ana, ACT_DETACH, .text = edu[0]), "detach");
	blocked_write(ana, TARGET, ana, 1, "a write after detach");
	must(DO(ana, ACT_ATTACH, .text = edu[0], .a = ana_space), "attach");
	moves(ana, "attached again, bytes move");
}

static void test_replace(struct actor *ana)
{
	uint64_t is, other = (uint64_t)must(DO(ana, ACT_ALLOC, .text = edu[0]), "alloc");

	must(DO(ana, ACT_MAP, .a = other, .b = TARGET, .c = 3, .d = RW, .e = ana_memory), "map");
	is = load(ana);
	must(DO(ana, ACT_REPLACE, .text = edu[0], .a = other), "replace");
	mark(ana, 1, 5001);
	must(DO(ana, ACT_FROM_DEVICE, .a = TARGET), "the device writes");
	expect(DO(ana, ACT_COMPARE, .a = 1, .b = 5001), 0, "a write by the replaced table");
	expect(DO(ana, ACT_COMPARE, .a = 3, .b = is), 0, "goes where the new one says");
	must(DO(ana, ACT_REPLACE, .text = edu[0], .a = ana_space), "replace");
	must(DO(ana, ACT_FREE, .a = other), "free");
	moves(ana, "and back");
}

static void test_memory(struct actor *ana)
{
	uint64_t memory;

	expect(DO(ana, ACT_MEMORY, .a = ACTOR_MEMORY_RDONLY_WRITE), -EBUSY,
	       "an O_RDONLY memfd for writing");
	expect(DO(ana, ACT_MEMORY, .a = ACTOR_MEMORY_SEALED_WRITE), -EBUSY,
	       "a memfd with F_SEAL_WRITE for writing");
	memory = (uint64_t)must(DO(ana, ACT_MEMORY, .a = ACTOR_MEMORY_RDONLY),
				"an O_RDONLY memfd for reading");
	expect(DO(ana, ACT_MAP, .a = ana_space, .b = EXTRA, .c = 4, .d = RW, .e = memory), -EINVAL,
	       "mapped for writing");
	must(DO(ana, ACT_MAP, .a = ana_space, .b = EXTRA, .c = 4, .d = IOASID_READ, .e = memory),
	     "mapped for reading");
	load(ana);
	blocked_write(ana, EXTRA, ana, 4, "a write through an O_RDONLY memfd");
	must(DO(ana, ACT_UNMAP, .a = ana_space, .b = EXTRA), "unmap");
	memory = (uint64_t)must(DO(ana, ACT_MEMORY, .a = ACTOR_MEMORY_SEALED),
				"a memfd with F_SEAL_WRITE for reading");
	expect(DO(ana, ACT_MAP, .a = ana_space, .b = EXTRA, .c = 4, .d = RW, .e = memory), -EINVAL,
	       "mapped for writing");

	expect(DO(ana, ACT_TRUNCATE), -EPERM, "registered memory cannot be truncated");
	must(DO(ana, ACT_MAP, .a = ana_space, .b = PUNCHED, .c = 5, .d = RW, .e = ana_memory),
	     "map");
	load(ana);
	must(DO(ana, ACT_PUNCH, .a = 5), "punch");
	expect(DO(ana, ACT_COMPARE, .a = 5, .b = 0), 0, "a punched page is zero");
	must(DO(ana, ACT_FROM_DEVICE, .a = PUNCHED), "the device writes");
	expect(DO(ana, ACT_COMPARE, .a = 5, .b = 0), 0,
	       "a write after the page was punched reaches the old page only");
	must(DO(ana, ACT_UNMAP, .a = ana_space, .b = PUNCHED), "unmap");
}

static void test_msi(struct actor *ana)
{
	expect(DO(ana, ACT_MAP, .a = ana_space, .b = MSI, .c = 6, .d = RW, .e = ana_memory),
	       -EINVAL, "the MSI window cannot be mapped");
	load(ana);
	mark(ana, 6, 5006);
	/*
	 * In the remappable format (bit 4 of the address), entry 0 of the interrupt remapping
	 * table.  QEMU lets messages of the old format through, which hardware blocks.
	 */
	must(DO(ana, ACT_FROM_DEVICE, .a = MSI + 0x10, .b = 4), "the device writes");
	expect(DO(ana, ACT_COMPARE, .a = 6, .b = 5006), 0, "a write to the MSI window");
	moves(ana, "and the device goes on");
}

static void test_release(struct actor *ana, struct actor *bob)
{
	uint64_t memory = bob_memory, space;

	load(ana);
	must(DO(ana, ACT_RELEASE, .text = edu[0]), "release");
	blocked_write(ana, TARGET, ana, 1, "a write after release, the fd still held");
	expect(DO(bob, ACT_CLAIM, .text = edu[0]), -EBUSY,
	       "another tenant cannot claim it meanwhile");
	must(DO(ana, ACT_CLOSE_FD), "close");
	expect(claim_in_time(bob, edu[0]), 0, "the fd is closed: another tenant claims it");
	space = (uint64_t)must(DO(bob, ACT_ALLOC, .text = edu[0]), "alloc");
	must(DO(bob, ACT_MAP, .a = space, .b = SOURCE, .c = 0, .d = RW, .e = memory), "map");
	must(DO(bob, ACT_ATTACH, .text = edu[0], .a = space), "attach");
	must(DO(bob, ACT_DEVICE_FD, .text = edu[0]), "device fd");
	load(bob);
	blocked_write(bob, TARGET, ana, 1, "a write of its next holder where ana had mapped");
	must(DO(bob, ACT_CLOSE_FD), "close");
	must(DO(bob, ACT_RELEASE, .text = edu[0]), "release");
	must(DO(bob, ACT_FREE, .a = space), "free");
}

static void test_revoke(struct actor *ana, struct actor *bob)
{
	struct ioasid_error *error;

	must(claim_in_time(ana, edu[0]), "claim");
	must(DO(ana, ACT_ATTACH, .text = edu[0], .a = ana_space), "attach");
	must(DO(ana, ACT_DEVICE_FD, .text = edu[0]), "device fd");
	moves(ana, "claimed again, bytes move");
	load(ana);
	if (ioasid_revoke_device(admin, NULL, edu[0], &error) < 0) {
		report(0, "revoke", error->message);
		exit(1);
	}
	blocked_write(ana, TARGET, ana, 1, "a write after revoke, the fd still held");
	expect(DO(ana, ACT_SELF_ATTACH, .a = 0, .b = IDS), 0, "nothing is left to attach it to");
	blocked_write(ana, TARGET, ana, 1, "a write after trying that");
	expect(DO(bob, ACT_CLAIM, .text = edu[0]), -EBUSY, "nobody can claim it meanwhile");
	must(DO(ana, ACT_CLOSE_FD), "close");
	expect(claim_in_time(bob, edu[0]), 0, "the fd is closed: it can be claimed");
	must(DO(bob, ACT_RELEASE, .text = edu[0]), "release");
}

static void test_kill(struct actor *eve, struct actor *bob)
{
	uint64_t memory, space, is;
	struct remains remains;

	must(DO(eve, ACT_CONNECT, .text = tenants), "connect");
	set_up(eve, edu[0], &memory, &space);
	is = load(eve);
	remains_take(&remains, eve);
	expect(remains_write(&remains, is), true, "with the fd alone bytes move as well");
	actor_end(eve, true);
	expect(revoking_in_time(admin, edu[0]), true, "a killed client's device is taken back");
	expect(remains_write(&remains, is), false, "a write after kill -9, the fd still held");
	expect(DO(bob, ACT_CLAIM, .text = edu[0]), -EBUSY, "nobody can claim it meanwhile");
	remains_drop(&remains);
	expect(claim_in_time(bob, edu[0]), 0, "the last fd is closed: it can be claimed");
	must(DO(bob, ACT_RELEASE, .text = edu[0]), "release");
}

static void test_lease_ends(struct actor *lea, struct actor *bob)
{
	uint64_t memory, space, is;
	struct remains remains;

	must(DO(lea, ACT_CONNECT, .text = tenants), "connect");
	must(DO(lea, ACT_LEASE, .text = "short", .a = 3), "lease");
	set_up(lea, edu[0], &memory, &space);
	is = load(lea);
	remains_take(&remains, lea);
	must(DO(lea, ACT_DISCONNECT), "disconnect");
	expect(remains_write(&remains, is), true, "a named lease outlives its connection");
	expect(revoking_in_time(admin, edu[0]), true, "nobody adopts it: the device is taken back");
	expect(remains_write(&remains, is), false, "a write after that, the fd still held");
	actor_end(lea, false);
	remains_drop(&remains);
	expect(claim_in_time(bob, edu[0]), 0, "the last fd is closed: it can be claimed");
	must(DO(bob, ACT_RELEASE, .text = edu[0]), "release");
}

int main(int argc, char **argv)
{
	struct actor ana, ann, bob, eve, lea;
	struct ioasid_error *error;

	if (argc != 6) {
		fprintf(stderr, "usage: escapes TENANTS ADMIN EDU EDU EDU\n");
		return 2;
	}
	tenants = argv[1];
	admins = argv[2];
	for (int i = 0; i < 3; i++)
		edu[i] = argv[3 + i];
	/* Before a client of our own: it has threads, and a fork takes none along. */
	actor_start(&ana, UID_ANA);
	actor_start(&ann, UID_ANA);
	actor_start(&bob, UID_BOB);
	actor_start(&eve, UID_ANA);
	actor_start(&lea, UID_ANA);
	if (ioasid_connect(admins, NULL, &admin, &error) < 0) {
		report(0, "connect", error->message);
		return 1;
	}
	must(DO(&ana, ACT_CONNECT, .text = tenants), "connect");
	must(DO(&ann, ACT_CONNECT, .text = tenants), "connect");
	must(DO(&bob, ACT_CONNECT, .text = tenants), "connect");
	set_up(&ana, edu[0], &ana_memory, &ana_space);
	set_up(&bob, edu[1], &bob_memory, &bob_space);
	must(DO(&bob, ACT_MAP, .a = bob_space, .b = BOBS, .c = 2, .d = RW, .e = bob_memory), "map");

	moves(&ana, "inside the mapping bytes move both ways");
	moves(&bob, "of the other tenant's device as well");
	test_outside(&ana);
	test_read_only(&ana);
	test_unmap(&ana);
	test_other_tenant(&ana, &bob);
	test_other_lease(&ana, &ann);
	test_self_attach(&ana, &bob);
	test_detach(&ana);
	test_replace(&ana);
	test_memory(&ana);
	test_msi(&ana);
	test_release(&ana, &bob);
	test_revoke(&ana, &bob);
	test_kill(&eve, &bob);
	test_lease_ends(&lea, &bob);

	must(DO(&bob, ACT_DEVICE_FD, .text = edu[1]), "device fd");
	moves(&bob, "after all that bob's device still reaches its own memory");
	actor_end(&ana, false);
	actor_end(&ann, false);
	actor_end(&bob, false);
	director_check_idle(admin, "org/ana");
	director_check_idle(admin, "org/bob");
	ioasid_client_unref(admin);
	return report_failed;
}
