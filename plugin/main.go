// Command podcidr-ipam is a CNI IPAM plugin: it assigns addresses out of the blocks that podcidr gave to this node.
// It reads and writes local files only (docs/state-dir.md), so pods start and stop while nothing else of podcidr runs.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"podcidr.io/plugin/internal/ipam"
)

// release is set by the linker: -X main.release=1.2.3.
var release = "dev"

func main() {
	confVersion := ""
	verb := func(run func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			confVersion, _ = (&version.ConfigDecoder{}).Decode(args.StdinData)
			return run(args)
		}
	}
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add:    verb(ipam.Add),
		Del:    verb(ipam.Del),
		Check:  verb(ipam.Check),
		Status: verb(ipam.Status),
		GC:     verb(ipam.GC),
	}, version.All, "podcidr-ipam "+release+": CNI IPAM plugin of podcidr")
	if err != nil {
		printError(confVersion, err)
		os.Exit(1)
	}
}

// printError adds cniVersion, which the specification asks for and types.Error does not print.
func printError(confVersion string, err *types.Error) {
	if confVersion == "" {
		confVersion = version.Current()
	}
	body := struct {
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{confVersion, err}
	if encodeErr := json.NewEncoder(os.Stdout).Encode(body); encodeErr != nil {
		log.Print("writing the error to stdout: ", encodeErr)
	}
}
