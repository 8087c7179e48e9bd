# SPDX-License-Identifier: Apache-2.0
"""The world of the model test: its IOMMUs, devices, tenants and limits.

One description, told three ways: to the model (model_devices, quota_tree) and to the broker
(topology_json, policy_json).  Devices differ in formats, reserved ranges, PASIDs, snoop
control and nesting depth; limits are so small that they are met all the time, and the
parent's are less than the sum of its children's.
"""

import json

import ioasid_pb2 as pb
import model
from model import PAGE, Device

ORG = "org"
TENANTS = {"org/red": 50001, "org/green": 50002, "org/blue": 50003}

X4, X5 = pb.PAGE_TABLE_FORMAT_X86_64_4L, pb.PAGE_TABLE_FORMAT_X86_64_5L
V3, V4, V5 = pb.PAGE_TABLE_FORMAT_VTDSS_3L, pb.PAGE_TABLE_FORMAT_VTDSS_4L, pb.PAGE_TABLE_FORMAT_VTDSS_5L
E4, E5 = pb.PAGE_TABLE_FORMAT_EPT_4L, pb.PAGE_TABLE_FORMAT_EPT_5L
FORMAT_WORDS = {X4: "x86_64-4l", X5: "x86_64-5l", V3: "vtdss-3l", V4: "vtdss-4l", V5: "vtdss-5l", E4: "ept-4l", E5: "ept-5l"}

# Kinds that the software IOMMU has.
KINDS = [pb.IOASID_KIND_KERNEL, pb.IOASID_KIND_USER, pb.IOASID_KIND_KVM, pb.IOASID_KIND_PROCESS]

# What lanes ask for, and races.
FORMATS = [X4, X5, V3, V4, V5]
RACE_FORMAT = [V4]

MSI = (0xFEE00000, 0xFEEFFFFF)
IOMMUS = {
    "dmar0": dict(formats=[X4, V3, V4, E4], pasid_bits=20, snoop=True, depth=4, reserved=[MSI], faults=True, dirty=True),
    "dmar1": dict(formats=[V4, V5], pasid_bits=0, snoop=False, depth=4, reserved=[MSI, (0, 0xFFFF)], faults=False, dirty=False),
    "dmar2": dict(formats=[X4, X5, V4, V5, E4, E5], pasid_bits=8, snoop=True, depth=3, reserved=[], faults=False, dirty=True, tlb=8),
}
# (bus, IOMMU, devices in the group)
GROUPS = [
    ("10", "dmar0", 1), ("11", "dmar0", 1), ("12", "dmar0", 2), ("13", "dmar0", 1), ("14", "dmar0", 1),
    ("15", "dmar0", 1), ("20", "dmar1", 1), ("21", "dmar1", 1), ("22", "dmar1", 3), ("23", "dmar1", 1),
    ("30", "dmar2", 1), ("31", "dmar2", 1), ("32", "dmar2", 2), ("33", "dmar2", 1), ("34", "dmar2", 1),
]  # fmt: skip

TENANT_LIMITS = {
    "ioasids": 14, "pasids": 4, "devices": 7, "map_entries": 60, "registered_bytes": 1380 * PAGE,
    "mapped_bytes": 1600 * PAGE, "pinned_bytes": 1300 * PAGE, "leases": 5, "connections": 3,
    "kept_fds": 18, "vms": 4, "nesting_depth": 4, "children_per_parent": 3,
}  # fmt: skip
ORG_LIMITS = {
    "ioasids": 36, "pasids": 9, "devices": 16, "map_entries": 150, "registered_bytes": 1750 * PAGE,
    "mapped_bytes": 2900 * PAGE, "pinned_bytes": 1650 * PAGE, "leases": 13, "connections": 8,
    "kept_fds": 46, "vms": 10,
}  # fmt: skip
PASID_POLICIES = {"org/red": "translated", "org/blue": "none"}
RESERVED = {"org/red": {"ioasids": 6, "map_entries": 20}, "org/green": {"devices": 4}}


