package main_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestConfigurationErrors(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	for name, c := range map[string]struct {
		option option
		code   int
		words  []string
	}{
		"unknown key":       {ipamKey("subnet", "10.0.0.0/8"), 7, []string{"ipam.subnet", `"10.0.0.0/8"`, "type, stateDir, waitSeconds, routes, resolvConf"}},
		"case matters":      {ipamKey("statedir", "/x"), 7, []string{"ipam.statedir"}},
		"relative dir":      {ipamKey("stateDir", "run"), 7, []string{"ipam.stateDir", `"run"`}},
		"dir no string":     {ipamKey("stateDir", 3), 7, []string{"ipam.stateDir", "3"}},
		"wait negative":     {ipamKey("waitSeconds", -1), 7, []string{"ipam.waitSeconds", "-1"}},
		"wait text":         {ipamKey("waitSeconds", "9s"), 7, []string{"ipam.waitSeconds", "9s"}},
		"wait for ever":     {ipamKey("waitSeconds", 1e9), 7, []string{"ipam.waitSeconds"}},
		"routes no list":    {ipamKey("routes", "x"), 7, []string{"ipam.routes"}},
		"route unknown key": {ipamKey("routes", []object{{"dst": "::/0", "via": "::1"}}), 7, []string{"ipam.routes[0].via"}},
		"route without dst": {ipamKey("routes", []object{{"gw": "10.0.0.1"}}), 7, []string{"ipam.routes[0]", "dst"}},
		"route bad dst":     {ipamKey("routes", []object{{"dst": "10.0.0.0/33"}}), 7, []string{"ipam.routes[0]", "10.0.0.0/33"}},
		"route host bits":   {ipamKey("routes", []object{{"dst": "10.0.0.1/8"}}), 7, []string{"ipam.routes[0]", "10.0.0.1/8", "give 10.0.0.0/8"}},
		"route families":    {ipamKey("routes", []object{{"dst": "10.0.0.0/8", "gw": "::1"}}), 7, []string{"ipam.routes[0]", "::1", "family"}},
		"route 6 by 4":      {ipamKey("routes", []object{{"dst": "fd00::/8", "gw": "10.0.0.1"}}), 7, []string{"ipam.routes[0]", "10.0.0.1", "family"}},
		"resolvConf of EIO": {ipamKey("resolvConf", "/proc/self/mem"), 7, []string{"ipam.resolvConf", "/proc/self/mem"}},
		"resolvConf dir":    {ipamKey("resolvConf", "/proc"), 7, []string{"ipam.resolvConf", "not a regular file"}},
		"runtimeConfig":     {top("runtimeConfig", 5), 7, []string{"runtimeConfig", "5", "object"}},
		"args":              {top("args", 5), 7, []string{"args", "5", "object"}},
		"args.cni":          {top("args", object{"cni": 5}), 7, []string{"args.cni", "5", "object"}},
		"static null":       {top("runtimeConfig", object{"ips": []any{nil}}), 7, []string{"runtimeConfig.ips", "no address"}},
		"static empty":      {top("args", object{"cni": object{"ips": []string{""}}}), 7, []string{"args.cni.ips", "no address"}},
		"static half empty": {cniArgs("IP=10.64.3.9,"), 7, []string{"CNI_ARGS: IP", "no address"}},
		"resolvConf absent": {ipamKey("resolvConf", "/nonexistent"), 7, []string{"ipam.resolvConf", "/nonexistent"}},
		"no ipam":           {top("ipam", nil), 7, []string{"ipam"}},
		"annotations":       {top("runtimeConfig", object{"io.kubernetes.cri.pod-annotations": 1}), 7, []string{"io.kubernetes.cri.pod-annotations"}},
		"static, args":      {top("args", object{"cni": object{"ips": []string{"10.64.3.x"}}}), 7, []string{"args.cni.ips", "10.64.3.x"}},
		"static, runtime":   {top("runtimeConfig", object{"ips": "10.64.3.9"}), 7, []string{"runtimeConfig.ips", "10.64.3.9", "list"}},
		"static, CNI_ARGS":  {cniArgs("IP=10.64.3.9/99"), 7, []string{"CNI_ARGS: IP", "10.64.3.9/99"}},
		"ranges":            {top("runtimeConfig", object{"ipRanges": [][]object{{{"subnet": "10.0.0.0/24"}}}}), 2, []string{"ipRanges"}},
		"own netns":         {netns("/proc/self/ns/net"), 8, []string{"CNI_NETNS"}},
		"network too long":  {network(strings.Repeat("n", 255)), 7, []string{"255 bytes"}},
		"no container":      {func(c *call) { c.container = "" }, 4, []string{"CNI_CONTAINERID"}},
	} {
		t.Run(name, func(t *testing.T) {
			n.run("ADD", "a", c.option, func(c *call) {}).fails(t, c.code, c.words...)
			n.t = t
			equal(t, n.list("attachments"), []string{})
			equal(t, n.list("addresses"), []string{})
		})
	}
	n.ok("DEL", "none", top("runtimeConfig", 5), ipamKey("routes", []object{{"dst": "10.0.0.1/8"}}))
	cmd := n.command("ADD", "proc", ipamKey("resolvConf", "/proc/self/environ"), cniArgs("IP=;K8S_POD_NAMESPACE=team")) // of size 0 before it is read
	cmd.Env = append(cmd.Env, "X=\nnameserver 192.0.2.53\n")
	equal(t, finish(t, cmd).result(t).DNS, object{"nameservers": []string{"192.0.2.53"}})
	n.add("a", top("args", object{"cni": object{"labels": []string{}}}), top("runtimeConfig", object{"ips": []string{}}), ipamKey("routes", nil))
}

