"""`podcidr` and `kubectl podcidr`: the commands for people. `podcidr operator` and `podcidr agent` never come here."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from podcidr import __version__
from podcidr.api import names
from podcidr.cli.check import check
from podcidr.cli.ending import INTERRUPTED
from podcidr.cli.explain import explain
from podcidr.cli.history import history
from podcidr.cli.migrate import migrate
from podcidr.cli.options import connection_options
from podcidr.cli.output import output_option, print_document
from podcidr.cli.plan import plan
from podcidr.cli.release import release
from podcidr.cli.show import show
from podcidr.cli.uninstall import uninstall


@click.group("podcidr", no_args_is_help=False, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@connection_options
@click.pass_context
def cli(context: click.Context) -> int:
    """Look at podcidr, which gives Kubernetes nodes blocks of pod addresses out of named pools.

    \b
    An IPPool is a space of addresses, cut into blocks of one size.
    A NodeCIDR lists the blocks that a node may use, and how full they are.
    An IPBlock is a row of the ledger: who holds which block.

    \b
    Start with:
      podcidr show      how full are pools, nodes and blocks?
      podcidr check     is every address used once only? (exit status 1 if not)
      podcidr plan      what would the operator do now, and why?
      podcidr explain   why does this pod wait, who has this address?

    None of these changes anything; commands that do (migrate, release, uninstall) ask first. As kubectl plugin: kubectl podcidr show.

    \b
    In the cluster run `podcidr operator` and `podcidr agent`, each with its own --help.

    \b
    Exit status: 0 ok, 1 violations found, 2 wrong usage, 3 API not reachable, or it refuses this account.
    4 output not written (disk full).
    Ended from outside: 130 Ctrl-C or not confirmed, 143 SIGTERM, 141 whoever read the output has gone.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return 0


@cli.command()
@output_option
def version(output: str) -> int:
    """Print the versions of program and API.

    Example: podcidr version -o json
    """
    if output == "table":
        click.echo(f"podcidr {__version__} ({names.API_VERSION})")
    else:
        print_document("Version", {"version": __version__, "api": names.API_VERSION}, output)
    return 0


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a script that completes commands and options.

    \b
    bash:  source <(podcidr completion bash)       in ~/.bashrc
    zsh:   source <(podcidr completion zsh)        in ~/.zshrc
    fish:  podcidr completion fish | source        in ~/.config/fish/config.fish
    """
    found = get_completion_class(shell)
    assert found, "click knows all three"
    click.echo(found(cli, {}, "podcidr", "_PODCIDR_COMPLETE").source())
    return 0


for command in (show, explain, check, plan, history, migrate, release, uninstall):
    cli.add_command(command)


def main(argv: Sequence[str]) -> int:
    """Run a command; its exit status. What ends it from outside is `ending`'s."""
    try:
        status = cli.main(list(argv), prog_name=program_name(), complete_var="_PODCIDR_COMPLETE", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        click.echo("podcidr: not confirmed: nothing was changed", err=True)
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def program_name() -> str:
    """As the person called it: kubectl runs its plugins as `kubectl-podcidr`."""
    return "kubectl podcidr" if Path(sys.argv[0]).name.startswith("kubectl-") else "podcidr"
