package config

import (
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"podcidr.io/plugin/internal/fault"
	"podcidr.io/plugin/internal/state"
)

// ParseArgs reads CNI_ARGS; unknown keys are the runtime's business.
func ParseArgs(text string) (state.Pod, error) {
	var pod state.Pod
	for pair := range strings.SplitSeq(text, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return pod, fault.New(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: %q is not KEY=VALUE", pair)
		}
		switch key {
		case "K8S_POD_NAMESPACE":
			pod.Namespace = value
		case "K8S_POD_NAME":
			pod.Name = value
		case "K8S_POD_UID":
			pod.UID = value
		case "IP":
			if value != "" {
				return pod, unsupported("CNI_ARGS: IP", value)
			}
		}
	}
	if !fileName(pod.Namespace) {
		return pod, fault.New(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: K8S_POD_NAMESPACE=%q is no name of a namespace", pod.Namespace)
	}
	return pod, nil
}

// fileName keeps a namespace inside the directory namespaces/.
func fileName(name string) bool {
	return len(name) < 254 && !strings.HasPrefix(name, ".") && !strings.ContainsAny(name, "/\x00")
}
