// The pages. The page Status shows the updates of /api/events; the others fetch their endpoint while they are open.

import { Graph } from "/graph.js";
import { $, bytes, color, count, duration, element, get, isDark, meter, put, state, table } from "/parts.js";
import { Stream } from "/stream.js";

const query = new URLSearchParams(location.search);
const PAGES = ["status", "graph", "tasks", "runs", "workers", "log"];
/** Samples of processors and memory that the chart shows. */
const MAX_SAMPLES = 600;

let latest = null;
let paused = false;
let omitted = 0;
const samples = [];
const stream = new Stream($("stream"), $("tip"));
const graph = new Graph();

/** The time of day at which something happened. */
function clock(seconds) {
  if (!latest) return `${seconds.toFixed(1)} s`;
  return new Date((latest.started + seconds) * 1000).toLocaleTimeString("en-GB");
}

const percent = (part) => `${(part * 100).toFixed(0)} %`;

// ---- status ----

function showStatus(update) {
  document.title = `${update.tasks.running > 0 ? `${update.tasks.running} running · ` : ""}${update.program || "sprang"}`;
  const { tasks, runs, machine, values } = update;
  const tiles = [
    ["Live runs", count(runs.running)], ["Running", count(tasks.running)],
    ...(tasks.ready === null ? [] : [["Ready", count(tasks.ready)]]), ["Waiting", count(tasks.waiting)], ["Finished", count(tasks.finished)],
    ["Failed", count(tasks.failed), tasks.failed > 0 ? "bad" : null], ["Retried", count(tasks.retried), tasks.retried > 0 ? "warn" : null],
    ["Skipped", count(tasks.skipped), tasks.skipped > 0 ? "warn" : null], ["Workers", count(present(update).length)],
    ["Values", bytes(values.bytes + values.bytes_of_futures)],
    ...(machine.memory > 0 ? [["Memory", bytes(machine.memory)]] : []),
    ["Runs done", count(runs.finished + runs.failed + runs.cancelled)],
  ];
  put($("tiles"), ...tiles.map(([title, value, kind]) => element("div", {}, element("dt", {}, title), element("dd", { class: kind }, value))));
  const dark = isDark();
  put($("legend"), ...tasks.names.slice(0, 16).map((name) => {
    const mark = element("i", { "aria-hidden": "true" });
    mark.style.setProperty("background-color", color(name.name, dark));
    return element("li", {}, mark, element("span", {}, name.name));
  }));
  $("omitted").textContent = omitted > 0 ? `${count(omitted)} short tasks are only counted.` : "";
  showProgress(update);
  showMachine(update);
  const rows = update.running.slice(0, 30).map((task) => [task.name, task.worker, duration(Math.max(0, update.now - task.started)), task.attempt]);
  const more = tasks.running - rows.length;
  put($("running"), table([["Task", "long"], ["Worker"], ["For", "number"], ["Attempt", "number wide"]], rows, "Nothing is running."),
    ...(more > 0 && rows.length > 0 ? [element("p", { class: "note" }, `and ${count(more)} more`)] : []));
}

/** Workers that have not been lost and have not ended because they were idle. */
function present(update) {
  return update.workers.filter((worker) => !worker.lost && !worker.is_gone);
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
    const isOfFutures = run.kind === "futures";
    const what = isOfFutures ? "futures" : `run ${run.id}`;
    const numWaiting = run.num_tasks - ended(run) - Math.max(0, run.running);
    const wait = isOfFutures && numWaiting > 0 ? `, ${count(numWaiting)} waiting` : "";
    const title = element("h3", {}, element("span", {}, run.title, " ", element("small", {}, `${what}, ${run.scheduler}, ${count(ended(run))} of ${count(run.num_tasks)} tasks${wait}, ${duration(Math.max(0, update.now - run.started))}`)), ...cancelButton(run));
    const all = element("progress", { max: Math.max(run.num_tasks, 1), value: ended(run), "aria-label": `${what} ${run.title}: ${ended(run)} of ${run.num_tasks} tasks` });
    return element("div", { class: "run" }, title, all, ...rows.slice(0, 24));
  });
  if (runs.length > 0) {
    const more = update.runs.running - runs.length;
    return put($("progress"), ...runs, ...(more > 0 ? [element("p", { class: "note" }, `and ${count(more)} more runs`)] : []));
  }
  const rows = update.tasks.names.slice(0, 24).map((name) => [name.name, count(name.finished), count(name.failed), duration(name.busy)]);
  return put($("progress"), element("p", { class: "note" }, rows.length > 0 ? "No run is live. So far:" : "No run has been seen yet."),
    ...(rows.length > 0 ? [table([["Name", "long"], ["Finished", "number"], ["Failed", "number"], ["Time", "number"]], rows, "")] : []));
}

