package main_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestLowestFreeAddressInAddressOrder(t *testing.T) {
	n := newNode(t, one(object{"ipv4": entries("10.64.3.1", 14, []string{"10.64.3.16/30", "10.64.3.0/30"}, "10.64.3.0", "10.64.3.17-10.64.3.18")}))
	for i, want := range []string{"10.64.3.2", "10.64.3.3", "10.64.3.16", "10.64.3.19"} {
		equal(t, n.add(fmt.Sprint("c", i)).address(), want)
	}
	n.run("ADD", "c9").fails(t, 11, "default", "4 held", "0 free in 2 blocks")
	n.ok("DEL", "c1")
	equal(t, n.add("c9").address(), "10.64.3.3")
}

func TestReservedForms(t *testing.T) {
	n := newNode(t, one(object{"ipv4": entries(nil, 32, []string{"10.64.3.0/28"}, "10.64.3.0/29", "10.64.3.8", "10.64.3.10 - 10.64.3.14", "192.0.2.1")}))
	equal(t, n.add("a").address(), "10.64.3.9")
	equal(t, n.add("b").address(), "10.64.3.15")
	n.run("ADD", "c").fails(t, 11)
}

func TestGatewayModes(t *testing.T) {
	for _, mode := range []struct {
		name         string
		gateway      any
		length       int
		wantAddress  string
		wantGateway  any
		firstInBlock string
	}{
		{"Pool", "10.64.0.1", 14, "10.64.3.0/14", "10.64.0.1", ""},
		{"Block", "10.64.3.1", 28, "10.64.3.0/28", "10.64.3.1", ""},
		{"None, null", nil, 32, "10.64.3.0/32", nil, ""},
		{"None, empty", "", 32, "10.64.3.0/32", nil, ""},
	} {
		t.Run(mode.name, func(t *testing.T) {
			n := newNode(t, one(object{"ipv4": entries(mode.gateway, mode.length, []string{"10.64.3.0/28"})}))
			ip := n.add("a").IPs[0]
			equal(t, ip["address"], any(mode.wantAddress))
			gateway, present := ip["gateway"]
			equal(t, gateway, mode.wantGateway)
			equal(t, present, mode.wantGateway != nil)
		})
	}
}

func TestResultInEveryVersion(t *testing.T) {
	routes := ipamKey("routes", []object{{"dst": "0.0.0.0/0"}, {"dst": "fd00::/8", "gw": "fd00:64::1"}})
	n := newNode(t, one(dual("10.64.3.0/24", "fd00:64::40/122")))
	resolv := n.path("resolv.conf")
	n.must(os.WriteFile(resolv, []byte("# a comment\n; another\nnameserver 10.0.0.10\nnameserver fd00::a\ndomain c.example\nsortlist 10.0.0.0\nsearch x.example\nsearch a.example b.example\noptions ndots:5\n"), 0o600))
	for _, v := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(v, func(t *testing.T) {
			n.t = t
			got := n.add("c"+v, version(v), routes, ipamKey("resolvConf", resolv))
			equal(t, got.CNIVersion, v)
			equal(t, len(got.Interfaces), 0)
			equal(t, got.DNS, object{"nameservers": []string{"10.0.0.10", "fd00::a"}, "domain": "c.example", "search": []string{"a.example", "b.example"}, "options": []string{"ndots:5"}})
			if v < "0.3.0" {
				equal(t, []any{got.IP4["gateway"], got.IP6["gateway"]}, []any{"10.64.0.1", "fd00:64::1"})
				equal(t, got.IP6["routes"], any([]object{{"dst": "fd00::/8", "gw": "fd00:64::1"}}))
			} else {
				_, tagged := got.IPs[0]["version"]
				equal(t, tagged, v < "1.0.0")
				_, numbered := got.IPs[0]["interface"]
				equal(t, numbered, false)
				equal(t, len(got.IPs), 2)
				equal(t, len(got.Routes), 2)
			}
			equal(t, n.add("c"+v, version(v)), got)
			n.ok("DEL", "c"+v, version(v))
		})
	}
}

func TestVersionVerbAndUnknownVersion(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	r := n.run("VERSION", "")
	if !strings.Contains(r.stdout, `"0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"`) {
		t.Error(r.stdout)
	}
	n.run("ADD", "a", version("9.9.9")).fails(t, 1)
}

func dual(v4Block, v6Block string) object {
	pool := object{"cooldownSeconds": 0, "ipv4": entries("10.64.0.1", 14, nil), "ipv6": entries("fd00:64::1", 48, nil)}
	if v4Block != "" {
		pool["ipv4"] = entries("10.64.0.1", 14, []string{v4Block})
	}
	if v6Block != "" {
		pool["ipv6"] = entries("fd00:64::1", 48, []string{v6Block})
	}
	return pool
}

