"""Bugs of carrying a plan out."""

from tests.mutants.mutant import Mutant, law, simulation, unit

CORE, RECONCILE, KUBE = "operator/podcidr/core", "operator/podcidr/reconcile", "operator/podcidr/kube"
WRITES = (
    Mutant(
        "enter-what-another-attempt-claimed",
        "a create that is refused because the name is taken counts as done",
        f"{RECONCILE}/apply.py",
        """        except (AlreadyExists, Invalid, OutcomeUnknown, Unreachable) as error:
            edit.claims.remove(claim)
            outcome.refused.append((claim, str(error)))
""",
        """        except (AlreadyExists, Invalid, OutcomeUnknown, Unreachable) as error:
            outcome.refused.append((claim, str(error)))
""",
        (unit("reconcile/test_apply.py"), simulation()),
    ),
    Mutant(
        "leave-without-the-fence",
        "a claim in no list is quarantined without raising the epoch first: a delayed Enter still fits",
        f"{RECONCILE}/apply.py",
        """            await self._writes.patch_nodecidr(edit.decided.name, operations)
""",
        """            if edit.actions != edit.leaves or edit.entries() != list(edit.decided.entries):
                await self._writes.patch_nodecidr(edit.decided.name, operations)
""",
        (unit("reconcile/test_apply.py"), simulation(300)),
    ),
    Mutant(
        "unused-for-ever",
        "a claim that did not enter needs no quarantine, though it was adopted and used since",
        f"{RECONCILE}/memory.py",
        "if uid in present and present[uid].prefix not in listed}",
        "if uid in present}",
        (unit("reconcile/test_memory.py"),),
    ),
    Mutant(
        "unstamped-has-rested",
        "a quarantine of which nobody knows since when has lasted long enough",
        f"{RECONCILE}/memory.py",
        """            return 0.0
        return max""",
        """            return 1e9
        return max""",
        (unit("reconcile/test_memory.py"),),
    ),
    Mutant(
        "quarantine-before-the-list",
        "the IPBlock is quarantined though the list may still have it",
        f"{RECONCILE}/apply.py",
        """            await self._note_unused(edit, created, outcome)
            return
""",
        """            await self._note_unused(edit, created, outcome)
            for leave in edit.leaves:
                await self._guarded(lambda a, _o: self._quarantine(a, snapshot), leave, outcome)
            return
""",
        (unit("reconcile/test_apply.py"), simulation()),
    ),
    Mutant(
        "a-refusal-is-final",
        "a claim whose Enter was refused counts as unused, though an earlier copy of the patch may have entered it",
        f"{RECONCILE}/apply.py",
        "for claim in edit.claims if claim.prefix not in listed}",
        "for claim in edit.claims}",
        (unit("reconcile/test_apply.py"), simulation()),
    ),
    Mutant(
        "unknown-is-unused",
        "a claim whose Enter got no answer needs no quarantine",
        f"{RECONCILE}/apply.py",
        """        except (OutcomeUnknown, Unreachable) as error:
            outcome.refused += [(action, str(error)) for action in edit.actions]
""",
        """        except (OutcomeUnknown, Unreachable) as error:
            outcome.unused |= {created[claim].uid for claim in edit.claims}
            outcome.refused += [(action, str(error)) for action in edit.actions]
""",
        (unit("reconcile/test_apply.py"),),
    ),
    Mutant(
        "enter-without-reading-the-pools",
        "a block enters by the pools that the plan was made on",
        f"{RECONCILE}/apply.py",
        """        if created:
            await self._drop_what_may_not_enter(batch, created, listed_for, outcome)
""",
        "",
        (unit("reconcile/test_apply.py"),),
    ),
    Mutant(
        "enter-though-the-pools-could-not-be-read",
        "a block enters by the pools that the plan was made on, if no others can be had",
        f"{RECONCILE}/apply.py",
        """            raise Doubt(f"reading pools and blocks after a claim: {error}") from error
""",
        """            return
""",
        (unit("reconcile/test_apply.py"),),
    ),
    Mutant(
        "leave-by-the-cached-absence-of-a-node",
        "a lost node's block leaves although its Node may be back",
        f"{RECONCILE}/apply.py",
        "return await self._writes.read_node(node) is not None",
        "return False",
        (unit("reconcile/test_apply.py"),),
    ),
    Mutant(
        "patch-without-uid",
        "a patch of a NodeCIDR fits one that was made again",
        f"{RECONCILE}/edits.py",
        """            {"op": "test", "path": "/metadata/uid", "value": self.decided.uid},
""",
        "",
        (unit("reconcile/test_edits.py"), simulation()),
    ),
    Mutant(
        "patch-without-epoch",
        "a patch of a NodeCIDR fits a later version of its list",
        f"{RECONCILE}/edits.py",
        """            {"op": "test", "path": "/spec/epoch", "value": self.decided.epoch},
""",
        "",
        (unit("reconcile/test_edits.py"), simulation()),
    ),
    Mutant(
        "adopt-as-active",
        "what is adopted hands out addresses at once",
        f"{RECONCILE}/edits.py",
        "adopt.pool_generation, draining=True)",
        "adopt.pool_generation)",
        (unit("reconcile/test_edits.py"), law("laws.py::TestCluster")),
    ),
    Mutant(
        "adopt-without-touch",
        "an IPBlock is adopted by reading it: another leader's decision on it still fits",
        f"{RECONCILE}/apply.py",
        """                await self._writes.touch_block(block)
""",
        """                pass
""",
        (
            unit("reconcile/test_apply.py"),
            unit("reconcile/test_leader.py"),
        ),
    ),
    Mutant(
        "adopt-what-could-not-be-touched",
        "an IPBlock that somebody has written to since the decision is adopted all the same",
        f"{RECONCILE}/apply.py",
        """            edit.adopts.remove(adopt)
""",
        "",
        (unit("reconcile/test_apply.py"),),
    ),
    Mutant(
        "touch-that-changes-nothing",
        "the write that should raise an IPBlock's version leaves it as it is",
        f"{RECONCILE}/writes.py",
        '"touches": block.touches + 1}',
        '"touches": block.touches}',
        (unit("reconcile/test_leader.py"), simulation()),
    ),
    Mutant(
        "delete-block-without-precondition",
        "an IPBlock is deleted by its name alone",
        f"{RECONCILE}/writes.py",
        "await self._client.delete(IPBLOCKS, name, uid=action.uid, resource_version=str(action.resource_version))",
        "await self._client.delete(IPBLOCKS, name)",
        (unit("reconcile/test_leader.py"), law("applied_once.py"), simulation(300)),
    ),
    Mutant(
        "quarantine-at-any-version",
        "an IPBlock is quarantined whatever was written to it since the decision",
        f"{RECONCILE}/writes.py",
        """        body = {"metadata": {"resourceVersion": str(block.resource_version), "uid": block.uid}, "status": status}
""",
        """        body = {"metadata": {"uid": block.uid}, "status": status}
""",
        (unit("reconcile/test_leader.py"), law("applied_once.py"), simulation()),
    ),
    Mutant(
        "delete-nodecidr-without-precondition",
        "a NodeCIDR is let go though a block entered after the decision",
        f"{RECONCILE}/writes.py",
        """        body = {"metadata": {"resourceVersion": version, "uid": nodecidr.uid, "finalizers": None}}
""",
        """        body = {"metadata": {"finalizers": None}}
""",
        (unit("reconcile/test_leader.py"), law("applied_once.py"), simulation(300)),
    ),
    Mutant(
        "trust-a-stale-cache-of-pools",
        "after a claim the pools are read from the cache",
        f"{RECONCILE}/writes.py",
        """        await self._observed.pools.relist()
""",
        "",
        (unit("reconcile/test_leader.py"), simulation(300)),
    ),
    Mutant(
        "list-blocks-before-pools",
        "the geometry rule's reads are made in the wrong order",
        f"{RECONCILE}/observed.py",
        """        await self.pools.relist()
        geometries =""",
        """        await self.blocks.relist()
        await self.pools.relist()
        geometries =""",
        (unit("reconcile/test_leader.py"),),
    ),
    Mutant(
        "enter-over-a-ledger-of-before",
        "pools are not those the ledger was listed for, and a block enters without another list",
        f"{RECONCILE}/apply.py",
        "as_listed = {pool.geometry for pool in pools.values()} == listed_for",
        "as_listed = True",
        (unit("reconcile/test_apply.py"), simulation()),
    ),
    Mutant(
        "list-for-pools-as-they-are",
        "the pools that the ledger counts as listed for are those after the list, not before",
        f"{RECONCILE}/observed.py",
        """        return geometries
""",
        """        return self.geometries
""",
        (unit("reconcile/test_rounds.py"),),
    ),
    Mutant(
        "acceptance-moves-no-space",
        "a CIDR that another pool had is claimed from once it is accepted, without a list of what the other's blocks have of it",
        "operator/podcidr/core/model.py",
        "return self.uid, self.generation, self.accepted",
        "return self.uid, self.generation, frozenset()",
        (unit("reconcile/test_rounds.py"),),
    ),
    Mutant(
        "believe-one-watch",
        "a broken invariant is believed without consistent reads: two watches out of step drain healthy blocks",
        f"{RECONCILE}/rounds.py",
        """        self._relist = True
        await self._prepare()
        fresh = self._snapshot()
""",
        """        fresh = self._snapshot()
""",
        (unit("reconcile/test_leader.py"),),
    ),
    Mutant(
        "lost-by-the-first-silence",
        "a report from a node whose Node is gone does not begin its ten minutes anew",
        f"{RECONCILE}/memory.py",
        "if known and known.reported_at == stamp and known.since > float",
        "if known and known.since > float",
        (unit("reconcile/test_memory.py"), simulation()),
    ),
    Mutant(
        "ledger-trusted-at-once",
        "a suspected ledger is believed before the nodes have told what they use",
        f"{RECONCILE}/ledger.py",
        """        if not waiting or min(now, listed_at) >= self.since + WAIT_SECONDS:
""",
        """        if True:
""",
        (unit("reconcile/test_ledger.py"),),
    ),
    Mutant(
        "old-reports-answer",
        "a report from before the suspicion counts as an answer",
        f"{CORE}/model.py",
        "epoch <= self.known.epoch <= self.epoch and",
        "self.known.epoch <= self.epoch and",
        (unit("reconcile/test_ledger.py"),),
    ),
    Mutant(
        "an-answer-to-the-question-before",
        "after a second restore what nodes told after the first ends the wait",
        f"{RECONCILE}/ledger.py",
        """        self._asked.clear()
""",
        "",
        (unit("reconcile/test_ledger.py"),),
    ),
    Mutant(
        "an-older-list-means-nothing",
        "a list of an older version than one before does not make the ledger suspect",
        f"{RECONCILE}/rounds.py",
        "        if self.observed.regressed:\n",
        "        if False:\n",
        (unit("reconcile/test_rounds.py"), simulation()),
    ),
    Mutant(
        "doubt-without-fresh-lists",
        "after a write that nothing is known of the next plan is made on the caches",
        f"{RECONCILE}/rounds.py",
        """                self._failures += 1
                self._relist = True
""",
        """                self._failures += 1
""",
        (unit("reconcile/test_rounds.py"),),
    ),
    Mutant(
        "a-list-is-as-new-as-its-answer",
        "the wait for silent nodes ends by a list that was made before its end",
        f"{RECONCILE}/rounds.py",
        "self._relist, self._listed_at = False, began",
        "self._relist, self._listed_at = False, self.clock.monotonic()",
        (unit("reconcile/test_rounds.py"),),
    ),
    Mutant(
        "watched-as-a-follower",
        "a new leader takes the time in which it followed for a time in which it watched",
        f"{RECONCILE}/rounds.py",
        """        self.memory = LeaderMemory(self.clock, self.clock.monotonic())
        self.ledger.judge""",
        """        self.ledger.judge""",
        (unit("reconcile/test_rounds.py"),),
    ),
    Mutant(
        "a-later-epoch-means-nothing",
        "a node that has seen a later epoch than the API has does not make the ledger suspect",
        f"{RECONCILE}/rounds.py",
        "        if ahead and self.ledger.why is None:\n",
        "        if False:\n",
        (unit("reconcile/test_rounds.py"), simulation()),
    ),
    Mutant(
        "pool-goes-before-its-blocks",
        "a pool's finalizer goes by the cache alone",
        f"{RECONCILE}/pools.py",
        """        await self.observed.blocks.relist()
        return self._count_blocks(pool)
""",
        """        return self._count_blocks(pool)
""",
        (unit("reconcile/test_leader.py"), simulation()),
    ),
    Mutant(
        "offer-again-what-a-lost-list-gave-away",
        "a list goes above what its node has seen with its blocks Active, though others may have them by now",
        f"{RECONCILE}/edits.py",
        "        if self.decided.overtaken:  # what",
        "        if False:  # what",
        (unit("reconcile/test_edits.py"),),
    ),
    Mutant(
        "a-lost-report-answers",
        "a report at an epoch above the list's counts as the answer to a question that its agent has not heard",
        f"{CORE}/model.py",
        "epoch <= self.known.epoch <= self.epoch and",
        "epoch <= self.known.epoch and",
        (unit("reconcile/test_ledger.py"),),
    ),
    Mutant(
        "a-lease-that-went-back-is-ours",
        "a leader that lives through a restore of etcd does not notice",
        f"{KUBE}/lease.py",
        "                self.on_regression()\n",
        "                pass\n",
        (unit("kube/test_lease.py"),),
    ),
)
