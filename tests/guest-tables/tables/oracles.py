# SPDX-License-Identifier: Apache-2.0
"""
What QEMU says of an address on a stopped machine, and which table its registers name.  gva2gpa
walks as a load of the processor in its present state does; where privilege decides, it is asked
in both states, and a row translates if either one does.  "info tlb" and "info mem" are QEMU's own
listings of the whole table.  No answer here comes from a walker of this project.
"""
import bisect
import re
from dataclasses import dataclass, field

from . import walker

UNMAPPED = "Unmapped"


@dataclass
class Table:
    name: str
    format: walker.Format
    root: int
    walk_args: list = field(default_factory=list)  # of ioasidctl walk
    registers: dict = field(default_factory=dict)


def gva2gpa(guest, address):
    text = guest.monitor.human(f"gva2gpa 0x{address:x}").strip()
    if text == UNMAPPED:
        return None
    match = re.fullmatch(r"gpa: (?:0x)?([0-9a-f]+)", text)
    if not match:
        raise ValueError(f"gva2gpa says {text!r}")
    return int(match.group(1), 16)


@dataclass
class Answer:
    output: int | None
    raw: str  # QEMU's own flags, for the tag


class Ranges:
    """Sorted, disjoint ranges with a value each."""

    def __init__(self, items):
        self.items = sorted(items)
        self.starts = [item[0] for item in self.items]

    def find(self, address):
        i = bisect.bisect_right(self.starts, address) - 1
        if i < 0 or address >= self.items[i][1]:
            return None
        return self.items[i][2]


class X86:
    """gva2gpa looks at no permission; those are from the listings."""

    says = ("QEMU HMP gva2gpa (VM stopped); page_size, and x = no NX in the leaf, = info tlb; w and u = "
            "info mem (over all levels); tag tlb= raw info tlb flags X G P D A C T U W")

    @staticmethod
    def in_user_mode(guest):
        return "CPL=3" in guest.monitor.human("info registers")

    def __init__(self, guest):
        self.guest = guest
        text = guest.monitor.human("info registers")
        self.value = {name: int(value, 16) for name, value in
                      re.findall(r"\b(CR[034]|EFER)\s?=\s?([0-9a-f]+)", text)}
        levels = 5 if self.value["CR4"] >> 12 & 1 else 4
        leaves = [(int(at, 16), flags) for at, flags in
                  re.findall(r"^([0-9a-f]{16}): [0-9a-f]{16} (\S{9})\s*$",
                             guest.monitor.human("info tlb"), re.M)]
        self.leaves = dict(leaves)
        self.order = sorted(self.leaves)
        # QEMU 7.2 takes four minutes over five levels, and lists nothing.
        self.memory = None if levels == 5 else \
            Ranges((int(a, 16), int(b, 16), flags) for a, b, flags in
                   re.findall(r"^([0-9a-f]+)-([0-9a-f]+) [0-9a-f]+ (\S{3})\s*$",
                              guest.monitor.human("info mem"), re.M))
        if levels == 5:
            self.says = ("QEMU HMP gva2gpa (VM stopped); page_size, and w, x, u of the leaf = info tlb; "
                         "over all levels = generator walker; tag tlb= raw info tlb flags X G P D A C T U W")
        self.table = Table(guest.machine.name, walker.X86(levels),
                           self.value["CR3"] & 0x000ffffffffff000, [],
                           {k: f"0x{v:x}" for k, v in self.value.items()})

    def tables(self):
        return [self.table]

    def answers(self, table, addresses):
        return [Answer(gva2gpa(self.guest, a), "") for a in addresses]

    def differs(self, address, answer, leaf):
        """What the listings say otherwise than the walker, or None; completes answer.raw."""
        i = bisect.bisect_right(self.order, address) - 1
        listed = self.memory.find(address) if self.memory else None
        if not isinstance(leaf, walker.Leaf):
            return f"info mem {listed}" if listed else None
        if i < 0:
            return "not in info tlb"
        start = self.order[i]
        flags = self.leaves[start]
        answer.raw = f"tlb={flags}"
        if start != leaf.start or ("P" in flags) != (leaf.level > 1):
            return f"info tlb has {start:x} {flags}, not {leaf.start:x} of level {leaf.level}"
        # A larger page has no smaller neighbours inside.
        if i + 1 < len(self.order) and self.order[i + 1] < leaf.start + leaf.size:
            return f"info tlb has {self.order[i + 1]:x} inside of it"
        # info tlb shows the flags of the leaf.
        if [c in flags for c in "XUW"] != [bool(leaf.entry >> bit & 1) for bit in (63, 2, 1)]:
            return f"info tlb flags {flags}"
        if not self.memory:
            return None
        if not listed or ("u" in listed) != ("u" in leaf.perms) or \
                ("w" in listed) != ("w" in leaf.perms):
            return f"info mem {listed}, not {leaf.perms}"
        return None


