// Package config reads what a runtime gives the plugin: the network configuration on stdin, and CNI_ARGS.
package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"podcidr.io/plugin/internal/fault"
)

// Defaults of the plugin's keys.
const (
	DefaultStateDir    = "/run/podcidr"
	defaultWaitSeconds = 9.0
	maxWaitSeconds     = 200.0 // kubelet gives a sandbox 240 s
)

// poolsAnnotation is the pod's own list of pools; the runtime passes it through the capability of that name.
const (
	poolsAnnotation       = "podcidr.io/pools"
	annotationsCapability = "io.kubernetes.cri.pod-annotations"
)

// Config is the configuration of one call.
type Config struct {
	CNIVersion string
	Network    string
	StateDir   string
	Wait       time.Duration
	Routes     []*types.Route
	DNS        types.DNS
	PodPools   []string // the pod's own pin; nil: none
}

type document struct {
	CNIVersion    string                     `json:"cniVersion"`
	Name          string                     `json:"name"`
	IPAM          map[string]json.RawMessage `json:"ipam"`
	RuntimeConfig map[string]json.RawMessage `json:"runtimeConfig"`
	Args          struct {
		CNI struct {
			IPs json.RawMessage `json:"ips"`
		} `json:"cni"`
	} `json:"args"`
}

