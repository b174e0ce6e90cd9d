package ipam

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"podcidr.io/plugin/internal/config"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// Check says whether the interface still holds what ADD printed. It takes no lock: a runtime calls nothing else for the container meanwhile.
func Check(args *skel.CmdArgs) error {
	conf, err := config.ParseLenient(args.StdinData)
	if conf == nil {
		return err
	}
	dir, key := state.Dir(conf.StateDir), keyOf(conf.Network, args)
	record, err := dir.ReadAttachment(key)
	if err != nil {
		return err
	}
	if record == nil {
		return fault.New(types.ErrUnknownContainer, "container %s, interface %s: %s does not exist: nothing is assigned to it; recreate the pod", args.ContainerID, args.IfName, dir.AttachmentPath(key))
	}
	previous, err := previousAddresses(args.StdinData)
	if err != nil {
		return err
	}
	for _, held := range record.IPs {
		if !dir.Holds(record, held.Address) {
			return fault.New(fault.CheckFailed, "address %s: %s is not the file of this attachment; recreate the pod", held.Address, dir.AddressPath(held.Address))
		}
		if !slices.Contains(previous, held.Address) {
			return fault.New(fault.CheckFailed, "prevResult.ips: %v: %s, which this interface holds, is not among them; recreate the pod", previous, held.Address)
		}
	}
	return nil
}

// previousAddresses gives what the chain printed; CHECK is defined against it.
func previousAddresses(stdin []byte) ([]netip.Addr, error) {
	conf := &types.PluginConf{}
	if err := json.Unmarshal(stdin, conf); err != nil {
		return nil, fault.New(types.ErrDecodingFailure, "network configuration: %v", err)
	}
	if conf.RawPrevResult == nil {
		return nil, fault.New(types.ErrInvalidNetworkConfig, "prevResult: missing; CHECK needs the result of ADD")
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return nil, fault.New(types.ErrDecodingFailure, "prevResult: %v", err)
	}
	addresses, err := addressesOf(conf.PrevResult)
	if err != nil {
		return nil, fault.New(types.ErrDecodingFailure, "prevResult: %v", err)
	}
	return addresses, nil
}

// Status fails only where no ADD can ever succeed before an agent comes. Never for exhaustion: the node would be taken for not ready, and its pods evicted.
func Status(args *skel.CmdArgs) error {
	conf, err := config.ParseLenient(args.StdinData)
	if conf == nil {
		return err
	}
	dir := state.Dir(conf.StateDir)
	if dir.Ready() {
		return nil
	}
	return dir.NoDirError(types.ErrPluginNotAvailable)
}
