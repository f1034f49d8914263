"""httpx through the proxy, many requests at once: `with_httpx.py URL`."""

import asyncio
import sys

import httpx

url = sys.argv[1]


async def chunks():
    for n in range(20):
        yield b"%d," % n * 1_000


async def main():
    async with httpx.AsyncClient(timeout=20) as client:
        answers = await asyncio.gather(*(client.get(f"{url}/{n}") for n in range(200)))
        assert [answer.text for answer in answers] == [f"GET /{n} http" for n in range(200)]
        sent = b"".join([part async for part in chunks()])
        assert (await client.post(f"{url}/", content=chunks())).content == sent
        async with client.stream("GET", f"{url}/chunked") as answer:
            assert "".join([part async for part in answer.aiter_text()]) == "".join(f"{n}," for n in range(50))


asyncio.run(main())
