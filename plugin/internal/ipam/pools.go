package ipam

import (
	"errors"
	"slices"
	"strings"

	"podcidr.io/plugin/internal/config"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// errNamespaceUnknown: the agent has not seen the namespace, so whether it pins a pool is not known.
var errNamespaceUnknown = errors.New("namespace unknown")

// request is what a pod may have.
type request struct {
	pools  []*state.Pool
	wanted []config.Wanted
	owed   map[string]int // per pool, how many ADDs wait for it longer than this one
}

// resolve gives the pools that the pod may use, in order: its namespace's, of those what the pod asks for, and of those the ones that have the wanted addresses.
func resolve(view *state.View, conf *config.Config) (*request, error) {
	allowed, err := allowedPools(view, conf.Pod)
	if err != nil {
		return nil, err
	}
	names := allowed
	if conf.PodPools != nil {
		if err := onlyNarrows(conf, allowed); err != nil {
			return nil, err
		}
		names = conf.PodPools
	}
	r := &request{wanted: conf.Wanted}
	for _, name := range names {
		pool := view.Allocation.Pools[name]
		if pool == nil {
			return nil, fault.New(fault.InvalidConfig, "pool %q, wanted for namespace %q, does not exist on this node; create the IPPool, or correct the annotation podcidr.io/pools", name, conf.Pod.Namespace)
		}
		r.pools = append(r.pools, pool)
	}
	return r, r.keepWanted()
}

func allowedPools(view *state.View, pod state.Pod) ([]string, error) {
	switch {
	case pod.Namespace == "":
		return view.Allocation.Automatic, nil
	case view.Namespace == nil:
		return nil, errNamespaceUnknown
	case view.Namespace.Error != "":
		return nil, fault.New(fault.InvalidConfig, "%s", view.Namespace.Error)
	case view.Namespace.Automatic:
		return view.Allocation.Automatic, nil
	}
	return view.Namespace.Pools, nil
}

func onlyNarrows(conf *config.Config, allowed []string) error {
	for _, name := range conf.PodPools {
		if !slices.Contains(allowed, name) {
			return fault.New(fault.InvalidConfig,
				"pod annotation podcidr.io/pools: %q: namespace %q may use only %s; name one of these, or pin the namespace to the pool", name, conf.Pod.Namespace, list(allowed))
		}
	}
	return nil
}

// keepWanted leaves the pools that could assign every wanted address. It does not wait for a block that might hold one: nobody would claim it for that.
func (r *request) keepWanted() error {
	for _, wanted := range r.wanted {
		had := names(r.pools)
		r.pools = slices.DeleteFunc(r.pools, func(pool *state.Pool) bool {
			return !slices.ContainsFunc(pool.Families, func(family state.Family) bool {
				_, ok := blockOf(family, wanted.Address)
				return ok
			})
		})
		if len(r.pools) == 0 {
			return fault.New(fault.InvalidConfig, "%s: %s: not assignable from a block that this node has of %s; ask for one that is in a block of the node and not reserved, or for none", wanted.Field, wanted.Address, list(had))
		}
	}
	return nil
}

func names(pools []*state.Pool) []string {
	names := make([]string, len(pools))
	for i, pool := range pools {
		names[i] = pool.Name
	}
	return names
}

func list(names []string) string {
	if len(names) == 0 {
		return "no pool"
	}
	return strings.Join(names, ", ")
}
