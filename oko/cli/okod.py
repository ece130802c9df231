"""`okod`: run a bridge in the foreground."""

from __future__ import annotations

import logging
from pathlib import Path

import click

import oko
from oko.cli.entry import Invocation, common_options, parsed, run
from oko.switch import daemon
from oko.switch.daemon import Listener, Settings
from oko.switch.datapath import DEFAULT_BPFFS
from oko.switch.local import LocalSpec
from oko.switch.port import PortSpec


@click.command("okod")
@common_options
@click.version_option(oko.__version__, prog_name="okod")
@click.option("--standalone", "bridge", metavar="BRIDGE", help="Be the whole switch, without Open vSwitch: its name.")
@click.option(
    "--port",
    "ports",
    metavar="IF=N",
    callback=parsed(PortSpec.parse),
    multiple=True,
    help="Make the interface IF port number N. May be given more than once.",
)
@click.option(
    "--local",
    metavar="IF",
    help="Make an interface IF for this host: it is at the other end of the port LOCAL, and goes with the bridge.",
)
@click.option(
    "--listen",
    "listeners",
    metavar="ptcp:PORT[:HOST]",
    callback=parsed(Listener.parse),
    multiple=True,
    help="Take OpenFlow connections over TCP, too, at 127.0.0.1 unless HOST says otherwise.",
)
@click.option(
    "--bpffs",
    metavar="DIR",
    type=click.Path(path_type=Path, resolve_path=True),
    default=DEFAULT_BPFFS,
    envvar="OKO_BPFFS",
    show_default=True,
    show_envvar=True,
    help="Where a BPF file system is mounted.",
)
@click.pass_obj
def command(
    invocation: Invocation,
    bridge: str | None,
    ports: tuple[PortSpec, ...],
    local: str | None,
    listeners: tuple[Listener, ...],
    bpffs: Path,
) -> None:
    """Run a bridge until SIGTERM or Ctrl-C. Its datapath forwards on afterwards: 'oko bridge del' takes it away."""
    if bridge is None:
        raise click.UsageError("name the bridge with --standalone BRIDGE: attaching to Open vSwitch is not there yet")
    logging.basicConfig(format="okod: %(message)s", level=logging.DEBUG if invocation.verbose else logging.INFO)
    host_end = None if local is None else LocalSpec.parse(local)
    daemon.run(Settings(bridge, ports, invocation.rundir, bpffs, listeners, host_end), _ready)


def main() -> None:
    """The entry point of `okod`."""
    run(command)


def _ready(line: str) -> None:
    print(line, flush=True)