function showMachine({ machine, values, workers }) {
  const { cpus, num_cpus: numCpus, memory, total_memory: total, num_processes: numProcesses } = machine;
  const [now, most] = [values.bytes + values.bytes_of_futures, values.peak_bytes];
  const ofValues = element("div", { class: "row two" }, element("span", {}, "Values"), meter(now, most, `${bytes(now)} / ${bytes(most)}`, "values"));
  const ofFutures = ` Values: bytes in memory now and at the peak${values.num_of_futures > 0 ? `; ${bytes(values.bytes_of_futures)} belong to ${count(values.num_of_futures)} futures` : ""}.`;
  if (numProcesses === 0) {
    put($("machine"), ofValues, element("p", { class: "note" }, `This system does not report processors and memory.${ofFutures}`));
  } else {
    const of = numProcesses === 1 ? "this process" : `this process and ${numProcesses === 2 ? "one worker" : `${count(numProcesses - 1)} workers`}`;
    put($("machine"),
      element("div", { class: "row two" }, element("span", {}, "Processors"), meter(cpus, numCpus, `${cpus.toFixed(1)} of ${numCpus}`, "processors")),
      element("div", { class: "row two" }, element("span", {}, "Memory"), meter(memory, total ?? memory, total ? `${bytes(memory)} of ${bytes(total)}` : bytes(memory), "memory")),
      ofValues, element("p", { class: "note" }, `Used by ${of}.${ofFutures}`));
  }
  $("history").hidden = samples.length < 2 || numProcesses === 0;
  drawHistory();
  const shown = workers.filter((worker) => !worker.is_gone).sort((a, b) => (b.running > 0) - (a.running > 0) || b.last_seen - a.last_seen).slice(0, 12);
  const hasProcesses = shown.some((worker) => worker.kind === "process");
  const columns = [["Worker"], ["State"], ["Done", "number"], ...(hasProcesses ? [["Processors", "meters wide"], ["Memory", "meters"]] : [])];
  const rows = shown.map((worker) => [worker.name, state(stateOf(worker)), count(worker.finished), ...(hasProcesses ? [cpuOf(worker), memoryOf(worker)] : [])]);
  const more = workers.length - shown.length;
  put($("workers-summary"), table(columns, rows, "No worker has been seen yet."),
    ...(more > 0 && rows.length > 0 ? [element("p", { class: "note" }, `and ${count(more)} more on the page `, element("a", { href: "#workers" }, "Workers"))] : []));
}

function stateOf(worker) {
  return worker.lost ? "lost" : worker.is_gone ? "ended" : worker.running > 0 ? "running" : "idle";
}

function cpuOf(worker) {
  return worker.cpus === null ? "" : meter(worker.cpus, 1, percent(worker.cpus), "processors");
}

function memoryOf(worker) {
  if (worker.memory === null) return "";
  if (worker.memory_limit === null) return bytes(worker.memory);
  const part = worker.own_memory / worker.memory_limit;
  const fill = part > 0.9 ? "var(--bad)" : part > 0.7 ? "var(--warn)" : null;
  return meter(worker.own_memory, worker.memory_limit, `${bytes(worker.own_memory)} / ${bytes(worker.memory_limit)}`, "memory", fill);
}

/** Processors and memory, as two lines over the last minutes. */
function drawHistory() {
  const canvas = $("history");
  const width = canvas.clientWidth;
  if (canvas.hidden || width === 0) return;
  const height = 64;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const style = getComputedStyle(document.documentElement);
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  c.font = "11px system-ui, sans-serif";
  const first = samples[0].now;
  const span = Math.max(samples[samples.length - 1].now - first, 1);
  const lines = [["cpus", "--accent", Math.max(...samples.map((sample) => sample.cpus)), (most) => `${most.toFixed(1)} processors`],
    ["memory", "--warn", Math.max(...samples.map((sample) => sample.memory)), bytes]];
  lines.forEach(([key, name, most, words], index) => {
    c.strokeStyle = style.getPropertyValue(name);
    c.lineWidth = 1.6;
    c.setLineDash(index === 0 ? [] : [4, 2]);
    c.beginPath();
    samples.forEach((sample, place) => {
      const [x, y] = [(sample.now - first) / span * width, height - 2 - sample[key] / Math.max(most, 1) * (height - 20)];
      if (place === 0) c.moveTo(x, y);
      else c.lineTo(x, y);
    });
    c.stroke();
    c.fillStyle = style.getPropertyValue(name);
    const text = `${index === 0 ? "—" : "- -"} up to ${words(most)}`;
    c.fillText(text, index === 0 ? 0 : width - c.measureText(text).width, 10);
  });
  c.setLineDash([]);
  canvas.setAttribute("aria-label", `The last ${duration(span)}: ${lines.map(([, , most, words]) => `up to ${words(most)}`).join(", ")}`);
}

