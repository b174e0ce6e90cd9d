// Command bench measures podcidr-ipam beside host-local and an empty program, as whole processes, interleaved in one run.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

var levels = []int{0, 1000, 4000}

const (
	parallelHeld = 1000
	workers      = 8
	batch        = 80 // ADDs between two clean-ups, so that the number held stays about the same
	batches      = 5
)

func main() {
	ours := flag.String("plugin", "", "podcidr-ipam")
	hostLocal := flag.String("host-local", "", "host-local of containernetworking/plugins")
	empty := flag.String("empty", "", "the empty program")
	runs := flag.Int("runs", 200, "calls of each kind")
	out := flag.String("out", "", "file for the report")
	flag.Parse()
	if err := measure(*ours, *hostLocal, *empty, *runs, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ours, hostLocal, empty string, runs int, out string) error {
	root, err := os.MkdirTemp(memoryDir(), "podcidr-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	programs := []*program{
		{name: "empty", path: empty, config: func(int) string { return `{"type":"empty"}` }},
		podcidr(ours, filepath.Join(root, "podcidr")),
		peer(hostLocal, filepath.Join(root, "host-local")),
	}
	for _, p := range programs {
		for _, held := range levels {
			if p.fill == nil {
				continue
			}
			if err := p.fill(held); err != nil {
				return fmt.Errorf("preparing %s with %d: %w", p.name, held, err)
			}
		}
	}
	measured := series{}
	for run := range runs {
		for _, held := range levels {
			for i := range programs { // who comes first changes, lest one always finds the caches warm
				if err := measured.life(programs[(i+run)%len(programs)], held, run); err != nil {
					return err
				}
			}
		}
	}
	rates, err := throughput(programs)
	if err != nil {
		return err
	}
	locked, err := lockHeld(programs[1], filepath.Join(root, "podcidr"), levels[len(levels)-1], runs)
	if err != nil {
		return err
	}
	report := newReport(measured, rates, locked, runs, ours, hostLocal, root)
	fmt.Print(report)
	if out == "" {
		return nil
	}
	return os.WriteFile(out, []byte(report), 0o644)
}

// memoryDir: state directories are on tmpfs, as /run is; host-local's too, which favours it.
func memoryDir() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// throughput gives ADDs a second of so many workers at a time.
func throughput(programs []*program) (map[string]float64, error) {
	spent := map[string]time.Duration{}
	for round := range batches {
		for _, p := range programs {
			took, err := parallel(p, "ADD", round)
			if err != nil {
				return nil, err
			}
			spent[p.name] += took
			if p.fill != nil {
				if _, err := parallel(p, "DEL", round); err != nil {
					return nil, err
				}
			}
		}
	}
	rates := map[string]float64{}
	for name, took := range spent {
		rates[name] = batches * batch / took.Seconds()
	}
	return rates, nil
}

func parallel(p *program, verb string, round int) (time.Duration, error) {
	var next atomic.Int64
	var group sync.WaitGroup
	var failed atomic.Pointer[error]
	start := time.Now()
	for range workers {
		group.Go(func() {
			for i := next.Add(1); i <= batch; i = next.Add(1) {
				if _, _, err := p.call(verb, fmt.Sprintf("par%d-%d", round, i), parallelHeld, ""); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	group.Wait()
	took := time.Since(start)
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return took, nil
}
