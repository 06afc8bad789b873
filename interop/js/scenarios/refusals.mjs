// What is not allowed, and the code that says so.
import assert from 'node:assert/strict';
import { connect, newClient, newSubscription, refusal, subscribe } from '../client.mjs';

async function refusedSubscription(client, channel) {
  return (await newSubscription(client, channel).events.next('unsubscribed')).code;
}

export const refusals = {
  'an unknown namespace is 102, and the connection stays': async (scope) => {
    const { token } = await scope.api.account();
    const client = await connect(scope, { token });
    assert.equal(await refusedSubscription(client, `nowhere:${scope.tag}`), 102);
    assert.equal((await refusal(client.publish(`nowhere:${scope.tag}`, {}))).code, 102);
    assert.equal(client.state, 'connected');
  },

  'the personal channel of another user is 103': async (scope) => {
    const [{ token }, other] = [await scope.api.account(), await scope.api.account()];
    const client = await connect(scope, { token });
    assert.equal(await refusedSubscription(client, `user:#${other.id}`), 103);
    assert.equal((await refusal(client.publish(`user:#${other.id}`, {}))).code, 103);
    assert.equal((await refusal(client.history(`user:#${other.id}`))).code, 103);
  },

  'publishing, history and presence are for subscribers of a chat': async (scope) => {
    const { token } = await scope.api.account();
    const client = await connect(scope, { token });
    const channel = `chat:${scope.tag}`;
    assert.equal((await refusal(client.publish(channel, {}))).code, 103);
    assert.equal((await refusal(client.history(channel))).code, 103);
    assert.equal((await refusal(client.presence(channel))).code, 103);
    assert.equal((await refusal(client.presenceStats(channel))).code, 103);
  },

  'an anonymous client has the public channels alone': async (scope) => {
    const client = await connect(scope, {});
    await subscribe(client, `public:${scope.tag}`);
    assert.equal(await refusedSubscription(client, `chat:${scope.tag}`), 103);
    assert.equal((await refusal(client.publish(`public:${scope.tag}`, {}))).code, 103);
  },

  'an unknown rpc method is 104': async (scope) => {
    const { token } = await scope.api.account();
    const client = await connect(scope, { token });
    assert.equal((await refusal(client.rpc('no.such.method', {}))).code, 104);
  },

  'a publication that is too large is refused, or ends the connection with a code that says so': async (scope) => {
    const { token } = await scope.api.account();
    const client = newClient(scope, { token });
    client.connect();
    await client.events.next('connected');
    const subscription = await subscribe(client, `chat:${scope.tag}`);
    subscription.publish({ text: 'x'.repeat(200_000) }).catch(() => {});
    // The frame itself is over the limit: 1009, which the client takes for final.
    assert.equal((await client.events.next('disconnected')).code, 3);
  },
};
