"use strict";
// The sample browser: filters, a list of problems, and a problem with all its samples side by side across rounds.

const PAGE_OF_PROBLEMS = 50;
const OF_SAMPLES = ["round", "split", "stage", "status", "side", "verifier"];
const OF_PROBLEMS = ["bin", "change"];
const SIGNS = { pass: "\u2713", fail: "\u2717", scored: "\u2022", abstain: "?", error: "!", timeout: "\u23f1", unjudged: "\u2013" };
const MOVES = { gained: "\u25b2", lost: "\u25bc", kept: "\u25cf", unsolved: "\u25cb", once: "\u2013" };

/** What the page itself holds. */
class Held {
  constructor({ problems, samples, says, choices }) {
    Object.assign(this, { says, choices });
    this.samples = new Map(problems.map((problem) => [problem.id, []]));
    for (const sample of samples) this.samples.get(sample.given)?.push(sample);
    this.problems = problems;
  }

  async search(asked, offset) {
    const found = [];
    let total = 0;
    for (const problem of this.problems) {
      if (!OF_PROBLEMS.every((name) => !asked[name] || problem[name] === asked[name])) continue;
      const count = this.samples.get(problem.id).filter((sample) => matches(problem, sample, asked)).length;
      if (count) found.push({ ...problem, matching: count });
      total += count;
    }
    return { problems: found.length, samples: total, page: found.slice(offset, offset + PAGE_OF_PROBLEMS) };
  }

  async problem(id) {
    return { problem: this.problems.find((each) => each.id === id), samples: this.samples.get(id) };
  }
}

/** What the server finds in the run's tables. */
class Served {
  constructor({ says, choices }) {
    Object.assign(this, { says, choices });
  }

  async search(asked, offset) {
    return this.ask("search", { ...asked, offset });
  }

  async problem(id) {
    return this.ask("problem", { id });
  }

