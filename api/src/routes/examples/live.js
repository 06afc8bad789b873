// The page: signing in, following the newest tracks, and showing what comes of them. All text of others goes in as text.

// What one socket may follow (WS_CHANNELS_PER_CLIENT) is a little more.
const TRACKS_MAX = 100;
const LOOK_EVERY_MS = 5000;
const TRAIL_POINTS = 400;
const TRAIL_MS = 5 * 60 * 1000;
// A track is still that sent nothing for so long.
const STILL_MS = 10000;
const RATE_S = 3;
const MINUTE_S = 60;
// Next to each other they are far apart on the colour wheel.
const GOLDEN_ANGLE = 137.508;

let connection;
let getToken;
let lookAgain;
let lastColor = 0;
let delayMs;
const tracks = new Map();
// Points by the second in which they came.
const seconds = new Map();
const secondNow = () => Math.floor(performance.now() / 1000);

const map = new TrackMap(element('map'), {
  tracks: () => [...tracks.values()],
  onNear: (near) => {
    element('map').classList.toggle('near', Boolean(near));
    for (const track of tracks.values()) track.mark({ isNear: track === near });
  },
  onChoose: choose,
  onMoved: (isMoved) => (element('fit').hidden = !isMoved),
});

class Track {
  constructor({ id, name, latest }) {
    Object.assign(this, { id, name, trail: [], cursor: 0, isStill: true });
    this.color = `hsl(${(lastColor += GOLDEN_ANGLE) % 360} 85% 64%)`;
    this.row = document.createElement('li');
    this.parts = ['i', 'b', 'span', 'small', 'small'].map((tag) => document.createElement(tag));
    this.parts[0].style.background = this.color;
    this.parts[1].textContent = this.parts[1].title = name;
    this.row.append(...this.parts);
    this.row.addEventListener('click', () => choose(this));
    if (latest) this.take([latest]);
  }

  // Points in the order of their time; those that are older than what is shown are left out.
  take(points) {
    for (const { lat, lon, recorded_at: recordedAt, speed_mps: speed } of points) {
      const at = Date.parse(recordedAt);
      if (at <= this.recordedAt) continue;
      Object.assign(this, { lat, lon, speed, recordedAt: at });
      this.trail.push({ ...toPlane({ lat, lon }), at });
    }
    this.trim();
  }

  // What was before the page was opened.
  prepend(points) {
    const first = this.trail[0]?.at ?? Infinity;
    const earlier = points.map((point) => ({ ...toPlane(point), at: Date.parse(point.recorded_at) })).filter(({ at }) => at < first);
    this.trail.unshift(...earlier);
    this.cursor += earlier.length;
    this.trim();
  }

  // Of what is too much every second place of the older half goes: the way stays, in less detail the longer ago it is.
  trim() {
    const since = this.recordedAt - TRAIL_MS;
    this.keep(({ at }) => at >= since);
    while (this.trail.length > TRAIL_POINTS) this.keep((_, index, { length }) => index % 2 === 0 || index > length / 2);
  }

  keep(isKept) {
    const { length } = this.trail;
    this.trail = this.trail.filter(isKept);
    this.cursor = Math.max(this.cursor - length + this.trail.length, 0);
  }

  mark(marks) {
    Object.assign(this, marks);
    this.row.classList.toggle('chosen', Boolean(this.isChosen));
    this.row.classList.toggle('near', Boolean(this.isNear));
  }

  show() {
    const [, , speed, place, age] = this.parts;
    this.isStill = !(performance.now() - this.heardAt < STILL_MS);
    this.row.classList.toggle('still', this.isStill);
    if (this.lat === undefined) return void (place.textContent = 'no points yet');
    speed.textContent = this.speed === undefined ? '' : `${(this.speed * 3.6).toFixed(0)} km/h`;
    place.textContent = `${this.lat.toFixed(5)}, ${this.lon.toFixed(5)}`;
    age.textContent = ago(Date.now() - this.recordedAt);
  }
}

function ago(ms) {
  const units = [[86400e3, 'd'], [3600e3, 'h'], [60e3, 'min'], [1e3, 's']];
  const [unit, name] = units.find(([unit]) => ms >= unit) ?? [];
  return unit ? `${Math.floor(ms / unit)} ${name} ago` : 'now';
}

async function get(path) {
  const headers = async (isFreshNeeded) => ({ headers: { authorization: `Bearer ${await getToken(isFreshNeeded)}` } });
  try {
    return await answerOf(path, await headers(false));
  } catch (error) {
    if (error.status !== 401) throw error;
    return answerOf(path, await headers(true));
  }
}

function enter(tokens) {
  getToken = tokens;
  connection = new Connection({ url: socketUrl(), name: 'example-live', getToken, onState: showState });
  element('entrance').hidden = true;
  document.querySelector('main').hidden = false;
  connection.connect();
  map.fit();
  look();
}

function leave() {
  clearTimeout(lookAgain);
  connection = undefined;
  for (const id of [...tracks.keys()]) remove(id);
  document.querySelector('main').hidden = true;
  element('entrance').hidden = false;
}

