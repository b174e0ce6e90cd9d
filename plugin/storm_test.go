package main_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"podcidr.io/plugin/internal/machine"
)

var (
	stormOperations = flag.Int("storm.operations", 3000, "how many calls the storm makes")
	stormReport     = flag.String("storm.report", "", "file for the storm's report")
)

const (
	stormWorkers    = 64
	stormContainers = 4 * stormWorkers
)

// storm is many runtimes at once on one node, all of them dying now and then, while the agent gives and takes blocks.
type storm struct {
	*node
	containers [stormContainers]struct {
		sync.Mutex // a runtime runs one operation of a container at a time
		live       []string
	}
	exclusive sync.RWMutex // GC runs alone, as the specification says
	owners    sync.Map     // address → container, of those that the runtimes take for live
	drops     []drop
	typical   atomic.Int64 // nanoseconds that a call takes under this load

	calls, killed, assigned, refused, withdrawn, collected atomic.Int64
	overlaps                                               atomic.Int64
}

// drop is the time in which a block was not the node's to assign from.
type drop struct {
	block    netip.Prefix
	from, to float64
}

var stormBlocks = []string{"10.64.3.0/27", "10.64.3.32/28", "10.64.5.0/29", "10.64.9.0/28"}

func stormPools(blocks []string) object {
	first := dual("", "fd00:64::/120")
	first["ipv4"] = entries("10.64.0.1", 14, blocks)
	first["cooldownSeconds"] = 1
	return object{"default": first, "spare": v4(0, "10.65.0.0/28")}
}

// TestStorm is the crash test: what it is called with, and for how long, `make storm` says.
func TestStorm(t *testing.T) {
	s := &storm{node: newNode(t, stormPools(stormBlocks))}
	s.typical.Store(int64(20 * time.Millisecond))
	began := time.Now()
	stop := make(chan struct{})
	var agent sync.WaitGroup
	agent.Go(func() { s.giveAndTake(stop) })
	inParallel(stormWorkers, *stormOperations, func(i int) {
		if i%500 == 250 {
			s.collect()
			return
		}
		s.operate(rand.IntN(stormContainers))
	})
	close(stop)
	agent.Wait()
	took := time.Since(began)

	held, hollow := s.audit()
	fromDropped := s.auditDrops()
	live := s.liveAddresses()
	leaked := held - live
	s.gc(false)
	after, hollowAfter := s.audit()
	report := fmt.Sprintf(`%d calls (ADD, DEL, CHECK, GC; 64 at a time) of %d containers in %.0f s; %d of them killed with SIGKILL while they ran.
%d ADDs were given addresses, %d found none in time, %d were ended by a DEL while they waited; %d GCs; blocks went and came back %d times.

| | |
|---|---|
| addresses held by two at once | %d |
| of those held at the end: assigned from a block while it was taken away | %d |
| at rest after the storm: held, and known to no live container | %d |
| the same after the reclaim (GC) | %d |
| attachments that hold nothing, before and after the reclaim | %d, %d |
`, s.calls.Load(), stormContainers, took.Seconds(), s.killed.Load(), s.assigned.Load(), s.refused.Load(), s.withdrawn.Load(), s.collected.Load(), len(s.drops),
		s.overlaps.Load(), fromDropped, leaked, after-live, hollow, hollowAfter)
	t.Log("\n" + report)
	equal(t, []int64{s.overlaps.Load(), int64(after - live), int64(hollowAfter)}, []int64{0, 0, 0})
	if s.killed.Load() < s.calls.Load()/10 || s.assigned.Load() < s.calls.Load()/20 {
		t.Error("too few were killed, or were given an address: that was no storm")
	}
	s.everyAddressIsStillThere()
	if *stormReport != "" && !t.Failed() {
		text := fmt.Sprintf("# storm\n%s, %s\n\n`make storm`: %s", time.Now().UTC().Format("2006-01-02"), machine.Describe(), report)
		s.must(os.WriteFile(*stormReport, []byte(text), 0o644))
	}
}

