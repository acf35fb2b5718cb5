// The graph of one run: its layout is fetched once, the stages of its tasks again and again.

import { $, count, drawn, element, get, put, state, table } from "/parts.js";

const MARKS = { waiting: "", running: "▸", finished: "✓", failed: "✗", skipped: "–", cancelled: "■" };
/** The stage of a box with several tasks: the first of these that one of its tasks has. */
const DOMINANT = ["failed", "running", "waiting", "cancelled", "skipped", "finished"];

export class Graph {
  constructor() {
    this.run = null; // the drawn one
    this.wanted = null; // the selected one; null for the newest
    this.boxes = [];
    this.chosen = null;
    this.isFetching = false;
    this.listed = "";
    $("graph-run").addEventListener("change", () => {
      this.wanted = $("graph-run").value === "" ? null : Number($("graph-run").value);
      this.show();
    });
    $("graph-size").addEventListener("click", () => {
      const isWhole = $("graph-drawing").classList.toggle("whole");
      $("graph-size").setAttribute("aria-pressed", isWhole);
    });
    $("graph-drawing").addEventListener("click", (event) => {
      const box = event.target.closest("[data-box]");
      if (box) this.choose(Number(box.dataset.box));
    });
    $("graph-drawing").addEventListener("keydown", (event) => this.key(event));
  }

  /** Draws the wanted run, or updates its stages. `runs` are those of /api/runs, the newest first. */
  async show(runs = null) {
    if (this.isFetching) return;
    this.isFetching = true;
    try {
      runs ??= (await get("/api/runs")).runs;
      const shown = runs.filter((run) => run.has_graph);
      this.listRuns(shown);
      const run = shown.find((run) => run.id === this.wanted) ?? shown[0];
      if (!run) {
        this.run = null;
        put($("graph-drawing"), element("p", { class: "empty" }, "No run has been seen yet."));
        put($("graph-note"), "");
        return;
      }
      if (this.run !== run.id) await this.draw(run.id);
      const stages = await get(`/api/runs/${run.id}/stages`);
      this.paint(stages);
      if (this.chosen !== null) await this.describe();
    } catch (error) {
      // The run was forgotten between two requests.
      if (error.status !== 404) throw error;
      this.run = null;
    } finally {
      this.isFetching = false;
    }
  }

  listRuns(runs) {
    const options = [["", "the newest run"], ...runs.slice(0, 60).map((run) => [run.id, `run ${run.id}: ${run.title} (${run.state})`])];
    const listed = JSON.stringify(options);
    if (listed === this.listed) return;
    this.listed = listed;
    put($("graph-run"), ...options.map(([value, text]) => element("option", { value }, text.slice(0, 90))));
    $("graph-run").value = this.wanted ?? "";
    if ($("graph-run").selectedIndex < 0) $("graph-run").selectedIndex = 0;
  }

