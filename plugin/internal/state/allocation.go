package state

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"podcidr.io/plugin/internal/jsontext"
)

// maxBlockBits bounds a block to 65,536 addresses, 256 KiB of index.
const maxBlockBits = 16

// Allocation is allocation.json: what this node may use.
type Allocation struct {
	StateID   string
	Pools     map[string]*Pool
	Automatic []string
	Blocks    []netip.Prefix // of all pools, ascending
}

// Pool is one pool of the file.
type Pool struct {
	Name            string
	CooldownSeconds uint32
	Families        []Family // those that it serves, IPv4 first
}

// Family is what a pool has of one address family.
type Family struct {
	Name   string  // "ipv4" or "ipv6"
	Blocks []Block // ascending
}

// Block is a block with what its entry says of it.
type Block struct {
	Prefix netip.Prefix
	*Entry
}

// Entry is what the blocks of one gateway have in common.
type Entry struct {
	Gateway      netip.Addr // invalid: none
	PrefixLength int
	Reserved     []AddrRange
}

// AddrRange is a range of addresses, both ends included.
type AddrRange struct{ First, Last netip.Addr }

// field is a place in the file, for errors.
type field struct{ path, name string }

func (f field) of(name string) field { return field{f.path, f.name + "." + name} }
func (f field) at(i int) field       { return field{f.path, f.name + "[" + strconv.Itoa(i) + "]"} }
func (f field) bad(value any, why string) error {
	return corrupt(f.path, "%s: %v: %s", f.name, value, why)
}

func parseAllocation(path string, data []byte) (*Allocation, error) {
	a := &Allocation{Pools: map[string]*Pool{}}
	err := decode(path, data, func(read *jsontext.Reader, v jsontext.Value) {
		if read.Err = checkVersion(path, read, v); read.Err != nil {
			return
		}
		a.StateID = read.String(v.Get("stateID"), "stateID")
		a.Automatic = read.Strings(v.Get("automatic"), "automatic")
		for name, raw := range read.Members(v.Get("pools"), "pools") {
			a.Pools[name] = parsePool(read, raw, field{path, "pools." + name}, name)
		}
	})
	if err != nil {
		return nil, err
	}
	return a, a.gatherBlocks(path)
}

func (a *Allocation) gatherBlocks(path string) error {
	for _, pool := range a.Pools {
		for _, family := range pool.Families {
			for _, block := range family.Blocks {
				a.Blocks = append(a.Blocks, block.Prefix)
			}
		}
	}
	slices.SortFunc(a.Blocks, comparePrefixes)
	for i := 1; i < len(a.Blocks); i++ {
		if a.Blocks[i].Overlaps(a.Blocks[i-1]) {
			return corrupt(path, "pools: block %s overlaps block %s", a.Blocks[i], a.Blocks[i-1])
		}
	}
	return nil
}

func parsePool(read *jsontext.Reader, raw jsontext.Value, where field, name string) *Pool {
	read.Object(raw, where.name)
	pool := &Pool{Name: name, CooldownSeconds: uint32(read.Int(raw.Get("cooldownSeconds"), where.of("cooldownSeconds").name, 0, math.MaxUint32))}
	for _, family := range []struct {
		name string
		bits int
	}{{"ipv4", 32}, {"ipv6", 128}} {
		entries := read.Items(raw.Get(family.name), where.of(family.name).name)
		if len(entries) == 0 {
			continue
		}
		var blocks []Block
		for i, entry := range entries {
			blocks = append(blocks, parseEntry(read, entry, where.of(family.name).at(i), family.bits)...)
		}
		slices.SortFunc(blocks, func(a, b Block) int { return comparePrefixes(a.Prefix, b.Prefix) })
		pool.Families = append(pool.Families, Family{family.name, blocks})
	}
	return pool
}

