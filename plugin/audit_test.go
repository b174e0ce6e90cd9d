package main_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/state"
)

func boottime() float64 { return state.Now() }

type record struct {
	Version                       int
	Network, Container, Interface string
	IPs                           []struct{ Address, Pool, Block string }
	Result                        result
}

// audit is the offline check of a directory at rest: every held address belongs to a complete record of a known container.
// It returns the number of held addresses and of attachments that hold nothing (which only a crash leaves).
func (n *node) audit() (held, hollow int) {
	n.t.Helper()
	links := map[uint64][]string{}
	for _, name := range n.list("addresses") {
		links[n.inode("addresses/"+name)] = append(links[n.inode("addresses/"+name)], name)
	}
	for _, key := range n.list("attachments") {
		inode := n.inode("attachments/" + key)
		var r record
		if err := json.Unmarshal([]byte(n.read("attachments/"+key)), &r); err != nil {
			n.t.Errorf("%s: %v", key, err)
		}
		if key != r.Network+":"+r.Container+":"+r.Interface || len(r.IPs) == 0 || len(r.Result.IPs) != len(r.IPs) {
			n.t.Errorf("%s: record %+v", key, r)
		}
		for _, name := range links[inode] {
			if !slices.ContainsFunc(r.IPs, func(ip struct{ Address, Pool, Block string }) bool { return ip.Address == name }) {
				n.t.Errorf("%s holds %s, which it does not list", key, name)
			}
		}
		if len(links[inode]) == 0 {
			hollow++
		}
		held += len(links[inode])
		delete(links, inode)
	}
	if len(links) > 0 {
		n.t.Errorf("held by no attachment: %v", links)
	}
	n.auditIndex()
	return held, hollow
}

// auditIndex: the index may say free too often, but never held (for ever) of an address that is not.
func (n *node) auditIndex() {
	n.t.Helper()
	index := state.Dir(n.dir).OpenIndex("s1")
	if index == nil {
		return
	}
	defer index.Close()
	var file struct {
		Pools map[string]map[string]any
	}
	n.must(json.Unmarshal([]byte(n.read("allocation.json")), &file))
	for _, pool := range file.Pools {
		for _, family := range []string{"ipv4", "ipv6"} {
			list, _ := pool[family].([]any)
			for _, entry := range list {
				for _, text := range entry.(map[string]any)["blocks"].([]any) {
					n.auditBlock(index, netip.MustParsePrefix(text.(string)))
				}
			}
		}
	}
}

func (n *node) auditBlock(index *state.Index, block netip.Prefix) {
	n.t.Helper()
	entries := index.Entries(block)
	if entries == nil {
		return
	}
	for i := range state.Size(block) {
		address := state.AddrAt(block, i)
		_, err := os.Lstat(n.path("addresses/" + address.String()))
		if entries.At(i) == math.MaxUint32 && err != nil {
			n.t.Errorf("index says that %s is held, and it is not", address)
		}
	}
}

func (n *node) inode(name string) uint64 {
	n.t.Helper()
	var stat unix.Stat_t
	n.must(unix.Lstat(n.path(name), &stat))
	return stat.Ino
}

// entry is the index's number for an address of the block.
func (n *node) entry(block, address string) uint32 {
	n.t.Helper()
	index := state.Dir(n.dir).OpenIndex("s1")
	if index == nil {
		n.t.Fatal("no sound index")
	}
	defer index.Close()
	prefix := netip.MustParsePrefix(block)
	entries := index.Entries(prefix)
	for i := range state.Size(prefix) {
		if entries != nil && state.AddrAt(prefix, i).String() == address {
			return entries.At(i)
		}
	}
	n.t.Fatalf("no entry for %s in %s", address, block)
	return 0
}

// halfWritten lists what a call under way, or a killed one, has not placed yet.
func (n *node) halfWritten() []string {
	n.t.Helper()
	return slices.DeleteFunc(n.list("."), func(name string) bool { return !strings.HasSuffix(name, ".new") })
}
