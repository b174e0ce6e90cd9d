package state

import (
	"math"
	"net/netip"
	"strconv"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/jsontext"
)

// text is the attachment's file.
func (a *Attachment) text() []byte {
	w := &jsontext.Writer{}
	w.Open('{')
	w.Name("version")
	w.Int(Version)
	w.Member("stateID", a.StateID)
	w.Member("network", a.Key.Network)
	w.Member("container", a.Key.Container)
	w.Member("interface", a.Key.Interface)
	w.Member("netns", a.Netns)
	a.Pod.write(w)
	w.Name("ips")
	w.Open('[')
	for _, ip := range a.IPs {
		ip.write(w)
	}
	w.Close(']')
	w.Name("assignedAt")
	w.Float(a.AssignedAt)
	if a.Result != nil {
		w.Name("result")
		a.Result.Write(w, cni.Current)
	}
	w.Close('}')
	return w.Bytes()
}

func (p Pod) write(w *jsontext.Writer) {
	w.Name("pod")
	w.Open('{')
	w.Member("namespace", p.Namespace)
	w.Member("name", p.Name)
	w.Member("uid", p.UID)
	w.Close('}')
}

func (h Held) write(w *jsontext.Writer) {
	w.Open('{')
	w.Member("address", h.Address.String())
	w.Member("pool", h.Pool)
	w.Member("block", h.Block.String())
	w.Name("cooldownSeconds")
	w.Int(int64(h.CooldownSeconds))
	w.Close('}')
}

// parse reads what the verbs need of the file.
func (a *Attachment) parse(path string, data []byte) error {
	return decodeOr(ownRemedy, path, data, func(read *jsontext.Reader, v jsontext.Value) {
		if read.Err = checkVersion(path, read, v); read.Err != nil {
			return
		}
		a.AssignedAt = read.Float(v.Get("assignedAt"), "assignedAt")
		for i, item := range read.Items(v.Get("ips"), "ips") {
			a.IPs = append(a.IPs, readHeld(read, item, "ips["+strconv.Itoa(i)+"]"))
		}
		if result := v.Get("result"); result.Given() && read.Err == nil {
			a.Result, read.Err = cni.ReadResult(result)
		}
	})
}

func readHeld(read *jsontext.Reader, v jsontext.Value, field string) Held {
	held := Held{
		Pool:            read.String(v.Get("pool"), field+".pool"),
		Block:           cni.ReadPrefix(read, v.Get("block"), field+".block"),
		CooldownSeconds: uint32(read.Int(v.Get("cooldownSeconds"), field+".cooldownSeconds", 0, math.MaxUint32)),
	}
	text := read.String(v.Get("address"), field+".address")
	address, err := netip.ParseAddr(text)
	if err != nil {
		v.Refuse(read, field+".address: "+strconv.Quote(text)+" is no address")
	}
	held.Address = address
	return held
}
