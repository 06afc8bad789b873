// Connect, subscribe, publish, presence, history, rpc, unsubscribe.
import assert from 'node:assert/strict';
import { connect, newSubscription, subscribe } from '../client.mjs';

export const talking = {
  'connects with an access token': async (scope) => {
    const account = await scope.api.account();
    const client = await connect(scope, { token: account.token });
    assert.match(client.id, /^[0-9a-f-]{36}$/);
    assert.equal(client.state, 'connected');
  },

  'publications reach publisher and others, with offset and author': async (scope) => {
    const [anna, ben] = [await scope.api.account(), await scope.api.account()];
    const [first, second] = [await connect(scope, { token: anna.token }), await connect(scope, { token: ben.token })];
    const channel = `chat:${scope.tag}`;
    const [mine, theirs] = [await subscribe(first, channel), await subscribe(second, channel)];
    await mine.publish({ text: 'héllo\n«world»' });
    for (const subscription of [mine, theirs]) {
      const publication = await subscription.events.next('publication');
      assert.deepEqual(publication.data, { text: 'héllo\n«world»' });
      assert.equal(publication.offset, 1);
      assert.equal(publication.info.user, anna.id);
      assert.equal(publication.info.client, first.id);
    }
  },

  'a thousand publications of four authors arrive once and in order': async (scope) => {
    const { token } = await scope.api.account();
    const channel = `chat:${scope.tag}`;
    const clients = await Promise.all([1, 2, 3, 4].map(() => connect(scope, { token })));
    const subscriptions = await Promise.all(clients.map((client) => subscribe(client, channel)));
    const offsets = subscriptions.map((subscription) => {
      const list = [];
      subscription.on('publication', ({ offset }) => list.push(offset));
      return list;
    });
    await Promise.all(subscriptions.map(async (subscription) => {
      for (let number = 0; number < 250; number += 1) await subscription.publish({ number });
    }));
    const expected = Array.from({ length: 1000 }, (_, index) => index + 1);
    for (const [index, subscription] of subscriptions.entries()) {
      await subscription.events.next('publication', ({ offset }) => offset === 1000);
      assert.deepEqual(offsets[index], expected);
    }
  },

  'presence and its counts, joins and leaves': async (scope) => {
    const [anna, ben] = [await scope.api.account(), await scope.api.account()];
    const channel = `chat:${scope.tag}`;
    const [one, two, three] = await Promise.all([anna, anna, ben].map(({ token }) => connect(scope, { token })));
    const watching = await subscribe(one, channel, { joinLeave: true });
    await subscribe(two, channel);
    const bens = await subscribe(three, channel);
    const joined = await watching.events.next('join', ({ info }) => info.user === ben.id);
    assert.equal(joined.info.client, three.id);
    const { clients } = await watching.presence();
    assert.deepEqual(Object.keys(clients).sort(), [one.id, two.id, three.id].sort());
    assert.equal(clients[three.id].user, ben.id);
    const { numClients, numUsers } = await watching.presenceStats();
    assert.deepEqual([numClients, numUsers], [3, 2]);
    bens.unsubscribe();
    const left = await watching.events.next('leave', ({ info }) => info.user === ben.id);
    assert.equal(left.info.client, three.id);
    assert.equal((await watching.presenceStats()).numUsers, 1);
  },

  'history: position, pages, since, reverse': async (scope) => {
    const { token } = await scope.api.account();
    const subscription = await subscribe(await connect(scope, { token }), `chat:${scope.tag}`);
    for (let number = 1; number <= 5; number += 1) await subscription.publish({ number });
    const numbers = ({ publications }) => publications.map(({ data, offset }) => (assert.equal(data.number, offset), offset));
    const position = await subscription.history({ limit: 0 });
    assert.deepEqual([position.offset, position.publications], [5, []]);
    assert.ok(position.epoch);
    assert.deepEqual(numbers(await subscription.history({ limit: 2 })), [1, 2]);
    assert.deepEqual(numbers(await subscription.history({ limit: -1 })), [1, 2, 3, 4, 5]);
    assert.deepEqual(numbers(await subscription.history({ limit: 2, reverse: true })), [5, 4]);
    assert.deepEqual(numbers(await subscription.history({ limit: 10, since: { offset: 3, epoch: position.epoch } })), [4, 5]);
    assert.deepEqual(numbers(await subscription.history({ limit: 10, since: { offset: 3, epoch: position.epoch }, reverse: true })), [2, 1]);
  },

  'rpc: time, and a job from submit to answer': async (scope) => {
    const { token } = await scope.api.account();
    const client = await connect(scope, { token });
    const time = await client.rpc('time', {});
    assert.ok(time.data, 'time answers with data');
    const { data: job } = await client.rpc('jobs.submit', { kind: 'debug.echo', payload: { hello: 'world' } });
    assert.equal(job.kind, 'debug.echo');
    assert.equal((await client.rpc('jobs.get', { id: job.id })).data.id, job.id);
  },

  'unsubscribe ends publications and presence, and may be followed by subscribe': async (scope) => {
    const { token } = await scope.api.account();
    const channel = `chat:${scope.tag}`;
    const [watcher, leaver] = [await connect(scope, { token }), await connect(scope, { token })];
    const [staying, leaving] = [await subscribe(watcher, channel, { joinLeave: true }), await subscribe(leaver, channel)];
    leaving.unsubscribe();
    assert.equal((await leaving.events.next('unsubscribed')).code, 0);
    // Commands are answered in order: what follows the unsubscribe sees it done.
    await leaver.rpc('time', {});
    await staying.publish({ number: 1 });
    await staying.events.next('publication');
    await staying.events.next('leave', ({ info }) => info.client === leaver.id);
    assert.equal((await staying.presenceStats()).numClients, 1);
    assert.equal(leaving.events.count('publication'), 0);
    leaving.subscribe();
    await leaving.events.next('subscribed');
    await staying.publish({ number: 2 });
    assert.equal((await leaving.events.next('publication', ({ offset }) => offset === 2)).data.number, 2);
  },

  'a hundred channels subscribed in one frame': async (scope) => {
    const { token } = await scope.api.account();
    const client = await connect(scope, { token });
    client.startBatching();
    const subscriptions = Array.from({ length: 100 }, (_, index) => newSubscription(client, `chat:${scope.tag}-${index}`));
    client.stopBatching();
    await Promise.all(subscriptions.map((subscription) => subscription.events.next('subscribed')));
    await Promise.all(subscriptions.map((subscription) => subscription.publish({ to: subscription.channel })));
    for (const subscription of subscriptions) {
      assert.equal((await subscription.events.next('publication')).data.to, subscription.channel);
    }
  },
};
