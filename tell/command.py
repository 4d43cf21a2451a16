"""Classes for tellmt's commands: --json, options with several values, and errors that name the valid names."""

from __future__ import annotations

from typing import Any

import click

from tell.console import use_json
from tell.errors import suggestion


def _json_option() -> click.Option:
    def switch(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            use_json(True)

    text = "Print the result as one JSON object."
    return click.Option(["--json"], is_flag=True, expose_value=False, is_eager=True, callback=switch, help=text)


class Many(click.Option):
    """An option that takes several values at once, `--against A B`, as well as one by one. Values end at the next option."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "multiple": True})


class Command(click.Command):
    """A command that also takes the global --json, before or after its own arguments."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.params.append(_json_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        many = {name for p in self.params if isinstance(p, Many) for name in p.opts}
        spread: list[str] = []
        current = None
        for at, arg in enumerate(args):
            if arg == "--":
                spread += args[at:]
                break
            if arg.startswith("-") and len(arg) > 1:
                current = arg if arg in many else None
            elif current and spread[-1] != current:
                spread.append(current)
            spread.append(arg)
        return super().parse_args(ctx, spread)


class Group(click.Group):
    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f"unknown command {name!r}; valid: {suggestion(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)
