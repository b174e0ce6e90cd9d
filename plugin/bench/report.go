package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"podcidr.io/plugin/internal/machine"
)

// newReport writes the tables and holds the figures against the bars.
func newReport(s series, rates map[string]float64, locked []time.Duration, runs int, ours, hostLocal, root string) string {
	w := &strings.Builder{}
	fmt.Fprintf(w, "# plugin\n%s, %s\n\n", time.Now().UTC().Format("2006-01-02"), machine.Describe())
	fmt.Fprintf(w, "`make bench-plugin`: whole processes from fork to exit, %d calls of each kind, programs and levels interleaved in one run; state directories of both plugins on %s (%s).\n",
		runs, fileSystem(root), versionOf(hostLocal))
	fmt.Fprintf(w, "empty: a static Go program that reads JSON and prints it.\n\n")
	writeTimes(w, s)
	fmt.Fprintf(w, "\n%d ADDs at a time with %d held, per second: empty %.0f, podcidr-ipam %.0f, host-local %.0f (%d ADDs each).\n\n",
		workers, parallelHeld, rates["empty"], rates["podcidr-ipam"], rates["host-local"], batch*batches)
	fmt.Fprintf(w, "The lock is held for %d (%d) µs by an ADD at %d held, p50 (p95) of %d; who waits looks without it.\n\n",
		locked[len(locked)/2].Microseconds(), locked[len(locked)*95/100].Microseconds(), levels[len(levels)-1], len(locked))
	writeBars(w, s, rates, ours)
	return w.String()
}

func writeTimes(w *strings.Builder, s series) {
	fmt.Fprintf(w, "| p50 (p95), ms | held | empty | podcidr-ipam | host-local |\n|---|---|---|---|---|\n")
	for _, verb := range []string{"ADD", "DEL", "CHECK", "STATUS"} {
		for _, held := range levels {
			fmt.Fprintf(w, "| %s | %d | %s | %s | %s |\n", verb, held,
				cell(s, key{"empty", "ADD", held}), cell(s, key{"podcidr-ipam", verb, held}), cell(s, key{"host-local", verb, held}))
		}
	}
}

func cell(s series, k key) string {
	return fmt.Sprintf("%.2f (%.2f)", milliseconds(s.p50(k)), milliseconds(s.percentile(k, 95)))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func writeBars(w *strings.Builder, s series, rates map[string]float64, ours string) {
	add := func(name string, held int) float64 { return milliseconds(s.p50(key{name, "ADD", held})) }
	size := 0.0
	if info, err := os.Stat(ours); err == nil {
		size = float64(info.Size()) / (1 << 20)
	}
	fmt.Fprintf(w, "| | measured | bar | |\n|---|---|---|---|\n")
	for _, bar := range []struct {
		what            string
		measured, bound float64
		atLeast         bool
	}{
		{"ADD at 0 held ÷ the empty program", add("podcidr-ipam", 0) / add("empty", 0), 1.35, false},
		{"ADD at 4,000 held ÷ ADD at 0", add("podcidr-ipam", 4000) / add("podcidr-ipam", 0), 1.15, false},
		{"host-local ÷ ours, ADD at 1,000", add("host-local", 1000) / add("podcidr-ipam", 1000), 4, true},
		{"host-local ÷ ours, ADD at 4,000", add("host-local", 4000) / add("podcidr-ipam", 4000), 12, true},
		{"ours ÷ host-local, ADDs a second, 8 at a time at 1,000", rates["podcidr-ipam"] / rates["host-local"], 8, true},
		{"binary, stripped, MiB", size, 4, false},
		{"memory of a call, MiB, highest of all", float64(s.maxRSS("podcidr-ipam")) / 1024, 12, false},
	} {
		sign, verdict := "≤", "missed"
		if bar.atLeast {
			sign = "≥"
		}
		if bar.measured <= bar.bound != bar.atLeast || bar.measured == bar.bound {
			verdict = "met"
		}
		fmt.Fprintf(w, "| %s | %.2f | %s %g | %s |\n", bar.what, bar.measured, sign, bar.bound, verdict)
	}
}

func versionOf(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "host-local of unknown version"
	}
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == "github.com/containernetworking/plugins" {
			return "host-local " + module.Version
		}
	}
	return "host-local " + info.Main.Version
}

func fileSystem(path string) string {
	const tmpfsMagic = 0x01021994
	var stat syscall.Statfs_t
	if syscall.Statfs(path, &stat) == nil && stat.Type == tmpfsMagic {
		return "tmpfs"
	}
	return "disk"
}
