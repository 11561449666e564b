"""A server with OpenAI's completions protocol that is not always well; its answers depend on the prompt alone."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GARBAGE = (b"<html>busy</html>", b"{}", b'{"choices": []}', b'{"choices": [{"text": 5}]}', b"\xff\xfe", b"[]", b"null")


class Deaf(ThreadingHTTPServer):
    """Does not say who has hung up on it, and lets many wait."""

    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Go on."""


class Server:
    """Answers after `trouble` has had its way with the first `times` tries of each prompt."""

    def __init__(self, trouble: str = "", times: int = 2) -> None:
        self.trouble, self.times = trouble, times if trouble else 0
        self.tries: Counter[str] = Counter()
        self.left = 0
        """Requests whose sender did not wait for the answer."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, json.dumps({"data": [{"id": "small", "owned_by": "someone"}]}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = json.dumps([body["prompt"], body["seed"]])
                outer.tries[asked] += 1
                if outer.tries[asked] > outer.times:
                    return self.answer(200, outer.reply(body))
                return outer.troubled(self, body)

            def answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = Deaf(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def troubled(self, handler: Any, body: dict[str, Any]) -> None:
        """Do what is wrong."""
        if self.trouble == "slow":
            time.sleep(6)
            handler.answer(200, self.reply(body))
        elif self.trouble == "garbage":
            handler.answer(200, GARBAGE[body["seed"] % len(GARBAGE)])
        elif self.trouble == "silent":
            handler.rfile.read(1)  # until the other end hangs up
            self.left += 1
        elif self.trouble == "hangs up":
            handler.connection.close()
        elif self.trouble in ("refuses some", "fails for some") and body["seed"] % 7:
            handler.answer(200, self.reply(body))
        else:
            handler.answer(400 if self.trouble == "refuses some" else 500, b'{"error": "no"}')

    def reply(self, body: dict[str, Any]) -> bytes:
        """The number after the prompt's last sum is a matter of the seed."""
        text = f"so many\n#### {body['seed'] % 30}"
        return json.dumps({"choices": [{"text": text, "finish_reason": "stop"}]}).encode()


@contextmanager
def serving(trouble: str = "", times: int = 2) -> Iterator[Server]:
    """Serve while the block runs."""
    server = Server(trouble, times)
    threading.Thread(target=server.http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
