"""Connect, subscribe, publish, presence, history, rpc, unsubscribe."""

import uuid

from centrifuge import StreamPosition

from client import connect, subscribe


async def connects(scope):
    """connects with an access token"""
    client = await connect(scope, token=(await scope.api.account())["token"])
    assert str(uuid.UUID(client.id)) == client.id


async def publishes(scope):
    """publications reach publisher and others, with offset and author"""
    anna, ben = await scope.api.account(), await scope.api.account()
    channel = f"chat:{scope.tag}"
    first = await connect(scope, token=anna["token"])
    mine = await subscribe(first, channel)
    theirs = await subscribe(await connect(scope.besides(), token=ben["token"]), channel)
    await mine.publish({"text": "héllo\n«world»"})
    for subscription in (mine, theirs):
        publication = (await subscription.events.next("publication")).pub
        assert publication.data == {"text": "héllo\n«world»"}
        assert publication.offset == 1
        assert (publication.info.user, publication.info.client) == (anna["id"], first.id)


async def shows_presence(scope):
    """presence and its counts, joins and leaves"""
    anna, ben = await scope.api.account(), await scope.api.account()
    channel = f"chat:{scope.tag}"
    one, two = await connect(scope, token=anna["token"]), await connect(scope.besides(), token=ben["token"])
    watching = await subscribe(one, channel, join_leave=True)
    bens = await subscribe(two, channel)
    joined = await watching.events.next("join", lambda context: context.info.user == ben["id"])
    assert joined.info.client == two.id
    clients = (await watching.presence()).clients
    assert set(clients) == {one.id, two.id}
    assert clients[two.id].user == ben["id"]
    stats = await watching.presence_stats()
    assert (stats.num_clients, stats.num_users) == (2, 2)
    await bens.unsubscribe()
    await watching.events.next("leave", lambda context: context.info.client == two.id)
    stats = await watching.presence_stats()
    assert (stats.num_clients, stats.num_users) == (1, 1)


async def reads_history(scope):
    """history: position, pages, since, reverse"""
    account = await scope.api.account()
    subscription = await subscribe(await connect(scope, token=account["token"]), f"chat:{scope.tag}")
    for number in range(1, 6):
        await subscription.publish({"number": number})
    position = await subscription.history(limit=0)
    assert (position.offset, position.publications) == (5, [])
    since = StreamPosition(offset=3, epoch=position.epoch)

    async def offsets(**options):
        return [publication.offset for publication in (await subscription.history(**options)).publications]

    assert await offsets(limit=2) == [1, 2]
    assert await offsets(limit=-1) == [1, 2, 3, 4, 5]
    assert await offsets(limit=2, reverse=True) == [5, 4]
    assert await offsets(limit=10, since=since) == [4, 5]
    assert await offsets(limit=10, since=since, reverse=True) == [2, 1]


async def calls(scope):
    """rpc: time, and a job from submit to cancel"""
    client = await connect(scope, token=(await scope.api.account())["token"])
    assert (await client.rpc("time", {})).data
    submitted = await client.rpc("jobs.submit", {"kind": "debug.echo", "delay_ms": 600_000})
    job = submitted.data["id"]
    assert (await client.rpc("jobs.get", {"id": job})).data["state"] == "scheduled"
    await client.rpc("jobs.cancel", {"id": job})
    assert (await client.rpc("jobs.get", {"id": job})).data["state"] == "cancelled"


async def unsubscribes(scope):
    """unsubscribe ends publications and presence, and may be followed by subscribe"""
    account = await scope.api.account()
    channel = f"chat:{scope.tag}"
    staying = await subscribe(await connect(scope, token=account["token"]), channel, join_leave=True)
    leaver = await connect(scope, token=account["token"])
    leaving = await subscribe(leaver, channel)
    await leaving.unsubscribe()
    # Commands are answered in order: what follows the unsubscribe sees it done.
    await leaver.rpc("time", {})
    await staying.publish({"number": 1})
    await staying.events.next("publication")
    await staying.events.next("leave", lambda context: context.info.client == leaver.id)
    assert (await staying.presence_stats()).num_clients == 1
    assert leaving.events.all("publication") == []
    await leaving.subscribe()
    await leaving.events.next("subscribed")
    await staying.publish({"number": 2})
    await leaving.events.next("publication", lambda context: context.pub.offset == 2)


async def has_a_personal_channel(scope):
    """each user is on the personal channel without asking"""
    account = await scope.api.account()
    client = await connect(scope, token=account["token"])
    assert (await client.events.next("subscribed")).channel == f"user:#{account['id']}"