// ---- tables ----

const tables = {
  async graph() {
    const { runs } = await get("/api/runs");
    await graph.show(runs);
    const run = runs.find((run) => run.id === graph.run);
    put($("graph-cancel"), ...(run ? cancelButton(run) : []));
  },
  async tasks() {
    const shown = $("state").value;
    if (shown === "waiting") return showWaiting();
    if (shown === "running") return showRunning();
    const { tasks, kept, seen } = await get(`/api/tasks?${new URLSearchParams({ limit: "300", search: $("search").value, state: shown })}`);
    $("found").textContent = `${count(tasks.length)} shown; ${count(kept)} of ${count(seen)} are kept`;
    const rows = tasks.map((task) => [task.name, state(task.state), duration(task.ended - task.started), task.worker, task.run, task.attempt, clock(task.ended)]);
    return put($("tasks-table"), table([["Task", "long"], ["State"], ["Took", "number"], ["Worker"], ["Run", "number"], ["Attempt", "number wide"], ["Ended", "number wide"]], rows, "No task matches."));
  },
  async runs() {
    const { runs, now } = await get("/api/runs");
    const file = (run, name, text) => element("a", { href: `/api/runs/${run.id}/${name}`, download: "" }, text);
    const titled = (run) => (run.kind === "futures" ? element("span", {}, run.title, " ", element("small", {}, "futures")) : run.title);
    const rows = runs.map((run) => [run.id, titled(run), state(run.state), duration(Math.max(0, (run.ended ?? now) - run.started)),
      `${count(run.finished)} / ${count(run.num_tasks)}`, count(run.failed), count(run.skipped), run.scheduler, run.parent ?? "", clock(run.started),
      run.has_report ? element("span", { class: "files" }, file(run, "report.html", "report"), file(run, "trace.json", "trace"), ...cancelButton(run)) : cancelButton(run)[0] ?? "",
      run.error ?? ""]);
    put($("runs-table"), table([["Run", "number"], ["Output", "long"], ["State"], ["Took", "number"], ["Finished", "number"], ["Failed", "number wide"],
      ["Skipped", "number wide"], ["Scheduler", "wide"], ["Within", "number wide"], ["Started", "number wide"], ["Files"], ["Error", "long"]], rows, "No run has been seen yet."));
  },
  async workers() {
    const { workers, now } = await get("/api/workers");
    const how = (worker) => {
      const said = worker.lost ?? worker.last_error;
      if (!worker.output) return said ?? "";
      return element("span", {}, said ?? "", element("details", {}, element("summary", {}, "its last output"), element("pre", {}, worker.output)));
    };
    const hasButtons = token !== null && workers.some((worker) => worker.can_restart);
    const rows = workers.map((worker) => [worker.name, state(stateOf(worker)), count(worker.finished), count(worker.failed),
      worker.kind === "process" ? count(worker.restarts) : "", cpuOf(worker), memoryOf(worker), duration(worker.busy),
      percent(Math.min(1, worker.busy / Math.max(1e-9, worker.last_seen - worker.first_seen))), worker.running > 0 ? "now" : `${duration(Math.max(0, now - worker.last_seen))} ago`, how(worker),
      ...(hasButtons ? [restartButton(worker, workers)] : [])]);
    put($("workers-table"), table([["Worker"], ["State"], ["Done", "number"], ["Failed", "number"], ["Restarts", "number"], ["Processors", "meters"], ["Memory", "meters"],
      ["Busy", "number wide"], ["Load", "number wide"], ["Last seen", "number wide"], ["Last error", "long"], ...(hasButtons ? [["Process"]] : [])], rows, "No worker has been seen yet."));
  },
  async log() {
    const { events } = await get("/api/log");
    const kind = (text) => element("span", { class: "state", "data-state": text.includes("failed") || text.includes("lost") ? "failed" : /retried|cancel/.test(text) ? "cancelled" : "" }, text);
    const rows = events.map((event) => [clock(event.at), kind(event.kind), event.run ?? "", event.text]);
    put($("log-table"), table([["At"], ["Event"], ["Run", "number"], ["Text", "long"]], rows, "Nothing has happened yet."));
  },
};

