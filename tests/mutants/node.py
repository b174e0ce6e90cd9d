"""Bugs of the agent and of the plugin."""

from tests.mutants.mutant import Mutant, plugin, simulation, unit

AGENT, STATE, IPAM = "operator/podcidr/agent", "plugin/internal/state", "plugin/internal/ipam"
AGENT_MUTANTS = (
    Mutant(
        "hold-what-no-watch-takes-back",
        "the agent keeps what a restored etcd does not know",
        f"{AGENT}/resync.py",
        "                await self._pods.confirm(self._pods_to_confirm(number))\n",
        "                pass\n",
        (unit("agent/test_resync.py"),),
    ),
    Mutant(
        "draining-stays-published",
        "the plugin goes on assigning from a Draining block",
        f"{AGENT}/allocation.py",
        """        if entry.draining:
            continue
""",
        "",
        (unit("agent/test_allocation.py"),),
    ),
    Mutant(
        "publish-by-an-old-pool",
        "a block is published with reserved addresses of before its claim",
        f"{AGENT}/allocation.py",
        """    if pool.pool.generation < pool_generation:
""",
        """    if False:
""",
        (unit("agent/test_allocation.py"),),
    ),
    Mutant(
        "go-back-an-epoch",
        "an agent that reads late replaces a newer allocation file",
        f"{AGENT}/statedir.py",
        """            if standing and standing.uid == document["uid"] and standing.epoch > document["epoch"]:
                return standing
""",
        "",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "publish-without-the-lock",
        "the file is replaced while an ADD works from the old one",
        f"{AGENT}/statedir.py",
        """        async with self.locked():
            standing = self._standing()
""",
        """        if True:
            standing = self._standing()
""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "publish-before-rename",
        "the allocation file is written where it is read",
        f"{AGENT}/statedir.py",
        """        temporary = self.root / f".{path.name}.tmp"  # only one agent lives, so one name does
""",
        """        temporary = path
""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "count-before-publishing",
        "the report of an epoch is counted while the plugin still has the file of the one before",
        f"{AGENT}/service.py",
        """            await self.publisher.publish(seen, self.pools.items, self.namespaces.items)
            self._trouble = None
        except KubeError as error:
            log.warning("NodeCIDR could not be read again", error=str(error))
            return RETRY_SECONDS
        except OSError as error:
            self._failed(error)
        # Counted after the publication: no address of a Draining block can be assigned any more.
        try:
            self.observation = await self._rewrite_damaged(await self._look())
""",
        """            self.observation = await self._look()
            await self.publisher.publish(seen, self.pools.items, self.namespaces.items)
            self._trouble = None
        except KubeError as error:
            log.warning("NodeCIDR could not be read again", error=str(error))
            return RETRY_SECONDS
        except OSError as error:
            self._failed(error)
        try:
            self.observation = await self._rewrite_damaged(self.observation)
""",
        (unit("agent/test_round.py"),),
    ),
    Mutant(
        "report-an-epoch-that-does-not-stand",
        "an agent that leaves a newer file alone reports its own epoch all the same",
        f"{AGENT}/publisher.py",
        """                log.warning("a newer allocation file stands: left alone", epoch=seen.epoch, standing=standing.epoch)
""",
        """                standing = Standing(seen.uid, seen.epoch)
""",
        (unit("agent/test_publisher.py"),),
    ),
    Mutant(
        "report-an-epoch-that-failed",
        "a full disk keeps the old file, but the report claims the new epoch",
        f"{AGENT}/statedir.py",
        """            raise OSError(error.errno, error.strerror, str(path)) from error  # a write tells no name
""",
        """            del error
""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "report-without-uid",
        "a report lands on a NodeCIDR that was made again",
        f"{AGENT}/reporter.py",
        """            {"op": "test", "path": "/metadata/uid", "value": report.uid},
""",
        "",
        (unit("agent/test_reporter.py"),),
    ),
    Mutant(
        "another-uid-without-a-read",
        "an agent follows a NodeCIDR of another uid that only its cache knows",
        f"{AGENT}/service.py",
        """        if seen is None or standing is None or seen.uid in (standing.uid, self._uid):
""",
        """        if True:
""",
        (unit("agent/test_round.py"),),
    ),
    Mutant(
        "two-agents-at-once",
        "an agent does not wait for the one before it",
        f"{AGENT}/statedir.py",
        """        return _try_lock(self._agent_fd)
""",
        """        return True
""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "trust-a-lock-of-a-lost-directory",
        "the next agent begins beside the one that holds the directory made again",
        f"{AGENT}/statedir.py",
        """    if not state.is_ours():
        raise""",
        """    if False:
        raise""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "rebuild-nothing",
        "after a loss of the state dir nobody holds anything",
        f"{AGENT}/rebuild.py",
        """    return sum(_recover(state, one, state_id, now_seconds) for one in found)
""",
        """    return 0 * sum(1 for one in found)
""",
        (unit("agent/test_files.py"), simulation()),
    ),
    Mutant(
        "reclaim-at-first-sight",
        "what looks leaked once is taken back",
        f"{AGENT}/reclaim.py",
        """            if since < now and now - since >= self._grace_seconds and await self._confirmed(found[key], observation):
""",
        """            if await self._confirmed(found[key], observation):
""",
        (unit("agent/test_files.py"),),
    ),
    Mutant(
        "reclaim-by-the-cache",
        "a pod that only the cache lacks loses its address",
        f"{AGENT}/reclaim.py",
        """        return not _needs(attachment, observed.pod(pod))
""",
        """        return True
""",
        (unit("agent/test_files.py"),),
    ),
    Mutant(
        "reclaim-of-another",
        "a leaked attachment's release frees an address that somebody else holds by now",
        f"{AGENT}/reclaim.py",
        """            ours = link.lstat().st_ino == inode
""",
        """            ours = link.exists() or inode
""",
        (unit("agent/test_files.py"),),
    ),
)
PLUGIN_MUTANTS = (
    Mutant(
        "add-without-the-lock",
        "ADD does not wait for others",
        f"{IPAM}/add.go",
        """	unlock, err := a.dir.Lock()
	if errors.Is(err, state.ErrNoDir) {
		return nil, a.dir.NoDirError(fault.TryAgainLater)
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	if a.mark""",
        "	if a.mark",
        (plugin("TestStuckLockNamesItsHolder|TestParallelAddsNeverShareAnAddress|TestMissingDirectories|TestStateDirNotReady"),),
    ),
    Mutant(
        "address-without-a-link-of-its-own",
        "an address that is held is assigned if the index says that it is free",
        f"{STATE}/attachment.go",
        """		err := unix.Link(file, d.addressPath(held.Address))
		if err == nil {
""",
        """		err := unix.Link(file, d.addressPath(held.Address))
		if err == nil || err == unix.EEXIST {
""",
        (plugin("TestIndexIsRebuilt|TestParallelAddsNeverShareAnAddress|TestKilledAtEachStep"),),
    ),
    Mutant(
        "cooling-is-free",
        "an address is assigned before its cooldown ended",
        f"{STATE}/index.go",
        """	return entry == EntryFree || entry != EntryHeld && float64(entry) <= now
""",
        """	return entry == EntryFree || entry != EntryHeld && float64(entry) >= 0*now
""",
        (plugin("TestCooldown.*"),),
    ),
    Mutant(
        "del-without-cooldown",
        "a released address is free at once",
        f"{STATE}/attachment.go",
        """	d.cool(held)
	for""",
        "	for",
        (plugin("TestCooldown.*"),),
    ),
    Mutant(
        "assign-what-is-reserved",
        "reserved addresses are assigned",
        f"{IPAM}/choose.go",
        """		return r.First.Compare(address) <= 0 && address.Compare(r.Last) <= 0
""",
        """		return r.First.Compare(address) < 0 && address.Compare(r.Last) < 0
""",
        (plugin("TestReservedForms|TestLowest.*"),),
    ),
    Mutant(
        "assign-after-del",
        "an ADD whose DEL came while it waited assigns an address that nobody will release",
        f"{IPAM}/add.go",
        """	if a.mark.Placed() && !a.mark.Stands() {
""",
        """	if false {
""",
        (plugin("TestMarkThatWentWhileItStoodAtTheLock"),),
    ),
    Mutant(
        "half-a-dual-stack-pod",
        "one family of two is enough",
        f"{IPAM}/choose.go",
        """		if len(found.addresses) > 0 && len(found.addresses) == len(pool.Families) {
""",
        """		if len(found.addresses) > 0 {
""",
        (plugin("TestDualStackBothOrNone"),),
    ),
    Mutant(
        "release-what-another-holds",
        "DEL frees an address that somebody else holds by now",
        f"{STATE}/attachment.go",
        """	return unix.Lstat(d.addressPath(address), &stat) == nil && stat.Ino == a.inode
""",
        """	return unix.Lstat(d.addressPath(address), &stat) == nil
""",
        (plugin("TestDelLeavesWhatAnotherHolds"),),
    ),
    Mutant(
        "gc-takes-the-newborn",
        "GC frees what was assigned after the runtime made its list",
        f"{IPAM}/release.go",
        """	if err == nil && record != nil && record.AssignedAt > gc.started {
		return nil
	}
""",
        "",
        (plugin("TestGCLeavesWhatIsYoungerThanItself"),),
    ),
    Mutant(
        "gc-takes-all-networks",
        "GC of one network frees what another holds",
        f"{IPAM}/release.go",
        """		if !strings.HasPrefix(key, gc.prefix) || gc.valid[key] {
""",
        """		if strings.HasPrefix("", gc.prefix) || gc.valid[key] {
""",
        (plugin("TestGC"),),
    ),
    Mutant(
        "highest-block-first",
        "blocks are not used from the lowest: none ever becomes empty",
        f"{IPAM}/choose.go",
        """		for _, block := range family.Blocks {
			entries := index.Entries(block.Prefix)
			for i := range state.Size(block.Prefix) {
				if !state.Usable""",
        """		for n := range family.Blocks {
			block := family.Blocks[len(family.Blocks)-1-n]
			entries := index.Entries(block.Prefix)
			for i := range state.Size(block.Prefix) {
				if !state.Usable""",
        (plugin("TestLowestFreeAddressInAddressOrder"),),
    ),
    Mutant(
        "old-file-after-waiting",
        "an ADD that waited goes by the allocation file of before",
        f"{STATE}/view.go",
        """	if changed && data != nil {
		v.Allocation, err = parseAllocation""",
        """	if changed && data != nil && v.Allocation == nil {
		v.Allocation, err = parseAllocation""",
        (plugin("TestWaitsForABlock"),),
    ),
    Mutant(
        "mixed-states",
        "an allocation file of another state is good enough",
        f"{STATE}/view.go",
        """	if v.Allocation.StateID != v.StateID {
""",
        """	if false {
""",
        (plugin("TestStateDirNotReady"),),
    ),
)
