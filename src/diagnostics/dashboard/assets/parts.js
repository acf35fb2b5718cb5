// Parts of all pages: elements, numbers for people, and requests. Texts of the program are inserted as text, never as markup.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null).map((child) => (child instanceof Node ? child : String(child ?? ""))));
  return node;
}

export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Sets the children of a node. Nodes of the same kind are updated and not replaced, so that they keep focus, selection and scrolling. */
export function put(parent, ...children) {
  const before = [...parent.childNodes];
  children.forEach((child, index) => {
    const node = child instanceof Node ? child : document.createTextNode(String(child));
    if (index >= before.length) parent.append(node);
    else morph(before[index], node);
  });
  before.slice(children.length).forEach((node) => node.remove());
}

function morph(node, other) {
  if (node.nodeName !== other.nodeName) return node.replaceWith(other);
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.nodeValue !== other.nodeValue) node.nodeValue = other.nodeValue;
    return undefined;
  }
  // The reader opens and closes details. The content policy forbids style attributes, but not single styles.
  for (const { name } of [...node.attributes]) if (!other.hasAttribute(name) && name !== "open" && name !== "style") node.removeAttribute(name);
  for (const { name, value } of other.attributes) if (name !== "style" && node.getAttribute(name) !== value) node.setAttribute(name, value);
  if (node.nodeName === "PROGRESS") node.value = other.value;
  for (const name of STYLES) {
    const value = other.style.getPropertyValue(name);
    if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
  }
  put(node, ...other.childNodes);
  return undefined;
}

const STYLES = ["--fill", "background-color"];

export function count(number) {
  return number.toLocaleString("en").replaceAll(",", "\u202f");
}

export function duration(seconds) {
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toPrecision(3)} ms`;
  if (seconds < 100) return `${seconds.toPrecision(3)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1023.5 && unit < units.length - 1) [number, unit] = [number / 1024, unit + 1];
  return `${number < 10 ? Number(number.toFixed(1)) : number.toFixed(0)} ${units[unit]}`;
}

export function state(text) {
  return element("span", { class: "state", "data-state": text }, text);
}

/** The colour of a name, the same on every page and at every time. */
export function color(name, dark) {
  let hash = 2166136261;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619) >>> 0;
  const hue = (hash * 137.508) % 360;
  const light = (dark ? 58 : 46) + (hash >>> 9) % 12;
  return `hsl(${hue.toFixed(0)} ${52 + (hash >>> 5) % 20}% ${light}%)`;
}

export function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** A bar with a text beside it. */
export function meter(value, max, words, label, fill) {
  const bar = element("progress", { max: Math.max(max, 1e-9), value: Math.min(value, max), "aria-label": `${label}: ${words}` });
  if (fill) bar.style.setProperty("--fill", fill);
  return element("span", { class: "meter" }, bar, element("span", {}, words));
}

/** A table of rows of cells; the columns are `[title, class]`. */
export function table(columns, rows, empty) {
  if (rows.length === 0) return element("p", { class: "empty" }, empty);
  // With the roles it stays a table for screen readers, also where a narrow page shows cards.
  const head = element("tr", { role: "row" }, ...columns.map(([title, kind]) => element("th", { scope: "col", role: "columnheader", class: kind }, title)));
  const body = element("tbody", { role: "rowgroup" });
  for (const row of rows) {
    const cells = row.map((cell, index) => element("td", { role: "cell", class: columns[index][1], "data-title": columns[index][0] }, ...(cell === "" ? [] : [cell])));
    body.append(element("tr", { role: "row" }, ...cells));
  }
  return element("table", { role: "table" }, element("thead", { role: "rowgroup" }, head), body);
}

export async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
  return answer.json();
}