func TestStateDirNotReady(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	start := time.Now()
	n.run("ADD", "a", waiting(5), ipamKey("stateDir", "/nonexistent/podcidr")).fails(t, 11, "ipam.stateDir", "/nonexistent/podcidr", "agent", "creates")
	n.run("ADD", "a", waiting(5), ipamKey("stateDir", n.path("namespaces"))).fails(t, 11, "ready")
	equal(t, n.list("namespaces"), []string{"team"}) // and nothing created in a foreign folder
	for _, broken := range []struct{ name, content, word string }{
		{"ready", `{"version": 1, "stateID": "s2"}`, `"s2"`},
		{"allocation.json", `{"version": 1, "stateID": "s0", "pools": {}}`, `"s0"`},
	} {
		whole := n.read(broken.name)
		n.write(broken.name, broken.content)
		n.run("ADD", "a", waiting(5)).fails(t, 11, broken.word, "allocation.json")
		n.write(broken.name, whole)
	}
	for _, name := range []string{"ready", "allocation.json"} {
		whole := n.read(name)
		n.must(os.Remove(n.path(name)))
		n.run("ADD", "a", waiting(5)).fails(t, 11, name)
		n.write(name, whole)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("waited: %v", took)
	}
	equal(t, n.add("a").address(), "10.64.3.0")
}