// operate does one thing to one container, as a runtime might that dies at any time.
func (s *storm) operate(number int) {
	s.exclusive.RLock()
	defer s.exclusive.RUnlock()
	c := &s.containers[number]
	c.Lock()
	defer c.Unlock()
	name := fmt.Sprint("c", number)
	switch rand.IntN(10) {
	case 0, 1, 2, 3:
		if r, survived := s.call("ADD", name, waiting(float64(rand.IntN(3))/10)); survived {
			s.took(name, r, &c.live)
		}
	case 4, 5, 6:
		s.disown(&c.live)
		s.call("DEL", name)
	case 7:
		s.call("CHECK", name, top("prevResult", object{"cniVersion": "1.1.0", "ips": []object{}}))
	default:
		s.disown(&c.live)
		s.abandon(name)
	}
}

// call runs the plugin, three times of four only for a random part of the time that it would need.
func (s *storm) call(verb, name string, options ...option) (r reply, survived bool) {
	cmd := s.command(verb, name, options...)
	started := make(chan struct{})
	timer := make(chan *time.Timer, 1)
	go func() {
		<-started
		if cmd.Process == nil || rand.IntN(4) == 0 {
			timer <- nil
			return
		}
		timer <- time.AfterFunc(time.Duration(rand.Int64N(s.typical.Load()*5/4)), func() { _ = cmd.Process.Kill() })
	}()
	r = finishStarted(s.t, cmd, started)
	if t := <-timer; t != nil {
		t.Stop()
	}
	s.calls.Add(1)
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		s.killed.Add(1)
		return r, false
	}
	if verb == "DEL" { // one that never waits
		s.typical.Store((s.typical.Load()*15 + int64(r.took)) / 16)
		if r.exit != 0 && !strings.Contains(r.stdout, "is held by another process") {
			s.t.Errorf("DEL %s: %s", name, r.stdout)
		}
	}
	return r, true
}

// took notes what a runtime was given, and that nobody else has it.
func (s *storm) took(name string, r reply, live *[]string) {
	if r.exit != 0 {
		s.refused.Add(1)
		if !strings.Contains(r.stdout, `"code": 11`) {
			s.t.Errorf("ADD %s: %s", name, r.stdout)
		}
		return
	}
	s.assigned.Add(1)
	given := []string{}
	for _, ip := range r.result(s.t).IPs {
		address, _, _ := strings.Cut(ip["address"].(string), "/")
		given = append(given, address)
		if other, taken := s.owners.Swap(address, name); taken && other != name {
			s.overlaps.Add(1)
			s.t.Errorf("%s is held by %v and by %s", address, other, name)
		}
	}
	if len(*live) > 0 && fmt.Sprint(*live) != fmt.Sprint(given) {
		s.t.Errorf("%s was given %v, and has %v", name, given, *live)
	}
	*live = given
}

// disown comes before the DEL: from its begin on somebody else may be given the address.
func (s *storm) disown(live *[]string) {
	for _, address := range *live {
		s.owners.Delete(address)
	}
	*live = nil
}

// abandon is a runtime that gives up on a waiting ADD: once the DEL is done, the ADD must not assign any more.
func (s *storm) abandon(name string) {
	add := s.command("ADD", name, waiting(0.3))
	mark := "pending/podnet:" + name + ":eth0"
	before := s.inodeOrNone(mark) // of an ADD that was killed
	done, started := make(chan reply, 1), make(chan struct{})
	go func() { done <- finishStarted(s.t, add, started) }()
	<-started
	waits := false
	for deadline := time.Now().Add(100 * time.Millisecond); time.Now().Before(deadline) && len(done) == 0 && !waits; time.Sleep(time.Millisecond) {
		now := s.inodeOrNone(mark)
		waits = now != 0 && now != before
	}
	_, survived := s.call("DEL", name)
	r := <-done
	s.calls.Add(1)
	if waits && survived {
		s.withdrawn.Add(1)
		if _, err := os.Lstat(s.path("attachments/podnet:" + name + ":eth0")); err == nil {
			s.t.Errorf("%s holds addresses after its DEL: the ADD said %s", name, r.stdout)
		}
		return
	}
	s.call("DEL", name) // as the runtime's next attempt would
}

