package ipam

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// resultOf has no interfaces: these are the main plugin's.
func (a *adding) resultOf(best *choice) *types100.Result {
	result := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, Routes: a.config.Routes, DNS: a.config.DNS}
	for _, one := range best.addresses {
		ip := &types100.IPConfig{Address: net.IPNet{
			IP:   one.address.AsSlice(),
			Mask: net.CIDRMask(one.block.PrefixLength, one.address.BitLen()),
		}}
		if one.block.Gateway.IsValid() {
			ip.Gateway = one.block.Gateway.AsSlice()
		}
		result.IPs = append(result.IPs, ip)
	}
	return result
}

// addressesOf gives the addresses of a result, for CHECK.
func addressesOf(result types.Result) ([]netip.Addr, error) {
	current, err := types100.GetResult(result)
	if err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, ip := range current.IPs {
		if address, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			addresses = append(addresses, address.Unmap())
		}
	}
	return addresses, nil
}
