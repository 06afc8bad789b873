// What a client gets back after the API process was killed, and how it is told when that cannot be.
import assert from 'node:assert/strict';
import { connect, subscribe } from '../client.mjs';
import { inSeconds, signed } from './tokens.mjs';

// The other client talks to another process, so that it can publish while the first process is dead.
async function killWhile(scope, publish) {
  await scope.api.end('SIGKILL');
  try {
    await publish();
  } finally {
    await scope.api.start();
  }
}

export const recovery = {
  'kill -9: what was missed arrives in order, recovered': async (scope) => {
    const { token } = await scope.api.account();
    const channel = `chat:${scope.tag}`;
    const client = await connect(scope, { token });
    const subscription = await subscribe(client, channel);
    const offsets = [];
    subscription.on('publication', ({ offset }) => offsets.push(offset));
    const elsewhere = await subscribe(await connect(scope.besides(), { token }), channel);
    for (let number = 1; number <= 3; number += 1) await elsewhere.publish({ number });
    await subscription.events.next('publication', ({ offset }) => offset === 3);
    await killWhile(scope, async () => {
      for (let number = 4; number <= 20; number += 1) await elsewhere.publish({ number });
    });
    const back = await subscription.events.next('subscribed', () => true, 15);
    assert.deepEqual([back.wasRecovering, back.recovered, back.hasRecoveredPublications], [true, true, true]);
    await subscription.events.next('publication', ({ offset }) => offset === 20);
    await elsewhere.publish({ number: 21 });
    await subscription.events.next('publication', ({ offset }) => offset === 21);
    assert.deepEqual(offsets, Array.from({ length: 21 }, (_, index) => index + 1));
  },

  'kill -9 with nothing missed is recovered too': async (scope) => {
    const { token } = await scope.api.account();
    const subscription = await subscribe(await connect(scope, { token }), `chat:${scope.tag}`);
    await subscription.publish({});
    await subscription.events.next('publication');
    await killWhile(scope, async () => {});
    const back = await subscription.events.next('subscribed', () => true, 15);
    assert.deepEqual([back.wasRecovering, back.recovered, back.hasRecoveredPublications], [true, true, false]);
  },

  'kill -9 and more missed than history holds: recovered is false, and the position is the top': async (scope) => {
    const { token } = await scope.api.account();
    const channel = `brief:${scope.tag}`;
    const subscription = await subscribe(await connect(scope, { token }), channel);
    const elsewhere = await subscribe(await connect(scope.besides(), { token }), channel);
    await elsewhere.publish({ number: 1 });
    await subscription.events.next('publication');
    await killWhile(scope, async () => {
      for (let number = 2; number <= 12; number += 1) await elsewhere.publish({ number });
    });
    const back = await subscription.events.next('subscribed', () => true, 15);
    assert.deepEqual([back.wasRecovering, back.recovered, back.hasRecoveredPublications], [true, false, false]);
    assert.equal(back.streamPosition.offset, 12);
    await elsewhere.publish({ number: 13 });
    assert.equal((await subscription.events.next('publication')).offset, 13);
  },

  'a position of another epoch: recovered is false': async (scope) => {
    const { token } = await scope.api.account();
    const channel = `chat:${scope.tag}`;
    await (await subscribe(await connect(scope, { token }), channel)).publish({});
    const subscription = await subscribe(await connect(scope, { token }), channel, { since: { offset: 1, epoch: 'long-ago' } });
    assert.deepEqual([subscription.start.wasRecovering, subscription.start.recovered], [true, false]);
  },

  'a client that loads its state elsewhere is told to load it again (112)': async (scope) => {
    const { token } = await scope.api.account();
    const channel = `chat:${scope.tag}`;
    const first = await subscribe(await connect(scope, { token }), channel);
    await first.publish({ number: 1 });
    let loads = 0;
    const getState = async () => {
      loads += 1;
      const { offset, epoch } = await first.history({ limit: 0 });
      return loads === 1 ? { offset, epoch: 'long-ago' } : { offset, epoch };
    };
    const subscription = await subscribe(await connect(scope, { token }), channel, { getState });
    assert.equal(loads, 2);
    assert.equal(subscription.start.recovered, true);
  },

  'kill -9: subscriptions of the server recover as well': async (scope) => {
    const channel = `chat:${scope.tag}`;
    const token = signed({ sub: `outside-${scope.tag}`, exp: inSeconds(60), channels: [channel] });
    const client = await connect(scope, { token });
    await client.events.next('subscribed', (context) => context.channel === channel);
    const elsewhere = await connect(scope.besides(), { token });
    await elsewhere.publish(channel, { number: 1 });
    await client.events.next('publication');
    await killWhile(scope, () => elsewhere.publish(channel, { number: 2 }));
    const back = await client.events.next('subscribed', (context) => context.channel === channel, 15);
    assert.deepEqual([back.wasRecovering, back.recovered], [true, true]);
    assert.equal((await client.events.next('publication')).data.number, 2);
  },
};
