package ipam

import (
	"errors"
	"strconv"
	"strings"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/config"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
	"podcidr.io/plugin/internal/state"
)

// Del frees what the interface holds and succeeds whatever it finds: a runtime that sees a DEL fail may never call again.
// Only when the lock can't be had it says "later", for nothing has been looked at then.
func Del(call *cni.Call) error {
	dir, err := config.StateDir(call)
	if err != nil {
		note("configuration", err)
		return nil
	}
	unlock, err := dir.Lock()
	if err != nil {
		return unlessBusy(err)
	}
	defer unlock()
	note("DEL", release(dir, keyOf(call).String()))
	return nil
}

func unlessBusy(err error) error {
	var known *fault.Error
	if errors.As(err, &known) && known.Code == fault.TryAgainLater {
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
		cni.Note("podcidr-ipam: " + what + ": " + err.Error())
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
func GC(call *cni.Call) error {
	dir, err := config.StateDir(call)
	if err != nil {
		return err
	}
	valid, err := validKeys(call)
	if err != nil {
		return err
	}
	gc := &collecting{dir: dir, prefix: call.Network + ":", valid: valid, started: state.Now()}
	return gc.run()
}

// validKeys joins both lists: the specification's first text named it otherwise than libcni.
func validKeys(call *cni.Call) (map[string]bool, error) {
	lists, valid := []string{"cni.dev/valid-attachments", "cni.dev/attachments"}, map[string]bool{}
	given := false
	for _, name := range lists {
		list := call.Config.Get(name)
		given = given || !list.Absent()
		read := &jsontext.Reader{}
		for i, item := range read.Items(list, name) {
			where := name + "[" + strconv.Itoa(i) + "]."
			key := state.Key{Network: call.Network, Container: read.String(item.Get("containerID"), where+"containerID"), Interface: read.String(item.Get("ifname"), where+"ifname")}
			if read.Err == nil && (key.Container == "" || key.Interface == "") {
				item.Refuse(read, where+"containerID or ifname is missing")
			}
			valid[key.String()] = true
		}
		if read.Err != nil {
			return nil, fault.New(fault.InvalidConfig, "%s: %s: %v. Nothing was freed", name, list.Source(call.Stdin), read.Err)
		}
	}
	if !given {
		return nil, fault.New(fault.InvalidConfig, "cni.dev/valid-attachments: missing; give the list, empty if nothing is valid. Nothing was freed")
	}
	return valid, nil
}

// run goes on after errors and gives them at the end, as the specification asks. The lock is taken for each one, so that ADDs get in between.
func (gc *collecting) run() error {
	attachments, err := gc.dir.AttachmentKeys()
	if err != nil {
		return nil // no directory: nothing is held
	}
	if unlock, err := gc.dir.Lock(); err == nil {
		gc.dir.Sweep()
		unlock()
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
		return fault.New(fault.IOFailure, "%v", errors.Join(failed...))
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
