"""`LazyGroup`: a group whose commands do not pay for the imports of one another."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group of commands, some of which it knows by name only, and imports when they are used."""

    def __init__(self, *args: Any, modules: Mapping[str, str], **options: Any) -> None:
        """`modules` are, by name of a command, the modules that have it, as an attribute of that name."""
        super().__init__(*args, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(self._modules[cmd_name]), cmd_name)
        return command
