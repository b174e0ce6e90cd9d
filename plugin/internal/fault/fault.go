// Package fault makes CNI errors: a code of the specification, and a message with field, value and remedy.
package fault

import "fmt"

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

// IO says which step on which file failed; a full or read-only file system is the usual reason.
func IO(step, path string, err error) *Error {
	return New(IOFailure, "%s %s: %v; check that the state directory's file system is writable and not full", step, path, err)
}