func parseEntry(read *jsontext.Reader, raw jsontext.Value, where field, bits int) []Block {
	read.Object(raw, where.name)
	entry := &Entry{PrefixLength: int(read.Int(raw.Get("prefixLength"), where.of("prefixLength").name, math.MinInt32, math.MaxInt32))}
	gateway := read.String(raw.Get("gateway"), where.of("gateway").name)
	reserved := read.Strings(raw.Get("reserved"), where.of("reserved").name)
	texts := read.Strings(raw.Get("blocks"), where.of("blocks").name)
	if len(texts) == 0 || read.Err != nil {
		return nil
	}
	if read.Err = entry.check(where, bits, gateway, reserved); read.Err != nil {
		return nil
	}
	blocks := make([]Block, len(texts))
	for i, text := range texts {
		prefix, err := parseBlock(text, bits)
		if err != "" {
			read.Err = where.of("blocks").at(i).bad(text, err)
			return nil
		}
		blocks[i] = Block{prefix, entry}
	}
	return blocks
}

func (e *Entry) check(where field, bits int, gateway string, reserved []string) error {
	if e.PrefixLength < 1 || e.PrefixLength > bits {
		return where.of("prefixLength").bad(e.PrefixLength, "not from 1 to "+strconv.Itoa(bits))
	}
	if gateway != "" {
		address, err := netip.ParseAddr(gateway)
		if err != nil || address.BitLen() != bits || address.Zone() != "" {
			return where.of("gateway").bad(gateway, "not an address of this family")
		}
		e.Gateway = address
	}
	var err error
	e.Reserved, err = parseReserved(where.of("reserved"), bits, reserved)
	return err
}

// parseBlock gives the block, or what is wrong with it.
func parseBlock(text string, bits int) (prefix netip.Prefix, wrong string) {
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return prefix, err.Error()
	case prefix.Addr().BitLen() != bits || prefix.Addr().Is4In6():
		return prefix, "not of this family"
	case prefix != prefix.Masked():
		return prefix, "host bits set, the block is " + prefix.Masked().String()
	case bits-prefix.Bits() > maxBlockBits:
		return prefix, "more than 65,536 addresses in one block"
	}
	return prefix, ""
}

func parseReserved(where field, bits int, texts []string) ([]AddrRange, error) {
	ranges := make([]AddrRange, 0, len(texts))
	for i, text := range texts {
		r, ok := parseRange(text)
		if !ok || r.First.BitLen() != bits || r.Last.BitLen() != bits || r.Last.Less(r.First) {
			return nil, where.at(i).bad(text, "not an address, a CIDR or a range a-b of this family")
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

func parseRange(text string) (AddrRange, bool) {
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return AddrRange{}, false
		}
		return AddrRange{prefix.Masked().Addr(), lastOf(prefix)}, true
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	a, errA := netip.ParseAddr(strings.TrimSpace(first))
	b, errB := netip.ParseAddr(strings.TrimSpace(last))
	return AddrRange{a, b}, errA == nil && errB == nil
}

// lastOf gives the highest address of a CIDR of any length.
func lastOf(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// comparePrefixes orders by family, then address.
func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// AddrAt gives a block's address number i.
func AddrAt(block netip.Prefix, i uint32) netip.Addr {
	if block.Addr().Is4() {
		b := block.Addr().As4()
		b[2], b[3] = b[2]|byte(i>>8), b[3]|byte(i)
		return netip.AddrFrom4(b)
	}
	b := block.Addr().As16()
	b[14], b[15] = b[14]|byte(i>>8), b[15]|byte(i)
	return netip.AddrFrom16(b)
}

// offsetIn is the inverse of AddrAt.
func offsetIn(block netip.Prefix, addr netip.Addr) uint32 {
	b := addr.As16()
	return (uint32(b[14])<<8 | uint32(b[15])) & (Size(block) - 1)
}

// Size is the number of a block's addresses.
func Size(block netip.Prefix) uint32 { return 1 << (block.Addr().BitLen() - block.Bits()) }
