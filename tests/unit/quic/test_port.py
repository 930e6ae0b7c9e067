"""The socket in front of an endpoint: what must not come between a datagram and what it brings about."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import cast

from afterburnerd.quic.endpoint import Endpoint
from afterburnerd.quic.port import KernelPort, open_socket
from afterburnerd.quic.tokens import Address


def test_no_garbage_is_collected_from_a_datagram_to_its_adoption() -> None:
    seen: list[bool] = []

    def receive(datagram: bytes, remote: Address, now: float, tos: int) -> None:
        seen.append(gc.isenabled())

    async def run() -> None:
        endpoint = SimpleNamespace(outgoing=[], due=lambda: None, knows=lambda datagram: True, receive=receive)
        adopted = asyncio.Event()

        def after(port: KernelPort) -> None:
            seen.append(gc.isenabled())
            adopted.set()

        near, far = open_socket("127.0.0.1", 0), open_socket("127.0.0.1", 0)
        port = KernelPort(near, cast(Endpoint, endpoint), after)
        try:
            far.sendto(b"x", port.local)
            await asyncio.wait_for(adopted.wait(), 30)
            await asyncio.sleep(0)
        finally:
            port.close()
            far.close()

    assert gc.isenabled()
    asyncio.run(run())
    assert seen == [False, False] and gc.isenabled()
