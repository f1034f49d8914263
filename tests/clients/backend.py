"""What the clients talk to through the proxy: `backend.py HTTP_PORT WEBSOCKET_PORT`. Serves until it is killed."""

import asyncio
import http.server
import sys
import threading

import websockets


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/page":
            assets = "".join(f'<script src="/asset/{n}.js"></script>' for n in range(100))
            self.answer(f"<html><body>{assets}<script>document.title = 'loaded ' + window.count</script></body></html>", "text/html")
        elif self.path.startswith("/asset/"):
            self.answer("window.count = (window.count || 0) + 1;", "text/javascript")
        elif self.path.startswith("/redirect"):
            self.answer("", status=302, location="/after")
        elif self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for n in range(50):
                part = b"%d," % n
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(f"{self.command} {self.path} {self.headers.get('X-Forwarded-Proto')}")

    do_HEAD = do_DELETE = do_GET

    def do_POST(self):
        self.answer(self.body())

    do_PUT = do_POST

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def answer(self, text, kind="text/plain", status=200, location=None):
        content = text if isinstance(text, bytes) else text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main(http_port: int, websocket_port: int):
    server = Server(("127.0.0.1", http_port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with websockets.serve(echo, "127.0.0.1", websocket_port, max_size=4 << 20):
        await asyncio.Future()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
