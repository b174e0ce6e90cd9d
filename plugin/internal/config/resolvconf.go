package config

import (
	"strings"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/jsontext"
	"podcidr.io/plugin/internal/state"
)

func (c *Config) setResolvConf(value jsontext.Value) error {
	read := &jsontext.Reader{}
	path := read.String(value, "")
	if read.Err != nil {
		return c.invalid("ipam.resolvConf", value, "not the path of a file in the format of resolv.conf(5)")
	}
	if path == "" {
		return nil
	}
	data, err := state.ReadFile(path)
	if err != nil {
		return c.invalid("ipam.resolvConf", value, err.Error()+"; give the path of a file that exists on this node")
	}
	c.DNS = parseResolvConf(string(data))
	return nil
}

// parseResolvConf follows resolv.conf(5): of domain and search the last line counts, the others add up.
func parseResolvConf(text string) cni.DNS {
	var dns cni.DNS
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, fields[1])
		case "domain":
			dns.Domain = fields[1]
		case "search":
			dns.Search = fields[1:]
		case "options":
			dns.Options = append(dns.Options, fields[1:]...)
		}
	}
	return dns
}
