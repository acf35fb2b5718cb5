// The task stream: one lane for each worker, one bar for each task, time from left to right.

import { color, duration, isDark } from "/parts.js";

const MAX_BARS = 8000;
const MAX_LANES = 64;
const AXIS = 20;

export class Stream {
  constructor(canvas, tip) {
    this.canvas = canvas;
    this.tip = tip;
    this.span = 15;
    this.bars = [];
    this.running = [];
    this.lanes = [];
    this.last = 0;
    this.offset = null; // of the program's clock to the page's
    this.frozen = null;
    this.chosen = null;
    this.drawn = [];
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("blur", () => this.choose(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** Adds the tasks of an update. */
  update(update) {
    if (update.reset) {
      this.last = Math.min(this.last, update.last_task);
      const has = new Set(this.bars.map((bar) => bar.seq));
      this.bars.push(...update.ended.filter((task) => !has.has(task.seq)));
    } else {
      this.bars.push(...update.ended.filter((task) => task.seq > this.last));
    }
    this.last = update.last_task;
    if (this.bars.length > MAX_BARS) this.bars.splice(0, this.bars.length - MAX_BARS);
    this.running = update.running;
    const offset = update.now - performance.now() / 1000;
    // The update that was delayed least gives the best offset.
    this.offset = this.offset === null || update.reset ? offset : Math.max(this.offset, offset);
    const latest = this.bars.reduce((latest, bar) => Math.max(latest, bar.ended), 0);
    this.end = this.running.length > 0 || update.tasks.running > 0 ? null : Math.min(update.now, latest + this.span / 40);
    const seen = new Map();
    for (const worker of update.workers) seen.set(worker.name, worker.last_seen);
    const names = update.workers.filter((w) => w.running > 0 || w.last_seen > update.now - 300).map((w) => w.name);
    for (const bar of this.bars) if (!seen.has(bar.worker)) seen.set(bar.worker, bar.ended);
    this.lanes = (names.length > 0 ? names : [...seen.keys()]).slice(0, MAX_LANES);
    const at = update.tasks;
    this.canvas.setAttribute("aria-label", `Task stream: ${this.lanes.length} workers, ${at.running} tasks running, ${at.finished} finished, ${at.failed} failed`);
  }

  freeze(on) {
    this.frozen = on ? this.now() : null;
  }

  now() {
    if (this.frozen !== null) return this.frozen;
    if (this.end !== null && this.end !== undefined) return this.end;
    return this.offset === null ? 0 : performance.now() / 1000 + this.offset;
  }

  draw() {
    const canvas = this.canvas;
    const style = getComputedStyle(document.documentElement);
    const dark = isDark();
    const width = canvas.clientWidth;
    if (width === 0) return;
    const num = Math.max(this.lanes.length, 1);
    const lane = Math.max(9, Math.min(34, 420 / num));
    const height = Math.round(num * lane + AXIS);
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    const c = canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = "11px system-ui, sans-serif";
    c.textBaseline = "middle";
    const names = this.lanes.map((name) => name.replace("thread ", "t").replace("process ", "p").replace(", ", " "));
    const left = Math.ceil(Math.max(20, ...names.map((name) => c.measureText(name).width))) + 10;
    const now = this.now();
    const start = now - this.span;
    const x = (time) => left + (time - start) / this.span * (width - left);
    // Lanes and the axis.
    names.forEach((name, index) => {
      c.fillStyle = style.getPropertyValue("--lane");
      c.fillRect(left, index * lane + 1, width - left, lane - 2);
      c.fillStyle = style.getPropertyValue("--soft");
      if (lane >= 11 || index % 2 === 0) c.fillText(name, 2, index * lane + lane / 2);
    });
    c.fillStyle = style.getPropertyValue("--soft");
    const step = [1, 2, 5, 10, 15, 30, 60, 120].find((step) => this.span / step <= Math.max(2, (width - left) / 90)) || 120;
    for (let time = Math.ceil(start / step) * step; time <= now; time += step) {
      if (time < 0) continue;
      c.fillRect(x(time), height - AXIS, 1, 4);
      const text = `${time} s`;
      const at = x(time) - c.measureText(text).width / 2;
      if (at > left && x(time) + 20 < width) c.fillText(text, at, height - 8);
    }
    // Bars, by lane, the outer ones first.
    const row = new Map(this.lanes.map((name, index) => [name, index]));
    const visible = this.bars.filter((bar) => bar.ended >= start && bar.started <= now);
    for (const task of this.running) visible.push({ ...task, ended: now, state: "running" });
    visible.sort((a, b) => a.started - b.started || b.ended - a.ended);
    this.drawn = [];
    const around = new Map();
    for (const bar of visible) {
      const index = row.get(bar.worker);
      if (index === undefined || bar.ended < bar.started) continue;
      const open = (around.get(index) || []).filter((end) => end > bar.started + 1e-6);
      const depth = Math.min(open.length, 3);
      open.push(bar.ended);
      around.set(index, open);
      const inset = 2 + depth * lane * 0.16;
      const from = Math.max(left, x(bar.started));
      const box = { bar, x: from, y: index * lane + inset, w: Math.max(1, x(bar.ended) - from - 0.4), h: Math.max(2, lane - 2 * inset) };
      this.drawn.push(box);
      c.fillStyle = color(bar.group, dark);
      c.globalAlpha = bar.state === "running" ? 0.55 : 1;
      c.fillRect(box.x, box.y, box.w, box.h);
      c.globalAlpha = 1;
      if (bar.state === "failed" || bar.state === "cancelled" || bar.state === "retried") {
        c.fillStyle = style.getPropertyValue(bar.state === "failed" ? "--bad" : "--warn");
        c.fillRect(box.x, box.y + box.h * 0.72, Math.max(box.w, 3), box.h * 0.28);
      }
      if (depth > 0 && box.w > 6) {
        c.strokeStyle = style.getPropertyValue("--card");
        c.lineWidth = 1;
        c.strokeRect(box.x, box.y, box.w, box.h);
      }
    }
    if (this.lanes.length === 0) {
      c.fillStyle = style.getPropertyValue("--soft");
      c.fillText("No task has run yet.", left, lane / 2);
    }
    const key = this.chosen && keyOf(this.chosen);
    const box = key && this.drawn.find((box) => keyOf(box.bar) === key);
    if (box) {
      c.strokeStyle = style.getPropertyValue("--text");
      c.lineWidth = 2;
      c.strokeRect(box.x, box.y, box.w, box.h);
      this.showTip(box);
    } else {
      this.tip.hidden = true;
    }
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    // The last drawn bar is on top. A pixel beside a bar counts too, because thin bars are hard to hit.
    let hit = null;
    for (const it of this.drawn) if (x >= it.x - 1 && x <= it.x + it.w + 1 && y >= it.y && y <= it.y + it.h) hit = it.bar;
    this.choose(hit);
  }

  choose(bar) {
    this.chosen = bar;
    this.draw();
  }

  key(event) {
    if (event.key === "Escape") this.choose(null);
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const lane = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if ((!by && !lane) || this.drawn.length === 0) return;
    event.preventDefault();
    const key = this.chosen && keyOf(this.chosen);
    const at = this.drawn.findIndex((box) => keyOf(box.bar) === key);
    if (at < 0) return this.choose(this.drawn[this.drawn.length - 1].bar);
    const chosen = this.drawn[at].bar;
    if (by) {
      const same = this.drawn.filter((box) => box.bar.worker === chosen.worker);
      const next = same[same.findIndex((box) => keyOf(box.bar) === key) + by];
      if (next) this.choose(next.bar);
      return;
    }
    const other = this.lanes[this.lanes.indexOf(chosen.worker) + lane];
    const there = this.drawn.filter((box) => box.bar.worker === other);
    there.sort((a, b) => Math.abs(a.bar.started - chosen.started) - Math.abs(b.bar.started - chosen.started));
    if (there.length > 0) this.choose(there[0].bar);
  }

  showTip(box) {
    const { bar } = box;
    const took = bar.state === "running" ? `running for ${duration(bar.ended - bar.started)}` : `${bar.state} in ${duration(bar.ended - bar.started)}`;
    const text = `${bar.name}\n${took}\n${bar.worker}, run ${bar.run}, task ${bar.task}${bar.attempt > 1 ? `, attempt ${bar.attempt}` : ""}`;
    if (this.tip.textContent !== text) this.tip.textContent = text;
    this.tip.hidden = false;
    const width = this.canvas.clientWidth;
    this.tip.style.left = `${Math.max(0, Math.min(box.x + 6, width - this.tip.offsetWidth))}px`;
    this.tip.style.top = `${box.y + box.h + 6}px`;
  }
}

function keyOf(bar) {
  return `${bar.run}/${bar.task}/${bar.attempt}`;
}
