// The map: tracks with their trails over a grid of degrees, on a canvas. It knows positions and colours, and not where they come from.
// The plane is Mercator's, in degrees at the equator, so that what is round stays round.

const PLANE_MAX = 85;
// A view never shows less than this, about a hundred metres.
const SPAN_MIN = 0.001;
const PADDING_PX = 70;
// How long a track takes to catch up with its newest point, at least and at most, and a view with what it should show.
const CATCH_UP_MS = [150, 1000];
const VIEW_MS = 350;
// A trail fades out in so many steps.
const FADES = 8;
const LABELS_MAX = 40;
const NEAR_PX = 16;
const GRID_PX = 130;
const METRES_OF_A_DEGREE = 111195;
const radians = (degrees) => (degrees * Math.PI) / 180;

function toPlane({ lat, lon }) {
  const bounded = Math.min(Math.max(lat, -PLANE_MAX), PLANE_MAX);
  return { x: lon, y: (Math.log(Math.tan(Math.PI / 4 + radians(bounded) / 2)) * 180) / Math.PI };
}

const latOf = (y) => (Math.atan(Math.sinh(radians(y))) * 180) / Math.PI;

// The round number (1, 2 or 5 with noughts) next above.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.999);
}

class TrackMap {
  // `tracks()` gives what is drawn, each with a name, a colour, `trail` (places on the plane, the newest last) and `cursor` (how far along it
  // the track is shown).
  constructor(canvas, { tracks, onNear, onChoose, onMoved }) {
    Object.assign(this, { canvas, tracks, onNear, onChoose, onMoved });
    this.pen = canvas.getContext('2d');
    this.view = this.target = null;
    this.isFitting = true;
    this.drawnAt = 0;
    this.listen();
  }

  fit() {
    this.isFitting = true;
    this.target = null;
    this.onMoved(false);
  }

  draw(now) {
    const passed = Math.min(now - this.drawnAt, 200);
    this.drawnAt = now;
    this.resize();
    this.pen.clearRect(0, 0, this.width, this.height);
    const tracks = this.tracks().filter(({ trail }) => trail.length);
    for (const track of tracks) catchUp(track, passed);
    if (this.isFitting && tracks.length) this.aim(tracks);
    if (!this.target) return;
    this.view ??= { ...this.target };
    const share = 1 - Math.exp(-passed / VIEW_MS);
    for (const part of ['x', 'y', 'scale']) this.view[part] += (this.target[part] - this.view[part]) * share;
    this.drawGrid();
    for (const track of tracks) this.drawTrail(track);
    // No name hides where another track is.
    for (const track of tracks) if (isBold(track) || tracks.length <= LABELS_MAX) this.drawLabel(track);
    for (const track of tracks) this.drawHead(track);
    this.drawScale();
  }

  toScreen({ x, y }) {
    return [this.width / 2 + (x - this.view.x) * this.view.scale, this.height / 2 - (y - this.view.y) * this.view.scale];
  }

  toPlace(px, py) {
    return { x: this.view.x + (px - this.width / 2) / this.view.scale, y: this.view.y - (py - this.height / 2) / this.view.scale };
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = devicePixelRatio;
    if (this.width !== clientWidth || this.height !== clientHeight || this.ratio !== ratio) {
      Object.assign(this, { width: clientWidth, height: clientHeight, ratio });
      this.canvas.width = clientWidth * ratio;
      this.canvas.height = clientHeight * ratio;
      if (this.isFitting) this.target = null;
    }
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  // Moves only when something leaves the view, or most of it is empty: a map that always moves is hard to read.
  aim(tracks) {
    let [west, south, east, north] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const { trail } of tracks) {
      for (const { x, y } of trail) {
        [west, east] = [Math.min(west, x), Math.max(east, x)];
        [south, north] = [Math.min(south, y), Math.max(north, y)];
      }
    }
    const room = { width: Math.max(this.width - 2 * PADDING_PX, 50), height: Math.max(this.height - 2 * PADDING_PX, 50) };
    const scale = Math.min(room.width / Math.max(east - west, SPAN_MIN), room.height / Math.max(north - south, SPAN_MIN));
    const { target } = this;
    const reach = target && { x: this.width / 2 / target.scale, y: this.height / 2 / target.scale };
    const isInside =
      target &&
      west > target.x - reach.x && east < target.x + reach.x && south > target.y - reach.y && north < target.y + reach.y;
    if (isInside && scale < target.scale * 1.8) return;
    this.target = { x: (west + east) / 2, y: (south + north) / 2, scale: scale * 0.92 };
  }

