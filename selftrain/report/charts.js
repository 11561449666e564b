"use strict";
// Charts by Vega-Lite: specifications come without colours, which are those of the page's theme.

const SERIES = 8;
let specifications = stored("charts");
const waiting = new Set();
let near = null;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { of, series: Array.from({ length: SERIES }, (_, at) => of(`series-${at}`)) };
}

/** Black or white, whichever stands out on a colour (relative luminance of WCAG 2). */
function ink(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}

function themed(value, theme) {
  if (Array.isArray(value)) return value.map((each) => themed(each, theme));
  if (value && typeof value === "object") {
    const entries = Object.entries(value).map(([key, each]) => [key, key === "data" ? each : themed(each, theme)]);
    return Object.fromEntries(entries);
  }
  return ["panel", "plain-text", "band-fill", "band-line"].includes(value) ? theme.of(value) : value;
}

/** Rows that are written on a bar say of which series; the ink is what stands out on its colour. */
function inked(row, series) {
  return "ink" in row ? { ...row, ink: ink(series[Number(row.ink.slice("ink-".length)) % SERIES]) } : row;
}

function configured({ of, series }) {
  const text = { labelColor: of("ink"), titleColor: of("ink"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500 };
  return {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { ...text, gridColor: of("line"), domainColor: of("muted"), tickColor: of("muted"), labelOverlap: true, labelSeparation: 6 },
    legend: { ...text, symbolStrokeWidth: 0, symbolOpacity: 1, symbolSize: 90, rowPadding: 4 },
    range: {
      category: series,
      symbol: ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke"],
    },
    line: { color: series[0] },
    point: { color: series[0] },
    rule: { color: series[0] },
  };
}

async function draw(place) {
  const { spec, title } = specifications[place.dataset.figure];
  const theme = colours();
  const dark = document.documentElement.dataset.theme === "dark" ? "dark" : undefined;
  try {
    // Expressions are interpreted, so that the page needs no right to make code of text.
    await vegaEmbed(
      place,
      {
        ...themed(spec, theme),
        data: { values: spec.data.values.map((row) => inked(row, theme.series)) },
        width: "container",
        description: title,
      },
      { mode: "vega-lite", actions: false, renderer: "svg", ast: true, config: configured(theme), tooltip: { theme: dark } },
    );
    place.dataset.drawn = "yes";
  } catch (error) {
    place.dataset.drawn = "no";
    place.textContent = `This chart could not be drawn: ${error}`;
    console.error(error);
  }
}

async function drawOne(place) {
  if (!waiting.delete(place)) return;
  near.unobserve(place);
  await draw(place);
}

/** Draw the next one out of sight; what lies in a closed part is drawn when that is opened. */
function rest() {
  const next = [...waiting].find((place) => place.offsetParent !== null);
  if (next) drawOne(next).then(() => whenIdle(rest));
  else document.body.dataset.charts = "drawn";
}

function whenIdle(work) {
  if ("requestIdleCallback" in window) requestIdleCallback(work, { timeout: 500 });
  else setTimeout(work, 20);
}

/** Draw charts, those in sight first; `changed` are the figures to draw, by default all. */
function drawAll(changed = null) {
  near ??= new IntersectionObserver((seen) => seen.filter((each) => each.isIntersecting).forEach((each) => drawOne(each.target)), {
    rootMargin: "200px",
  });
  near.disconnect();
  waiting.clear();
  for (const place of document.querySelectorAll(".chart")) {
    if (changed === null || changed.has(place.dataset.figure)) {
      waiting.add(place);
      near.observe(place);
    }
  }
  document.body.dataset.charts = waiting.size ? "drawing" : "drawn";
  whenIdle(rest);
}
