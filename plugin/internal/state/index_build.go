package state

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/fault"
)

// BuildIndex writes a new index with rows for the blocks, and for those of the old one in which something is held or cooling.
// It is the one place that reads all of addresses/, and runs only when a block is new or the file was lost. Under the lock.
func (d Dir) BuildIndex(stateID string, blocks []netip.Prefix, old *Index) (*Index, error) {
	d.Sweep()
	held, err := d.heldAddresses(old != nil)
	if err != nil {
		return nil, err
	}
	held = append(held, old.held()...) // whose link is gone, and nobody told why: it stays until the agent has looked
	now := Now()
	rows := layOut(keptBlocks(blocks, old, held, now))
	index := &Index{data: encode(stateID, rows, now)}
	if !index.parse(stateID) {
		return nil, fault.New(fault.Internal, "%s: blocks %v make no sound index; this is a bug of podcidr-ipam", d.path("index"), rows)
	}
	index.carryOver(old, now)
	for _, address := range held {
		index.Set(address, EntryHeld)
	}
	if err := d.publishIndex(index.data); err != nil {
		return nil, fault.IO("writing", d.path("index"), err)
	}
	if index = d.OpenIndex(stateID); index == nil {
		return nil, fault.New(fault.IOFailure, "%s: can't be mapped after it was written; check the state directory's file system", d.path("index"))
	}
	return index, nil
}

// publishIndex writes all bytes, so that no page is missing when the file system is full later: a store to it would kill the process.
func (d Dir) publishIndex(data []byte) error {
	fresh := d.fresh("index")
	fd, err := create(fresh, data)
	if err != nil {
		return err
	}
	unix.Close(fd)
	return unix.Rename(fresh, d.path("index"))
}

// heldAddresses lists addresses/, once every attachment has all that it lists and nobody else holds. Of a crash none would need it,
// but where links were removed by hand, running pods hold what they list. hasIndex: what was held is known beside the files.
func (d Dir) heldAddresses(hasIndex bool) ([]netip.Addr, error) {
	found, err := entries(d.path("addresses"))
	held, links := make([]netip.Addr, 0, len(found)), make(map[uint64]uint64, len(found))
	for _, one := range found {
		links[one.inode]++
		if address, err := netip.ParseAddr(one.name); err == nil {
			held = append(held, address)
		}
	}
	if err != nil {
		return held, d.ioError("reading", d.path("addresses")+"/", err)
	}
	attachments, err := entries(d.path("attachments"))
	if err != nil {
		return held, d.ioError("reading", d.path("attachments")+"/", err)
	}
	for _, one := range attachments {
		record, err := d.readListed(one.name)
		if err != nil {
			return held, err
		}
		if record != nil && len(record.IPs) == 0 && !hasIndex && (links[one.inode] == 0 || record.links > links[one.inode]+1) {
			return held, d.unknownHolder(one.name)
		}
		again, err := d.relink(one.name, record)
		held = append(held, again...)
		if err != nil {
			return held, err
		}
	}
	return held, nil
}

// readListed reads an attachment that a directory lists. Nil: it is none. One that can't be understood lists nothing.
func (d Dir) readListed(name string) (*Attachment, error) {
	var stat unix.Stat_t
	if strings.Count(name, ":") != 2 || unix.Lstat(d.attachmentPath(name), &stat) == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	record, err := d.ReadAttachment(name)
	if record == nil {
		return nil, err
	}
	return record, nil
}

// unknownHolder: any address could be the one that this attachment holds.
func (d Dir) unknownHolder(key string) error {
	return fault.New(fault.DecodingFailure, "%s can't be read, links of it are gone and so is the index: which address its container has is not known, so none is assigned; "+
		"a DEL of this container clears it: delete the pod, or the file if there is none", d.attachmentPath(key))
}

// relink gives an attachment the addresses that it lists and nobody holds.
func (d Dir) relink(key string, record *Attachment) (held []netip.Addr, err error) {
	if record == nil {
		return nil, nil
	}
	for _, ip := range record.IPs {
		switch err := unix.Link(d.attachmentPath(key), d.addressPath(ip.Address)); err {
		case nil:
			held = append(held, ip.Address)
		case unix.EEXIST:
		default:
			return held, d.ioError("linking", d.addressPath(ip.Address), err)
		}
	}
	return held, nil
}

