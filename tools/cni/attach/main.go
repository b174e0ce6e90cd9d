// attach does to a network namespace what a container runtime does: it runs a network's plugins through libcni, with a
// cache of results of its own. cnitool, which is made for that, keeps its cache in the machine's.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func main() {
	conflist := flag.String("conflist", "", "the network's configuration, a file")
	cache := flag.String("cache", "", "directory of libcni's cache")
	plugins := flag.String("plugins", "", "directories of plugins, as in PATH")
	runtime := libcni.RuntimeConf{CapabilityArgs: map[string]any{}}
	flag.StringVar(&runtime.ContainerID, "container", "", "CNI_CONTAINERID")
	flag.StringVar(&runtime.NetNS, "netns", "", "CNI_NETNS")
	flag.StringVar(&runtime.IfName, "interface", "eth0", "CNI_IFNAME")
	flag.Func("arg", "KEY=VALUE for CNI_ARGS, any number", func(text string) error {
		key, value, found := strings.Cut(text, "=")
		if !found {
			return fmt.Errorf("%q is not KEY=VALUE", text)
		}
		runtime.Args = append(runtime.Args, [2]string{key, value})
		return nil
	})
	flag.Parse()
	answer, err := run(flag.Arg(0), *conflist, libcni.NewCNIConfigWithCacheDir(filepath.SplitList(*plugins), *cache, nil), &runtime)
	if err != nil {
		fail(err)
	}
	if answer != nil {
		_ = json.NewEncoder(os.Stdout).Encode(answer)
	}
}

func run(verb, conflist string, cni *libcni.CNIConfig, runtime *libcni.RuntimeConf) (types.Result, error) {
	network, err := libcni.ConfListFromFile(conflist)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	switch verb {
	case "add":
		return cni.AddNetworkList(ctx, network, runtime)
	case "check":
		return nil, cni.CheckNetworkList(ctx, network, runtime)
	case "del":
		return nil, cni.DelNetworkList(ctx, network, runtime)
	case "gc":
		return nil, cni.GCNetworkList(ctx, network, &libcni.GCArgs{
			ValidAttachments: []types.GCAttachment{{ContainerID: runtime.ContainerID, IfName: runtime.IfName}},
		})
	case "status":
		return nil, cni.GetStatusNetworkList(ctx, network)
	}
	return nil, fmt.Errorf("%q is none of add, check, del, gc, status", verb)
}

// fail prints the error as a plugin does: JSON with a code.
func fail(err error) {
	told, ok := err.(*types.Error)
	if !ok {
		told = types.NewError(types.ErrInternal, err.Error(), "")
	}
	_ = json.NewEncoder(os.Stdout).Encode(told)
	os.Exit(1)
}
