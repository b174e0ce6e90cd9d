// Command empty is what any CNI plugin written in Go costs at least: it starts, reads JSON and prints JSON.
package main

import (
	"encoding/json"
	"io"
	"os"
)

func main() {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		os.Exit(1)
	}
	var document any
	if err := json.Unmarshal(data, &document); err != nil {
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(document); err != nil {
		os.Exit(1)
	}
}
