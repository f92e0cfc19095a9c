// Runs a nuclei-edge model on a raw image: node run.mjs MODEL.onnx IMAGE.npy MAPS.npy
//
// IMAGE.npy is (H, W), (H, W, 3) or (H, W, 4) of uint8, uint16 or float32. MAPS.npy becomes (H, W, M) float32, the same
// as from Python's Segmenter.predict. docs/card.md explains each step.
import { readFileSync, writeFileSync } from "node:fs";

process.env.ORT_DISABLE_TELEMETRY = "1"; // before the library is loaded, which otherwise sends events
const ort = await import("onnxruntime-node");

const NPY_TYPES = { "|u1": Uint8Array, "<u2": Uint16Array, "<f4": Float32Array };

function readNpy(path) {
  const file = readFileSync(path);
  const start = 10 + file.readUInt16LE(8); // version 1: magic, version, length of the header, header
  const header = file.toString("latin1", 10, start);
  const [, type, order, sizes] = header.match(/'descr': '(.*?)', 'fortran_order': (\w+), 'shape': \((.*?)\)/);
  if (!(type in NPY_TYPES) || order !== "False") throw new Error(`${path}: ${header.trim()} is not supported`);
  const values = new NPY_TYPES[type](file.buffer.slice(file.byteOffset + start, file.byteOffset + file.length));
  return { values, shape: sizes.split(",").filter((size) => size.trim()).map(Number) };
}

