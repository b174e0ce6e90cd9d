package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types020 "github.com/containernetworking/cni/pkg/types/020"
	types040 "github.com/containernetworking/cni/pkg/types/040"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	cniversion "github.com/containernetworking/cni/pkg/version"
)

// runtime is libcni as containerd and CRI-O use it: its cache, its own process for each call, its parsing of what we print.
// The network has one plugin, which is ours; the files of a delegating one would need network namespaces.
type runtime struct {
	*node
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

func newRuntime(t *testing.T, version string, pools object, keys object) *runtime {
	t.Helper()
	n := newNode(t, pools)
	ipam := object{"type": "podcidr-ipam", "stateDir": n.dir, "waitSeconds": 0}
	for key, value := range keys {
		ipam[key] = value
	}
	text, err := json.Marshal(object{"cniVersion": version, "name": "podnet", "plugins": []object{{
		"type": "podcidr-ipam", "ipam": ipam,
		"capabilities": object{"ips": true, "io.kubernetes.cri.pod-annotations": true},
	}}})
	n.must(err)
	list, err := libcni.ConfListFromBytes(text)
	n.must(err)
	return &runtime{n, libcni.NewCNIConfigWithCacheDir([]string{filepath.Dir(binary)}, t.TempDir(), nil), list}
}

func container(id string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: id, NetNS: "/nonexistent/netns", IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "team"}, {"K8S_POD_NAME", "pod-" + id}, {"K8S_POD_UID", "uid-" + id}}}
}

// atLeast compares versions of the specification.
func atLeast(t *testing.T, version, least string) bool {
	t.Helper()
	is, err := cniversion.GreaterThanOrEqualTo(version, least)
	if err != nil {
		t.Fatal(err)
	}
	return is
}

// everyVersion is what libcni knows, so that a new one is noticed with its update.
func everyVersion(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	for _, version := range cniversion.All.SupportedVersions() {
		t.Run(version, func(t *testing.T) { test(t, version) })
	}
}

func TestLibcniRunsAWholeLife(t *testing.T) {
	ctx := context.Background()
	everyVersion(t, func(t *testing.T, version string) {
		resolv := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(resolv, []byte("nameserver 10.0.0.10\nsearch a.example\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRuntime(t, version, one(dual("10.64.3.0/28", "fd00:64::40/122")),
			object{"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "fd00::/8", "gw": "fd00:64::1"}}, "resolvConf": resolv})
		conf := container("c1")
		result, err := r.cni.AddNetworkList(ctx, r.list, conf)
		r.must(err)
		equal(t, result.Version(), version)
		seen, err := types100.NewResultFromResult(result)
		r.must(err)
		equal(t, []string{seen.IPs[0].Address.String(), seen.IPs[0].Gateway.String(), seen.IPs[1].Address.String(), seen.IPs[1].Gateway.String()},
			[]string{"10.64.3.0/14", "10.64.0.1", "fd00:64::40/48", "fd00:64::1"})
		equal(t, []int{len(seen.Interfaces), len(seen.Routes)}, []int{0, 2})
		equal(t, seen.Routes[1].GW.String(), "fd00:64::1")
		equal(t, seen.DNS, types.DNS{Nameservers: []string{"10.0.0.10"}, Search: []string{"a.example"}})

		if atLeast(t, version, "0.4.0") {
			r.must(r.cni.CheckNetworkList(ctx, r.list, conf))
		}
		again, err := r.cni.AddNetworkList(ctx, r.list, conf)
		r.must(err)
		equal(t, again, result)
		r.must(r.cni.DelNetworkList(ctx, r.list, conf))
		equal(t, r.node.list("addresses"), []string{})
		r.must(r.cni.DelNetworkList(ctx, r.list, conf))
	})
}

// TestLibcniReadsEveryResult: printed in each version, read by the library's own types of that version without loss.
func TestLibcniReadsEveryResult(t *testing.T) {
	routes := ipamKey("routes", []object{{"dst": "10.0.0.0/8", "gw": "10.64.0.9", "mtu": 1400, "advmss": 1360, "priority": 7, "table": 100, "scope": 0}})
	everyVersion(t, func(t *testing.T, v string) {
		n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
		printed := n.run("ADD", "a", version(v), routes)
		var strict types.Result
		var err error
		switch {
		case !atLeast(t, v, "0.3.0"):
			strict, err = types020.NewResult([]byte(printed.stdout))
		case !atLeast(t, v, "1.0.0"):
			strict, err = types040.NewResult([]byte(printed.stdout))
		default:
			strict, err = types100.NewResult([]byte(printed.stdout))
		}
		n.must(err)
		encoded, err := json.Marshal(strict)
		n.must(err)
		var want, got object
		n.must(json.Unmarshal(encoded, &want))
		n.must(json.Unmarshal([]byte(printed.stdout), &got))
		if dns, empty := want["dns"].(object); empty && len(dns) == 0 { // the library prints an empty one
			delete(want, "dns")
		}
		equal(t, got, want)
	})
}

func TestLibcniSeesOurErrors(t *testing.T) {
	ctx := context.Background()
	everyVersion(t, func(t *testing.T, version string) {
		r := newRuntime(t, version, one(v4(0)), nil)
		_, err := r.cni.AddNetworkList(ctx, r.list, container("c1"))
		var known *types.Error
		if !errors.As(err, &known) || known.Code != types.ErrTryAgainLater || !strings.Contains(known.Msg, "default (ipv4: no block on this node)") {
			t.Errorf("%#v", err)
		}
		r.must(r.cni.DelNetworkList(ctx, r.list, container("c1"))) // as a runtime does after a failed ADD
	})
}

func TestLibcniStatusAndGC(t *testing.T) {
	ctx := context.Background()
	r := newRuntime(t, "1.1.0", one(v4(0, "10.64.3.0/28")), nil)
	r.must(r.cni.GetStatusNetworkList(ctx, r.list))
	for i := range 3 {
		_, err := r.cni.AddNetworkList(ctx, r.list, container(fmt.Sprint("c", i)))
		r.must(err)
	}
	r.add("foreign", network("other"))
	r.must(r.cni.GCNetworkList(ctx, r.list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "c1", IfName: "eth0"}}}))
	equal(t, r.node.list("attachments"), []string{"other:foreign:eth0", "podnet:c1:eth0"})
	r.must(r.cni.GCNetworkList(ctx, r.list, &libcni.GCArgs{}))
	equal(t, r.node.list("attachments"), []string{"other:foreign:eth0"})
	r.must(os.Remove(r.path("ready")))
	var known *types.Error
	if err := r.cni.GetStatusNetworkList(ctx, r.list); !errors.As(err, &known) || known.Code != types.ErrPluginNotAvailable {
		t.Error(err)
	}
}