class Riscv:
    says = ("QEMU HMP gva2gpa in S-mode (VM stopped, mode set by the gdb stub; QEMU's debug access takes SUM "
            "as 1): a load; u cross-checked: gva2gpa in U-mode succeeds iff the leaf has U; perms and the tag "
            "mem= (rwxugad) = info mem; page_size = generator walker (info mem merges ranges)")

    @staticmethod
    def in_user_mode(guest):
        text = guest.monitor.human("info registers")
        # Firmware is at 0x80000000, the kernel in the upper half.
        return int(re.search(r"\bpc\s+([0-9a-f]+)", text).group(1), 16) < 0x40000000

    def __init__(self, guest):
        self.guest = guest
        regs = guest.registers
        satp = regs.read("satp")
        self.memory = Ranges((int(at, 16), int(at, 16) + int(size, 16), flags) for at, size, flags in
                             re.findall(r"^([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+) (\S{7})\s*$",
                                        guest.monitor.human("info mem"), re.M))
        levels = {8: 3, 9: 4, 10: 5}[satp >> 60]
        self.table = Table(guest.machine.name, walker.Riscv(levels),
                           (satp & (1 << 44) - 1) << 12, [], {"satp": f"0x{satp:x}"})

    def tables(self):
        return [self.table]

    def answers(self, table, addresses):
        regs = self.guest.registers
        found = []
        for mode in (0, 1):
            regs.write("priv", mode)
            found.append([gva2gpa(self.guest, a) for a in addresses])
        regs.write("priv", 0)
        answers = []
        for user, supervisor in zip(*found):
            if user not in (None, supervisor):
                raise ValueError(f"U-mode sees {user:x}, S-mode {supervisor}")
            answers.append(Answer(supervisor, "" if user is None else "U"))
        return answers

    def differs(self, address, answer, leaf):
        listed = self.memory.find(address)
        if not isinstance(leaf, walker.Leaf):
            return f"info mem {listed}" if listed else None
        if not listed:
            return "not in info mem"
        user, answer.raw = answer.raw == "U", f"mem={listed}"
        if "r" in leaf.perms and user != ("u" in leaf.perms):
            return f"answers in {'U' if user else 'S'}-mode, not {leaf.perms}"
        return None if listed[:4] == leaf.perms else f"info mem {listed}, not {leaf.perms}"


class Arm:
    says = ("QEMU HMP gva2gpa at EL1 with PSTATE.PAN=0 (VM stopped, PSTATE set by the gdb stub): a data-load "
            "translation at that EL; page_size and perms = generator walker (leaf descriptor in the tag); u "
            "cross-checked: gva2gpa at EL0 succeeds iff AP allows EL0")

    @staticmethod
    def in_user_mode(guest):
        return bool(re.search(r"\bEL0t\b", guest.monitor.human("info registers")))

    def __init__(self, guest):
        self.guest = guest
        regs = guest.registers
        self.value = {name: regs.read(name) for name in
                      ("TTBR0_EL1", "TTBR1_EL1", "TCR_EL1", "MAIR_EL1", "ID_AA64MMFR0_EL1",
                       "ID_AA64MMFR1_EL1", "ID_AA64MMFR2_EL1")}
        tcr = self.value["TCR_EL1"]
        self.lpa2 = tcr >> 59 & 1
        sizes = {0: ({0: 4096, 1: 65536, 2: 16384}[tcr >> 14 & 3], 64 - (tcr & 63), tcr >> 37 & 1),
                 1: ({1: 16384, 2: 4096, 3: 65536}[tcr >> 30 & 3], 64 - (tcr >> 16 & 63),
                     tcr >> 38 & 1)}
        if tcr >> 41 & 3:
            raise ValueError("TCR_EL1.HPD is set")
        self.found = []
        for upper, (granule, bits, tbi) in sizes.items():
            ttbr = self.value[f"TTBR{upper}_EL1"]
            root = ttbr & 0xfffffffffffe
            if self.lpa2:
                root = root & ~0x3f | (ttbr >> 2 & 15) << 48
            args = ["--va-bits", str(bits)] + ["--ttbr1"] * upper + ["--lpa2"] * self.lpa2 + \
                ["--tbi"] * tbi
            self.found.append(Table(f"{guest.machine.name}-ttbr{upper}",
                                    walker.Arm(granule, bits, upper, self.lpa2, tbi), root, args,
                                    {k: f"0x{v:x}" for k, v in self.value.items()}))

    def tables(self):
        return self.found

    def answers(self, table, addresses):
        regs = self.guest.registers
        state = regs.read("cpsr")
        regs.write("cpsr", state & ~0xf & ~(1 << 22) | 5)
        kernel = [gva2gpa(self.guest, a) for a in addresses]
        regs.write("cpsr", state)
        user = [gva2gpa(self.guest, a) for a in addresses]
        answers = []
        for k, u in zip(kernel, user):
            if u is not None and u != k:
                raise ValueError(f"EL0 sees {u:x}, EL1 {k}")
            answers.append(Answer(k, "" if u is None else "EL0"))
        return answers

    def differs(self, address, answer, leaf):
        user, answer.raw = answer.raw == "EL0", ""
        if not isinstance(leaf, walker.Leaf):
            return None
        answer.raw = f"leaf={leaf.entry:016x}" + (";cont" if leaf.group else "")
        return None if user == ("u" in leaf.perms) else \
            f"EL0 {'sees' if user else 'does not see'} it, not {leaf.perms}"


ORACLES = {"x86_64": X86, "riscv64": Riscv, "aarch64": Arm}
