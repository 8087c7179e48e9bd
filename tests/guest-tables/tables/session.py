# SPDX-License-Identifier: Apache-2.0
"""One machine from boot to verdict: a list of (name of a check, what is wrong or None)."""
import hashlib
import os
import random
import re

from . import addresses, extract, oracles, program, walker

BOOT_LIMIT = 600
# An extract stays below 400 KB.
PAGE_BYTES = 370_000
ROWS = 1600
SEED = 6

# What must be among the leaves, or the machine was no test of the format: level, size, group.
EXPECTED = {
    "x86_64": {(1, 4096, False), (2, 2 << 20, False), (3, 1 << 30, False)},
    "riscv64": {(1, 4096, False), (1, 65536, True), (2, 2 << 20, False), (3, 1 << 30, False)},
}
EXPECTED_ARM = {
    4096: {0: {(1, 4096, False), (1, 4096, True), (2, 2 << 20, False), (2, 2 << 20, True),
               (3, 1 << 30, False)},
           1: {(1, 4096, False), (1, 4096, True), (2, 2 << 20, False)}},
    16384: {0: {(1, 16384, False), (1, 16384, True), (2, 32 << 20, False)},
            1: {(1, 16384, False), (1, 16384, True), (2, 32 << 20, False)}},
}
REGIONS = {"small", "ro", "rx", "rwx", "none", "zero", "thp", "cow", "file", "shm", "old", "top",
           "text", "data", "stack", "pow30", "pow37"}


def expected_leaves(machine, format_):
    if machine.arch == "aarch64":
        return EXPECTED_ARM[format_.granule][format_.upper]
    return EXPECTED[machine.arch]


def announced(text):
    """(regions, {address: frame}) that the process printed: user.c."""
    regions = [(name, int(start, 16), int(stop, 16)) for name, start, stop in
               re.findall(r"^@region (\S+) (\w+) (\w+)\s*$", text, re.M)]
    frames = {int(at, 16): int(frame, 16) for at, frame in
              re.findall(r"^@page (\w+) (\w+)\s*$", text, re.M)}
    return regions, frames


def some(problems):
    """The verdict of a check: None, or the first few problems and their number."""
    if not problems:
        return None
    return f"{len(problems)}: " + "; ".join(problems[:5])


