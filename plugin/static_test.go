package main_test

import (
	"strings"
	"testing"
)

// wishes are the three conventions by which a runtime asks for an address.
func wishes(addresses ...string) map[string]option {
	joined := ""
	for i, address := range addresses {
		if i > 0 {
			joined += ","
		}
		joined += address
	}
	return map[string]option{
		"args.cni.ips":      top("args", object{"cni": object{"ips": addresses}}),
		"runtimeConfig.ips": top("runtimeConfig", object{"ips": addresses}),
		"CNI_ARGS: IP":      cniArgs("IgnoreUnknown=1;IP=" + joined + ";K8S_POD_NAMESPACE=team"),
	}
}

func TestStaticAddressIsHonoured(t *testing.T) {
	for name, wish := range wishes("10.64.3.9") {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
			got := n.add("a", wish)
			equal(t, []any{got.IPs[0]["address"], got.IPs[0]["gateway"], got.IPs[1]["address"]}, []any{"10.64.3.9/14", "10.64.0.1", "fd00:64::40/48"})
			equal(t, n.add("a", wish), got)
			equal(t, n.add("b").address(), "10.64.3.0")
			n.audit()
		})
	}
	for name, wish := range wishes("10.64.3.9/24", "fd00:64::0047/64") { // the length is the pool's business
		t.Run(name+" of both families", func(t *testing.T) {
			n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
			got := n.add("a", wish)
			equal(t, []any{got.IPs[0]["address"], got.IPs[1]["address"]}, []any{"10.64.3.9/14", "fd00:64::47/48"})
		})
	}
}

func TestStaticAddressFromALaterPool(t *testing.T) {
	n := newNode(t, object{"a": v4(0, "10.64.3.0/28"), "b": v4(0, "10.64.8.0/28")})
	wish := wishes("10.64.8.7")["CNI_ARGS: IP"]
	equal(t, n.add("x", wish).address(), "10.64.8.7")
	n.run("ADD", "y", wish, pinned("a")).fails(t, 7, "CNI_ARGS: IP", "10.64.8.7", "a;")
}

func TestStaticAddressThatCanNotBe(t *testing.T) {
	n := newNode(t, one(object{"ipv4": entries("10.64.3.1", 28, []string{"10.64.3.0/28"}, "10.64.3.7")}))
	n.add("holder", wishes("10.64.3.9")["CNI_ARGS: IP"])
	for name, c := range map[string]struct {
		addresses []string
		code      int
		words     []string
	}{
		"in no block":          {[]string{"10.64.4.1"}, 7, []string{"10.64.4.1", "default", "block"}},
		"reserved":             {[]string{"10.64.3.7"}, 7, []string{"10.64.3.7", "reserved"}},
		"the gateway":          {[]string{"10.64.3.1"}, 7, []string{"10.64.3.1", "reserved"}},
		"family not served":    {[]string{"fd00:64::40"}, 7, []string{"fd00:64::40"}},
		"one of two":           {[]string{"10.64.3.2", "fd00:64::40"}, 7, []string{"fd00:64::40"}},
		"held":                 {[]string{"10.64.3.9"}, 11, []string{"10.64.3.9, which is held"}},
		"two of a family":      {[]string{"10.64.3.2", "10.64.3.3"}, 7, []string{"10.64.3.3", "10.64.3.2", "one address of a family"}},
		"no address":           {[]string{"10.64.3"}, 7, []string{`"10.64.3"`, "no address"}},
		"with a zone":          {[]string{"fe80::1%eth0"}, 7, []string{"fe80::1%eth0"}},
		"IPv4-mapped and held": {[]string{"::ffff:10.64.3.9"}, 11, []string{"10.64.3.9, which is held"}},
	} {
		for field, wish := range wishes(c.addresses...) {
			t.Run(name+"/"+field, func(t *testing.T) {
				n.run("ADD", "a", wish).fails(t, c.code, append(c.words, field)...)
				equal(t, n.list("addresses"), []string{"10.64.3.9"})
			})
		}
	}
}

func TestStaticAddressWaitsForItsHolder(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	wish := wishes("10.64.3.9")["runtimeConfig.ips"]
	n.add("old", wish)
	done := n.begin("new", waiting(9), wish)
	n.add("other") // is not held up by one that waits for an address of its own
	n.ok("DEL", "old")
	equal(t, (<-done).result(t).address(), "10.64.3.9")
}

func TestStaticAddressCools(t *testing.T) {
	n := newNode(t, one(v4(100, "10.64.3.0/28")))
	wish := wishes("10.64.3.9")["args.cni.ips"]
	n.add("old", wish)
	n.ok("DEL", "old")
	r := n.run("ADD", "new", wish)
	r.fails(t, 11, "10.64.3.9, which cools for another", "the address asked for is not free")
	if strings.Contains(r.stdout, "no free address") {
		t.Error("there are 15 free ones: ", r.stdout)
	}
}

func TestRepeatedAddWithAnotherWish(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("a")
	n.run("ADD", "a", wishes("10.64.3.9")["args.cni.ips"]).fails(t, 7, "10.64.3.9", "holds other addresses", "DEL")
	n.ok("DEL", "a", wishes("junk")["args.cni.ips"])
	equal(t, n.list("addresses"), []string{})
}
