package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "podcidr.io/plugin/internal/ipam" // the program is built from it: its changes must not find these tests' results cached
)

// binary is the plugin as it is shipped; every test runs it as a runtime does.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "podcidr-ipam")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "podcidr-ipam")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

type object = map[string]any

// node is a state directory as an agent would prepare it.
type node struct {
	t   testing.TB
	dir string
}

func newNode(t testing.TB, pools object) *node {
	t.Helper()
	n := &node{t, filepath.Join(t.TempDir(), "podcidr")}
	for _, dir := range []string{"", "namespaces", "attachments", "addresses", "pending"} {
		n.must(os.Mkdir(filepath.Join(n.dir, dir), 0o700))
	}
	n.allocate(pools)
	n.write("namespaces/team", object{"stateID": "s1"})
	n.write("ready", object{"version": 1, "stateID": "s1"})
	return n
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// write replaces a file by rename, as the agent does. A string is written as it stands.
func (n *node) write(name string, content any) {
	n.t.Helper()
	data, isText := content.(string)
	if !isText {
		encoded, err := json.Marshal(content)
		n.must(err)
		data = string(encoded)
	}
	n.must(os.WriteFile(n.path("agent.new"), []byte(data), 0o600))
	n.must(os.Rename(n.path("agent.new"), n.path(name)))
}

// allocate offers the pools, all automatic, in the order of their names.
func (n *node) allocate(pools object) {
	n.t.Helper()
	n.write("allocation.json", object{
		"version": 1, "stateID": "s1", "node": "n1", "uid": "u", "epoch": 1,
		"pools": pools, "automatic": slices.Sorted(maps.Keys(pools)),
	})
}

// v4 is a pool of IPv4 blocks in mode Pool, with the gateway 10.64.0.1/14.
func v4(cooldown int, blocks ...string) object {
	return object{"cooldownSeconds": cooldown, "ipv4": entries("10.64.0.1", 14, blocks)}
}

func entries(gateway any, length int, blocks []string, reserved ...string) []object {
	return []object{{"gateway": gateway, "prefixLength": length, "blocks": append([]string{}, blocks...), "reserved": append([]string{}, reserved...)}}
}

func one(pool object) object { return object{"default": pool} }

// call is one run of the plugin.
type call struct {
	verb, container, ifname, netns, args string
	version, network                     string
	ipam, top                            object
	wrap                                 []string // run it under this command
}

type reply struct {
	exit           int
	stdout, stderr string
	took           time.Duration
}

type option func(*call)

func top(key string, value any) option { return func(c *call) { c.top[key] = value } }
func ipamKey(key string, v any) option { return func(c *call) { c.ipam[key] = v } }
func version(v string) option          { return func(c *call) { c.version = v } }
func network(v string) option          { return func(c *call) { c.network = v } }
func ifname(v string) option           { return func(c *call) { c.ifname = v } }
func netns(v string) option            { return func(c *call) { c.netns = v } }
func cniArgs(v string) option          { return func(c *call) { c.args = v } }
func waiting(seconds float64) option   { return func(c *call) { c.ipam["waitSeconds"] = seconds } }
func under(command ...string) option   { return func(c *call) { c.wrap = command } }
func pinned(pools string) option {
	return top("runtimeConfig", object{"io.kubernetes.cri.pod-annotations": object{"podcidr.io/pools": pools, "other": "x"}})
}

func (n *node) command(verb, container string, options ...option) *exec.Cmd {
	n.t.Helper()
	c := &call{
		verb: verb, container: container, ifname: "eth0", netns: "/nonexistent/netns", version: "1.1.0", network: "podnet",
		args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=team;K8S_POD_NAME=pod-" + container + ";K8S_POD_UID=uid-" + container,
		ipam: object{"type": "podcidr-ipam", "stateDir": n.dir, "waitSeconds": 0}, top: object{},
	}
	for _, apply := range options {
		apply(c)
	}
	conf := object{"cniVersion": c.version, "name": c.network, "type": "ptp", "mtu": 1500, "ipMasq": true, "ipam": c.ipam}
	maps.Copy(conf, c.top)
	stdin, err := json.Marshal(conf)
	n.must(err)
	argv := append(slices.Clone(c.wrap), binary)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = []string{"CNI_COMMAND=" + c.verb, "CNI_CONTAINERID=" + c.container, "CNI_IFNAME=" + c.ifname,
		"CNI_NETNS=" + c.netns, "CNI_ARGS=" + c.args, "CNI_PATH=/opt/cni/bin", "TEST_DIR=" + n.dir}
	return cmd
}

func (n *node) run(verb, container string, options ...option) reply {
	n.t.Helper()
	return finish(n.t, n.command(verb, container, options...))
}

func finish(t testing.TB, cmd *exec.Cmd) reply {
	t.Helper()
	return finishStarted(t, cmd, make(chan struct{}))
}

// finishStarted closes the channel once the process is there.
func finishStarted(t testing.TB, cmd *exec.Cmd, started chan<- struct{}) reply {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Start()
	close(started)
	if err == nil {
		err = cmd.Wait()
	}
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	return reply{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(start)}
}

type result struct {
	CNIVersion string           `json:"cniVersion"`
	Interfaces []any            `json:"interfaces"`
	IPs        []map[string]any `json:"ips"`
	IP4        map[string]any   `json:"ip4"`
	IP6        map[string]any   `json:"ip6"`
	Routes     []map[string]any `json:"routes"`
	DNS        map[string]any   `json:"dns"`
}

func (n *node) add(container string, options ...option) result {
	n.t.Helper()
	r := n.run("ADD", container, options...)
	if r.exit != 0 {
		n.t.Fatalf("ADD %s: exit %d: %s%s", container, r.exit, r.stdout, r.stderr)
	}
	return r.result(n.t)
}

func (r reply) result(t testing.TB) result {
	t.Helper()
	var parsed result
	if err := json.Unmarshal([]byte(r.stdout), &parsed); err != nil {
		t.Fatalf("no result: %v: %q %s", err, r.stdout, r.stderr)
	}
	return parsed
}

// address is the first one, without its length.
func (r result) address() string {
	text, _, _ := strings.Cut(r.IPs[0]["address"].(string), "/")
	return text
}

func (n *node) ok(verb, container string, options ...option) reply {
	n.t.Helper()
	r := n.run(verb, container, options...)
	if r.exit != 0 || r.stdout != "" {
		n.t.Fatalf("%s %s: exit %d: %s%s", verb, container, r.exit, r.stdout, r.stderr)
	}
	return r
}

// fails wants this error code, and every one of the words in the message.
func (r reply) fails(t testing.TB, code int, words ...string) {
	t.Helper()
	var failure struct {
		CNIVersion string
		Code       int
		Msg        string
	}
	if err := json.Unmarshal([]byte(r.stdout), &failure); err != nil || r.exit == 0 {
		t.Fatalf("exit %d, %q: want error %d", r.exit, r.stdout, code)
	}
	if failure.Code != code || failure.CNIVersion == "" {
		t.Errorf("code %d (cniVersion %q), want %d: %s", failure.Code, failure.CNIVersion, code, failure.Msg)
	}
	for _, word := range words {
		if !strings.Contains(failure.Msg, word) {
			t.Errorf("%q does not say %q", failure.Msg, word)
		}
	}
}

func (n *node) list(dir string) []string {
	n.t.Helper()
	found, err := os.ReadDir(n.path(dir))
	n.must(err)
	names := make([]string, len(found))
	for i, entry := range found {
		names[i] = entry.Name()
	}
	return names
}

func equal[T any](t testing.TB, got, want T) {
	t.Helper()
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
}

// eventually waits for a condition of another process.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
