"""An attached bridge: the laboratory's, with Oko's image at its ports and its two places kept in order."""

from __future__ import annotations

import asyncio
import platform
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ofext.instructions import Instruction
from ofext.messages import FlowMod
from ofext.multipart import FlowStatsReply, FlowStatsRequest
from oko.attached.filter_rules import FilterRules
from oko.attached.management import Management
from oko.attached.marker import Marker
from oko.attached.order import Order
from oko.attached.plain_mod import read_plain_mod
from oko.attached.unixctl import Unixctl
from oko.attached.upstream import Event, Upstream
from oko.flow.attachment import Attachment, Shims
from oko.flow.rule import Command
from oko.flow.text import parse_selection
from oko.kernel.namespace import run_in
from oko.kernel.program import load_program
from oko.switch.bridge import Bridge
from oko.switch.datapath import Datapath
from oko.switch.objects import read_runtime, read_stub
from oko.switch.port import Port, PortSpec
from oko.wire.change import write_flow_mod
from tests.bpf_programs.harness import SOURCES
from tests.oko.attached.conftest import BRIDGE, HOSTS, Laboratory
from tests.oko.attached.fence import FENCE, exchange, exchange_numbers
from tests.oko.attached.following import run
from tests.oko.kernel import assembler as asm
from tests.patience import patience

_PATIENCE = patience(20)
_BPFFS = Path("/sys/fs/bpf")


@cache
def compiled(source: str, directory: Path, *flags: str) -> bytes:
    """The object of a source file that stands here."""
    target = directory / "compiled.o"
    system = f"/usr/include/{platform.machine()}-linux-gnu"
    options = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I{SOURCES / 'include'}", "-isystem", system, *flags]
    subprocess.run(["clang", *options, "-c", Path(__file__).with_name(source), "-o", target], check=True)
    return target.read_bytes()


def odd(directory: Path) -> bytes:
    """The object of odd.c."""
    return compiled("odd.c", directory)


