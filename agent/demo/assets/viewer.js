// The body of a function that Gradio calls once, with `element`, `props` and `watch` in scope.
// `props.value`: {base, label, width, height, mpp, tile, levels, features}; features is a GeoJSON
// file in px of the image, the same that is downloaded: what is shown is what is exported.
const find = (selector) => element.querySelector(selector);
const canvas = find("canvas");
const pen = canvas.getContext("2d");
const tip = find(".hp-tip");
const opacity = find(".hp-opacity");
const MAX_ZOOM = 16; // screen px for a px of the image

let image = null; // what props.value said last
let layers = []; // {name, colour, instances, on, items: [{shape, box, feature}]}
let tiles = new Map(); // url -> Image
let zoom = 1; // screen px for a px of the image
let left = 0; // image px at the canvas's left and top edge
let top = 0;
let marked = null; // the item that is hovered or stepped to
let queued = false;

const width = () => canvas.clientWidth;
const height = () => canvas.clientHeight;

function redraw() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    draw();
  });
}

function fit() {
  if (!image || !width()) return;
  zoom = Math.min(width() / image.width, height() / image.height);
  left = (image.width - width() / zoom) / 2;
  top = (image.height - height() / zoom) / 2;
  redraw();
}

function zoomBy(factor, x = width() / 2, y = height() / 2) {
  if (!image) return;
  const whole = Math.min(width() / image.width, height() / image.height);
  const next = Math.min(MAX_ZOOM, Math.max(whole / 2, zoom * factor));
  left += x / zoom - x / next;
  top += y / zoom - y / next;
  zoom = next;
  redraw();
}

function pan(dx, dy) {
  if (!image) return;
  const keep = (at, size, seen) => Math.min(size - seen / 2, Math.max(-seen / 2, at));
  left = keep(left + dx / zoom, image.width, width() / zoom);
  top = keep(top + dy / zoom, image.height, height() / zoom);
  redraw();
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width() * ratio);
  canvas.height = Math.round(height() * ratio);
  if (!image) return;
  const unit = zoom * ratio;
  pen.setTransform(unit, 0, 0, unit, -left * unit, -top * unit);
  pen.imageSmoothingEnabled = zoom < 2;
  const level = Math.min(image.levels - 1, Math.max(0, Math.floor(Math.log2(1 / unit))));
  for (let coarse = image.levels - 1; coarse >= level; coarse--) drawTiles(coarse);
  for (const layer of layers) if (layer.on) drawLayer(layer);
  if (marked) {
    pen.lineWidth = 3 / zoom;
    pen.strokeStyle = "#fff";
    pen.stroke(marked.shape);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawScale();
}

function drawTiles(level) {
  const side = image.tile * 2 ** level; // of a tile, in px of the image
  const last = (size) => Math.ceil(size / side) - 1;
  const x1 = Math.min(last(image.width), Math.floor((left + width() / zoom) / side));
  const y1 = Math.min(last(image.height), Math.floor((top + height() / zoom) / side));
  for (let y = Math.max(0, Math.floor(top / side)); y <= y1; y++) {
    for (let x = Math.max(0, Math.floor(left / side)); x <= x1; x++) {
      const tile = tileAt(`${image.base}/tile-${level}-${x}-${y}.jpg`);
      if (!tile.complete || !tile.naturalWidth) continue;
      const grow = 2 ** level;
      const size = [tile.naturalWidth * grow, tile.naturalHeight * grow];
      pen.drawImage(tile, x * side, y * side, ...size);
    }
  }
}

function tileAt(url) {
  if (!tiles.has(url)) {
    const tile = new Image();
    tile.onload = redraw;
    tile.src = url;
    tiles.set(url, tile);
  }
  return tiles.get(url);
}

function drawLayer(layer) {
  const right = left + width() / zoom;
  const bottom = top + height() / zoom;
  pen.strokeStyle = layer.colour;
  pen.fillStyle = layer.colour;
  pen.lineWidth = (layer.instances ? 1.5 : 2.5) / zoom;
  for (const { shape, box } of layer.items) {
    if (box[0] > right || box[2] < left || box[1] > bottom || box[3] < top) continue;
    if (!layer.boxes) {
      pen.globalAlpha = Number(opacity.value);
      pen.fill(shape, "evenodd");
      pen.globalAlpha = 1;
    }
    pen.stroke(shape);
  }
}

function drawScale() {
  const size = image.mpp || 1;
  const most = (120 / zoom) * size;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].find((step) => step * power <= most) * power;
  const bar = (length / size) * zoom;
  const words = !image.mpp ? `${length} px` : length < 1000 ? `${length} µm` : `${length / 1000} mm`;
  pen.font = "13px system-ui, sans-serif";
  pen.fillStyle = "rgba(255, 255, 255, 0.85)";
  pen.fillRect(8, height() - 40, Math.max(bar, pen.measureText(words).width) + 16, 32);
  pen.fillStyle = "#111";
  pen.fillText(words, 16, height() - 24);
  pen.fillRect(16, height() - 17, bar, 3);
}

