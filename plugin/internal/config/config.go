// Package config reads what a runtime gives the plugin: the network configuration on stdin, and CNI_ARGS.
package config

import (
	"path"
	"strconv"
	"strings"
	"time"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
	"podcidr.io/plugin/internal/state"
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
	StateDir string
	Wait     time.Duration
	Routes   []cni.Route
	DNS      cni.DNS
	Pod      state.Pod
	PodPools []string // the pod's own pin; nil: none
	Wanted   []Wanted // static addresses, at most one of a family

	call *cni.Call
}

// Parse reads the whole configuration, as ADD needs it.
func Parse(call *cni.Call) (*Config, error) {
	if !call.Config.Get("ipam").Given() {
		return nil, fault.New(fault.InvalidConfig, "ipam: missing; add \"ipam\": {\"type\": \"podcidr-ipam\"}")
	}
	c := &Config{StateDir: DefaultStateDir, Wait: seconds(defaultWaitSeconds), call: call}
	for _, read := range []func() error{c.readIPAM, c.readPodPools, c.readWanted, c.readArgs} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// StateDir reads no more than the directory, for verbs that must not fail because of a typing error in a key that they do not use.
func StateDir(call *cni.Call) (state.Dir, error) {
	c := &Config{StateDir: DefaultStateDir, call: call}
	dir := call.Config.Get("ipam").Get("stateDir")
	if !dir.Given() {
		return DefaultStateDir, nil
	}
	err := c.setStateDir(dir)
	return state.Dir(c.StateDir), err
}

func (c *Config) readIPAM() error {
	ipam := c.call.Config.Get("ipam")
	read := &jsontext.Reader{}
	for key, value := range read.Members(ipam, "ipam") {
		set := map[string]func(jsontext.Value) error{
			"type":        func(jsontext.Value) error { return nil },
			"stateDir":    c.setStateDir,
			"waitSeconds": c.setWait,
			"routes":      c.setRoutes,
			"resolvConf":  c.setResolvConf,
		}[key]
		if set == nil {
			return c.invalid("ipam."+key, value, "unknown key; allowed are type, stateDir, waitSeconds, routes, resolvConf")
		}
		if !value.Given() {
			continue
		}
		if err := set(value); err != nil {
			return err
		}
	}
	if read.Err != nil {
		return c.invalid("ipam", ipam, "not an object; give {\"type\": \"podcidr-ipam\"}")
	}
	return nil
}

func (c *Config) setStateDir(value jsontext.Value) error {
	read := &jsontext.Reader{}
	c.StateDir = path.Clean(read.String(value, ""))
	if read.Err != nil || !path.IsAbs(c.StateDir) {
		return c.invalid("ipam.stateDir", value, "not an absolute path; give the directory of the agent's --state-dir")
	}
	return nil
}

func (c *Config) setWait(value jsontext.Value) error {
	read := &jsontext.Reader{}
	wait := read.Float(value, "")
	if read.Err != nil || wait < 0 || wait > maxWaitSeconds {
		return c.invalid("ipam.waitSeconds", value, "not a number of seconds from 0 to "+strconv.Itoa(maxWaitSeconds))
	}
	c.Wait = seconds(wait)
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (c *Config) setRoutes(value jsontext.Value) error {
	read := &jsontext.Reader{}
	for i, item := range read.Items(value, "") {
		where := "ipam.routes[" + strconv.Itoa(i) + "]"
		for key, member := range read.Members(item, where) {
			if !strings.Contains(" dst gw mtu advmss priority table scope ", " "+key+" ") {
				return c.invalid(where+"."+key, member, "unknown key; allowed are dst, gw, mtu, advmss, priority, table, scope")
			}
		}
		if read.Err == nil && !item.Get("dst").Given() {
			return c.invalid(where, item, "dst is missing; give the destination CIDR")
		}
		route := cni.ReadRoute(read, item, where)
		if read.Err != nil {
			return c.invalid(where, item, read.Err.Error())
		}
		if wrong := wrongRoute(route); wrong != "" {
			return c.invalid(where, item, wrong)
		}
		c.Routes = append(c.Routes, route)
	}
	if read.Err != nil {
		return c.invalid("ipam.routes", value, "not a list of objects; give [{\"dst\": \"0.0.0.0/0\"}]")
	}
	return nil
}

// wrongRoute says what the kernel would refuse when the main plugin sets the route, or nothing.
func wrongRoute(route cni.Route) string {
	switch {
	case route.Dst != route.Dst.Masked():
		return "dst: host bits set; give " + route.Dst.Masked().String()
	case route.GW.IsValid() && route.GW.Is4() != route.Dst.Addr().Is4():
		return "gw: not of the family of dst; give a gateway of that one"
	}
	return ""
}

// readPodPools takes the pod's pin as it stands; whether the namespace allows it is seen later.
func (c *Config) readPodPools() error {
	read := &jsontext.Reader{}
	value := c.call.Config.Get("runtimeConfig").Get(annotationsCapability)
	pin := read.String(read.Object(value, "").Get(poolsAnnotation), "")
	if read.Err != nil {
		return c.invalid("runtimeConfig."+annotationsCapability, value, "not an object of strings")
	}
	if strings.TrimSpace(pin) == "" {
		return nil
	}
	pools, wrong := parsePin(pin)
	if wrong != "" {
		return fault.New(fault.InvalidConfig, "pod annotation %s: %q: %s; give pool names as a JSON array or a comma list", poolsAnnotation, pin, wrong)
	}
	c.PodPools = pools
	return nil
}

// parsePin gives the names, or what is wrong.
func parsePin(pin string) (pools []string, wrong string) {
	if strings.HasPrefix(strings.TrimSpace(pin), "[") {
		list, err := jsontext.Parse([]byte(pin))
		read := &jsontext.Reader{Err: err}
		if pools = read.Strings(list, "the list"); read.Err != nil {
			return nil, read.Err.Error()
		}
	} else {
		pools = strings.Split(pin, ",")
	}
	for i := range pools {
		if pools[i] = strings.TrimSpace(pools[i]); pools[i] == "" {
			return nil, "name " + strconv.Itoa(i+1) + " is empty"
		}
	}
	if len(pools) == 0 {
		return nil, "no name in it"
	}
	return pools, ""
}

func (c *Config) invalid(field string, value jsontext.Value, why string) error {
	return fault.New(fault.InvalidConfig, "%s: %s: %s", field, value.Source(c.call.Stdin), why)
}
