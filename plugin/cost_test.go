package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"podcidr.io/plugin/internal/state"
)

// trace runs a verb under strace and returns its system calls, one a line.
func (n *node) trace(verb, container string) []string {
	n.t.Helper()
	log := filepath.Join(n.t.TempDir(), "trace")
	r := n.run(verb, container, under("strace", "-f", "-qq", "-o", log), top("cni.dev/valid-attachments", []object{}),
		top("prevResult", object{"cniVersion": "1.1.0", "ips": []object{{"address": "10.64.0.0/14"}}}))
	if r.exit != 0 {
		n.t.Fatalf("%s: %s%s", verb, r.stdout, r.stderr)
	}
	data, err := os.ReadFile(log)
	n.must(err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func TestOpensNoSocket(t *testing.T) {
	needStrace(t)
	n := newNode(t, one(v4(0, "10.64.0.0/28")))
	for _, verb := range []string{"STATUS", "ADD", "CHECK", "GC", "DEL"} {
		for _, line := range n.trace(verb, "a") {
			for _, word := range []string{"socket(", "connect(", "sendto(", "bind("} {
				if strings.Contains(line, " "+word) {
					t.Errorf("%s: %s", verb, line)
				}
			}
		}
	}
}

// fileCalls counts the calls that the plugin itself makes; those of Go's scheduler differ from run to run.
func fileCalls(lines []string) map[string]int {
	counts := map[string]int{}
	for _, line := range lines {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, isCall := strings.Cut(strings.TrimSpace(rest), "(")
		switch name {
		case "openat", "read", "getdents64", "stat", "newfstatat", "lstat", "fstat", "link", "linkat", "unlink", "unlinkat", "write", "flock", "lseek":
			if isCall {
				counts[name]++
			}
		}
	}
	return counts
}

func TestCostIsIndependentOfHeldAddresses(t *testing.T) {
	needStrace(t)
	n := newNode(t, one(v4(0, "10.64.0.0/20", "10.64.16.0/20")))
	n.add("warm") // builds the index
	empty := fileCalls(n.trace("ADD", "first"))
	emptyDel := fileCalls(n.trace("DEL", "first"))
	n.hold(4000)
	equal(t, fileCalls(n.trace("ADD", "second")), empty)
	equal(t, fileCalls(n.trace("DEL", "second")), emptyDel)
	equal(t, empty["getdents64"], 2) // of pending/, which is empty
	equal(t, len(n.list("addresses")), 4001)
}

// hold assigns many addresses by the plugin's own code, without a process for each.
func (n *node) hold(count int) {
	n.t.Helper()
	dir := state.Dir(n.dir)
	view := dir.NewView("")
	n.must(view.Refresh())
	index := dir.OpenIndex("s1")
	defer index.Close()
	block := view.Allocation.Blocks[0]
	for i := range count {
		address := state.AddrAt(block, uint32(i+1))
		name := fmt.Sprint("held", i)
		record := &state.Attachment{Key: state.Key{Network: "podnet", Container: name, Interface: "eth0"},
			IPs: []state.Held{{Address: address, Pool: "default", Block: block}}}
		_, err := dir.Assign(record, index)
		n.must(err)
	}
}
