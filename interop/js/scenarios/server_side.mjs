// Subscriptions that the server makes: the personal channel of each user, and those a token names.
import assert from 'node:assert/strict';
import { connect, subscribe } from '../client.mjs';

export const serverSide = {
  'each user is on the personal channel without asking': async (scope) => {
    const account = await scope.api.account();
    const client = await connect(scope, { token: account.token });
    const { channel } = await client.events.next('subscribed');
    assert.equal(channel, `user:#${account.id}`);
  },

  'a backend subscribes a user who is connected elsewhere, and takes it back': async (scope) => {
    const [account, channel] = [await scope.api.account(), `chat:${scope.tag}`];
    const client = await connect(scope, { token: account.token });
    const backend = scope.besides().api;
    await backend.backend('subscribe', { user: account.id, channel });
    await client.events.next('subscribed', (context) => context.channel === channel);
    await backend.backend('publish', { channel, data: { number: 1 } });
    assert.deepEqual((await client.events.next('publication')).data, { number: 1 });
    await backend.backend('unsubscribe', { user: account.id, channel });
    await client.events.next('unsubscribed', (context) => context.channel === channel);
  },

  'a backend ends a subscription that the client made (2000)': async (scope) => {
    const account = await scope.api.account();
    const subscription = await subscribe(await connect(scope, { token: account.token }), `chat:${scope.tag}`);
    await scope.besides().api.backend('unsubscribe', { user: account.id, channel: subscription.channel });
    assert.equal((await subscription.events.next('unsubscribed')).code, 2000);
  },

  'a backend disconnects a user for good': async (scope) => {
    const account = await scope.api.account();
    const client = await connect(scope, { token: account.token });
    await scope.besides().api.backend('disconnect', { user: account.id });
    assert.equal((await client.events.next('disconnected')).code, 3503);
  },
};