// Parse reads the whole configuration, as ADD needs it.
func Parse(stdin []byte) (*Config, error) {
	var doc document
	if err := json.Unmarshal(stdin, &doc); err != nil {
		return nil, fault.New(types.ErrDecodingFailure, "network configuration: %v; correct the file in the CNI configuration directory", err)
	}
	if doc.IPAM == nil {
		return nil, fault.New(types.ErrInvalidNetworkConfig, "ipam: missing; add \"ipam\": {\"type\": \"podcidr-ipam\"}")
	}
	c := &Config{CNIVersion: doc.CNIVersion, Network: doc.Name}
	if c.CNIVersion == "" {
		c.CNIVersion = "0.1.0" // as the runtimes' library takes it
	}
	for _, read := range []func(*document) error{c.readIPAM, c.readPodPools, refuseStatic} {
		if err := read(&doc); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ParseLenient reads no more than which directory and network; for DEL, which must not fail because of a typing error in a key that it does not use.
func ParseLenient(stdin []byte) (*Config, error) {
	c, err := Parse(stdin)
	if err == nil {
		return c, nil
	}
	var doc document
	c = &Config{StateDir: DefaultStateDir}
	_ = json.Unmarshal(stdin, &doc) // what can be read is read
	c.CNIVersion, c.Network = doc.CNIVersion, doc.Name
	if raw, ok := doc.IPAM["stateDir"]; ok {
		if dirErr := c.setStateDir(raw); dirErr != nil {
			return nil, dirErr
		}
	}
	return c, err
}

func (c *Config) readIPAM(doc *document) error {
	c.StateDir, c.Wait = DefaultStateDir, time.Duration(defaultWaitSeconds*float64(time.Second))
	setters := map[string]func(json.RawMessage) error{
		"type":        func(json.RawMessage) error { return nil },
		"stateDir":    c.setStateDir,
		"waitSeconds": c.setWait,
		"routes":      c.setRoutes,
		"resolvConf":  c.setResolvConf,
	}
	for _, key := range slices.Sorted(maps.Keys(doc.IPAM)) {
		set, known := setters[key]
		if !known {
			return invalid("ipam."+key, doc.IPAM[key], "unknown key; allowed are type, stateDir, waitSeconds, routes, resolvConf")
		}
		if string(doc.IPAM[key]) == "null" {
			continue
		}
		if err := set(doc.IPAM[key]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) setStateDir(raw json.RawMessage) error {
	if json.Unmarshal(raw, &c.StateDir) != nil || !path.IsAbs(c.StateDir) {
		return invalid("ipam.stateDir", raw, "not an absolute path; give the directory of the agent's --state-dir")
	}
	c.StateDir = path.Clean(c.StateDir)
	return nil
}

func (c *Config) setWait(raw json.RawMessage) error {
	var seconds float64
	if json.Unmarshal(raw, &seconds) != nil || seconds < 0 || seconds > maxWaitSeconds {
		return invalid("ipam.waitSeconds", raw, fmt.Sprintf("not a number of seconds from 0 to %v", maxWaitSeconds))
	}
	c.Wait = time.Duration(seconds * float64(time.Second))
	return nil
}

func (c *Config) setRoutes(raw json.RawMessage) error {
	var routes []map[string]json.RawMessage
	if json.Unmarshal(raw, &routes) != nil {
		return invalid("ipam.routes", raw, "not a list of objects; give [{\"dst\": \"0.0.0.0/0\"}]")
	}
	for i, route := range routes {
		where := fmt.Sprintf("ipam.routes[%d]", i)
		for _, key := range slices.Sorted(maps.Keys(route)) {
			if !slices.Contains([]string{"dst", "gw", "mtu", "advmss", "priority", "table", "scope"}, key) {
				return invalid(where+"."+key, route[key], "unknown key; allowed are dst, gw, mtu, advmss, priority, table, scope")
			}
		}
		if _, ok := route["dst"]; !ok {
			return invalid(where, raw, "dst is missing; give the destination CIDR")
		}
		parsed := &types.Route{}
		whole, _ := json.Marshal(route)
		if err := json.Unmarshal(whole, parsed); err != nil {
			return invalid(where, whole, err.Error())
		}
		c.Routes = append(c.Routes, parsed)
	}
	return nil
}

// readPodPools takes the pod's pin as it stands; whether the namespace allows it is seen later.
func (c *Config) readPodPools(doc *document) error {
	raw, ok := doc.RuntimeConfig[annotationsCapability]
	if !ok || string(raw) == "null" {
		return nil
	}
	var annotations map[string]string
	if err := json.Unmarshal(raw, &annotations); err != nil {
		return invalid("runtimeConfig."+annotationsCapability, raw, "not an object of strings")
	}
	pin, ok := annotations[poolsAnnotation]
	if !ok || strings.TrimSpace(pin) == "" {
		return nil
	}
	pools, err := parsePin(pin)
	if err != nil {
		return fault.New(types.ErrInvalidNetworkConfig, "pod annotation %s: %q: %v; give pool names as a JSON array or a comma list", poolsAnnotation, pin, err)
	}
	c.PodPools = pools
	return nil
}

func parsePin(pin string) ([]string, error) {
	var pools []string
	if strings.HasPrefix(strings.TrimSpace(pin), "[") {
		if err := json.Unmarshal([]byte(pin), &pools); err != nil {
			return nil, err
		}
	} else {
		pools = strings.Split(pin, ",")
	}
	for i := range pools {
		if pools[i] = strings.TrimSpace(pools[i]); pools[i] == "" {
			return nil, fmt.Errorf("name %d is empty", i+1)
		}
	}
	if len(pools) == 0 {
		return nil, fmt.Errorf("no name in it")
	}
	return pools, nil
}

// refuseStatic: a wanted address that is silently ignored would be worse than an error.
func refuseStatic(doc *document) error {
	for _, wish := range []struct {
		field string
		value json.RawMessage
	}{
		{"args.cni.ips", doc.Args.CNI.IPs},
		{"runtimeConfig.ips", doc.RuntimeConfig["ips"]},
		{"runtimeConfig.ipRanges", doc.RuntimeConfig["ipRanges"]},
	} {
		switch string(wish.value) {
		case "", "null", "[]":
		default:
			return unsupported(wish.field, string(wish.value))
		}
	}
	return nil
}

func unsupported(field, value string) error {
	return fault.New(types.ErrUnsupportedField, "%s: %s: podcidr-ipam chooses addresses itself; remove the request, or pin the pod to a pool", field, value)
}

func invalid(field string, value json.RawMessage, why string) error {
	return fault.New(types.ErrInvalidNetworkConfig, "%s: %s: %s", field, value, why)
}
