// How tokens are presented, replaced and refused, of connections and of subscriptions.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { promisify } from 'node:util';
import { connect, newClient, newSubscription, subscribe } from '../client.mjs';

// An access token that is good for so many seconds only, from the program itself.
export async function shortToken({ email }, seconds) {
  const args = ['token', 'issue', '--email', email, '--ttl', `${seconds}s`];
  return (await promisify(execFile)(process.env.MILLRACE_API, args)).stdout.trim();
}

// A token of Centrifugo's own claims, as an application's backend signs them.
export function signed(claims, secret = process.env.CHANNEL_TOKEN_HMAC_SECRET) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

export const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;

export const tokens = {
  'a token about to expire is refreshed, and the connection kept': async (scope) => {
    const account = await scope.api.account();
    let refreshes = 0;
    const getToken = async () => {
      refreshes += 1;
      return refreshes === 1 ? shortToken(account, 3) : scope.api.login(account);
    };
    const client = await connect(scope, { getToken });
    const subscription = await subscribe(client, `chat:${scope.tag}`);
    // Longer than the first token lives, whose end would show as «connecting».
    await assert.rejects(client.events.next('connecting', ({ code }) => code !== 0, 5), /no «connecting»/);
    assert.equal(refreshes, 2);
    assert.equal(client.state, 'connected');
    await subscription.publish({ still: 'here' });
    await subscription.events.next('publication');
  },

  'an expired token is replaced before the connection counts as failed': async (scope) => {
    const account = await scope.api.account();
    const token = await shortToken(account, 1);
    await new Promise((resolve) => setTimeout(resolve, 2100));
    const client = newClient(scope, { token, getToken: () => scope.api.login(account) });
    client.connect();
    await client.events.next('connected');
    assert.equal((await client.events.next('error')).error.code, 109);
  },

  'an expired token that cannot be replaced ends unauthorized': async (scope) => {
    const token = await shortToken(await scope.api.account(), 1);
    await new Promise((resolve) => setTimeout(resolve, 2100));
    const client = newClient(scope, { token });
    client.connect();
    assert.equal((await client.events.next('disconnected')).code, 1);
  },

  'a forged token is refused for good': async (scope) => {
    const { token } = await scope.api.account();
    const client = newClient(scope, { token: token.slice(0, -6) + 'AAAAAA' });
    client.connect();
    assert.equal((await client.events.next('disconnected')).code, 3500);
  },

  'a token of Centrifugo\'s claims connects, with its channels': async (scope) => {
    const channel = `chat:${scope.tag}`;
    const claims = { sub: `outside-${scope.tag}`, exp: inSeconds(60), info: { name: 'Olga' }, channels: [channel] };
    const client = await connect(scope, { token: signed(claims) });
    await client.events.next('subscribed', (context) => context.channel === channel);
    const { user, connInfo } = (await client.presence(channel)).clients[client.id];
    assert.deepEqual([user, connInfo], [claims.sub, { name: 'Olga' }]);
  },

  'a subscription token opens a channel, is refreshed, and the subscription kept': async (scope) => {
    const account = await scope.api.account();
    const client = await connect(scope, { token: account.token });
    const channel = `gated:${scope.tag}`;
    let asked = 0;
    const getToken = async () => {
      asked += 1;
      return signed({ sub: account.id, channel, exp: inSeconds(asked === 1 ? 2 : 60) });
    };
    const subscription = await subscribe(client, channel, { getToken });
    await assert.rejects(subscription.events.next('subscribing', ({ code }) => code !== 0, 4), /no «subscribing»/);
    assert.equal(asked, 2);
    assert.equal(subscription.state, 'subscribed');
  },

  'a subscription token for another channel or another user is refused': async (scope) => {
    const account = await scope.api.account();
    const client = await connect(scope, { token: account.token });
    const channel = `gated:${scope.tag}`;
    for (const claims of [{ sub: account.id, channel: 'gated:other' }, { sub: 'somebody-else', channel }]) {
      const subscription = newSubscription(client, channel, { token: signed({ ...claims, exp: inSeconds(60) }) });
      assert.equal((await subscription.events.next('unsubscribed')).code, 103);
      client.removeSubscription(subscription);
    }
  },
};
