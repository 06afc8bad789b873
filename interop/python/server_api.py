"""The server API, by PyPI `cent`: what a backend that knows Centrifugo calls."""

import asyncio
import os

import cent
from cent import Client as Backend

from client import connect, in_seconds, signed, subscribe


class _Cent:
    """`cent` blocks: each call goes to a thread of its own."""

    def __init__(self, api, key=None):
        self.backend = Backend(f"{api.http}/api", key or os.environ["CHANNEL_API_KEY"], timeout=5)

    async def ask(self, request):
        method = getattr(self.backend, request.api_method)
        return await asyncio.to_thread(method, request)


async def publishes(scope):
    """publish and broadcast reach subscribers, with position, tags and idempotency"""
    account = await scope.api.account()
    channel, other = f"chat:{scope.tag}", f"chat:{scope.tag}-other"
    subscription = await subscribe(await connect(scope, token=account["token"]), channel)
    backend = _Cent(scope.besides().api)
    request = cent.PublishRequest(channel=channel, data={"n": 1}, tags={"kind": "test"}, idempotency_key=scope.tag)
    first, again = await backend.ask(request), await backend.ask(request)
    assert (first.offset, first.epoch) == (1, again.epoch) == (again.offset, first.epoch)
    publication = (await subscription.events.next("publication")).pub
    assert (publication.data, publication.tags, publication.info) == ({"n": 1}, {"kind": "test"}, None)
    answer = await backend.ask(cent.BroadcastRequest(channels=[channel, other, "nowhere:1"], data={"n": 2}))
    assert [(one.result.offset if one.result else one.error.code) for one in answer.responses] == [2, 1, 102]
    assert (await subscription.events.next("publication")).pub.offset == 2


async def subscribes_users(scope):
    """subscribe and unsubscribe of a user, with what the client hears of it"""
    user, channel = f"outside-{scope.tag}", f"chat:{scope.tag}"
    client = await connect(scope, token=signed({"sub": user, "exp": in_seconds(60)}))
    backend = _Cent(scope.besides().api)
    await backend.ask(cent.SubscribeRequest(user=user, channel=channel))
    await client.events.next("subscribed", lambda context: context.channel == channel)
    await backend.ask(cent.PublishRequest(channel=channel, data={"n": 1}))
    assert (await client.events.next("publication")).pub.data == {"n": 1}
    await backend.ask(cent.UnsubscribeRequest(user=user, channel=channel))
    await client.events.next("unsubscribed", lambda context: context.channel == channel)


async def unsubscribes_clients(scope):
    """unsubscribe ends a client's own subscription for good (2000)"""
    account = await scope.api.account()
    subscription = await subscribe(await connect(scope, token=account["token"]), f"chat:{scope.tag}")
    await _Cent(scope.besides().api).ask(cent.UnsubscribeRequest(user=account["id"], channel=subscription.channel))
    assert (await subscription.events.next("unsubscribed")).code == 2000


async def disconnects_users(scope):
    """disconnect ends the connections of a user with the code that was asked for"""
    account = await scope.api.account()
    client = await connect(scope, token=account["token"])
    request = cent.DisconnectRequest(user=account["id"], disconnect=cent.Disconnect(code=4501, reason="moderated"))
    await _Cent(scope.besides().api).ask(request)
    gone = await client.events.next("disconnected")
    assert (gone.code, gone.reason) == (4501, "moderated")


async def reads_presence(scope):
    """presence and presence stats of a channel"""
    account, channel = await scope.api.account(), f"chat:{scope.tag}"
    client = await connect(scope, token=account["token"])
    # Its own next command comes after it is seen.
    await (await subscribe(client, channel)).presence_stats()
    backend = _Cent(scope.besides().api)
    assert (await backend.ask(cent.PresenceRequest(channel=channel))).presence[client.id].user == account["id"]
    stats = await backend.ask(cent.PresenceStatsRequest(channel=channel))
    assert (stats.num_clients, stats.num_users) == (1, 1)


async def reads(scope):
    """history, channels, info; history_remove"""
    account, channel = await scope.api.account(), f"chat:{scope.tag}"
    subscription = await subscribe(await connect(scope, token=account["token"]), channel)
    for number in (1, 2, 3):
        await subscription.publish({"n": number})
    backend = _Cent(scope.besides().api)
    history = await backend.ask(cent.HistoryRequest(channel=channel, limit=2, reverse=True))
    assert ([publication.offset for publication in history.publications], history.offset) == ([3, 2], 3)
    since = cent.StreamPosition(offset=2, epoch=history.epoch)
    assert len((await backend.ask(cent.HistoryRequest(channel=channel, limit=10, since=since))).publications) == 1
    assert (await backend.ask(cent.ChannelsRequest(pattern=f"chat:{scope.tag}*"))).channels[channel].num_clients == 1
    assert len((await backend.ask(cent.InfoRequest())).nodes) >= 2
    await backend.ask(cent.HistoryRemoveRequest(channel=channel))
    assert (await backend.ask(cent.HistoryRequest(channel=channel, limit=10))).publications == []


async def batches(scope):
    """several commands in one request"""
    channel = f"chat:{scope.tag}"
    requests = [cent.PublishRequest(channel=channel, data={"n": 1}), cent.HistoryRequest(channel=channel, limit=10)]
    published, history = (await _Cent(scope.api).ask(cent.BatchRequest(requests=requests))).replies
    assert published.offset == 1 and len(history.publications) == 1


async def refuses(scope):
    """a wrong key is 401, an unknown namespace error 102"""
    try:
        await _Cent(scope.api, key="wrong").ask(cent.InfoRequest())
    except cent.CentUnauthorizedError:
        pass
    else:
        raise AssertionError("a wrong key was accepted")
    try:
        await _Cent(scope.api).ask(cent.PublishRequest(channel="nowhere:1", data={}))
    except cent.CentApiResponseError as error:
        assert error.code == 102
    else:
        raise AssertionError("an unknown namespace was accepted")
