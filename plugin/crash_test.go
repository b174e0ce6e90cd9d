package main_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"testing"
	"time"
)

func TestParallelAddsNeverShareAnAddress(t *testing.T) {
	n := newNode(t, one(dual("10.64.3.0/25", "fd00:64::80/121")))
	const pods = 100
	var mutex sync.Mutex
	seen := map[string]string{}
	inParallel(8, pods, func(i int) {
		name := fmt.Sprint("c", i)
		r := n.run("ADD", name, waiting(9))
		mutex.Lock()
		defer mutex.Unlock()
		if r.exit != 0 {
			t.Errorf("%s: %s%s", name, r.stdout, r.stderr)
			return
		}
		for _, ip := range r.result(t).IPs {
			if other, taken := seen[ip["address"].(string)]; taken {
				t.Errorf("%v given to %s and %s", ip["address"], other, name)
			}
			seen[ip["address"].(string)] = name
		}
	})
	equal(t, len(seen), 2*pods)
	held, hollow := n.audit()
	equal(t, []int{held, hollow}, []int{2 * pods, 0})
}

// inParallel calls run with 0 … count-1 from so many goroutines.
func inParallel(workers, count int, run func(int)) {
	numbers := make(chan int)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range numbers {
				run(i)
			}
		})
	}
	for i := range count {
		numbers <- i
	}
	close(numbers)
	group.Wait()
}

func TestKilledAtRandom(t *testing.T) {
	n := newNode(t, one(dual("10.64.3.0/27", "fd00:64::40/123")))
	const containers, operations = 40, 400
	locks := make([]sync.Mutex, containers) // a runtime runs one operation of a container at a time
	inParallel(6, operations, func(int) {
		c := rand.IntN(containers)
		locks[c].Lock()
		defer locks[c].Unlock()
		verb := []string{"ADD", "DEL"}[rand.IntN(2)]
		cmd := n.command(verb, fmt.Sprint("c", c))
		if err := cmd.Start(); err != nil {
			t.Error(err)
			return
		}
		kill := time.AfterFunc(time.Duration(rand.IntN(2500))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	})
	held, hollow := n.audit()
	t.Logf("at rest: %d addresses held, %d attachments hold nothing", held, hollow)
	n.emptyAndFill(containers, 32)
}

// emptyAndFill proves that no address is lost: DEL of every known container frees all, and then all can be assigned.
func (n *node) emptyAndFill(containers, room int) {
	n.t.Helper()
	for c := range containers {
		n.ok("DEL", fmt.Sprint("c", c))
	}
	equal(n.t, [][]string{n.list("addresses"), n.list("attachments")}, [][]string{{}, {}})
	for i := range room {
		n.add(fmt.Sprint("fill", i))
	}
	n.audit()
}

// TestKilledAtEachStep kills the plugin at each system call that touches files, one after the other.
func TestKilledAtEachStep(t *testing.T) {
	needStrace(t)
	for verb, atLeast := range map[string]int{"ADD": 20, "DEL": 12} {
		t.Run(verb, func(t *testing.T) {
			n := newNode(t, one(dual("10.64.3.0/30", "fd00:64::40/125")))
			n.add("warm")
			steps := 0
			for _, call := range []string{"openat", "flock", "fstat", "newfstatat", "lstat", "stat", "read", "write", "close", "link", "linkat", "unlink", "unlinkat", "munmap"} {
				count := 1
				for n.killedAt(verb, call, count) {
					count++
				}
				t.Logf("%-10s %d", call, count-1)
				steps += count - 1
			}
			if steps < atLeast {
				t.Errorf("killed at %d system calls, there are more", steps)
			}
			n.ok("DEL", "warm")
			n.emptyAndFill(1, 4)
		})
	}
}

// killedAt runs the verb, killed at the count-th such call, and proves that nothing is lost. False if there is no such call.
func (n *node) killedAt(verb, call string, count int) bool {
	n.t.Helper()
	if verb == "DEL" {
		n.add("c0")
	}
	r := n.run(verb, "c0", under("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, count)))
	n.audit()
	first := n.add("c0") // a runtime would DEL; a repeated ADD has to find its way too
	equal(n.t, n.add("c0"), first)
	held, _ := n.audit()
	equal(n.t, held, 4)
	n.ok("DEL", "c0")
	held, hollow := n.audit()
	equal(n.t, []int{held, hollow}, []int{2, 0})
	return r.exit != 0
}

func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("SKIPPED: strace is not installed, and what the plugin asks of the kernel is not looked at")
	}
}
