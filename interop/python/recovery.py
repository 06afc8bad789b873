"""What a client gets back after the API process was killed, and how it is told when that cannot be."""

from centrifuge import StreamPosition

from client import connect, in_seconds, signed, subscribe


async def _nothing():
    pass


async def recovers(scope):
    """kill -9: what was missed arrives in order, recovered"""
    token = (await scope.api.account())["token"]
    channel = f"chat:{scope.tag}"
    subscription = await subscribe(await connect(scope, token=token), channel)
    elsewhere = await subscribe(await connect(scope.besides(), token=token), channel)
    await elsewhere.publish({"number": 1})

    async def publish():
        for number in range(2, 21):
            await elsewhere.publish({"number": number})

    await subscription.events.next("publication", lambda context: context.pub.offset == 1)
    await scope.api.restart_after(publish)
    back = await subscription.events.next("subscribed", seconds=15)
    assert (back.was_recovering, back.recovered) == (True, True)
    for number in range(2, 21):
        assert (await subscription.events.next("publication")).pub.data == {"number": number}
    await elsewhere.publish({"number": 21})
    assert (await subscription.events.next("publication")).pub.offset == 21


async def recovers_nothing(scope):
    """kill -9 with nothing missed is recovered too"""
    token = (await scope.api.account())["token"]
    subscription = await subscribe(await connect(scope, token=token), f"chat:{scope.tag}")
    await scope.api.restart_after(_nothing)
    back = await subscription.events.next("subscribed", seconds=15)
    assert (back.was_recovering, back.recovered) == (True, True)


async def cannot_recover(scope):
    """kill -9 and more missed than history holds: recovered is false, and the position is the top"""
    token = (await scope.api.account())["token"]
    channel = f"brief:{scope.tag}"
    subscription = await subscribe(await connect(scope, token=token), channel)
    elsewhere = await subscribe(await connect(scope.besides(), token=token), channel)
    await elsewhere.publish({"number": 1})
    await subscription.events.next("publication")

    async def publish():
        for number in range(2, 13):
            await elsewhere.publish({"number": number})

    await scope.api.restart_after(publish)
    back = await subscription.events.next("subscribed", seconds=15)
    assert (back.was_recovering, back.recovered, back.stream_position.offset) == (True, False, 12)
    await elsewhere.publish({"number": 13})
    assert (await subscription.events.next("publication")).pub.offset == 13


async def loads_state_again(scope):
    """a client that loads its state elsewhere is told to load it again (112)"""
    token = (await scope.api.account())["token"]
    channel = f"chat:{scope.tag}"
    first = await subscribe(await connect(scope, token=token), channel)
    await first.publish({"number": 1})
    loads = []

    async def get_state(_channel):
        position = await first.history(limit=0)
        loads.append(position.offset)
        return StreamPosition(offset=position.offset, epoch="long-ago" if len(loads) == 1 else position.epoch)

    subscription = await subscribe(await connect(scope, token=token), channel, get_state=get_state)
    assert loads == [1, 1]
    assert subscription.start.recovered


async def recovers_server_side(scope):
    """kill -9: subscriptions of the server recover as well"""
    channel = f"chat:{scope.tag}"
    token = signed({"sub": f"outside-{scope.tag}", "exp": in_seconds(60), "channels": [channel]})
    client = await connect(scope, token=token)
    await client.events.next("subscribed", lambda context: context.channel == channel)
    elsewhere = await connect(scope.besides(), token=token)
    await elsewhere.publish(channel, {"number": 1})
    await client.events.next("publication")
    await scope.api.restart_after(lambda: elsewhere.publish(channel, {"number": 2}))
    back = await client.events.next("subscribed", lambda context: context.channel == channel, seconds=15)
    assert (back.was_recovering, back.recovered) == (True, True)
    assert (await client.events.next("publication")).pub.data == {"number": 2}