function hit(x, y) {
  const at = [left + x / zoom, top + y / zoom];
  pen.setTransform(1, 0, 0, 1, 0, 0);
  for (const layer of [...layers].reverse()) {
    if (!layer.on) continue;
    for (const item of layer.items) {
      const [x0, y0, x1, y1] = item.box;
      if (at[0] < x0 || at[0] > x1 || at[1] < y0 || at[1] > y1) continue;
      if (pen.isPointInPath(item.shape, ...at, "evenodd")) return item;
    }
  }
  return null;
}

function mark(item) {
  if (item === marked) return;
  marked = item;
  const { classification, measurements } = item ? item.feature.properties : {};
  const figure = ([name, value]) =>
    `${name.replace("^2", "²")} ${value.toLocaleString("en", { maximumFractionDigits: 2 })}`;
  tip.textContent = item
    ? [classification.name, ...Object.entries(measurements).map(figure)].join(" · ")
    : "";
  redraw();
}

function step(by) {
  const items = layers.filter((layer) => layer.on && layer.instances).flatMap((l) => l.items);
  if (!items.length) return;
  const at = items.indexOf(marked);
  mark(items[(Math.max(at, by < 0 ? 0 : -1) + by + items.length) % items.length]);
  const [x0, y0, x1, y1] = marked.box;
  const [wide, high] = [width() / zoom, height() / zoom];
  if (x0 >= left && x1 <= left + wide && y0 >= top && y1 <= top + high) return;
  left = (x0 + x1 - wide) / 2;
  top = (y0 + y1 - high) / 2;
}

function layersOf(features) {
  const found = new Map();
  for (const feature of features) {
    const { classification, objectType } = feature.properties;
    const { name, color } = classification;
    const instances = objectType === "detection";
    const key = `${instances} ${name}`;
    const boxes = !instances && name === "box";
    const layer = { name, colour: `rgb(${color.join()})`, instances, boxes, on: true, items: [] };
    if (!found.has(key)) found.set(key, layer);
    found.get(key).items.push(itemOf(feature));
  }
  const order = (layer) => Number(layer.instances) + 2 * Number(layer.boxes); // regions lie below
  return [...found.values()].sort((a, b) => order(a) - order(b));
}

function itemOf(feature) {
  const { type, coordinates } = feature.geometry;
  const shape = new Path2D();
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const ring of type === "Polygon" ? coordinates : coordinates.flat()) {
    ring.forEach(([x, y], i) => {
      if (i) shape.lineTo(x, y);
      else shape.moveTo(x, y);
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    });
    shape.closePath();
  }
  return { shape, box, feature };
}

function showLayers() {
  find(".hp-layers").hidden = !layers.length;
  const rows = layers.map((layer) => {
    const [row, tick, swatch] = ["label", "input", "span"].map((n) => document.createElement(n));
    tick.type = "checkbox";
    tick.checked = layer.on;
    tick.onchange = () => {
      layer.on = tick.checked;
      mark(null);
      redraw();
    };
    swatch.className = "hp-swatch";
    swatch.style.background = layer.colour;
    const many = layer.instances || layer.boxes;
    row.append(tick, swatch, layer.name + (many ? ` (${layer.items.length})` : ""));
    return row;
  });
  find(".hp-list").replaceChildren(...rows);
}

async function show() {
  const value = props.value;
  if (!value || !value.base) return;
  const another = !image || image.base !== value.base;
  if (another) tiles = new Map();
  image = { ...value };
  if (another) fit();
  let features = [];
  if (value.features) {
    const answer = await fetch(`${value.base}/${value.features}`);
    if (!answer.ok || props.value.features !== value.features) return; // overtaken by a newer one
    features = (await answer.json()).features;
  }
  mark(null);
  layers = layersOf(features);
  showLayers();
  canvas.setAttribute("aria-label", `Image viewer. ${value.label}. ${features.length} objects.`);
  canvas.dataset.objects = features.length;
  redraw();
}

const pointers = new Map();
canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
};
canvas.onpointerup = canvas.onpointercancel = (event) => pointers.delete(event.pointerId);
canvas.onpointermove = (event) => {
  const now = [event.offsetX, event.offsetY];
  const before = pointers.get(event.pointerId);
  if (!before) return mark(image ? hit(...now) : null);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, now);
  if (!other) return pan(before[0] - now[0], before[1] - now[1]);
  const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
  zoomBy(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
};
canvas.onpointerleave = () => mark(null);
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoomBy(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY);
  },
  { passive: false },
);
const keys = {
  ArrowLeft: () => pan(-60, 0),
  ArrowRight: () => pan(60, 0),
  ArrowUp: () => pan(0, -60),
  ArrowDown: () => pan(0, 60),
  "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  0: fit,
  n: () => step(1),
  p: () => step(-1),
  Escape: () => mark(null),
};
canvas.onkeydown = (event) => {
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
};
const buttons = { in: () => zoomBy(1.5), out: () => zoomBy(1 / 1.5), fit };
for (const button of element.querySelectorAll("[data-do]")) {
  button.onclick = buttons[button.dataset.do];
}
opacity.oninput = redraw;
let sized = false;
new ResizeObserver(() => {
  if (sized) redraw();
  else fit();
  sized = width() > 0 && image !== null;
}).observe(canvas);
watch("value", show);
show();
