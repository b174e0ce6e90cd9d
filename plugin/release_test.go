package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDelAlwaysSucceeds(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("a")
	n.ok("DEL", "a", netns(""))
	n.ok("DEL", "a", netns(""))
	n.ok("DEL", "unknown")
	n.ok("DEL", "a", version("0.1.0"))
	n.ok("DEL", "a", ipamKey("stateDir", filepath.Join(n.dir, "nowhere")))
	n.ok("DEL", "a", ipamKey("typo", 1))
	n.ok("DEL", "a", ipamKey("stateDir", "relative"))
	n.ok("DEL", "a", cniArgs("junk"))
	n.add("b")
	n.ok("DEL", "b", ipamKey("typo", 1), ipamKey("stateDir", n.dir))
	equal(t, n.list("addresses"), []string{})
}

func TestDelNeedsNothingOfTheAgent(t *testing.T) {
	for _, lost := range []string{"ready", "allocation.json", "namespaces", "index", "lock", "pending"} {
		t.Run(lost, func(t *testing.T) {
			n := newNode(t, one(v4(1, "10.64.3.0/28")))
			n.add("a")
			n.must(os.RemoveAll(n.path(lost)))
			n.ok("DEL", "a")
			equal(t, n.list("addresses"), []string{})
			equal(t, n.list("attachments"), []string{})
		})
	}
}

func TestDelOfACorruptRecordFreesByInode(t *testing.T) {
	for name, text := range map[string]string{"garbage": "{]", "empty": "", "future": `{"version": 2, "ips": "elsewhere"}`} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
			n.add("other")
			n.add("a")
			n.must(os.WriteFile(n.path("attachments/podnet:a:eth0"), []byte(text), 0o600)) // in place: the links stay
			for _, verb := range []string{"ADD", "CHECK"} {
				r := n.run(verb, "a")
				remedy := "a DEL of this container frees what it holds: delete the pod"
				if name == "future" {
					remedy = "install the plugin and the agent of one release"
				}
				r.fails(t, 6, "attachments/podnet:a:eth0", remedy)
				if strings.Contains(r.stdout, "restart") {
					t.Error("a restart of the agent does not help: ", r.stdout)
				}
			}
			r := n.ok("DEL", "a")
			if r.stderr == "" {
				t.Error("nothing on stderr")
			}
			equal(t, n.list("addresses"), []string{"10.64.3.0", "fd00:64::40"})
			equal(t, n.list("attachments"), []string{"podnet:other:eth0"})
			if n.entry("10.64.3.0/28", "10.64.3.1") <= uint32(boottime()+100) || n.entry("fd00:64::40/122", "fd00:64::41") <= uint32(boottime()+100) {
				t.Error("not cooling, for as long as pools do by default")
			}
			n.audit()
		})
	}
}

func TestDelLeavesWhatAnotherHolds(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("a")
	n.must(os.Remove(n.path("addresses/10.64.3.0"))) // as if a crash had come before the link, and the index
	for offset := range int64(4) {
		n.patch(192+offset, 0)
	}
	equal(t, n.add("b").address(), "10.64.3.0")
	n.ok("DEL", "a")
	equal(t, n.list("addresses"), []string{"10.64.3.0"})
	equal(t, n.list("attachments"), []string{"podnet:b:eth0"})
}

func TestCooldownRestsAnAddress(t *testing.T) {
	n := newNode(t, one(v4(100, "10.64.3.0/30")))
	n.add("a")
	before := boottime()
	n.ok("DEL", "a")
	until := float64(n.entry("10.64.3.0/30", "10.64.3.0"))
	if until < before+100 || until > boottime()+101 {
		t.Errorf("cooling until %v, released at %v", until, before)
	}
	equal(t, n.add("b").address(), "10.64.3.1")
}

// TestCooldownsOfTheBootBeforeAreForgotten: their times mean nothing any more, and might last for years.
func TestCooldownsOfTheBootBeforeAreForgotten(t *testing.T) {
	n := newNode(t, one(v4(100, "10.64.3.0/30")))
	n.add("a")
	n.ok("DEL", "a")
	n.patch(32+5, 1) // last changed in the future
	equal(t, n.add("b").address(), "10.64.3.0")
	n.audit()
}

func TestCooldownSurvivesTheBlocksComingsAndGoings(t *testing.T) {
	n := newNode(t, one(v4(100, "10.64.3.0/30")))
	n.add("a")
	n.add("held")
	n.allocate(one(v4(100, "10.64.9.0/30")))
	n.add("elsewhere")
	n.ok("DEL", "a")
	if n.entry("10.64.3.0/30", "10.64.3.0") <= uint32(boottime()) {
		t.Error("not cooling, though the agent counts on it")
	}
	n.allocate(one(v4(100, "10.64.3.0/29"))) // back, with another length
	equal(t, n.add("b").address(), "10.64.3.2")
	n.audit()
}

func TestCooldownOfABlockWithoutRow(t *testing.T) {
	n := newNode(t, one(v4(100, "10.64.3.0/30")))
	n.add("a")
	n.must(os.Remove(n.path("index")))
	n.allocate(one(v4(100)))
	n.ok("DEL", "a")
	if n.entry("10.64.3.0/30", "10.64.3.0") <= uint32(boottime()) {
		t.Error("not cooling")
	}
}

