"""Takes back what leaked: attachments without network namespace and pod, marks of ADDs that died."""

import fcntl
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog

from podcidr import files
from podcidr.agent import index, observed, records
from podcidr.agent.observation import Observation
from podcidr.agent.observed import PodSeen
from podcidr.agent.records import RECOVERED_NETWORK, Attachment, Directory, Mark, PodRef
from podcidr.agent.statedir import StateDir
from podcidr.core.prefix import address_text, parse_address
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import Clock
from podcidr.kube.errors import KubeError, NotFound
from podcidr.kube.resources import PODS

MARK_SECONDS = 30.0  # a dead ADD's mark of a living pod: the runtime's DEL or next ADD should have removed it
_TICK_SECONDS = (1.0, 15.0)
_DOUBTS = 256  # told of and remembered

log = structlog.get_logger("podcidr.agent.reclaim")


def is_gone(netns: str, on_doubt: Callable[[str, Exception], object] = lambda _netns, _error: None) -> bool:
    """Whether the network namespace is gone for certain. Where nothing can be said (its directory is not mounted here): no."""
    if not netns:
        return True  # recovered from the API server alone: the pod decides
    path = Path(netns)
    try:
        path.stat()
    except FileNotFoundError:
        return path.is_absolute() and path.parent.is_dir()
    except (OSError, ValueError) as error:
        on_doubt(netns, error)
    return False


def suspects(observation: Observation, pods: Mapping[str, PodSeen], gone: Callable[[str], bool] = is_gone) -> list[Attachment]:
    """Attachments that look leaked: no network namespace, and no pod that still needs them."""
    replaced = _replaced(observation)
    return [
        attachment
        for attachment in observation.attachments.values()
        if (attachment.key in replaced or not _needs(attachment, pods.get(_key(attachment.pod)))) and gone(attachment.netns)
    ]


def _replaced(observation: Observation) -> set[str]:
    """Keys of attachments whose pod has another sandbox by now, or one that waits for an address: kubelet stops the old one first."""
    places: dict[tuple[PodRef, str, str], list[tuple[float, str]]] = defaultdict(list)
    for attachment in observation.attachments.values():
        places[attachment.pod, attachment.network, attachment.interface].append((attachment.assigned_at, attachment.key))
    for mark in observation.marks:
        _, network, interface = mark.place
        places[mark.pod, network, interface].append((mark.since, mark.key))
    return {key for tries in places.values() for _, key in tries if key != max(tries)[1]}


def _needs(attachment: Attachment, pod: PodSeen | None) -> bool:
    """Whether the pod is there; what only the API server told of it, it can take back: the pod has other addresses now."""
    if pod is None or (attachment.pod.uid and pod.uid != attachment.pod.uid):
        return False
    if attachment.network != RECOVERED_NETWORK or not pod.ips:
        return True
    return any(address_text(*held.address) in _canonical(pod.ips) for held in attachment.ips)


def _canonical(ips: Iterable[str]) -> set[str]:
    return {address_text(*parse_address(ip)) for ip in ips}


def _key(ref: PodRef) -> str:
    return f"{ref.namespace}/{ref.name}"


class Reclaimer:
    """Looks now and then; what is a suspect twice, a grace apart, and by an uncached read, is released."""

    def __init__(
        self,
        client: KubeClient,
        state: StateDir,
        *,
        clock: Clock,
        grace_seconds: float,
        on_reclaim: Callable[[Attachment], None],
    ) -> None:
        self._client = client
        self._state = state
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._on_reclaim = on_reclaim
        self._since: dict[str, float] = {}
        self._in_doubt: set[str] = set()

    @property
    def tick_seconds(self) -> float:
        """How often to call `round`."""
        least, most = _TICK_SECONDS
        return min(most, max(least, self._grace_seconds / 2))

    async def round(self, observation: Observation, pods: Mapping[str, PodSeen], state_id: str) -> None:
        """One look."""
        now = self._clock.monotonic()
        found = {attachment.key: attachment for attachment in suspects(observation, pods, self._is_gone)}
        self._since = {key: self._since.get(key, now) for key in found}
        for key, since in list(self._since.items()):
            # Seen now for the first time is never enough, however short the grace.
            if since < now and now - since >= self._grace_seconds and await self._confirmed(found[key], observation):
                await self._release(found[key], state_id)
        for mark in observation.stale_marks:
            if _pod_is_gone(mark.pod, pods) or now - mark.since > MARK_SECONDS:
                await self._remove_mark(mark)

    def _is_gone(self, netns: str) -> bool:
        return is_gone(netns, self._doubt)

    def _doubt(self, netns: str, error: Exception) -> None:
        if netns not in self._in_doubt:
            self._in_doubt = {*list(self._in_doubt)[-_DOUBTS:], netns}
            log.warning(
                "a network namespace can't be looked at, so its addresses stay in use until a DEL: give the agent access to its path",
                netns=netns[:200],
                error=str(error)[:200],
            )

    async def _confirmed(self, attachment: Attachment, observation: Observation) -> bool:
        """Ask the API server, not a cache, whether the pod still needs it; a newer sandbox makes that question moot."""
        if attachment.key in _replaced(observation):
            return True
        ref = attachment.pod
        if not ref.name:
            return True  # made outside Kubernetes: its network namespace alone tells
        try:
            pod = await self._client.get(PODS, ref.name, namespace=ref.namespace)
        except NotFound:
            return True
        except KubeError as error:
            log.warning("leaked attachment kept: its pod could not be read", attachment=attachment.key, error=str(error))
            return False
        return not _needs(attachment, observed.pod(pod))

    async def _release(self, attachment: Attachment, state_id: str) -> None:
        async with self._state.locked():
            # Looked at again: while we asked, the same container may have been attached anew.
            if still := is_gone(attachment.netns) and _on_disk(self._state, attachment.key) == attachment:
                release(self._state, attachment, state_id, self._clock.monotonic())
        self._since.pop(attachment.key, None)
        if still:
            self._on_reclaim(attachment)

    async def _remove_mark(self, mark: Mark) -> None:
        """Only with its flock in hand: else an ADD of the same key has just begun to wait."""
        async with self._state.locked():
            try:
                fd = files.open_regular(self._state.pending / mark.key)
            except (FileNotFoundError, files.Damaged):
                return
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (self._state.pending / mark.key).unlink(missing_ok=True)
            except BlockingIOError:
                pass
            finally:
                os.close(fd)


def _pod_is_gone(ref: PodRef, pods: Mapping[str, PodSeen]) -> bool:
    pod = pods.get(_key(ref))
    return pod is None or bool(ref.uid and pod.uid != ref.uid)


def _on_disk(state: StateDir, key: str) -> Attachment | None:
    return Directory(state.attachments, records.attachment).load(key)


def release(state: StateDir, attachment: Attachment, state_id: str, now_seconds: float) -> None:
    """As DEL does, under the lock: index entry, address, and the attachment last."""
    path = state.attachments / attachment.key
    try:
        inode = path.lstat().st_ino
    except FileNotFoundError:
        return
    for held in attachment.ips:
        link = state.addresses / address_text(*held.address)
        try:
            ours = link.lstat().st_ino == inode
        except FileNotFoundError:
            continue
        if ours:
            cooldown = held.cooldown_seconds
            until = min(math.ceil(now_seconds + cooldown), index.HELD - 1) if cooldown else index.FREE
            index.write(state.index, state_id, held.address, until, int(now_seconds))
            link.unlink()
    path.unlink(missing_ok=True)
