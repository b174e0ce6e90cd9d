package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

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

// choose gives the lowest usable addresses of the first pool that has one of every family it serves.
// It only reads memory, so a waiting ADD can ask without the lock; nothing is claimed by it.
func choose(pools []*state.Pool, index *state.Index, now float64) (best *choice, short []string) {
	for _, pool := range pools {
		found := choice{pool: pool}
		for _, family := range pool.Families {
			if one, ok := lowest(family, index, now); ok {
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

func lowest(family state.Family, index *state.Index, now float64) (chosen, bool) {
	for _, block := range family.Blocks {
		entries := index.Entries(block.Prefix)
		for i := range state.Size(block.Prefix) {
			if !state.Usable(entries.At(i), now) {
				continue
			}
			if address := state.AddrAt(block.Prefix, i); assignable(block, address) {
				return chosen{address, block}, true
			}
		}
	}
	return chosen{}, false
}

func assignable(block state.Block, address netip.Addr) bool {
	return address != block.Gateway && !slices.ContainsFunc(block.Reserved, func(r state.AddrRange) bool {
		return r.First.Compare(address) <= 0 && address.Compare(r.Last) <= 0
	})
}

// describe says for people why no pool had an address.
func describe(pools []*state.Pool, index *state.Index, now float64) string {
	var parts []string
	for _, pool := range pools {
		if len(pool.Families) == 0 {
			parts = append(parts, fmt.Sprintf("%s (no address family yet)", pool.Name))
		}
		for _, family := range pool.Families {
			parts = append(parts, pool.Name+" "+describeFamily(family, index, now))
		}
	}
	return strings.Join(parts, ", ")
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
