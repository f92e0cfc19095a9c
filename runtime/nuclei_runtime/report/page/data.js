// What the page holds: JSON, and blocks of bytes in base64 that are unpacked when they are first shown.

const report = JSON.parse(document.getElementById("report").textContent);
const images = report.images;

// The first nucleus of each image among all nuclei, and at the end their number.
const starts = [0];
for (const image of images) starts.push(starts.at(-1) + image.n);
const nNuclei = starts.at(-1);

const columnNames = report.columns.map((column) => column.name);
const measures = columnNames.filter((name) => name !== "label");

function blockBytes(name) {
  const text = atob(document.getElementById(name).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Remembers what a function returned for the last `size` arguments.
function remembering(size, make) {
  const known = new Map();
  return (key) => {
    const value = known.has(key) ? known.get(key) : make(key);
    known.delete(key);
    known.set(key, value);
    if (known.size > size) known.delete(known.keys().next().value);
    return value;
  };
}

// A column's values for all nuclei, in the order of the images; NaN where there is none.
// All of them are kept, because the table of nuclei shows them all.
const column = remembering(columnNames.length, async (name) => {
  const index = columnNames.indexOf(name);
  const values = new Float32Array(nNuclei);
  const bytes = new Uint8Array(values.buffer); // little-endian, as all machines with a browser are
  for (let byte = 0; byte < 4; byte++) {
    const plane = await inflate(blockBytes(`column-${index}-${byte}`));
    for (let i = 0; i < nNuclei; i++) bytes[4 * i + byte] = plane[i];
  }
  return values;
});

// A number as the columns hold it, so that it can be compared with their values.
function stored(value) {
  const one = new Float32Array([value]), bits = new Uint32Array(one.buffer), n = report.n_dropped_bits;
  if (n) bits[0] = (bits[0] + (1 << (n - 1))) & -(1 << n);
  return one[0];
}

// The outlines of an image in pixels of the image: per nucleus its label, a path, and its box.
const outlinesOf = remembering(80, async (index) => {
  const packed = images[index].outlines;
  if (!packed) return { labels: [], paths: [], boxes: [] };
  const bytes = await inflate(blockBytes(`outlines-${index}`));
  const { scale, n } = packed;
  const numbers = new Int32Array(3 * n);
  const raw = new Uint8Array(numbers.buffer);
  for (let byte = 0, at = 0; byte < 4; byte++) {
    for (let i = 0; i < 3 * n; i++) raw[4 * i + byte] = bytes[at++];
  }
  for (let i = 0; i < 3 * n; i++) if (i % n) numbers[i] += numbers[i - 1];

  const labels = [...numbers.subarray(0, n)], paths = [], boxes = [];
  let at = 12 * n, turns = 0, left = 0;
  const nextTurn = () => {
    if (!left) [turns, left] = [bytes[at++], 5];
    const turn = turns % 3;
    turns = (turns - turn) / 3;
    left--;
    return turn;
  };
  for (let i = 0; i < n; i++) {
    const top = numbers[n + i], start = numbers[2 * n + i];
    const path = new Path2D();
    let x = start, y = top, heading = 0; // right, down, left, up
    const box = [x, y, x, y];
    path.moveTo(x * scale, y * scale);
    do {
      x += heading === 0 ? 1 : heading === 2 ? -1 : 0;
      y += heading === 1 ? 1 : heading === 3 ? -1 : 0;
      const turn = nextTurn();
      if (turn) path.lineTo(x * scale, y * scale);
      heading = (heading + (turn === 2 ? 3 : turn)) % 4;
      box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
    } while (x !== start || y !== top || heading !== 0);
    path.closePath();
    paths.push(path);
    boxes.push(box.map((edge) => edge * scale));
  }
  return { labels, paths, boxes };
});

// The picture of an image, or null if there is none.
const pictureOf = remembering(80, async (index) => {
  if (!images[index].picture) return null;
  const picture = new Image();
  picture.src = `data:image/webp;base64,${document.getElementById(`picture-${index}`).textContent}`;
  await picture.decode();
  return picture;
});

function sizeOf(index) {
  const { width, height } = images[index].row;
  return { width: Number(width) || 1, height: Number(height) || 1 };
}

// Text for a number: with the digits that the report holds.
function shown(value, digits = report.n_dropped_bits ? 4 : 6) {
  if (value === null || Number.isNaN(value)) return "";
  return Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumSignificantDigits: digits });
}

// The flags of an image in words, a line each: [name, reason, what to do], the last of which may be empty.
function wordsOf(flags) {
  return flags.map(([, ...words]) => words.filter(Boolean).join(": ")).join("\n");
}

function flagName(name) {
  return name.replaceAll("_", " ");
}

function counted(n, noun, plural = `${noun}s`) {
  return `${n.toLocaleString("en-US")} ${n === 1 ? noun : plural}`;
}

// Makes an element. Text is only ever set as text, so that a name of a file cannot become a tag.
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function fillSelect(select, options, chosen) {
  select.replaceChildren(
    ...options.map(([value, text]) => element("option", { value, textContent: text, selected: value === chosen })),
  );
}

// A table: cells that are numbers stand on the right. `isText` tells which columns are words.
function table(header, rows, isText = () => false, caption = "") {
  const cell = (tag, text, place) => {
    const made = element(tag, { textContent: text, className: isText(place) ? "text" : "" });
    if (tag === "th") made.scope = "col";
    return made;
  };
  const made = element("table", {},
    element("thead", {}, element("tr", {}, ...header.map((name, place) => cell("th", name, place)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text, place) => cell("td", text, place))))),
  );
  if (caption) made.createCaption().textContent = caption;
  return made;
}