def model_devices():
    devices = []
    for number, (bus, iommu, n) in enumerate(GROUPS):
        caps = IOMMUS[iommu]
        for function in range(n):
            devices.append(
                Device(
                    f"0000:{bus}:00.{function}", iommu, number + 1, caps["formats"], caps["reserved"],
                    caps["pasid_bits"], caps["snoop"], caps["depth"], caps["faults"], caps["dirty"],
                    access_dirty=caps["dirty"], tlb="tlb" in caps,
                )
            )  # fmt: skip
    return devices


def quota_tree():
    tree = {
        "": dict(parent=None, limits={}, reserved={}),
        ORG: dict(parent="", limits=ORG_LIMITS, reserved={}),
    }
    for path in TENANTS:
        tree[path] = dict(parent=ORG, limits=TENANT_LIMITS, reserved=RESERVED.get(path, {}))
    return tree


def topology_json():
    iommus = []
    for name, caps in IOMMUS.items():
        iommus.append(
            {
                "name": name,
                "formats": [FORMAT_WORDS[n] for n in caps["formats"]],
                "pasid_bits": caps["pasid_bits"],
                "max_depth": caps["depth"],
                "snoop_control": caps["snoop"],
                "access_dirty": caps["dirty"],
                "page_requests": caps["faults"],
                # Small, so that entries are evicted and come back all the time.
                "iotlb_entries": 16,
                "device_tlb_entries": caps.get("tlb", 0),
                "reserved": [
                    {"start": hex(start), "last": hex(last), "use": "msi"} for start, last in caps["reserved"]
                ],
            }
        )
    devices = [
        {"address": d.address, "vendor_device": "8086:10fb", "class": "020000", "iommu": d.iommu, "group": d.group}
        for d in model_devices()
    ]
    return json.dumps({"version": 1, "iommus": iommus, "devices": devices}, indent=1)


def policy_json():
    tenants = {ORG: {"devices": [{"any": True}], "limits": ORG_LIMITS}}
    identities = [{"socket": "admin", "uid": 0, "role": "admin"}]
    for path, uid in TENANTS.items():
        tenants[path] = {"limits": TENANT_LIMITS, "reservations": RESERVED.get(path, {})}
        if path in PASID_POLICIES:
            tenants[path]["pasid_policy"] = PASID_POLICIES[path]
        identities.append({"socket": "tenants", "uid": uid, "role": "tenant", "tenant": path})
    return json.dumps({"version": 1, "tenants": tenants, "identities": identities}, indent=1)


# ---- a machine's own devices, in place of the ones above --------------------------------


def real_limits():
    """For the few devices that a test guest has; before policy_json() and quota_tree()."""
    TENANT_LIMITS["devices"] = 4
    ORG_LIMITS["devices"] = 6
    RESERVED["org/green"]["devices"] = 2


def real_devices(listing):
    """Of ListDevices with capabilities: the model's devices, as the server describes them.
    That these descriptions are true is for other tests; that answers agree with them, for this."""
    devices, formats = [], {}
    for d in listing:
        caps = d.capabilities
        for f in caps.formats:
            chosen = f.format == pb.PAGE_TABLE_FORMAT_KERNEL_CHOSEN
            formats[f.format] = model.Format(
                f.format, f.input_bits, read_implied=chosen, output_bits=f.output_bits, kernel_chosen=chosen
            )
        devices.append(
            Device(
                d.address, d.iommu, d.group, [f.format for f in caps.formats],
                [(r.start, r.last) for r in caps.reserved], caps.pasid_bits, caps.snoop_control, caps.max_depth,
            )
        )  # fmt: skip
    # As the server prefers them; a first-stage format sign-extends and has fewer IOVAs.
    if not set(formats) <= {pb.PAGE_TABLE_FORMAT_KERNEL_CHOSEN, V3, V4, V5}:
        raise RuntimeError(f"the model does not know all of these formats: {sorted(formats)}")
    model.FORMATS.clear()
    model.FORMATS.update(formats)
    FORMATS[:] = sorted({X4, V3, V4, *formats})
    RACE_FORMAT[:] = [min(formats)]
    return devices
