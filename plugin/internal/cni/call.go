// Package cni is the protocol between a runtime and a plugin: environment and stdin in, JSON out. It stands in for
// containernetworking's pkg/skel and pkg/types, which cost more at start-up than the whole ADD; the tests run it under the real libcni.
package cni

import (
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
)

// Versions of the specification that this plugin speaks.
var Versions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// Current is the newest of them.
const Current = "1.1.0"

// Call is one call of the plugin.
type Call struct {
	Verb, Container, Netns, Interface, Args string
	NetnsOverride                           bool

	Version, Network string
	Stdin            []byte
	Config           jsontext.Value // stdin, an object
}

// since is the specification version that brought a verb.
var since = map[string]string{"ADD": "0.1.0", "DEL": "0.1.0", "CHECK": "0.4.0", "STATUS": "1.1.0", "GC": "1.1.0", "VERSION": ""}

// Read takes the call from the environment and stdin. With an error comes what is known of it; without CNI_COMMAND, nil.
func Read() (*Call, error) {
	c := &Call{Verb: env("CNI_COMMAND")}
	first, known := since[c.Verb]
	if !known {
		return c, fault.New(fault.InvalidEnvironment, "CNI_COMMAND: %q is unknown; give ADD, DEL, CHECK, STATUS, GC or VERSION", c.Verb)
	}
	if c.Verb == "VERSION" {
		c.Version = askedVersion()
		return c, nil
	}
	if err := c.readEnvironment(); err != nil {
		return c, err
	}
	if err := c.readConfig(); err != nil {
		return c, err
	}
	if !slices.Contains(Versions, c.Version) {
		return c, fault.New(fault.IncompatibleVersion, "cniVersion: %q is not supported; set one of %s", c.Version, strings.Join(Versions, ", "))
	}
	if slices.Index(Versions, c.Version) < slices.Index(Versions, first) {
		return c, fault.New(fault.IncompatibleVersion, "cniVersion: %q does not allow %s; set %s or newer", c.Version, c.Verb, first)
	}
	return c, nil
}

func env(name string) string {
	value, _ := syscall.Getenv(name)
	return value
}

func (c *Call) readEnvironment() error {
	c.Container, c.Netns, c.Interface, c.Args = env("CNI_CONTAINERID"), env("CNI_NETNS"), env("CNI_IFNAME"), env("CNI_ARGS")
	override := env("CNI_NETNS_OVERRIDE")
	c.NetnsOverride = override == "1" || strings.EqualFold(override, "true")
	var missing []string
	need := func(name, value string, verbs ...string) {
		if value == "" && slices.Contains(verbs, c.Verb) {
			missing = append(missing, name)
		}
	}
	need("CNI_CONTAINERID", c.Container, "ADD", "DEL", "CHECK")
	need("CNI_NETNS", c.Netns, "ADD", "CHECK")
	need("CNI_IFNAME", c.Interface, "ADD", "DEL", "CHECK")
	need("CNI_PATH", env("CNI_PATH"), "ADD", "DEL", "CHECK", "STATUS", "GC")
	switch {
	case missing != nil:
		return fault.New(fault.InvalidEnvironment, "%s: missing, and %s needs it; the runtime sets it", strings.Join(missing, ", "), c.Verb)
	case c.Verb == "STATUS" || c.Verb == "GC":
		return nil
	case !IsName(c.Container):
		return fault.New(fault.InvalidEnvironment, "CNI_CONTAINERID: %q: give a letter or digit, then letters, digits, '_', '.' and '-'", c.Container)
	case !isInterface(c.Interface):
		return fault.New(fault.InvalidEnvironment, "CNI_IFNAME: %q: give at most 15 characters, none of them '/', ':' or white space, and not \".\" or \"..\"", c.Interface)
	}
	return nil
}

func (c *Call) readConfig() error {
	var err error
	if c.Stdin, err = readAll(0); err != nil {
		return fault.New(fault.IOFailure, "reading stdin: %v", err)
	}
	if c.Config, err = jsontext.Parse(c.Stdin); err != nil {
		return Undecodable(c.Stdin, err)
	}
	var read jsontext.Reader
	read.Object(c.Config, "the text")
	c.Version = read.String(c.Config.Get("cniVersion"), "cniVersion")
	c.Network = read.String(c.Config.Get("name"), "name")
	if c.Version == "" {
		c.Version = "0.1.0" // as the runtimes' library takes it
	}
	switch {
	case read.Err != nil:
		return Undecodable(c.Stdin, read.Err)
	case c.Network == "":
		return fault.New(fault.InvalidConfig, "name: missing; give the network's name")
	case !IsName(c.Network):
		return fault.New(fault.InvalidConfig, "name: %q: give a letter or digit, then letters, digits, '_', '.' and '-'", c.Network)
	}
	return nil
}

// Undecodable is the error for a configuration that is no JSON, or not of the right types.
func Undecodable(stdin []byte, err error) error {
	where := ""
	if broken, ok := err.(*jsontext.Error); ok {
		line, column := broken.Position(stdin)
		where = fault.New(0, "line %d, column %d: ", line, column).Msg
	}
	return fault.New(fault.DecodingFailure, "network configuration: %s%v; correct the file in the CNI configuration directory", where, err)
}

// IsName is the specification's rule for network names and container IDs.
func IsName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

func isInterface(s string) bool {
	return len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/:\t\n\v\f\r \u0085\u00a0")
}

func readAll(fd int) ([]byte, error) {
	data := make([]byte, 0, 16<<10) // one read is enough for nearly every configuration
	for {
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
		n, err := unix.Read(fd, data[len(data):cap(data)])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return data, err
		}
		data = data[:len(data)+n]
	}
}

// askedVersion is what VERSION has to repeat; whatever else stdin is, it is answered. Started by hand it would wait for ever.
func askedVersion() string {
	var stat unix.Stat_t
	if unix.Fstat(0, &stat) != nil || stat.Mode&unix.S_IFMT == unix.S_IFCHR {
		return Current
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		if ready, err := unix.Poll([]unix.PollFd{{Fd: 0, Events: unix.POLLIN}}, versionPatienceMilliseconds); err != nil || ready == 0 {
			return Current
		}
	}
	buffer := make([]byte, 4<<10)
	n, err := unix.Read(0, buffer)
	if err != nil {
		return Current
	}
	config, err := jsontext.Parse(buffer[:max(n, 0)])
	read := jsontext.Reader{Err: err}
	if version := read.String(config.Get("cniVersion"), "cniVersion"); read.Err == nil && version != "" {
		return version
	}
	return Current
}

// versionPatienceMilliseconds is for a runtime that starts the plugin before it writes.
const versionPatienceMilliseconds = 1000

// SameNetns says whether the container's network namespace is the plugin's own; one that is gone is not.
func (c *Call) SameNetns() bool {
	var own, given unix.Stat_t
	return unix.Stat(c.Netns, &given) == nil && unix.Stat("/proc/thread-self/ns/net", &own) == nil &&
		own.Dev == given.Dev && own.Ino == given.Ino
}
