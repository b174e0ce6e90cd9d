package main_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var updateTable = flag.Bool("update", false, "write the table of docs/cni.md anew")

const (
	cniPage    = "../docs/cni.md"
	tableBegin = "<!-- table: written by go test -run TestTable -update -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// row is a line of docs/cni.md, and the call that shows that it is true.
type row struct {
	verb, what      string
	outcome         string // "success" or "error N", as the call must end
	ours            string // what else there is to say
	spec, hostLocal string
	call            func(n *node) reply
}

func plain(verb, container string, options ...option) func(*node) reply {
	return func(n *node) reply { return n.run(verb, container, options...) }
}

// after prepares the node.
func after(prepare func(*node), call func(*node) reply) func(*node) reply {
	return func(n *node) reply {
		prepare(n)
		return call(n)
	}
}

// each makes all calls on one node; the last one's reply counts, and none may end otherwise.
func each(calls ...func(*node) reply) func(*node) reply {
	return func(n *node) (last reply) {
		for i, call := range calls {
			r := call(n)
			if i > 0 && outcome(n.t, r) != outcome(n.t, last) {
				n.t.Errorf("call %d: %s, not %s", i, outcome(n.t, r), outcome(n.t, last))
			}
			last = r
		}
		return last
	}
}

// ofEach gives this configuration to every verb of a row on several.
func ofEach(stdin string) func(*node) reply {
	return func(n *node) reply {
		var calls []func(*node) reply
		for _, verb := range []string{"DEL", "CHECK", "GC", "STATUS"} {
			calls = append(calls, func(n *node) reply {
				cmd := n.command(verb, "a")
				cmd.Stdin = strings.NewReader(stdin)
				return finish(n.t, cmd)
			})
		}
		return each(calls...)(n)
	}
}

func damaged(n *node) {
	n.add("a")
	n.must(os.WriteFile(n.path("attachments/podnet:a:eth0"), []byte("{"), 0o600))
}
func added(n *node) { n.add("a") }
func remove(name string) func(*node) {
	return func(n *node) { n.must(os.RemoveAll(n.path(name))) }
}
func exhausted(n *node) {
	for i := range 4 {
		n.add(fmt.Sprint("full", i))
	}
}

var (
	prevResult = top("prevResult", object{"cniVersion": "1.1.0", "ips": []object{{"address": "10.64.3.0/14"}}})
	noneValid  = top("cni.dev/valid-attachments", []object{})
)

var cniTable = []row{
	{"ADD", "an address is free", "success", "the lowest one past its cooldown, of each family that the pool serves; prefix length and gateway as the pool says", "a result with `ips`, without `interfaces`", "the next after the last one given, one of each range set", plain("ADD", "a")},
	{"ADD", "again, same network, container and interface", "success", "the same addresses; none more is used", "undefined", "error 999", after(added, plain("ADD", "a"))},
	{"ADD", "same container, another interface; or another network", "success", "addresses of its own", "independent attachments", "the same", after(added, plain("ADD", "a", ifname("net1")))},
	{"ADD", "no address free", "error 11", "after `waitSeconds`; says which pools were tried, what is held, cooling, free; nothing is left of it", "an error; 11 is \"try again later\"", "error 999 at once", after(exhausted, plain("ADD", "a"))},
	{"ADD", "one family of a dual-stack pool is short", "error 11", "neither family's address is kept; a later pool that has both is taken", "undefined", "gives the first back", func(n *node) reply {
		n.allocate(one(dual("10.64.3.0/30", "")))
		return n.run("ADD", "a")
	}},
	{"ADD", "the pod's namespace is not known on the node", "error 11", "after `waitSeconds`: a pin might be missed else", "-", "-", plain("ADD", "a", cniArgs("K8S_POD_NAMESPACE=unseen"))},
	{"ADD", "no namespace given (cnitool)", "success", "from the automatic pools", "-", "from the configured ranges", plain("ADD", "a", cniArgs(""))},
	{"ADD", "a pod's list of pools (`io.kubernetes.cri.pod-annotations`) within its namespace's", "success", "its order holds", "a capability of the runtime", "-", plain("ADD", "a", pinned("default"))},
	{"ADD", "a pod's list names a pool that its namespace may not use", "error 7", "a pod can only narrow", "-", "-", plain("ADD", "a", pinned("gold"))},
	{"ADD", "a static address (`args.cni.ips`, `CNI_ARGS` `IP=`, `runtimeConfig.ips`) in a block of the node", "success", "exactly that one; the other family's as usual", "conventions; `ips` is a capability", "the same, within its ranges", plain("ADD", "a", wishes("10.64.3.2")["args.cni.ips"])},
	{"ADD", "a static address in no block of the node that the pod may use, or reserved", "error 7", "at once, with field, address and pools", "-", "error 999", plain("ADD", "a", wishes("192.0.2.1")["args.cni.ips"])},
	{"ADD", "a static address that is held or cooling", "error 11", "after `waitSeconds`", "-", "error 999", after(exhausted, plain("ADD", "a", wishes("10.64.3.2")["args.cni.ips"]))},
	{"ADD", "two static addresses of one family", "error 7", "an interface gets one of each", "-", "given, if there is a range set for each", plain("ADD", "a", wishes("10.64.3.2", "10.64.3.3")["args.cni.ips"])},
	{"ADD", "`runtimeConfig.ipRanges`", "error 2", "the node's blocks are the ranges", "2 names key and value", "its own configuration", plain("ADD", "a", top("runtimeConfig", object{"ipRanges": [][]object{{{"subnet": "10.0.0.0/24"}}}}))},
	{"ADD", "an unknown key under `ipam`", "error 7", "names the key and the known ones", "-", "ignored", plain("ADD", "a", ipamKey("subnet", "10.0.0.0/8"))},
	{"ADD", "unknown keys elsewhere, unknown variables, unknown `CNI_ARGS`", "success", "others' business", "ignored", "unknown `CNI_ARGS` only with `IgnoreUnknown`", plain("ADD", "a", top("mtu", 9000), cniArgs("FOO=1;K8S_POD_NAMESPACE=team"))},
	{"ADD", "`runtimeConfig`, `args` or `args.cni` is no object; an address asked for is null or empty", "error 7", "a wish that is not understood is never dropped", "-", "error 999, or it panics", each(
		plain("ADD", "a", top("runtimeConfig", 5)), plain("ADD", "a", top("args", 5)), plain("ADD", "a", top("args", object{"cni": 5})),
		plain("ADD", "a", top("runtimeConfig", object{"ips": []any{nil}})), plain("ADD", "a", wishes("")["args.cni.ips"]))},
	{"ADD", "a route whose `dst` has host bits, or whose `gw` is of the other family", "error 7", "the kernel would refuse it", "-", "success", each(
		plain("ADD", "a", ipamKey("routes", []object{{"dst": "10.0.0.1/8"}})), plain("ADD", "a", ipamKey("routes", []object{{"dst": "10.0.0.0/8", "gw": "::1"}})))},
	{"ADD", "`resolvConf` can't be read", "error 7", "a pod without DNS would be worse", "-", "error 999", each(
		plain("ADD", "a", ipamKey("resolvConf", "/nonexistent")), plain("ADD", "a", ipamKey("resolvConf", "/proc/self/mem")))},
	{"ADD", "`CNI_NETNS` is the plugin's own namespace", "error 8", "before anything is assigned", "-", "error 8, after it has assigned", plain("ADD", "a", netns("/proc/self/ns/net"))},
	{"ADD", "the configuration is no JSON", "error 6", "with line and column", "6", "error 6", func(n *node) reply {
		cmd := n.command("ADD", "a")
		cmd.Stdin = strings.NewReader("{")
		return finish(n.t, cmd)
	}},
	{"ADD", "a version that is not supported", "error 1", "lists those that are: 0.1.0 to 1.1.0", "1", "error 1", plain("ADD", "a", version("2.0.0"))},
	{"ADD", "a variable is missing or malformed", "error 4", "names it", "4 names the variables", "error 4", plain("ADD", "", netns(""))},
	{"ADD", "the agent has not prepared the node", "error 11", "at once; says which file is missing", "-", "-", after(remove("ready"), plain("ADD", "a"))},
	{"ADD", "the agent, the operator and the API server are down", "success", "nobody is asked", "-", "the same", plain("ADD", "a")},
	{"ADD", "a state file is torn, or of another version", "error 6", "with file, line and column; nothing is guessed", "6", "-", func(n *node) reply {
		n.write("allocation.json", "{")
		return n.run("ADD", "a")
	}},
	{"ADD", "the container's own record is damaged", "error 6", "a DEL of the container frees what it holds: delete the pod", "-", "-", after(damaged, plain("ADD", "a"))},
	{"ADD", "a damaged record of another container, whose links and the index are gone too", "error 6", "any address could be its; names the file", "-", "-", after(func(n *node) {
		damaged(n)
		n.lose("addresses/10.64.3.0", "index")
	}, plain("ADD", "b"))},
	{"ADD", "DEL or GC came while it waited", "error 11", "assigns nothing any more", "-", "-", func(n *node) reply {
		exhausted(n)
		done := n.begin("a", waiting(9))
		n.ok("DEL", "a")
		return <-done
	}},
	{"DEL", "the container holds addresses", "success", "they cool down, then are free", "release", "free at once; round robin delays their use", after(added, plain("DEL", "a"))},
	{"DEL", "unknown, or a second time", "success", "", "success", "the same", plain("DEL", "a")},
	{"DEL", "`CNI_NETNS` empty or gone, no `prevResult`", "success", "neither is looked at", "success", "the same", after(added, plain("DEL", "a", netns("")))},
	{"DEL", "the state directory, or any file of the agent's, is missing", "success", "a node without podcidr can be emptied", "should complete", "success", after(remove("."), plain("DEL", "a"))},
	{"DEL", "a bad key under `ipam`, or bad `CNI_ARGS`", "success", "the configuration may have changed since the ADD", "-", "error", after(added, plain("DEL", "a", ipamKey("typo", 1), cniArgs("x")))},
	{"DEL", "the container's record is damaged", "success", "freed by what it is linked to; says so on stderr", "should complete", "leaks what it can't match", after(damaged, plain("DEL", "a"))},
	{"DEL, CHECK, GC, STATUS", "the configuration is no JSON", "error 6", "with line and column", "6", "error 6", ofEach("{")},
	{"DEL, CHECK, GC, STATUS", "a version that is not supported", "error 1", "lists those that are", "1", "error 1", ofEach(`{"cniVersion": "2.0.0", "name": "podnet"}`)},
	{"DEL, CHECK, GC, STATUS", "the network's name is missing or malformed", "error 7", "whose addresses they are is not known without it", "7 is invalid configuration", "error 7", each(ofEach(`{"cniVersion": "1.1.0"}`), ofEach(`{"cniVersion": "1.1.0", "name": "a b"}`))},
	{"DEL, CHECK", "a variable is missing or malformed", "error 4", "names it; the same of `CNI_PATH` for GC and STATUS", "4 names the variables", "error 4", each(plain("DEL", ""), plain("DEL", "a b"), plain("CHECK", "", prevResult), plain("CHECK", "a", netns("")), plain("DEL", "a", ifname("a/b")))},
	{"CHECK", "right after ADD", "success", "without the lock, from files", "success", "success", after(added, plain("CHECK", "a", prevResult))},
	{"CHECK", "nothing is assigned to the container", "error 3", "", "an error", "error 999", plain("CHECK", "a", prevResult)},
	{"CHECK", "an address of it is lost", "error 100", "names address and file", "an error", "error 999 if all are", func(n *node) reply {
		n.add("a")
		n.must(os.Remove(n.path("addresses/10.64.3.0")))
		return n.run("CHECK", "a", prevResult)
	}},
	{"CHECK", "`prevResult` lacks an address that is held", "error 100", "a main plugin may narrow lengths and add addresses", "must consult `prevResult`", "not looked at", after(added, plain("CHECK", "a", top("prevResult", object{"cniVersion": "1.1.0", "ips": []object{}})))},
	{"CHECK", "without `prevResult`", "error 7", "", "required", "success", after(added, plain("CHECK", "a"))},
	{"CHECK", "the container's record is damaged", "error 6", "delete the pod: its DEL frees what it holds", "an error", "-", after(damaged, plain("CHECK", "a", prevResult))},
	{"CHECK", "configuration older than 0.4.0", "error 1", "", "1", "error 1", after(added, plain("CHECK", "a", version("0.3.1"), prevResult))},
	{"STATUS", "the node is prepared", "success", "reads one file; a millisecond or two", "success if an ADD can be served", "success always", plain("STATUS", "")},
	{"STATUS", "no address is free", "success", "a failing STATUS makes the node NotReady, and its running pods are evicted", "should fail with 50 or 51", "success", after(exhausted, plain("STATUS", ""))},
	{"STATUS", "no agent ever prepared the node", "error 50", "", "50", "success", after(remove("ready"), plain("STATUS", ""))},
	{"STATUS", "a bad key under `ipam`; `ready`, `allocation.json` or a namespace's file is corrupt", "success", "each ADD says it; for a typing error no running pod shall be evicted", "should fail", "success", each(
		plain("STATUS", "", ipamKey("typo", 1)),
		after(func(n *node) { n.write("allocation.json", "{") }, plain("STATUS", "")),
		after(func(n *node) { n.write("namespaces/team", "{") }, plain("STATUS", "")),
		after(func(n *node) { n.write("ready", "{") }, plain("STATUS", "")))},
	{"STATUS", "`ready` may not be read, or is no file", "error 50", "says which", "50", "-", after(func(n *node) {
		n.lose("ready")
		n.must(os.Mkdir(n.path("ready"), 0o700))
	}, plain("STATUS", ""))},
	{"STATUS", "`ipam.stateDir` is no absolute path", "error 7", "where to look is not known", "-", "-", plain("STATUS", "", ipamKey("stateDir", "run"))},
	{"STATUS", "configuration older than 1.1.0", "error 1", "", "1", "error 1", plain("STATUS", "", version("1.0.0"))},
	{"GC", "attachments that are not listed", "success", "freed, of this network only; those assigned since it began stay", "free all that is not listed", "success, frees nothing", after(added, plain("GC", "", noneValid))},
	{"GC", "the list under its older name, `cni.dev/attachments`", "success", "both are read", "named so by the text of 1.1.0", "success, frees nothing", after(added, plain("GC", "", top("cni.dev/attachments", []object{})))},
	{"GC", "no list at all", "error 7", "nothing is freed", "required", "success, frees nothing", after(added, plain("GC", ""))},
	{"GC", "configuration older than 1.1.0", "error 1", "libcni replays DELs there", "1", "error 1", plain("GC", "", version("1.0.0"), noneValid)},
	{"VERSION", "whatever stdin is", "success", "0.1.0 to 1.1.0; `cniVersion` as it was asked, 1.1.0 if it was not", "list them; `cniVersion` as on input", "1.1.0 always", plain("VERSION", "")},
	{"any", "no `CNI_COMMAND`: started by hand", "success", "says on stderr which build it is", "4", "the same", func(n *node) reply {
		cmd := n.command("ADD", "a")
		cmd.Env = nil
		return finish(n.t, cmd)
	}},
	{"any", "an unknown `CNI_COMMAND`", "error 4", "", "4", "error 4", plain("REMOVE", "a")},
	{"any", "another process holds the lock for 5 s", "error 11", "names its pid; STATUS and CHECK need no lock", "-", "waits without end", func(n *node) reply {
		defer n.lock()()
		return n.run("ADD", "a")
	}},
}

func TestTable(t *testing.T) {
	var text strings.Builder
	text.WriteString("| verb | case | podcidr-ipam | specification | host-local |\n|---|---|---|---|---|\n")
	for _, c := range cniTable {
		t.Run(c.verb+" "+c.what, func(t *testing.T) {
			n := newNode(t, object{"default": object{"cooldownSeconds": 0, "ipv4": entries(nil, 14, []string{"10.64.3.0/30"})}})
			r := c.call(n)
			equal(t, outcome(t, r), c.outcome)
		})
		ours := c.outcome
		if c.ours != "" {
			ours += ": " + c.ours
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s |\n", c.verb, c.what, ours, c.spec, c.hostLocal)
	}
	page, err := os.ReadFile(cniPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), tableBegin)
	_, behind, ends := strings.Cut(rest, tableEnd)
	if !ok || !ends {
		t.Fatalf("%s has no place for the table", cniPage)
	}
	want := before + tableBegin + text.String() + tableEnd + behind
	if *updateTable {
		if err := os.WriteFile(cniPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(page) {
		t.Errorf("%s is not what the table says: go test -run TestTable -update", cniPage)
	}
}

func outcome(t testing.TB, r reply) string {
	t.Helper()
	if r.exit == 0 {
		return "success"
	}
	var failure struct{ Code int }
	if err := json.Unmarshal([]byte(r.stdout), &failure); err != nil {
		t.Errorf("%v: %q", err, r.stdout)
	}
	return fmt.Sprint("error ", failure.Code)
}
