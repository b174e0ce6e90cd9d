// Package fault makes CNI errors: a code of the specification, and a message with field, value and remedy.
package fault

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Codes of the specification, and from 100 on the plugin's own.
const (
	IncompatibleVersion uint = 1
	UnsupportedField    uint = 2
	UnknownContainer    uint = 3
	InvalidEnvironment  uint = 4
	IOFailure           uint = 5
	DecodingFailure     uint = 6
	InvalidConfig       uint = 7
	InvalidNetns        uint = 8
	TryAgainLater       uint = 11
	NotAvailable        uint = 50
	CheckFailed         uint = 100 // a CHECK found the attachment damaged
	Internal            uint = 999
)

// Error is what the plugin prints when it fails.
type Error struct {
	Code uint
	Msg  string
}

func (e *Error) Error() string { return e.Msg }

// New formats an error with the given code.
func New(code uint, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// ErrNotRegular is of a file that is a directory, a FIFO or a device.
var ErrNotRegular = errors.New("not a regular file")

// IO says which step on which file failed, and what to do about it.
func IO(step, path string, err error) *Error {
	return New(IOFailure, "%s %s: %v; %s", step, path, err, remedy(err))
}

func remedy(err error) string {
	switch err {
	case unix.EACCES, unix.EPERM:
		return "the runtime must call the plugin as the owner of the state directory, which is root"
	case unix.EMFILE, unix.ENFILE:
		return "too many files are open: raise the limit (ulimit -n) of the runtime that calls the plugin"
	case ErrNotRegular, unix.EISDIR, unix.ELOOP, unix.ENXIO:
		return "something else is in the place of a file: remove it, it is not podcidr's"
	}
	return "check that the state directory's file system is writable and not full"
}
