# SPDX-License-Identifier: Apache-2.0
"""Compares the answers of a program, "ioasidctl walk", with those of QEMU."""
import json
import subprocess

from . import extract


def run(program, table_format, root, args, image, image_format, addresses):
    """One object an address, in their order."""
    command = [program, "walk", "--format", table_format, "--root", f"0x{root:x}", *args,
               "--image", image, "--image-format", image_format, "-o", "json", "-"]
    done = subprocess.run(command, input="".join(f"0x{a:x}\n" for a in addresses),
                          capture_output=True, text=True, check=False)
    # A fault is an answer.
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: status {done.returncode}: {done.stderr[-500:]}")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if [int(a["address"], 16) for a in answers] != addresses:
        raise ValueError(f"{' '.join(command)}: {len(answers)} answers to {len(addresses)} "
                         f"addresses, or others: {done.stderr[-500:]}")
    return answers


def letters(perms):
    return set(perms) - {"-"}


def is_cpu(meta):
    """Whether a set is a processor's: FAULT means "no read translation", and there are users."""
    return "iommu" not in meta and not meta["walk_format"].startswith("vtdss")


def difference(row, answer, meta):
    """
    How an answer differs from a row, or None.  In a set of a processor it is right to say that an
    address of a FAULT row translates, if it may not be read.
    """
    if answer["result"] != "ok":
        if answer.get("cause") == "not-in-image":
            return "asks for a page that is not there"
        return None if row.output is None else f"faults: {answer.get('cause')}"
    perms, cpu = letters(answer["perm"]), is_cpu(meta)
    if row.output is None:
        return f"translates to {answer['output']}" if "r" in perms or not cpu else None
    if int(answer["output"], 16) != row.output:
        return f"gives {answer['output']}, not {row.output:x}"
    # Groups of entries on ARM are listed by the size of the entry; a walker may join them.
    size, joined = extract.size_of(row.size), row.tag.endswith(";cont")
    if answer["page_size"] != size and not (joined and answer["page_size"] > size):
        return f"page size {answer['page_size']}, not {row.size}"
    wanted = letters(row.perms)
    checked = {"r", "w"} | ({"u"} if cpu else set())
    wrong = perms & checked != wanted & checked
    if meta["walk_format"].startswith("armv8-s1"):
        # Rows have x for EL0 and P for EL1.
        wrong |= ("x" in perms) not in ("x" in wanted, "P" in wanted)
    elif cpu:
        wrong |= ("x" in perms) != ("x" in wanted)
    return f"permissions {answer['perm']}, not {row.perms}" if wrong else None


def compare(program, meta, image, image_format, rows):
    """The differences, as text, of a program over a set of rows."""
    answers = run(program, meta["walk_format"], int(meta["root"], 16), meta["walk_args"], image,
                  image_format, [row.address for row in rows])
    problems = []
    for row, answer in zip(rows, answers):
        problem = difference(row, answer, meta)
        if problem:
            problems.append(f"{row.address:x} ({row.tag}): {problem}")
    return problems
