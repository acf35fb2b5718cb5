// The pages. What is shown comes from /api/events, and for the tables from the other endpoints while their page is open.
// Texts of the program are only ever put in as text, never as markup.

import { Stream, color, duration, isDark } from "/stream.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const PAGES = ["status", "tasks", "runs", "workers", "log"];

let latest = null;
let paused = false;
let omitted = 0;
const stream = new Stream($("stream"), $("tip"));

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.map((child) => (child instanceof Node ? child : String(child ?? ""))));
  return node;
}

function count(number) {
  return number.toLocaleString("en").replaceAll(",", "\u202f");
}

function state(text) {
  return element("span", { class: "state", "data-state": text }, text);
}

/** The time of day at which something happened. */
function clock(seconds) {
  if (!latest) return `${seconds.toFixed(1)} s`;
  return new Date((latest.started + seconds) * 1000).toLocaleTimeString("en-GB");
}

function put(place, ...children) {
  place.replaceChildren(...children);
}

function table(columns, rows, empty) {
  if (rows.length === 0) return element("p", { class: "empty" }, empty);
  const head = element("thead", {}, element("tr", {}, ...columns.map(([title, kind]) => element("th", { scope: "col", class: kind }, title))));
  const body = element("tbody");
  for (const row of rows) body.append(element("tr", {}, ...row.map((cell, index) => element("td", { class: columns[index][1] }, cell))));
  return element("table", {}, head, body);
}

// ---- status ----

function showStatus(update) {
  document.title = `${update.tasks.running > 0 ? `${update.tasks.running} running · ` : ""}${update.program || "sprang"}`;
  const { tasks, runs } = update;
  const tiles = [
    ["Live runs", runs.running], ["Running", tasks.running], ["Waiting", tasks.waiting], ["Finished", tasks.finished],
    ["Failed", tasks.failed, tasks.failed > 0 ? "bad" : null], ["Retried", tasks.retried, tasks.retried > 0 ? "warn" : null],
    ["Skipped", tasks.skipped, tasks.skipped > 0 ? "warn" : null], ["Workers", update.workers.filter((worker) => !worker.lost).length],
    ["Runs done", runs.finished + runs.failed + runs.cancelled],
  ];
  put($("tiles"), ...tiles.map(([title, value, kind]) => element("div", {}, element("dt", {}, title), element("dd", { class: kind }, count(value)))));
  const dark = isDark();
  const shown = update.tasks.names.slice(0, 16);
  put($("legend"), ...shown.map((name) => {
    const mark = element("i", { "aria-hidden": "true" });
    mark.style.background = color(name.name, dark);
    return element("li", {}, mark, element("span", {}, name.name));
  }));
  $("omitted").textContent = omitted > 0 ? `Of ${count(omitted)} short tasks only the counts are shown.` : "";
  showProgress(update);
  const rows = update.running.slice(0, 30).map((task) => [task.name, task.worker, duration(Math.max(0, update.now - task.started)), task.attempt]);
  const more = tasks.running - rows.length;
  put($("running"), table([["Task", "long"], ["Worker"], ["For", "number"], ["Attempt", "number"]], rows, "Nothing is running."),
    ...(more > 0 && rows.length > 0 ? [element("p", { class: "note" }, `and ${count(more)} more`)] : []));
}

function bar(name, done, total, dark) {
  const label = element("span", { title: name }, name);
  const progress = element("progress", { max: Math.max(total, 1), value: done, "aria-label": `${name}: ${done} of ${total}` });
  progress.style.setProperty("--fill", color(name, dark));
  return element("div", { class: "row" }, label, progress, element("span", {}, `${count(done)} / ${count(total)}`));
}

function showProgress(update) {
  const dark = isDark();
  const runs = update.live.map((run) => {
    const ended = (it) => it.finished + it.failed + it.skipped;
    const rows = run.names.map((name) => bar(name.name, ended(name), name.total, dark));
    const title = element("h3", {}, run.title, " ", element("small", {}, `run ${run.id}, ${run.scheduler}, ${count(ended(run))} of ${count(run.num_tasks)} tasks, ${duration(Math.max(0, update.now - run.started))}`));
    const all = element("progress", { max: Math.max(run.num_tasks, 1), value: ended(run), "aria-label": `run ${run.id}: ${ended(run)} of ${run.num_tasks} tasks` });
    return element("div", { class: "run" }, title, all, ...rows.slice(0, 24));
  });
  if (runs.length > 0) {
    const more = update.runs.running - runs.length;
    return put($("progress"), ...runs, ...(more > 0 ? [element("p", { class: "note" }, `and ${count(more)} more runs`)] : []));
  }
  const rows = update.tasks.names.slice(0, 24).map((name) => [name.name, count(name.finished), count(name.failed), duration(name.busy)]);
  put($("progress"), element("p", { class: "note" }, rows.length > 0 ? "No run goes on. So far:" : "No run has been seen yet."),
    ...(rows.length > 0 ? [table([["Name", "long"], ["Finished", "number"], ["Failed", "number"], ["Time", "number"]], rows, "")] : []));
}

// ---- tables ----

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

