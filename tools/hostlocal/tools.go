//go:build tools

// Package hostlocal pins the IPAM plugin that the benchmark of ours runs beside it.
package hostlocal

import (
	_ "github.com/containernetworking/plugins/plugins/ipam/host-local"
)
