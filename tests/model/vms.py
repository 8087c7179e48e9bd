# SPDX-License-Identifier: Apache-2.0
"""Kind KVM in the model: virtual machines and their memory slots (docs/vm.md).

A VM is a set of slots by the rules of KVM_SET_USER_MEMORY_REGION.  Spaces of the VM have no mappings
of their own: an address of theirs is a guest address, and leads to where the slot says.  Entries that
the broker fills on first use are its own affair; what the model knows is that they are never seen:
neither before the slot was there nor after it went.
"""

import ioasid_pb2 as pb

PAGE = 4096
LARGE = 512 * PAGE
SLOTS_MAX = 32764  # KVM's
ADDRESS_END = 1 << 57  # EPT has five levels at most


class Slot:
    __slots__ = ("address", "length", "memory", "offset", "read_only")

    def __init__(self, request, memory):
        self.address = request.guest_address
        self.length = request.size
        self.memory = memory
        self.offset = request.offset
        self.read_only = request.read_only

    def prot(self):
        """What a guest can read it can execute."""
        allowed = {pb.ACCESS_READ, pb.ACCESS_EXECUTE}
        return frozenset(allowed if self.read_only else allowed | {pb.ACCESS_WRITE})

    def page_size(self, address):
        """Of the entry that is filled for an address."""
        start = address & ~(LARGE - 1)
        whole = self.address <= start and start + LARGE <= self.address + self.length
        # Memory that has a large page begins at a large page's address.
        return LARGE if whole and (self.address - self.offset) % LARGE == 0 else PAGE


class Vm:
    def __init__(self, lease, label):
        self.id = 0
        self.lease = lease
        self.label = label
        self.slots = {}
        self.spaces = 0
        self.freed = False

    def find(self, address):
        for slot in self.slots.values():
            if slot.address <= address < slot.address + slot.length:
                return slot
        return None

    def extents(self):
        return sorted((slot.address, slot.length) for slot in self.slots.values())


class Vms:
    """Part of the model (model.World)."""

    # -- effects --

    def _slot_gone(self, vm, number):
        memory = vm.slots.pop(number).memory
        memory.mappings -= 1
        if memory.freed and not memory.mappings:
            self._memory_gone(vm.lease, memory)

    def _vm_destroyed(self, vm):
        del vm.lease.vms[vm.id]
        vm.freed = True
        self._vm_collect(vm)

    def _vm_collect(self, vm):
        if not vm.freed or vm.spaces:
            return
        for number in list(vm.slots):
            self._slot_gone(vm, number)
        self.quota.add(vm.lease.tenant.path, {"vms": 1}, -1)

    # -- planning --

    @staticmethod
    def _vm_may_end(plan, vm):
        for slot in vm.slots.values():
            plan.writes.add(("registered", vm.lease.tenant, slot.memory.file))

    def _vm(self, plan, lease, id_):
        vm = lease.vms.get(id_)
        if id_ == 0:
            plan.refuse("INVALID_FIELD")
        elif vm is None:
            plan.refuse("NOT_FOUND")
        return vm

    def _plan_space_of_vm(self, plan, lease, a):
        """What Alloc of kind KVM asks for; the VM."""
        if a.parent or a.faults or a.dirty_tracking:
            plan.refuse("INVALID_FIELD")
        return self._vm(plan, lease, a.vm)

    def _plan_CreateVm(self, plan, lease, request):
        self._structural(plan, lease)
        if len(request.label.encode()) > 64:
            plan.refuse("INVALID_FIELD")
            return
        plan.charges = {"vms": 1}
        plan.check = lambda r: self._new_id(lease, r.vm)

        def commit(r):
            vm = Vm(lease, request.label)
            vm.id = r.vm
            lease.used_ids.add(r.vm)
            lease.vms[r.vm] = vm
            self.quota.add(lease.tenant.path, {"vms": 1})

        plan.commit = commit

    def _plan_DestroyVm(self, plan, lease, request):
        self._structural(plan, lease)
        vm = self._vm(plan, lease, request.vm)
        if plan.refusals:
            return
        plan.writes.add(("vm", vm))
        self._vm_may_end(plan, vm)
        plan.releases = self.holdings(lease)
        plan.commit = lambda r: self._vm_destroyed(vm)

    def _plan_SetMemorySlot(self, plan, lease, request):
        self._uses(plan, lease)
        vm = self._vm(plan, lease, request.vm)
        if request.slot >= SLOTS_MAX:
            plan.refuse("INVALID_FIELD")
        if plan.refusals:
            return
        plan.writes.add(("vm", vm))
        if request.size:
            self._plan_slot(plan, lease, vm, request)
            return
        slot = vm.slots.get(request.slot)
        if slot is None:
            plan.refuse("NOT_FOUND")
            return
        if slot.memory.freed:
            plan.writes.add(("registered", lease.tenant, slot.memory.file))
            plan.releases = {"registered_bytes": slot.memory.length, "kept_fds": 1}
        plan.commit = lambda r: self._slot_gone(vm, request.slot)

    def _plan_slot(self, plan, lease, vm, q):
        """A new slot, or one that moves."""
        end = q.guest_address + q.size
        if q.size % PAGE or q.guest_address % PAGE or q.offset % PAGE or end > ADDRESS_END:
            plan.refuse("INVALID_FIELD")
        memory = lease.memories.get(q.memory)
        if memory is None:
            plan.refuse("NOT_FOUND" if q.memory else "INVALID_FIELD")
        else:
            if q.offset + q.size > memory.length:
                plan.refuse("INVALID_FIELD")
            if not memory.read or not (memory.write or q.read_only):
                plan.refuse("MEMORY_UNSUITABLE")
        old = vm.slots.get(q.slot)
        new = Slot(q, memory)
        if old and (old.memory, old.offset, old.length, old.read_only) != (memory, q.offset, q.size, q.read_only):
            plan.refuse("INVALID_FIELD")
        for number, other in vm.slots.items():
            if number != q.slot and other.address < end and q.guest_address < other.address + other.length:
                plan.refuse("OVERLAP")

        def commit(r):
            if old is None:
                memory.mappings += 1
            vm.slots[q.slot] = new

        plan.commit = commit
