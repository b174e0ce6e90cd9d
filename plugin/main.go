// Command podcidr-ipam is a CNI IPAM plugin: it assigns addresses out of the blocks that podcidr gave to this node.
// It reads and writes local files only (docs/state-dir.md), so pods start and stop while nothing else of podcidr runs.
package main

import (
	"runtime/debug"
	"strings"
	"syscall"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/ipam"
)

// release is set by the linker: -X main.release=1.2.3.
var release = "dev"

func main() {
	if verb, _ := syscall.Getenv("CNI_COMMAND"); verb == "" { // started by hand
		cni.Note("podcidr-ipam " + release + ": CNI IPAM plugin of podcidr, for CNI " + strings.Join(cni.Versions, ", "))
		return
	}
	debug.SetPanicOnFault(true) // see state.Dir.CatchTorn
	call, err := cni.Read()
	if err == nil {
		err = run(call)
	}
	if err != nil {
		if printErr := cni.Print(cni.ErrorText(call.Version, err)); printErr != nil {
			cni.Note("podcidr-ipam: writing the error to stdout: " + printErr.Error() + "; it was: " + err.Error())
		}
		syscall.Exit(1)
	}
}

func run(call *cni.Call) error {
	switch call.Verb {
	case "ADD":
		return ipam.Add(call)
	case "DEL":
		return ipam.Del(call)
	case "CHECK":
		return ipam.Check(call)
	case "STATUS":
		return ipam.Status(call)
	case "GC":
		return ipam.GC(call)
	default:
		return cni.Print(cni.VersionText(call.Version))
	}
}
