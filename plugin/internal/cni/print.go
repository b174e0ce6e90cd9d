package cni

import (
	"errors"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
)

const indent = "    "

// Print writes to stdout, all of it: a runtime's pipe may take less at a time.
func Print(data []byte) error { return write(1, append(data, '\n')) }

// Note writes a line for the runtime's log.
func Note(line string) { _ = write(2, []byte(line+"\n")) }

func write(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// VersionText is the answer to VERSION, with the version that was asked for.
func VersionText(asked string) []byte {
	w := &jsontext.Writer{}
	w.Open('{')
	w.Member("cniVersion", asked)
	w.Name("supportedVersions")
	w.Strings(Versions)
	w.Close('}')
	return w.Bytes()
}

// ErrorText is an error as the specification wants it, which is with cniVersion.
func ErrorText(version string, err error) []byte {
	code := fault.Internal
	var known *fault.Error
	if errors.As(err, &known) {
		code = known.Code
	}
	if version == "" {
		version = Current
	}
	w := &jsontext.Writer{Indent: indent}
	w.Open('{')
	w.Member("cniVersion", version)
	w.Name("code")
	w.Int(int64(code))
	w.Member("msg", err.Error())
	w.Close('}')
	return w.Bytes()
}
