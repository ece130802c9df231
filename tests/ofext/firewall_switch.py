"""An application of os-ken: a switch that learns where hosts are, with the firewall on top.

``python -m tests.ofext.firewall_switch OBJECT`` waits for a switch on 127.0.0.1, port 6653, and loads OBJECT as its
program 1. Then it prints what happens, one line each: ``ready``, ``learned MAC PORT``, ``tracked N`` for each character
of its input, with the number of connections that the firewall knows, and ``refused TEXT``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from os_ken.base.app_manager import AppManager, OSKenApp
from os_ken.cfg import CONF
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3

from ofext import osken
from ofext.extension import MapDumpRequest

PROGRAM = 1
IPV4 = 0x0800
FIREWALL, LEARNING = 0, 1  # tables
ASK, FILTERED, OTHER = 1, 20, 10  # priorities


class FirewallSwitch(OSKenApp):  # type: ignore[misc]
    """Of one switch."""

    OFP_VERSIONS: ClassVar = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.datapath: Any = None
        self.places: dict[str, int] = {}

    def start(self) -> None:
        """Called by os-ken when everything is there."""
        super().start()
        hub.spawn(self._ask)

    def _ask(self) -> None:
        while os.read(0, 1):
            request = osken.OkoRequest(self.datapath, MapDumpRequest(PROGRAM, 0, "connections"))
            self.datapath.send_msg(request)

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def begin(self, event: Any) -> None:
        self.datapath = event.msg.datapath
        for request in osken.load_requests(self.datapath, PROGRAM, "firewall", Path(sys.argv[1]).read_bytes()):
            self.datapath.send_msg(request)

    @set_ev_cls(osken.EventOkoProgramLoaded, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def loaded(self, event: Any) -> None:
        parser, datapath = self.datapath.ofproto_parser, self.datapath
        on = [parser.OFPInstructionGotoTable(LEARNING)]
        self._add(FIREWALL, FILTERED, parser.OFPMatch(eth_type=IPV4, filter_prog=PROGRAM), on)
        self._add(FIREWALL, OTHER, parser.OFPMatch(eth_type=IPV4), [])
        self._add(FIREWALL, ASK, parser.OFPMatch(), on)
        ask = [parser.OFPActionOutput(ofproto_v1_3.OFPP_CONTROLLER, ofproto_v1_3.OFPCML_NO_BUFFER)]
        self._add(LEARNING, ASK, parser.OFPMatch(), self._apply(ask))
        datapath.send_msg(parser.OFPBarrierRequest(datapath))

    @set_ev_cls(ofp_event.EventOFPBarrierReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def ready(self, _event: Any) -> None:
        say("ready")

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def learn(self, event: Any) -> None:
        message, parser = event.msg, self.datapath.ofproto_parser
        port = message.match["in_port"]
        frame = packet.Packet(message.data).get_protocol(ethernet.ethernet)
        if self.places.get(frame.src) != port:
            self.places[frame.src] = port
            say(f"learned {frame.src} {port}")
        out = [parser.OFPActionOutput(self.places.get(frame.dst, ofproto_v1_3.OFPP_FLOOD))]
        if frame.dst in self.places:
            match = parser.OFPMatch(in_port=port, eth_src=frame.src, eth_dst=frame.dst)
            self._add(LEARNING, FILTERED, match, self._apply(out))
        self.datapath.send_msg(parser.OFPPacketOut(self.datapath, ofproto_v1_3.OFP_NO_BUFFER, port, out, message.data))

    @set_ev_cls(osken.EventOkoMapDumpReply, MAIN_DISPATCHER)
    def dumped(self, event: Any) -> None:
        say(f"tracked {len(event.msg.content.entries)}")

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def refused(self, event: Any) -> None:
        say(f"refused {osken.refusal(event.msg)}")

    def _apply(self, actions: list[Any]) -> list[Any]:
        apply = ofproto_v1_3.OFPIT_APPLY_ACTIONS
        return [self.datapath.ofproto_parser.OFPInstructionActions(apply, actions)]

    def _add(self, table: int, priority: int, match: Any, instructions: list[Any]) -> None:
        mod = self.datapath.ofproto_parser.OFPFlowMod(
            self.datapath, table_id=table, priority=priority, match=match, instructions=instructions
        )
        self.datapath.send_msg(mod)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    CONF(["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", "6653"], project="os_ken")
    AppManager.run_apps(["os_ken.controller.ofp_handler", "tests.ofext.firewall_switch"])