function writeNpy(path, values, shape) {
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(", ")}), }`;
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const start = Buffer.from("\x93NUMPY\x01\x00\x00\x00" + padded, "latin1");
  start.writeUInt16LE(padded.length, 8);
  writeFileSync(path, Buffer.concat([start, Buffer.from(values.buffer, values.byteOffset, values.byteLength)]));
}

// onnxruntime-node does not provide a model's metadata; ONNX Runtime for other languages does. An ONNX file consists of
// Protocol Buffers fields: number and type, length, content. Field 14 is a metadata entry: 1 is its key, 2 its value.
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (!(byte & 128)) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    if (tag % 8 === 0) varint();
    else if (tag % 8 === 2) {
      const length = varint();
      yield [Math.floor(tag / 8), bytes.subarray(at, (at += length))];
    } else throw new Error(`found a field of type ${tag % 8}, which no model contains`);
  }
}

function readCard(model) {
  for (const [number, entry] of fields(model)) {
    const { 1: key, 2: value } = number === 14 ? Object.fromEntries(fields(entry)) : {};
    if (key?.toString() !== "nuclei.model_card") continue;
    const card = JSON.parse(value.toString());
    if (card.schema_version !== 1) throw new Error(`found a card of version ${card.schema_version}, expected 1`);
    return card;
  }
  throw new Error("no model card in the file");
}

// An image is { data, height, width, channels }, rows first, channels last.
function percentileNormalisation({ data, ...size }, { lower, upper }) {
  if (data instanceof Float32Array && size.height * size.width > 2 ** 22)
    throw new Error("this program takes no float images of more than 4 megapixels, see percentiles in docs/card.md");
  const values = data.slice().sort();
  const [low, high] = [lower, upper].map((percent) => percentile(values, percent));
  return { ...size, data: stretch(data, low, high) };
}

// The nearest rank in an array of sorted values.
function percentile(sorted, percent) {
  const rank = (BigInt(Math.round(percent * 1e6)) * BigInt(sorted.length) + 99_999_999n) / 100_000_000n; // rounded up
  return sorted[Math.max(Number(rank) - 1, 0)];
}

function stretch(data, low, high) {
  const between = (value) => (Math.min(Math.max(value, low), high) - low) / (high - low);
  return high > low ? Float32Array.from(data, between) : new Float32Array(data.length);
}

// The percentiles of the blocks in which there is something.
function structureNormalisation(image, { lower, upper }) {
  const blocks = blocksOf(image);
  const only = image.channels === 3 ? onlyChannel(blocks) : null;
  if (only !== null) image = { ...image, data: image.data.filter((_, i) => i % 3 === only), channels: 1 };
  const used = blocks.map((channels) => (only === null ? channels : [channels[only]]));
  const contrasts = used.map((channels) => Math.max(...channels.map(({ range, noise }) => (range > 1.5 * noise ? range : 0))));
  const largest = contrasts.reduce((most, contrast) => Math.max(most, contrast), 0);
  const numbers = [...contrasts.keys()].filter((i) => contrasts[i] > 0 && contrasts[i] >= largest * 0.002);
  const { data, ...size } = image;
  if (numbers.length === 0) return { ...size, data: new Float32Array(data.length) };
  const every = data instanceof Float32Array ? Math.ceil(numbers.length / 4096) : 1;
  const chosen = numbers.filter((_, i) => i % every === 0).flatMap((i) => used[i].flatMap(({ squares }) => squares));
  const values = new data.constructor(chosen.length * 14);
  chosen.forEach((sorted, i) => values.set(sorted.subarray(1, 15), i * 14));
  values.sort();
  let [low, high] = [lower, upper].map((percent) => percentile(values, percent));
  const span = 6 * percentile(Float64Array.from(numbers, (i) => contrasts[i]).sort(), 90);
  if (high - low > span) {
    const others = values.filter((value) => value <= low + span); // the rest is debris or hot pixels
    [low, high] = [lower, upper].map((percent) => percentile(others, percent));
  }
  return { ...size, data: stretch(data, low, high) };
}

// For each block and channel: its squares, sorted, their medians, how far these are apart, and the noise.
function blocksOf({ data, height, width, channels }) {
  const [down, across] = [Math.ceil(height / 4), Math.ceil(width / 4)];
  const square = (row, column, channel) => {
    const values = new data.constructor(16);
    for (let i = 0; i < 16; i++) {
      const [y, x] = [fold(4 * row + Math.floor(i / 4), height), fold(4 * column + (i % 4), width)];
      values[i] = data[(y * width + x) * channels + channel];
    }
    return values.sort();
  };
  const blocks = [];
  for (let top = 0; top < down; top += 8)
    for (let left = 0; left < across; left += 8)
      blocks.push(
        Array.from({ length: channels }, (_, channel) => {
          const squares = [];
          for (let row = top; row < Math.min(top + 8, down); row++)
            for (let column = left; column < Math.min(left + 8, across); column++) squares.push(square(row, column, channel));
          const medians = squares.map((values) => values[7]);
          const ranges = Float64Array.from(squares, (values) => values[15] - values[0]).sort();
          return { squares, medians, range: rangeOf(medians), noise: ranges[Math.floor((ranges.length - 1) / 2)] };
        }),
      );
  return blocks;
}

const rangeOf = (values) => Math.max(...values) - Math.min(...values);

// The only one of three channels that holds a picture, or null.
function onlyChannel(blocks) {
  const most = (ofBlock) => blocks.reduce((largest, block) => Math.max(largest, ofBlock(block)), 0);
  const own = [0, 1, 2].map((i) => most((block) => block[i].range));
  const strongest = own.indexOf(Math.max(...own));
  const limit = 0.15 * own[strongest];
  const isEmpty = (i) => own[i] <= limit;
  const isSame = (i) =>
    i === strongest || most((block) => rangeOf(block[i].medians.map((m, k) => m - block[strongest].medians[k]))) <= limit;
  const found = own[strongest] > 0 && own.some((_, i) => isEmpty(i)) && own.every((_, i) => isEmpty(i) || isSame(i));
  return found ? strongest : null;
}

const fold = (i, n) => (i % (2 * n) < n ? i % (2 * n) : 2 * n - 1 - (i % (2 * n))); // the edge pixel twice
const mirror = (i, n) => (n === 1 ? 0 : (n - 1) - Math.abs((((i % (2 * n - 2)) + 2 * n - 2) % (2 * n - 2)) - (n - 1)));

// One axis at a time. `along` returns, for a position on the axis, the positions it is made of and their weights.
function resample({ data, height, width, channels }, axis, length, along) {
  const stride = axis === 0 ? width * channels : channels;
  const [n, outer] = axis === 0 ? [height, 1] : [width, height];
  const result = new Float32Array(outer * length * stride);
  for (let i = 0; i < length; i++) {
    const parts = along(i, n).map(([position, weight]) => [mirror(position, n), weight]);
    for (let o = 0; o < outer; o++)
      for (let s = 0; s < stride; s++) {
        let sum = 0;
        for (const [position, weight] of parts) sum += weight * data[(o * n + position) * stride + s];
        result[(o * length + i) * stride + s] = sum;
      }
  }
  return { data: result, channels, height: axis === 0 ? length : height, width: axis === 0 ? width : length };
}

function gaussian(sigma) {
  const radius = Math.floor(4 * sigma + 0.5);
  const offsets = Array.from({ length: 2 * radius + 1 }, (_, k) => k - radius);
  const weights = offsets.map((x) => Math.exp((-0.5 * x * x) / (sigma * sigma)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return (i) => offsets.map((x, k) => [i + x, weights[k] / total]);
}

function resize(image, { height, width }) {
  const axes = [[0, height, image.height], [1, width, image.width]];
  for (const [axis, to, from] of axes)
    if (from > to) image = resample(image, axis, from, gaussian((from / to - 1) / 2));
  for (const [axis, to, from] of axes)
    image = resample(image, axis, to, (i) => {
      const at = ((i + 0.5) * from) / to - 0.5;
      return [[Math.floor(at), 1 - (at - Math.floor(at))], [Math.floor(at) + 1, at - Math.floor(at)]];
    });
  return image;
}

const STEPS = {
  percentile_normalisation: percentileNormalisation,
  resize,
  structure_normalisation: structureNormalisation,
};

function toImage({ values, shape }) {
  const [height, width, samples = 1] = shape;
  if (![2, 3].includes(shape.length) || ![1, 3, 4].includes(samples) || values.length === 0)
    throw new Error(`found an array of shape (${shape.join(", ")}), expected (H, W), (H, W, 3) or (H, W, 4)`);
  if (!values.every(Number.isFinite)) throw new Error("found values that are NaN or infinite; replace them first");
  const channels = samples === 4 ? 3 : samples; // without alpha
  const data = new values.constructor(height * width * channels);
  for (let i = 0; i < data.length; i++) data[i] = values[Math.floor(i / channels) * samples + (i % channels)];
  return { data, height, width, channels };
}

function* spans(length, { core_px: core, halo_px: halo }) {
  for (let start = 0; start < length; start += core) {
    const stop = Math.min(start + core, length);
    yield { start, stop, from: Math.max(start - halo, 0), to: Math.min(stop + halo, length) };
  }
}

// If the network takes any size: tiles of the image, mirrored (edge pixel twice) up to a multiple. Otherwise the whole.
async function predict(session, card, image) {
  const { input, output } = card;
  const tiling = input.tiling ?? { core_px: Infinity, halo_px: 0, multiple_of_px: 1 };
  const padded = (n) => Math.ceil(n / tiling.multiple_of_px) * tiling.multiple_of_px;
  const maps = new Float32Array(image.height * image.width * output.maps.length);
  for (const rows of spans(padded(image.height), tiling))
    for (const columns of spans(padded(image.width), tiling)) {
      const [h, w] = [rows.to - rows.from, columns.to - columns.from];
      const tile = new Float32Array(h * w * input.channels); // grey is repeated
      for (let i = 0; i < tile.length; i++) {
        const [pixel, channel] = [Math.floor(i / input.channels), i % input.channels];
        const row = fold(rows.from + Math.floor(pixel / w), image.height);
        const column = fold(columns.from + (pixel % w), image.width);
        tile[i] = image.data[(row * image.width + column) * image.channels + (channel % image.channels)];
      }
      const feeds = { [input.name]: new ort.Tensor("float32", tile, [1, h, w, input.channels]) };
      const found = (await session.run(feeds))[output.name].data;
      for (let row = rows.start; row < Math.min(rows.stop, image.height); row++) {
        const begin = ((row - rows.from) * w + columns.start - columns.from) * output.maps.length;
        const n = (Math.min(columns.stop, image.width) - columns.start) * output.maps.length;
        maps.set(found.subarray(begin, begin + n), (row * image.width + columns.start) * output.maps.length);
      }
    }
  return { data: maps, height: image.height, width: image.width, channels: output.maps.length };
}

const [modelPath, imagePath, mapsPath] = process.argv.slice(2);
const model = readFileSync(modelPath);
const card = readCard(model);
const session = await ort.InferenceSession.create(model, { executionProviders: ["cpu"] });
const image = toImage(readNpy(imagePath));
const prepared = card.preprocessing.reduce((current, { id, kwargs }) => STEPS[id](current, kwargs), image);
let maps = await predict(session, card, prepared);
if (!card.input.tiling) maps = resize(maps, { height: image.height, width: image.width });
writeNpy(mapsPath, maps.data, [maps.height, maps.width, maps.channels]);
console.log(`${card.name} ${card.version}: ${card.output.maps.join(", ")} of ${maps.height} x ${maps.width} pixels`);
