"""`podcidr PROGRAM …`: picks the program, and imports only that one (the agent must stay small)."""

import sys


def main() -> int:
    """Run the program named by the first word; everything else belongs to the CLI."""
    program, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if program == "operator":
        from podcidr.handlers.main import main as operator_main

        return operator_main(rest)
    if program == "agent":
        # structlog loads rich wherever it is installed: 4 MiB on every node, for colours.
        sys.modules["rich"] = sys.modules["better_exceptions"] = None  # type: ignore[assignment]
        from podcidr.agent.main import main as agent_main

        return agent_main(rest)
    from podcidr.cli.main import main as cli_main

    return cli_main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
