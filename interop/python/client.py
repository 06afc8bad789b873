"""The official client as an application would use it, and what a test needs around it: what it saw, and waiting for more."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import time

from centrifuge import CentrifugeError, Client, ClientEventHandler, ReplyError, SubscriptionEventHandler


class Seen:
    """Events in the order they came, each awaited at most once."""

    def __init__(self):
        self.events = []
        self.changed = asyncio.Condition()

    async def add(self, name, context):
        async with self.changed:
            self.events.append((name, context))
            self.changed.notify_all()

    async def next(self, name, matches=lambda context: True, seconds=8):
        """The first event of that name not yet taken; earlier events of other names stay."""

        def position():
            wanted = (index for index, (seen, context) in enumerate(self.events) if seen == name and matches(context))
            return next(wanted, None)

        try:
            async with self.changed:
                await asyncio.wait_for(self.changed.wait_for(lambda: position() is not None), seconds)
                return self.events.pop(position())[1]
        except (asyncio.TimeoutError, TimeoutError):
            raise AssertionError(f"no «{name}» within {seconds} s; seen: {self.events}") from None

    async def none(self, name, matches=lambda context: True, seconds=4):
        try:
            event = await self.next(name, matches, seconds)
        except AssertionError:
            return
        raise AssertionError(f"unexpected «{name}»: {event}")

    def all(self, name):
        return [context for seen, context in self.events if seen == name]


class ClientEvents(ClientEventHandler, Seen):
    pass


class SubscriptionEvents(SubscriptionEventHandler, Seen):
    pass


def _record(handlers, names):
    for name in names:

        async def handler(self, context, name=name):
            await self.add(name, context)

        setattr(handlers, f"on_{name}", handler)


_OF_SUBSCRIPTIONS = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"]
_record(ClientEvents, ["connecting", "connected", "disconnected", *_OF_SUBSCRIPTIONS])
_record(SubscriptionEvents, _OF_SUBSCRIPTIONS)


def new_client(scope, **options):
    events = ClientEvents()
    client = Client(scope.api.socket, events, max_reconnect_delay=0.5, proxy=None, **options)
    scope.on_end(client.disconnect)
    return client


async def connect(scope, **options):
    client = new_client(scope, **options)
    await client.connect()
    client.id = (await client.events.next("connected")).client
    return client


async def new_subscription(client, channel, **options):
    subscription = client.new_subscription(channel, SubscriptionEvents(), max_resubscribe_delay=0.5, **options)
    await subscription.subscribe()
    return subscription


async def subscribe(client, channel, **options):
    """A subscription that is there; `start` is what its first «subscribed» said."""
    subscription = await new_subscription(client, channel, **options)
    subscription.start = await subscription.events.next("subscribed")
    return subscription


async def refusal(call):
    """The code that the call is refused with."""
    try:
        await call
    except ReplyError as error:
        return error.code
    except CentrifugeError as error:
        raise AssertionError(f"refused, but with no code of the server: {error!r}") from error
    raise AssertionError("the call was expected to be refused, and was not")


def signed(claims, secret=None):
    """A token of Centrifugo's own claims, as an application's backend signs them."""

    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    text = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + b"." + part(json.dumps(claims).encode())
    key = (secret or os.environ["CHANNEL_TOKEN_HMAC_SECRET"]).encode()
    return (text + b"." + part(hmac.new(key, text, hashlib.sha256).digest())).decode()


def in_seconds(seconds):
    return int(time.time()) + seconds
