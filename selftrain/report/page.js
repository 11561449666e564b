"use strict";
// The theme, and the pulse of a served page: numbers of a run in progress move without a reload.

const THEME = "selftrain-theme";
const PULSE = 2000;

function remembered() {
  try {
    return localStorage.getItem(THEME);
  } catch {
    return null; // A file's page may have no storage; the system's choice then holds.
  }
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  document.querySelector("#theme span").textContent = name === "dark" ? "light" : "dark";
}

const preferred = matchMedia("(prefers-color-scheme: dark)");
setTheme(remembered() ?? (preferred.matches ? "dark" : "light"));
preferred.addEventListener("change", () => {
  if (!remembered()) {
    setTheme(preferred.matches ? "dark" : "light");
    drawAll();
  }
});
document.getElementById("theme").addEventListener("click", () => {
  const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  setTheme(name);
  try {
    localStorage.setItem(THEME, name);
  } catch {
    // Not remembered then.
  }
  drawAll();
});

// Charts of a part that was closed wait for its opening.
document.addEventListener("toggle", () => whenIdle(rest), true);

let revision = null;

/** Take over what has changed; the reader's place, open tables and the sample browser stay. */
function update(fresh) {
  document.getElementById("head").innerHTML = fresh.head; // Escaped by the server, as in the page itself.
  const open = new Set([...document.querySelectorAll("#sections details[open] summary")].map(titled));
  const shut = new Set([...document.querySelectorAll("#sections details:not([open]) summary")].map(titled));
  const drawn = new Map([...document.querySelectorAll(".chart[data-drawn]")].map((place) => [place.dataset.figure, place]));
  const before = specifications;
  document.getElementById("sections").innerHTML = fresh.sections;
  for (const summary of document.querySelectorAll("#sections summary")) {
    const name = titled(summary);
    if (open.has(name) || shut.has(name)) summary.parentElement.open = open.has(name);
  }
  specifications = fresh.charts;
  const changed = new Set();
  for (const place of document.querySelectorAll(".chart")) {
    const id = place.dataset.figure;
    if (drawn.has(id) && JSON.stringify(before[id]) === JSON.stringify(fresh.charts[id])) place.replaceWith(drawn.get(id));
    else changed.add(id);
  }
  drawAll(changed);
  document.dispatchEvent(new CustomEvent("fresh", { detail: fresh.data }));
}

function titled(summary) {
  return `${summary.closest("figure, section").id} ${summary.textContent}`;
}

async function pulse() {
  try {
    const { revision: now } = await (await fetch("state.json", { cache: "no-store" })).json();
    if (revision !== null && now !== revision) update(await (await fetch("report.json", { cache: "no-store" })).json());
    revision = now;
    document.body.dataset.pulse = "beating";
  } catch {
    document.body.dataset.pulse = "lost"; // The server has gone; the page stays as it is, and says so by its style.
  }
  setTimeout(pulse, PULSE);
}

drawAll();
if (stored("data").served) {
  revision = stored("data").revision;
  pulse();
}
