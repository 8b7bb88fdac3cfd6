"""A network for a container that leads nowhere, with everything written down that anyone sends there.

It has an address, a gateway and a name server, as a network has; behind them is the other end of a cable, where a packet is read
and not answered.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .namespace import entered, opened

GATEWAY = "192.0.2.1"  # of addresses that are nobody's (RFC 5737)
_ALL = 0x0003  # ETH_P_ALL of <linux/if_ether.h>
_SETUP = f"""
[ ! -e /proc/sys/net/ipv6 ] || echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
ip link set lo up
ip link add inside address 02:00:00:00:00:01 type veth peer name outside address 02:00:00:00:00:02
ip address add 192.0.2.2/24 dev inside
ip link set inside up
ip link set outside up
ip neighbour add {GATEWAY} lladdr 02:00:00:00:00:02 dev inside nud permanent
ip route add default via {GATEWAY}
"""


@dataclass(slots=True)
class Wire:
    """`name` is podman's for the network, `options` what a container needs besides, `packets` what came so far."""

    name: str
    options: list[str]
    packets: list[bytes] = field(default_factory=list)


@contextmanager
def wire() -> Iterator[Wire]:
    """Raises subprocess.CalledProcessError where no such network can be made."""
    with tempfile.TemporaryDirectory(prefix="sagerank-wire-") as scratch:
        servers = Path(scratch, "resolv.conf")
        servers.write_text(f"nameserver {GATEWAY}\n", encoding="ascii")
        servers.chmod(0o644)
        namespace = f"sagerank-{Path(scratch).name[-8:]}"
        subprocess.run(["ip", "netns", "add", namespace], check=True, capture_output=True)
        try:
            command = ["ip", "netns", "exec", namespace, "sh", "-ec", _SETUP]
            subprocess.run(command, check=True, capture_output=True)
            path = f"/run/netns/{namespace}"
            found = Wire(f"ns:{path}", ["--volume", f"{servers}:/etc/resolv.conf:ro"])
            with opened(Path(path)) as there, entered(there):
                reader = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
                reader.bind(("outside", _ALL))
            done = threading.Event()
            reader.settimeout(0.1)
            thread = threading.Thread(target=_read, args=(reader, found.packets, done))
            thread.start()
            try:
                yield found
            finally:
                done.set()
                thread.join()
                reader.close()
        finally:
            subprocess.run(["ip", "netns", "delete", namespace], check=True, capture_output=True)


def _read(reader: socket.socket, packets: list[bytes], done: threading.Event) -> None:
    while not done.is_set():
        with suppress(TimeoutError):
            packets.append(reader.recv(1 << 16))
