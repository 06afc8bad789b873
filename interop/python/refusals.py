"""What is not allowed, and the code that says so."""

from client import connect, new_subscription, refusal, subscribe


async def _refused_subscription(client, channel):
    subscription = await new_subscription(client, channel)
    return (await subscription.events.next("unsubscribed")).code


async def unknown_namespace(scope):
    """an unknown namespace is 102, and the connection stays"""
    client = await connect(scope, token=(await scope.api.account())["token"])
    assert await _refused_subscription(client, f"nowhere:{scope.tag}") == 102
    assert await refusal(client.publish(f"nowhere:{scope.tag}", {})) == 102
    await client.rpc("time", {})


async def another_user(scope):
    """the personal channel of another user is 103"""
    account, other = await scope.api.account(), await scope.api.account()
    client = await connect(scope, token=account["token"])
    assert await _refused_subscription(client, f"user:#{other['id']}") == 103
    assert await refusal(client.publish(f"user:#{other['id']}", {})) == 103


async def no_subscriber(scope):
    """publishing, history and presence are for subscribers of a chat"""
    client = await connect(scope, token=(await scope.api.account())["token"])
    channel = f"chat:{scope.tag}"
    assert await refusal(client.publish(channel, {})) == 103
    assert await refusal(client.history(channel)) == 103
    assert await refusal(client.presence(channel)) == 103
    assert await refusal(client.presence_stats(channel)) == 103


async def anonymous(scope):
    """an anonymous client has the public channels alone"""
    client = await connect(scope)
    await subscribe(client, f"public:{scope.tag}")
    assert await _refused_subscription(client, f"chat:{scope.tag}") == 103


async def unknown_method(scope):
    """an unknown rpc method is 104"""
    client = await connect(scope, token=(await scope.api.account())["token"])
    assert await refusal(client.rpc("no.such.method", {})) == 104
