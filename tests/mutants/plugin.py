"""Bugs of the plugin."""

from tests.mutants.mutant import Mutant, plugin

STATE, IPAM = "plugin/internal/state", "plugin/internal/ipam"
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
        "keep-half-a-pair",
        "an ADD that gets one address of two keeps it, in nobody's record",
        f"{STATE}/attachment.go",
        """			_ = unix.Unlink(d.addressPath(done.Address))
""",
        """			_ = done
""",
        (plugin("TestHalfOfAPairIsGivenBack"),),
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
        "no-cooldown-where-the-record-is-damaged",
        "an address that is freed without its record is free at once",
        f"{STATE}/index.go",
        """	index.Set(address, coolingUntil(defaultCooldownSeconds))
""",
        """	index.Set(address, EntryFree)
""",
        (plugin("TestDelOfACorruptRecordFreesByInode"),),
    ),
    Mutant(
        "index-of-the-boot-before",
        "times of an earlier boot are believed",
        f"{STATE}/index.go",
        """		float64(le.Uint64(header[changedAt:])) > Now():
""",
        """		false:
""",
        (plugin("TestCooldownsOfTheBootBeforeAreForgotten"),),
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
        "gc-takes-the-newborn-mark",
        "GC ends an ADD that began to wait after the runtime made its list",
        f"{IPAM}/release.go",
        """	if record == nil && gc.dir.MarkSince(key) > gc.started {
		return nil
	}
""",
        "",
        (plugin("TestGCLeavesMarksYoungerThanItself"),),
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
