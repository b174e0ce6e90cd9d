package config

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/jsontext"
)

func (c *Config) setResolvConf(value jsontext.Value) error {
	read := &jsontext.Reader{}
	path := read.String(value, "")
	if read.Err != nil {
		return c.invalid("ipam.resolvConf", value, "not the path of a file in the format of resolv.conf(5)")
	}
	if path == "" {
		return nil
	}
	data, err := readFile(path)
	if err != nil {
		return c.invalid("ipam.resolvConf", value, err.Error()+"; give the path of a file that exists on this node")
	}
	c.DNS = parseResolvConf(string(data))
	return nil
}

// maxResolvConf is far above what a resolver reads.
const maxResolvConf = 1 << 20

// readFile reads to the end, for files of /proc and FUSE are of size 0 to whoever asks before.
func readFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fault.ErrNotRegular
	}
	var data []byte
	buffer := make([]byte, 4<<10)
	for len(data) <= maxResolvConf {
		n, err := unix.Read(fd, buffer)
		if err != nil || n == 0 {
			return data, err
		}
		data = append(data, buffer[:n]...)
	}
	return nil, errTooLarge
}

var errTooLarge = errors.New("larger than 1 MiB")

// parseResolvConf follows resolv.conf(5): of domain and search the last line counts, the others add up.
func parseResolvConf(text string) cni.DNS {
	var dns cni.DNS
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, fields[1])
		case "domain":
			dns.Domain = fields[1]
		case "search":
			dns.Search = fields[1:]
		case "options":
			dns.Options = append(dns.Options, fields[1:]...)
		}
	}
	return dns
}
