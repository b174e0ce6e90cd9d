//go:build tools

// Package tools pins the CNI reference plugins that attach pods in the network tests and the demo.
package tools

import (
	_ "github.com/containernetworking/plugins/plugins/main/bridge"
	_ "github.com/containernetworking/plugins/plugins/main/ptp"
)
