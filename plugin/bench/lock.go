package main

import (
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// lockHeld gives for how long each of so many ADDs kept the state directory's lock, ascending. A thread of ours asks for the lock without a pause
// and sees it go and come back, for whole processes and without a change to them.
func lockHeld(p *program, root string, held, runs int) ([]time.Duration, error) {
	fd, err := unix.Open(filepath.Join(root, strconv.Itoa(held), "lock"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var found []time.Duration
	for run := range runs {
		container := "lock" + strconv.Itoa(run)
		var ended atomic.Bool
		seen := make(chan time.Duration, 1)
		go func() { seen <- watchLock(fd, &ended) }()
		if _, _, err := p.call("ADD", container, held, ""); err != nil {
			return nil, err
		}
		ended.Store(true)
		if took := <-seen; took > 0 { // else it was taken and given back between two looks of ours
			found = append(found, took)
		}
		if _, _, err := p.call("DEL", container, held, ""); err != nil {
			return nil, err
		}
	}
	slices.Sort(found)
	return found, nil
}

// watchLock gives the longest time for which it was not to be had.
func watchLock(fd int, ended *atomic.Bool) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var longest time.Duration
	since := time.Now()
	for !ended.Load() {
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
			longest = max(longest, time.Since(since))
			continue
		}
		_ = unix.Flock(fd, unix.LOCK_UN)
		for since = time.Now(); time.Since(since) < 2*time.Microsecond; { // mostly free, lest ADDs wait for us
		}
		since = time.Now()
	}
	return longest
}
