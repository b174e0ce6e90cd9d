package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// begin starts an ADD that has to wait, and returns once its mark is there.
func (n *node) begin(container string, options ...option) <-chan reply {
	n.t.Helper()
	done := make(chan reply, 1)
	cmd := n.command("ADD", container, options...)
	go func() { done <- finish(n.t, cmd) }()
	n.awaitMark(container)
	return done
}

func (n *node) awaitMark(container string) {
	n.t.Helper()
	eventually(n.t, "mark of "+container, func() bool {
		marks, _ := filepath.Glob(n.path("pending/*:" + container + ":*"))
		return len(marks) > 0
	})
}

func TestWaitsForABlock(t *testing.T) {
	n := newNode(t, object{"a": dual("", ""), "b": dual("10.64.4.0/28", "")})
	done := n.begin("x", waiting(9))
	var mark object
	n.must(json.Unmarshal([]byte(n.read("pending/podnet:x:eth0")), &mark))
	equal(t, []any{mark["version"], mark["pools"], mark["families"], mark["pod"]},
		[]any{1, []string{"a", "b"}, []string{"ipv4", "ipv6"}, object{"namespace": "team", "name": "pod-x", "uid": "uid-x"}})
	if since := mark["since"].(float64); since <= 0 || since > boottime() || since < boottime()-5 {
		t.Errorf("since %v, now %v", since, boottime())
	}
	equal(t, n.flocked("pending/podnet:x:eth0"), true)

	n.allocate(object{"a": dual("10.64.3.0/28", ""), "b": dual("", "")})
	eventually(t, "the mark tells of one family", func() bool {
		data, err := os.ReadFile(n.path("pending/podnet:x:eth0"))
		return err == nil && strings.Contains(string(data), `"since":`+fmt.Sprint(mark["since"])) && n.flocked("pending/podnet:x:eth0")
	})
	n.allocate(object{"a": dual("10.64.3.0/28", "fd00:64::/122"), "b": dual("", "")})
	granted := time.Now()
	r := <-done
	equal(t, r.result(t).address(), "10.64.3.0")
	if late := time.Since(granted); late > time.Second {
		t.Errorf("%v after the block", late)
	}
	equal(t, n.list("pending"), []string{})
}

