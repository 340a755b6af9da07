"""Options every command takes, before or after its name, and how a command gets its client and reports its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from twinctl.contexts import Context, Contexts, contexts_path, load_contexts, resolve
from twinctl.render import report
from twinmodel.errors import TwinError

if TYPE_CHECKING:
    from twinctl.client import Client


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for beside the command itself."""

    output: str = "table"
    fields: tuple[str, ...] = ()
    timeout_s: float = 10.0
    context: str = ""
    color: bool = True
    yes: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


def _take(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if value is None or value is False:
            return
        root = ctx.find_root()
        if name == "fields":
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        if name == "color":
            value = False
        root.obj = replace(root.obj or Options(), **{name: value})

    return callback


def global_options(*, output_flag: str = "-o") -> list[click.Option]:
    """The options; `output_flag` "" leaves out the short form where `-o` names a file."""
    kind = click.Choice(["table", "json"])
    flags = ["--output", *([output_flag] if output_flag else [])]
    hidden: dict[str, Any] = {"expose_value": False}
    return [
        click.Option(flags, type=kind, callback=_take("output"), help="Form of what is printed.", **hidden),
        click.Option(["--fields"], metavar="A,B.C", callback=_take("fields"), help="Only these fields.", **hidden),
        click.Option(
            ["--timeout"],
            type=click.FloatRange(0, 3_600, min_open=True),
            metavar="S",
            callback=_take("timeout_s"),
            help="Longest wait for one answer, seconds (10).",
            **hidden,
        ),
        click.Option(["--context"], metavar="NAME", callback=_take("context"), help="Coordinator to ask.", **hidden),
        click.Option(["--no-color"], is_flag=True, callback=_take("color"), help="No colours.", **hidden),
        click.Option(["--yes", "-y"], is_flag=True, callback=_take("yes"), help="Do not ask back.", **hidden),
    ]


class Verb(click.Command):
    """A command that takes the global options after its name too."""

    output_flag = "-o"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += global_options(output_flag=self.output_flag)


class FileVerb(Verb):
    """A command whose `-o` names the file it writes."""

    output_flag = ""


class Noun(click.Group):
    """A group of verbs."""

    command_class = Verb


class Answering(Noun):
    """A group that answers something when no verb is given, and takes the global options then."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "invoke_without_command": True})
        self.params += global_options()


class Root(Noun):
    """The whole tool: the one place where an error becomes text and an exit code."""

    group_class = Noun

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += global_options()

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command chosen."""
        ctx.obj = ctx.obj or Options()
        if "NO_COLOR" in ctx.obj.environ:
            ctx.obj = replace(ctx.obj, color=False)
        try:
            return super().invoke(ctx)
        except TwinError as error:
            report(error)
            ctx.exit(error.outcome.exit)


def options_of(ctx: click.Context) -> Options:
    """The options in force."""
    options: Options = ctx.find_root().obj
    return options


def contexts_of(ctx: click.Context) -> Contexts:
    """All contexts of the person who asks."""
    return load_contexts(contexts_path(options_of(ctx).environ))


def context_of(ctx: click.Context) -> Context:
    """The context in force."""
    options = options_of(ctx)
    return resolve(contexts_of(ctx), options.context, options.environ)


def client_of(ctx: click.Context, context: Context | None = None) -> Client:
    """A client of `context`, else of the context in force; closed when the command ends."""
    from twinctl.client import Client  # noqa: PLC0415 - httpx takes 100 ms that `--help` does not pay

    client = Client(context or context_of(ctx), options_of(ctx).timeout_s)
    ctx.call_on_close(client.close)
    return client


def confirm(ctx: click.Context, question: str) -> None:
    """Asks back on a terminal unless `--yes`; without a terminal the question is answered by having been asked."""
    if not options_of(ctx).yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)
