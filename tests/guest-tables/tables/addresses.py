# SPDX-License-Identifier: Apache-2.0
"""
Which addresses are asked: every region of the guest's process, a sample of every kind of leaf that
the table has, the bytes just beside them, holes, the ends of the address space, and addresses
that differ from a mapped one in one bit.  A group is what is judged and extracted together.
"""
from dataclasses import dataclass

PER_KIND = 48  # leaves of each kind
MASK = (1 << 64) - 1


@dataclass
class Group:
    kind: str  # groups of a kind are interchangeable in an extract
    tag: str
    points: list  # (name of the point, address)


def around(start, end, rng, inside):
    """First and last byte, one beyond each, and some inside."""
    points = [("first", start), ("last", end - 1), ("before", start - 1), ("after", end)]
    points += [("rand", rng.randrange(start, end)) for _ in range(inside)]
    return [(name, at & MASK) for name, at in points]


def sample(rng, kept, count, item, limit):
    """Reservoir sampling: kept is a fair sample of what was seen."""
    if len(kept) < limit:
        kept.append(item)
    elif (i := rng.randrange(count)) < limit:
        kept[i] = item


def region_groups(regions, page, rng):
    for name, start, end in regions:
        yield Group("region", f"u-{name}", around(start, end, rng, 2))
        pages = (end - start) // page
        for i in range(0, pages, max(1, pages // 6)):
            at = start + i * page
            yield Group("region-page", f"u-{name}:page",
                        [("first", at), ("last", at + page - 1), ("rand", rng.randrange(at, at + page))])


def leaf_groups(format_, read, root, rng):
    kinds, holes, seen, last = {}, [], 0, None
    for start, size, level, perms, group in format_.leaves(read, root):
        half = "upper" if start >> 63 else "lower"
        kind = (half, level, size, perms, group)
        kept, count = kinds.setdefault(kind, ([], [0]))
        count[0] += 1
        sample(rng, kept, count[0], start, PER_KIND)
        if last is not None and start > last:
            seen += 1
            sample(rng, holes, seen, (last, start), 3 * PER_KIND)
        last = start + size
    for (half, level, size, perms, group), (kept, _) in kinds.items():
        kind = f"{half}-L{level}-{size:x}-{perms}" + ("-group" if group else "")
        for start in kept:
            yield Group(kind, f"L{level}" + (":group" if group else ""),
                        around(start, start + size, rng, 1))
    for start, end in holes:
        yield Group("hole", "hole", [("middle", (start + end) // 2 & MASK),
                                     ("rand", rng.randrange(start, end) & MASK)])


def fixed_groups(format_):
    """The ends of what the table reaches, and of what there is."""
    bits = format_.input_bits
    edges = {0, 1 << 63, MASK, 1 << bits, 1 << (bits - 1), (-1 << bits) & MASK,
             (-1 << (bits - 1)) & MASK}
    edges |= {1 << b for b in (39, 47, 48, 52, 55, 56, 57)}
    for edge in sorted(edges):
        for at in (edge - 1 & MASK, edge):
            yield Group("fixed", "fixed", [("", at)])


def flip_groups(mapped, rng):
    """mapped: addresses that translate."""
    for bit in range(12, 64):
        for _ in range(8):
            yield Group("flip-high" if bit > 46 else "flip", f"bitflip{bit}",
                        [("", rng.choice(mapped) ^ 1 << bit)])


def random_groups(format_, rng):
    for _ in range(200):
        yield Group("random", "random", [("", format_.full(rng.getrandbits(format_.input_bits)))])


def choose(format_, read, root, regions, rng):
    """All groups; no address twice, and none that is another table's."""
    groups = list(region_groups(regions, format_.granule, rng))
    groups += leaf_groups(format_, read, root, rng)
    mapped = [at for group in groups for name, at in group.points if name in ("first", "rand", "last")
              and hasattr(format_.walk(read, root, at), "output")]
    groups += fixed_groups(format_)
    groups += flip_groups(mapped, rng)
    groups += random_groups(format_, rng)
    seen, unique = set(), []
    for group in groups:
        points = []
        for name, at in group.points:
            if at not in seen and format_.selects(at):
                seen.add(at)
                points.append((name, at))
        if points:
            unique.append(Group(group.kind, group.tag, points))
    return unique
