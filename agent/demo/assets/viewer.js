// With `hands.js` behind it the body of a function that Gradio calls once, with `element`, `props`,
// `watch` and `trigger` in scope. This half draws, the other listens.
// `props.value`: {base, label, width, height, mpp, tile, levels, features, region, noted};
// features is a GeoJSON file in px of the image, the same that is downloaded: what is shown is what
// is exported. region is [x, y, width, height] or null, noted the corrections as [x, y, verdict].
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
let frame = null; // the region that is asked about, or is being drawn
let lasso = null; // px of the image along the lasso that is being drawn
let chosen = []; // the items that a correction is of
let fetched = ""; // the features that are shown
let queued = false;
const GROW_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 600;

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
  pen.lineWidth = 3 / zoom;
  pen.strokeStyle = "#fff";
  for (const item of marked ? [marked, ...chosen] : chosen) pen.stroke(item.shape);
  if (frame) drawFrame(frame);
  if (lasso) drawLasso(lasso);
  for (const [x, y, verdict] of image.noted || []) drawNote(x, y, verdict);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawScale();
}

function drawFrame([x, y, wide, high]) {
  const shade = new Path2D();
  shade.rect(0, 0, image.width, image.height);
  shade.rect(x, y, wide, high);
  pen.fillStyle = "rgba(0, 0, 0, 0.35)";
  pen.fill(shade, "evenodd");
  pen.lineWidth = 2 / zoom;
  pen.strokeStyle = "#fff";
  pen.strokeRect(x, y, wide, high);
}

function drawLasso(line) {
  const shape = shapeOf(line);
  pen.fillStyle = "rgba(255, 255, 255, 0.2)";
  pen.fill(shape);
  for (const [wide, colour] of [[4, "#fff"], [2, "#111"]]) {
    pen.lineWidth = wide / zoom;
    pen.strokeStyle = colour;
    pen.stroke(shape);
  }
}

function drawNote(x, y, verdict) {
  const sign = { wrong: "✗", missed: "+" }[verdict] || "✓";
  pen.font = `bold ${20 / zoom}px system-ui, sans-serif`;
  pen.lineWidth = 4 / zoom;
  pen.strokeStyle = "#fff";
  pen.fillStyle = "#111";
  pen.textAlign = "center";
  pen.strokeText(sign, x, y + 7 / zoom);
  pen.fillText(sign, x, y + 7 / zoom);
  pen.textAlign = "start";
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
  const grown = GROW_MS ? Math.min(1, (performance.now() - layer.since) / GROW_MS) : 1;
  if (grown < 1) redraw();
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, image.width, image.height * grown);
  pen.clip();
  for (const { shape, box } of layer.items) {
    if (box[0] > right || box[2] < left || box[1] > bottom || box[3] < top) continue;
    if (!layer.boxes) {
      pen.globalAlpha = Number(opacity.value);
      pen.fill(shape, "evenodd");
      pen.globalAlpha = 1;
    }
    pen.stroke(shape);
  }
  pen.restore();
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

function hit(x, y, among = () => true) {
  const at = [left + x / zoom, top + y / zoom];
  pen.setTransform(1, 0, 0, 1, 0, 0);
  for (const layer of [...layers].reverse()) {
    if (!layer.on || !among(layer)) continue;
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
    const layer = { key, name, colour: `rgb(${color.join()})`, instances, boxes, items: [] };
    if (!found.has(key)) found.set(key, { ...layer, on: true, since: performance.now() });
    found.get(key).items.push(itemOf(feature));
  }
  for (const { key, on, since } of layers) {
    if (found.has(key)) Object.assign(found.get(key), { on, since }); // it was there already
  }
  const order = (layer) => Number(layer.instances) + 2 * Number(layer.boxes); // regions lie below
  return [...found.values()].sort((a, b) => order(a) - order(b));
}

function shapeOf(...rings) {
  const shape = new Path2D();
  for (const ring of rings) {
    ring.forEach(([x, y], i) => (i ? shape.lineTo(x, y) : shape.moveTo(x, y)));
    shape.closePath();
  }
  return shape;
}

function itemOf(feature) {
  const { type, coordinates } = feature.geometry;
  const rings = type === "Polygon" ? coordinates : coordinates.flat();
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const ring of rings) {
    for (const [x, y] of ring) {
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x);
      box[3] = Math.max(box[3], y);
    }
  }
  return { shape: shapeOf(...rings), box, feature };
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
  if (another) [tiles, layers] = [new Map(), []];
  image = { ...value };
  find(".hp-empty").hidden = true;
  frame = value.region;
  if (another) fit();
  redraw();
  const wanted = `${value.base}/${value.features}`;
  if (wanted === fetched) return;
  let features = [];
  if (value.features) {
    const answer = await fetch(wanted);
    if (!answer.ok) return;
    features = (await answer.json()).features;
  }
  if (wanted !== `${props.value.base}/${props.value.features}`) return; // overtaken by a newer one
  fetched = wanted;
  mark(null);
  layers = layersOf(features);
  showLayers();
  canvas.setAttribute("aria-label", `Image viewer. ${value.label}. ${features.length} objects.`);
  canvas.dataset.objects = features.length;
  redraw();
}
