"use strict";
/* Shared by all charts: the page's colours, redrawing when these change, and the JSON data of the page.
   charts.add(div, build) draws build(theme) = {traces, layout}, and draws it again when the colour scheme changes. */
const charts = (() => {
  const drawn = [];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const theme = () => ({
    ink: css("--ink"), soft: css("--soft"), grid: css("--grid"), line: css("--line"), ground: css("--ground"),
    series: [1, 2, 3, 4, 5, 6, 7, 8].map((i) => css(`--series-${i}`)),
    dashes: ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"],
  });
  const faded = (colour, alpha) => {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };
  const axis = (colours, title, more) => ({
    title: { text: title }, gridcolor: colours.grid, linecolor: colours.line, zerolinecolor: colours.line,
    automargin: true, ...more,
  });
  /* Plotly reads markup, links and placeholders in its strings; names from runs must pass through here. */
  const plain = (text) => String(text).replace(/[&<>%]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  /* Means over a centred window of `size` points; points without a number stay empty and are left out. */
  const smoothed = (values, size) => values.map((value, i) => {
    if (value === null) return null;
    const near = values.slice(Math.max(0, i - (size >> 1)), i + (size >> 1) + 1).filter((other) => other !== null);
    return near.reduce((sum, other) => sum + other, 0) / near.length;
  });
  /* The least of 1, 2, 5, 10, 20, … times a power of ten that is not less, so that a range changes seldom. */
  const roundUp = (value) => {
    if (!(value > 0)) return 0;
    const power = 10 ** Math.floor(Math.log10(value));
    return power * [1, 2, 5, 10].find((digit) => digit * power >= value * (1 - 1e-9));
  };
  /* Top of an axis that a few outliers, such as the first speed, do not squash. */
  const topOf = (values) => {
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
    const middle = sorted[Math.floor(sorted.length / 2)] ?? 0;
    return 1.1 * (sorted.findLast((value) => value <= 3 * middle) ?? 1) || 1;
  };
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const draw = (chart) => {
    const { traces, layout } = chart.build(theme());
    const colours = theme();
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colours.ink, size: 13 },
      margin: { l: 55, r: 15, t: 20, b: 45 }, hovermode: "closest",
      legend: { orientation: "h", y: -0.2, x: 0, itemsizing: "constant" }, uirevision: "kept",
    };
    return Plotly.react(chart.div, traces, { ...base, ...layout }, config);
  };
  const add = (div, build) => {
    const chart = { div, build };
    drawn.push(chart);
    draw(chart);
    return { redraw: () => draw(chart) };
  };
  /* The series of a chart as buttons, as Plotly's own legend cannot be reached by keyboard. */
  const legend = (list, entries, changed) => {
    for (const entry of entries) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "series";
      button.setAttribute("aria-pressed", String(!entry.hidden));
      button.append(Object.assign(document.createElement("span"), { className: "swatch" }), entry.name);
      button.firstChild.style.setProperty("--swatch", `var(--series-${(entry.colour % 8) + 1})`);
      button.addEventListener("click", () => {
        entry.hidden = !entry.hidden;
        button.setAttribute("aria-pressed", String(!entry.hidden));
        changed();
      });
      list.append(button);
    }
  };
  /* Position of a point of a chart's first axes in its div, and the top and height of the plot, in pixels.
     Plotly has an axis only if a series is drawn on it. */
  const place = (div, x, y) => {
    const { xaxis, yaxis, _size: size } = div._fullLayout;
    const along = (axis, value) => (axis ? axis._offset + axis.l2p(value) : 0);
    return { left: along(xaxis, x), y: along(yaxis, y), top: size.t, height: size.h };
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
  const data = (name) => JSON.parse(document.getElementById(`${name}-data`).textContent);
  return { add, axis, data, faded, legend, place, plain, roundUp, smoothed, theme, topOf };
})();