func TestLibcniCapabilities(t *testing.T) {
	ctx := context.Background()
	r := newRuntime(t, "1.0.0", object{"default": v4(0, "10.64.3.0/28"), "gold": v4(0, "10.64.8.0/28")}, nil)
	conf := container("pinned")
	conf.CapabilityArgs = map[string]any{"io.kubernetes.cri.pod-annotations": map[string]string{"podcidr.io/pools": `["gold"]`}}
	result, err := r.cni.AddNetworkList(ctx, r.list, conf)
	r.must(err)
	equal(t, result.(*types100.Result).IPs[0].Address.String(), "10.64.8.0/14")
	conf = container("static")
	conf.CapabilityArgs = map[string]any{"ips": []string{"10.64.3.9/14"}}
	result, err = r.cni.AddNetworkList(ctx, r.list, conf)
	r.must(err)
	equal(t, result.(*types100.Result).IPs[0].Address.String(), "10.64.3.9/14")
}

func TestLibcniCheckFindsALoss(t *testing.T) {
	ctx := context.Background()
	r := newRuntime(t, "1.1.0", one(v4(0, "10.64.3.0/28")), nil)
	_, err := r.cni.AddNetworkList(ctx, r.list, container("c1"))
	r.must(err)
	r.must(os.Remove(r.path("addresses/10.64.3.0")))
	if err := r.cni.CheckNetworkList(ctx, r.list, container("c1")); err == nil || !strings.Contains(err.Error(), "10.64.3.0") {
		t.Error(err)
	}
}

func TestLibcniAsksForOurVersions(t *testing.T) {
	info, err := libcni.NewCNIConfig([]string{filepath.Dir(binary)}, nil).GetVersionInfo(context.Background(), "podcidr-ipam")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, info.SupportedVersions(), cniversion.All.SupportedVersions())
}

// TestVersionRepeatsWhatWasAsked: and answers whatever stdin is, even if nobody ever writes to it.
func TestVersionRepeatsWhatWasAsked(t *testing.T) {
	n := newNode(t, one(v4(0)))
	silent, held, err := os.Pipe()
	n.must(err)
	defer held.Close()
	for text, want := range map[string]string{`{"cniVersion": "1.0.0"}`: "1.0.0", `{"cniVersion":"0.4.0"}`: "0.4.0", "{}": "1.1.0", "": "1.1.0", "{": "1.1.0", "never": "1.1.0", `{"cniVersion": 3}`: "1.1.0"} {
		cmd := n.command("VERSION", "")
		cmd.Stdin = strings.NewReader(text)
		if text == "never" {
			cmd.Stdin = silent
		}
		r := finish(t, cmd)
		if got := r.result(t).CNIVersion; r.exit != 0 || got != want || !strings.Contains(r.stdout, "0.3.1") {
			t.Errorf("%q: exit %d, %s: want %s", text, r.exit, r.stdout, want)
		}
	}
}

