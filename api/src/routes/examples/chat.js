// The page: signing in, one room at a time, and showing what the connection does. All text of others goes in as text.

const PAGE_OF_HISTORY = 30;
const LOG_LINES = 200;
const MESSAGES_SHOWN = 1000;
let connection;
let room;
let myName = '';
// The offset of the first message shown.
let oldest = 1;
const present = new Map();

function log(text) {
  const line = document.createElement('li');
  line.textContent = `${new Date().toLocaleTimeString()} ${text}`;
  element('log').prepend(line);
  while (element('log').childElementCount > LOG_LINES) element('log').lastChild.remove();
}

function enter(getToken, name) {
  myName = name;
  connection = new Connection({ url: socketUrl(), name: 'example-chat', getToken, onState: showState });
  element('entrance').hidden = true;
  document.querySelector('main').hidden = false;
  connection.connect();
  const { channel } = element('room').elements;
  if (!name) channel.value = 'public:lobby';
  enterRoom(channel.value);
}

function showState(state, detail) {
  element('state').textContent = state;
  element('state').className = state;
  log(`${state}${detail ? `: ${detail}` : ''}`);
  if (state === 'closed') leave();
}

function leave() {
  connection = room = undefined;
  document.querySelector('main').hidden = true;
  element('entrance').hidden = false;
}

function enterRoom(channel) {
  room?.unsubscribe();
  oldest = 1;
  element('messages').replaceChildren();
  element('earlier').hidden = true;
  showPresent([]);
  const mine = connection.subscribe(channel, {
    subscribed: (result) => room === mine && subscribed(result),
    publication: (publication, isRecovered) => room === mine && show(publication, isRecovered ? 'recovered' : ''),
    join: (info) => room === mine && (present.set(info.client, info), showPresent(present)),
    leave: (info) => room === mine && (present.delete(info.client), showPresent(present)),
    ended: (reason) => notice(`left ${channel}: ${reason}`),
  });
  room = mine;
}

async function subscribed({ was_recovering: wasRecovering, recovered, offset = 0, publications = [] }) {
  if (!wasRecovering) log(`entered ${room.channel}`);
  else if (recovered) log(`recovered: ${publications.length} messages were missed and are here`);
  else notice('Too much was missed to recover it: what lies between is not shown here.');
  try {
    showPresent(Object.entries(await room.presence()));
  } catch (error) {
    log(`presence: ${error.message}`);
  }
  if (wasRecovering) return;
  oldest = offset + 1;
  await showEarlier();
}

async function showEarlier() {
  try {
    const publications = await room.before(oldest, PAGE_OF_HISTORY);
    // What came while we asked is shown already.
    for (const publication of publications) if (publication.offset < oldest) show(publication, 'earlier');
    if (publications.length) oldest = publications.at(-1).offset;
    element('earlier').hidden = publications.length < PAGE_OF_HISTORY || oldest === 1;
  } catch (error) {
    log(`history: ${error.message}`);
  }
}

function show({ data, info, offset }, how) {
  const line = document.createElement('li');
  const [author, text, note] = ['b', 'span', 'small'].map((tag) => document.createElement(tag));
  author.textContent = data?.name || info?.user?.slice(-6) || 'server';
  author.title = info ? `user ${info.user}, client ${info.client}` : '';
  text.textContent = data?.text ?? JSON.stringify(data);
  note.textContent = ` ${offset ? `#${offset}` : ''}${how === 'recovered' ? ' recovered' : ''}`;
  line.className = how;
  line.append(author, text, note);
  const list = element('messages');
  if (how === 'earlier') return list.prepend(line);
  list.append(line);
  while (list.childElementCount > MESSAGES_SHOWN) list.firstChild.remove();
  list.scrollTop = list.scrollHeight;
}

function notice(text) {
  const line = document.createElement('li');
  line.className = 'notice';
  line.textContent = text;
  element('messages').append(line);
  log(text);
}

function showPresent(clients) {
  const entries = [...clients];
  if (clients !== present) {
    present.clear();
    for (const [client, info] of entries) present.set(client, info);
  }
  element('count').textContent = entries.length ? `(${entries.length})` : '';
  element('present').replaceChildren(...entries.map(([client, { user }]) => {
    const line = document.createElement('li');
    line.textContent = `${user ? user.slice(-6) : 'anonymous'}${client === connection?.client ? ' (this page)' : ''}`;
    line.title = client;
    return line;
  }));
}

function complain(error) {
  log(error.message);
  element('state').textContent = error.message;
}

onEntrance(enter);
onSubmit('anonymous', () => enter(async () => undefined, ''));
onSubmit('room', ({ channel }) => enterRoom(channel));
onSubmit('say', async ({ text }, form) => {
  await room.publish({ text, name: myName });
  form.reset();
});
element('earlier').addEventListener('click', showEarlier);
element('cut').addEventListener('click', () => connection.cut());
element('leave').addEventListener('click', () => connection.close('signed out'));
