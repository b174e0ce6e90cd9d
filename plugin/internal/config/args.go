package config

import (
	"strings"

	"podcidr.io/plugin/internal/fault"
)

// readArgs reads CNI_ARGS; unknown keys are the runtime's business.
func (c *Config) readArgs() error {
	for pair := range strings.SplitSeq(c.call.Args, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fault.New(fault.InvalidEnvironment, "CNI_ARGS: %q is not KEY=VALUE", pair)
		}
		switch key {
		case "K8S_POD_NAMESPACE":
			c.Pod.Namespace = value
		case "K8S_POD_NAME":
			c.Pod.Name = value
		case "K8S_POD_UID":
			c.Pod.UID = value
		case "IP":
			for text := range strings.SplitSeq(value, ",") {
				if value == "" { // as good as not given
					break
				}
				if err := c.want("CNI_ARGS: IP", text); err != nil {
					return err
				}
			}
		}
	}
	if !fileName(c.Pod.Namespace) {
		return fault.New(fault.InvalidEnvironment, "CNI_ARGS: K8S_POD_NAMESPACE=%q is no name of a namespace", c.Pod.Namespace)
	}
	return nil
}

// fileName keeps a namespace inside the directory namespaces/.
func fileName(name string) bool {
	return len(name) < 254 && !strings.HasPrefix(name, ".") && !strings.ContainsAny(name, "/\x00")
}
