package ipam

import (
	"errors"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// errNamespaceUnknown: the agent has not seen the namespace, so whether it pins a pool is not known.
var errNamespaceUnknown = errors.New("namespace unknown")

// poolsFor resolves which pools the pod may use, in order: its namespace's, and of those what the pod asks for.
func poolsFor(view *state.View, pod state.Pod, podPools []string) ([]*state.Pool, error) {
	allowed := view.Allocation.Automatic
	if pod.Namespace != "" {
		switch {
		case view.Namespace == nil:
			return nil, errNamespaceUnknown
		case view.Namespace.Error != "":
			return nil, fault.New(types.ErrInvalidNetworkConfig, "%s", view.Namespace.Error)
		case view.Namespace.Pools != nil:
			allowed = *view.Namespace.Pools
		}
	}
	names := allowed
	if podPools != nil {
		for _, name := range podPools {
			if !slices.Contains(allowed, name) {
				return nil, fault.New(types.ErrInvalidNetworkConfig,
					"pod annotation podcidr.io/pools: %q: namespace %q may use only %s; name one of these, or pin the namespace to the pool", name, pod.Namespace, list(allowed))
			}
		}
		names = podPools
	}
	pools := make([]*state.Pool, len(names))
	for i, name := range names {
		pool := view.Allocation.Pools[name]
		if pool == nil {
			return nil, fault.New(types.ErrInvalidNetworkConfig, "pool %q, wanted for namespace %q, does not exist on this node; create the IPPool, or correct the annotation podcidr.io/pools", name, pod.Namespace)
		}
		pools[i] = pool
	}
	return pools, nil
}

func list(names []string) string {
	if len(names) == 0 {
		return "no pool"
	}
	return strings.Join(names, ", ")
}
