"""What the hosts of the demonstration run, over the ordinary TCP of their kernels.

``python -m demo.hosts download ADDRESS PORT PATH``   fetches over HTTP, prints the bytes and their SHA-256
``python -m demo.hosts connect ADDRESS PORT``         exits with 0 where a connection opens within CONNECT_TIMEOUT
``python -m demo.hosts listen ADDRESS PORT``          prints "ready", then a line for every connection that it gets
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import sys
from collections.abc import Callable

CONNECT_TIMEOUT = 2.0  # seconds: the SYN goes out twice in it
_DOWNLOAD_TIMEOUT = 10.0  # seconds without a byte


def download(address: str, port: str, path: str) -> None:
    connection = http.client.HTTPConnection(address, int(port), timeout=_DOWNLOAD_TIMEOUT)
    connection.request("GET", path)
    body = connection.getresponse().read()
    print(len(body), hashlib.sha256(body).hexdigest())


def connect(address: str, port: str) -> None:
    try:
        socket.create_connection((address, int(port)), CONNECT_TIMEOUT).close()
    except OSError as error:
        sys.exit(f"{address} port {port}: {error}")


def listen(address: str, port: str) -> None:
    with socket.create_server((address, int(port))) as listener:
        print("ready", flush=True)
        while True:
            connection, peer = listener.accept()
            connection.close()
            print("connection from", peer[0], flush=True)


ROLES: dict[str, Callable[..., None]] = {"download": download, "connect": connect, "listen": listen}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