class AttachedLab:
    """Program 1 says yes to frames with an odd number."""

    def __init__(self, ovs: Laboratory, bridge: Bridge, upstream: Upstream, order: Order) -> None:
        self.ovs = ovs
        self.bridge = bridge
        self.upstream = upstream
        self.order = order
        self.rules = FilterRules(bridge, order)
        self.controller: Management

    # ---- rules

    async def instructions(self, actions: str) -> tuple[Instruction, ...]:
        """What ovs-ofctl sends for these actions."""
        flow = f"table=1,priority=1,ip,actions={actions}"
        await asyncio.to_thread(self.ovs.vswitch.ofctl, "add-flow", BRIDGE, flow)
        reply = await self.controller.report(FlowStatsRequest(table_id=1))
        assert isinstance(reply, FlowStatsReply)
        await asyncio.to_thread(self.ovs.vswitch.ofctl, "del-flows", BRIDGE, "table=1")
        (entry,) = reply.entries
        return entry.instructions

    async def mod(self, text: str, command: Command = Command.ADD) -> FlowMod:
        """The flow_mod that the text says, as ovs-ofctl would have it, with filter_prog and all of its actions."""
        head, _, actions = text.partition(" actions=")
        flags = 1 if "send_flow_rem" in head else 0
        words = [word for word in head.replace("send_flow_rem", "").strip().split(",") if word]
        numbers = {
            key: word.split("=")[1]
            for word in words
            for key in ("priority", "idle_timeout", "hard_timeout", "cookie")
            if word.startswith(f"{key}=")
        }
        fields = [word for word in words if word.split("=")[0] not in numbers]
        selection = parse_selection(",".join(fields))
        message = write_flow_mod(replace(selection, command=command, all_tables=False))
        return replace(
            message,
            flags=flags,
            priority=int(numbers.get("priority", "32768")),
            idle_timeout=int(numbers.get("idle_timeout", "0")),
            hard_timeout=int(numbers.get("hard_timeout", "0")),
            cookie=int(numbers.get("cookie", "0"), 0),
            instructions=await self.instructions(actions) if actions else (),
        )

    async def filter(self, text: str, command: Command = Command.ADD) -> None:
        """Carry out one change of filter rules."""
        (outcome,) = await self.rules.change([await self.mod(text, command)])
        if outcome is not None:
            raise outcome

    async def plain(self, text: str, command: Command = Command.ADD) -> None:
        """Carry out one change of plain rules, as a relay does."""
        message = await self.mod(text, command)

        async def forward() -> None:
            spared = replace(message, cookie_mask=message.cookie_mask | 1 << 63) if command.is_delete else message
            self.controller.send(spared)
            await self.controller.barrier()

        await self.order.plain([read_plain_mod(message)], forward)

    async def direct(self, command: str, *words: str) -> None:
        """What an operator does past Oko."""
        await asyncio.to_thread(self.ovs.vswitch.ofctl, command, BRIDGE, *words)

    async def fence(self) -> None:
        """Add the rule that `exchange` needs, which somebody has deleted."""
        await self.direct("add-flow", FENCE)
        await self.upstream.settle()

    def flows(self) -> list[str]:
        """What Open vSwitch has in table 0 that is not Oko's own."""
        lines = self.ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE, "table=0").splitlines()
        return sorted(
            line.strip()
            for line in lines
            if "priority=" in line and not any(word in line for word in ("cookie=0x8", "cookie=0xc", "60000"))
        )

    def passes(self) -> list[int]:
        """The priorities of the plain rules that are looked up in the image, but for the fence's."""
        return [rule.priority for rule in self.order.table.passes().values() if rule.priority != 60000]

    def own_flows(self) -> int:
        """How many rules of Oko's own Open vSwitch has, but for those that stand in for others."""
        return self.ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE).count("cookie=0x8")

    def stand_ins(self) -> list[str]:
        """What Open vSwitch has that stands in for other rules."""
        lines = self.ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE, "table=0").splitlines()
        return sorted(line.split(", ", 1)[1] for line in lines if "cookie=0xc" in line)

    # ---- packets

    async def exchange(self, *numbers: int, port: int = 1) -> dict[int, list[int]]:
        """Frames with these numbers come in by a port; those that arrive, by host, in ascending order."""
        return await asyncio.to_thread(exchange_numbers, self.ovs.wires, numbers, port, self.ovs.vswitch.settle)

    async def frames(self, sent: Sequence[bytes], port: int) -> dict[int, list[bytes]]:
        """The same with any frames."""
        return await asyncio.to_thread(exchange, self.ovs.wires, sent, port, self.ovs.vswitch.settle)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when something is so that comes about by itself."""
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)


@asynccontextmanager
async def attached(
    ovs: Laboratory, program: bytes, *, ports: tuple[int, ...] = (1, 2, 3), otherwise: Shims = Shims.DROPPED
) -> AsyncIterator[AttachedLab]:
    """To be run in the namespace of the ports. Those of `ports` have XDP."""
    # Open vSwitch forgets what it has decided of earlier tests' frames.
    await asyncio.to_thread(ovs.add, FENCE)
    await asyncio.to_thread(ovs.vswitch.appctl, "revalidator/purge")
    runtime = read_runtime()
    heard: list[Callable[[Event], None]] = []

    def tell(event: Event) -> None:
        heard[0](event)

    upstream = Upstream(ovs.vswitch.management(BRIDGE), Unixctl(ovs.vswitch.directory), tell)
    passing = load_program("passing", asm.returns(asm.XDP_PASS), "GPL", references={})
    name = f"attached-{id(upstream):x}"
    with passing, Datapath(name, _BPFFS, read_stub(), runtime, attached=True) as datapath:
        specs = [PortSpec(host.port, number) for number, host in enumerate(HOSTS, 1) if number in ports]
        prepared = [Port.prepare(spec) for spec in specs]
        try:
            bridge = Bridge(name, datapath, runtime, prepared, attachment=Attachment())
            for port in prepared:
                port.attach(datapath)
            bridge.load(1, "odd", program)
            indices = {port.number: port.ifindex for port in prepared}
            order = Order(bridge, upstream, Marker(upstream, passing.fd), lambda: indices, otherwise)
            heard.append(order.hear)
            lab = AttachedLab(ovs, bridge, upstream, order)
            tasks = [asyncio.create_task(each) for each in (upstream.run(), order.run())]
            try:
                await lab.until(lambda: not order.trouble)
                lab.controller = await Management.connect(
                    ovs.vswitch.management(BRIDGE), lambda _: None, lambda _: None
                )
                try:
                    yield lab
                finally:
                    lab.controller.close()
            finally:
                for task in tasks:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
        finally:
            datapath.remove()
            for port in prepared:
                port.restore()


def with_attached(
    ovs: Laboratory, program: bytes, body: Callable[[AttachedLab], Awaitable[None]], **options: Any
) -> None:
    """Run `body` with an attached bridge."""

    async def main() -> None:
        async with attached(ovs, program, **options) as lab:
            await body(lab)

    run_in(ovs.namespace, lambda: run(main()))
