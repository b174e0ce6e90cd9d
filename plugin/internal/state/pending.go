package state

import (
	"encoding/json"
	"slices"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/fault"
)

// Mark is a file in pending/: an ADD that waits, alive as long as it holds the file's flock.
type Mark struct {
	dir  Dir
	key  string
	fd   int
	body markBody
}

type markBody struct {
	Version  int      `json:"version"`
	Pod      Pod      `json:"pod"`
	Pools    []string `json:"pools"`
	Families []string `json:"families"`
	Since    float64  `json:"since"`
}

// NewMark makes a mark that Put places.
func (d Dir) NewMark(key string, pod Pod) *Mark {
	return &Mark{dir: d, key: key, fd: -1, body: markBody{Version: Version, Pod: pod, Since: Now()}}
}

func (m *Mark) path() string { return m.dir.path("pending/" + m.key) }

// Put places the mark, or one in its stead if what it says changed, under the lock. A mark of an older ADD with this key goes, and that ADD with it.
func (m *Mark) Put(pools, families []string) error {
	if m.Placed() && m.Says(pools, families) {
		return nil
	}
	m.body.Pools, m.body.Families = append([]string{}, pools...), append([]string{}, families...)
	data, err := json.Marshal(m.body)
	if err != nil {
		return err
	}
	fresh := m.dir.path("pending.new")
	fd, err := create(fresh, data)
	if err != nil {
		return fault.IO("writing", fresh, err)
	}
	if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = unix.Rename(fresh, m.path())
	}
	if err != nil {
		unix.Close(fd)
		return fault.IO("placing", m.path(), err)
	}
	if m.fd >= 0 {
		unix.Close(m.fd)
	}
	m.fd = fd
	return nil
}

// Says compares what the mark tells the agent.
func (m *Mark) Says(pools, families []string) bool {
	return slices.Equal(m.body.Pools, pools) && slices.Equal(m.body.Families, families)
}

// Placed says whether Put ever succeeded.
func (m *Mark) Placed() bool { return m.fd >= 0 }

// Stands says whether nobody (DEL, GC, a newer ADD) removed the mark.
func (m *Mark) Stands() bool {
	var stat unix.Stat_t
	return unix.Fstat(m.fd, &stat) == nil && stat.Nlink > 0
}

// Remove takes the mark away, under the lock.
func (m *Mark) Remove() {
	if m.Placed() && m.Stands() {
		_ = unix.Unlink(m.path())
	}
}

// RemoveMark is what DEL and GC do to whoever waits with this key, under the lock.
func (d Dir) RemoveMark(key string) error {
	err := unix.Unlink(d.path("pending/" + key))
	if err != nil && !missing(err) {
		return fault.IO("removing", d.path("pending/"+key), err)
	}
	return nil
}

// MarkKeys lists the marks.
func (d Dir) MarkKeys() ([]string, error) { return names(d.path("pending")) }

// MarkSince gives when the wait began; a mark that can't be read is as old as can be.
func (d Dir) MarkSince(key string) float64 {
	var body markBody
	data, err := ReadFile(d.path("pending/" + key))
	if err != nil || json.Unmarshal(data, &body) != nil {
		return 0
	}
	return body.Since
}
