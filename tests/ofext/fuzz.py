"""Coverage-guided fuzzing of the codec with atheris: whatever bytes come, they are read and written back as the same
message, or refused with ProtocolError.

``python -m tests.ofext.fuzz -runs=N`` tries N inputs; other options are libFuzzer's, such as -max_total_time=SECONDS.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ofext"]):
    from ofext.framing import Splitter
    from ofext.messages import decode, encode
    from oko.errors import ProtocolError


def try_bytes(data: bytes) -> None:
    """As a message whose header is mended, so that most inputs get behind it, and as a stream."""
    if len(data) >= 2:
        body = data[2:]
        check(bytes([4, data[0] % 32]) + (8 + len(body)).to_bytes(2, "big") + bytes(4) + body)
    try:
        for message in Splitter().feed(data):
            check(message)
    except ProtocolError:
        pass


def check(data: bytes) -> None:
    """Raises whatever is wrong."""
    try:
        message, xid = decode(data)
    except ProtocolError:
        return
    written = encode(message, xid)
    assert decode(written) == (message, xid)


def main() -> None:
    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