async function showWaiting() {
  const { tasks, num_left_out: numLeftOut } = await get(`/api/waiting?${new URLSearchParams({ limit: "200", search: $("search").value })}`);
  $("found").textContent = `${count(tasks.length)} shown, the next first${numLeftOut > 0 ? `; ${count(numLeftOut)} runs are too large to search` : ""}`;
  const why = (task) => {
    if (task.is_ready) return "only a worker";
    const more = task.num_unfinished - task.unfinished.length;
    return `${task.unfinished.map((input) => `${input.name} (${input.stage})`).join(", ")}${more > 0 ? ` and ${count(more)} more` : ""}`;
  };
  const rows = tasks.map((task) => [task.name, state(task.is_ready ? "ready" : "waiting"), task.run, why(task)]);
  put($("tasks-table"), table([["Task", "long"], ["State"], ["Run", "number"], ["It waits for", "long"]], rows, "No task is waiting."));
}

async function showRunning() {
  const { running, tasks, now } = await get("/api/status");
  const search = $("search").value.toLowerCase();
  const found = running.filter((task) => task.name.toLowerCase().includes(search) || task.worker.includes(search));
  $("found").textContent = `${count(found.length)} shown; ${count(tasks.running)} are running`;
  const rows = found.map((task) => [task.name, state("running"), duration(Math.max(0, now - task.started)), task.worker, task.run, task.attempt]);
  put($("tasks-table"), table([["Task", "long"], ["State"], ["For", "number"], ["Worker"], ["Run", "number"], ["Attempt", "number wide"]], rows, "No task is running."));
}

let fetchedAt = 0;
let isFetching = false;
async function showTable(now = false) {
  const page = current();
  if (!tables[page] || isFetching || (!now && (paused || performance.now() - fetchedAt < 900))) return;
  isFetching = true;
  fetchedAt = performance.now();
  try {
    if (!latest) latest = await get("/api/status");
    await tables[page]();
  } catch (error) {
    setConnection("lost", "not reachable");
  } finally {
    isFetching = false;
  }
  // The reader has opened another page meanwhile.
  if (page !== current()) showTable(true);
}

// ---- actions that need the token ----

const KEY = "sprang-token";
let token = null;
try { token = sessionStorage.getItem(KEY); } catch { /* Then the page asks for it again. */ }

function setToken(given) {
  token = given;
  try {
    if (given === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, given);
  } catch { /* As above. */ }
  $("token").setAttribute("aria-pressed", token !== null);
  $("token").textContent = token === null ? "Token" : "Token ✓";
  if (latest) showStatus(latest);
  showTable(true);
}

function cancelButton(run) {
  if (token === null || run.state !== "running" || run.kind !== "run") return [];
  return [element("button", { type: "button", class: "danger", "data-cancel": run.id, "data-title": run.title, "aria-label": `Cancel run ${run.id}` }, "Cancel")];
}

function restartButton(worker, workers) {
  if (!worker.can_restart) return "";
  // Each thread of the process has a row, and all of them end with it.
  const running = workers.filter((other) => other.pid === worker.pid).reduce((sum, other) => sum + other.running, 0);
  return element("button", { type: "button", class: "danger", "data-restart": worker.pid, "data-running": running, "aria-label": `Restart process ${worker.pid}` }, "Restart");
}

function notify(text) {
  $("message").textContent = text;
  $("message").hidden = false;
  setTimeout(() => { if ($("message").textContent === text) $("message").hidden = true; }, 8000);
}

/** The request that an open dialog asks about. */
let wanted = null;

addEventListener("click", (event) => {
  const { cancel, title, restart, running } = event.target.closest?.("[data-cancel], [data-restart]")?.dataset ?? {};
  if (cancel) {
    wanted = { dialog: "ask-cancel", path: `/api/runs/${cancel}/cancel`, action: "cancel", name: `Run ${cancel}`, done: "is being cancelled" };
    $("cancel-what").textContent = `Run ${cancel}, “${title}”: no further task of it starts, and its compute ends with an error.`;
  }
  if (restart) {
    wanted = { dialog: "ask-restart", path: `/api/workers/${restart}/restart`, action: "restart", name: `Process ${restart}`, done: "is being restarted" };
    const what = running > 0 ? "its tasks start again on another process, and each is charged no attempt" : "it runs no task now";
    $("restart-what").textContent = `Process ${restart} is killed: ${what}. A new process takes its place as soon as there is a task for it.`;
  }
  if (cancel || restart) $(wanted.dialog).showModal();
  event.target.closest?.("[data-close]")?.closest("dialog").close();
});

