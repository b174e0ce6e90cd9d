package state

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
)

// Mark is a file in pending/: an ADD that waits, alive as long as it holds the file's flock.
type Mark struct {
	dir  Dir
	key  string
	fd   int
	body markBody
}

type markBody struct {
	pod             Pod
	pools, families []string
	since, until    float64
	particular      bool // it waits for an address that it names
}

// NewMark makes a mark that Put places.
func (d Dir) NewMark(key string, pod Pod, wait time.Duration, particular bool) *Mark {
	since := Now()
	return &Mark{dir: d, key: key, fd: -1, body: markBody{pod: pod, since: since, until: since + wait.Seconds(), particular: particular}}
}

func (m *Mark) path() string { return m.dir.path("pending/" + m.key) }

// Put places the mark, or one in its stead if what it says changed, under the lock. A mark of an older ADD with this key goes, and that ADD with it.
func (m *Mark) Put(pools, families []string) error {
	if m.Placed() && m.Says(pools, families) {
		return nil
	}
	m.body.pools, m.body.families = pools, families
	fresh := m.dir.fresh("pending")
	fd, err := create(fresh, m.body.text())
	if err != nil {
		return fault.IO("writing", fresh, err)
	}
	if err = m.stampAndLock(fd, fresh); err == nil {
		err = unix.Rename(fresh, m.path())
	}
	if err != nil {
		unix.Close(fd)
		return m.dir.ioError("placing", m.path(), err)
	}
	if m.fd >= 0 {
		unix.Close(m.fd)
	}
	m.fd = fd
	return nil
}

// stampAndLock makes the file's time tell how long it waits, so that others need not read it to see who is older.
func (m *Mark) stampAndLock(fd int, path string) error {
	since := unix.NsecToTimespec(int64(m.body.since * 1e9))
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{since, since}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
}

// Says compares what the mark tells the agent.
func (m *Mark) Says(pools, families []string) bool {
	return slices.Equal(m.body.pools, pools) && slices.Equal(m.body.families, families)
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
	if err != nil && !missing(err) && err != unix.EISDIR { // a directory is nobody's mark
		return fault.IO("removing", d.path("pending/"+key), err)
	}
	return nil
}

// MarkKeys lists the marks.
func (d Dir) MarkKeys() ([]string, error) { return names(d.path("pending")) }

// MarkSince gives when the wait began; a mark that can't be read is as old as can be.
func (d Dir) MarkSince(key string) float64 {
	body, _ := d.readMark(key)
	return body.since
}

func (d Dir) readMark(key string) (body markBody, err error) {
	path := d.path("pending/" + key)
	data, _, err := readFile(path)
	if err != nil {
		return body, err
	}
	return body, body.parse(path, data)
}

func (b *markBody) parse(path string, data []byte) error {
	return decode(path, data, func(read *jsontext.Reader, v jsontext.Value) {
		b.since, b.until = read.Float(v.Get("since"), "since"), read.Float(v.Get("until"), "until")
		b.pools = read.Strings(v.Get("pools"), "pools")
		b.particular = v.Get("particular").Given()
	})
}

func (b *markBody) text() []byte {
	w := &jsontext.Writer{}
	w.Open('{')
	w.Name("version")
	w.Int(Version)
	b.pod.write(w)
	w.Name("pools")
	w.Strings(b.pools)
	w.Name("families")
	w.Strings(b.families)
	w.Name("since")
	w.Float(b.since)
	w.Name("until")
	w.Float(b.until)
	if b.particular {
		w.Name("particular")
		w.Bool(true)
	}
	w.Close('}')
	return w.Bytes()
}