  async draw(id) {
    const graph = await get(`/api/runs/${id}/graph`);
    this.run = id;
    this.boxes = graph.boxes;
    this.isCollapsed = graph.is_collapsed;
    this.choose(null);
    const [width, height, edge] = [graph.width, graph.height, 6];
    const edges = graph.edges.map((edge) => drawn("path", { class: edge.has_values ? "arrow" : "arrow order", d: edge.path, "marker-end": "url(#head)" }));
    const counts = graph.edges.filter((edge) => edge.count !== undefined)
      .map((edge) => drawn("text", { class: "count", x: edge.x, y: edge.y + 3.5 }, count(edge.count)));
    const boxes = graph.boxes.map((box, index) => {
      const radius = box.is_value ? box.height / 2 : 6;
      const middle = box.x + box.width / 2;
      const node = drawn("g", { "data-box": index, role: "button", tabindex: index === 0 ? 0 : -1 },
        drawn("title", {}, box.name),
        drawn("rect", { class: box.is_local ? "box local" : "box", x: box.x, y: box.y, width: box.width, height: box.height, rx: radius }),
        ...(box.is_output ? [drawn("rect", { class: "inner", x: box.x + 3, y: box.y + 3, width: box.width - 6, height: box.height - 6, rx: Math.max(radius - 2, 1) })] : []),
        drawn("text", { x: middle, y: box.y + (graph.is_collapsed ? 18 : box.height / 2 + 4.5) }, box.label));
      if (graph.is_collapsed) {
        node.append(drawn("rect", { class: "rail", x: box.x + 8, y: box.y + box.height - 7, width: box.width - 16, height: 3 }),
          drawn("rect", { class: "done", x: box.x + 8, y: box.y + box.height - 7, width: 0, height: 3 }),
          drawn("text", { class: "note", x: middle, y: box.y + box.height - 11 }, ""));
      } else {
        node.append(drawn("text", { class: "mark", x: box.x + 4, y: box.y + 10 }, ""));
      }
      return node;
    });
    const head = drawn("marker", { id: "head", viewBox: "0 0 8 8", refX: 7.5, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, drawn("path", { d: "M0 0.6L8 4L0 7.4Z" }));
    const size = { viewBox: `${-edge} ${-edge} ${width + 2 * edge} ${height + 2 * edge}`, width: width + 2 * edge, height: height + 2 * edge };
    const svg = drawn("svg", { ...size, role: "group", "aria-label": `Graph of ${graph.title}` }, drawn("defs", {}, head), ...edges, ...boxes, ...counts);
    $("graph-drawing").replaceChildren(svg);
    this.nodes = boxes;
    this.title = graph.title;
    this.num_tasks = graph.num_tasks;
  }

  paint({ stages, boxes, is_live: isLive }) {
    const sums = Object.fromEntries(stages.map((stage) => [stage, 0]));
    boxes.forEach((numbers, index) => {
      const box = this.boxes[index];
      const by = Object.fromEntries(stages.map((stage, place) => [stage, numbers[place]]));
      for (const stage of stages) sums[stage] += by[stage];
      const dominant = DOMINANT.find((stage) => by[stage] > 0) ?? "waiting";
      // Some of many tasks wait until the end: the box counts as running once one of them has finished.
      const stage = dominant === "waiting" && by.finished > 0 ? "running" : dominant;
      const node = this.nodes[index];
      const words = box.num_tasks === 1 ? stage : stages.filter((it) => by[it] > 0).map((it) => `${count(by[it])} ${it}`).join(", ");
      if (node.dataset.words === words) return;
      node.dataset.words = words;
      node.dataset.stage = stage;
      node.setAttribute("aria-label", `${box.name}: ${words}`);
      node.querySelector("title").textContent = `${box.name}\n${words}`;
      if (this.isCollapsed) {
        const over = by.finished + by.failed + by.skipped + by.cancelled;
        node.querySelector(".done").setAttribute("width", (box.width - 16) * over / Math.max(box.num_tasks, 1));
        node.querySelector(".note").textContent = `${count(over)} / ${count(box.num_tasks)}`;
      } else {
        node.querySelector(".mark").textContent = MARKS[stage];
      }
    });
    const counts = stages.filter((stage) => sums[stage] > 0).map((stage) => `${count(sums[stage])} ${stage}`).join(", ");
    const collapsed = this.isCollapsed ? `The ${count(this.num_tasks)} tasks are drawn as one box for each name. ` : "";
    put($("graph-note"), `${collapsed}${isLive ? "" : "The run has ended. "}${counts}.`);
    const rows = boxes.map((numbers, index) => [this.boxes[index].name, ...numbers.map((number) => (number > 0 ? count(number) : ""))]);
    if ($("graph-words").open) put($("graph-table"), table([["Tasks", "long"], ...stages.map((stage) => [stage, "number"])], rows, ""));
  }

  choose(index) {
    this.nodes?.[this.chosen]?.removeAttribute("aria-pressed");
    this.chosen = index;
    $("graph-task").hidden = index === null;
    if (index === null) return;
    for (const node of this.nodes) node.setAttribute("tabindex", -1);
    this.nodes[index].setAttribute("tabindex", 0);
    this.nodes[index].setAttribute("aria-pressed", "true");
    this.describe();
  }

  async describe() {
    const [run, box] = [this.run, this.boxes[this.chosen]];
    if (box.task === null) {
      return put($("graph-task"), element("h2", {}, box.name), element("p", {}, this.nodes[this.chosen].dataset.words ?? ""));
    }
    const task = await get(`/api/runs/${run}/tasks/${box.task}`);
    if (run === this.run) put($("graph-task"), ...details(task));
    return undefined;
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const at = Number(event.target.closest("[data-box]")?.dataset.box ?? NaN);
    if (Number.isNaN(at)) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.choose(at);
    } else if (event.key === "Escape") {
      this.choose(null);
    } else if (step) {
      event.preventDefault();
      const next = this.nodes[Math.max(0, Math.min(this.nodes.length - 1, at + step))];
      for (const node of this.nodes) node.setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    }
  }
}

/** A task of /api/runs/N/tasks/T, with the inputs it waits for. */
function details(task) {
  const why = task.stage !== "waiting" ? null
    : task.is_ready ? "It waits only for a worker."
    : `It waits for ${count(task.num_unfinished)} of ${count(task.num_inputs)} ${task.num_inputs === 1 ? "input" : "inputs"}.`;
  const rows = task.inputs.map((input) => [input.name, state(input.stage), input.task]);
  const more = task.num_inputs - rows.length;
  return [
    element("h2", {}, task.name, " ", state(task.stage)),
    element("p", { class: "note" }, `Task ${task.task} of run ${task.run}${task.is_output ? ", an output" : ""}. ${why ?? ""}`),
    ...(rows.length > 0 ? [table([["Input", "long"], ["Stage"], ["Task", "number"]], rows, "")] : [element("p", {}, "It has no inputs.")]),
    ...(more > 0 ? [element("p", { class: "note" }, `and ${count(more)} more`)] : []),
  ];
}
