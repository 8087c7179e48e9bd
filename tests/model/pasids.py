# SPDX-License-Identifier: Apache-2.0
"""PASIDs in the model: guest PASIDs by policy, and PASID tables that tenants write.

A PASID is the lease's own: what it leads to depends on the lease's attachments alone, whatever number
goes to the device.  A device whose attachment without PASID is to a space with a PASID table goes by
that table for all its PASIDs, and by entry 0 without one (VT-d, scalable mode; VT-d spec 9.5, 9.6).

What may be stale: an entry of a PASID table, as a whole, as a walk found it.  It is remembered until
PASID_CACHE for that PASID or for all, and what a walk went on to by it until a command that makes
translations and tables of that PASID go (tables.Forgotten).  That there was none is never
remembered, and a parent's change makes no entry go.
"""

import ioasid_pb2 as pb

PAGE = 4096
X86_64 = (pb.PAGE_TABLE_FORMAT_X86_64_4L, pb.PAGE_TABLE_FORMAT_X86_64_5L)


class PasidBound:
    """A PASID table that is bound."""

    def __init__(self, message, formats=()):
        self.root = message.root
        self.pasid_bits = message.pasid_bits
        self.formats = formats  # of tables of 4 levels, of 5

    def fields(self):
        return (self.root, self.pasid_bits)

    @staticmethod
    def bytes(pasid_bits):
        """Of the directory: whole pages, a power of two of them."""
        size = PAGE
        while size < 8 << pasid_bits >> 6:
            size *= 2
        return size


class Entries:
    """Entries of a space's PASID table that caches may know."""

    def __init__(self):
        self.all = 0
        self.pasids = {}  # pasid -> when it was forgotten
        self.seen = {}  # pasid -> {key: [bound, when a walk found it, when one went by it]}

    def everything(self, now):
        self.all = now
        self.pasids.clear()

    def pasid(self, pasid, now):
        self.pasids[pasid] = now

    def _since(self, pasid):
        return max(self.all, self.pasids.get(pasid, 0))

    def known(self, pasid, since):
        """What a walk may go by, if translations have been remembered since `since`."""
        cached = self._since(pasid)
        return [b for b, found, walked in self.seen.get(pasid, {}).values() if found >= cached or walked >= since]

    def walked(self, pasid, bounds, now):
        """Walks found these, and may have gone by any that is cached."""
        seen = self.seen.setdefault(pasid, {})
        for bound in bounds:
            seen[bound.key()] = [bound, now, now]
        for entry in seen.values():
            if entry[1] >= self._since(pasid):
                entry[2] = now

    def settle(self, oldest):
        """Forgets what no cache can have."""
        for pasid, seen in self.seen.items():
            self.seen[pasid] = {
                k: e for k, e in seen.items() if e[1] >= self._since(pasid) or e[2] >= oldest
            }


class Pasids:
    """Part of the model (model.World)."""

    @staticmethod
    def goes_by(lease, device, pasid):
        """The space that DMA of a device goes by; None: none."""
        whole = lease.attachments.get((device, 0))
        if whole and whole.pasid_table:
            return whole
        return lease.attachments.get((device, pasid))

    def _plan_BindPasidTable(self, plan, lease, q):
        self._uses(plan, lease)
        space = self._user_space(plan, lease, q.ioasid)
        if not 1 <= q.pasid_bits <= 20 or q.format != pb.PASID_TABLE_FORMAT_VTD or q.shape:
            plan.refuse("INVALID_FIELD")
        if space:
            if any(q.format != pb.PASID_TABLE_FORMAT_VTD or not self.devices[d].pasid_tables for d in space.devices):
                plan.refuse("INCOMPATIBLE")
            # Whose PASIDs others choose, or none may have, has no table of them.
            if lease.tenant.pasid_policy != "identity":
                plan.refuse("POLICY_FORBIDDEN")
            if not space.format.sign_extended:
                plan.refuse("INVALID_FIELD")
            # Dirty pages are one table's.
            if space.dirty_tracking:
                plan.refuse("WRONG_STATE")
        if plan.refusals:
            return
        last = q.root + PasidBound.bytes(q.pasid_bits) - 1
        outside = space.parent.format.outside
        if q.root % PAGE or last >= 1 << 48 or outside(q.root) or outside(last):
            plan.refuse("INVALID_FIELD")
            return
        plan.writes.add(("space", space))
        plan.commit = lambda r: self._bound(space, None, PasidBound(q, self.x86_64))

    def _plan_UnbindPasidTable(self, plan, lease, q):
        self._uses(plan, lease)
        space = self._user_space(plan, lease, q.ioasid)
        if plan.refusals:
            return
        plan.writes.add(("space", space))
        if space.pasid_table is None:
            plan.refuse("WRONG_STATE")
            return
        plan.commit = lambda r: self._bound(space, None)

    def _forget(self, lease, space, e, now):
        """An entry of Invalidate, done."""
        if e.granularity == pb.INVALIDATE_GRANULARITY_ALL:
            space.forgotten.everything(now)
        elif e.granularity == pb.INVALIDATE_GRANULARITY_PASID:
            space.forgotten.pasid(e.pasid.value, now)
            # It may stand for an entry of a device's PASID table.
            for (device, pasid), at in lease.attachments.items():
                whole = lease.attachments.get((device, 0))
                if pasid == e.pasid.value and at is space and whole and whole.pasid_table:
                    whole.forgotten.pasid(pasid, now)
        elif e.granularity == pb.INVALIDATE_GRANULARITY_PASID_CACHE:
            if e.HasField("pasid"):
                space.forgotten.entries.pasid(e.pasid.value, now)
            else:
                space.forgotten.entries.everything(now)
        elif e.granularity == pb.INVALIDATE_GRANULARITY_RANGE:
            start, last = e.iova // PAGE * PAGE, (e.iova + e.length - 1) | PAGE - 1
            space.forgotten.range(start, last, e.leaf, now)
