// The official client as an application would use it, and what a test needs around it: what it saw, and waiting for more.
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { appendFileSync } from 'node:fs';

// Every frame of both directions is kept, to be checked against docs/asyncapi.yaml afterwards.
class RecordedSocket extends WebSocket {
  constructor(...args) {
    super(...args);
    this.on('message', (data) => record('received', data.toString()));
  }

  send(data, ...rest) {
    record('sent', data);
    super.send(data, ...rest);
  }
}

function record(direction, text) {
  appendFileSync(`${process.env.INTEROP_DIR}/frames-js.ndjson`, `${JSON.stringify({ direction, text })}\n`);
}

// Events of one emitter in the order they came, each awaited at most once.
export class Events {
  constructor(emitter, names) {
    this.seen = [];
    this.waiters = [];
    for (const name of names) emitter.on(name, (context) => this.#add({ name, ...context }));
  }

  // The first event of that name not yet taken; earlier events of other names stay.
  async next(name, matches = () => true, seconds = 8) {
    const found = this.seen.findIndex((event) => event.name === name && matches(event));
    if (found >= 0) return this.seen.splice(found, 1)[0];
    return new Promise((resolve, reject) => {
      const waiter = { name, matches, resolve };
      this.waiters.push(waiter);
      const late = () => {
        this.waiters = this.waiters.filter((other) => other !== waiter);
        reject(new Error(`no «${name}» within ${seconds} s; seen: ${JSON.stringify(this.seen)}`));
      };
      waiter.timer = setTimeout(late, seconds * 1000);
    });
  }

  count(name) {
    return this.seen.filter((event) => event.name === name).length;
  }

  #add(event) {
    const waiter = this.waiters.find(({ name, matches }) => name === event.name && matches(event));
    if (!waiter) return void this.seen.push(event);
    clearTimeout(waiter.timer);
    this.waiters = this.waiters.filter((other) => other !== waiter);
    waiter.resolve(event);
  }
}

const CLIENT_EVENTS = ['connecting', 'connected', 'disconnected', 'error', 'message',
  'subscribed', 'subscribing', 'unsubscribed', 'publication', 'join', 'leave'];
const SUBSCRIPTION_EVENTS = ['subscribing', 'subscribed', 'unsubscribed', 'error', 'publication', 'join', 'leave'];

// A client that has not connected yet; `client.events` has what happened to it.
export function newClient(scope, options) {
  const client = new Centrifuge(scope.api.socket, { websocket: RecordedSocket, minReconnectDelay: 100, maxReconnectDelay: 500, ...options });
  client.events = new Events(client, CLIENT_EVENTS);
  scope.onEnd(() => client.disconnect());
  return client;
}

export async function connect(scope, options) {
  const client = newClient(scope, options);
  client.connect();
  client.id = (await client.events.next('connected')).client;
  return client;
}

export function newSubscription(client, channel, options) {
  const subscription = client.newSubscription(channel, { minResubscribeDelay: 100, maxResubscribeDelay: 500, ...options });
  subscription.events = new Events(subscription, SUBSCRIPTION_EVENTS);
  subscription.subscribe();
  return subscription;
}

// A subscription that is there; `subscription.start` is the context of its first «subscribed».
export async function subscribe(client, channel, options) {
  const subscription = newSubscription(client, channel, options);
  subscription.start = await subscription.events.next('subscribed');
  return subscription;
}

// What the call was refused with: {code, message}.
export async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('the call was expected to be refused, and was not');
}
