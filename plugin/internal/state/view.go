package state

import (
	"errors"

	"github.com/containernetworking/cni/pkg/types"

	"podcidr.io/plugin/internal/fault"
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
	Version *int      `json:"version"`
	StateID string    `json:"stateID"`
	Pools   *[]string `json:"pools"` // nil: the automatic ones
	Error   string    `json:"error"`
}

// NotReady is the answer as long as the agent has not (or not completely) written the directory.
type NotReady struct{ Cause *types.Error }

func (e NotReady) Error() string { return e.Cause.Error() }

// Unwrap gives the CNI error.
func (e NotReady) Unwrap() error { return e.Cause }

func notReady(code uint, format string, args ...any) error {
	return NotReady{fault.New(code, format, args...)}
}

// NoDirError says for a verb's code that there is no agent's directory.
func (d Dir) NoDirError(code uint) error {
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
		return notReady(types.ErrTryAgainLater, "%s: stateID %q is not that of \"ready\", %q: the podcidr agent of this node is preparing the directory anew", v.allocationFile.path, v.Allocation.StateID, v.StateID)
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
		return v.dir.NoDirError(types.ErrTryAgainLater)
	}
	return nil
}

func parseReady(path string, data []byte) (string, error) {
	var ready struct {
		Version int    `json:"version"`
		StateID string `json:"stateID"`
	}
	if err := decode(path, data, &ready); err != nil {
		return "", err
	}
	if err := checkVersion(path, ready.Version); err != nil {
		return "", err
	}
	if ready.StateID == "" || len(ready.StateID) > stateIDBytes {
		return "", corrupt(path, "stateID: %q: not 1 to %d characters", ready.StateID, stateIDBytes)
	}
	return ready.StateID, nil
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
		return notReady(types.ErrTryAgainLater, "%s does not exist: the podcidr agent of this node has not written it yet", v.allocationFile.path)
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
	if err := decode(path, data, parsed); err != nil {
		return nil, err
	}
	if parsed.Version != nil {
		return parsed, checkVersion(path, *parsed.Version)
	}
	return parsed, nil
}

// Ready says whether an agent has prepared the directory; what the file holds is ADD's business.
func (d Dir) Ready() bool {
	_, err := ReadFile(d.path("ready"))
	return err == nil
}

// readStateID is for verbs that go on without it.
func (d Dir) readStateID() (string, error) {
	data, err := ReadFile(d.path("ready"))
	if err != nil {
		return "", errors.New("no file \"ready\"")
	}
	return parseReady(d.path("ready"), data)
}
