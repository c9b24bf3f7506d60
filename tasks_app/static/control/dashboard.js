// The dashboard: figures, workers and pictures come anew every few seconds, and the charts move on with them.

import { fetchPage, replaceBanner } from "./live.js";

const EVERY_MS = 3000;
const GREEN = "oklch(0.68 0.17 150)";
const RED = "oklch(0.62 0.21 25)";
const GREY = "oklch(0.65 0 0)";
const BLUE = "oklch(0.6 0.19 260)";
const AMBER = "oklch(0.75 0.15 70)";

const series = () => JSON.parse(document.getElementById("series").textContent);

function line(label, color, extra) {
  return { label, borderColor: color, backgroundColor: color, borderWidth: 2, pointRadius: 1.5, spanGaps: true, ...extra };
}

const OUTCOMES = {
  succeeded: { label: "succeeded", backgroundColor: GREEN },
  failed: { label: "failed", backgroundColor: RED },
  canceled: { label: "canceled", backgroundColor: GREY },
};
const LATENCIES = {
  run_p50: line("run, median", BLUE),
  run_p95: line("run, 95 %", BLUE, { borderDash: [4, 3], borderWidth: 1 }),
  wait_p50: line("wait, median", AMBER),
  wait_p95: line("wait, 95 %", AMBER, { borderDash: [4, 3], borderWidth: 1 }),
};

function options(stacked) {
  const dark = document.documentElement.classList.contains("dark");
  const grid = { color: dark ? "rgb(255 255 255 / .07)" : "rgb(0 0 0 / .07)" };
  const ticks = { color: dark ? "#9ca3af" : "#6b7280", maxRotation: 0 };
  return {
    animation: false,
    maintainAspectRatio: false,
    interaction: { mode: "index", intersect: false },
    plugins: { legend: { align: "end", labels: { boxHeight: 7, boxWidth: 7, color: ticks.color, usePointStyle: true } } },
    scales: {
      x: { stacked, grid: { display: false }, ticks: { ...ticks, autoSkip: true, maxTicksLimit: 9 } },
      y: { stacked, beginAtZero: true, grid, ticks: { ...ticks, maxTicksLimit: 6, precision: stacked ? 0 : undefined } },
    },
  };
}

function chart(id, type, sets, stacked) {
  const datasets = Object.entries(sets).map(([name, style]) => ({ ...style, name, data: [] }));
  return new Chart(document.getElementById(id), { type, data: { labels: [], datasets }, options: options(stacked) });
}

function show(chart, values) {
  chart.data.labels = values.labels;
  for (const set of chart.data.datasets) set.data = values[set.name];
  chart.update();
}

const charts = [chart("chart-outcomes", "bar", OUTCOMES, true), chart("chart-latency", "line", LATENCIES, false)];
const showAll = () => charts.forEach((each) => show(each, series()));

async function refresh() {
  if (document.hidden) return;
  const page = await fetchPage();
  const fresh = page?.getElementById("dash-now");
  if (!fresh) return;
  replaceBanner(page);
  document.getElementById("dash-now").replaceWith(fresh);
  showAll();
}

new MutationObserver(() => {
  for (const [number, each] of charts.entries()) each.options = options(number === 0);
  showAll();
}).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
showAll();
setInterval(refresh, EVERY_MS);
