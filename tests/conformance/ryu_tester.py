"""The controller of a conformance run: Ryu's switch tester, as os-ken carries it, on 127.0.0.1:6653.

    python ryu_tester.py DIRECTORY

runs the test files of a directory against the switch with datapath id 1, by way of the switch with datapath id 2, and
prints the tester's log on stderr. A program of its own: the tester needs eventlet's threads in the whole process.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

_SETTLED = 0.3
"""Seconds between the last rule and the packet. The tester sends it at once, and Open vSwitch's caches follow a rule
only after a while."""


def main(directory: str) -> None:
    os.environ["OSKEN_HUB_TYPE"] = "eventlet"
    hub: Any = importlib.import_module("os_ken.lib.hub")
    hub.patch()
    manager: Any = importlib.import_module("os_ken.base.app_manager").AppManager
    importlib.import_module("os_ken.flags")
    log: Any = importlib.import_module("os_ken.log")
    app: Any = importlib.import_module("os_ken.tests.switch.tester").OfTester
    send = app._one_time_packet_send

    def send_settled(self: Any, packet: Any) -> None:
        hub.sleep(_SETTLED)
        send(self, packet)

    app._one_time_packet_send = send_settled
    listen = ["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", "6653"]
    importlib.import_module("os_ken.cfg").CONF(args=["--test-switch-dir", directory, *listen], project="os_ken")
    log.init_log()
    manager.run_apps([app.__module__])


if __name__ == "__main__":
    main(sys.argv[1])