func (s *storm) inodeOrNone(name string) uint64 {
	var stat syscall.Stat_t
	if syscall.Lstat(s.path(name), &stat) != nil {
		return 0
	}
	return stat.Ino
}

func (s *storm) collect() {
	s.exclusive.Lock()
	defer s.exclusive.Unlock()
	s.collected.Add(1)
	s.gc(rand.IntN(2) == 0)
}

// gc lists what the runtimes take for live, and is killed at a random instant if wanted.
func (s *storm) gc(kill bool) {
	valid := []object{}
	for i := range s.containers {
		if len(s.containers[i].live) > 0 {
			valid = append(valid, object{"containerID": fmt.Sprint("c", i), "ifname": "eth0"})
		}
	}
	list := top("cni.dev/valid-attachments", valid)
	if !kill {
		s.ok("GC", "", list)
		s.calls.Add(1)
		return
	}
	cmd := s.command("GC", "", list)
	s.must(cmd.Start())
	time.AfterFunc(time.Duration(rand.IntN(10_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	s.calls.Add(1)
}

// giveAndTake is the agent: under the lock it writes a file that lacks a block, and later one that has it again.
func (s *storm) giveAndTake(stop <-chan struct{}) {
	for round := 0; ; round++ {
		gone := round % len(stormBlocks)
		rest := append(append([]string{}, stormBlocks[:gone]...), stormBlocks[gone+1:]...)
		s.publish(rest)
		from := boottime()
		select {
		case <-stop:
		case <-time.After(50 * time.Millisecond):
		}
		to := boottime()
		s.publish(stormBlocks)
		s.drops = append(s.drops, drop{netip.MustParsePrefix(stormBlocks[gone]), from, to})
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *storm) publish(blocks []string) {
	unlock := s.lock()
	defer unlock()
	s.allocate(stormPools(blocks))
}

// auditDrops: when the rename was done and the lock free, no address of a dropped block was assigned any more.
func (s *storm) auditDrops() int {
	wrong := 0
	for _, key := range s.list("attachments") {
		var r struct {
			IPs        []struct{ Address netip.Addr }
			AssignedAt float64
		}
		s.must(json.Unmarshal([]byte(s.read("attachments/"+key)), &r))
		for _, ip := range r.IPs {
			for _, d := range s.drops {
				if d.block.Contains(ip.Address) && d.from < r.AssignedAt && r.AssignedAt < d.to {
					wrong++
					s.t.Errorf("%s was assigned at %v, and its block had left from %v to %v", ip.Address, r.AssignedAt, d.from, d.to)
				}
			}
		}
	}
	return wrong
}

// liveAddresses counts what the runtimes take for live, and looks that it is held.
func (s *storm) liveAddresses() int {
	count := 0
	for i := range s.containers {
		for _, address := range s.containers[i].live {
			count++
			if s.inode("addresses/"+address) != s.inode(fmt.Sprint("attachments/podnet:c", i, ":eth0")) {
				s.t.Errorf("%s is not held by c%d, which lives by it", address, i)
			}
		}
	}
	return count
}

// everyAddressIsStillThere: after a DEL of all, all can be assigned.
func (s *storm) everyAddressIsStillThere() {
	inParallel(8, stormContainers, func(i int) { s.ok("DEL", fmt.Sprint("c", i)) })
	equal(s.t, [][]string{s.list("addresses"), s.list("attachments"), s.list("pending")}, [][]string{{}, {}, {}})
	pools := stormPools(stormBlocks)
	s.allocate(pools)
	capacity := 32 + 16 + 8 + 16 + 16
	inParallel(8, capacity, func(i int) { s.add(fmt.Sprint("fill", i), waiting(9)) })
	s.run("ADD", "full").fails(s.t, 11, "0 free")
	s.audit()
}
