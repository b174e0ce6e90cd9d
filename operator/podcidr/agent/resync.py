"""Finds what no watch tells: after a restore of etcd from a backup, what is gone and what is as it was before."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from podcidr.agent.observed import PodSeen
from podcidr.agent.reclaim import is_gone
from podcidr.agent.records import Attachment
from podcidr.agent.waiting import change_or_timeout
from podcidr.kube.clock import Clock
from podcidr.kube.errors import KubeError
from podcidr.kube.reflector import Reflector

RETRY_SECONDS = 30.0
SLOW = 12  # of so many rounds one has the namespaces too (there may be 1,000 of them), and pods without a claim to an address
CONFIRM_PODS = 8  # a round: one that is gone is enough to have all listed

log = structlog.get_logger("podcidr.agent.resync")


class Resync:
    """Compares what is held with what the server has, now and then, and at once where versions began anew."""

    def __init__(
        self,
        pods: Reflector[PodSeen],
        often: Iterable[Reflector[Any]],
        seldom: Iterable[Reflector[Any]],
        *,
        clock: Clock,
        resync_seconds: float,
        attachments: Callable[[], Iterable[Attachment]],
    ) -> None:
        self._pods = pods
        self._often = (*often, pods)
        self._all: tuple[Reflector[Any], ...] = (*self._often, *seldom)
        self._clock = clock
        self._resync_seconds = resync_seconds
        self._attachments = attachments
        self._begun_anew = asyncio.Event()
        self._due: set[Reflector[Any]] = set()

    def begin_anew(self) -> None:
        """One kind's versions did: so did the others'."""
        self._due |= {reflector for reflector in self._all if not reflector.regressed}
        self._begun_anew.set()

    async def run(self) -> None:
        """Compare. Ends by cancellation only."""
        for number in itertools.count(1):
            pause_seconds = RETRY_SECONDS if self._due else self._resync_seconds
            await change_or_timeout(self._begun_anew, self._clock, pause_seconds * (0.75 + 0.5 * self._clock.random()))
            self._due |= {*(self._often if number % SLOW else self._all)}
            for reflector in self._all:
                if reflector in self._due:
                    await self._compare(reflector, number)
            if not self._due:
                self._begun_anew.clear()
                for reflector in self._all:
                    reflector.regressed = False

    async def _compare(self, reflector: Reflector[Any], number: int) -> None:
        self._due.discard(reflector)
        try:
            if not reflector.synced.is_set():
                return  # its first list is still to come
            if reflector is not self._pods:
                await reflector.compare()
            elif any(other.regressed for other in self._all):
                await self._pods.relist()
            else:
                await self._pods.confirm(self._pods_to_confirm(number))
        except KubeError as error:
            self._due.add(reflector)
            log.warning("could not be compared with the server's, will be tried again", error=str(error))

    def _pods_to_confirm(self, number: int) -> list[str]:
        """Some of those that would cost something if they were gone, each in its turn. The metadata alone of all pods would cost 15 MiB."""
        attached: dict[str, bool] = {}
        for one in self._attachments():
            key = f"{one.pod.namespace}/{one.pod.name}"
            attached[key] = attached.get(key, False) or is_gone(one.netns)
        costly = [key for key, pod in sorted(self._pods.items.items()) if attached.get(key, _asks(pod, slow=number % SLOW == 0))]
        start = number * CONFIRM_PODS % max(len(costly), 1)
        return (costly[start:] + costly[:start])[:CONFIRM_PODS]


def _asks(pod: PodSeen, *, slow: bool) -> bool:
    """Whether a pod without an attachment counts as demand; one on the host's network, against what the node can still run."""
    return slow if pod.host_network else pod.live
