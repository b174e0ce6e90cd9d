package main_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What people, and tools that tidy /run, do to the directory; and names that look like something else.

func TestInterfaceNamedLikeAHalfWrittenFile(t *testing.T) {
	odd := ifname("eth0.new")
	n := newNode(t, one(v4(0, "10.64.3.0/31")))
	equal(t, n.add("a", odd).address(), "10.64.3.0")
	n.lose("addresses/10.64.3.0", "index")
	equal(t, n.add("b").address(), "10.64.3.1") // an index that is built anew sees it
	first := n.begin("w1", waiting(9), odd)
	second := n.begin("w2", waiting(9))
	n.ok("DEL", "b")
	equal(t, (<-first).result(t).address(), "10.64.3.1") // and so does who came behind it
	n.ok("GC", "", top("cni.dev/valid-attachments", []object{}))
	equal(t, (<-second).exit, 1) // GC removed its mark
	equal(t, [][]string{n.list("attachments"), n.list("addresses"), n.list("pending")}, [][]string{{}, {}, {}})
}

// lose removes files, as somebody might who tidies up.
func (n *node) lose(names ...string) {
	n.t.Helper()
	for _, name := range names {
		n.must(os.Remove(n.path(name)))
	}
}

func TestHalfOfADualStackPodLostItsLink(t *testing.T) {
	for _, lost := range []string{"10.64.3.0", "fd00:64::40"} {
		t.Run(lost, func(t *testing.T) {
			n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
			before := n.add("a")
			n.lose("addresses/"+lost, "index")
			got := n.add("b")
			equal(t, []any{got.IPs[0]["address"], got.IPs[1]["address"]}, []any{"10.64.3.1/14", "fd00:64::41/48"})
			equal(t, n.add("a"), before)
			n.audit()
			n.ok("DEL", "a")
			equal(t, n.list("addresses"), []string{"10.64.3.1", "fd00:64::41"})
		})
	}
}

// TestNothingTellsWhatADamagedRecordHolds: any address could be its, so none is given until somebody cleared it.
func TestNothingTellsWhatADamagedRecordHolds(t *testing.T) {
	for name, lose := range map[string]func(*node){
		"its link is removed": func(n *node) { n.lose("addresses/10.64.3.0", "index") },
		"its link is moved away": func(n *node) {
			n.must(os.Rename(n.path("addresses/10.64.3.0"), n.path(".moved")))
			n.lose("index")
		},
	} {
		for what, text := range map[string]string{"truncated": "", "without addresses": `{"version": 1}`, "of another version": `{"version": 2}`} {
			t.Run(name+"/"+what, func(t *testing.T) {
				n := newNode(t, one(v4(0, "10.64.3.0/28")))
				n.add("a")
				n.must(os.WriteFile(n.path("attachments/podnet:a:eth0"), []byte(text), 0o600))
				lose(n)
				n.run("ADD", "b").fails(t, 6, n.path("attachments/podnet:a:eth0"), "not known", "delete the pod")
				equal(t, n.list("addresses"), []string{})
				n.ok("STATUS", "")
				n.ok("DEL", "a")
				equal(t, n.add("b").address(), "10.64.3.0")
			})
		}
	}
}

// Its link tells what it holds; or the index does, as long as that is there.
func TestADamagedRecordHoldsWhatIsKnown(t *testing.T) {
	for name, lose := range map[string]func(*node){
		"by its link":   func(n *node) { n.lose("index") },
		"by the index":  func(n *node) { n.lose("addresses/10.64.3.0") },
		"by index only": func(n *node) { n.lose("addresses/10.64.3.0", "attachments/podnet:a:eth0") },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, one(v4(0, "10.64.3.0/30")))
			n.add("a")
			n.must(os.Truncate(n.path("attachments/podnet:a:eth0"), 0))
			lose(n)
			n.allocate(one(v4(0, "10.64.3.0/30", "10.64.5.0/30"))) // a block more: the index is built anew
			equal(t, n.add("b").address(), "10.64.3.1")
			n.allocate(one(v4(0, "10.64.5.0/30", "10.64.9.0/30"))) // and again, without it
			n.add("c")
			n.allocate(one(v4(0, "10.64.3.0/30")))
			equal(t, n.add("d").address(), "10.64.3.2")
		})
	}
}

// Foreign things among the attachments hold nothing and stop nobody.
func TestForeignNamesAmongTheAttachments(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.write("attachments/notes", "x")
	n.must(os.Mkdir(n.path("attachments/podnet:dir:eth0"), 0o700))
	n.must(os.Symlink("/nonexistent", n.path("attachments/podnet:link:eth0")))
	n.must(os.Mkdir(n.path("pending/podnet:a:eth0"), 0o700))
	equal(t, n.add("b").address(), "10.64.3.0")
	n.ok("GC", "", top("cni.dev/valid-attachments", []object{}))
	equal(t, n.list("addresses"), []string{})
}