func TestDualStackBothOrNone(t *testing.T) {
	n := newNode(t, one(dual("10.64.3.0/31", "fd00:64::40/128")))
	got := n.add("a")
	equal(t, []any{got.IPs[0]["address"], got.IPs[1]["address"]}, []any{"10.64.3.0/14", "fd00:64::40/48"})
	n.run("ADD", "b").fails(t, 11, "ipv6: 1 held", "ipv4: 1 held, 0 cooling, 1 free")
	equal(t, n.list("addresses"), []string{"10.64.3.0", "fd00:64::40"})
	n.ok("DEL", "a")
	equal(t, n.list("addresses"), []string{})
}

func TestPoolWithOneFamilyExhaustedIsPassedOver(t *testing.T) {
	n := newNode(t, object{"a": dual("10.64.3.0/28", ""), "b": dual("10.64.4.0/28", "fd00:64::/126"), "c": v4(0, "10.64.5.0/28")})
	got := n.add("x")
	equal(t, []any{got.IPs[0]["address"], got.IPs[1]["address"]}, []any{"10.64.4.0/14", "fd00:64::/48"})
	for i := range 2 { // of the four in b, one is the gateway
		n.add(fmt.Sprint("y", i))
	}
	equal(t, n.add("z").address(), "10.64.5.0")
}

func TestAbsentFamilyIsNotServed(t *testing.T) {
	for name, none := range map[string]any{"null": nil, "empty": []object{}} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, one(object{"ipv4": entries(nil, 32, []string{"10.64.3.0/28"}), "ipv6": none}))
			equal(t, len(n.add("a").IPs), 1)
		})
	}
}

func TestRepeatedAddGivesTheSame(t *testing.T) {
	n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
	first := n.add("a", ipamKey("routes", []object{{"dst": "0.0.0.0/0"}}))
	n.add("b")
	n.allocate(object{}) // its block has left the file
	equal(t, n.add("a"), first)
	equal(t, len(n.list("addresses")), 4)
}

func TestInterfacesAndNetworksAreIndependent(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	seen := map[string]bool{n.add("a").address(): true, n.add("a", ifname("net1")).address(): true, n.add("a", network("other")).address(): true}
	equal(t, len(seen), 3)
	n.ok("DEL", "a", ifname("net1"))
	equal(t, n.list("addresses"), []string{"10.64.3.0", "10.64.3.2"})
}

func TestNamespacePins(t *testing.T) {
	n := newNode(t, object{"default": v4(0, "10.64.3.0/28"), "gold": v4(0, "10.64.8.0/32"), "silver": v4(0, "10.64.9.0/28")})
	n.write("allocation.json", strings.Replace(n.read("allocation.json"), `"automatic":["default","gold","silver"]`, `"automatic":["default"]`, 1))
	n.write("namespaces/pinned", object{"stateID": "s1", "pools": []string{"gold", "silver"}})
	n.write("namespaces/wrong", object{"stateID": "s1", "pools": []string{"bronze"}})
	n.write("namespaces/broken", object{"stateID": "s1", "error": "namespace broken pins pool \"gold\", which is disabled"})
	in := func(name string) option { return cniArgs("IgnoreUnknown=1;K8S_POD_NAMESPACE=" + name) }

	equal(t, n.add("a").address(), "10.64.3.0")
	equal(t, n.add("b", in("pinned")).address(), "10.64.8.0")
	equal(t, n.add("c", in("pinned")).address(), "10.64.9.0")
	equal(t, n.add("d", in("pinned"), pinned(`["silver"]`)).address(), "10.64.9.1")
	equal(t, n.add("e", cniArgs("")).address(), "10.64.3.1")
	equal(t, n.add("f", pinned(" ")).address(), "10.64.3.2")
	n.run("ADD", "x", in("wrong"), waiting(5)).fails(t, 7, "bronze", "wrong")
	n.run("ADD", "x", in("broken"), waiting(5)).fails(t, 7, "namespace broken pins pool \"gold\", which is disabled")
	n.run("ADD", "x", in("pinned"), pinned("gold, default")).fails(t, 7, "default", "gold, silver")
	n.run("ADD", "x", pinned("gold")).fails(t, 7, "gold", "default")
	n.run("ADD", "x", pinned("[1]")).fails(t, 7, "podcidr.io/pools", "[1]")
	n.run("ADD", "x", in("nobody")).fails(t, 11, "namespace nobody is not known on this node yet")
	n.run("ADD", "x", in("../ready")).fails(t, 4, "../ready")
	n.run("ADD", "x", cniArgs("junk")).fails(t, 4, "CNI_ARGS", "junk")
	equal(t, n.list("pending"), []string{})
}

func (n *node) read(name string) string {
	n.t.Helper()
	data, err := os.ReadFile(n.path(name))
	n.must(err)
	return string(data)
}
