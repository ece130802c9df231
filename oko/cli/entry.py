"""What all commands have in common: the options --rundir and --verbose, connecting, and how they end."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from oko.errors import OkoError
from oko.openflow.tls import TlsFiles
from oko.switch.rundir import RunDirectory

if TYPE_CHECKING:
    from oko.cli.client import Client

_INTERRUPTED: Final = 130
_COLLECTIONS: Final = (50_000, 20, 100)
"""When the garbage collector looks for cycles: rarely (Python's default is 700, 10, 10), as there are few. It looks at
every rule again and again, and a million of them took a fifth of the time that it takes to add them."""

T = TypeVar("T")
C = TypeVar("C", bound="Callable[..., Any] | click.Command")
"""A command, or the function that becomes one."""


@dataclass(slots=True)
class Invocation:
    """One run of a tool: what the options that every command has say. `click` hands it to the commands as `obj`."""

    rundir: RunDirectory
    verbose: bool = False
    files: dict[str, Path] = field(default_factory=dict)
    """Those for TLS, by the names in TlsFiles."""

    def connect(self, target: str) -> Client:
        """A connection to a bridge. Raises BridgeError, SettingsError."""
        tls = TlsFiles(**self.files) if self.files.keys() == TLS_OPTIONS.keys() else None
        # Imported here, with all of OpenFlow, as many commands connect to nobody.
        client: Client = import_module("oko.cli.client").Client.connect(target, self.rundir, tls)
        return client


@dataclass(frozen=True, slots=True)
class FileOption:
    """An option for a file of TLS, as ovs-ofctl has it, and the variable that stands for it."""

    names: tuple[str, str]
    variable: str
    help: str


TLS_OPTIONS: Final = {
    "private_key": FileOption(("-p", "--private-key"), "OKO_PRIVATE_KEY", "your private key, PEM."),
    "certificate": FileOption(("-c", "--certificate"), "OKO_CERTIFICATE", "your certificate, PEM."),
    "ca_certificate": FileOption(
        ("-C", "--ca-cert"), "OKO_CA_CERT", "the CA that signs the certificates of switches, PEM."
    ),
}
"""By the names in TlsFiles."""


def common_options(command: C) -> C:
    """Gives a command or group the options that every command has; they may stand anywhere in the line."""
    for option in (
        click.option(
            "--rundir",
            metavar="DIR",
            expose_value=False,
            callback=_set_rundir,
            help="Where bridges are found by name. [env: OKO_RUNDIR; default: /run/oko]",
        ),
        click.option(
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_set_verbose,
            help="With an error, print its details too.",
        ),
    ):
        option(command)
    return command


def client_options(command: C) -> C:
    """Gives a command or group those and the options of all that connect to a switch."""
    for name, option in reversed(TLS_OPTIONS.items()):
        click.option(
            *option.names,
            name,
            metavar="FILE",
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_set_file,
            help=f"For ssl: {option.help} [env: {option.variable}]",
        )(command)
    return common_options(command)


def repeated_option(
    option: str, name: str, metavar: str, parse: Callable[[str], T], description: str
) -> Callable[[C], C]:
    """An option that may be given more than once; the argument `name` is what `parse` makes of each. An OkoError from
    that is a wrong usage."""

    def read(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[T, ...]:
        try:
            return tuple(parse(text) for text in texts)
        except OkoError as error:
            raise click.BadParameter(str(error)) from None

    said = f"{description} May be given more than once."
    return click.option(option, name, metavar=metavar, multiple=True, callback=read, help=said)


def read_file(path: Path) -> bytes:
    """The content of a file; ``-`` is the standard input. Raises OkoError."""
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise OkoError(f"{path}: {error.strerror}") from None


def run(command: click.Command) -> None:
    """Run a tool and exit: 0 if it did what it should, 1 with one line on stderr for an OkoError, 2 for wrong usage,
    130 after Ctrl-C, and 1 without a word when nobody reads the output any more."""
    gc.set_threshold(*_COLLECTIONS)
    sys.exit(_status(command))


def _status(command: click.Command) -> int:
    files = {name: Path(os.environ[o.variable]) for name, o in TLS_OPTIONS.items() if os.environ.get(o.variable)}
    invocation = Invocation(RunDirectory.of(None), files=files)
    try:
        status = command.main(obj=invocation, standalone_mode=False)
        sys.stdout.flush()
    except OkoError as error:
        print(f"{command.name}: {error}", file=sys.stderr)
        if invocation.verbose and error.details:
            print(error.details.rstrip("\n"), file=sys.stderr)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def _invocation(context: click.Context) -> Invocation:
    found = context.find_object(Invocation)
    assert found is not None, "run() gives it to every command"
    return found


def _set_rundir(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        _invocation(context).rundir = RunDirectory.of(value)


def _set_file(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        _invocation(context).files[str(parameter.name)] = value


def _set_verbose(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        _invocation(context).verbose = True
