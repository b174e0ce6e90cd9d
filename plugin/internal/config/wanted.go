package config

import (
	"net/netip"
	"strings"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
)

// Wanted is a static address, and where it was asked for.
type Wanted struct {
	Field   string
	Address netip.Addr
}

// readWanted joins what the configuration's conventions allow; CNI_ARGS may add to it. Ranges are the pools' business: a wish that is silently ignored would be worse than an error.
func (c *Config) readWanted() error {
	conf := c.call.Config
	if err := c.requireObjects(); err != nil {
		return err
	}
	ranges := conf.Get("runtimeConfig").Get("ipRanges")
	if source := ranges.Source(c.call.Stdin); ranges.Given() && source != "[]" {
		return fault.New(fault.UnsupportedField, "runtimeConfig.ipRanges: %s: podcidr-ipam has its ranges from the node's blocks; remove it, or pin the pod to a pool", source)
	}
	for _, list := range []struct {
		field string
		value jsontext.Value
	}{
		{"args.cni.ips", conf.Get("args").Get("cni").Get("ips")},
		{"runtimeConfig.ips", conf.Get("runtimeConfig").Get("ips")},
	} {
		read := &jsontext.Reader{}
		texts := read.Strings(list.value, list.field)
		if read.Err != nil {
			return c.invalid(list.field, list.value, "not a list of strings; give [\"10.0.0.7\"]")
		}
		for _, text := range texts {
			if err := c.want(list.field, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// requireObjects refuses what would else be read as if nothing had been asked for.
func (c *Config) requireObjects() error {
	conf := c.call.Config
	for _, one := range []struct {
		field string
		value jsontext.Value
	}{
		{"runtimeConfig", conf.Get("runtimeConfig")}, {"args", conf.Get("args")}, {"args.cni", conf.Get("args").Get("cni")},
	} {
		read := &jsontext.Reader{}
		if read.Object(one.value, one.field); read.Err != nil {
			return c.invalid(one.field, one.value, "not an object; correct it, or leave it out")
		}
	}
	return nil
}

// want takes an address with or without a prefix length, which is the pool's business. Asked for twice, it is wanted once.
func (c *Config) want(field, text string) error {
	bare, _, _ := strings.Cut(text, "/")
	address, err := netip.ParseAddr(bare)
	if _, lengthErr := netip.ParsePrefix(text); err != nil || address.Zone() != "" || bare != text && lengthErr != nil {
		return fault.New(fault.InvalidConfig, "%s: %q: no address; give one such as 10.0.0.7 or 10.0.0.7/24", field, text)
	}
	address = address.Unmap()
	for _, other := range c.Wanted {
		if other.Address == address {
			return nil
		}
		if other.Address.Is4() == address.Is4() {
			return fault.New(fault.InvalidConfig, "%s: %s: %s asks for %s already; an interface gets one address of a family", field, address, other.Field, other.Address)
		}
	}
	c.Wanted = append(c.Wanted, Wanted{field, address})
	return nil
}