// TestDelOfWhatLostItsLink: the record is the last that tells whose the address was; it is free after it.
func TestDelOfWhatLostItsLink(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("a")
	n.lose("addresses/10.64.3.0")
	n.ok("DEL", "a")
	n.audit()
	equal(t, n.add("b").address(), "10.64.3.0")

	n.lose("addresses/10.64.3.0") // the same, but another record that can't be read might hold it
	n.write("attachments/podnet:unreadable:eth0", "")
	n.ok("DEL", "b")
	equal(t, n.add("c").address(), "10.64.3.1")

	n.lose("attachments/podnet:unreadable:eth0", "addresses/10.64.3.1")
	n.must(os.WriteFile(n.path("attachments/podnet:twin:eth0"), []byte(n.read("attachments/podnet:c:eth0")), 0o600))
	n.ok("DEL", "c") // or one that lists it
	equal(t, n.add("d").address(), "10.64.3.2")
}

func TestLockRemovedWhileAnAddWaitsForIt(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	release := n.lock()
	cmd := n.command("ADD", "a")
	done := make(chan reply, 1)
	go func() { done <- finish(t, cmd) }()
	eventually(t, "it waits for the lock", func() bool { return cmd.Process != nil && waitsForLock(cmd.Process.Pid) })
	n.lose("lock")
	another := n.lock()
	release()
	eventually(t, "it waits for the new one", func() bool { return hasOpen(cmd.Process.Pid, n.path("lock")) && waitsForLock(cmd.Process.Pid) })
	equal(t, n.list("addresses"), []string{})
	another()
	equal(t, (<-done).result(t).address(), "10.64.3.0")
}

func hasOpen(pid int, path string) bool {
	links, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, link := range links {
		if target, _ := os.Readlink(link); target == path {
			return true
		}
	}
	return false
}

// TestLockRemovedUnderAnAdd: two are inside then, and still nobody gets another's record or address.
func TestLockRemovedUnderAnAdd(t *testing.T) {
	needStrace(t)
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("warm")
	cmd := n.command("ADD", "slow", under("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat", "-e", "inject=linkat:delay_enter=2000000:when=1"))
	done := make(chan reply, 1)
	go func() { done <- finish(t, cmd) }()
	eventually(t, "it is inside", func() bool { return n.flocked("lock") && len(n.halfWritten()) > 0 })
	n.lose("lock")
	equal(t, n.add("fast").address(), "10.64.3.1")
	equal(t, (<-done).result(t).address(), "10.64.3.2")
	held, hollow := n.audit()
	equal(t, []int{held, hollow}, []int{3, 0})
}

// TestIndexTruncatedUnderACall: a page that is gone must not end the process with nothing said.
func TestIndexTruncatedUnderACall(t *testing.T) {
	needStrace(t)
	for _, verb := range []string{"ADD", "DEL"} {
		t.Run(verb, func(t *testing.T) {
			n := newNode(t, one(v4(100, "10.64.0.0/20")))
			n.add("a")
			cmd := n.command(verb, "b", under("strace", "-f", "-qq", "-o", n.path("trace.new"), "-P", n.path("index"), "-e", "trace=mmap", "-e", "inject=mmap:delay_exit=2000000"))
			if verb == "DEL" {
				n.add("b")
			}
			done := make(chan reply, 1)
			go func() { done <- finish(t, cmd) }()
			eventually(t, "it has mapped the index", func() bool {
				data, _ := os.ReadFile(n.path("trace.new"))
				return strings.Contains(string(data), "mmap(")
			})
			n.must(os.Truncate(n.path("index"), 0))
			r := <-done
			if verb == "ADD" {
				r.fails(t, 5, n.path("index"), "truncated")
			} else {
				equal(t, []any{r.exit, r.stdout}, []any{0, ""})
			}
			equal(t, n.list("addresses"), []string{"10.64.0.0"})
			equal(t, n.flocked("lock"), false)
			equal(t, n.add("c").address(), "10.64.0.2") // .1 is the gateway
		})
	}
}

func TestIndexTruncatedWhileAnAddWaits(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/32")))
	n.add("a")
	done := n.begin("w", waiting(9))
	n.must(os.Truncate(n.path("index"), 0))
	eventually(t, "the index is built anew", func() bool { info, err := os.Stat(n.path("index")); return err == nil && info.Size() > 0 })
	n.ok("DEL", "a")
	equal(t, (<-done).result(t).address(), "10.64.3.0")
}
