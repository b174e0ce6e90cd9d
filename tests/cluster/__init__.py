"""A real control plane and a harness that plays kubelet and container runtime, shared by tests, demo and bench."""
