package config

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"podcidr.io/plugin/internal/state"
)

func (c *Config) setResolvConf(raw json.RawMessage) error {
	var path string
	if json.Unmarshal(raw, &path) != nil {
		return invalid("ipam.resolvConf", raw, "not the path of a file in the format of resolv.conf(5)")
	}
	if path == "" {
		return nil
	}
	data, err := state.ReadFile(path)
	if err != nil {
		return invalid("ipam.resolvConf", raw, fmt.Sprintf("%v; give the path of a file that exists on this node", err))
	}
	c.DNS = parseResolvConf(string(data))
	return nil
}

// parseResolvConf follows resolv.conf(5): of domain and search the last line counts, the others add up.
func parseResolvConf(text string) types.DNS {
	var dns types.DNS
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
