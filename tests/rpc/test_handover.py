# SPDX-License-Identifier: Apache-2.0
"""A lease that an agent opened for a container, and a broker that is killed meanwhile."""
import time

from support import fdpass, policy
from support.case import Case

KEEPER = True
ARGUMENTS = ("--grace", "1")


class Handover(Case):
    def test_kept_and_handed_over(self):
        """With its limits; also when its holder does not come back in time."""
        victim = self.fresh_actor(policy.AGENT)
        agent = self.connect(policy.AGENT, "agents")
        ticket = agent.OpenTicket(purpose=self.pb.TICKET_PURPOSE_PROCESS, tenant="org/a").ticket
        self.assertEqual(victim.exchange(agent.path, fdpass.request(fdpass.GIVE, ticket),
                                         [victim.pidfd()])[0], fdpass.OK)
        secret = agent.OpenLease(name="pod", tenant="org/a", keep=True, handover=True,
                                 watch_ticket=ticket,
                                 limits=[dict(resource="ioasids", amount=1)]).secret
        agent.close()
        self.world.restart()
        heir = self.connect(policy.A)
        heir.AdoptLease(name="pod", secret=secret)
        self.alloc(heir, lease="pod")
        self.world.restart()
        # Its holder had the grace time to come back.
        a = self.connect(policy.A)
        time.sleep(1.5 * self.slow)
        a.AdoptLease(name="pod", secret=secret)
        self.refused("QUOTA", a.Alloc, kind=self.pb.IOASID_KIND_KERNEL, lease="pod")
        victim.kill()
        self.wait_used("org/a", "leases", 0)
