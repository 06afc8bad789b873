"""What no SDK of today sends, and what an application never sees: frames as they are."""

import json
import os

import websockets

from client import in_seconds, signed


class Socket:
    """A WebSocket whose frames are kept, to be checked against docs/asyncapi.yaml."""

    def __init__(self, connection):
        self.connection = connection
        self.unread = []

    async def send(self, *commands):
        frame = "\n".join(command if isinstance(command, str) else json.dumps(command) for command in commands)
        _record("sent", frame)
        await self.connection.send(frame)

    async def receive(self):
        """The next reply or push; pings are answered on the way."""
        while True:
            while not self.unread:
                frame = await self.connection.recv()
                _record("received", frame)
                self.unread = [json.loads(line) for line in frame.split("\n")]
            reply = self.unread.pop(0)
            if reply:
                return reply
            await self.send({})

    async def ask(self, *commands):
        await self.send(*commands)
        return [await self.receive() for _ in commands]

    async def close_code(self):
        try:
            while True:
                await self.connection.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code


def _record(direction, text):
    with open(f"{os.environ['INTEROP_DIR']}/frames-raw.ndjson", "a", encoding="utf-8") as file:
        file.write(json.dumps({"direction": direction, "text": text}) + "\n")


async def _open(scope, path="/connection/websocket", **options):
    url = f"ws://127.0.0.1:{scope.api.port}{path}"
    connection = await websockets.connect(url, proxy=None, close_timeout=1, **options)
    scope.on_end(connection.close)
    return Socket(connection)


async def _connected(scope, token=None):
    socket = await _open(scope)
    [reply] = await socket.ask({"id": 1, "connect": {"token": token} if token else {}})
    assert reply["connect"]["client"], reply
    return socket


async def chooses_a_subprotocol(scope):
    """no subprotocol is chosen unless centrifuge-json is offered; /ws is the same door"""
    assert (await _open(scope)).connection.subprotocol is None
    offered = await _open(scope, path="/ws", subprotocols=["centrifuge-json"])
    assert offered.connection.subprotocol == "centrifuge-json"
    [reply] = await offered.ask({"id": 1, "connect": {}})
    assert reply["connect"]["pong"] is True


async def answers_in_order(scope):
    """many commands in one frame are answered in their order"""
    account = await scope.api.account()
    socket = await _open(scope)
    channel = f"chat:{scope.tag}"
    replies = await socket.ask(
        {"id": 1, "connect": {"token": account["token"]}},
        {"id": 2, "subscribe": {"channel": channel}},
        {"id": 3, "presence": {"channel": channel}},
        {"id": 4, "history": {"channel": channel, "limit": -1}},
        {"id": 5, "unsubscribe": {"channel": channel}},
        {"id": 6, "unsubscribe": {"channel": channel}},
    )
    assert [reply["id"] for reply in replies] == [1, 2, 3, 4, 5, 6]
    assert replies[3]["history"]["publications"] == []
    assert replies[5] == {"id": 6, "unsubscribe": {}}


async def sends_and_refreshes(scope):
    """send has no answer, ping an empty one; sub_refresh may leave out the channel, as older SDKs do"""
    account = await scope.api.account()
    socket = await _connected(scope, account["token"])
    channel = f"gated:{scope.tag}"
    token = signed({"sub": account["id"], "channel": channel, "exp": in_seconds(60)})
    await socket.send({"send": {"data": {"nobody": "listens"}}})
    assert await socket.ask({"id": 9, "ping": {}}) == [{"id": 9, "ping": {}}]
    [subscribed, refreshed] = await socket.ask(
        {"id": 2, "subscribe": {"channel": channel, "token": token}},
        {"id": 3, "sub_refresh": {"token": token}},
    )
    assert subscribed["subscribe"]["expires"] is True and subscribed["subscribe"]["ttl"] > 0
    assert refreshed["sub_refresh"]["expires"] is True and refreshed["sub_refresh"]["ttl"] > 0
    [again] = await socket.ask({"id": 4, "refresh": {"token": await scope.api.login(account)}})
    assert again["refresh"]["expires"] is True and again["refresh"]["ttl"] > 0


async def refuses_with_codes(scope):
    """already subscribed is 105, an expired subscription token 109, a lost position 112, nonsense 107"""
    account = await scope.api.account()
    socket = await _connected(scope, account["token"])
    chat, gated = f"chat:{scope.tag}", f"gated:{scope.tag}"
    expired = signed({"sub": account["id"], "channel": gated, "exp": in_seconds(-60)})
    replies = await socket.ask(
        {"id": 2, "subscribe": {"channel": chat}},
        {"id": 3, "subscribe": {"channel": chat}},
        {"id": 4, "subscribe": {"channel": gated, "token": expired}},
        {"id": 5, "history": {"channel": chat, "limit": 10, "since": {"offset": 5, "epoch": "long-ago"}}},
        {"id": 6, "subscribe": {"channel": ""}},
        {"id": 7, "sub_refresh": {"channel": "chat:not-subscribed", "token": expired}},
    )
    codes = [reply.get("error", {}).get("code") for reply in replies]
    assert codes[:5] == [None, 105, 109, 112, 107], codes
    assert codes[5] is not None


async def ends_what_is_no_protocol(scope):
    """a first command other than connect, garbage, and a command without id end the connection (3501)"""
    for frames in (['{"id":1,"rpc":{"method":"time"}}'], ["{}"], ["no json"], ['{"id":1,"connect":{}}', '{"rpc":{"method":"time"}}']):
        socket = await _open(scope)
        for frame in frames:
            await socket.connection.send(frame)
        assert await socket.close_code() == 3501, frames


async def keeps_foreign_pages_out(scope):
    """a page of another origin gets no socket"""
    try:
        await _open(scope, origin="https://elsewhere.example")
    except websockets.InvalidStatus as refused:
        assert refused.response.status_code == 403
    else:
        raise AssertionError("the socket was opened")
