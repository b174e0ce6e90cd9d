"""One agent per NodeCIDR on a machine, whatever its state directory: two would report half of the use each."""

import errno
import socket


class Sole:
    """Holds an abstract unix socket by the NodeCIDR's uid: it needs no directory in common, and ends with the process."""

    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}

    def claim(self, uid: str) -> bool:
        """Whether we are the one agent of this NodeCIDR here (in this network namespace: agents run in the host's)."""
        if uid not in self._held:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                one.bind(f"\0podcidr-agent-{uid}")
            except OSError as error:
                one.close()
                if error.errno == errno.EADDRINUSE:
                    return False
                raise
            self._held[uid] = one
        return True

    def close(self) -> None:
        """Let another one begin."""
        for one in self._held.values():
            one.close()
        self._held.clear()
