package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"podcidr.io/plugin/internal/config"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// Del frees what the interface holds and succeeds whatever it finds: a runtime that sees a DEL fail may never call again.
// Only when the lock can't be had it says "later", for nothing has been looked at then.
func Del(args *skel.CmdArgs) error {
	conf, err := config.ParseLenient(args.StdinData)
	note("configuration", err)
	if conf == nil {
		return nil
	}
	dir := state.Dir(conf.StateDir)
	unlock, err := dir.Lock()
	if err != nil {
		return unlessBusy(err)
	}
	defer unlock()
	note("DEL", release(dir, keyOf(conf.Network, args)))
	return nil
}

func unlessBusy(err error) error {
	var cniError *types.Error
	if errors.As(err, &cniError) && cniError.Code == types.ErrTryAgainLater {
		return err
	}
	if !errors.Is(err, state.ErrNoDir) {
		note("lock", err)
	}
	return nil
}

// release removes mark and attachment of a key, under the lock. A record that can't be read is released by its inode.
func release(dir state.Dir, key string) error {
	markErr := dir.RemoveMark(key)
	record, err := dir.ReadAttachment(key)
	note("attachment", err)
	if record == nil {
		return markErr
	}
	return errors.Join(markErr, dir.Release(key, record))
}

func note(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "podcidr-ipam: %s: %v\n", what, err)
	}
}

// collecting is one GC.
type collecting struct {
	dir     state.Dir
	prefix  string
	valid   map[string]bool
	started float64
}

// GC frees what this network holds and the runtime does not list. What was assigned after it began can't be in the list.
func GC(args *skel.CmdArgs) error {
	conf, err := config.ParseLenient(args.StdinData)
	if conf == nil {
		return err
	}
	valid, err := validKeys(conf.Network, args.StdinData)
	if err != nil {
		return err
	}
	gc := &collecting{dir: state.Dir(conf.StateDir), prefix: conf.Network + ":", valid: valid, started: state.Now()}
	return gc.run()
}

// validKeys joins both lists: the specification's first text named it otherwise than libcni.
func validKeys(network string, stdin []byte) (map[string]bool, error) {
	var lists struct {
		Valid json.RawMessage `json:"cni.dev/valid-attachments"`
		Older json.RawMessage `json:"cni.dev/attachments"`
	}
	if err := json.Unmarshal(stdin, &lists); err != nil {
		return nil, fault.New(types.ErrDecodingFailure, "network configuration: %v", err)
	}
	if lists.Valid == nil && lists.Older == nil {
		return nil, fault.New(types.ErrInvalidNetworkConfig, "cni.dev/valid-attachments: missing; give the list, empty if nothing is valid. Nothing was freed")
	}
	valid := map[string]bool{}
	for _, raw := range []json.RawMessage{lists.Valid, lists.Older} {
		var attachments []types.GCAttachment
		if raw == nil {
			continue
		}
		if err := json.Unmarshal(raw, &attachments); err != nil {
			return nil, fault.New(types.ErrInvalidNetworkConfig, "cni.dev/valid-attachments: %s: %v. Nothing was freed", raw, err)
		}
		for _, a := range attachments {
			valid[state.Key{Network: network, Container: a.ContainerID, Interface: a.IfName}.String()] = true
		}
	}
	return valid, nil
}

// run goes on after errors and gives them at the end, as the specification asks. The lock is taken for each one, so that ADDs get in between.
func (gc *collecting) run() error {
	attachments, err := gc.dir.AttachmentKeys()
	if err != nil {
		return nil // no directory: nothing is held
	}
	marks, _ := gc.dir.MarkKeys()
	var failed []error
	for _, key := range append(attachments, marks...) {
		if !strings.HasPrefix(key, gc.prefix) || gc.valid[key] {
			continue
		}
		if err := gc.collect(key); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return fault.New(types.ErrIOFailure, "%v", errors.Join(failed...))
	}
	return nil
}

func (gc *collecting) collect(key string) error {
	unlock, err := gc.dir.Lock()
	if err != nil {
		return unlessBusy(err)
	}
	defer unlock()
	record, err := gc.dir.ReadAttachment(key)
	if err == nil && record != nil && record.AssignedAt > gc.started {
		return nil
	}
	if record == nil && gc.dir.MarkSince(key) > gc.started {
		return nil
	}
	return release(gc.dir, key)
}
