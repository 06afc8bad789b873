"""Deliveries over HTTP, as a receiver sees them that verifies with PyPI `standardwebhooks`."""

import asyncio
import http.server
import threading

from standardwebhooks import Webhook, WebhookVerificationError


class _Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def _start(scope):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    scope.on_end(lambda: asyncio.to_thread(server.shutdown))
    return server


async def _delivered(scope, account, endpoint, server):
    trial = await scope.api.call("POST", f"/endpoints/{endpoint['id']}/test", token=account["token"])
    assert trial["status"] == 204, trial
    headers, body = server.seen.pop()
    return {name.lower(): value for name, value in headers.items()}, body


async def verifies(scope):
    """a receiver verifies deliveries with the secret, with the one before for a day, and with no other"""
    account, server = await scope.api.account(), _start(scope)
    url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    endpoint = await scope.api.call("POST", "/endpoints", {"name": "interop", "url": url}, account["token"])
    headers, body = await _delivered(scope, account, endpoint, server)
    assert Webhook(endpoint["secret"]).verify(body, headers) == {"type": "test", "endpoint_id": endpoint["id"]}
    rotated = await scope.api.call("POST", f"/endpoints/{endpoint['id']}/rotate-secret", token=account["token"])
    headers, body = await _delivered(scope, account, endpoint, server)
    for secret in (endpoint["secret"], rotated["secret"]):
        Webhook(secret).verify(body, headers)
    for secret, forged in ((rotated["secret"], body + b" "), ("whsec_" + "A" * 44, body)):
        try:
            Webhook(secret).verify(forged, headers)
        except WebhookVerificationError:
            continue
        raise AssertionError("a forged delivery was verified")
