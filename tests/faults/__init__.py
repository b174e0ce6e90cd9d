"""Real processes under fire: kill -9, SIGSTOP, a restored etcd, a full disk. `python -m tests.faults --help`."""
