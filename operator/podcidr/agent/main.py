"""`podcidr agent`: what is started in which order, and how it ends."""

import asyncio
import gc
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import structlog

from podcidr import logs
from podcidr.agent import inotify, mending
from podcidr.agent.installation import Installation, InstallationError
from podcidr.agent.rebuild import from_cache, recover
from podcidr.agent.service import Agent
from podcidr.agent.sole import Sole
from podcidr.agent.statedir import StateDir, StateDirError, become_the_agent, new_state_id
from podcidr.api import names
from podcidr.config import AgentConfig, parse_agent
from podcidr.endpoints import Endpoints, check_ready_file
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import Clock, SystemClock
from podcidr.kube.credentials import CredentialsError, load
from podcidr.kube.transport import AiohttpTransport
from podcidr.metrics import AgentMetrics

log = structlog.get_logger("podcidr.agent")


class Lost(Exception):
    """A part of the agent ended that never should."""


def main(argv: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT. Status 1: a state directory or credentials that can't be used, or a lost part."""
    config = parse_agent(argv)
    logs.configure(config.log_format, config.log_level)
    try:
        if config.install_cni or config.uninstall_cni:
            return _install(config)
        if not check_ready_file("podcidr agent", config.ready_file):
            return 2
        return asyncio.run(_main(config))
    except (InstallationError, StateDirError, CredentialsError, Lost) as error:
        log.error("the agent can't go on", error=str(error))
        return 1
    except OSError as error:
        told = f"{error.strerror or error} ({error.filename or 'no file named'})"
        log.error("the agent can't go on", error=f"{told}; --state-dir {config.state_dir} has to be readable and writable, on this node")
        return 1


def _install(config: AgentConfig) -> int:
    conflist = Path(config.conflist) if config.conflist else None
    installation = Installation(Path(config.plugin), Path(config.cni_bin_dir), Path(config.cni_conf_dir), conflist)
    if config.install_cni:
        installation.install()
    else:
        installation.uninstall(Path(config.state_dir))
    return 0


async def _main(config: AgentConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.ensure_future(_serve(config))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        serving.cancel()
        ended = await asyncio.gather(serving, return_exceptions=True)
    if isinstance(ended[0], Exception):
        raise ended[0]
    log.info("stopped")
    return 0


async def _serve(config: AgentConfig) -> None:
    clock, metrics = SystemClock(), AgentMetrics()
    state = StateDir(Path(config.state_dir))
    state.prepare()
    sole = Sole()
    client = KubeClient(
        AiohttpTransport(load(config.kubeconfig), user_agent=names.MANAGER_AGENT),
        clock,
        program=names.MANAGER_AGENT,
        on_request=metrics.on_request,
    )
    agent: Agent | None = None
    endpoints = Endpoints(
        config.listen.host,
        config.listen.port,
        registry=metrics.registry,
        healthy=lambda: None,
        ready=lambda: agent.trouble() if agent else "another agent holds the state dir",
        ready_file=config.ready_file,
    )
    try:
        await _listen(endpoints, config)
        await become_the_agent(state, clock, _say_waiting(state))
        agent = await _begin(config, client, state, clock, metrics)
        agent.claim = sole.claim
        log.info("agent started", node=config.node_name, state_dir=config.state_dir, listen=endpoints.address)
        gc.freeze()  # modules stay: no need to look at them again and again
        await _run(agent, state)
    finally:
        if agent:
            agent.arrivals.save(clock.monotonic())
        await endpoints.stop()
        await client.close()
        sole.close()
        state.close()


async def _listen(endpoints: Endpoints, config: AgentConfig) -> None:
    try:
        await endpoints.start()
    except OSError as error:
        raise Lost(f"--listen {config.listen}: {error.strerror}; name another HOST:PORT") from error


async def _begin(config: AgentConfig, client: KubeClient, state: StateDir, clock: Clock, metrics: AgentMetrics) -> Agent:
    """Take the state as it is; where there is none, or nothing in it tells who holds what, begin anew with the runtime's cache."""
    async with state.locked():
        state_id = _take(state, clock.monotonic())
        ready = state_id is not None
        if state_id is None:
            state_id = new_state_id()
            state.remove(state.root / "ready")
        linked = mending.restore(state)
        recovered = 0 if ready else recover(state, from_cache(Path(config.cni_cache_dir)), state_id, clock.monotonic())
    if linked:
        log.warning("links between attachments/ and addresses/ were missing and are made again", links=linked)
    if not ready:
        log.info("state dir is new or was lost: rebuilding", from_cache=recovered, cni_cache_dir=config.cni_cache_dir)
    return Agent(config, client, state, state_id, ready=ready, clock=clock, metrics=metrics)


def _take(state: StateDir, now_seconds: float) -> str | None:
    """The state's ID, if what it knew is still there."""
    state_id = state.read_ready()
    if state_id is not None and (reason := mending.lost(state, state_id, now_seconds)):
        log.error("the state dir was lost", reason=reason, state_dir=str(state.root))
        return None
    return state_id


async def _run(agent: Agent, state: StateDir) -> None:
    """All parts side by side; the end of one is the end of all."""
    loop = asyncio.get_running_loop()
    # A mark is told at once, each of them; an address never comes or goes without its attachment.
    directories = (state.pending, state.attachments)
    watcher = inotify.Inotify(directories[:1], agent.files_changed, once=directories[1:])
    agent.on_directories_made, agent.on_round = watcher.renew, watcher.rearm
    parts: list[Coroutine[Any, Any, None]] = [reflector.run() for reflector in agent.reflectors]
    parts += [agent.run(), agent.resync.run(), agent.reclaim(), agent.reporter.run(), agent.events.run()]
    if not watcher.start(loop):
        log.warning("no inotify instance to be had (fs.inotify.max_user_instances): the state dir is polled")
        parts.append(inotify.poll(directories, agent.files_changed))
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise Lost("a part of the agent ended; it has to be started anew")
    finally:
        watcher.close(loop)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _say_waiting(state: StateDir) -> Any:
    def say() -> None:
        log.warning("another agent holds the state dir; waiting for it to end", state_dir=str(state.root))

    return say
