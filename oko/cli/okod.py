"""`okod`: run a bridge in the foreground."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import oko
from oko.cli.entry import Invocation, common_options, repeated_option, run
from oko.daemon import logs
from oko.daemon.settings import read_settings
from oko.openflow.endpoint import Endpoint
from oko.switch.datapath import DEFAULT_BPFFS
from oko.switch.port import PortSpec
from oko.switch.store import DEFAULT as DEFAULT_STATEDIR

_FILE = click.Path(path_type=Path, dir_okay=False)
_Endpoints = tuple[Endpoint, ...]


def _of_kind(passive: bool, other: str) -> Callable[[str], Endpoint]:
    """What reads endpoints of one kind; those of the other kind have the option `other`."""

    def parse(text: str) -> Endpoint:
        endpoint = Endpoint.parse(text)
        if endpoint.passive != passive:
            raise click.BadParameter(f"{endpoint}: that is for {other}")
        return endpoint

    return parse


def _datapath_id(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number") from None


@click.command("okod")
@common_options
@click.version_option(oko.__version__, prog_name="okod")
@click.option(
    "--config", metavar="FILE", type=_FILE, help="Read the settings of this TOML file; options override what it says."
)
@click.option("--standalone", metavar="BRIDGE", help="Be the whole switch, without Open vSwitch: its name.")
@click.option("--attach", metavar="BRIDGE", help="Add filter programs to this bridge of Open vSwitch's.")
@click.option("--detach", metavar="BRIDGE", help="Give Open vSwitch back what attaching has changed, and end.")
@click.option(
    "--ovsdb", metavar="unix:PATH", help="With --attach: the database. [default: unix:/run/openvswitch/db.sock]"
)
@click.option(
    "--mode",
    type=click.Choice(["proxy", "listen"]),
    help="With --attach: whether controllers and tools reach okod in the bridge's place, or beside it. "
    "[default: proxy]",
)
@click.option(
    "--fail",
    type=click.Choice(["secure", "open"]),
    help="With --attach: whether packets that Open vSwitch is to continue are dropped or left to its other rules while "
    "it does not. [default: secure]",
)
@repeated_option("--port", "ports", "IF=N", PortSpec.parse, "Make the interface IF port number N.")
@click.option(
    "--local",
    metavar="IF",
    help="Make an interface IF for this host: it is at the other end of the port LOCAL, and goes with the bridge.",
)
@click.option(
    "--dpid",
    metavar="N",
    callback=_datapath_id,
    help="The datapath id, decimal or with 0x. [default: the hardware address of the first port]",
)
@repeated_option(
    "--listen",
    "listeners",
    "ENDPOINT",
    _of_kind(True, "--controller"),
    "Take OpenFlow connections at ptcp:[PORT][:ADDRESS], pssl:[PORT][:ADDRESS] (at 127.0.0.1 unless ADDRESS says "
    "otherwise) or punix:PATH, too.",
)
@repeated_option(
    "--controller",
    "controllers",
    "ENDPOINT",
    _of_kind(False, "--listen"),
    "Connect to the controller at tcp:HOST[:PORT] or ssl:HOST[:PORT].",
)
@repeated_option(
    "--may-load",
    "loaders",
    "ENDPOINT",
    Endpoint.parse,
    "Let the peers of this endpoint, which --listen or --controller has too, load programs and write their maps.",
)
@repeated_option(
    "--may-read",
    "readers",
    "ENDPOINT",
    Endpoint.parse,
    "Let the peers of this endpoint read maps and subscribe to events, as those over TLS and Unix sockets may.",
)
@click.option(
    "--allow-cleartext", is_flag=True, default=None, help="Listen in clear for other hosts, too, where told to."
)
@click.option("--private-key", metavar="FILE", type=_FILE, help="For ssl and pssl: okod's private key, PEM.")
@click.option("--certificate", metavar="FILE", type=_FILE, help="For ssl and pssl: okod's certificate, PEM.")
@click.option(
    "--ca-cert", metavar="FILE", type=_FILE, help="For ssl and pssl: the CA that signs the certificates of peers, PEM."
)
@click.option("--metrics", metavar="HOST:PORT", help="Serve metrics for Prometheus at http://HOST:PORT/metrics.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="The log, on stderr. [default: text]")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged. [default: info]"
)
@click.option(
    "--bpffs",
    metavar="DIR",
    type=click.Path(path_type=Path, resolve_path=True),
    envvar="OKO_BPFFS",
    show_envvar=True,
    help=f"Where a BPF file system is mounted. [default: {DEFAULT_BPFFS}]",
)
@click.option(
    "--statedir",
    metavar="DIR",
    type=click.Path(path_type=Path, resolve_path=True),
    envvar="OKO_STATEDIR",
    show_envvar=True,
    help=f"Where flows and programs are kept for the next okod. [default: {DEFAULT_STATEDIR}]",
)
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    config: Path | None,
    listeners: _Endpoints,
    controllers: _Endpoints,
    loaders: _Endpoints,
    readers: _Endpoints,
    private_key: Path | None,
    certificate: Path | None,
    ca_cert: Path | None,
    log_format: str | None,
    log_level: str | None,
    standalone: str | None,
    attach: str | None,
    detach: str | None,
    ovsdb: str | None,
    mode: str | None,
    fail: str | None,
    **plain: Any,
) -> None:
    """Run a bridge until SIGTERM or Ctrl-C. Its datapath forwards on afterwards: 'oko bridge del' takes it away."""
    bridges = [name for name in (standalone, attach, detach) if name is not None]
    if len(bridges) > 1 or (config is None and not bridges):
        raise click.UsageError("name the bridge with one of --standalone, --attach and --detach")
    attaching = _given(ovsdb=ovsdb, mode=mode, fail=fail)
    if attaching and attach is None and config is None:
        raise click.UsageError("--ovsdb, --mode and --fail are for --attach")
    endpoints = (*listeners, *controllers)
    for option, named in (("--may-load", loaders), ("--may-read", readers)):
        for endpoint in named:
            if endpoint not in endpoints:
                raise click.UsageError(f"{option} {endpoint}: give the endpoint with --listen or --controller, too")
    options = {
        **plain,
        "bridge": bridges[0] if bridges else None,
        "connections": [
            {"endpoint": endpoint, "may_load": endpoint in loaders, "may_read": True if endpoint in readers else None}
            for endpoint in endpoints
        ],
        "tls": _given(private_key=private_key, certificate=certificate, ca_certificate=ca_cert),
        "log": _given(format=log_format, level="debug" if invocation.verbose else log_level),
    }
    given = _given(**options)
    if attach is not None or attaching:
        given["attach"] = attaching
    settings = read_settings(config, given)
    logs.set_up(settings.log)
    # Each imports much that the others do without.
    if detach is not None:
        import_module("oko.attached.detach").detach(invocation.rundir, settings.statedir, detach)
    elif settings.attach is not None:
        import_module("oko.attached.attachment").run(settings, settings.attach, invocation.rundir, _ready)
    else:
        import_module("oko.daemon.serving").run(settings, invocation.rundir, _ready)


def main() -> None:
    """The entry point of `okod`."""
    run(command)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given, by setting: an empty list or table says nothing."""
    return {name: value for name, value in options.items() if value not in (None, (), [], {})}


def _ready(line: str) -> None:
    print(line, flush=True)
