// Pointers, keys and buttons: panning and zooming, choosing a region, correcting what was found.
const CLICK_PX = 4; // what a hand moves while it clicks
const correction = find(".hp-correct");
const modes = [...element.querySelectorAll("[aria-pressed]")];
const pointers = new Map(); // id -> [x, y]
let pressed = null; // where the one pointer went down, null once it has moved
let drawing = ""; // what the pointer draws: "region", "lasso" or nothing
let corner = null; // px of the image where the region that is being drawn began
let places = []; // px of the image that the correction is of, one for each nucleus

const mode = () => modes.find((one) => one.getAttribute("aria-pressed") === "true")?.dataset.do || "";
const onImage = ([x, y]) => [left + x / zoom, top + y / zoom];

canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  const at = [event.offsetX, event.offsetY];
  pointers.set(event.pointerId, at);
  pressed = pointers.size === 1 ? at : null;
  drawing = image && pressed ? (event.shiftKey ? "region" : mode()) : "";
  corner = onImage(at);
  if (drawing === "lasso") lasso = [corner];
};

canvas.onpointermove = (event) => {
  const now = [event.offsetX, event.offsetY];
  const before = pointers.get(event.pointerId);
  if (!before) return mark(image ? hit(...now) : null);
  if (pressed && Math.hypot(now[0] - pressed[0], now[1] - pressed[1]) < CLICK_PX) return;
  pressed = null;
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, now);
  if (drawing === "region") {
    frame = between(corner, onImage(now));
    return redraw();
  }
  if (drawing === "lasso") {
    lasso.push(onImage(now));
    return redraw();
  }
  if (!other) return pan(before[0] - now[0], before[1] - now[1]);
  const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
  zoomBy(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
};

canvas.onpointerup = (event) => {
  pointers.delete(event.pointerId);
  if (pressed) pick(hit(...pressed, (layer) => layer.instances), onImage(pressed));
  else if (drawing === "region") choose(frame);
  else if (drawing === "lasso") pickInside(lasso);
  pressed = null;
  drawing = "";
};
canvas.onpointercancel = (event) => {
  pointers.delete(event.pointerId);
  lasso = pressed = null;
  drawing = "";
  redraw();
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

function between([x0, y0], [x1, y1]) {
  const start = [Math.min(x0, x1), Math.min(y0, y1)];
  return [...start, Math.abs(x1 - x0), Math.abs(y1 - y0)].map(Math.round);
}

function choose(region) {
  setMode("");
  frame = image.region; // until the server has taken another
  redraw();
  trigger("select", { region });
}

function shownPart() {
  return between([left, top], onImage([width(), height()]));
}

function setMode(name) {
  for (const one of modes) one.setAttribute("aria-pressed", String(one.dataset.do === name));
}

function pick(item, at) {
  if (item) correct([item], [inside(item)]);
  else correct([], [at.map(Math.floor)]);
}

function pickInside(line) {
  const shape = shapeOf(line);
  pen.setTransform(1, 0, 0, 1, 0, 0);
  const held = layers
    .filter((layer) => layer.on && layer.instances)
    .flatMap((layer) => layer.items)
    .map((item) => [item, inside(item)])
    .filter(([, [x, y]]) => pen.isPointInPath(shape, x + 0.5, y + 0.5));
  setMode("");
  if (held.length) {
    correct(...[0, 1].map((part) => held.map((pair) => pair[part])));
  } else {
    const mean = (axis) => line.reduce((sum, at) => sum + at[axis], 0) / line.length;
    correct([], [[Math.floor(mean(0)), Math.floor(mean(1))]]);
  }
}

function correct(items, at) {
  dismiss();
  if (!image || !layers.some((layer) => layer.instances)) return;
  if (at.some(([x, y]) => x < 0 || y < 0 || x >= image.width || y >= image.height)) return;
  places = at;
  chosen = items;
  const names = new Set(items.map((item) => item.feature.properties.classification.name));
  const [name] = names;
  const several = items.length > 1;
  const these = several ? `These ${items.length} nuclei:` : `This ${name}:`;
  find(".hp-about").textContent = items.length ? these : "Nothing was found here:";
  find(".hp-type").value = names.size === 1 ? name : "nucleus";
  for (const button of correction.querySelectorAll("[data-say]")) {
    button.hidden = (button.dataset.say === "missed") === Boolean(items.length);
  }
  find("[data-say=wrong]").textContent = several ? "Are no nuclei" : "Is no nucleus";
  find("[data-say='right type']").textContent = several ? "Are of this type" : "Is of this type";
  correction.hidden = false;
  redraw();
}

function dismiss() {
  correction.hidden = true;
  lasso = null;
  chosen = [];
  redraw();
}

for (const button of correction.querySelectorAll("button")) {
  button.onclick = () => {
    const { say } = button.dataset;
    if (say) trigger("input", { places, verdict: say, type: find(".hp-type").value });
    dismiss();
    canvas.focus();
  };
}

function correctMarked() {
  if (!image) return;
  const item = marked && marked.feature.properties.objectType === "detection" ? marked : null;
  pick(item, onImage([width() / 2, height() / 2]));
  if (!correction.hidden) find(".hp-type").focus();
}

function inside({ shape, box }) {
  const [x0, y0, x1, y1] = box.map(Math.floor);
  pen.setTransform(1, 0, 0, 1, 0, 0);
  for (let y = Math.floor((y0 + y1) / 2); y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      if (pen.isPointInPath(shape, x + 0.5, y + 0.5, "evenodd")) return [x, y];
    }
  }
  return [x0, y0];
}

const toggle = (name) => setMode(mode() === name ? "" : name);
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
  r: () => image && choose(shownPart()),
  w: () => image && choose(null),
  Enter: correctMarked,
  l: () => toggle("lasso"),
  Escape: () => {
    setMode("");
    dismiss();
    mark(null);
  },
};
canvas.onkeydown = (event) => {
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
};
const buttons = {
  in: () => zoomBy(1.5),
  out: () => zoomBy(1 / 1.5),
  fit,
  region: () => toggle("region"),
  lasso: () => toggle("lasso"),
  whole: () => image && choose(null),
};
for (const button of element.querySelectorAll("[data-do]")) {
  button.onclick = buttons[button.dataset.do];
}
correction.onkeydown = (event) => {
  if (event.key !== "Escape") return;
  dismiss();
  canvas.focus();
};
opacity.oninput = redraw;
let sized = false;
new ResizeObserver(() => {
  if (sized) redraw();
  else fit();
  sized = width() > 0 && image !== null;
}).observe(canvas);
watch("value", show);
show();