func (n *node) flocked(name string) bool {
	file, err := os.Open(n.path(name))
	if err != nil {
		return false
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

func TestWaitsForADel(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/32")))
	n.add("a")
	done := n.begin("b", waiting(9))
	n.ok("DEL", "a")
	equal(t, (<-done).result(t).address(), "10.64.3.0")
}

func TestWaitsForACooldownsEnd(t *testing.T) {
	n := newNode(t, one(v4(1, "10.64.3.0/32")))
	n.add("a")
	n.ok("DEL", "a")
	released := time.Now()
	n.run("ADD", "b").fails(t, 11, "1 cooling", "the next in")
	n.add("b", waiting(9))
	if rested := time.Since(released); rested < 990*time.Millisecond || rested > 3*time.Second {
		t.Errorf("used again after %v", rested)
	}
}

func TestWaitsForTheNamespace(t *testing.T) {
	n := newNode(t, object{"default": v4(0, "10.64.3.0/28"), "gold": v4(0, "10.64.8.0/28")})
	done := n.begin("a", waiting(9), cniArgs("K8S_POD_NAMESPACE=new"))
	n.write("namespaces/new", object{"stateID": "another", "pools": []string{"default"}}) // as good as none
	time.Sleep(150 * time.Millisecond)
	equal(t, n.list("addresses"), []string{})
	n.write("namespaces/new", object{"stateID": "s1", "pools": []string{"gold"}})
	equal(t, (<-done).result(t).address(), "10.64.8.0")
}

func TestAPinsErrorEndsTheWait(t *testing.T) {
	n := newNode(t, one(v4(0)))
	done := n.begin("a", waiting(9))
	n.write("namespaces/team", object{"stateID": "s1", "error": "pool gone"})
	(<-done).fails(t, 7, "pool gone")
	equal(t, n.list("pending"), []string{})
}

func TestWaitEndsAndTakesItsMarkAway(t *testing.T) {
	n := newNode(t, one(v4(0)))
	done := n.begin("a", waiting(0.4))
	r := <-done
	r.fails(t, 11, "default (ipv4: no block on this node)", "waited 400ms")
	if r.took < 400*time.Millisecond || r.took > 2*time.Second {
		t.Errorf("took %v", r.took)
	}
	equal(t, n.list("pending"), []string{})
}

func TestWithdrawnMarkAssignsNothing(t *testing.T) {
	for verb, options := range map[string][]option{
		"DEL": nil,
		"GC":  {top("cni.dev/valid-attachments", []object{})},
	} {
		t.Run(verb, func(t *testing.T) {
			n := newNode(t, one(v4(0)))
			done := n.begin("a", waiting(9))
			n.ok(verb, "a", options...)
			n.allocate(one(v4(0, "10.64.3.0/28")))
			(<-done).fails(t, 11, "ended this ADD while it waited")
			equal(t, n.list("addresses"), []string{})
			equal(t, n.list("attachments"), []string{})
		})
	}
}

// lock holds the directory's lock as another process would.
func (n *node) lock() (unlock func()) {
	n.t.Helper()
	file, err := os.OpenFile(n.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	n.must(err)
	n.must(syscall.Flock(int(file.Fd()), syscall.LOCK_EX))
	return func() { file.Close() }
}

func TestANewerAddEndsTheOlder(t *testing.T) {
	n := newNode(t, one(v4(0)))
	older := n.begin("a", waiting(9))
	before := n.read("pending/podnet:a:eth0")
	newer := n.command("ADD", "a", waiting(9))
	done := make(chan reply, 1)
	go func() { done <- finish(t, newer) }()
	eventually(t, "the mark is the newer one's", func() bool { return n.read("pending/podnet:a:eth0") != before })
	n.allocate(one(v4(0, "10.64.3.0/28")))
	(<-older).fails(t, 11)
	equal(t, (<-done).result(t).address(), "10.64.3.0")
	equal(t, len(n.list("addresses")), 1)
}

func TestMarkOfAKilledAddIsDead(t *testing.T) {
	n := newNode(t, one(v4(0)))
	cmd := n.command("ADD", "a", waiting(9))
	n.must(cmd.Start())
	eventually(t, "mark", func() bool { return len(n.list("pending")) == 1 })
	n.must(cmd.Process.Kill())
	_ = cmd.Wait()
	equal(t, n.flocked("pending/podnet:a:eth0"), false)
	n.ok("DEL", "a")
	equal(t, n.list("pending"), []string{})
}

func TestManyWaitForOneBlock(t *testing.T) {
	n := newNode(t, one(v4(0)))
	var waits []<-chan reply
	for i := range 20 {
		waits = append(waits, n.begin(fmt.Sprint("c", i), waiting(8)))
	}
	n.allocate(one(v4(0, "10.64.3.0/27")))
	seen := map[string]bool{}
	for _, done := range waits {
		seen[(<-done).result(t).address()] = true
	}
	equal(t, len(seen), 20)
	equal(t, n.list("pending"), []string{})
	n.audit()
}

func TestStuckLockNamesItsHolder(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	unlock := n.lock()
	defer unlock()
	del := make(chan reply, 1)
	go func() { del <- n.run("DEL", "a") }()
	n.run("ADD", "a").fails(t, 11, "lock", fmt.Sprint("process ", os.Getpid()))
	(<-del).fails(t, 11, fmt.Sprint("process ", os.Getpid()))
	n.ok("STATUS", "")
}

// atTheLock gives a waiting ADD that saw a block come and now stands in line for the lock, which is ours.
func (n *node) atTheLock() (done chan reply, unlock func()) {
	n.t.Helper()
	cmd := n.command("ADD", "a", waiting(1))
	done, started := make(chan reply, 1), make(chan struct{})
	go func() { done <- finishStarted(n.t, cmd, started) }()
	<-started
	n.awaitMark("a")
	unlock = n.lock()
	n.allocate(one(v4(0, "10.64.3.0/28")))
	eventually(n.t, "the ADD wants the lock", func() bool { return waitsForLock(cmd.Process.Pid) })
	return done, unlock
}

// TestWhatWasSeenWithoutTheLockIsSeenAgain: it must not assign from the block once that is gone again.
func TestWhatWasSeenWithoutTheLockIsSeenAgain(t *testing.T) {
	n := newNode(t, one(v4(0)))
	done, unlock := n.atTheLock()
	n.allocate(one(v4(0)))
	unlock()
	(<-done).fails(t, 11, "no block on this node")
	equal(t, n.list("addresses"), []string{})
}

// TestMarkThatWentWhileItStoodAtTheLock: a DEL had the lock just before; nobody would ever release what is assigned now.
func TestMarkThatWentWhileItStoodAtTheLock(t *testing.T) {
	n := newNode(t, one(v4(0)))
	done, unlock := n.atTheLock()
	n.must(os.Remove(n.path("pending/podnet:a:eth0")))
	unlock()
	(<-done).fails(t, 11, "ended this ADD while it waited")
	equal(t, n.list("addresses"), []string{})
}