class Session:
    def __init__(self, guest, package, report):
        self.guest, self.package, self.report = guest, package, report
        self.machine = guest.machine

    def run(self, dump, walk_program, extracts):
        regions, frames = announced(self.guest.wait_ready(BOOT_LIMIT))
        missing = REGIONS - {name for name, _, _ in regions}
        self.report(f"boots; {len(regions)} regions of the process",
                    f"without {sorted(missing)}" if missing else None)
        oracle_class = oracles.ORACLES[self.machine.arch]
        self.guest.stop(oracle_class.in_user_mode)
        oracle = oracle_class(self.guest)
        metas = [self.table(oracle, table, regions, frames) for table in oracle.tables()]
        self.finish(metas, dump, walk_program, extracts)

    def finish(self, metas, dump, walk_program, extracts):
        """Extracts, and the program on them and on a dump; metas: (table, meta, groups, rows)."""
        # After the questions: QEMU sets accessed bits for some of them.
        if walk_program:
            self.guest.dump(dump)
        for table, meta, groups, rows in metas:
            folder = os.path.join(extracts or self.guest.folder, table.name)
            chosen = self.write_extract(table, meta, groups, rows, folder)
            if walk_program:
                self.compare(walk_program, meta, dump, "elf-core", list(rows.values()))
                self.compare(walk_program, meta, os.path.join(folder, "pages.bin"), "pages", chosen)

    def table(self, oracle, table, regions, frames):
        """Asks QEMU about one table, and compares; (table, meta, groups, {address: Row})."""
        read, format_ = self.guest.read, table.format
        rng = random.Random(SEED)
        user = [r for r in regions if format_.selects(r[1])]
        groups = addresses.choose(format_, read, table.root, user, rng)
        asked = [at for group in groups for _, at in group.points]
        leaves = {at: format_.walk(read, table.root, at) for at in asked}
        pages = {page for leaf in leaves.values() for page in leaf.tables}
        before = self.digest(pages)
        answers = dict(zip(asked, oracle.answers(table, asked)))
        changed = sum(a != b for a, b in zip(before, self.digest(pages)))

        wrong, listed = [], []
        for at in asked:
            leaf, answer = leaves[at], answers[at]
            # A load: what may only be executed or written is a fault.
            mine = leaf.output if isinstance(leaf, walker.Leaf) and "r" in leaf.perms else None
            if mine != answer.output:
                wrong.append(f"{at:x}: QEMU {answer.output}, walker {leaf}")
                continue
            problem = oracle.differs(at, answer, leaf)
            if problem:
                listed.append(f"{at:x}: {problem}")
        faults = sum(answer.output is None for answer in answers.values())
        self.report(f"{table.name}: QEMU's gva2gpa and the small walker agree on {len(asked)} "
                    f"addresses, {faults} of them faults", some(wrong))
        self.report(f"{table.name}: so do QEMU's listings or its answers at the other privilege",
                    some(listed))
        differ, none = self.frames(table, frames, oracle) if user else ([], 0)
        checked = len(frames) if user else 0
        if user:
            self.report(f"{table.name}: the kernel's pagemap agrees on {checked} pages", some(differ))
        kinds = {(leaf.level, leaf.size, leaf.group) for leaf in leaves.values()
                 if isinstance(leaf, walker.Leaf)}
        lacking = expected_leaves(self.machine, format_) - kinds
        self.report(f"{table.name}: every kind of leaf is among them",
                    f"none of {sorted(lacking)}" if lacking else None)

        tags = {at: group.tag + (":" + name if name else "")
                for group in groups for name, at in group.points}
        rows = {at: self.row(at, tags[at], leaves[at], answers[at]) for at in asked}
        meta = self.meta(oracle, table)
        meta["crosscheck"] = {
            "addresses_asked": len(asked), "own_walker_disagreements": len(wrong),
            "listing_or_privilege_disagreements": len(listed), "pagemap_lines_checked": checked,
            "pagemap_differ": len(differ), "pagemap_prot_none": none,
            "tables_changed_by_queries": changed}
        return table, meta, groups, rows

    def digest(self, pages):
        return [hashlib.sha256(self.guest.read(page, 4096)).digest() for page in sorted(pages)]

    def frames(self, table, frames, oracle):
        """Compares the kernel's page frame numbers with QEMU's answers."""
        differ, none = [], 0
        asked = sorted(frames)
        page = table.format.granule
        for at, answer in zip(asked, oracle.answers(table, asked)):
            # A page without any permission is present for the kernel, and for nobody else.
            if answer.output is None and frames[at]:
                leaf = table.format.walk(self.guest.read, table.root, at)
                if isinstance(leaf, walker.Fault) or "r" not in leaf.perms:
                    none += 1
                    continue
            frame = 0 if answer.output is None else answer.output // page
            if frame != frames[at]:
                differ.append(f"{at:x}: frame {frames[at]:x}, QEMU {frame:x}")
        return differ, none

    @staticmethod
    def row(address, tag, leaf, answer):
        if answer.output is None:
            extra = f";{leaf.perms}" if isinstance(leaf, walker.Leaf) else ""
            return extract.Row(address, None, "-", "-", tag + extra)
        group = ";napot" if leaf.group and leaf.size == 65536 and leaf.level == 1 and \
            "leaf=" not in answer.raw else ""
        return extract.Row(address, answer.output, extract.size_name(leaf.size), leaf.perms,
                           f"{tag};{answer.raw}{group}")

    def meta(self, oracle, table):
        format_ = table.format
        meta = {
            "name": table.name, "walk_format": format_.name, "root": f"0x{table.root:x}",
            "walk_args": table.walk_args, "levels": format_.levels(), "va_bits": format_.input_bits,
            "sign_extended": format_.signed, "granule": format_.granule,
            "registers": table.registers, "kernel_package": self.package,
            "cpu": self.machine.cpu, "kernel_arguments": self.machine.append,
            "qemu": self.guest.qemu_version(), "made_by": "scripts/nightly guest-tables",
            "oracle": oracle.says,
        }
        if isinstance(format_, walker.Arm):
            tcr = int(table.registers["TCR_EL1"], 16)
            meta.update(ttbr=int(format_.upper), tbi=int(format_.tbi), ds_lpa2=int(format_.lpa2),
                        ha=tcr >> 39 & 1, hd=tcr >> 40 & 1)
        return meta

    def write_extract(self, table, meta, groups, rows, folder):
        """Returns the rows that were chosen."""
        read, format_ = self.guest.read, table.format
        needed = {id(group): {page for _, at in group.points
                              for page in format_.walk(read, table.root, at).tables}
                  for group in groups}
        chosen, pages = extract.thin(groups, lambda g: [rows[at] for _, at in g.points],
                                     lambda g: needed[id(g)], PAGE_BYTES, ROWS, format_.granule)
        extract.write(folder, meta, format_.granule, read, chosen, pages)
        return chosen

    def compare(self, walk_program, meta, image, image_format, rows):
        name = f"{meta['name']}: {os.path.basename(walk_program)} walk agrees on {len(rows)} addresses ({image_format})"
        try:
            problems = program.compare(walk_program, meta, image, image_format, rows)
        except (ValueError, KeyError, OSError) as error:
            problems = [str(error)]
        self.report(name, some(problems))
