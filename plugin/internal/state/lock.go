package state

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/fault"
)

// lockPatience bounds the wait for others, who hold the lock for well under a millisecond each.
const lockPatience = 5 * time.Second

// ErrNoDir says that the state directory is not there, or not made by an agent.
var ErrNoDir = errors.New("no state directory")

// lockTries bounds how often a lock is opened that somebody removed before it was got: each time another would have got another file.
const lockTries = 256

// Lock takes the directory's lock and returns what gives it back.
func (d Dir) Lock() (unlock func(), err error) {
	path, deadline := d.path("lock"), time.Now().Add(lockPatience)
	for range lockTries {
		fd, err := d.openLock(path)
		if err != nil {
			return nil, err
		}
		stands, err := lockFile(fd, path, time.Until(deadline))
		if stands {
			return func() { unix.Close(fd) }, nil
		}
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
	}
	return nil, fault.New(fault.TryAgainLater, "%s was removed %d times while this call waited for it; look what removes files there", path, lockTries)
}

// lockFile says whether the file, once locked, is still the one that others find.
func lockFile(fd int, path string, patience time.Duration) (stands bool, err error) {
	var own, there unix.Stat_t
	if err := unix.Fstat(fd, &own); err != nil {
		return false, fault.IO("opening", path, err)
	}
	if own.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, fault.IO("opening", path, fault.ErrNotRegular)
	}
	if err := flock(fd, patience); err == unix.EWOULDBLOCK {
		return false, fault.New(fault.TryAgainLater, "%s is held by another process for %v: %s; look what keeps it", path, lockPatience, holder(fd))
	} else if err != nil {
		return false, fault.IO("locking", path, err)
	}
	return unix.Lstat(path, &there) == nil && there.Ino == own.Ino && there.Dev == own.Dev, nil
}

// openLock creates a missing lock, but only where an agent made the directories: not in some other folder that a config names.
func (d Dir) openLock(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if missing(err) {
		var stat unix.Stat_t
		if unix.Stat(d.path("attachments"), &stat) != nil {
			return -1, ErrNoDir
		}
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	}
	if err != nil {
		return -1, fault.IO("opening", path, err)
	}
	return fd, nil
}

// flock waits in the kernel, which serves in order of arrival; a thread of its own lets the caller give up.
func flock(fd int, patience time.Duration) error {
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := unix.Flock(fd, unix.LOCK_EX)
		for err == unix.EINTR {
			err = unix.Flock(fd, unix.LOCK_EX)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return unix.EWOULDBLOCK
	}
}

// holder finds the lock's process in /proc/locks, whose lines go "1: FLOCK  ADVISORY  WRITE 4711 00:1a:42 0 EOF".
func holder(fd int) string {
	var stat unix.Stat_t
	data, err := readProc("/proc/locks")
	if err != nil || unix.Fstat(fd, &stat) != nil {
		return "its process is unknown"
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	for line := range strings.Lines(data) {
		field := strings.Fields(line)
		if len(field) >= 6 && field[1] == "FLOCK" && field[5] == file {
			return "process " + field[4] + " " + command(field[4])
		}
	}
	return "its process is unknown"
}

func command(pid string) string {
	name, err := readProc("/proc/" + pid + "/comm")
	if err != nil {
		return "(in another PID namespace or gone)"
	}
	return strconv.Quote(strings.TrimSpace(name))
}

// readProc reads a file whose size is not known before.
func readProc(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var text strings.Builder
	buffer := make([]byte, 16<<10)
	for {
		n, err := unix.Read(fd, buffer)
		if err != nil || n == 0 {
			return text.String(), err
		}
		text.Write(buffer[:n])
	}
}
