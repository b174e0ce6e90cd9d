"""`podcidr PROGRAM …`: picks the program, and imports only that one (the agent must stay small)."""

import os
import sys
from collections.abc import Callable, Sequence


def main() -> int:
    """Run the program named by the first word; everything else belongs to the CLI."""
    program, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if program == "operator":
        from podcidr.handlers.main import main as operator_main

        return operator_main(rest)
    if program == "agent":
        return _import_agent()(rest)
    from podcidr.cli.ending import run

    return run(sys.argv[1:])


def _import_agent() -> Callable[[Sequence[str]], int]:
    """Without what it never uses: it runs on every node."""
    # structlog loads rich wherever it is installed: 4 MiB, for colours.
    sys.modules["rich"] = sys.modules["better_exceptions"] = None  # type: ignore[assignment]
    # aiohttp, when imported, reads the system's certificates twice: 2 MiB. Ours are the cluster's.
    kept = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(kept, os.devnull))
    try:
        from podcidr.agent.main import main as agent_main
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return agent_main


if __name__ == "__main__":
    sys.exit(main())