func TestCorruptFiles(t *testing.T) {
	block := func(fields string) string {
		return `{"version":1,"stateID":"s1","pools":{"default":{"ipv4":[{` + fields + `}]}},"automatic":["default"]}`
	}
	for name, c := range map[string]struct {
		file, content string
		words         []string
	}{
		"torn":           {"allocation.json", "{\"version\": 1,\n \"stateID\": \"s1", []string{"line 2, column 15"}},
		"empty":          {"allocation.json", "", []string{"line 1, column 0"}},
		"garbage":        {"allocation.json", "{\n\n  \"version\": }", []string{"line 3, column 14", "'}'"}},
		"wrong type":     {"allocation.json", `{"version": 1, "stateID": 7}`, []string{"line 1, column 27", "stateID"}},
		"future":         {"allocation.json", `{"version": 2}`, []string{"version 2", "one release"}},
		"bad block":      {"allocation.json", block(`"prefixLength":14,"blocks":["10.0.0.0/99"]`), []string{"pools.default.ipv4[0].blocks[0]", "10.0.0.0/99"}},
		"host bits":      {"allocation.json", block(`"prefixLength":14,"blocks":["10.0.0.1/28"]`), []string{"10.0.0.1/28", "10.0.0.0/28"}},
		"wrong family":   {"allocation.json", block(`"prefixLength":14,"blocks":["fd00::/122"]`), []string{"fd00::/122", "family"}},
		"huge block":     {"allocation.json", block(`"prefixLength":14,"blocks":["10.0.0.0/8"]`), []string{"10.0.0.0/8", "65,536"}},
		"overlap":        {"allocation.json", block(`"prefixLength":14,"blocks":["10.0.0.0/28","10.0.0.8/29"]`), []string{"10.0.0.8/29 overlaps"}},
		"bad gateway":    {"allocation.json", block(`"prefixLength":14,"gateway":"fd00::1","blocks":["10.0.0.0/28"]`), []string{"ipv4[0].gateway", "fd00::1"}},
		"bad length":     {"allocation.json", block(`"prefixLength":33,"blocks":["10.0.0.0/28"]`), []string{"prefixLength", "33"}},
		"bad reserved":   {"allocation.json", block(`"prefixLength":14,"reserved":["10.0.0.9-10.0.0.3"],"blocks":["10.0.0.0/28"]`), []string{"reserved[0]", "10.0.0.9-10.0.0.3"}},
		"ready torn":     {"ready", `{"version": 1`, []string{"line 1, column 13"}},
		"ready future":   {"ready", `{"version": 9, "stateID": "s1"}`, []string{"version 9"}},
		"ready nameless": {"ready", `{"version": 1}`, []string{"stateID"}},
		"namespace torn": {"namespaces/team", `{"stateID": "s1", "pools": [`, []string{"line 1, column 28"}},
		"namespace type": {"namespaces/team", `{"stateID": "s1", "pools": "gold"}`, []string{"pools"}},
		"ns future":      {"namespaces/team", `{"version": 2, "stateID": "s1"}`, []string{"version 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, one(v4(0, "10.64.3.0/28")))
			n.write(c.file, c.content)
			r := n.run("ADD", "a", waiting(5))
			r.fails(t, 6, append(c.words, n.path(c.file))...)
			if r.took > 4*time.Second {
				t.Errorf("waited: %v", r.took)
			}
			equal(t, n.list("addresses"), []string{})
			n.ok("STATUS", "")
			n.ok("DEL", "a")
		})
	}
}

func TestMissingDirectories(t *testing.T) {
	for _, dir := range []string{"addresses", "attachments", "pending"} {
		t.Run(dir, func(t *testing.T) {
			n := newNode(t, one(v4(0)))
			if dir != "pending" {
				n.allocate(one(v4(0, "10.64.3.0/28")))
			}
			n.ok("DEL", "none") // makes the lock
			n.must(os.Remove(n.path(dir)))
			n.run("ADD", "a", waiting(1)).fails(t, 11, n.path(dir)+" is gone", "agent")
			n.run("ADD", "a", waiting(1)).fails(t, 11, n.path(dir)+" is gone") // with an index
			if _, err := os.Stat(n.path(dir)); err == nil {
				t.Error("the plugin created a directory")
			}
			if dir != "attachments" {
				equal(t, n.list("attachments"), []string{})
			}
			n.ok("DEL", "a")
		})
	}
}

func TestStateDirIsAFile(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	file := ipamKey("stateDir", n.path("ready"))
	n.run("ADD", "a", waiting(5), file).fails(t, 7, "ipam.stateDir", n.path("ready")+" is no directory")
	n.run("STATUS", "", file).fails(t, 50, "is no directory")
	n.ok("DEL", "a", file)
}

