// Package fault makes CNI errors: a code of the specification, and a message with field, value and remedy.
package fault

import (
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
)

// CheckFailed is the code of a CHECK that found the attachment damaged; codes from 100 on are the plugin's own.
const CheckFailed uint = 100

// New formats an error with the given code.
func New(code uint, format string, args ...any) *types.Error {
	return types.NewError(code, fmt.Sprintf(format, args...), "")
}

// IO says which step on which file failed; a full or read-only file system is the usual reason.
func IO(step, path string, err error) *types.Error {
	return New(types.ErrIOFailure, "%s %s: %v; check that the state directory's file system is writable and not full", step, path, err)
}
