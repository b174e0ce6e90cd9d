package ipam

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"time"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// How often a waiting ADD looks: those next in line 20 times a second, those with many before them less, lest together they keep a CPU busy.
// Not inotify: its instances are 128 per user.
const (
	shortestTick = 50 * time.Millisecond
	longestTick  = time.Second
	nextInLine   = 4
)

// run tries at once, and then whenever there is a reason to.
func (a *adding) run() (*cni.Result, error) {
	deadline := time.Now().Add(a.config.Wait)
	peek := &peek{adding: a, queue: state.NewQueue(a.mark)}
	defer peek.close()
	length := peek.queue.Length()
	if length > 0 { // who has just come goes behind who waits
		peek.worthwhile()
	}
	result, err := a.attempt(a.config.Wait == 0)
	if result == nil && err == nil && a.config.Wait > 0 {
		runtime.GOMAXPROCS(1) // else each look wakes a second thread, which finds nothing to do
	}
	for result == nil && err == nil && time.Now().Before(deadline) {
		time.Sleep(min(tick(length), time.Until(deadline)))
		if !a.mark.Stands() {
			return nil, a.withdrawn()
		}
		if peek.worthwhile() {
			result, err = a.attempt(false)
		}
		if length >= nextInLine {
			length = peek.queue.Length()
		}
	}
	if result == nil && err == nil && a.config.Wait > 0 {
		peek.worthwhile()
		result, err = a.attempt(true)
	}
	if result == nil && err == nil {
		err = fault.New(fault.TryAgainLater, "%s; waited %v (ipam.waitSeconds), the runtime tries again", a.why, a.config.Wait)
	}
	return result, err
}

// tick is spread, lest all look at the same instant.
func tick(length int) time.Duration {
	mean := min(shortestTick*time.Duration(1+length/nextInLine), longestTick)
	return mean*4/5 + rand.N(mean*2/5)
}

// peek looks without the lock whether an attempt could succeed, so that hundreds may wait without standing in line for it.
// What it sees is seen again under the lock, but for who waits longer: that can only become less.
type peek struct {
	*adding
	queue  *state.Queue
	index  *state.Index
	opened bool
}

func (p *peek) worthwhile() bool {
	yes, err := p.look()
	return yes || err != nil // an attempt tells of the error
}

func (p *peek) look() (yes bool, err error) {
	defer p.dir.CatchTorn(&err)
	p.owed = nil
	if err := p.view.Refresh(); err != nil {
		var notReady state.NotReady
		return !errors.As(err, &notReady), nil
	}
	request, err := resolve(p.view, p.config)
	if err != nil {
		return !errors.Is(err, errNamespaceUnknown), nil
	}
	if !p.opened || p.dir.Stale(p.index) {
		p.close()
		p.index, p.opened = p.dir.OpenIndex(p.view.StateID), true
	}
	now := state.Now()
	best, short := request.choose(p.index, now)
	if best != nil {
		p.owed = p.countOlder(request, now)
		request.owed = p.owed
		best, short = request.choose(p.index, now)
	}
	return best != nil || !p.mark.Says(names(request.pools), short), nil
}

// countOlder asks no further than until it is clear that it is not this one's turn.
func (p *peek) countOlder(request *request, now float64) map[string]int {
	free := map[string]int{}
	for _, pool := range request.pools {
		for i, family := range pool.Families {
			count := usable(family, p.index, now, maxWaiting)
			if i == 0 || count < free[pool.Name] {
				free[pool.Name] = count
			}
		}
	}
	return p.queue.Older(names(request.pools), func(pool string, older int) bool { return older >= free[pool] })
}

// maxWaiting is more than can wait on a node.
const maxWaiting = 1 << 12

func (p *peek) close() {
	p.index.Close()
	p.index = nil
}