function showState(state, detail) {
  element('state').textContent = state;
  element('state').title = detail;
  element('state').className = state;
  if (state !== 'closed') return;
  element('state').textContent = detail;
  leave();
}

// Which tracks there are, again and again.
async function look() {
  const mine = connection;
  try {
    const { items, next_cursor: isMore } = await get(`/tracks?latest=true&limit=${TRACKS_MAX}`);
    if (mine !== connection) return;
    const ids = new Set(items.map(({ id }) => id));
    for (const id of tracks.keys()) if (!ids.has(id)) remove(id);
    const added = items.filter(({ id }) => !tracks.has(id)).map(add);
    if (added.length) sortRows();
    for (const track of added) if (Date.now() - track.recordedAt < TRAIL_MS) loadTrail(track);
    element('empty').hidden = tracks.size > 0;
    element('note').textContent = isMore ? `the newest ${TRACKS_MAX} tracks` : '';
  } catch (error) {
    complain(error);
  }
  if (mine === connection) lookAgain = setTimeout(look, LOOK_EVERY_MS);
}

function add(found) {
  const track = new Track(found);
  tracks.set(track.id, track);
  track.subscription = connection.subscribe(`track:${track.id}`, {
    subscribed: () => {},
    publication: ({ data }) => take(track, data),
    ended: (reason) => (track.row.title = `not followed: ${reason}`),
  });
  return track;
}

function take(track, { count, points }) {
  const now = performance.now();
  // How long it is from one publication to the next, as a rule.
  if (track.heardAt) track.everyMs = 0.8 * (track.everyMs ?? now - track.heardAt) + 0.2 * Math.min(now - track.heardAt, STILL_MS);
  track.heardAt = now;
  track.take(points);
  seconds.set(secondNow(), (seconds.get(secondNow()) ?? 0) + count);
  delayMs = Date.now() - track.recordedAt;
  if (!track.hasTrail) loadTrail(track);
}

function remove(id) {
  const track = tracks.get(id);
  tracks.delete(id);
  track.row.remove();
  if (connection) track.subscription.unsubscribe();
}

// Where it came from before anybody looked.
async function loadTrail(track) {
  track.hasTrail = true;
  try {
    const { items } = await get(`/tracks/${track.id}/points?limit=1000`);
    track.prepend(items.reverse());
  } catch (error) {
    complain(error);
  }
}

function sortRows() {
  const sorted = [...tracks.values()].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  element('tracks').replaceChildren(...sorted.map(({ row }) => row));
}

function choose(chosen) {
  const isAgain = chosen?.isChosen;
  for (const track of tracks.values()) track.mark({ isChosen: track === chosen && !isAgain });
  map.isAnyChosen = Boolean(chosen) && !isAgain;
}

function showFigure(id, value, unit = '') {
  const small = document.createElement('small');
  small.textContent = unit && ` ${unit}`;
  element(id).replaceChildren(value, small);
}

function showFigures() {
  const all = [...tracks.values()];
  for (const track of all) track.show();
  const moving = all.filter(({ isStill }) => !isStill);
  showFigure('moving', String(moving.length), `of ${all.length} moving`);
  const now = secondNow();
  for (const second of seconds.keys()) if (second < now - MINUTE_S) seconds.delete(second);
  const lately = Array.from({ length: RATE_S }, (_, back) => seconds.get(now - 1 - back) ?? 0);
  showFigure('rate', (lately.reduce((sum, n) => sum + n, 0) / RATE_S).toFixed(lately[0] < 100 ? 1 : 0));
  const fastest = Math.max(...moving.map(({ speed }) => speed ?? 0));
  if (moving.length) showFigure('fastest', (fastest * 3.6).toFixed(0), 'km/h');
  else showFigure('fastest', '–');
  // Points of long ago, as of an import, say nothing of how quick we are.
  if (moving.length && delayMs < 60000) showFigure('delay', (Math.max(delayMs, 0) / 1000).toFixed(2), 's');
  else showFigure('delay', '–');
  drawMinute(now);
}

function drawMinute(now) {
  const canvas = element('minute');
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const pen = canvas.getContext('2d');
  pen.scale(devicePixelRatio, devicePixelRatio);
  const most = Math.max(...seconds.values(), 1);
  pen.fillStyle = '#3b82f6';
  for (let back = 1; back < MINUTE_S; back += 1) {
    const n_points = seconds.get(now - back) ?? 0;
    const bar = ((height - 10) * n_points) / most;
    pen.fillRect(width - (back * width) / (MINUTE_S - 1), height - bar, width / MINUTE_S - 1.5, bar);
  }
}

function complain(error) {
  element('state').textContent = error.message;
}

function drawOn(now) {
  if (connection) map.draw(now);
  requestAnimationFrame(drawOn);
}

onEntrance(enter);
element('fit').addEventListener('click', () => map.fit());
element('leave').addEventListener('click', () => connection.close('signed out'));
setInterval(() => connection && showFigures(), 500);
requestAnimationFrame(drawOn);
