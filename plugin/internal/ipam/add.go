// Package ipam is the plugin's verbs.
package ipam

import (
	"errors"
	"net/netip"
	"slices"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/config"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// adding is one ADD.
type adding struct {
	config *config.Config
	call   *cni.Call
	dir    state.Dir
	key    state.Key
	view   *state.View
	mark   *state.Mark
	owed   map[string]int // seen before the lock was taken: who is older can only become fewer
	why    string         // nothing was assigned at the last attempt
}

// Add assigns an address of each family, waiting for one if need be, and prints them.
func Add(call *cni.Call) error {
	a, err := newAdding(call)
	if err != nil {
		return err
	}
	result, err := a.run()
	if err != nil {
		return err
	}
	return cni.Print(result.Text(call.Version))
}

func newAdding(call *cni.Call) (*adding, error) {
	conf, err := config.Parse(call)
	if err != nil {
		return nil, err
	}
	if !call.NetnsOverride && call.SameNetns() { // asked before assigning: the main plugin will refuse it, too late
		return nil, fault.New(fault.InvalidNetns, "CNI_NETNS: %s is the plugin's own network namespace; give the container's", call.Netns)
	}
	a := &adding{config: conf, call: call, dir: state.Dir(conf.StateDir), key: keyOf(call)}
	a.view = a.dir.NewView(conf.Pod.Namespace)
	a.mark = a.dir.NewMark(a.key.String(), conf.Pod, conf.Wait, len(conf.Wanted) > 0)
	return a, nil
}

func keyOf(call *cni.Call) state.Key {
	return state.Key{Network: call.Network, Container: call.Container, Interface: call.Interface}
}

// attempt takes the lock and assigns, or says why not. A nil result without an error means: wait. last takes the mark away.
func (a *adding) attempt(last bool) (result *cni.Result, err error) {
	unlock, err := a.dir.Lock()
	if errors.Is(err, state.ErrNoDir) {
		return nil, a.dir.NoDirError(fault.TryAgainLater)
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	if a.mark.Placed() && !a.mark.Stands() {
		return nil, a.withdrawn()
	}
	defer func() {
		if last || err != nil || result != nil {
			a.mark.Remove()
		}
	}()
	defer a.dir.CatchTorn(&err)
	if err := a.view.Refresh(); err != nil {
		return nil, a.tolerate(err)
	}
	if result, err := a.again(); result != nil || err != nil {
		return result, err
	}
	return a.assignOrWait(last)
}

// tolerate: once an ADD waits, a directory that is being prepared anew is waited for too.
func (a *adding) tolerate(err error) error {
	var notReady state.NotReady
	if !a.mark.Placed() || !errors.As(err, &notReady) {
		return err
	}
	a.why = notReady.Error()
	return nil
}

func (a *adding) withdrawn() error {
	return fault.New(fault.TryAgainLater, "DEL, GC or a newer ADD for container %s, interface %s ended this ADD while it waited; nothing was assigned", a.call.Container, a.call.Interface)
}

// again gives the result of an earlier ADD of the same interface. A damaged one of a crash is cleared away.
func (a *adding) again() (*cni.Result, error) {
	key := a.key.String()
	record, err := a.dir.ReadAttachment(key)
	if record == nil || err != nil {
		return nil, err
	}
	if !a.dir.Complete(record) {
		return nil, a.dir.Release(key, record)
	}
	if record.Result == nil {
		return nil, fault.New(fault.DecodingFailure, "%s: result: missing; a DEL of this interface clears it", a.dir.AttachmentPath(key))
	}
	for _, wanted := range a.config.Wanted {
		if !slices.ContainsFunc(record.IPs, func(held state.Held) bool { return held.Address == wanted.Address }) {
			return nil, fault.New(fault.InvalidConfig, "%s: %s: this interface holds other addresses already; a DEL of it frees them", wanted.Field, wanted.Address)
		}
	}
	return record.Result, nil
}

// assignOrWait chooses and claims; without an address it leaves a mark, unless this was the last attempt.
func (a *adding) assignOrWait(last bool) (*cni.Result, error) {
	request, err := resolve(a.view, a.config)
	if errors.Is(err, errNamespaceUnknown) {
		a.why = "namespace " + a.config.Pod.Namespace + " is not known on this node yet: the podcidr agent has not seen it"
		return nil, a.leaveMark(last, nil, nil)
	}
	if err != nil {
		return nil, err
	}
	request.owed = a.owed
	index, err := a.openIndex()
	if err != nil {
		return nil, err
	}
	defer index.Close()
	for {
		best, short := request.choose(index, state.Now())
		if best == nil {
			a.why = request.explain(index, state.Now())
			return nil, a.leaveMark(last, names(request.pools), short)
		}
		result, err := a.claim(best, index)
		if !errors.Is(err, state.ErrHeld) {
			return result, err
		}
	}
}

// openIndex gives an index with a row for every block, so that each address can be marked held; else the choice above would not end.
func (a *adding) openIndex() (*state.Index, error) {
	index := a.dir.OpenIndex(a.view.StateID)
	if index.Covers(a.view.Allocation.Blocks) {
		return index, nil
	}
	defer index.Close()
	return a.dir.BuildIndex(a.view.StateID, a.view.Allocation.Blocks, index)
}

func (a *adding) leaveMark(last bool, pools, short []string) error {
	if last {
		return nil
	}
	return a.mark.Put(pools, short)
}

// claim assigns what was chosen. On ErrHeld the index knows better now.
func (a *adding) claim(best *choice, index *state.Index) (*cni.Result, error) {
	record := &state.Attachment{
		StateID: a.view.StateID, Key: a.key, Netns: a.call.Netns, Pod: a.config.Pod,
		AssignedAt: state.Now(), Result: a.resultOf(best),
	}
	for _, one := range best.addresses {
		record.IPs = append(record.IPs, state.Held{
			Address: one.address, Pool: best.pool.Name, Block: one.block.Prefix, CooldownSeconds: best.pool.CooldownSeconds,
		})
	}
	taken, err := a.dir.Assign(record, index)
	switch {
	case errors.Is(err, state.ErrHeld):
		index.Set(taken, state.EntryHeld)
	case errors.Is(err, state.ErrAttached): // it was made without the lock
		return a.again()
	}
	if err != nil {
		return nil, err
	}
	return record.Result, nil
}

// resultOf has no interfaces: these are the main plugin's.
func (a *adding) resultOf(best *choice) *cni.Result {
	result := &cni.Result{Routes: a.config.Routes, DNS: a.config.DNS}
	for _, one := range best.addresses {
		result.IPs = append(result.IPs, cni.IP{Address: netip.PrefixFrom(one.address, one.block.PrefixLength), Gateway: one.block.Gateway})
	}
	return result
}