async function act(event) {
  event.preventDefault();
  const { dialog, path, action, name, done } = wanted;
  $(dialog).close();
  try {
    const answer = await fetch(path, { method: "POST", headers: { Authorization: `Bearer ${token}`, "X-Sprang-Action": action } });
    if (answer.status === 401) setToken(null);
    notify(answer.ok ? `${name} ${done}.` : answer.status === 401 ? "That is not the token of this dashboard." : `${name}: ${await answer.text()}`);
  } catch {
    notify("The program cannot be reached.");
  }
  showTable(true);
}
$("cancel-form").addEventListener("submit", act);
$("restart-form").addEventListener("submit", act);
$("token").addEventListener("click", () => { $("token-text").value = ""; $("ask-token").showModal(); });
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("message").hidden = true;
  setToken($("token-text").value.trim() || null);
  $("token-text").value = "";
  $("ask-token").close();
});
$("token-forget").addEventListener("click", () => { setToken(null); $("ask-token").close(); });

// ---- navigation ----

function current() {
  const page = location.hash.slice(1);
  return PAGES.includes(page) ? page : "status";
}

function navigate(event) {
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

addEventListener("hashchange", navigate);
for (const id of ["search", "state"]) $(id).addEventListener("input", () => showTable(true));
$("filter").addEventListener("submit", (event) => { event.preventDefault(); showTable(true); });
$("graph-words").addEventListener("toggle", () => showTable(true));

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  stream.freeze(paused);
  if (!paused && latest) show(latest);
});

$("window").addEventListener("change", () => { stream.span = Number($("window").value); stream.draw(); });

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  $("theme").textContent = `Theme: ${name}`;
  try { localStorage.setItem("sprang-theme", name); } catch { /* Then the choice is not kept. */ }
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

function setConnection(kind, text) {
  if ($("connection").dataset.state === kind) return;
  $("connection").dataset.state = kind;
  $("connection").textContent = text;
}

function show(update) {
  // A new run is shown at once.
  const newest = (it) => it?.live[it.live.length - 1]?.id ?? 0;
  const isNew = newest(update) > newest(latest);
  latest = update;
  $("program").textContent = update.program || "sprang";
  $("pid").textContent = `pid ${update.pid}`;
  if (current() === "status" && !document.hidden) showStatus(update);
  showTable(isNew);
}

function receive(update) {
  // Another program, or the same one after a restart: all ids and counts begin anew.
  if (latest && (latest.pid !== update.pid || latest.started !== update.started)) {
    location.reload();
    return;
  }
  setConnection("live", "live");
  if (update.reset) omitted = 0;
  else omitted += update.omitted;
  stream.update(update);
  const { cpus, memory } = update.machine;
  const last = samples[samples.length - 1];
  if (!last || update.now - last.now > 0.9) samples.push({ now: update.now, cpus, memory });
  if (samples.length > MAX_SAMPLES) samples.shift();
  if (paused) latest = update;
  else show(update);
}

let events = null;
/** A hidden page closes its stream, because browsers allow six connections to one address for all tabs together. */
function listen() {
  if (document.hidden) {
    events?.close();
    events = null;
    return;
  }
  if (events) return;
  events = new EventSource("/api/events");
  events.addEventListener("update", (event) => receive(JSON.parse(event.data)));
  // The stream reconnects by itself, unless it was refused.
  events.addEventListener("error", () => setConnection("lost", events?.readyState === EventSource.CLOSED ? "refused" : "program ended?"));
}

/** `?live=off` fetches the state once: for pictures, and for pages that must not change. */
async function once() {
  const [status, { tasks }] = [await get("/api/status"), await get("/api/tasks?limit=2000")];
  receive({ ...status, reset: true, last_task: 0, last_event: 0, omitted: 0, ended: tasks.reverse(), log: [] });
  setConnection("once", "not live");
  stream.freeze(true);
  stream.draw();
}

let drawnAt = 0;
function animate(at) {
  if (at - drawnAt > 45 && current() === "status" && !paused) {
    drawnAt = at;
    stream.draw();
  }
  requestAnimationFrame(animate);
}

setToken(token);
navigate();
if (query.get("live") === "off") {
  once();
} else {
  listen();
  requestAnimationFrame(animate);
  document.addEventListener("visibilitychange", listen);
}
addEventListener("resize", () => { stream.draw(); drawHistory(); });
