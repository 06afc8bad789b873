"""How tokens are presented, replaced and refused, of connections and of subscriptions."""

import asyncio

from centrifuge import SubscriptionState

from client import connect, in_seconds, new_client, new_subscription, signed, subscribe


async def refreshes(scope):
    """a token about to expire is refreshed, and the connection kept"""
    account = await scope.api.account()
    asked = []

    async def get_token():
        asked.append(1)
        return await (scope.api.short_token(account, 3) if len(asked) == 1 else scope.api.login(account))

    client = await connect(scope, get_token=get_token)
    subscription = await subscribe(client, f"chat:{scope.tag}")
    # Longer than the first token lives, whose end would show as «connecting».
    await client.events.none("connecting", lambda context: context.code != 0, seconds=5)
    assert len(asked) == 2
    await subscription.publish({"still": "here"})
    await subscription.events.next("publication")


async def replaces_an_expired_token(scope):
    """an expired token is replaced before the connection counts as failed"""
    account = await scope.api.account()
    token = await scope.api.short_token(account, 1)
    await asyncio.sleep(2.1)

    async def get_token():
        return await scope.api.login(account)

    client = await connect(scope, token=token, get_token=get_token)
    assert (await client.events.next("error")).error.code == 109


async def refuses_a_forged_token(scope):
    """a forged token is refused for good"""
    account = await scope.api.account()
    client = new_client(scope, token=account["token"][:-6] + "AAAAAA")
    await client.connect()
    assert (await client.events.next("disconnected")).code == 3500


async def takes_claims_of_centrifugo(scope):
    """a token of Centrifugo's claims connects, with its channels"""
    channel = f"chat:{scope.tag}"
    claims = {"sub": f"outside-{scope.tag}", "exp": in_seconds(60), "info": {"name": "Olga"}, "channels": [channel]}
    client = await connect(scope, token=signed(claims))
    await client.events.next("subscribed", lambda context: context.channel == channel)
    info = (await client.presence(channel)).clients[client.id]
    assert (info.user, info.conn_info) == (claims["sub"], {"name": "Olga"})


async def refreshes_subscriptions(scope):
    """a subscription token opens a channel, is refreshed, and the subscription kept"""
    account = await scope.api.account()
    asked = []

    async def get_token(channel):
        asked.append(channel)
        return signed({"sub": account["id"], "channel": channel, "exp": in_seconds(2 if len(asked) == 1 else 60)})

    client = await connect(scope, token=account["token"])
    subscription = await subscribe(client, f"gated:{scope.tag}", get_token=get_token)
    await subscription.events.none("subscribing", lambda context: context.code != 0)
    assert asked == [f"gated:{scope.tag}"] * 2
    assert subscription.state == SubscriptionState.SUBSCRIBED


async def refuses_foreign_subscription_tokens(scope):
    """a subscription token for another channel or another user is refused"""
    account = await scope.api.account()
    client = await connect(scope, token=account["token"])
    channel = f"gated:{scope.tag}"
    for sub, of in ((account["id"], "gated:other"), ("somebody-else", channel)):
        token = signed({"sub": sub, "channel": of, "exp": in_seconds(60)})
        subscription = await new_subscription(client, channel, token=token)
        assert (await subscription.events.next("unsubscribed")).code == 103
        client.remove_subscription(subscription)
