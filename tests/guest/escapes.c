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
#include "director.h"
#include "raw.h"
#include "report.h"

#include <ioasid.h>
#include <sys/mman.h>
#include <unistd.h>

#define RW (IOASID_READ | IOASID_WRITE)

/* IOVAs: of ana's first two pages, and what others have. */
#define SOURCE	 0x100000u
#define TARGET	 0x101000u
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

static uint64_t seed = 7;

/*
 * The device takes a fresh pattern from page 0, which is mapped at SOURCE, into its buffer.
 * Returns the pattern's seed.
 */
static uint64_t load(struct actor *actor)
{
	seed++;
	must(DO(actor, ACT_FILL, .a = 0, .b = seed), "fill");
	must(DO(actor, ACT_TO_DEVICE, .a = SOURCE), "the device reads");
	return seed;
}

static void mark(struct actor *actor, uint64_t page, uint64_t mark_seed)
{
	must(DO(actor, ACT_FILL, .a = page, .b = mark_seed), "mark");
}

/* The device's write to iova changes nothing on that page of that actor. */
static void blocked_write(struct actor *actor, uint64_t iova, struct actor *victim, uint64_t page,
			  const char *name)
{
	mark(victim, page, 5000 + page);
	must(DO(actor, ACT_FROM_DEVICE, .a = iova), "the device writes");
	expect(DO(victim, ACT_COMPARE, .a = page, .b = 5000 + page), 0, name);
}

/* Claims, maps pages 0 and 1 at SOURCE and TARGET, attaches, opens the device. */
static void set_up(struct actor *actor, const char *device, uint64_t *ret_memory,
		   uint64_t *ret_space)
{
	must(DO(actor, ACT_CLAIM, .text = device), "claim");
	*ret_memory = (uint64_t)must(DO(actor, ACT_MEMORY, .a = ACTOR_MEMORY), "register");
	*ret_space = (uint64_t)must(DO(actor, ACT_ALLOC, .text = device), "alloc");
	for (uint64_t page = 0; page < 2; page++)
		must(DO(actor, ACT_MAP, .a = *ret_space, .b = SOURCE + page * ACTOR_PAGE, .c = page,
			.d = RW, .e = *ret_memory),
		     "map");
	must(DO(actor, ACT_ATTACH, .text = device, .a = *ret_space), "attach");
	must(DO(actor, ACT_DEVICE_FD, .text = device), "device fd");
}

/* Bytes move both ways: the device's view of pages 0 and 1 is the actor's. */
static void moves(struct actor *actor, const char *name)
{
	uint64_t is;

	mark(actor, 1, 1);
	is = load(actor);
	must(DO(actor, ACT_FROM_DEVICE, .a = TARGET), "the device writes");
	expect(DO(actor, ACT_COMPARE, .a = 1, .b = is), 0, name);
}

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
	uint64_t other = (uint64_t)must(DO(ana, ACT_ALLOC, .text = edu[0]), "alloc");

	must(DO(ana, ACT_MAP, .a = other, .b = TARGET, .c = 3, .d = RW, .e = ana_memory), "map");
	load(ana);
	must(DO(ana, ACT_REPLACE, .text = edu[0], .a = other), "replace");
	mark(ana, 1, 5001);
	must(DO(ana, ACT_FROM_DEVICE, .a = TARGET), "the device writes");
	expect(DO(ana, ACT_COMPARE, .a = 1, .b = 5001), 0, "a write by the replaced table");
	expect(DO(ana, ACT_COMPARE, .a = 3, .b = seed), 0, "goes where the new one says");
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

/* The fds of an actor that is gone, in the director's hands. */
struct remains {
	int memfd, cdev;
	uint8_t *bytes;
	struct edu edu;
};

static void remains_take(struct remains *remains, struct actor *actor)
{
	actor_take_fds(actor, &remains->memfd, &remains->cdev);
	remains->bytes = mmap(NULL, (size_t)ACTOR_PAGES * ACTOR_PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED, remains->memfd, 0);
	if (remains->bytes == MAP_FAILED || edu_open(remains->cdev, &remains->edu)) {
		report(0, "what the actor had", "cannot be used");
		exit(1);
	}
}

static void remains_drop(struct remains *remains)
{
	edu_close(&remains->edu);
	close(remains->cdev);
	munmap(remains->bytes, (size_t)ACTOR_PAGES * ACTOR_PAGE);
	close(remains->memfd);
}

/* Whether a write of the device to TARGET arrives; the buffer was loaded with is. */
static bool remains_write(struct remains *remains, uint64_t is)
{
	uint8_t pattern[ACTOR_BYTES];

	actor_pattern(remains->bytes + ACTOR_PAGE, ACTOR_PAGE, 5001);
	must(edu_from_device(&remains->edu, TARGET, ACTOR_BYTES), "the device writes");
	actor_pattern(pattern, sizeof(pattern), is);
	return !memcmp(remains->bytes + ACTOR_PAGE, pattern, sizeof(pattern));
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