// Links removed by hand, and the index lost: running pods still hold what their attachments list.
func TestAttachmentsHoldWhatLostItsLinks(t *testing.T) {
	for name, lose := range map[string]func(*node){
		"all of them": func(n *node) {
			for _, address := range n.list("addresses") {
				n.must(os.Remove(n.path("addresses/" + address)))
			}
		},
		"one": func(n *node) { n.must(os.Remove(n.path("addresses/10.64.3.1"))) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, one(v4(0, "10.64.3.0/28")))
			for i := range 3 {
				n.add(fmt.Sprint("c", i))
			}
			lose(n)
			n.must(os.Remove(n.path("index")))
			equal(t, n.add("new").address(), "10.64.3.3")
			n.audit()
			for i := range 3 {
				n.ok("DEL", fmt.Sprint("c", i))
			}
			equal(t, n.list("addresses"), []string{"10.64.3.3"})
		})
	}
}

func TestIndexIsRebuilt(t *testing.T) {
	for name, damage := range map[string]func(*node){
		"deleted":   func(n *node) { n.must(os.Remove(n.path("index"))) },
		"empty":     func(n *node) { n.must(os.Truncate(n.path("index"), 0)) },
		"torn":      func(n *node) { n.must(os.Truncate(n.path("index"), 200)) },
		"garbage":   func(n *node) { n.write("index", strings.Repeat("x", 4096)) },
		"magic":     func(n *node) { n.patch(0, 'X') },
		"future":    func(n *node) { n.patch(8, 2) },
		"size":      func(n *node) { n.patch(16, 1) },
		"rows":      func(n *node) { n.patch(15, 0x7f) },
		"row":       func(n *node) { n.patch(128+17, 77) },
		"offset":    func(n *node) { n.patch(128+30, 0xff) },
		"rebooted":  func(n *node) { n.patch(32+5, 1) },
		"foreign":   func(n *node) { n.patch(64, 'z') },
		"says free": func(n *node) { n.patch(192, 0); n.patch(193, 0); n.patch(194, 0); n.patch(195, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
			for i := range 3 {
				n.add(fmt.Sprint("c", i))
			}
			damage(n)
			equal(t, n.add("x").address(), "10.64.3.3")
			for i := range 3 {
				n.ok("DEL", fmt.Sprint("c", i))
			}
			equal(t, n.add("y").address(), "10.64.3.0")
			n.audit()
		})
	}
}

// TestHalfOfAPairIsGivenBack: the index calls one address of two free that is held.
func TestHalfOfAPairIsGivenBack(t *testing.T) {
	n := newNode(t, one(dual("10.64.3.0/28", "fd00:64::40/122")))
	n.add("a")
	for i := range int64(4) {
		n.patch(256+i, 0) // of fd00:64::40
	}
	got := n.add("b")
	equal(t, []any{got.IPs[0]["address"], got.IPs[1]["address"]}, []any{"10.64.3.1/14", "fd00:64::41/48"})
	equal(t, n.list("addresses"), []string{"10.64.3.0", "10.64.3.1", "fd00:64::40", "fd00:64::41"})
	n.audit()
}

// patch changes one byte of the index in place.
func (n *node) patch(offset int64, value byte) {
	n.t.Helper()
	file, err := os.OpenFile(n.path("index"), os.O_WRONLY, 0)
	n.must(err)
	defer file.Close()
	_, err = file.WriteAt([]byte{value}, offset)
	n.must(err)
}

func TestLeftoversOfACrashAreNotTruncated(t *testing.T) {
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("a")
	for _, name := range []string{"attachment.new", "attachment.77.new"} { // killed before it was unlinked, by this release or an older one
		n.must(os.Link(n.path("attachments/podnet:a:eth0"), n.path(name)))
	}
	n.write("pending.78.new", "{")
	n.write("agents.new", "{")
	n.add("b")
	equal(t, n.add("a").address(), "10.64.3.0")
	n.ok("GC", "", top("cni.dev/valid-attachments", []object{{"containerID": "a", "ifname": "eth0"}}))
	equal(t, n.halfWritten(), []string{"agents.new"}) // that is not the plugin's
	equal(t, n.add("a").address(), "10.64.3.0")
	n.audit()
}
