// A small client of the realtime protocol (docs/asyncapi.yaml), enough for one page: one connection that comes back by itself,
// subscriptions that say what they recovered, calls with an answer. Applications take an official SDK instead.

const CALL_TIMEOUT_MS = 5000;
const RECONNECT_MIN_MS = 300;
const RECONNECT_MAX_MS = 10000;
// How much later than announced a ping may come before the connection counts as lost.
const PING_GRACE_MS = 10000;
const TOKEN_EXPIRED = 109;
const RESUBSCRIBE_FROM = 2500;
const isFinal = (code) => (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);

class Refusal extends Error {
  constructor({ code, message }) {
    super(`${message} (${code})`);
    this.code = code;
  }
}

class Connection {
  // `onState(state, detail)` hears connecting, connected, waiting and closed. `getToken` gives a token, or nothing for anonymous. `name` is
  // what operators see.
  constructor({ url, name, getToken, onState }) {
    this.url = url;
    this.name = name;
    this.getToken = getToken;
    this.onState = onState;
    this.subscriptions = new Map();
    this.calls = new Map();
    this.lastId = 0;
    this.failures = 0;
    this.closed = false;
  }

  async connect() {
    this.onState('connecting', '');
    let token;
    try {
      token = await this.getToken(this.tokenExpired);
    } catch (error) {
      return this.close(error.message);
    }
    if (this.closed) return;
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onopen = () => this.begin(socket, token);
    socket.onmessage = ({ data }) => socket === this.socket && data.split('\n').forEach((line) => this.take(JSON.parse(line)));
    socket.onclose = ({ code, reason }) => socket === this.socket && this.lose(code, reason);
  }

  // Ends the connection for good.
  close(detail) {
    this.closed = true;
    clearTimeout(this.comeBack);
    this.drop();
    this.onState('closed', detail);
  }

  // What a lost network does: the connection comes back by itself.
  cut() {
    if (!this.socket) return;
    this.socket.close();
    this.lose(0, 'cut by hand');
  }

  // The answer to a command of the protocol, or a refusal.
  call(command) {
    return new Promise((resolve, reject) => {
      if (this.socket?.readyState !== WebSocket.OPEN) return reject(new Error('not connected'));
      const id = (this.lastId += 1);
      const timer = setTimeout(() => this.settle(id, () => reject(new Error('no answer in time'))), CALL_TIMEOUT_MS);
      this.calls.set(id, { resolve, reject, timer });
      this.socket.send(JSON.stringify({ id, ...command }));
    });
  }

  subscribe(channel, handlers) {
    const subscription = new Subscription(this, channel, handlers);
    this.subscriptions.set(channel, subscription);
    if (this.client) subscription.start();
    return subscription;
  }

  async begin(socket, token) {
    try {
      const { connect } = await this.call({ connect: { ...(token && { token }), name: this.name } });
      this.failures = 0;
      this.tokenExpired = false;
      this.client = connect.client;
      this.pingEvery = (connect.ping ?? 0) * 1000;
      this.watchPings();
      this.refreshLater(connect);
      this.onState('connected', connect.client);
      for (const subscription of this.subscriptions.values()) subscription.start();
    } catch (error) {
      if (socket !== this.socket) return;
      this.tokenExpired = error.code === TOKEN_EXPIRED;
      if (error.code && !this.tokenExpired) this.close(error.message);
      else this.lose(0, error.message);
    }
  }

  refreshLater({ expires, ttl }) {
    clearTimeout(this.refresh);
    if (!expires) return;
    this.refresh = setTimeout(async () => {
      try {
        const token = await this.getToken(true);
        this.refreshLater((await this.call({ refresh: { token } })).refresh);
      } catch (error) {
        this.onState('connected', `the token could not be refreshed: ${error.message}`);
      }
    }, Math.min(ttl, 86400) * 1000);
  }

  take(reply) {
    this.watchPings();
    if (reply.id) this.settle(reply.id, ({ resolve, reject }) => (reply.error ? reject(new Refusal(reply.error)) : resolve(reply)));
    else if (reply.push) this.subscriptions.get(reply.push.channel)?.take(reply.push);
    else this.socket.send('{}');
  }

  settle(id, how) {
    const call = this.calls.get(id);
    if (!call) return;
    this.calls.delete(id);
    clearTimeout(call.timer);
    how(call);
  }

  watchPings() {
    clearTimeout(this.silence);
    if (this.client && this.pingEvery) this.silence = setTimeout(() => this.lose(0, 'no ping'), this.pingEvery + PING_GRACE_MS);
  }

  lose(code, reason) {
    this.drop();
    if (this.closed) return;
    if (isFinal(code)) return this.close(`${reason} (${code})`);
    const wait = Math.random() * Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** this.failures);
    this.failures += 1;
    this.onState('waiting', `${reason || 'connection lost'}${code ? ` (${code})` : ''}, again in ${(wait / 1000).toFixed(1)} s`);
    this.comeBack = setTimeout(() => this.connect(), wait);
  }

  drop() {
    clearTimeout(this.refresh);
    clearTimeout(this.silence);
    const socket = this.socket;
    this.socket = this.client = undefined;
    socket?.close();
    for (const id of [...this.calls.keys()]) this.settle(id, ({ reject }) => reject(new Error('connection lost')));
  }
}

class Subscription {
  // Handlers: subscribed(result), publication(publication, isRecovered), join(info), leave(info), ended(reason).
  constructor(connection, channel, handlers) {
    this.connection = connection;
    this.channel = channel;
    this.handlers = handlers;
    this.position = null;
  }

  async start() {
    const recover = this.position && { recover: true, ...this.position };
    try {
      const { subscribe } = await this.connection.call({ subscribe: { channel: this.channel, join_leave: true, ...recover } });
      this.position = subscribe.recoverable ? { offset: subscribe.offset ?? 0, epoch: subscribe.epoch ?? '' } : null;
      this.handlers.subscribed(subscribe);
      for (const publication of subscribe.publications ?? []) this.publication(publication, true);
    } catch (error) {
      if (error.code) this.end(error.message);
    }
  }

  // Without a connection there is nothing to take back.
  unsubscribe() {
    this.connection.subscriptions.delete(this.channel);
    this.connection.call({ unsubscribe: { channel: this.channel } }).catch(() => {});
  }

  publish(data) {
    return this.connection.call({ publish: { channel: this.channel, data } });
  }

  async presence() {
    return (await this.connection.call({ presence: { channel: this.channel } })).presence.presence;
  }

  // The newest publications before that offset, or of all when there is none after it; newest first.
  async before(offset, limit) {
    const isTop = offset > (this.position?.offset ?? 0);
    const since = isTop ? undefined : { offset, epoch: this.position.epoch };
    return (await this.connection.call({ history: { channel: this.channel, limit, reverse: true, since } })).history.publications;
  }

  take({ pub, join, leave, unsubscribe }) {
    if (pub) this.publication(pub, false);
    else if (join) this.handlers.join(join.info);
    else if (leave) this.handlers.leave(leave.info);
    else if (unsubscribe?.code >= RESUBSCRIBE_FROM) this.start();
    else if (unsubscribe) this.end(`${unsubscribe.reason} (${unsubscribe.code})`);
  }

  publication(publication, isRecovered) {
    this.handlers.publication(publication, isRecovered);
    if (publication.offset && this.position) this.position.offset = publication.offset;
  }

  end(reason) {
    this.connection.subscriptions.delete(this.channel);
    this.handlers.ended(reason);
  }
}