func TestGC(t *testing.T) {
	lists := []string{"cni.dev/valid-attachments", "cni.dev/attachments"}
	for i, key := range lists {
		t.Run(key, func(t *testing.T) {
			n := newNode(t, one(v4(0, "10.64.3.0/28")))
			for _, name := range []string{"keep", "drop"} {
				n.add(name)
				n.add(name, network("other"))
			}
			n.add("keep", ifname("net1"))
			n.ok("GC", "", top(key, []object{{"containerID": "keep", "ifname": "eth0"}}), top(lists[1-i], []object{}))
			equal(t, n.list("attachments"), []string{"other:drop:eth0", "other:keep:eth0", "podnet:keep:eth0"})
			equal(t, len(n.list("addresses")), 3)
			n.ok("GC", "", top(key, nil))
			equal(t, n.list("attachments"), []string{"other:drop:eth0", "other:keep:eth0"})
		})
	}
}

func TestGCWithoutAListFreesNothing(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("a")
	n.run("GC", "").fails(t, 7, "cni.dev/valid-attachments", "Nothing was freed")
	n.run("GC", "", top("cni.dev/valid-attachments", "all")).fails(t, 7, "Nothing was freed")
	n.run("GC", "", version("1.0.0"), top("cni.dev/valid-attachments", []object{})).fails(t, 1)
	equal(t, len(n.list("addresses")), 1)
}

func TestGCLeavesWhatIsYoungerThanItself(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("old")
	unlock := n.lock()
	gc := n.command("GC", "", top("cni.dev/valid-attachments", []object{}))
	done := make(chan reply, 1)
	go func() { done <- finish(t, gc) }()
	eventually(t, "GC waits for the lock", func() bool { return gc.Process != nil && waitsForLock(gc.Process.Pid) })
	name := n.path("attachments/podnet:old:eth0")
	var record object
	n.must(json.Unmarshal([]byte(n.read("attachments/podnet:old:eth0")), &record))
	record["assignedAt"] = boottime() // as if DEL and ADD had come since; in place, so that the links stay
	data, err := json.Marshal(record)
	n.must(err)
	n.must(os.WriteFile(name, data, 0o600))
	unlock()
	equal(t, (<-done).exit, 0)
	equal(t, n.list("addresses"), []string{"10.64.3.0"})
	n.ok("GC", "", top("cni.dev/valid-attachments", []object{}))
	equal(t, n.list("addresses"), []string{})
}

// TestGCLeavesMarksYoungerThanItself: else an ADD that has just begun to wait would end for a list made before it.
func TestGCLeavesMarksYoungerThanItself(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	unlock := n.lock()
	gc := n.command("GC", "", top("cni.dev/valid-attachments", []object{}))
	done := make(chan reply, 1)
	go func() { done <- finish(t, gc) }()
	eventually(t, "GC waits for the lock", func() bool { return gc.Process != nil && waitsForLock(gc.Process.Pid) })
	n.write("pending/podnet:new:eth0", object{"version": 1, "pod": object{}, "pools": []string{"default"}, "families": []string{"ipv4"}, "since": boottime(), "until": boottime() + 60})
	unlock()
	equal(t, (<-done).exit, 0)
	equal(t, n.list("pending"), []string{"podnet:new:eth0"})
	n.ok("GC", "", top("cni.dev/valid-attachments", []object{}))
	equal(t, n.list("pending"), []string{})
}

func waitsForLock(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		var number int
		if _, err := fmt.Sscan(string(data), &number); err == nil && number == 73 { // flock
			return true
		}
	}
	return false
}

func TestStatus(t *testing.T) {
	n := newNode(t, one(v4(0)))
	if r := n.ok("STATUS", ""); r.took > time.Second {
		t.Errorf("took %v", r.took)
	}
	n.write("allocation.json", "{")
	n.ok("STATUS", "")
	n.must(os.Remove(n.path("ready")))
	n.run("STATUS", "").fails(t, 50, n.dir, "agent")
	n.run("STATUS", "", ipamKey("stateDir", "/nonexistent/podcidr")).fails(t, 50, "/nonexistent/podcidr", "agent")
	n.run("STATUS", "", version("1.0.0")).fails(t, 1)
}

func TestCheck(t *testing.T) {
	n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
	previous := func(ips ...string) option {
		list := []object{}
		for _, ip := range ips {
			list = append(list, object{"address": ip})
		}
		return top("prevResult", object{"cniVersion": "1.1.0", "ips": list})
	}
	good := previous("192.0.2.7/24", "10.64.3.0/32", "fd00:64::40/128") // a main plugin may narrow, and add
	n.add("a")
	n.ok("CHECK", "a", good)
	n.ok("CHECK", "a", version("0.4.0"), top("prevResult", object{"cniVersion": "0.4.0", "ips": []object{
		{"version": "4", "address": "10.64.3.0/14"}, {"version": "6", "address": "fd00:64::40/48"}}}))
	n.run("CHECK", "a", previous("10.64.3.9/14", "fd00:64::40/48")).fails(t, 100, "10.64.3.0", "prevResult")
	n.run("CHECK", "a").fails(t, 7, "prevResult")
	n.run("CHECK", "b", good).fails(t, 3, "b")
	n.run("CHECK", "a", good, version("0.3.1")).fails(t, 1)
	n.must(os.Remove(n.path("addresses/fd00:64::40")))
	n.run("CHECK", "a", good).fails(t, 100, "fd00:64::40")
	n.ok("DEL", "a")
	n.run("CHECK", "a", good).fails(t, 3)
}
