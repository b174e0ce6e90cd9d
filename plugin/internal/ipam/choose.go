package ipam

import (
	"fmt"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"

	"podcidr.io/plugin/internal/config"
	"podcidr.io/plugin/internal/state"
)

// choice is one address of each family that a pool serves.
type choice struct {
	pool      *state.Pool
	addresses []chosen
}

type chosen struct {
	address netip.Addr
	block   state.Block
}

// choose gives the lowest usable addresses of the first pool that has one of every family it serves, beyond what it owes to ADDs that wait longer.
// It only reads memory, so a waiting ADD can ask without the lock; nothing is claimed by it.
func (r *request) choose(index *state.Index, now float64) (best *choice, short []string) {
	for _, pool := range r.pools {
		found := choice{pool: pool}
		for _, family := range pool.Families {
			one, ok := r.find(family, index, now)
			if ok && r.owed[pool.Name] > 0 {
				ok = usable(family, index, now, r.owed[pool.Name]+1) > r.owed[pool.Name]
			}
			if ok {
				found.addresses = append(found.addresses, one)
			} else if !slices.Contains(short, family.Name) {
				short = append(short, family.Name)
			}
		}
		if len(found.addresses) > 0 && len(found.addresses) == len(pool.Families) {
			return &found, nil
		}
	}
	slices.Sort(short)
	return nil, short
}

// find gives the wanted address of the family, else the lowest.
func (r *request) find(family state.Family, index *state.Index, now float64) (chosen, bool) {
	for _, wanted := range r.wanted {
		if block, ok := blockOf(family, wanted.Address); ok {
			return chosen{wanted.Address, block}, state.Usable(index.EntryOf(wanted.Address), now)
		}
	}
	return lowest(family, index, now)
}

func lowest(family state.Family, index *state.Index, now float64) (chosen, bool) {
	for one := range usableOf(family, index, now) {
		return one, true
	}
	return chosen{}, false
}

// usable counts up to enough.
func usable(family state.Family, index *state.Index, now float64, enough int) int {
	count := 0
	for range usableOf(family, index, now) {
		if count++; count >= enough {
			break
		}
	}
	return count
}

// usableOf goes through what may be assigned, from the lowest up.
func usableOf(family state.Family, index *state.Index, now float64) iter.Seq[chosen] {
	return func(yield func(chosen) bool) {
		for _, block := range family.Blocks {
			entries := index.Entries(block.Prefix)
			for i := range state.Size(block.Prefix) {
				if !state.Usable(entries.At(i), now) {
					continue
				}
				if address := state.AddrAt(block.Prefix, i); assignable(block, address) && !yield(chosen{address, block}) {
					return
				}
			}
		}
	}
}

// blockOf finds the block that an address can be assigned from.
func blockOf(family state.Family, address netip.Addr) (state.Block, bool) {
	for _, block := range family.Blocks {
		if block.Prefix.Contains(address) {
			return block, assignable(block, address)
		}
	}
	return state.Block{}, false
}

func assignable(block state.Block, address netip.Addr) bool {
	return address != block.Gateway && !slices.ContainsFunc(block.Reserved, func(r state.AddrRange) bool {
		return r.First.Compare(address) <= 0 && address.Compare(r.Last) <= 0
	})
}

// explain says for people why no pool had an address.
func (r *request) explain(index *state.Index, now float64) string {
	if len(r.pools) == 0 {
		return "no free address; pools tried: none, for neither the node nor the namespace has any"
	}
	var parts []string
	for _, pool := range r.pools {
		if len(pool.Families) == 0 {
			parts = append(parts, pool.Name+" (no address family yet)")
		}
		for _, family := range pool.Families {
			parts = append(parts, pool.Name+" "+describeFamily(family, index, now))
		}
		if owed := r.owed[pool.Name]; owed > 0 {
			parts = append(parts, fmt.Sprintf("%s is first for %d that wait longer", pool.Name, owed))
		}
	}
	what, wishes := "no free address", ""
	for _, wanted := range r.wanted {
		entry := index.EntryOf(wanted.Address)
		if !state.Usable(entry, now) { // others may be free, which would not help
			what = "the address asked for is not free"
		}
		wishes += "; " + describeWanted(wanted, entry, now)
	}
	return what + wishes + "; pools tried: " + strings.Join(parts, ", ")
}

func describeWanted(wanted config.Wanted, entry uint32, now float64) string {
	text := wanted.Field + " asks for " + wanted.Address.String()
	switch {
	case entry == state.EntryHeld:
		return text + ", which is held"
	case !state.Usable(entry, now):
		return text + fmt.Sprintf(", which cools for another %.0f s", max(1, float64(entry)-now))
	}
	return text
}

func describeFamily(family state.Family, index *state.Index, now float64) string {
	if len(family.Blocks) == 0 {
		return fmt.Sprintf("(%s: no block on this node)", family.Name)
	}
	var held, cooling, free int
	next := uint32(math.MaxUint32)
	for _, block := range family.Blocks {
		entries := index.Entries(block.Prefix)
		for i := range state.Size(block.Prefix) {
			switch entry := entries.At(i); {
			case entry == state.EntryHeld:
				held++
			case !state.Usable(entry, now):
				cooling++
				next = min(next, entry)
			case assignable(block, state.AddrAt(block.Prefix, i)):
				free++
			}
		}
	}
	text := fmt.Sprintf("(%s: %d held, %d cooling, %d free in %d blocks", family.Name, held, cooling, free, len(family.Blocks))
	if cooling > 0 {
		text += fmt.Sprintf(", the next in %.0f s", max(1, float64(next)-now))
	}
	return text + ")"
}
