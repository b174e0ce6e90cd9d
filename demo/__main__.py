"""Plays the acts and sums up. Status 0 only if all of it happened."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time

from demo.acts import ACTS
from demo.stage import Failed, Stage, set_up
from demo.summary import look_around, summarize, tell_failure
from demo.timeline import say
from podcidr import logs
from tests.cluster.child import ChildError
from tests.cluster.program import ROOT
from tests.cluster.runtime import CniError
from tools.assets import AssetsError

LIMIT_SECONDS = 240
"""It takes a minute; whatever hangs, ends."""


def main() -> int:
    """Parse, play, clean up."""
    parser = argparse.ArgumentParser("python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end, until Ctrl-C")
    options = parser.parse_args()
    plugin = ROOT / "build" / "podcidr-ipam"
    if not plugin.exists():
        print("build/podcidr-ipam is missing: run `make plugin`, or `make demo`, which does", file=sys.stderr)
        return 2
    logs.configure("text", "error")
    try:
        return asyncio.run(_run(keep=options.keep or bool(os.environ.get("KEEP"))))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("\ninterrupted; everything that was started is stopped and removed")
        return 130
    except BrokenPipeError:  # `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (AssetsError, ChildError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


async def _run(*, keep: bool) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    started = time.monotonic()
    async with set_up(ROOT / "build" / "podcidr-ipam") as stage:
        if not await _play(stage):
            return 1
        await summarize(stage, time.monotonic() - started)
        look_around(stage, keep=keep)
        if keep:
            with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C is the end that was meant
                await asyncio.Event().wait()
            say("\nstopping and removing everything")
    return 0


async def _play(stage: Stage) -> bool:
    """All acts; False after the first that fails."""
    stage.timeline.legend()
    drawing = asyncio.create_task(stage.timeline.run())
    act = ""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            for number, scene in enumerate(ACTS, 1):
                act = f"act {number}: {scene.title}"
                say(f"\n{act}. Look: {scene.look}.")
                stage.timeline.header()
                outcome = await scene.play(stage)
                stage.timeline.draw()
                say(f"     ok  {outcome}")
        return True
    except (Failed, ChildError, CniError, TimeoutError, ExceptionGroup) as error:
        stage.timeline.draw()
        tell_failure(stage, act, error)
        return False
    finally:
        drawing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drawing


if __name__ == "__main__":
    sys.exit(main())
