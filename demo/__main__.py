"""``python -m demo``: tell the story. ``python -m demo --pcap FILE``: replay a capture through the same rules."""

from __future__ import annotations

import argparse
import os
import sys

from demo.story import FIREWALL, FLOWS, ROOT, tell, tools
from oko.errors import OkoError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description="Oko's demonstration")
    parser.add_argument("--pcap", metavar="FILE", help="replay this capture instead")
    capture = parser.parse_args().pcap
    if capture is not None:
        words = ["replay", "--program", f"1={ROOT / FIREWALL}", "--flows", str(ROOT / FLOWS), capture]
        os.execv(tools() / "oko", ["oko", *words])
    try:
        tell()
    except OkoError as error:
        print(f"the demonstration failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
