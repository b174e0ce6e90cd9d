package ipam

import (
	"fmt"
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

// wish is what one ADD may take: addresses that it must have, and only when it is its turn.
type wish struct {
	wanted []config.Wanted
	queue  *queue
}

// choose gives the lowest usable addresses of the first pool that has one of every family it serves, besides those for ADDs that have waited longer.
// It only reads memory and marks, so a waiting ADD can ask without the lock; nothing is claimed by it.
func (w wish) choose(pools []*state.Pool, index *state.Index, now float64) (best *choice, short []string) {
	for _, pool := range pools {
		found, usable := w.choosePool(pool, index, now, &short)
		if found == nil {
			continue
		}
		if w.wanted != nil || w.queue.turn(pool.Name, usable, now) { // nobody else waits for just this address
			return found, nil
		}
		short = union(short, pool)
	}
	slices.Sort(short)
	return nil, short
}

// choosePool gives one address of each family, and how many ADDs the pool could serve now (no more than the queue asks for).
func (w wish) choosePool(pool *state.Pool, index *state.Index, now float64, short *[]string) (*choice, int) {
	found, usable := &choice{pool: pool}, math.MaxInt
	for _, family := range pool.Families {
		one, count := lowest(family, index, now, w.wantedOf(family), 1+w.queue.length())
		if count == 0 {
			if !slices.Contains(*short, family.Name) {
				*short = append(*short, family.Name)
			}
			usable = 0
			continue
		}
		found.addresses = append(found.addresses, one)
		usable = min(usable, count)
	}
	if usable == 0 || len(pool.Families) == 0 || !w.contained(found) {
		return nil, 0
	}
	return found, usable
}

// union adds the pool's families: they are short for as long as others come first.
func union(short []string, pool *state.Pool) []string {
	for _, family := range pool.Families {
		if !slices.Contains(short, family.Name) {
			short = append(short, family.Name)
		}
	}
	return short
}

// lowest gives the lowest usable address, or the wanted one, and counts the usable ones up to a limit.
func lowest(family state.Family, index *state.Index, now float64, wanted netip.Addr, limit int) (first chosen, count int) {
	for _, block := range family.Blocks {
		if wanted.IsValid() && !block.Prefix.Contains(wanted) {
			continue
		}
		entries := index.Entries(block.Prefix)
		for i := range state.Size(block.Prefix) {
			if !state.Usable(entries.At(i), now) {
				continue
			}
			address := state.AddrAt(block.Prefix, i)
			if !assignable(block, address) || wanted.IsValid() && wanted != address {
				continue
			}
			if count++; count == 1 {
				first = chosen{address, block}
			}
			if count == limit {
				return first, count
			}
		}
	}
	return first, count
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
