"""Python's websockets through the proxy, with text, bytes, large and fragmented messages: `with_websockets.py URL`."""

import asyncio
import sys

import websockets

url = sys.argv[1].replace("http://", "ws://")


async def one(n: int):
    async with websockets.connect(f"{url}/ws", max_size=4 << 20) as socket:
        for message in ["", f"hello {n}", b"\x00\xff" * 100, "x" * 1_000_000]:
            await socket.send(message)
            assert await asyncio.wait_for(socket.recv(), 20) == message
        await socket.send(["in ", "three ", "parts"])
        assert await asyncio.wait_for(socket.recv(), 20) == "in three parts"
        await asyncio.wait_for(await socket.ping(), 20)
    assert socket.close_code == 1000


async def main():
    await asyncio.gather(*(one(n) for n in range(20)))


asyncio.run(main())
