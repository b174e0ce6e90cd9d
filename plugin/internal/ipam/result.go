package ipam

import (
	"net/netip"

	"podcidr.io/plugin/internal/cni"
)

// resultOf leaves out routes of a family in which the interface gets no address: one configuration serves pools of either and of both.
func (a *adding) resultOf(best *choice) *cni.Result {
	result := &cni.Result{DNS: a.config.DNS}
	for _, one := range best.addresses {
		result.IPs = append(result.IPs, cni.IP{
			Address: netip.PrefixFrom(one.address, one.block.PrefixLength),
			Gateway: one.block.Gateway,
		})
	}
	for _, route := range a.config.Routes {
		for _, one := range best.addresses {
			if one.address.Is4() == route.Dst.Addr().Is4() {
				result.Routes = append(result.Routes, route)
			}
		}
	}
	return result
}