  drawGrid() {
    const { pen, view, width, height } = this;
    const step = roundUp(GRID_PX / view.scale);
    const decimals = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
    const [least, most] = [this.toPlace(0, height), this.toPlace(width, 0)];
    pen.strokeStyle = '#1c2940';
    pen.fillStyle = '#5b6f8f';
    pen.font = '11px system-ui, sans-serif';
    pen.lineWidth = 1;
    pen.beginPath();
    for (let lon = Math.ceil(least.x / step) * step; lon < most.x; lon += step) {
      const [px] = this.toScreen({ x: lon, y: 0 });
      pen.moveTo(px, 0);
      pen.lineTo(px, height);
      // The corner belongs to the degrees of latitude.
      if (px > 40) pen.fillText(`${lon.toFixed(decimals)}°`, px + 4, height - 6);
    }
    const south = latOf(least.y);
    for (let lat = Math.ceil(south / step) * step; lat < latOf(most.y); lat += step) {
      const [, py] = this.toScreen(toPlane({ lat, lon: 0 }));
      pen.moveTo(0, py);
      pen.lineTo(width, py);
      pen.fillText(`${lat.toFixed(decimals)}°`, 6, py - 4);
    }
    pen.stroke();
  }

  // From the end that fades to where the track is shown.
  drawTrail(track) {
    const { pen } = this;
    const last = Math.floor(track.cursor);
    const places = [...track.trail.slice(0, last + 1), track.head];
    pen.strokeStyle = track.color;
    pen.lineJoin = 'round';
    pen.lineWidth = track.isChosen ? 4 : 2.5;
    const isDimmed = this.isAnyChosen && !track.isChosen;
    for (let fade = 0; fade < FADES; fade += 1) {
      const [from, to] = [fade, fade + 1].map((n) => Math.round((n * (places.length - 1)) / FADES));
      if (from === to) continue;
      pen.globalAlpha = (isDimmed ? 0.25 : 0.9) * ((fade + 1) / FADES) ** 1.4;
      pen.beginPath();
      pen.moveTo(...this.toScreen(places[from]));
      for (let at = from + 1; at <= to; at += 1) {
        // Across the date line there is no line to draw.
        const isFar = Math.abs(places[at].x - places[at - 1].x) > 180;
        pen[isFar ? 'moveTo' : 'lineTo'](...this.toScreen(places[at]));
      }
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  drawHead(track) {
    const { pen } = this;
    const [px, py] = this.toScreen(track.head);
    track.at = [px, py];
    pen.globalAlpha = this.isAnyChosen && !isBold(track) ? 0.4 : track.isStill ? 0.6 : 1;
    pen.fillStyle = track.color;
    pen.strokeStyle = '#0d1420';
    pen.lineWidth = 1.5;
    pen.save();
    pen.translate(px, py);
    pen.beginPath();
    if (track.course === undefined || track.isStill) {
      pen.arc(0, 0, 5, 0, 2 * Math.PI);
    } else {
      pen.rotate(-track.course);
      pen.moveTo(11, 0);
      for (const [x, y] of [[-7, 6.5], [-3.5, 0], [-7, -6.5]]) pen.lineTo(x, y);
      pen.closePath();
    }
    pen.fill();
    pen.stroke();
    pen.restore();
    pen.globalAlpha = 1;
  }

  drawLabel(track) {
    const { pen } = this;
    const { name, speed } = track;
    const [px, py] = this.toScreen(track.head);
    const text = isBold(track) && speed !== undefined ? `${name} · ${(speed * 3.6).toFixed(0)} km/h` : name;
    pen.font = `${isBold(track) ? 600 : 400} 12px system-ui, sans-serif`;
    pen.lineWidth = 4;
    pen.strokeStyle = '#0d1420d0';
    pen.fillStyle = isBold(track) ? '#ffffff' : '#c3cfdf';
    // What would leave the map stands on the other side.
    const isAtEdge = px + 20 + pen.measureText(text).width > this.width;
    pen.textAlign = isAtEdge ? 'right' : 'left';
    const x = px + (isAtEdge ? -14 : 14);
    pen.strokeText(text, x, py + 4);
    pen.fillText(text, x, py + 4);
    pen.textAlign = 'left';
  }

  drawScale() {
    const { pen, view, width, height } = this;
    const metresOfPx = (METRES_OF_A_DEGREE * Math.cos(radians(latOf(view.y)))) / view.scale;
    const metres = roundUp(60 * metresOfPx);
    const length = metres / metresOfPx;
    const [x, y] = [width - 24, height - 30];
    pen.strokeStyle = pen.fillStyle = '#8496b0';
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x - length, y - 5);
    pen.lineTo(x - length, y);
    pen.lineTo(x, y);
    pen.lineTo(x, y - 5);
    pen.stroke();
    pen.font = '11px system-ui, sans-serif';
    pen.textAlign = 'center';
    pen.fillText(metres < 1000 ? `${metres} m` : `${metres / 1000} km`, x - length / 2, y - 6);
    pen.textAlign = 'left';
  }

  listen() {
    const { canvas } = this;
    const pointers = new Map();
    canvas.addEventListener('pointerdown', (event) => {
      pointers.set(event.pointerId, { moved: 0 });
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', (event) => {
      const held = pointers.get(event.pointerId);
      if (!held) return this.onNear(this.nearest(event));
      held.moved += Math.abs(event.movementX) + Math.abs(event.movementY);
      if (held.moved > 4) this.shift(event.movementX, event.movementY);
    });
    canvas.addEventListener('pointerup', (event) => {
      const held = pointers.get(event.pointerId);
      pointers.delete(event.pointerId);
      if (held && held.moved <= 4) this.onChoose(this.nearest(event));
    });
    canvas.addEventListener('pointercancel', ({ pointerId }) => pointers.delete(pointerId));
    canvas.addEventListener('pointerleave', () => this.onNear(undefined));
    canvas.addEventListener('wheel', (event) => this.zoom(event), { passive: false });
  }

  shift(dx, dy) {
    if (!this.view) return;
    this.take();
    this.view.x = this.target.x -= dx / this.view.scale;
    this.view.y = this.target.y += dy / this.view.scale;
  }

  // What is under the pointer stays there.
  zoom(event) {
    event.preventDefault();
    if (!this.view) return;
    this.take();
    const place = this.toPlace(event.offsetX, event.offsetY);
    const scale = Math.min(Math.max(this.view.scale * Math.exp(-event.deltaY / 400), 1), 50 / SPAN_MIN * 100);
    const share = this.view.scale / scale;
    this.target = { x: place.x + (this.view.x - place.x) * share, y: place.y + (this.view.y - place.y) * share, scale };
    this.view = { ...this.target };
  }

  // From now on the view is where it was moved to.
  take() {
    this.isFitting = false;
    this.target = { ...this.view };
    this.onMoved(true);
  }

  nearest({ offsetX, offsetY }) {
    const distance = ({ at: [x, y] }) => Math.hypot(x - offsetX, y - offsetY);
    const shown = this.tracks().filter(({ at }) => at);
    return shown.filter((track) => distance(track) < NEAR_PX).sort((a, b) => distance(a) - distance(b))[0];
  }
}

const isBold = ({ isChosen, isNear }) => isChosen || isNear;

// Goes on along the trail, ever slower, to its newest place.
function catchUp(track, passed) {
  const { trail } = track;
  const last = trail.length - 1;
  // Slow enough that it is still on its way when the next point comes.
  const catchUpMs = Math.min(Math.max((track.everyMs ?? 0) * 0.7, CATCH_UP_MS[0]), CATCH_UP_MS[1]);
  track.cursor += (last - track.cursor) * (1 - Math.exp(-passed / catchUpMs));
  if (last - track.cursor < 0.01) track.cursor = last;
  const at = Math.floor(track.cursor);
  const [from, to] = [trail[at], trail[Math.min(at + 1, last)]];
  const share = track.cursor - at;
  track.head = { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
  const before = at === last ? trail[Math.max(at - 1, 0)] : from;
  const after = at === last ? trail[last] : to;
  if (before.x !== after.x || before.y !== after.y) track.course = Math.atan2(after.y - before.y, after.x - before.x);
}
