package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// program is one of those compared, with a directory for each number of addresses held.
type program struct {
	name, path string
	config     func(held int) string // the ipam object
	fill       func(held int) error
}

// call runs it once, from fork to the end, as a runtime does: environment, configuration on stdin, result on stdout.
func (p *program) call(verb, container string, held int, previous string) (sample, string, error) {
	conf := `{"cniVersion":"1.1.0","name":"podnet","type":"ptp","mtu":1500,"ipam":` + p.config(held)
	if previous != "" {
		conf += `,"prevResult":` + previous
	}
	in, err := pipeWith(conf + "}")
	if err != nil {
		return sample{}, "", err
	}
	defer in.Close()
	out, outEnd, err := os.Pipe()
	if err != nil {
		return sample{}, "", err
	}
	defer out.Close()
	environment := []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + container, "CNI_IFNAME=eth0", "CNI_NETNS=/nonexistent/netns", "CNI_PATH=/opt/cni/bin",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=team;K8S_POD_NAME=pod;K8S_POD_UID=uid"}
	start := time.Now()
	process, err := os.StartProcess(p.path, []string{p.path}, &os.ProcAttr{Env: environment, Files: []*os.File{in, outEnd, os.Stderr}})
	outEnd.Close()
	if err != nil {
		return sample{}, "", err
	}
	state, err := process.Wait()
	took := time.Since(start)
	if err != nil {
		return sample{}, "", err
	}
	text, err := io.ReadAll(out)
	if err != nil {
		return sample{}, "", err
	}
	if !state.Success() {
		return sample{}, "", fmt.Errorf("%s %s at %d held: %v: %s", p.name, verb, held, state, text)
	}
	return sample{took, state.SysUsage().(*syscall.Rusage).Maxrss}, string(text), nil
}

// pipeWith gives the reading end of a pipe that holds the text already.
func pipeWith(text string) (*os.File, error) {
	in, inEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inEnd.Close()
	if _, err := inEnd.WriteString(text); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

type sample struct {
	took   time.Duration
	maxRSS int64 // KiB
}

// key says what a series of samples is of.
type key struct {
	program, verb string
	held          int
}

type series map[key][]sample

func (s series) percentile(k key, percent int) time.Duration {
	samples := slices.Clone(s[k])
	slices.SortFunc(samples, func(a, b sample) int { return int(a.took - b.took) })
	return samples[min(len(samples)-1, len(samples)*percent/100)].took
}

func (s series) p50(k key) time.Duration { return s.percentile(k, 50) }

func (s series) maxRSS(program string) int64 {
	var highest int64
	for k, samples := range s {
		for _, one := range samples {
			if k.program == program {
				highest = max(highest, one.maxRSS)
			}
		}
	}
	return highest
}

// life runs one container's calls at one number of held addresses, which is the same afterwards.
func (s series) life(p *program, held, run int) error {
	container := "run" + strconv.Itoa(run)
	previous := ""
	for _, verb := range []string{"ADD", "CHECK", "DEL", "STATUS"} {
		if p.fill == nil && verb != "ADD" { // of the empty program one verb is like the other
			continue
		}
		one, text, err := p.call(verb, container, held, previous)
		if err != nil {
			return err
		}
		s[key{p.name, verb, held}] = append(s[key{p.name, verb, held}], one)
		if verb == "ADD" {
			previous = text
		}
	}
	return nil
}
