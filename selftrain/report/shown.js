"use strict";
// Text from data enters the page here alone, as text nodes: nothing in it is ever read as HTML.

// Controls, zero widths, marks of direction; lone surrogates too, since the pattern reads whole characters.
const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]/u;

const CONTROLS =
  "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");

function named(character) {
  const code = character.codePointAt(0);
  return `\u27e8${CONTROLS[code] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`}\u27e9`;
}

/** Append a text to an element: invisible characters named and marked, and what is searched for marked. */
function show(element, text, wanted = "") {
  let plain = "";
  const flush = () => {
    if (plain) marked(element, plain, wanted);
    plain = "";
  };
  for (const character of String(text)) {
    if (INVISIBLE.test(character)) {
      flush();
      element.append(make("span", { class: "unseen", title: "a character without a shape" }, named(character)));
    } else {
      plain += character;
    }
  }
  flush();
  return element;
}

function marked(element, text, wanted) {
  const low = text.toLowerCase();
  const sought = wanted.toLowerCase();
  let from = 0;
  // Lower case of some letters is longer than the letter; then places would not fit.
  for (let at; sought && low.length === text.length && (at = low.indexOf(sought, from)) >= 0; from = at + sought.length) {
    element.append(text.slice(from, at), make("mark", {}, text.slice(at, at + sought.length)));
  }
  element.append(text.slice(from));
}

/** Make an element; children are elements or texts, never HTML. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

function stored(id) {
  return JSON.parse(document.getElementById(id).textContent);
}