const tables = {
  async tasks() {
    const wanted = new URLSearchParams({ limit: "300", search: $("search").value, state: $("state").value });
    const { tasks, kept, seen } = await get(`/api/tasks?${wanted}`);
    $("found").textContent = `${count(tasks.length)} shown; ${count(kept)} of ${count(seen)} are kept`;
    const rows = tasks.map((task) => [task.name, state(task.state), duration(task.ended - task.started), task.worker, task.run, task.attempt, clock(task.ended)]);
    put($("tasks-table"), table([["Task", "long"], ["State"], ["Took", "number"], ["Worker"], ["Run", "number"], ["Attempt", "number"], ["Ended", "number"]], rows, "No task fits."));
  },
  async runs() {
    const { runs, now } = await get("/api/runs");
    const rows = runs.map((run) => [run.id, run.title, state(run.state), duration(Math.max(0, (run.ended ?? now) - run.started)), run.scheduler,
      `${count(run.finished)} / ${count(run.num_tasks)}`, count(run.failed), count(run.skipped), run.parent ?? "", clock(run.started), run.error ?? ""]);
    put($("runs-table"), table([["Run", "number"], ["Output", "long"], ["State"], ["Took", "number"], ["Scheduler"], ["Finished", "number"], ["Failed", "number"],
      ["Skipped", "number"], ["Within", "number"], ["Started", "number"], ["Error", "long"]], rows, "No run has been seen yet."));
  },
  async workers() {
    const { workers, now } = await get("/api/workers");
    const rows = workers.map((worker) => [worker.name, state(worker.lost ? "lost" : worker.running > 0 ? "running" : "idle"), worker.running, count(worker.finished),
      count(worker.failed), duration(worker.busy), `${Math.min(100, worker.busy / Math.max(1e-9, worker.last_seen - worker.first_seen) * 100).toFixed(0)} %`,
      `${duration(Math.max(0, now - worker.last_seen))} ago`, worker.lost ?? ""]);
    put($("workers-table"), table([["Worker"], ["State"], ["Running", "number"], ["Finished", "number"], ["Failed", "number"], ["Busy", "number"], ["Load", "number"],
      ["Last seen", "number"], ["How it was lost", "long"]], rows, "No worker has been seen yet."));
  },
  async log() {
    const { events } = await get("/api/log");
    const kind = (text) => element("span", { class: "state", "data-state": text.includes("failed") || text.includes("lost") ? "failed" : text.includes("retried") || text.includes("cancelled") ? "cancelled" : "" }, text);
    const rows = events.map((event) => [clock(event.at), kind(event.kind), event.run ?? "", event.text]);
    put($("log-table"), table([["At"], ["What"], ["Run", "number"], ["", "long"]], rows, "Nothing has happened yet."));
  },
};

let asked = 0;
let isAsking = false;
async function showTable(now = false) {
  const page = current();
  if (!tables[page] || isAsking || (!now && (paused || performance.now() - asked < 900))) return;
  isAsking = true;
  asked = performance.now();
  try {
    if (!latest) latest = await get("/api/status");
    await tables[page]();
  } catch (error) {
    link("lost", "not reachable");
  } finally {
    isAsking = false;
  }
}

// ---- which page ----

function current() {
  const page = location.hash.slice(1);
  return PAGES.includes(page) ? page : "status";
}

function turn(event) {
  if (location.hash === "#main") return;
  const page = current();
  for (const it of PAGES) $(`page-${it}`).hidden = it !== page;
  for (const anchor of document.querySelectorAll("nav a")) {
    if (anchor.hash === `#${page}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  if (event) $("main").focus({ preventScroll: true });
  if (latest && page === "status") { showStatus(latest); stream.draw(); }
  showTable(true);
}

addEventListener("hashchange", turn);
for (const id of ["search", "state"]) $(id).addEventListener("input", () => showTable(true));
$("filter").addEventListener("submit", (event) => { event.preventDefault(); showTable(true); });

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  stream.freeze(paused);
  if (!paused && latest) take(latest);
});

$("window").addEventListener("change", () => { stream.span = Number($("window").value); stream.draw(); });

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  $("theme").textContent = `Theme: ${name}`;
  try { localStorage.setItem("sprang-theme", name); } catch { /* The choice is not kept then. */ }
  stream.draw();
}
let chosen = query.get("theme");
try { chosen ??= localStorage.getItem("sprang-theme"); } catch { /* As above. */ }
theme(THEMES.includes(chosen) ? chosen : "auto");
$("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "auto";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
  if (latest) showStatus(latest);
});

// ---- updates ----

function link(kind, text) {
  if ($("link").dataset.state === kind) return;
  $("link").dataset.state = kind;
  $("link").textContent = text;
}

function take(update) {
  latest = update;
  $("program").textContent = update.program || "sprang";
  $("pid").textContent = `pid ${update.pid}`;
  if (current() === "status" && !document.hidden) showStatus(update);
  showTable();
}

function told(update) {
  link("live", "live");
  if (update.reset) omitted = 0;
  else omitted += update.omitted;
  stream.update(update);
  if (paused) latest = update;
  else take(update);
}

function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("update", (event) => told(JSON.parse(event.data)));
  // It tries again by itself, unless it was refused.
  events.addEventListener("error", () => link("lost", events.readyState === EventSource.CLOSED ? "refused" : "program ended?"));
}

/** `?live=off` looks once: for pictures, and for pages that shall stay as they are. */
async function once() {
  const [status, { tasks }] = [await get("/api/status"), await get("/api/tasks?limit=3000")];
  told({ ...status, reset: true, last_task: 0, last_event: 0, omitted: 0, ended: tasks.reverse(), log: [] });
  link("once", "not live");
  stream.freeze(true);
  stream.draw();
}

let drawn = 0;
function animate(at) {
  if (at - drawn > 45 && current() === "status" && !paused) {
    drawn = at;
    stream.draw();
  }
  requestAnimationFrame(animate);
}

turn();
if (query.get("live") === "off") {
  once();
} else {
  listen();
  requestAnimationFrame(animate);
}
addEventListener("resize", () => stream.draw());
document.addEventListener("visibilitychange", () => { if (!document.hidden && latest && current() === "status") showStatus(latest); });
