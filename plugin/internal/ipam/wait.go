package ipam

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// tick is how often a waiting ADD looks. Not inotify: its instances are 128 per user.
const tick = 50 * time.Millisecond

// run tries at once, and then whenever there is a reason to.
func (a *adding) run() (*types100.Result, error) {
	start := time.Now()
	deadline := start.Add(a.config.Wait)
	result, err := a.attempt(a.config.Wait == 0)
	if result != nil || err != nil {
		return result, err
	}
	peek := &peek{adding: a}
	defer peek.close()
	for time.Now().Before(deadline) {
		time.Sleep(min(jittered(tick), time.Until(deadline)))
		if !a.mark.Stands() {
			return nil, a.withdrawn()
		}
		if !peek.worthwhile() {
			continue
		}
		if result, err := a.attempt(false); result != nil || err != nil {
			return result, err
		}
	}
	if a.config.Wait > 0 {
		if result, err := a.attempt(true); result != nil || err != nil {
			return result, err
		}
	}
	return nil, fault.New(types.ErrTryAgainLater, "%s; waited %v (ipam.waitSeconds), the runtime tries again", a.why, a.config.Wait)
}

// jittered spreads those who wait, lest all look at the same instant.
func jittered(mean time.Duration) time.Duration {
	return mean*4/5 + rand.N(mean*2/5)
}

// peek looks without the lock whether an attempt could succeed, so that hundreds may wait without standing in line for it.
// It rests on nothing: what it sees is seen again under the lock.
type peek struct {
	*adding
	index  *state.Index
	opened bool
}

func (p *peek) worthwhile() bool {
	if err := p.view.Refresh(); err != nil {
		var notReady state.NotReady
		return !errors.As(err, &notReady) // an attempt tells of every other error
	}
	pools, err := poolsFor(p.view, p.pod, p.config.PodPools)
	if err != nil {
		return !errors.Is(err, errNamespaceUnknown)
	}
	if !p.opened || p.dir.Stale(p.index) {
		p.close()
		p.index, p.opened = p.dir.OpenIndex(p.view.StateID), true
	}
	best, short := choose(pools, p.index, state.Now())
	return best != nil || !p.mark.Says(names(pools), short)
}

func (p *peek) close() {
	p.index.Close()
	p.index = nil
}
