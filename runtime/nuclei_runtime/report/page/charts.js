// Histograms and box plots, drawn as SVG, and the colours of everything.

// Okabe and Ito, "Color universal design" (2008), without yellow and black, which one of the two grounds swallows.
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "1 2"];

// Nine colours of viridis (van der Walt and Smith, CC0), which differ in lightness too.
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129],
  [92, 200, 99], [170, 220, 50], [253, 231, 37]];

const PLAIN_COLOUR = "#ffe600";
const MAX_LINES = PALETTE.length;
const MAX_BOXES = 60;
const MAX_BINS = 48;

function viridis(share) {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const rgb = VIRIDIS[low].map((value, i) => Math.round(value + (VIRIDIS[low + 1][i] - value) * (place - low)));
  return `rgb(${rgb.join(" ")})`;
}

function legendOf(scale) {
  if (!scale) return [];
  const bar = element("i");
  bar.style.background = `linear-gradient(90deg, ${VIRIDIS.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
  return [shown(scale.low, 3), bar, shown(scale.high, 3)];
}

// The value below which a share of sorted values lies, interpolated as NumPy and R do it.
function quantile(sorted, share) {
  const place = (sorted.length - 1) * share, low = Math.floor(place);
  return sorted[low] + ((sorted[low + 1] ?? sorted[low]) - sorted[low]) * (place - low);
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Round numbers that divide a range into four to nine steps.
function ticks(low, high) {
  if (!(high > low)) return [low];
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((one) => one >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return found;
}

// The range that a chart shows: all but the outermost thousandth on each side, so all of fewer than a thousand.
function rangeOf(groups) {
  const ends = groups.flatMap(({ values }) => {
    const nOutside = Math.floor(values.length / 1000);
    return [values[nOutside], values[values.length - 1 - nOutside]];
  });
  const low = Math.min(...ends), high = Math.max(...ends);
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

function axis(low, high, x, y, height) {
  return ticks(low, high).flatMap((value) => [
    svg("line", { class: "grid", x1: x(value), x2: x(value), y1: y - height, y2: y }),
    svg("text", { x: x(value), y: y + 16, "text-anchor": "middle" }, shown(value, 6)),
  ]);
}

// groups: [{name, values: sorted Float32Array}], none of them empty.
function histogram(groups, name) {
  const lines = groups.length <= MAX_LINES ? groups : [pooled(groups)];
  const [low, high] = rangeOf(lines);
  const [width, height, left, bottom] = [640, 300, 50, 260];
  const largest = Math.max(...lines.map(({ values }) => values.length));
  const nBins = Math.min(MAX_BINS, Math.max(8, Math.ceil(2 * Math.cbrt(largest)))); // Rice's rule
  const heights = lines.map(({ values }) => {
    const bins = new Float64Array(nBins);
    for (const value of values) {
      const bin = Math.floor(((value - low) / (high - low)) * nBins);
      if (value <= high && bin >= 0) bins[Math.min(bin, nBins - 1)] += 100 / values.length;
    }
    return bins;
  });
  const top = Math.max(...heights.map((bins) => Math.max(...bins)));
  const x = (value) => left + ((value - low) / (high - low)) * (width - left - 15);
  const y = (percent) => bottom - (percent / top) * (bottom - 20);
  const drawn = [
    ...axis(low, high, x, bottom, bottom - 20),
    ...ticks(0, top).flatMap((percent) => [
      svg("line", { class: "grid", x1: left, x2: width - 15, y1: y(percent), y2: y(percent) }),
      svg("text", { x: left - 6, y: y(percent) + 4, "text-anchor": "end" }, shown(percent, 3)),
    ]),
  ];
  heights.forEach((bins, group) => {
    const colour = PALETTE[group];
    let path = `M${x(low)} ${bottom}`;
    bins.forEach((percent, bin) => {
      path += `V${y(percent).toFixed(1)}H${x(low + ((bin + 1) / nBins) * (high - low)).toFixed(1)}`;
    });
    drawn.push(svg("path", { d: `${path}V${bottom}`, fill: colour, "fill-opacity": lines.length > 1 ? 0.08 : 0.35,
      stroke: colour, "stroke-width": 2, "stroke-dasharray": DASHES[group] }));
    if (lines.length > 1) {
      drawn.push(
        svg("line", { x1: width - 175, x2: width - 145, y1: 28 + 17 * group, y2: 28 + 17 * group, stroke: colour,
          "stroke-width": 2, "stroke-dasharray": DASHES[group] }),
        svg("text", { x: width - 140, y: 32 + 17 * group }, shortened(lines[group].name, 20)),
      );
    }
  });
  drawn.push(
    svg("path", { class: "axis", d: `M${left} 20V${bottom}H${width - 15}` }),
    svg("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, name),
    svg("text", { x: -(bottom + 20) / 2, y: 13, transform: "rotate(-90)", "text-anchor": "middle" }, "% of nuclei"),
  );
  const label = `Histogram of ${name}; the table below has its numbers`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...drawn);
}

function boxPlots(groups, name) {
  const drawnGroups = groups.slice(0, MAX_BOXES);
  const [low, high] = rangeOf(drawnGroups);
  const [width, left, step] = [640, 150, 28];
  const bottom = 20 + step * drawnGroups.length, height = bottom + 40;
  const x = (value) => left + ((Math.min(Math.max(value, low), high) - low) / (high - low)) * (width - left - 15);
  const drawn = axis(low, high, x, bottom, bottom - 15);
  drawnGroups.forEach((group, place) => {
    const colour = groups.length <= MAX_LINES ? PALETTE[place] : PALETTE[0];
    const middle = 20 + step * (place + 0.5);
    const [q25, median, q75] = [0.25, 0.5, 0.75].map((share) => quantile(group.values, share));
    const reach = 1.5 * (q75 - q25); // Tukey, Exploratory Data Analysis, 1977
    const first = group.values.find((value) => value >= q25 - reach);
    const last = group.values.findLast((value) => value <= q75 + reach);
    drawn.push(
      svg("text", { x: left - 8, y: middle + 4, "text-anchor": "end" }, shortened(group.name, 20)),
      svg("path", { d: `M${x(first)} ${middle}H${x(q25)}M${x(q75)} ${middle}H${x(last)}`, class: "axis" }),
      svg("rect", { x: x(q25), y: middle - 9, width: Math.max(x(q75) - x(q25), 1), height: 18, fill: colour,
        "fill-opacity": 0.45, class: "edge" }),
      svg("line", { x1: x(median), x2: x(median), y1: middle - 9, y2: middle + 9, class: "edge", "stroke-width": 3 }),
    );
  });
  const more = groups.length - drawnGroups.length;
  drawn.push(svg("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" },
    more > 0 ? `${name} (${more} more groups in the table)` : name));
  const label = `Box plots of ${name}; the table below has their numbers`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...drawn);
}

function pooled(groups) {
  const values = new Float32Array(groups.reduce((sum, group) => sum + group.values.length, 0));
  let end = 0;
  for (const group of groups) {
    values.set(group.values, end);
    end += group.values.length;
  }
  return { name: "all", values: values.sort() };
}

function shortened(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
