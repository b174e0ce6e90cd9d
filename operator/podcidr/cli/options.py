"""Options that every command has: which cluster. They may stand before or after the command's name."""

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from podcidr.cli.connect import Api

_KUBECONFIG, _CONTEXT = "podcidr.kubeconfig", "podcidr.context"


def _remember(key: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def callback(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        from_environment = context.get_parameter_source(str(parameter.name)) is ParameterSource.ENVIRONMENT
        if value and not (from_environment and key in context.meta):  # what was said before the command's name counts more
            context.meta[key] = value

    return callback


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--kubeconfig` and `--context`."""
    kubeconfig = click.option(
        "--kubeconfig", metavar="FILE", envvar="KUBECONFIG", show_envvar=True, expose_value=False, callback=_remember(_KUBECONFIG),
        help="Which cluster and account; else ~/.kube/config, else the pod's own account.",
    )  # fmt: skip
    context = click.option(
        "--context",
        metavar="NAME",
        expose_value=False,
        callback=_remember(_CONTEXT),
        help="Context of the kubeconfig; else its current one.",
    )
    return kubeconfig(context(command))


def connect() -> Api:
    """The API that the options of this invocation name."""
    meta = click.get_current_context().meta
    return Api(meta.get(_KUBECONFIG), meta.get(_CONTEXT))