// onlyLists says whether no other attachment may hold the address: none lists it, and all can be read.
func (d Dir) onlyLists(key string, address netip.Addr) bool {
	attachments, err := entries(d.path("attachments"))
	for _, one := range attachments {
		record, readErr := d.readListed(one.name)
		if readErr != nil || one.name != key && record != nil && (len(record.IPs) == 0 || slices.ContainsFunc(record.IPs, func(ip Held) bool { return ip.Address == address })) {
			return false
		}
	}
	return err == nil
}

// keptBlocks gives the rows of the new file, ascending. The asked ones win over old ones that overlap them.
func keptBlocks(asked []netip.Prefix, old *Index, held []netip.Addr, now float64) []netip.Prefix {
	kept := slices.Clone(asked)
	for _, r := range old.allRows() {
		if !slices.ContainsFunc(kept, r.block.Overlaps) && (r.live(now) || slices.ContainsFunc(held, r.block.Contains)) {
			kept = append(kept, r.block)
		}
	}
	slices.SortFunc(kept, comparePrefixes)
	return slices.Compact(kept)
}

func (x *Index) allRows() []row {
	if x == nil {
		return nil
	}
	return x.rows
}

// held gives what an index calls held.
func (x *Index) held() (addresses []netip.Addr) {
	for _, r := range x.allRows() {
		for i := range Size(r.block) {
			if Entries(r.entries).At(i) == EntryHeld {
				addresses = append(addresses, AddrAt(r.block, i))
			}
		}
	}
	return addresses
}

// live says whether something in the block is cooling. What is held is known from addresses/.
func (r row) live(now float64) bool {
	for i := range Size(r.block) {
		if entry := Entries(r.entries).At(i); entry != EntryHeld && !Usable(entry, now) {
			return true
		}
	}
	return false
}

// carryOver takes cooling times by address, for a block may have come back with other ends.
func (x *Index) carryOver(old *Index, now float64) {
	for _, r := range old.allRows() {
		for i := range Size(r.block) {
			if entry := Entries(r.entries).At(i); entry != EntryHeld && !Usable(entry, now) {
				x.Set(AddrAt(r.block, i), entry)
			}
		}
	}
}

// layOut pairs each block with its entries' offset.
func layOut(blocks []netip.Prefix) []placed {
	rows := make([]placed, len(blocks))
	offset := align(headerBytes + len(blocks)*rowBytes)
	for i, block := range blocks {
		rows[i] = placed{block, offset}
		offset = align(offset + int(Size(block))*entryBytes)
	}
	return rows
}

type placed struct {
	block  netip.Prefix
	offset int
}

func align(offset int) int { return (offset + blockAlign - 1) / blockAlign * blockAlign }

func encode(stateID string, rows []placed, now float64) []byte {
	size := align(headerBytes)
	if len(rows) > 0 {
		last := rows[len(rows)-1]
		size = align(last.offset + int(Size(last.block))*entryBytes)
	}
	le, data := binary.LittleEndian, make([]byte, size)
	copy(data, indexMagic)
	le.PutUint32(data[8:], Version)
	le.PutUint32(data[12:], uint32(len(rows)))
	le.PutUint64(data[16:], uint64(size))
	le.PutUint64(data[builtAt:], uint64(now))
	le.PutUint64(data[changedAt:], uint64(now))
	copy(data[stateIDAt:headerBytes], stateID)
	for i, r := range rows {
		raw := data[headerBytes+i*rowBytes:]
		copy(raw, r.block.Addr().AsSlice())
		raw[16], raw[17] = 6, byte(r.block.Bits())
		if r.block.Addr().Is4() {
			raw[16] = 4
		}
		le.PutUint32(raw[20:], Size(r.block))
		le.PutUint64(raw[24:], uint64(r.offset))
	}
	return data
}
