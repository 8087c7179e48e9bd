# SPDX-License-Identifier: Apache-2.0
"""The flows of the 2021 proposal, as a VMM goes through them."""
from support import policy
from support.case import PAGE, Case, pattern

POLICY = policy.default()


class Flows(Case):
    RAM = 64  # pages of guest memory

    def guest(self):
        """Two devices on one IOMMU or two, and the guest's memory, registered."""
        first = self.inventory.single[0]
        second = next(d for d in self.inventory.single if d.address != first.address and
                      set(self.inventory.formats(d.address)) &
                      set(self.inventory.formats(first.address)))
        self.dev1, self.dev2 = first.address, second.address
        self.a.ClaimDevice(devices=[self.dev1, self.dev2])
        self.bytes = pattern(self.RAM * PAGE)
        self.mem = self.memory(self.a, pages=self.RAM, fill=self.bytes)
        self.gpa = self.alloc(self.a, [self.dev1, self.dev2])
        # Where the guest's memory begins: 0, if there are such addresses.
        self.ram = self.a.GetIoasid(ioasid=self.gpa).ioasid.choice.valid[0].start

    def test_F1_one_guest_address_space(self):
        self.guest()
        self.a.Attach(device=self.dev1, ioasid=self.gpa)
        self.map(self.a, self.gpa, self.entry(self.ram, self.mem, self.RAM))
        self.assertReads(self.a, self.dev1, self.ram, self.bytes)
        charged = self.used("org/a", "pinned_bytes", "registered_bytes", "map_entries")
        self.assertEqual(charged, [self.RAM * PAGE, self.RAM * PAGE, 1])
        # Another device shares the table, and costs no memory.
        self.a.Attach(device=self.dev2, ioasid=self.gpa)
        self.assertReads(self.a, self.dev2, self.ram, self.bytes)
        self.assertEqual(self.used("org/a", "pinned_bytes", "registered_bytes", "map_entries"),
                         charged)
        got = self.a.Translate(ioasid=self.gpa, iova=self.ram, access=self.pb.ACCESS_READ)
        self.assertEqual((got.memory, got.offset), (self.mem.id, 0))

    def test_F2_two_spaces_without_nesting_charged_once_through_registration(self):
        self.guest()
        for device in (self.dev1, self.dev2):
            self.a.Attach(device=device, ioasid=self.gpa)
        self.map(self.a, self.gpa, self.entry(self.ram, self.mem, self.RAM))
        charged = self.used("org/a", "pinned_bytes", "registered_bytes")
        giova = self.alloc(self.a, [self.dev2])
        self.a.Detach(device=self.dev2)
        self.a.Attach(device=self.dev2, ioasid=giova)
        # The guest's IOVA 0x2000 is its page 1: the VMM shadows it.
        iova = self.ram + 0x2000
        self.map(self.a, giova, self.entry(iova, self.mem, 1, 0x1000))
        self.assertReads(self.a, self.dev2, iova, self.bytes[0x1000:0x2000])
        self.assertBlocked(self.dma_read(self.a, self.dev2, self.ram + 0x1000, 8), "NOT_PRESENT")
        self.assertReads(self.a, self.dev1, self.ram + 0x1000, self.bytes[0x1000:0x2000])
        self.assertEqual(self.used("org/a", "pinned_bytes", "registered_bytes"), charged)
        self.assertEqual(self.used("org/a", "mapped_bytes"), (self.RAM + 1) * PAGE)
        # The page stays pinned for as long as one of the two maps it.
        self.a.Unmap(ioasid=self.gpa, all=True)
        self.assertEqual(self.used("org/a", "pinned_bytes"), PAGE)
        self.assertReads(self.a, self.dev2, iova, self.bytes[0x1000:0x2000])

    def test_F3_software_nesting_the_childs_attachment_replaces_the_parents(self):
        self.need_software_nesting()
        self.guest()
        for device in (self.dev1, self.dev2):
            self.a.Attach(device=device, ioasid=self.gpa)
        self.map(self.a, self.gpa, self.entry(self.ram, self.mem, self.RAM))
        charged = self.used("org/a", "pinned_bytes", "registered_bytes")
        giova = self.alloc(self.a, [self.dev2], parent=self.gpa)
        self.a.Attach(device=self.dev2, ioasid=giova)
        self.assertEqual(
            sorted((x.device, x.ioasid) for x in self.a.ListAttachments().attachments),
            sorted([(self.dev1, self.gpa), (self.dev2, giova)]))
        self.map(self.a, giova, self.child_entry(self.ram + 0x2000, self.ram + 0x1000))
        self.assertReads(self.a, self.dev2, self.ram + 0x2000, self.bytes[0x1000:0x2000])
        self.assertBlocked(self.dma_read(self.a, self.dev2, self.ram + 0x1000, 8), "NOT_PRESENT")
        # dev1 does not notice.
        self.assertReads(self.a, self.dev1, self.ram + 0x2000, self.bytes[0x2000:0x3000])
        # Only the parent is charged for memory.
        self.assertEqual(self.used("org/a", "pinned_bytes", "registered_bytes"), charged)
        # What the parent loses, the child loses.
        self.a.Unmap(ioasid=self.gpa, all=True)
        self.assertBlocked(self.dma_read(self.a, self.dev2, self.ram + 0x2000, 8),
                           "PARENT_NOT_PRESENT", "NOT_PRESENT")
