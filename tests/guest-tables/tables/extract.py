# SPDX-License-Identifier: Apache-2.0
"""
Sets of page tables on disk, in the layout that tests/data/page-tables/README.md describes:
meta.json, pages.bin, translations.tsv.
"""
import json
import os
import struct
from dataclasses import dataclass

HEAD = "# va_hex\tpa_hex_or_FAULT\tpage_size\tperms\ttag\n"


@dataclass
class Row:
    address: int
    output: int | None
    size: str
    perms: str
    tag: str

    def line(self):
        output = "FAULT" if self.output is None else f"{self.output:x}"
        return f"{self.address:x}\t{output}\t{self.size}\t{self.perms}\t{self.tag}\n"


def size_name(size):
    for unit, shift in (("G", 30), ("M", 20), ("K", 10)):
        if size >> shift and not size & ((1 << shift) - 1):
            return f"{size >> shift}{unit}"
    raise ValueError(size)


def size_of(name):
    return int(name[:-1]) << {"K": 10, "M": 20, "G": 30}[name[-1]]


def write(folder, meta, granule, read, rows, pages):
    """pages: their physical addresses; read(address, length) -> bytes."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "pages.bin"), "wb") as f:
        for address in sorted(pages):
            f.write(struct.pack("<Q", address) + read(address, granule))
    with open(os.path.join(folder, "translations.tsv"), "w", encoding="utf-8") as f:
        f.write(HEAD)
        f.writelines(row.line() for row in rows)
    sizes = {}
    for row in rows:
        if row.output is not None:
            sizes[row.size] = sizes.get(row.size, 0) + 1
    meta = dict(meta, table_pages=len(pages), lines=len(rows),
                faults=sum(row.output is None for row in rows),
                page_record=f"8-byte LE physical address, then {granule} bytes",
                lines_by_page_size=sizes)
    with open(os.path.join(folder, "meta.json"), "w", encoding="utf-8") as f:
        json.dump(meta, f, indent=1)
        f.write("\n")


def load(folder):
    """(meta, rows, {address: bytes})."""
    with open(os.path.join(folder, "meta.json"), encoding="utf-8") as f:
        meta = json.load(f)
    rows = []
    with open(os.path.join(folder, "translations.tsv"), encoding="utf-8") as f:
        for line in f:
            if line.startswith("#"):
                continue
            va, pa, size, perms, tag = line.rstrip("\n").split("\t")
            rows.append(Row(int(va, 16), None if pa == "FAULT" else int(pa, 16), size, perms, tag))
    granule, pages = meta["granule"], {}
    with open(os.path.join(folder, "pages.bin"), "rb") as f:
        while record := f.read(8 + granule):
            if len(record) != 8 + granule:
                raise ValueError(f"{folder}/pages.bin ends inside a record")
            pages[struct.unpack_from("<Q", record)[0]] = record[8:]
    return meta, rows, pages


def thin(groups, rows_of, pages_of, limit_bytes, limit_rows, granule):
    """
    Those groups whose rows and table pages fit, of each kind in turn.  rows_of and pages_of:
    functions of a group.  Returns (rows, pages).
    """
    kinds = {}
    for group in groups:
        kinds.setdefault(group.kind, []).append(group)
    queues = [list(reversed(queue)) for queue in kinds.values()]
    rows, pages, left = [], set(), limit_bytes
    while queues and len(rows) < limit_rows:
        for queue in queues:
            # The first one that costs no page, if there is any near; else the next one.
            near = range(len(queue) - 1, max(-1, len(queue) - 9), -1)
            at = next((i for i in near if pages_of(queue[i]) <= pages), len(queue) - 1)
            group = queue.pop(at)
            new = pages_of(group) - pages
            mine = rows_of(group)
            cost = len(new) * (granule + 8) + sum(len(row.line()) for row in mine)
            if cost > left:
                continue
            left -= cost
            pages |= new
            rows += mine
        queues = [queue for queue in queues if queue]
    return rows, pages
