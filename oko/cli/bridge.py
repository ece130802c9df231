"""`oko bridge`: the bridges of the run directory, whether their okod runs or not."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final, cast

import click

from ofext.constants import PortState
from ofext.extension import (
    AttachmentFlag,
    AttachmentReply,
    AttachmentRequest,
    Concern,
    DropListReply,
    DropListRequest,
    RunTimeFlag,
    RunTimeReply,
    RunTimeRequest,
)
from ofext.multipart import Port, PortDescReply, PortDescRequest
from oko.cli.entry import Invocation, client_options
from oko.cli.output import json_option, print_columns, print_json


@click.group()
@client_options
def bridge() -> None:
    """List, show and delete bridges."""


@bridge.command("list")
@client_options
@json_option
@click.pass_obj
def list_(invocation: Invocation, as_json: bool) -> None:
    """Print the bridges that have a datapath.

    It forwards whether an okod runs it or not.
    """
    rundir = invocation.rundir
    found = [(name, rundir.pid(name), rundir.read(name)) for name in rundir.bridges()]
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "running": pid is not None,
                    "pid": pid,
                    "ports": [{"name": port.name, "number": port.number} for port in record.ports],
                    "pins": record.pins,
                }
                for name, pid, record in found
            ]
        )
    else:
        print_columns(
            ("BRIDGE", "OKOD", "PORTS", "PINS"),
            (
                (
                    name,
                    "not running" if pid is None else str(pid),
                    ",".join(f"{port.name}={port.number}" for port in record.ports) or "-",
                    record.pins,
                )
                for name, pid, record in found
            ),
        )


@bridge.command("show")
@client_options
@click.argument("bridge")
@json_option
@click.pass_obj
def show(invocation: Invocation, bridge: str, as_json: bool) -> None:
    """Print the ports of a bridge, and what it dropped.

    It tells of packets that were dropped although no flow said so.

    While the kernel measures it (sysctl kernel.bpf_stats_enabled=1), also the time that a packet takes.
    """
    with invocation.connect(bridge) as client:
        ports = cast(PortDescReply, client.report(PortDescRequest())).entries
        drops = cast(DropListReply, client.report(DropListRequest())).entries
        run_time = cast(RunTimeReply, client.report(RunTimeRequest()))
        attachment = cast(AttachmentReply, client.report(AttachmentRequest()))
    measures = bool(run_time.flags & RunTimeFlag.MEASURING)
    if as_json:
        print_json(
            {
                "ports": [{"number": port.port_no, "name": port.name, "state": _state(port)} for port in ports],
                "drops": [{"reason": drop.reason, "packets": drop.packets, "bytes": drop.bytes} for drop in drops],
                "run_time": {"packets": run_time.packets, "ns": run_time.run_time} if measures else None,
                "attached": bool(attachment.flags & AttachmentFlag.ATTACHED),
                "concerns": [
                    {"kind": Concern(entry.kind).name.lower(), "subject": entry.subject, "reason": entry.reason}
                    for entry in attachment.entries
                ],
            }
        )
        return
    print_columns(("PORT", "INTERFACE", "STATE"), [(port.port_no, port.name, _state(port)) for port in ports])
    click.echo()
    print_columns(("PACKETS", "BYTES", "DROPPED"), [(drop.packets, drop.bytes, drop.reason) for drop in drops])
    if attachment.flags & AttachmentFlag.ATTACHED:
        click.echo("\nattached to Open vSwitch")
    for entry in attachment.entries:
        click.echo(f"{entry.subject}: {_CONCERNS[Concern(entry.kind)]}: {entry.reason}")
    if measures:
        click.echo(f"\nrun time per packet: {_mean(run_time)}")


_CONCERNS: Final = {
    Concern.BRIDGE: "no packet is continued by Open vSwitch",
    Concern.PORT: "has no XDP",
    Concern.FLOW: "is suspended",
}


def _mean(run_time: RunTimeReply) -> str:
    if not run_time.packets:
        return "no packet was measured yet"
    packets = "packet" if run_time.packets == 1 else "packets"
    return f"{run_time.run_time / run_time.packets:.0f} ns, the mean of {run_time.packets} {packets}"


def _state(port: Port) -> str:
    """As `write_port` says it."""
    if port.state & PortState.BLOCKED:
        return "gone"
    return "down" if port.state & PortState.LINK_DOWN else "live"


@bridge.command("del")
@client_options
@click.argument("bridge")
@click.pass_obj
def delete(invocation: Invocation, bridge: str) -> None:
    """Delete a bridge, or detach from one of Open vSwitch's.

    Its okod is ended, its datapath taken off the ports, what is on disk of it removed, and the ports' peers get their
    offloads back.
    """
    record = invocation.rundir.read(bridge)
    # Imported here, as listing bridges needs nothing of what this does.
    if record.is_attached:
        import_module("oko.attached.detach").detach(invocation.rundir, Path(record.state).parent, bridge)
    else:
        import_module("oko.switch.removal").remove_bridge(invocation.rundir, bridge)
