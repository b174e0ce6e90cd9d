package ipam

import (
	"net/netip"
	"slices"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/config"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// Check says whether the interface still holds what ADD printed. It takes no lock: a runtime calls nothing else for the container meanwhile.
func Check(call *cni.Call) error {
	dir, err := config.StateDir(call)
	if err != nil {
		return err
	}
	key := keyOf(call).String()
	record, err := dir.ReadAttachment(key)
	if err != nil {
		return err
	}
	if record == nil {
		return fault.New(fault.UnknownContainer, "container %s, interface %s: %s does not exist: nothing is assigned to it; recreate the pod", call.Container, call.Interface, dir.AttachmentPath(key))
	}
	previous, err := previousAddresses(call)
	if err != nil {
		return err
	}
	for _, held := range record.IPs {
		if err := checkHeld(dir, record, held, previous); err != nil {
			return err
		}
	}
	return nil
}

func checkHeld(dir state.Dir, record *state.Attachment, held state.Held, previous []netip.Addr) error {
	if !dir.Holds(record, held.Address) {
		return fault.New(fault.CheckFailed, "address %s: %s is not the file of this attachment; recreate the pod", held.Address, dir.AddressPath(held.Address))
	}
	if !slices.Contains(previous, held.Address) {
		return fault.New(fault.CheckFailed, "prevResult.ips: %v: %s, which this interface holds, is not among them; recreate the pod", previous, held.Address)
	}
	return nil
}

// previousAddresses gives what the chain printed; CHECK is defined against it.
func previousAddresses(call *cni.Call) ([]netip.Addr, error) {
	previous := call.Config.Get("prevResult")
	if !previous.Given() {
		return nil, fault.New(fault.InvalidConfig, "prevResult: missing; CHECK needs the result of ADD")
	}
	result, err := cni.ReadResult(previous)
	if err != nil {
		return nil, fault.New(fault.DecodingFailure, "prevResult: %v", err)
	}
	var addresses []netip.Addr
	for _, ip := range result.IPs {
		addresses = append(addresses, ip.Address.Addr().Unmap())
	}
	return addresses, nil
}

// Status fails only where no ADD can ever succeed before an agent comes. Never for exhaustion: the node would be taken for not ready, and its pods evicted.
func Status(call *cni.Call) error {
	dir, err := config.StateDir(call)
	if err != nil {
		return err
	}
	return dir.Ready()
}
