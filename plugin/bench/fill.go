package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"podcidr.io/plugin/internal/state"
)

// The same space for both: 16,384 addresses; podcidr has it in blocks of the default length.
const (
	space       = "10.64.0.0/18"
	blockLength = 28
)

// podcidr has a state directory for each number held, prepared as an agent does and filled by the plugin's own code.
func podcidr(path, root string) *program {
	dirOf := func(held int) string { return filepath.Join(root, strconv.Itoa(held)) }
	return &program{
		name: "podcidr-ipam", path: path,
		config: func(held int) string {
			return fmt.Sprintf(`{"type":"podcidr-ipam","stateDir":%q,"waitSeconds":0}`, dirOf(held))
		},
		fill: func(held int) error { return fillPodcidr(dirOf(held), held) },
	}
}

func fillPodcidr(dir string, held int) error {
	for _, name := range []string{"", "namespaces", "attachments", "addresses", "pending"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	blocks := ""
	for i := 0; i < held+256; i += 1 << (32 - blockLength) { // as many as such a node would have
		blocks += fmt.Sprintf(",%q", fmt.Sprint(nth(i), "/", blockLength))
	}
	for name, text := range map[string]string{
		"allocation.json": `{"version":1,"stateID":"bench","node":"n1","uid":"u","epoch":7,"automatic":["default"],"pools":{"default":{"cooldownSeconds":0,` +
			`"ipv4":[{"gateway":"10.64.0.1","prefixLength":14,"reserved":["10.64.0.0","10.64.0.1"],"blocks":[` + blocks[1:] + `]}]}}}`,
		"namespaces/team": `{"version":1,"stateID":"bench"}`,
		"ready":           `{"version":1,"stateID":"bench"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return assign(state.Dir(dir), held)
}

func assign(dir state.Dir, held int) error {
	view := dir.NewView("")
	if err := view.Refresh(); err != nil {
		return err
	}
	index, err := dir.BuildIndex("bench", view.Allocation.Blocks, nil)
	if err != nil {
		return err
	}
	defer index.Close()
	for i := range held {
		address := nth(i + 2)
		record := &state.Attachment{
			StateID: "bench", Key: state.Key{Network: "podnet", Container: "held" + strconv.Itoa(i), Interface: "eth0"}, Netns: "/nonexistent/netns",
			IPs: []state.Held{{Address: address, Pool: "default", Block: netip.PrefixFrom(address, blockLength).Masked()}},
		}
		if _, err := dir.Assign(record, index); err != nil {
			return err
		}
	}
	return nil
}

func nth(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}) }

// peer has what host-local leaves after so many ADDs: a file for each address, and the last one.
func peer(path, root string) *program {
	dirOf := func(held int) string { return filepath.Join(root, strconv.Itoa(held)) }
	return &program{
		name: "host-local", path: path,
		config: func(held int) string {
			return fmt.Sprintf(`{"type":"host-local","ranges":[[{"subnet":%q}]],"dataDir":%q}`, space, dirOf(held))
		},
		fill: func(held int) error { return fillPeer(filepath.Join(dirOf(held), "podnet"), held) },
	}
}

func fillPeer(dir string, held int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i := range held {
		if err := os.WriteFile(filepath.Join(dir, nth(i+2).String()), []byte("held"+strconv.Itoa(i)+"\r\neth0"), 0o600); err != nil {
			return err
		}
	}
	if held == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "last_reserved_ip.0"), []byte(nth(held+1).String()), 0o600)
}
