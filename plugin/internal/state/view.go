package state

import (
	"errors"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
)

// View is what the agent says: ready, the allocation, and one namespace. Refresh keeps it current.
type View struct {
	StateID    string
	Allocation *Allocation
	Namespace  *Namespace // nil: not known on this node yet, or not asked for

	dir                             Dir
	ready, allocationFile, pinsFile cached
	namespaceName                   string
}

// Namespace is what a file in namespaces/ says.
type Namespace struct {
	StateID   string
	Automatic bool
	Pools     []string // unless Automatic
	Error     string
}

// NotReady is the answer as long as the agent has not (or not completely) written the directory.
type NotReady struct{ Cause *fault.Error }

func (e NotReady) Error() string { return e.Cause.Error() }

// Unwrap gives the CNI error.
func (e NotReady) Unwrap() error { return e.Cause }

func notReady(code uint, format string, args ...any) error {
	return NotReady{fault.New(code, format, args...)}
}

// NoDirError says for a verb's code that there is no agent's directory.
func (d Dir) NoDirError(code uint) error {
	var stat unix.Stat_t
	if unix.Stat(string(d), &stat) == nil && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		if code == fault.TryAgainLater { // which no later try would mend
			code = fault.InvalidConfig
		}
		return fault.New(code, "ipam.stateDir: %s is no directory; name the one that the podcidr agent of this node uses (--state-dir)", d)
	}
	return notReady(code, "ipam.stateDir: %s has no file \"ready\": the podcidr agent of this node, which creates the directory, has not prepared it yet, or uses another one (--state-dir)", d)
}

// NewView looks at the given namespace, or at none if it is empty.
func (d Dir) NewView(namespace string) *View {
	v := &View{dir: d, namespaceName: namespace}
	v.ready.path, v.allocationFile.path = d.path("ready"), d.path("allocation.json")
	v.pinsFile.path = d.path("namespaces/" + namespace)
	return v
}

// Refresh reads what changed. An error leaves nothing half-taken: the file is read again the next time.
func (v *View) Refresh() error {
	if err := v.refreshReady(); err != nil {
		return err
	}
	if err := v.refreshAllocation(); err != nil {
		return err
	}
	if v.Allocation.StateID != v.StateID {
		return notReady(fault.TryAgainLater, "%s: stateID %q is not that of \"ready\", %q: the podcidr agent of this node is preparing the directory anew", v.allocationFile.path, v.Allocation.StateID, v.StateID)
	}
	return v.refreshNamespace()
}

func (v *View) refreshReady() error {
	data, changed, err := v.ready.read()
	if err != nil {
		return err
	}
	if changed && data != nil {
		v.StateID, err = parseReady(v.ready.path, data)
		if err != nil {
			v.ready.loaded = false
			return err
		}
	}
	if v.ready.stamp == (stamp{}) {
		return v.dir.NoDirError(fault.TryAgainLater)
	}
	return nil
}

func parseReady(path string, data []byte) (stateID string, err error) {
	err = decode(path, data, func(read *jsontext.Reader, v jsontext.Value) {
		read.Err = checkVersion(path, read, v)
		stateID = read.String(v.Get("stateID"), "stateID")
	})
	if err == nil && (stateID == "" || len(stateID) > stateIDBytes) {
		err = corrupt(path, "stateID: %q: not 1 to %d characters", stateID, stateIDBytes)
	}
	return stateID, err
}

func (v *View) refreshAllocation() error {
	data, changed, err := v.allocationFile.read()
	if err != nil {
		return err
	}
	if changed && data != nil {
		v.Allocation, err = parseAllocation(v.allocationFile.path, data)
		if err != nil {
			v.allocationFile.loaded = false
			return err
		}
	}
	if v.allocationFile.stamp == (stamp{}) {
		return notReady(fault.TryAgainLater, "%s does not exist: the podcidr agent of this node has not written it yet", v.allocationFile.path)
	}
	return nil
}

func (v *View) refreshNamespace() error {
	if v.namespaceName == "" {
		return nil
	}
	data, changed, err := v.pinsFile.read()
	if err != nil {
		return err
	}
	if changed {
		if v.Namespace, err = parseNamespace(v.pinsFile.path, data); err != nil {
			v.pinsFile.loaded = false
			return err
		}
	}
	if v.Namespace != nil && v.Namespace.StateID != v.StateID {
		v.Namespace, v.pinsFile.loaded = nil, false // as good as no file, but ready may come to agree with it
	}
	return nil
}

func parseNamespace(path string, data []byte) (*Namespace, error) {
	if data == nil {
		return nil, nil
	}
	parsed := &Namespace{}
	err := decode(path, data, func(read *jsontext.Reader, v jsontext.Value) {
		if v.Get("version").Given() { // in no file of a first release
			read.Err = checkVersion(path, read, v)
		}
		parsed.StateID = read.String(v.Get("stateID"), "stateID")
		parsed.Error = read.String(v.Get("error"), "error")
		parsed.Automatic = !v.Get("pools").Given()
		parsed.Pools = read.Strings(v.Get("pools"), "pools")
	})
	return parsed, err
}

// Ready says why no agent can be taken to have prepared the directory, or nothing; what the file holds is ADD's business.
func (d Dir) Ready() error {
	_, _, err := readFile(d.path("ready"))
	switch {
	case err == nil:
		return nil
	case missing(err):
		return d.NoDirError(fault.NotAvailable)
	}
	unreadable := fault.IO("reading", d.path("ready"), err)
	unreadable.Code = fault.NotAvailable
	return unreadable
}

// readStateID is for verbs that go on without it.
func (d Dir) readStateID() (string, error) {
	data, _, err := readFile(d.path("ready"))
	if err != nil {
		return "", errors.New("no file \"ready\"")
	}
	return parseReady(d.path("ready"), data)
}
