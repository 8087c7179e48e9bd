# SPDX-License-Identifier: Apache-2.0
"""
A table that Linux's VT-d driver wrote for a device, by iommufd.  What it must mean is known from the
mappings that the guest's process made and where their frames are; page sizes, from the kernel's
own listing of the table (debugfs).  The root is found as the hardware finds it: by the root table
register, the context entry, and in scalable mode the PASID entry.
"""
import bisect
import random
import re
import struct

from . import addresses, extract, oracles, session, walker

ROOT_TABLE = 0xfed90020  # RTADDR_REG of QEMU's first unit
DEVFN = 4 << 3  # iommu.c
PAGE_MASK = 0x000ffffffffff000
EXPECTED = {(1, 4096), (2, 2 << 20), (3, 1 << 30)}
SAYS = ("IOVA -> PA from the iommufd mappings made and /proc/self/pagemap of the mapped memory in the guest "
        "(FAULT = not in any live mapping); perms = the flags asked for; page_size and leaf= checked against "
        "kernel debugfs domain_translation_struct")


class VtdSession(session.Session):
    def words(self, address, count):
        return struct.unpack(f"<{count}Q", self.guest.read(address, 8 * count))

    def find_table(self):
        """The table of the device, and the entries that lead to it."""
        text = self.guest.monitor.human(f"xp /2wx 0x{ROOT_TABLE:x}")
        low, high = (int(word, 16) for word in re.findall(r"0x([0-9a-f]{8})\b", text)[-2:])
        register = high << 32 | low
        scalable = bool(register >> 10 & 1)
        root = self.words(register & PAGE_MASK, 2)
        found = {"rtaddr": f"0x{register:x}", "root_entry": [f"0x{w:x}" for w in root]}
        if not scalable:
            context = self.words((root[0] & PAGE_MASK) + 16 * DEVFN, 2)
            found["context_entry"] = [f"0x{w:x}" for w in context]
            # Address width 1, 2, 3: three, four, five levels.
            format_ = walker.VtdSecondStage((context[1] & 7) + 2)
            return oracles.Table(self.machine.name, format_, context[0] & PAGE_MASK, [], found)
        # A context entry has 32 bytes, and a table of them those of 128 functions.
        context = self.words((root[DEVFN >> 7] & PAGE_MASK) + 32 * (DEVFN & 127), 4)
        directory = self.words(context[0] & PAGE_MASK, 1)
        pasid = self.words(directory[0] & PAGE_MASK, 8)
        found.update(context_entry=[f"0x{w:x}" for w in context],
                     pasid_entry=[f"0x{w:x}" for w in pasid])
        kind = pasid[0] >> 6 & 7
        if kind == 1:
            return oracles.Table(self.machine.name, walker.X86(4 + (pasid[2] >> 2 & 3)),
                                 pasid[2] & PAGE_MASK, [], found)
        if kind != 2:
            raise ValueError(f"PASID entry of type {kind}")
        return oracles.Table(self.machine.name, walker.VtdSecondStage((pasid[0] >> 2 & 7) + 2),
                             pasid[0] & PAGE_MASK, [], found)

    def run(self, dump, walk_program, extracts):
        text = self.guest.wait_ready(session.BOOT_LIMIT)
        runs = sorted((int(iova, 16), int(iova, 16) + int(length, 16), (int(at, 16), perms, name))
                      for name, iova, length, at, perms in
                      re.findall(r"^@run (\S+) (\w+) (\w+) (\w+) (\S+)\s*$", text, re.M))
        leaves = sorted((int(iova, 16), (int(entry, 16), int(level))) for iova, entry, level in
                        re.findall(r"^@leaf (\w+) (\w+) (\d)\s*$", text, re.M))
        self.report(f"boots; {len(runs)} runs of frames, {len(leaves)} leaves listed by the kernel",
                    None if len(runs) >= 90 and len(leaves) >= 1000 else "these are too few")
        self.guest.stop(oracles.X86.in_user_mode)
        table = self.find_table()
        if isinstance(table.format, walker.X86) != (self.machine.iommu == "first-stage"):
            raise ValueError(f"a table of format {table.format.name}")
        self.finish([self.compare_runs(table, oracles.Ranges(runs), leaves)], dump, walk_program,
                    extracts)

    def compare_runs(self, table, runs, listed):
        """(table, meta, groups, {address: Row}), as of a processor's table."""
        read, format_ = self.guest.read, table.format
        rng = random.Random(session.SEED)
        regions = [(name, start, end) for start, end, (_, _, name) in runs.items]
        groups = addresses.choose(format_, read, table.root, regions, rng)
        starts = [start for start, _ in listed]
        rows, wrong, unlike, kinds = {}, [], [], set()
        for group in groups:
            for name, at in group.points:
                tag = group.tag.replace("u-", "", 1) + (":" + name if name else "")
                leaf, mapped = format_.walk(read, table.root, at), runs.find(at)
                if mapped is None:
                    rows[at] = extract.Row(at, None, "-", "-", tag)
                    if isinstance(leaf, walker.Leaf):
                        wrong.append(f"{at:x}: not mapped, walker {leaf}")
                    continue
                start = runs.starts[bisect.bisect_right(runs.starts, at) - 1]
                output, perms = mapped[0] + at - start, mapped[1]
                if not isinstance(leaf, walker.Leaf) or leaf.output != output or \
                        leaf.perms[:2] != perms:
                    wrong.append(f"{at:x}: mapped to {output:x} {perms}, walker {leaf}")
                    continue
                kinds.add((leaf.level, leaf.size))
                rows[at] = extract.Row(at, output, extract.size_name(leaf.size), perms,
                                       f"{tag};leaf={leaf.entry:016x}")
                i = bisect.bisect_right(starts, at) - 1
                if i < 0 or listed[i] != (leaf.start, (leaf.entry, leaf.level)):
                    unlike.append(f"{at:x}: walker {leaf}, listed {listed[i:i + 1]}")
        faults = sum(row.output is None for row in rows.values())
        self.report(f"{table.name}: the mappings and the small walker agree on {len(rows)} addresses, "
                    f"{faults} of them not mapped", session.some(wrong))
        self.report(f"{table.name}: the kernel lists the same leaves", session.some(unlike))
        lacking = EXPECTED - kinds
        self.report(f"{table.name}: every kind of leaf is among them",
                    f"none of {sorted(lacking)}" if lacking else None)
        meta = {
            "name": table.name, "walk_format": format_.name, "root": f"0x{table.root:x}",
            "walk_args": [], "iommu": self.machine.iommu, "levels": format_.levels(),
            "va_bits": format_.input_bits, "sign_extended": format_.signed,
            "granule": format_.granule, "registers": table.registers, "kernel": self.package,
            "kernel_arguments": self.machine.append, "qemu": self.guest.qemu_version(),
            "made_by": "scripts/nightly guest-tables", "oracle": SAYS,
            "crosscheck": {"addresses_asked": len(rows), "own_walker_disagreements": len(wrong),
                           "debugfs_leaves": len(listed), "debugfs_disagreements": len(unlike)},
        }
        return table, meta, groups, rows
