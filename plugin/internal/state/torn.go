package state

import "podcidr.io/plugin/internal/fault"

// CatchTorn is deferred by whoever reads the mapped index: a page that is gone, since somebody truncated the file, becomes an error.
// It needs debug.SetPanicOnFault, else the kernel's signal ends the process with nothing on stdout.
func (d Dir) CatchTorn(err *error) {
	thrown := recover()
	if thrown == nil {
		return
	}
	if _, ofAPage := thrown.(interface{ Addr() uintptr }); !ofAPage {
		panic(thrown)
	}
	*err = fault.New(fault.IOFailure, "%s was truncated while podcidr-ipam worked with it; look what changes files there, the next call builds it anew", d.path("index"))
}
