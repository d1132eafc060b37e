"use strict";
const numberOf = text => Number(text.replace("inf", "Infinity"));  // as Python writes it

// Tables: a click on a heading sorts by it, another one turns the order round; what has no number comes last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
    const upwards = heading.getAttribute("aria-sort") === "descending";
    for (const other of headings) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
    const key = row => row.cells[column].dataset.value;
    const compare = (a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      const [first, second] = [numberOf(key(a)), numberOf(key(b))];
      const order = Number.isNaN(first) || Number.isNaN(second) ? key(a).localeCompare(key(b)) : first - second;
      return upwards ? order : -order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}

// Buttons of which one is pressed.
function choices(place, names, choose) {
  place.replaceChildren(...names.map((name, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      [...place.children].forEach((other, at) => other.setAttribute("aria-pressed", String(at === index)));
      choose(index);
    });
    button.setAttribute("aria-pressed", String(index === 0));
    return button;
  }));
}

// Single images: in the order of the data, or the worst first.
const cards = document.getElementById("cards");
if (cards) {
  const items = [...cards.children];
  cards.style.setProperty("--columns", items[0].querySelectorAll("figure").length);
  const largest = (item, what) => Math.max(...[...item.querySelectorAll("figure[data-guide]")]
    .map(figure => figure.dataset[what] === "" ? NaN : numberOf(figure.dataset[what]))
    .map(value => Number.isNaN(value) ? -Infinity : value));
  if (items.some(item => largest(item, "gap") > -Infinity)) {
    const order = document.getElementById("order");
    order.hidden = false;
    choices(order, ["in the order of the data", "largest gap first", "largest k-hat first"], index => {
      const what = [null, "gap", "khat"][index];
      cards.append(...[...items].sort((a, b) => what === null
        ? a.dataset.number - b.dataset.number : largest(b, what) - largest(a, what)));
    });
  }
}

// The decoder: the same arithmetic as the model's, from the same numbers.
function numbers(text, precision) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  if (precision === "float32") return Float32Array.from({length: bytes.length / 4}, (_, i) => view.getFloat32(4 * i, true));
  return Float32Array.from({length: bytes.length / 2}, (_, i) => {
    const bits = view.getUint16(2 * i, true), sign = bits & 0x8000 ? -1 : 1;
    const exponent = bits >> 10 & 31, fraction = bits & 1023;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
  });
}

const functions = {
  "relu": v => Math.max(v, 0),
  "leaky-relu": (v, slope) => v > 0 ? v : slope * v,
  "elu": (v, alpha) => v > 0 ? v : alpha * Math.expm1(v),
  "tanh": v => Math.tanh(v),
  "sigmoid": v => 1 / (1 + Math.exp(-v)),
  "silu": v => v / (1 + Math.exp(-v)),
  "identity": v => v,
};

function decoderOf(exported) {
  const layers = exported.layers.map(layer => layer.kind !== "linear" ? layer : {
    ...layer, weight: numbers(layer.weight, exported.precision), bias: numbers(layer.bias, exported.precision),
  });
  return inputs => {
    let values = Float32Array.from(inputs);
    for (const layer of [...layers, {kind: exported.output}]) {
      if (layer.kind === "linear") {
        const next = new Float32Array(layer.outputs);
        for (let row = 0, at = 0; row < layer.outputs; row++) {
          let sum = layer.bias[row];
          for (let column = 0; column < layer.inputs; column++) sum += layer.weight[at++] * values[column];
          next[row] = sum;
        }
        values = next;
      } else {
        values = values.map(v => functions[layer.kind](v, layer.option));
      }
    }
    return values;
  };
}