// TestVerbsNeedTheirVersionsAndVariables is the environment table of the specification, and skel's stricter CNI_PATH.
func TestVerbsNeedTheirVersionsAndVariables(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	needs := map[string][]string{
		"ADD":    {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"},
		"CHECK":  {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"},
		"DEL":    {"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"},
		"GC":     {"CNI_PATH"},
		"STATUS": {"CNI_PATH"},
	}
	for verb, variables := range needs {
		for _, variable := range variables {
			cmd := n.command(verb, "a")
			cmd.Env = slices.DeleteFunc(cmd.Env, func(pair string) bool { return strings.HasPrefix(pair, variable+"=") })
			finish(t, cmd).fails(t, 4, variable, verb)
		}
	}
	for variable, bad := range map[string][]string{
		"CNI_CONTAINERID": {"/etc", "-a", "a b", "ä", "a:b", "../x"},
		"CNI_IFNAME":      {"a/b", "a:b", "a b", ".", "..", "sixteen-letters0", "a\tb"},
		"CNI_COMMAND":     {"add", "REMOVE"},
	} {
		for _, value := range bad {
			cmd := n.command("ADD", "a")
			cmd.Env = append(slices.DeleteFunc(cmd.Env, func(pair string) bool { return strings.HasPrefix(pair, variable+"=") }), variable+"="+value)
			finish(t, cmd).fails(t, 4, variable)
		}
	}
	for verb, least := range map[string]string{"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"} {
		for _, v := range cniversion.All.SupportedVersions() {
			if !atLeast(t, v, least) {
				n.run(verb, "a", version(v)).fails(t, 1, v, verb, least)
			}
		}
	}
	equal(t, n.list("attachments"), []string{})
}

// TestBadNetworkConfigurations: what is no network configuration at all.
func TestBadNetworkConfigurations(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	for text, want := range map[string]struct {
		code int
		word string
	}{
		"":                                       {6, "line 1, column 0"},
		"{\n \"cniVersion\": }":                  {6, "line 2, column 16"},
		"[]":                                     {6, "object"},
		`{"cniVersion": 1}`:                      {6, "cniVersion"},
		`{"cniVersion": "1.1.0"}`:                {7, "name"},
		`{"cniVersion": "1.1.0", "name": 3}`:     {6, "name"},
		`{"cniVersion": "1.1.0", "name": "a b"}`: {7, `"a b"`},
		`{"cniVersion": "2.0.0", "name": "a"}`:   {1, "2.0.0"},
		`{"cniVersion": "1.1.0", "name": "a"}`:   {7, "ipam"},
		`{"cniVersion": "1.1.0", "name": "a", "ipam": "x"}`:                           {7, "ipam"},
		`{"name": "a", "ipam": {"type": "podcidr-ipam", "stateDir": "/nonexistent"}}`: {11, "/nonexistent"}, // without cniVersion: 0.1.0
	} {
		cmd := n.command("ADD", "a")
		cmd.Stdin = strings.NewReader(text)
		finish(t, cmd).fails(t, want.code, want.word)
	}
}

func TestStartedByHand(t *testing.T) {
	n := newNode(t, one(v4(0)))
	cmd := n.command("ADD", "a")
	cmd.Env = nil
	r := finish(t, cmd)
	equal(t, []any{r.exit, r.stdout}, []any{0, ""})
	if !strings.Contains(r.stderr, "podcidr-ipam") || !strings.Contains(r.stderr, "1.1.0") {
		t.Error(r.stderr)
	}
}

// TestUnknownEnvironmentAndKeysAreIgnored: tracing variables of newer runtimes, keys of the main plugin and of the runtime.
func TestUnknownEnvironmentAndKeysAreIgnored(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	cmd := n.command("ADD", "a", top("cni.dev/x", 1), top("dns", object{"nameservers": []string{"192.0.2.1"}}), top("runtimeConfig", object{"mac": "00:11:22:33:44:55"}), cniArgs("MAC=1;FOO=bar"))
	cmd.Env = append(cmd.Env, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "BAGGAGE=x")
	equal(t, finish(t, cmd).result(t).address(), "10.64.3.0")
}
