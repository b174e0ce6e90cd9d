// Package ipam is the plugin's verbs.
package ipam

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"podcidr.io/plugin/internal/config"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// adding is one ADD.
type adding struct {
	config *config.Config
	args   *skel.CmdArgs
	dir    state.Dir
	key    string
	pod    state.Pod
	view   *state.View
	mark   *state.Mark
	why    string // nothing was assigned at the last attempt
}

// Add assigns an address of each family, waiting for one if need be, and prints them.
func Add(args *skel.CmdArgs) error {
	a, err := newAdding(args)
	if err != nil {
		return err
	}
	result, err := a.run()
	if err != nil {
		return err
	}
	return types.PrintResult(result, a.config.CNIVersion)
}

func newAdding(args *skel.CmdArgs) (*adding, error) {
	conf, err := config.Parse(args.StdinData)
	if err != nil {
		return nil, err
	}
	pod, err := config.ParseArgs(args.Args)
	if err != nil {
		return nil, err
	}
	if err := checkNetns(args); err != nil {
		return nil, err
	}
	a := &adding{config: conf, args: args, dir: state.Dir(conf.StateDir), pod: pod, key: keyOf(conf.Network, args)}
	a.view = a.dir.NewView(pod.Namespace)
	a.mark = a.dir.NewMark(a.key, pod)
	return a, nil
}

func keyOf(network string, args *skel.CmdArgs) string {
	return state.Key{Network: network, Container: args.ContainerID, Interface: args.IfName}.String()
}

// checkNetns asks before assigning what skel asks after it, when the address is already gone.
func checkNetns(args *skel.CmdArgs) error {
	if args.NetnsOverride == "1" || strings.EqualFold(args.NetnsOverride, "true") {
		return nil
	}
	same, err := ns.CheckNetNS(args.Netns)
	if err != nil {
		return err
	}
	if same {
		return fault.New(types.ErrInvalidNetNS, "CNI_NETNS: %s is the plugin's own network namespace; give the container's", args.Netns)
	}
	return nil
}

// attempt takes the lock and assigns, or says why not. A nil result without an error means: wait. last takes the mark away.
func (a *adding) attempt(last bool) (result *types100.Result, err error) {
	unlock, err := a.dir.Lock()
	if errors.Is(err, state.ErrNoDir) {
		return nil, a.dir.NoDirError(types.ErrTryAgainLater)
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
	return fault.New(types.ErrTryAgainLater, "DEL, GC or a newer ADD for container %s, interface %s ended this ADD while it waited; nothing was assigned", a.args.ContainerID, a.args.IfName)
}

// again gives the result of an earlier ADD of the same interface. A damaged one of a crash is cleared away.
func (a *adding) again() (*types100.Result, error) {
	record, err := a.dir.ReadAttachment(a.key)
	if record == nil || err != nil {
		return nil, err
	}
	if !a.dir.Complete(record) {
		return nil, a.dir.Release(a.key, record)
	}
	result, err := types100.NewResult(record.Result)
	if err != nil {
		return nil, fault.New(types.ErrDecodingFailure, "%s: result: %v; a DEL of this interface clears it", a.dir.AttachmentPath(a.key), err)
	}
	return result.(*types100.Result), nil
}

// assignOrWait chooses and claims; without an address it leaves a mark, unless this was the last attempt.
func (a *adding) assignOrWait(last bool) (*types100.Result, error) {
	pools, err := poolsFor(a.view, a.pod, a.config.PodPools)
	if errors.Is(err, errNamespaceUnknown) {
		a.why = fmt.Sprintf("namespace %s is not known on this node yet: the podcidr agent has not seen it", a.pod.Namespace)
		return nil, a.leaveMark(last, nil, nil)
	}
	if err != nil {
		return nil, err
	}
	index, err := a.openIndex()
	if err != nil {
		return nil, err
	}
	defer index.Close()
	for {
		best, short := choose(pools, index, state.Now())
		if best == nil {
			a.why = "no free address; pools tried: " + a.explain(pools, index)
			return nil, a.leaveMark(last, names(pools), short)
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

func (a *adding) explain(pools []*state.Pool, index *state.Index) string {
	if len(pools) == 0 {
		return "none, for neither the node nor the namespace has any"
	}
	return describe(pools, index, state.Now())
}

func (a *adding) leaveMark(last bool, pools, short []string) error {
	if last {
		return nil
	}
	return a.mark.Put(pools, short)
}

func names(pools []*state.Pool) []string {
	names := make([]string, len(pools))
	for i, pool := range pools {
		names[i] = pool.Name
	}
	return names
}

// claim assigns what was chosen. On ErrHeld the index knows better now.
func (a *adding) claim(best *choice, index *state.Index) (*types100.Result, error) {
	result := a.resultOf(best)
	printed, err := result.MarshalJSON()
	if err != nil {
		return nil, fault.New(types.ErrInternal, "encoding the result: %v", err)
	}
	record := &state.Attachment{
		Version: state.Version, StateID: a.view.StateID,
		Network: a.config.Network, Container: a.args.ContainerID, Interface: a.args.IfName, Netns: a.args.Netns,
		Pod: a.pod, AssignedAt: state.Now(), Result: printed,
	}
	for _, one := range best.addresses {
		record.IPs = append(record.IPs, state.Held{
			Address: one.address, Pool: best.pool.Name, Block: one.block.Prefix, CooldownSeconds: best.pool.CooldownSeconds,
		})
	}
	taken, err := a.dir.Assign(a.key, record, index)
	switch {
	case errors.Is(err, state.ErrHeld):
		index.Set(taken, state.EntryHeld)
	case errors.Is(err, state.ErrAttached): // it was made without the lock
		return a.again()
	}
	if err != nil {
		return nil, err
	}
	return result, nil
}
