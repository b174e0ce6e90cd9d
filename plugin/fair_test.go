package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopped is an ADD that waits and is held up in doing so.
func (n *node) stopped(container string, options ...option) (resume func() reply) {
	n.t.Helper()
	cmd := n.command("ADD", container, options...)
	done := make(chan reply, 1)
	started := make(chan struct{})
	go func() { done <- finishStarted(n.t, cmd, started) }()
	<-started
	n.awaitMark(container)
	unlock := n.lock() // so that it does not hold it for as long as it is stopped
	n.must(cmd.Process.Signal(syscall.SIGSTOP))
	unlock()
	n.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() reply {
		n.must(cmd.Process.Signal(syscall.SIGCONT))
		return <-done
	}
}

func TestLongestWaitingIsFirst(t *testing.T) {
	n := newNode(t, one(v4(0)))
	var waits []<-chan reply
	for i := range 5 {
		waits = append(waits, n.begin(fmt.Sprint("c", i), waiting(9)))
	}
	n.allocate(one(v4(0, "10.64.3.0/32")))
	for i, done := range waits {
		equal(t, (<-done).result(t).address(), "10.64.3.0")
		for j := i + 1; j < len(waits); j++ {
			equal(t, len(waits[j]), 0)
		}
		n.ok("DEL", fmt.Sprint("c", i))
	}
}

func TestWhoComesLaterGoesBehind(t *testing.T) {
	n := newNode(t, one(dual("", "")))
	resume := n.stopped("first", waiting(20))
	n.allocate(one(dual("10.64.3.0/32", "fd00:64::40/126")))
	n.run("ADD", "late").fails(t, 11, "default is first for 1 that wait longer")
	n.run("ADD", "late", waiting(0.2)).fails(t, 11, "default is first for 1 that wait longer")
	equal(t, n.list("pending"), []string{"podnet:first:eth0"})
	n.allocate(one(dual("10.64.3.0/31", "fd00:64::40/126")))
	n.add("late")
	equal(t, resume().result(t).address(), "10.64.3.1")
}

func TestOnlyWhoCanUseTheAddressIsWaitedFor(t *testing.T) {
	n := newNode(t, object{"default": v4(0), "gold": v4(0)})
	n.write("namespaces/rich", object{"stateID": "s1", "pools": []string{"gold"}})
	n.write("namespaces/plain", object{"stateID": "s1", "pools": []string{"default"}})
	n.stopped("rich", waiting(20), cniArgs("K8S_POD_NAMESPACE=rich"))
	n.stopped("unknown", waiting(20), cniArgs("K8S_POD_NAMESPACE=nobody"))
	n.allocate(object{"default": v4(0, "10.64.3.0/32"), "gold": v4(0, "10.64.8.0/32")})
	n.run("ADD", "b", cniArgs("K8S_POD_NAMESPACE=rich")).fails(t, 11, "gold is first for 1")
	equal(t, n.add("a", cniArgs("K8S_POD_NAMESPACE=plain")).address(), "10.64.3.0")
}

func TestNobodyIsWaitedForInVain(t *testing.T) {
	n := newNode(t, one(v4(0)))
	killed := n.command("ADD", "killed", waiting(20))
	n.must(killed.Start())
	n.awaitMark("killed")
	n.must(killed.Process.Kill())
	_ = killed.Wait()
	n.stopped("stopped", waiting(0.5))
	n.allocate(one(v4(0, "10.64.3.0/32")))
	n.run("ADD", "a").fails(t, 11, "first for 1 that wait longer")
	equal(t, n.add("a", waiting(9)).address(), "10.64.3.0") // once the stopped one's time is over
}

// TestManyMoreWaitThanAddresses: 300 on a stock kernel, which has 128 inotify instances per user.
func TestManyMoreWaitThanAddresses(t *testing.T) {
	const waiters, first = 300, 64
	limit, _ := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	n := newNode(t, one(v4(0)))
	var waits []<-chan reply
	for i := range waiters {
		waits = append(waits, n.begin(fmt.Sprint("c", i), waiting(60)))
	}
	start, before := time.Now(), n.busy()
	for time.Since(start) < 2*time.Second { // the lock stays free all the while
		waited := time.Now()
		n.lock()()
		if took := time.Since(waited); took > 3*time.Second {
			t.Errorf("the lock was not to be had for %v", took)
		}
		time.Sleep(10 * time.Millisecond)
	}
	idle, idleFor := n.busy()-before, time.Since(start)
	if idle > idleFor/2 { // a busy loop would take both of a small machine's
		t.Errorf("%v of CPU time in %v while nothing happens", idle, idleFor)
	}
	n.allocate(one(v4(0, "10.64.3.0/26")))
	eventually(t, "the addresses are taken", func() bool { return len(n.list("addresses")) == first })
	var served []int
	for i, done := range waits {
		if len(done) > 0 {
			served = append(served, i)
		}
	}
	eventually(t, "who has one ends", func() bool { return len(n.list("pending")) == waiters-first })
	for i := range first {
		(<-waits[i]).result(t)
	}
	if len(served) > 0 && slices.Max(served) >= first {
		t.Errorf("served: %v, though only the first %d were to be", served, first)
	}
	n.allocate(one(v4(0, "10.64.3.0/26", "10.64.4.0/24")))
	for _, done := range waits[first:] {
		(<-done).result(t)
	}
	t.Logf("%d waited, inotify instances allowed: %s; %v of CPU time in %v while nothing happened", waiters, strings.TrimSpace(string(limit)), idle, idleFor)
	held, hollow := n.audit()
	equal(t, []int{held, hollow}, []int{waiters, 0})
}

// busy is the CPU time of all that wait here.
func (n *node) busy() time.Duration {
	n.t.Helper()
	var total time.Duration
	files, err := filepath.Glob("/proc/[0-9]*/schedstat")
	n.must(err)
	for _, file := range files {
		environ, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "environ"))
		if !strings.Contains(string(environ), "CNI_COMMAND=ADD\x00") || !strings.Contains(string(environ), n.dir) {
			continue
		}
		tasks, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "task/*/schedstat"))
		for _, task := range tasks {
			data, _ := os.ReadFile(task)
			var nanoseconds int64
			_, _ = fmt.Sscan(string(data), &nanoseconds)
			total += time.Duration(nanoseconds)
		}
	}
	return total
}

// TestWaitingNeedsLittle: what the kernel is asked while nothing happens does not grow with time, but for a few stats a look.
func TestWaitingNeedsLittle(t *testing.T) {
	needStrace(t)
	n := newNode(t, one(v4(0, "10.64.3.0/32")))
	n.add("holder")
	counts := map[string]int{}
	log := n.path("trace.new")
	n.run("ADD", "a", waiting(1), under("strace", "-f", "-qq", "-o", log)).fails(t, 11)
	for _, line := range strings.Split(n.read("trace.new"), "\n") {
		_, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ := strings.Cut(strings.TrimSpace(call), "(")
		counts[name]++
	}
	t.Log(counts)
	equal(t, counts["inotify_init1"]+counts["inotify_init"], 0)
	equal(t, counts["flock"], 3) // the lock to leave the mark, the mark's own, the lock to take it away
	if looks := counts["newfstatat"] / 4; looks < 10 || looks > 30 {
		t.Errorf("looked %d times in a second", looks)
	}
}
