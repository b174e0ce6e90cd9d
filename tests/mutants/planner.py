"""Bugs of the planner and of the values it reads."""

from tests.mutants.mutant import Mutant, law, simulation, story, unit

CORE = "operator/podcidr/core"
PLANNER = (
    Mutant(
        "skip-quarantine",
        "a released block is free again at once",
        f"{CORE}/life.py",
        "if block.uid in memory.unused or (since is not None and scene.now - since >= rest):",
        "if block.uid in memory.unused or since is not None:",
        (unit("core/test_life.py"), law("laws.py"), story(6)),
    ),
    Mutant(
        "ignore-observed-epoch",
        "a report of any epoch proves a Draining block empty",
        f"{CORE}/model.py",
        "return self.known if self.known and self.known.epoch == self.epoch and self._fits(self.known) else None",
        "return self.known",
        (unit("core/test_life.py"), law("laws.py::test_no_block_leaves_before_its_agent_has_heard_and_said_so"), simulation()),
    ),
    Mutant(
        "ignore-observed-question",
        "a report of a history that etcd lost proves a block empty, if its epoch is the same",
        f"{CORE}/model.py",
        "return report.question in (None, self.question)",
        "return True",
        (unit("core/test_life.py"),),
    ),
    Mutant(
        "write-lists-before-their-nodes-have-told",
        "with a suspected ledger the list of a node that goes by a lost one is written until it is newer to the agent",
        f"{CORE}/plan.py",
        "return node in snapshot.memory.silent or is_still(node, snapshot)",
        "return is_still(node, snapshot)",
        (unit("core/test_life.py"),),
    ),
    Mutant(
        "trust-a-report-of-another-uid",
        "the report on a NodeCIDR that bore the name before counts",
        f"{CORE}/model.py",
        "return self.report if self.report and self.report.uid == self.uid else None",
        "return self.report",
        (law("twin.py"), simulation()),
    ),
    Mutant(
        "leave-while-in-use",
        "a Draining block leaves as soon as its agent has seen the epoch, in use or not",
        f"{CORE}/life.py",
        "if nodecidr.current and not any(nodecidr.current.blocks.get(entry.prefix, IDLE)):",
        "if nodecidr.current:",
        (unit("core/test_life.py"), law("laws.py::TestCluster"), simulation()),
    ),
    Mutant(
        "leave-while-cooling",
        "a block whose addresses cool down counts as empty",
        f"{CORE}/life.py",
        "if nodecidr.current and not any(nodecidr.current.blocks.get(entry.prefix, IDLE)):",
        "if nodecidr.current and not nodecidr.current.blocks.get(entry.prefix, IDLE).in_use:",
        (unit("core/test_life.py"), law("laws.py::test_no_block_leaves_before_its_agent_has_heard_and_said_so"), simulation()),
    ),
    Mutant(
        "leave-under-another-uid",
        "a claim of an earlier NodeCIDR of the name is released by the uid of the present one, whose epoch fences nothing off",
        f"{CORE}/life.py",
        "if block.nodecidr_uid == nodecidr.uid and block.prefix not in used:",
        "if block.prefix not in used:",
        (unit("core/test_life.py"), law("twin.py")),
    ),
    Mutant(
        "count-cooling-as-free",
        "the target forgets addresses that cool down",
        f"{CORE}/demand.py",
        """    group.cooling += usage.cooling
""",
        "",
        (law("twin.py"), law("traces.py")),
    ),
    Mutant(
        "count-a-block-without-its-partner",
        "a family's blocks are capacity though pods can't have an address of the pool's other family",
        f"{CORE}/demand.py",
        "        return min(self.addresses, self.used + self.cooling + sum(self.draft.room(pool) for pool in self.listed))",
        "        return self.addresses",
        (unit("core/test_growth.py"), law("twin.py"), law("laws.py::TestCluster")),
    ),
    Mutant(
        "forget-the-orphan",
        "space is free where a block's pool is gone",
        f"{CORE}/vacancy.py",
        "taken = {block.prefix for block in snapshot.blocks.values()}",
        "taken = {block.prefix for block in snapshot.blocks.values() if block.pool in snapshot.pools}",
        (law("twin.py"), story(15)),
    ),
    Mutant(
        "forget-use-outside-the-list",
        "addresses that a node reports outside its list are free",
        f"{CORE}/vacancy.py",
        """            taken.update(prefix for prefix, usage in nodecidr.known.blocks.items() if usage.in_use or usage.cooling)
""",
        """            pass
""",
        (unit("core/test_space.py"), law("twin.py")),
    ),
    Mutant(
        "free-what-is-reported-in-use",
        "a quarantine ends whatever nodes report of the block",
        f"{CORE}/life.py",
        """    barred = scene.frozen.union(*map(_used, nodecidrs), (entry.prefix for nodecidr in nodecidrs for entry in nodecidr.entries))
""",
        """    barred = scene.frozen.union(entry.prefix for nodecidr in nodecidrs for entry in nodecidr.entries)
""",
        (law("twin.py"), simulation()),
    ),
    Mutant(
        "free-what-is-frozen",
        "a broken invariant does not keep a block from being freed",
        f"{CORE}/life.py",
        """    barred = scene.frozen.union(*map(_used, nodecidrs), (entry.prefix for nodecidr in nodecidrs for entry in nodecidr.entries))
""",
        """    barred = set().union(*map(_used, nodecidrs))
""",
        (law("twin.py"),),
    ),
    Mutant(
        "conflict-stays-active",
        "a block that two nodes hold goes on handing out addresses",
        f"{CORE}/life.py",
        """    why_go = "two nodes hold it" if entry.prefix in scene.confirmed else must_go(draft, nodecidr, entry, scene)
""",
        """    why_go = must_go(draft, nodecidr, entry, scene)
""",
        (law("twin.py"), story(18)),
    ),
    Mutant(
        "undrain-while-held",
        "with a suspected ledger a draining block is taken into use again",
        f"{CORE}/life.py",
        "if not why_go and entry.prefix not in scene.frozen and not scene.snapshot.held:",
        "if not why_go and entry.prefix not in scene.frozen:",
        (law("twin.py"), law("laws.py::TestCluster")),
    ),
    Mutant(
        "claim-while-held",
        "with a suspected ledger blocks are claimed",
        f"{CORE}/grow.py",
        "        if self._snapshot.held:",
        "        if False:",
        (law("twin.py"), story(21)),
    ),
    Mutant(
        "plan-from-a-partial-view",
        "a kind that was not listed yet counts as empty",
        f"{CORE}/plan.py",
        """    if snapshot.unlisted:
""",
        """    if False:
""",
        (unit("core"),),
    ),
    Mutant(
        "lost-though-present",
        "a silent agent's blocks are taken while its Node is there",
        f"{CORE}/life.py",
        """    return draft.node is None and since is not None and scene.now - since >= scene.snapshot.lost_node_seconds
""",
        """    return since is not None and scene.now - since >= scene.snapshot.lost_node_seconds
""",
        (unit("core/test_life.py"), law("twin.py")),
    ),
    Mutant(
        "adopt-nothing-unlisted",
        "a claim of an earlier NodeCIDR is left alone, whoever uses it",
        f"{CORE}/life.py",
        """            _adopt(draft, nodecidr, _entry_of(block, scene), scene, words)
""",
        """            pass
""",
        (unit("core/test_life.py"), law("twin.py"), story(7)),
    ),
    Mutant(
        "enter-what-overlaps-another-pool",
        "of two pools that hold one space, accepted by two leaders at once, blocks of both enter",
        f"{CORE}/acceptance.py",
        "if other.name != pool.name and any(cidr.overlaps(claim.prefix) for cidr in other.accepted & frozenset(_cidrs(other))):",
        "if False:",
        (unit("core/test_acceptance.py"),),
    ),
    Mutant(
        "enter-from-a-changed-pool",
        "a block enters though its pool was changed after the claim was decided",
        f"{CORE}/acceptance.py",
        """    if pool.deleting or pool.generation != claim.pool_generation:
""",
        """    if pool.deleting:
""",
        (unit("core/test_acceptance.py"),),
    ),
    Mutant(
        "one-block-twice-in-a-round",
        "a block that the round has given to one node is free for the next",
        f"{CORE}/vacancy.py",
        '''"""The block is given away in this round."""
        self._taken.add(prefix.address)
''',
        '''"""The block is given away in this round."""
''',
        (unit("core/test_space.py"), law("twin.py")),
    ),
    Mutant(
        "shrink-below-the-window",
        "blocks go as soon as the present target is held",
        f"{CORE}/shrink.py",
        "return max(snapshot.memory.highest.get(group.key, 0), group.target)",
        "return group.target",
        (unit("core/test_shrink.py"), law("traces.py")),
    ),
    Mutant(
        "scarcity-passes-by-nodes-with-pending-pods",
        "a node where one pod waits keeps all its empty blocks, while pods elsewhere find none",
        f"{CORE}/shrink.py",
        "if (pool.name, group.key.family) in scarce}:",
        "if not group.pending and (pool.name, group.key.family) in scarce}:",
        (unit("core/test_shrink.py"), law("laws.py::test_in_scarcity_nobody_keeps_what_he_does_not_need"), law("twin.py"), story(24)),
    ),
)
