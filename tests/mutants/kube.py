"""Bugs of the client, the caches and the Lease."""

from tests.mutants.mutant import Mutant, unit

KUBE = "operator/podcidr/kube"
CLIENT = (
    Mutant(
        "write-after-losing-the-lease",
        "the client asks nobody whether this process may still write",
        f"{KUBE}/client.py",
        """        if not fenced or self._fence is None:
""",
        """        if True:
""",
        (unit("kube/test_client.py"),),
    ),
    Mutant(
        "lead-for-the-whole-lease",
        "a leader writes until the moment when another may begin",
        f"{KUBE}/lease.py",
        """        self._writable_seconds = lease_seconds * 2 / 3
""",
        """        self._writable_seconds = lease_seconds
""",
        (unit("kube/test_lease.py"),),
    ),
    Mutant(
        "renewed-when-answered",
        "a leader counts its time from the answer, others from the request",
        f"{KUBE}/lease.py",
        """                return
            self._valid_until = started + self._writable_seconds
""",
        """                return
            self._valid_until = self._clock.monotonic() + self._writable_seconds
""",
        (unit("kube/test_lease.py"),),
    ),
    Mutant(
        "go-back-a-version",
        "a late answer puts an older object into the cache",
        f"{KUBE}/reflector.py",
        """        if version <= self._known(name):
            return
""",
        "",
        (unit("kube/test_reflector.py"),),
    ),
    Mutant(
        "vanished-stays",
        "what vanished during a re-list stays in the cache",
        f"{KUBE}/reflector.py",
        """        for name in [n for n, held in self._versions.items() if held <= version and n not in fresh]:
            self._remove(name, version)
""",
        "",
        (unit("kube/test_reflector.py"),),
    ),
    Mutant(
        "believe-the-lost-history",
        "a list that contradicts what is held is taken for an old one: the restore is not seen",
        f"{KUBE}/reflector.py",
        " or self._contradicts(fresh, version)",
        "",
        (unit("kube/test_reflector.py"),),
    ),
    Mutant(
        "listen-to-a-silent-watch",
        "a watch that stands above a restored etcd's versions goes on",
        f"{KUBE}/reflector.py",
        "        self._begun_anew.set()\n",
        "",
        (unit("kube/test_reflector.py"),),
    ),
    Mutant(
        "repeat-a-write-blindly",
        "a write without an answer is sent again",
        f"{KUBE}/client.py",
        """        deadline = self._clock.monotonic() + timeout_seconds
        return await self._send(verb, resource, method, path, body.encode()""",
        """        deadline = self._clock.monotonic() + timeout_seconds
        try:
            return await self._send(verb, resource, method, path, body.encode(), content_type, deadline, fenced=True)
        except OutcomeUnknown:
            pass
        return await self._send(verb, resource, method, path, body.encode()""",
        (unit("kube/test_client.py"),),
    ),
)
