// Package state reads and writes the state directory; docs/state-dir.md is its contract.
package state

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
)

// Version of every file format here.
const Version = 1

// Dir is the path of a state directory.
type Dir string

func (d Dir) path(name string) string { return string(d) + "/" + name }

// stamp tells two versions of a file apart: each is a new inode (rename), and an inode number used again has another time.
type stamp struct {
	inode, size  int64
	mtime, ctime unix.Timespec
}

func stampOf(stat *unix.Stat_t) stamp {
	return stamp{int64(stat.Ino), stat.Size, stat.Mtim, stat.Ctim}
}

// readFile goes without package os, whose files cost several system calls more each. A link, or a FIFO (on which a plain open would hang), is none of ours.
func readFile(path string) ([]byte, unix.Stat_t, error) {
	var stat unix.Stat_t
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, stat, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, stat, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, stat, fault.ErrNotRegular
	}
	data, err := readAll(fd, stat.Size)
	return data, stat, err
}

func readAll(fd int, size int64) ([]byte, error) {
	data := make([]byte, size)
	done := 0
	for done < len(data) {
		n, err := unix.Read(fd, data[done:])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return data[:done], nil
}

// fresh is the name of a file that is written now. No other process has it, for who removes the lock lets two in.
func (d Dir) fresh(name string) string {
	return d.path(name + "." + strconv.Itoa(unix.Getpid()) + halfWritten)
}

// Sweep removes what killed calls left half-written, under the lock. It may be a second link of a live attachment, and is no more than that.
func (d Dir) Sweep() {
	found, _ := list(string(d))
	for _, one := range found {
		kind, _, _ := strings.Cut(one.name, ".")
		if strings.HasSuffix(one.name, halfWritten) && (kind == "attachment" || kind == "pending" || kind == "index") {
			_ = unix.Unlink(d.path(one.name))
		}
	}
}

// create writes a new file and returns it open. A leftover of a crash is unlinked, never truncated: it may be a link of a live attachment.
func create(path string, data []byte) (int, error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Open(path, flags, 0o600)
	if err == unix.EEXIST {
		if err := unix.Unlink(path); err != nil {
			return -1, err
		}
		fd, err = unix.Open(path, flags, 0o600)
	}
	if err != nil {
		return -1, err
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			unix.Close(fd)
			_ = unix.Unlink(path)
			return -1, err
		}
		data = data[n:]
	}
	return fd, nil
}

// cached is a file that is read again only when it changed.
type cached struct {
	path   string
	loaded bool
	stamp  stamp // zero: the file is missing
}

// read gives the content if it changed since the last call; nil if the file is missing.
func (c *cached) read() (data []byte, changed bool, err error) {
	if c.loaded {
		var stat unix.Stat_t
		err := unix.Stat(c.path, &stat)
		if err == nil && stampOf(&stat) == c.stamp || missing(err) && c.stamp == (stamp{}) {
			return nil, false, nil
		}
	}
	data, stat, err := readFile(c.path)
	if missing(err) {
		c.loaded, c.stamp = true, stamp{}
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fault.IO("reading", c.path, err)
	}
	c.loaded, c.stamp = true, stampOf(&stat)
	return data, true, nil
}

// ioError tells a directory that somebody removed from a file system in trouble: the agent makes it again, with all that is held.
func (d Dir) ioError(step, path string, err error) error {
	directory := path[:strings.LastIndexByte(path, '/')]
	var stat unix.Stat_t
	if !missing(err) || unix.Stat(directory, &stat) == nil {
		return fault.IO(step, path, err)
	}
	return notReady(fault.TryAgainLater, "%s is gone: the podcidr agent of this node makes it again within seconds, see that it runs there", directory)
}

func missing(err error) bool { return err == unix.ENOENT || err == unix.ENOTDIR }

// decode parses a state file of the agent's and lets read take from it; errors name file and position.
func decode(path string, data []byte, read func(*jsontext.Reader, jsontext.Value)) error {
	return decodeOr(agentsRemedy, path, data, read)
}

// agentsRemedy is for files that the agent writes, ownRemedy for attachments.
const (
	agentsRemedy = "the podcidr agent writes this file, restart it to have it written anew"
	ownRemedy    = "the file was changed since podcidr-ipam wrote it; a DEL of this container frees what it holds: delete the pod"
)

func decodeOr(remedy, path string, data []byte, read func(*jsontext.Reader, jsontext.Value)) error {
	document, err := jsontext.Parse(data)
	reader := &jsontext.Reader{Err: err}
	if err == nil {
		read(reader, reader.Object(document, "the text"))
	}
	if reader.Err == nil {
		return nil
	}
	if broken, ok := reader.Err.(*jsontext.Error); ok {
		line, column := broken.Position(data)
		return fault.New(fault.DecodingFailure, "%s: line %d, column %d: %v; %s", path, line, column, reader.Err, remedy)
	}
	return reader.Err // of a check that has a message of its own
}

func corrupt(path, format string, args ...any) error {
	return fault.New(fault.DecodingFailure, "%s: %s; %s", path, fmt.Sprintf(format, args...), agentsRemedy)
}

// checkVersion comes before all other fields: those of another version may be of other types.
func checkVersion(path string, read *jsontext.Reader, document jsontext.Value) error {
	version := read.Int(document.Get("version"), "version", 0, 1<<31)
	if read.Err != nil || version == Version {
		return read.Err
	}
	return fault.New(fault.DecodingFailure, "%s: version %d, and this podcidr-ipam understands %d; install the plugin and the agent of one release", path, version, Version)
}

// names lists a directory without what is nobody's data.
func names(path string) ([]string, error) {
	found, err := entries(path)
	names := make([]string, len(found))
	for i, one := range found {
		names[i] = one.name
	}
	return names, err
}

// halfWritten ends the name of a file that is not complete.
const halfWritten = ".new"

// nobodys tells what is no data. A KEY has colons and may end as its interface does, which may be "eth0.new".
func nobodys(name string) bool {
	return name[0] == '.' || strings.HasSuffix(name, halfWritten) && !strings.Contains(name, ":")
}