// The explorer: the plane of z, and the image at the point.
const written = document.getElementById("explorer-data");
if (written) {
  const data = JSON.parse(written.textContent);
  const decoders = data.decoders.map(decoderOf);
  const plane = document.getElementById("plane"), drawn = document.getElementById("drawn");
  const pen = plane.getContext("2d"), sheet = drawn.getContext("2d");
  const names = Object.keys(data.points);
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const onLight = ["#0072B2", "#D55E00", "#009E73", "#B0488A", "#A66F00", "#2A87C0", "#7A5A1F", "#5A3F94", "#444444", "#B00020"];
  const onDark = ["#5DB4EC", "#FF8A3D", "#2FCFA0", "#E79BC6", "#F0B429", "#9AD3F7", "#CDA766", "#B29BE0", "#CCCCCC", "#FF6B81"];
  const [middle, scale] = [data.prior.mean, data.prior.scale];
  const isKnown = mean => !mean.includes(null);  // null is NaN, of a guide that gives no number there
  let z = [...middle], guide = 0, label = 0, farthest = 3.3;
  for (const name of names) {
    const reach = data.points[name].means.filter(isKnown).map(m => Math.max(...m.map((v, i) => Math.abs(v - middle[i]) / scale[i])));
    reach.sort((a, b) => a - b);
    farthest = Math.max(farthest, 1.08 * (reach[Math.floor(0.99 * reach.length)] ?? 0));
  }
  const size = plane.width;
  const atPixel = point => point.map((v, i) => size / 2 * (1 + (i ? -1 : 1) * (v - middle[i]) / (scale[i] * farthest)));
  const atPoint = pixel => pixel.map((v, i) => middle[i] + (i ? -1 : 1) * (2 * v / size - 1) * scale[i] * farthest);

  function drawPlane() {
    const style = getComputedStyle(document.documentElement);
    const [ink, line, quiet] = ["--ink", "--line", "--quiet"].map(name => style.getPropertyValue(name).trim());
    const palette = darkness.matches ? onDark : onLight;
    pen.clearRect(0, 0, size, size);
    pen.font = "13px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const [x0, y0] = atPixel(middle);
    pen.strokeStyle = line;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(0, y0); pen.lineTo(size, y0); pen.moveTo(x0, 0); pen.lineTo(x0, size);
    pen.stroke();
    pen.strokeStyle = quiet;
    for (const radius of [1, 2, 3]) {
      pen.beginPath();
      pen.arc(x0, y0, radius * size / 2 / farthest, 0, 2 * Math.PI);
      pen.stroke();
    }
    const points = data.points[names[guide]];
    points.means.forEach((mean, index) => {
      if (!isKnown(mean)) return;
      const [x, y] = atPixel(mean);
      if (data.labels) {
        pen.fillStyle = palette[data.labels[index] % palette.length];
        pen.fillText(String(data.labels[index]), x, y);
      } else {
        pen.fillStyle = points.color;
        pen.beginPath();
        pen.arc(x, y, 2.5, 0, 2 * Math.PI);
        pen.fill();
      }
    });
    pen.fillStyle = quiet;
    pen.textAlign = "right";
    pen.fillText("z1 →", size - 6, y0 - 10);
    pen.textAlign = "left";
    pen.fillText("↑ z2", x0 + 6, 12);
    const [x, y] = atPixel(z);
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x, y, 8, 0, 2 * Math.PI);
    pen.stroke();
  }

  function drawImage() {
    const given = Array.from({length: data.classes}, (_, index) => Number(index === label));
    const values = decoders[data.points[names[guide]].model]([...z, ...given]);
    const pixels = sheet.createImageData(drawn.width, drawn.height);
    values.forEach((value, index) => {
      const grey = Math.round(255 * Math.min(1, Math.max(0, value)));
      pixels.data.set([grey, grey, grey, 255], 4 * index);
    });
    sheet.putImageData(pixels, 0, 0);
    const points = data.points[names[guide]].means;
    const away = points.map(mean => isKnown(mean) ? Math.hypot(mean[0] - z[0], mean[1] - z[1]) : Infinity);
    const nearest = away.indexOf(Math.min(...away));
    const shown = z.map(v => v.toFixed(2).replace("-", "−")).join(", ");
    const its = data.labels ? `, label ${data.labels[nearest]}` : "";
    document.getElementById("where").textContent = `z = (${shown}). Nearest: test image ${nearest}${its}.`;
  }

  function moveTo(point) {
    z = point.map((v, i) => Math.max(middle[i] - farthest * scale[i], Math.min(middle[i] + farthest * scale[i], v)));
    drawPlane();
    drawImage();
  }

  const follow = event => {
    const box = plane.getBoundingClientRect();
    moveTo(atPoint([(event.clientX - box.left) / box.width * size, (event.clientY - box.top) / box.height * size]));
  };
  plane.addEventListener("pointermove", follow);
  plane.addEventListener("pointerdown", follow);
  plane.addEventListener("keydown", event => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
    if (!step) return;
    event.preventDefault();
    moveTo(z.map((v, i) => v + 0.1 * scale[i] * step[i]));
  });
  const place = document.getElementById("choices");
  if (names.length > 1) {
    choices(place, names.map(name => `codes of ${name}`), index => { guide = index; drawPlane(); drawImage(); });
  }
  if (data.classes) {
    const labels = document.createElement("div");
    labels.className = "choices";
    place.after(labels);
    choices(labels, Array.from({length: data.classes}, (_, index) => `draw a ${index}`), index => { label = index; drawImage(); });
  }
  darkness.addEventListener("change", drawPlane);
  moveTo(z);
}
