"""A small web shop. What things cost and how receipts look, it leaves to two functions.

It answers `GET /receipt?item=tea&count=3`.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import funker

PORT = 8000


class Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path != "/receipt":
            self.answer(404, "There is only /receipt?item=tea&count=3\n")
            return
        query = dict.fromkeys(("item", "count"), "1") | {
            name: values[-1] for name, values in parse_qs(url.query).items()
        }
        try:
            item, count = query["item"], int(query["count"])
            # Names of services in this stack, without the stack's own name.
            cents = funker.call("price", item=item, count=count)
            self.answer(200, funker.call("receipt", item=item, count=count, cents=cents))
        except ValueError:
            self.answer(400, "count is a number\n")
        except funker.FunctionError as error:
            self.answer(400, f"{error}\n")
        except funker.CallError as error:
            self.answer(503, f"{error.code}: {error}\n")

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), Shop).serve_forever()
