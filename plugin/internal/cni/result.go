package cni

import (
	"net/netip"
	"strconv"

	"podcidr.io/plugin/internal/jsontext"
)

// Result is what an IPAM plugin prints: no interfaces, these are the main plugin's.
type Result struct {
	IPs    []IP
	Routes []Route
	DNS    DNS
}

// IP is an address with the prefix length and gateway of its network.
type IP struct {
	Address netip.Prefix
	Gateway netip.Addr // invalid: none
}

// Route is a route; of the numbers, those that are nil are not printed.
type Route struct {
	Dst                                 netip.Prefix
	GW                                  netip.Addr // invalid: none
	MTU, AdvMSS, Priority, Table, Scope *int64
}

// DNS is for the container's resolver.
type DNS struct {
	Nameservers     []string
	Domain          string
	Search, Options []string
}

// Text is the result as the given version of the specification has it.
func (r *Result) Text(version string) []byte {
	w := &jsontext.Writer{Indent: indent}
	r.Write(w, version)
	return w.Bytes()
}

// Write writes the result.
func (r *Result) Write(w *jsontext.Writer, version string) {
	w.Open('{')
	w.Member("cniVersion", version)
	if version < "0.3.0" {
		r.writeFamily(w, "ip4", netip.Addr.Is4)
		r.writeFamily(w, "ip6", netip.Addr.Is6)
	} else {
		w.Name("ips")
		w.Open('[')
		for _, ip := range r.IPs {
			ip.write(w, "address", version < "1.0.0", nil)
		}
		w.Close(']')
		writeRoutes(w, r.Routes, false)
	}
	r.DNS.write(w)
	w.Close('}')
}

// writeFamily is the form before 0.3.0: one address of each family, with its routes.
func (r *Result) writeFamily(w *jsontext.Writer, name string, is func(netip.Addr) bool) {
	var routes []Route
	for _, route := range r.Routes {
		if is(route.Dst.Addr()) {
			routes = append(routes, route)
		}
	}
	for _, ip := range r.IPs {
		if is(ip.Address.Addr()) {
			w.Name(name)
			ip.write(w, "ip", false, routes)
			return
		}
	}
}

func (ip IP) write(w *jsontext.Writer, name string, tagged bool, routes []Route) {
	w.Open('{')
	if tagged {
		version := "6"
		if ip.Address.Addr().Is4() {
			version = "4"
		}
		w.Member("version", version)
	}
	w.Member(name, ip.Address.String())
	if ip.Gateway.IsValid() {
		w.Member("gateway", ip.Gateway.String())
	}
	writeRoutes(w, routes, true)
	w.Close('}')
}

func writeRoutes(w *jsontext.Writer, routes []Route, plain bool) {
	if len(routes) == 0 {
		return
	}
	w.Name("routes")
	w.Open('[')
	for _, route := range routes {
		w.Open('{')
		w.Member("dst", route.Dst.String())
		if route.GW.IsValid() {
			w.Member("gw", route.GW.String())
		}
		for _, n := range route.numbers() {
			if *n.value != nil && !plain {
				w.Name(n.name)
				w.Int(**n.value)
			}
		}
		w.Close('}')
	}
	w.Close(']')
}

type namedNumber struct {
	name  string
	value **int64
}

func (r *Route) numbers() []namedNumber {
	return []namedNumber{{"mtu", &r.MTU}, {"advmss", &r.AdvMSS}, {"priority", &r.Priority}, {"table", &r.Table}, {"scope", &r.Scope}}
}

func (d *DNS) write(w *jsontext.Writer) {
	if len(d.Nameservers)+len(d.Search)+len(d.Options) == 0 && d.Domain == "" {
		return
	}
	lists := func(name string, texts []string) {
		if len(texts) > 0 {
			w.Name(name)
			w.Strings(texts)
		}
	}
	w.Name("dns")
	w.Open('{')
	lists("nameservers", d.Nameservers)
	if d.Domain != "" {
		w.Member("domain", d.Domain)
	}
	lists("search", d.Search)
	lists("options", d.Options)
	w.Close('}')
}

// ReadResult reads a result of version 0.3.0 or later.
func ReadResult(v jsontext.Value) (*Result, error) {
	var read jsontext.Reader
	result := &Result{}
	read.Object(v, "result")
	for i, item := range read.Items(v.Get("ips"), "ips") {
		field := "ips[" + strconv.Itoa(i) + "]"
		result.IPs = append(result.IPs, IP{
			Address: ReadPrefix(&read, item.Get("address"), field+".address"),
			Gateway: readAddr(&read, item.Get("gateway"), field+".gateway"),
		})
	}
	for i, item := range read.Items(v.Get("routes"), "routes") {
		result.Routes = append(result.Routes, ReadRoute(&read, item, "routes["+strconv.Itoa(i)+"]"))
	}
	dns := read.Object(v.Get("dns"), "dns")
	result.DNS = DNS{
		Nameservers: read.Strings(dns.Get("nameservers"), "dns.nameservers"),
		Domain:      read.String(dns.Get("domain"), "dns.domain"),
		Search:      read.Strings(dns.Get("search"), "dns.search"),
		Options:     read.Strings(dns.Get("options"), "dns.options"),
	}
	return result, read.Err
}

// ReadRoute reads a route; dst is needed.
func ReadRoute(read *jsontext.Reader, v jsontext.Value, field string) Route {
	read.Object(v, field)
	route := Route{Dst: ReadPrefix(read, v.Get("dst"), field+".dst"), GW: readAddr(read, v.Get("gw"), field+".gw")}
	for _, n := range route.numbers() {
		if given := v.Get(n.name); given.Given() {
			number := read.Int(given, field+"."+n.name, 0, 1<<32-1)
			*n.value = &number
		}
	}
	return route
}

// ReadPrefix reads an address with a prefix length; its host bits stay.
func ReadPrefix(read *jsontext.Reader, v jsontext.Value, field string) netip.Prefix {
	text := read.String(v, field)
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		v.Refuse(read, field+": "+strconv.Quote(text)+" is no address with a prefix length")
	}
	return prefix
}

func readAddr(read *jsontext.Reader, v jsontext.Value, field string) netip.Addr {
	text := read.String(v, field)
	if text == "" {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		v.Refuse(read, field+": "+strconv.Quote(text)+" is no address")
	}
	return address
}
