//go:build tools

// Package tools pins the CNI reference plugins that the network tests and the benchmark run beside ours.
package tools

import (
	_ "github.com/containernetworking/plugins/plugins/ipam/host-local"
	_ "github.com/containernetworking/plugins/plugins/main/bridge"
	_ "github.com/containernetworking/plugins/plugins/main/ptp"
)