  async ask(what, values) {
    const answer = await fetch(`${what}.json?${new URLSearchParams(values)}`, { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    return answer.json();
  }
}

function matches(problem, sample, asked) {
  const text = (asked.text ?? "").toLowerCase();
  return (
    (!asked.round || String(sample.round) === asked.round) &&
    (!asked.split || problem.split === asked.split) &&
    (!asked.stage || sample.stage === asked.stage) &&
    (!asked.status || sample.status === asked.status) &&
    (!asked.side || sample.picks.some(([round, side]) => round === sample.round && side === asked.side)) &&
    (!asked.verifier || sample.verdicts.some(([by]) => by === asked.verifier)) &&
    (!text || sample.text.toLowerCase().includes(text) || problem.prompt.toLowerCase().includes(text))
  );
}

const browser = document.getElementById("samples") && {
  source: null,
  offset: 0,
  found: { problems: 0, samples: 0, page: [] },
  chosen: 0,
  asking: 0,
  list: document.getElementById("problems"),
  place: document.getElementById("problem"),
};

function asked() {
  const found = { text: document.getElementById("filter-text").value.trim() };
  for (const name of [...OF_SAMPLES, ...OF_PROBLEMS]) {
    const value = document.getElementById(`filter-${name}`).value;
    if (value) found[name] = value;
  }
  return found;
}

function fillChoices() {
  for (const [name, values] of Object.entries(browser.source.choices)) {
    const select = document.getElementById(`filter-${name}`);
    const before = select.value;
    select.replaceChildren(make("option", { value: "" }, "any"));
    for (const each of values) {
      const [value, text] = Array.isArray(each) ? each : [each, each];
      select.append(show(make("option", { value }), text));
    }
    select.value = [...select.options].some((option) => option.value === before) ? before : "";
    select.disabled = !values.length;
  }
  document.getElementById("says").replaceChildren(browser.source.says);
}

async function find(offset = 0, keep = false) {
  const turn = ++browser.asking;
  const chosen = keep && browser.found.page[browser.chosen]?.id;
  let found;
  try {
    found = await browser.source.search(asked(), offset);
  } catch (error) {
    document.getElementById("count").replaceChildren(`The search failed: ${error.message}`);
    return;
  }
  if (turn !== browser.asking) return; // A later search has been asked for since.
  Object.assign(browser, { found, offset, chosen: Math.max(0, found.page.findIndex((each) => each.id === chosen)) });
  const count = `${found.problems.toLocaleString("en")} problems with ${found.samples.toLocaleString("en")} samples like that`;
  document.getElementById("count").replaceChildren(count);
  listed();
  if (!keep || found.page[browser.chosen]?.id !== chosen) await opened();
}

function listed() {
  const { found, list, offset } = browser;
  list.replaceChildren(...found.page.map(line));
  const last = offset + found.page.length;
  document.getElementById("pages").replaceChildren(found.problems ? `${offset + 1} to ${last} of ${found.problems}` : "");
  document.getElementById("before").disabled = offset === 0;
  document.getElementById("after").disabled = last >= found.problems;
  choose(browser.chosen, false);
}

function line(problem, at) {
  const item = make("li", { role: "option", id: `problem-${at}`, "aria-selected": "false" });
  item.append(make("span", { class: `move ${problem.change}`, title: problem.change }, MOVES[problem.change] ?? ""));
  const text = show(make("span", { class: "prompt" }), problem.prompt.slice(0, 160));
  item.append(text, make("span", { class: "note" }, [problem.split, problem.change, `${problem.matching} samples`].filter(Boolean).join(", ")));
  item.addEventListener("click", () => {
    choose(at);
    opened();
  });
  return item;
}

function choose(at, scroll = true) {
  const items = browser.list.children;
  if (!items.length) {
    browser.list.removeAttribute("aria-activedescendant");
    return;
  }
  browser.chosen = Math.min(Math.max(at, 0), items.length - 1);
  for (const [index, item] of [...items].entries()) item.setAttribute("aria-selected", String(index === browser.chosen));
  browser.list.setAttribute("aria-activedescendant", `problem-${browser.chosen}`);
  if (scroll) items[browser.chosen].scrollIntoView({ block: "nearest" });
}

async function opened() {
  const chosen = browser.found.page[browser.chosen];
  if (!chosen) {
    browser.place.replaceChildren(make("p", { class: "text" }, "Nothing is like that: clear a filter."));
    return;
  }
  const { problem, samples } = await browser.source.problem(chosen.id);
  if (browser.found.page[browser.chosen]?.id !== chosen.id) return;
  const wanted = asked().text;
  const facts = [problem.split, problem.change && `${MOVES[problem.change]} ${problem.change}`];
  if (problem.rate !== null) facts.push(`${Math.round(100 * problem.rate)} % passed at first (round ${problem.first})`);
  browser.place.replaceChildren(
    show(make("h3"), `Problem ${problem.id}`),
    make("p", { class: "note" }, facts.filter(Boolean).join(" \u00b7 ")),
    show(make("pre", { class: "prompt", dir: "auto", tabindex: "0" }), problem.prompt, wanted),
  );
  if (problem.answer) {
    browser.place.append(make("p", {}, "Answer: ", show(make("code", { dir: "auto" }), problem.answer), ` (by ${problem.verifier})`));
  }
  browser.place.append(rounds(problem, samples, wanted));
}

function rounds(problem, samples, wanted) {
  const groups = new Map();
  for (const sample of samples) {
    const name = `Round ${sample.round} \u00b7 ${sample.stage}`;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(sample);
  }
  const all = make("div", { class: "rounds", tabindex: "0", role: "region", "aria-label": "Samples by round" });
  for (const [name, group] of groups) {
    const passed = group.filter((sample) => sample.status === "pass").length;
    const head = make("h4", {}, show(make("span"), name), make("span", { class: "note" }, ` ${passed} of ${group.length} pass`));
    all.append(make("div", { class: "round" }, head, ...group.map((sample) => card(problem, sample, wanted))));
  }
  return all;
}

function card(problem, sample, wanted) {
  const alike = matches(problem, sample, asked()) ? "alike" : "";
  const head = make(
    "div",
    { class: "card-head" },
    make("span", { class: `status ${sample.status}` }, `${SIGNS[sample.status] ?? "\u2022"} ${sample.status}`),
    make("span", { class: "note" }, `${sample.tokens} tokens${sample.finish === "length" ? ", cut off" : ""}`),
  );
  const body = make("div", { class: `card ${alike}` }, head, show(make("pre", { dir: "auto" }), sample.text, wanted));
  const lines = make("ul", { class: "said" });
  for (const [by, status, score, why, answer, hidden] of sample.verdicts) {
    const item = make("li", {}, make("span", { class: `status ${status}` }, `${SIGNS[status] ?? "\u2022"} ${status}`), " ");
    show(item, `${by}${hidden ? " (hidden audit)" : ""}`);
    if (score !== null) item.append(` score ${Number(score.toPrecision(4))}`);
    if (answer !== null) show(item, `, read ${answer}`);
    if (why) show(item, `: ${why}`);
    lines.append(item);
  }
  for (const [round, side, rule] of sample.picks) {
    const word = side === "dropped" ? "dropped by" : `${side}: passed all, last`;
    lines.append(show(make("li", { class: `pick ${side}` }), `round ${round}: ${word} ${rule}`));
  }
  if (!sample.picks.length && problem.split !== "train") lines.append(make("li", {}, `${problem.split}: measured, never trained on`));
  body.append(lines, make("p", { class: "note" }, `sample ${sample.id}, weights ${sample.model}`));
  return body;
}

function moved(event) {
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e6, End: 1e6 }[event.key];
  if (step) {
    event.preventDefault();
    choose(browser.chosen + step);
    opened();
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    opened().then(() => browser.place.focus());
  }
}

function begin() {
  let later = 0;
  const form = document.getElementById("filters");
  const text = document.getElementById("filter-text");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => find());
  form.addEventListener("reset", () => setTimeout(find));
  text.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(find, 200);
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      browser.list.focus();
    }
  });
  browser.list.addEventListener("keydown", moved);
  document.getElementById("before").addEventListener("click", () => find(Math.max(0, browser.offset - PAGE_OF_PROBLEMS)));
  document.getElementById("after").addEventListener("click", () => find(browser.offset + PAGE_OF_PROBLEMS));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      text.focus();
      text.select();
    } else if (event.key === "Escape" && browser.place.contains(event.target)) {
      browser.list.focus();
    }
  });
  document.addEventListener("fresh", (event) => {
    Object.assign(browser.source, event.detail);
    fillChoices();
    find(browser.offset, true);
  });
  const data = stored("data");
  browser.source = data.served ? new Served(data) : new Held(data);
  fillChoices();
  find();
}

if (browser) begin();
