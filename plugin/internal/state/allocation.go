package state

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
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

type rawAllocation struct {
	Version   int                `json:"version"`
	StateID   string             `json:"stateID"`
	Pools     map[string]rawPool `json:"pools"`
	Automatic []string           `json:"automatic"`
}

type rawPool struct {
	CooldownSeconds uint32     `json:"cooldownSeconds"`
	IPv4            []rawEntry `json:"ipv4"`
	IPv6            []rawEntry `json:"ipv6"`
}

type rawEntry struct {
	Gateway      string   `json:"gateway"`
	PrefixLength int      `json:"prefixLength"`
	Blocks       []string `json:"blocks"`
	Reserved     []string `json:"reserved"`
}

// field is a place in the file, for errors.
type field struct{ path, name string }

func (f field) of(name string) field { return field{f.path, f.name + "." + name} }
func (f field) at(i int) field       { return field{f.path, f.name + "[" + strconv.Itoa(i) + "]"} }
func (f field) bad(value any, why string) error {
	return corrupt(f.path, "%s: %v: %s", f.name, value, why)
}

func parseAllocation(path string, data []byte) (*Allocation, error) {
	var raw rawAllocation
	if err := decode(path, data, &raw); err != nil {
		return nil, err
	}
	if err := checkVersion(path, raw.Version); err != nil {
		return nil, err
	}
	a := &Allocation{StateID: raw.StateID, Pools: make(map[string]*Pool, len(raw.Pools)), Automatic: raw.Automatic}
	for name, rawPool := range raw.Pools {
		pool, err := parsePool(field{path, "pools." + name}, name, rawPool)
		if err != nil {
			return nil, err
		}
		a.Pools[name] = pool
		for _, family := range pool.Families {
			for _, block := range family.Blocks {
				a.Blocks = append(a.Blocks, block.Prefix)
			}
		}
	}
	slices.SortFunc(a.Blocks, comparePrefixes)
	for i := 1; i < len(a.Blocks); i++ {
		if a.Blocks[i].Overlaps(a.Blocks[i-1]) {
			return nil, corrupt(path, "pools: block %s overlaps block %s", a.Blocks[i], a.Blocks[i-1])
		}
	}
	return a, nil
}

func parsePool(where field, name string, raw rawPool) (*Pool, error) {
	pool := &Pool{Name: name, CooldownSeconds: raw.CooldownSeconds}
	for _, family := range []struct {
		name    string
		bits    int
		entries []rawEntry
	}{{"ipv4", 32, raw.IPv4}, {"ipv6", 128, raw.IPv6}} {
		if len(family.entries) == 0 {
			continue
		}
		var blocks []Block
		for i, entry := range family.entries {
			parsed, err := parseEntry(where.of(family.name).at(i), family.bits, entry)
			if err != nil {
				return nil, err
			}
			blocks = append(blocks, parsed...)
		}
		slices.SortFunc(blocks, func(a, b Block) int { return comparePrefixes(a.Prefix, b.Prefix) })
		pool.Families = append(pool.Families, Family{family.name, blocks})
	}
	return pool, nil
}

func parseEntry(where field, bits int, raw rawEntry) ([]Block, error) {
	if len(raw.Blocks) == 0 {
		return nil, nil
	}
	if raw.PrefixLength < 1 || raw.PrefixLength > bits {
		return nil, where.of("prefixLength").bad(raw.PrefixLength, "not from 1 to "+strconv.Itoa(bits))
	}
	entry := &Entry{PrefixLength: raw.PrefixLength}
	if raw.Gateway != "" {
		gateway, err := netip.ParseAddr(raw.Gateway)
		if err != nil || gateway.BitLen() != bits || gateway.Zone() != "" {
			return nil, where.of("gateway").bad(raw.Gateway, "not an address of this family")
		}
		entry.Gateway = gateway
	}
	var err error
	if entry.Reserved, err = parseReserved(where.of("reserved"), bits, raw.Reserved); err != nil {
		return nil, err
	}
	blocks := make([]Block, len(raw.Blocks))
	for i, text := range raw.Blocks {
		prefix, err := parseBlock(where.of("blocks").at(i), bits, text)
		if err != nil {
			return nil, err
		}
		blocks[i] = Block{prefix, entry}
	}
	return blocks, nil
}

func parseBlock(where field, bits int, text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return prefix, where.bad(text, err.Error())
	case prefix.Addr().BitLen() != bits || prefix.Addr().Is4In6():
		return prefix, where.bad(text, "not of this family")
	case prefix != prefix.Masked():
		return prefix, where.bad(text, "host bits set, the block is "+prefix.Masked().String())
	case bits-prefix.Bits() > maxBlockBits:
		return prefix, where.bad(text, "more than 65,536 addresses in one block")
	}
	return prefix, nil
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
