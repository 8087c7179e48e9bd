# SPDX-License-Identifier: Apache-2.0
"""
Reservations: need(n) = own(n) + sum over children of max(need(c), reserved(c)) <= limit(n).
org has 10; 4 of them are set aside for org/a; org/b and org/d take what is left.
"""
from support import policy
from support.case import Case
from support.client import Refused

POLICY = policy.with_limits(org={"ioasids": 10}, org_d={"ioasids": 3})
POLICY["tenants"]["org/a"]["reservations"] = {"ioasids": 4}


class Reservations(Case):
    def take(self, conn, n):
        """How many of n fit."""
        return sum(not isinstance(conn.attempt("Alloc", kind=self.pb.IOASID_KIND_KERNEL), Refused)
                   for _ in range(n))

    def uses(self):
        return {p: self.used(p, "ioasids") for p in ("org", "org/a", "org/b")}

    def test_reserved_share_counts_as_used_by_the_parent(self):
        self.assertEqual(self.uses(), {"org": 4, "org/a": 0, "org/b": 0})
        self.assertEqual(self.usage("org/a")["ioasids"].reserved, 4)
        self.take(self.a, 3)
        self.assertEqual(self.uses(), {"org": 4, "org/a": 3, "org/b": 0})
        self.take(self.a, 3)
        self.assertEqual(self.uses(), {"org": 6, "org/a": 6, "org/b": 0})

    def test_others_cannot_touch_it(self):
        self.assertEqual(self.take(self.b, 10), 6)
        refusal = self.refused("QUOTA", self.b.Alloc, kind=self.pb.IOASID_KIND_KERNEL)
        self.assertEqual(refusal.quota[0][0], "org")
        self.assertEqual(self.take(self.a, 10), 4)
        self.assertEqual(self.uses(), {"org": 10, "org/a": 4, "org/b": 6})

    def test_what_is_beyond_it_is_shared(self):
        self.assertEqual(self.take(self.a, 20), 10)
        self.assertEqual(self.take(self.b, 1), 0)

    def test_freed_reserved_share_is_not_given_to_others(self):
        ids = [self.alloc(self.a) for _ in range(4)]
        self.assertEqual(self.take(self.b, 10), 6)
        for ioasid in ids:
            self.a.Free(ioasid=ioasid)
        self.assertEqual(self.take(self.b, 1), 0)
        self.assertEqual(self.take(self.a, 5), 4)

    def test_explain_knows_of_it(self):
        def fits(conn, n):
            return conn.ExplainQuota(amounts=[{"resource": "ioasids", "amount": n}]).fits
        self.assertEqual([fits(self.b, 6), fits(self.b, 7)], [True, False])
        self.assertEqual([fits(self.a, 10), fits(self.a, 11)], [True, False])
        self.take(self.b, 6)
        self.assertEqual([fits(self.a, 4), fits(self.a, 5)], [True, False])

    def test_reservations_that_do_not_fit_are_refused_at_load(self):
        for path, reserved in (("org/a", 11), ("org/d", 4)):
            changed = policy.with_limits(org={"ioasids": 10}, org_d={"ioasids": 3})
            changed["tenants"][path]["reservations"] = {"ioasids": reserved}
            self.world.server.write_policy(changed)
            self.addCleanup(self.world.server.write_policy, POLICY)
            answer = self.admin.attempt("ReloadPolicy")
            with self.subTest(path=path):
                self.assertIsInstance(answer, Refused)
                self.check_refusal(answer, answer.reason)
                self.assertIn("ioasids", answer.text())
        self.assertEqual(self.usage("org/a")["ioasids"].reserved, 4)
