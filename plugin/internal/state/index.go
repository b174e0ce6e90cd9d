package state

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sort"

	"golang.org/x/sys/unix"
)

// The layout of the file: docs/state-dir.md, "index".
const (
	indexMagic   = "podcidrX"
	headerBytes  = 128
	rowBytes     = 32
	entryBytes   = 4
	blockAlign   = 64
	stateIDAt    = 64
	stateIDBytes = 64
	builtAt      = 24
	changedAt    = 32
)

// Entries that are no time.
const (
	EntryFree uint32 = 0
	EntryHeld uint32 = math.MaxUint32
)

// defaultCooldownSeconds is for an address whose attachment can't be read; it is the pools' default.
const defaultCooldownSeconds = 120

// Index is the mapped file. A nil one is empty.
type Index struct {
	data  []byte
	rows  []row
	inode uint64
}

// row is a block with its entries, which are the file's own bytes.
type row struct {
	block   netip.Prefix
	entries []byte
}

// OpenIndex maps the file if it is sound and of this stateID ("" takes any); nil means that it has to be built.
// Mapped, it costs the same however many addresses it lists: pages are read when looked at.
func (d Dir) OpenIndex(stateID string) *Index {
	fd, err := unix.Open(d.path("index"), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) != nil || stat.Size < headerBytes || stat.Size > math.MaxInt32 {
		return nil
	}
	data, err := unix.Mmap(fd, 0, int(stat.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	index := &Index{data: data, inode: stat.Ino}
	if !index.parse(stateID) {
		index.Close()
		return nil
	}
	return index
}

// Close unmaps the file.
func (x *Index) Close() {
	if x != nil {
		_ = unix.Munmap(x.data)
	}
}

// Stale says whether another file has been renamed over this one.
func (d Dir) Stale(x *Index) bool {
	var stat unix.Stat_t
	err := unix.Stat(d.path("index"), &stat)
	return (x == nil) != (err != nil) || x != nil && stat.Ino != x.inode
}

func (x *Index) parse(stateID string) bool {
	le, header := binary.LittleEndian, x.data[:headerBytes]
	count := le.Uint32(header[12:])
	switch {
	case string(header[:8]) != indexMagic || le.Uint32(header[8:]) != Version,
		le.Uint64(header[16:]) != uint64(len(x.data)),
		uint64(count)*rowBytes > uint64(len(x.data)-headerBytes),
		float64(le.Uint64(header[changedAt:])) > Now():
		return false
	}
	written := string(bytes.TrimRight(header[stateIDAt:], "\x00"))
	if stateID != "" && written != stateID {
		return false
	}
	x.rows = make([]row, count)
	for i := range x.rows {
		var ok bool
		if x.rows[i], ok = x.parseRow(x.data[headerBytes+i*rowBytes:]); !ok {
			return false
		}
		if i > 0 && (x.rows[i].block.Overlaps(x.rows[i-1].block) || comparePrefixes(x.rows[i-1].block, x.rows[i].block) >= 0) {
			return false
		}
	}
	return true
}

func (x *Index) parseRow(raw []byte) (row, bool) {
	le := binary.LittleEndian
	address := netip.AddrFrom16([16]byte(raw[:16]))
	if raw[16] == 4 {
		address = netip.AddrFrom4([4]byte(raw[:4]))
	}
	block := netip.PrefixFrom(address, int(raw[17]))
	if !block.IsValid() || block != block.Masked() || address.BitLen()-block.Bits() > maxBlockBits {
		return row{}, false
	}
	count, offset, size := uint64(le.Uint32(raw[20:])), le.Uint64(raw[24:]), uint64(len(x.data))
	if count != uint64(Size(block)) || offset%entryBytes != 0 || offset > size || count*entryBytes > size-offset {
		return row{}, false
	}
	return row{block, x.data[offset : offset+count*entryBytes]}, true
}

// rowOf finds the row that an address is in.
func (x *Index) rowOf(address netip.Addr) *row {
	if x == nil {
		return nil
	}
	after := sort.Search(len(x.rows), func(i int) bool { return address.Less(x.rows[i].block.Addr()) })
	if after == 0 || !x.rows[after-1].block.Contains(address) {
		return nil
	}
	return &x.rows[after-1]
}

// Entries gives a block's entries, nil if it has no row.
func (x *Index) Entries(block netip.Prefix) Entries {
	if r := x.rowOf(block.Addr()); r != nil && r.block == block {
		return r.entries
	}
	return nil
}

// Entries are the numbers of one block's addresses; nil ones are all free.
type Entries []byte

// At gives entry i in one load, so that a change in between is seen whole or not.
func (e Entries) At(i uint32) uint32 {
	if e == nil {
		return EntryFree
	}
	return binary.LittleEndian.Uint32(e[i*entryBytes:])
}

// EntryOf gives an address's entry; without a row it is free.
func (x *Index) EntryOf(address netip.Addr) uint32 {
	r := x.rowOf(address)
	if r == nil {
		return EntryFree
	}
	return Entries(r.entries).At(offsetIn(r.block, address))
}

// Set changes an address's entry, if it has one, under the lock.
func (x *Index) Set(address netip.Addr, entry uint32) {
	r := x.rowOf(address)
	if r == nil {
		return
	}
	binary.LittleEndian.PutUint64(x.data[changedAt:], uint64(Now()))
	binary.LittleEndian.PutUint32(r.entries[offsetIn(r.block, address)*entryBytes:], entry)
}

// Usable says whether an entry's address may be assigned.
func Usable(entry uint32, now float64) bool {
	return entry == EntryFree || entry != EntryHeld && float64(entry) <= now
}

// coolingUntil is the entry of an address that is released now.
func coolingUntil(cooldownSeconds uint32) uint32 {
	if cooldownSeconds == 0 {
		return EntryFree
	}
	return uint32(min(math.Ceil(Now()+float64(cooldownSeconds)), math.MaxUint32-1))
}

// Covers says whether all blocks have a row.
func (x *Index) Covers(blocks []netip.Prefix) bool {
	for _, block := range blocks {
		if x.Entries(block) == nil {
			return false
		}
	}
	return x != nil
}

// cool notes that these addresses are about to be released. Where no row can be had the cooldown is lost, never the release.
func (d Dir) cool(held []Held) {
	var torn error
	defer d.CatchTorn(&torn)
	index := d.indexFor(held)
	defer index.Close()
	for _, ip := range held {
		index.Set(ip.Address, coolingUntil(ip.CooldownSeconds))
	}
}

// rowBlock is the block that a released address gets a row by: its own, unless that can't be.
func rowBlock(ip Held) netip.Prefix {
	if ip.Block.Contains(ip.Address) && ip.Address.BitLen()-ip.Block.Bits() <= maxBlockBits {
		return ip.Block.Masked()
	}
	return netip.PrefixFrom(ip.Address, ip.Address.BitLen())
}

// indexFor opens the index with rows for what will cool; without a ready directory as it is, whosever it is.
func (d Dir) indexFor(held []Held) *Index {
	stateID, err := d.readStateID()
	if err != nil {
		return d.OpenIndex("")
	}
	index := d.OpenIndex(stateID)
	var blocks []netip.Prefix
	for _, ip := range held {
		if ip.CooldownSeconds > 0 && index.rowOf(ip.Address) == nil {
			blocks = append(blocks, rowBlock(ip))
		}
	}
	if len(blocks) == 0 {
		return index
	}
	for _, r := range index.allRows() { // the allocation's rows stay, though this caller has not read it
		if !slices.ContainsFunc(blocks, r.block.Overlaps) {
			blocks = append(blocks, r.block)
		}
	}
	built, err := d.BuildIndex(stateID, blocks, index)
	if err != nil {
		return index
	}
	index.Close()
	return built
}

// coolLapsed is for listed addresses that the attachment does not hold. Where none but the index calls one held, its link was removed by hand:
// with this record goes the last that tells whose it was, and the entry would stand for ever.
func (d Dir) coolLapsed(key string, listed []Held) {
	var torn error
	defer d.CatchTorn(&torn)
	if len(listed) == 0 {
		return
	}
	index := d.OpenIndex("")
	defer index.Close()
	for _, ip := range listed {
		var stat unix.Stat_t
		if index.EntryOf(ip.Address) == EntryHeld && missing(unix.Lstat(d.addressPath(ip.Address), &stat)) && d.onlyLists(key, ip.Address) {
			index.Set(ip.Address, coolingUntil(ip.CooldownSeconds))
		}
	}
}

// coolUnknown is cool for an address of which nothing is known.
func (d Dir) coolUnknown(address netip.Addr) {
	var torn error
	defer d.CatchTorn(&torn)
	index := d.OpenIndex("")
	defer index.Close()
	index.Set(address, coolingUntil(defaultCooldownSeconds))
}
