# SPDX-License-Identifier: Apache-2.0
"""The initramfs of the guest: a console and one static program, in cpio's "newc" format."""
import os
import subprocess

COMPILERS = {"x86_64": "gcc", "riscv64": "riscv64-linux-gnu-gcc",
             "aarch64": "aarch64-linux-gnu-gcc"}


def member(name, mode, data=b"", device=(0, 0)):
    """One member of an archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + path
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


def build(sources, arch, target, options=()):
    """Compiles sources for arch and writes an initramfs that starts the result to the file target."""
    program = target + ".init"
    subprocess.run([COMPILERS[arch], "-std=gnu11", "-O1", "-Wall", "-Werror", "-static", "-s",
                    *options, "-o", program, *sources], check=True)
    with open(program, "rb") as f:
        init = f.read()
    os.unlink(program)
    with open(target, "wb") as f:
        f.write(member("dev", 0o040755))
        f.write(member("dev/console", 0o020600, device=(5, 1)))
        f.write(member("init", 0o100755, init))
        f.write(member("TRAILER!!!", 0))
