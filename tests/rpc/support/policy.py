# SPDX-License-Identifier: Apache-2.0
"""Who is who in the suites, and the policy that says so."""
import copy

# uid -> tenant, on the socket "tenants".
A, B, C, D = 64001, 64002, 64003, 64004
TENANT_OF = {A: "org/a", B: "org/b", C: "lab/c", D: "org/d"}
# By group id on "tenants": any uid with this gid.
GID_G = 64030
TENANT_OF_GID = {GID_G: "lab/g"}
# On "agents": may act for org and below.
AGENT = 64010
# On "watch": reads everything.  OBSERVER_ORG sees org and below.
OBSERVER, OBSERVER_ORG = 64020, 64021
# On "admin".
ADMIN = 64050
# No rule knows it.
STRANGER = 64099


def tenant(limits=None, **more):
    return {"limits": limits or {}, **more}


_DEFAULT = {
    "version": 1,
    "host": {"limits": {}},
    "tenants": {
        "org": tenant(devices=[{"any": True}]),
        "org/a": tenant(),
        "org/b": tenant(),
        "org/d": tenant(),
        "lab": tenant(devices=[{"any": True}]),
        "lab/c": tenant(),
        "lab/g": tenant(),
    },
    "identities": [
        *({"socket": "tenants", "uid": uid, "role": "tenant", "tenant": path}
          for uid, path in TENANT_OF.items()),
        *({"socket": "tenants", "gid": gid, "role": "tenant", "tenant": path}
          for gid, path in TENANT_OF_GID.items()),
        {"socket": "agents", "uid": AGENT, "role": "agent", "subtree": "org"},
        {"socket": "watch", "uid": OBSERVER, "role": "observer"},
        {"socket": "watch", "uid": OBSERVER_ORG, "role": "observer", "subtree": "org"},
        {"socket": "admin", "role": "admin"},
    ],
}


def default():
    return copy.deepcopy(_DEFAULT)


def with_limits(**limits_of):
    """The default policy with limits: with_limits(org={...}, org_a={...})."""
    policy = default()
    for name, limits in limits_of.items():
        policy["tenants"][name.replace("_", "/")]["limits"].update(limits)
    return policy
