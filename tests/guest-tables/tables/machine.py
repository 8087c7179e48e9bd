# SPDX-License-Identifier: Apache-2.0
"""
The machines: which kernel, which processor, which table; and booting one until the guest's
process is ready and runs in user mode.  Its memory is a file of the host, which is looked at
while the machine is stopped.  A machine ends with the process that started it.
"""
import ctypes
import mmap
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass

from . import gdb, qmp

MEMORY = 4 << 30
# (start, end, offset in the file): hw/i386/pc_q35.c, hw/riscv/virt.c, hw/arm/virt.c of QEMU.  A PC
# has a hole below 4 GiB.
RANGES = {
    "x86_64": [(0, 2 << 30, 0), (4 << 30, 6 << 30, 2 << 30)],
    "riscv64": [(2 << 30, 6 << 30, 0)],
    "aarch64": [(1 << 30, 5 << 30, 0)],
}


@dataclass(frozen=True)
class Machine:
    name: str
    arch: str  # of QEMU
    flavour: str  # of the kernel: tests/guest-tables/fetch-kernel
    cpu: str
    append: str = ""
    iommu: str = ""  # of VT-d: "legacy", "scalable", "first-stage"

    @property
    def program(self):
        return f"qemu-system-{self.arch}"

    def offset(self, address):
        """Where a physical address is in the file of the memory, or None where there is none."""
        for start, end, at in RANGES[self.arch]:
            if start <= address < end:
                return address - start + at
        return None


# A gigantic page must be set aside at boot.  no_timer_check: QEMU's timer on a busy host.
X86 = "console=ttyS0 no_timer_check pti=off hugepagesz=1G hugepages=1"
RISCV = "console=ttyS0 hugepagesz=1G hugepages=1"
ARM = "console=ttyAMA0"
RV64 = "rv64,svnapot=on,svpbmt=on"
MACHINES = [
    Machine("x86_64-4l", "x86_64", "amd64", "max,phys-bits=52,la57=off", X86),
    Machine("x86_64-5l", "x86_64", "amd64", "max,phys-bits=52,la57=on", X86),
    Machine("sv39", "riscv64", "riscv64", RV64, f"{RISCV} no4lvl"),
    Machine("sv48", "riscv64", "riscv64", RV64, f"{RISCV} no5lvl"),
    Machine("sv57", "riscv64", "riscv64", RV64, RISCV),
    Machine("arm64-4k", "aarch64", "arm64", "max,lpa2=off", f"{ARM} hugepagesz=1G hugepages=1"),
    Machine("arm64-4k-lpa2", "aarch64", "arm64", "max", f"{ARM} hugepagesz=1G hugepages=1"),
    Machine("arm64-16k", "aarch64", "arm64-16k", "max,lpa2=off", ARM),
    Machine("arm64-16k-lpa2", "aarch64", "arm64-16k", "max", ARM),
]
VTD = "console=ttyS0 no_timer_check hugepages=32 hugepagesz=1G hugepages=1 intel_iommu=on"
VTD_MACHINES = [
    Machine("vtd-legacy-ss", "x86_64", "", "max", f"{VTD},sm_off", "legacy"),
    Machine("vtd-scalable-ss", "x86_64", "", "max", f"{VTD},sm_on", "scalable"),
    Machine("vtd-scalable-fs", "x86_64", "", "max", f"{VTD},sm_on", "first-stage"),
]
UNIT = "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"
EDU = ["-device", "edu,addr=04.0,dma_mask=0xffffffffffff"]
IOMMU = {
    "": [],
    "legacy": ["-device", UNIT, *EDU],
    "scalable": ["-device", UNIT + ",x-scalable-mode=on", *EDU],
    "first-stage": ["-device", UNIT + ",x-scalable-mode=on,x-flts=on", *EDU],
}


class BootError(Exception):
    """The guest did not come as far as it should."""


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Guest:
    """A machine whose process is ready; a context manager that ends it."""

    def __init__(self, machine, kernel, initramfs, folder, qemu=None):
        self.machine, self.folder = machine, folder
        self.serial = os.path.join(folder, "serial")
        memory = os.path.join(folder, "memory")
        with open(memory, "wb") as f:
            f.truncate(MEMORY)
        board = {"x86_64": "q35,kernel-irqchip=split" if machine.iommu else "q35", "riscv64": "virt", "aarch64": "virt,gic-version=3"}
        arguments = [
            qemu or machine.program, "-nodefaults", "-no-user-config", "-no-reboot",
            "-machine", board[machine.arch] + ",memory-backend=ram",
            "-object", f"memory-backend-file,id=ram,size={MEMORY},mem-path={memory},share=on",
            "-m", str(MEMORY >> 20), "-cpu", machine.cpu, "-accel", "tcg", "-smp", "1",
            "-display", "none", "-serial", f"file:{self.serial}",
            "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
            "-gdb", f"unix:{folder}/gdb,server=on,wait=off",
            *IOMMU[machine.iommu], "-kernel", kernel, "-initrd", initramfs,
            "-append", f"{machine.append} panic=-1 loglevel=4"]
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL,
                                        preexec_fn=die_with_parent)
        self.memory_file = memory
        self.memory = None
        self.monitor = self.registers = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for thing in (self.monitor, self.registers, self.memory):
            if thing is not None:
                thing.close()

    def console(self):
        try:
            with open(self.serial, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_ready(self, limit):
        """What the guest's process printed, once it is ready.  limit in seconds."""
        end = time.monotonic() + limit
        while not re.search(r"^@ready", (text := self.console()), re.M):
            if failed := re.search(r"^@failed .*", text, re.M):
                raise BootError(failed.group())
            if self.process.poll() is not None:
                raise BootError(f"QEMU ended with status {self.process.returncode}\n{text[-2000:]}")
            if time.monotonic() > end:
                raise BootError(f"not ready after {limit} s\n{text[-2000:]}")
            time.sleep(0.2)
        return text

    def stop(self, in_user_mode, tries=200):
        """Stops the processor while it runs the process; in_user_mode(self) -> bool tells."""
        self.monitor = qmp.Monitor(os.path.join(self.folder, "qmp"))
        with open(self.memory_file, "rb") as f:
            self.memory = mmap.mmap(f.fileno(), MEMORY, prot=mmap.PROT_READ)
        for _ in range(tries):
            self.monitor.execute("stop")
            if in_user_mode(self):
                break
            self.monitor.execute("cont")
            time.sleep(0.05)
        else:
            raise BootError("the process was never seen in user mode")
        self.registers = gdb.Registers(os.path.join(self.folder, "gdb"))

    def read(self, address, length):
        """Bytes of physical memory, or None where there is none."""
        at = self.machine.offset(address)
        return None if at is None else self.memory[at:at + length]

    def dump(self, target):
        """QEMU's own dump of the memory: an ELF core file."""
        self.monitor.execute("dump-guest-memory", paging=False, protocol=f"file:{target}")

    def qemu_version(self):
        return self.monitor.execute("query-version")["package"] or \
            self.monitor.human("info version").strip()


def missing_programs(machines):
    return sorted({m.program for m in machines if not shutil.which(m.program)})
