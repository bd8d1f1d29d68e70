"""Echo and broadcast on Python's websockets with uvloop: server.py PORT.

What a client sends to /echo comes back, what it sends to /broadcast goes to all there.
"""

import sys

import uvloop
from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

subscribers = set()


async def handle(socket):
    is_broadcast = socket.request.path == "/broadcast"
    if is_broadcast:
        subscribers.add(socket)
    try:
        async for message in socket:
            if is_broadcast:
                broadcast(subscribers, message)
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass
    finally:
        subscribers.discard(socket)


async def main():
    options = {"compression": None, "ping_interval": None, "backlog": 4096}
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), **options) as server:
        await server.serve_forever()


uvloop.run(main())
