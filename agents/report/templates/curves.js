"use strict";
/* Learning curves of each environment, with a choice of axis and measure and series that can be hidden. */
(() => {
  const AXES = { frames: "frames of the emulator", step: "agent steps", hours: "hours of wall-clock time" };
  const CHOICES = { frames: "frames", step: "steps", hours: "wall-clock" };
  const present = (value) => value !== null;

  const band = (curve, colour, group) => {
    const at = curve.low.map(present);
    const pick = (list) => list.filter((_, i) => at[i]);
    const x = pick(curve.x);
    return {
      x: [...x, ...x.slice().reverse()], y: [...pick(curve.high), ...pick(curve.low).reverse()], fill: "toself",
      fillcolor: charts.faded(colour, 0.18), line: { width: 0 }, mode: "lines", hoverinfo: "skip", showlegend: false,
      name: `${group}, spread`, meta: "band",
    };
  };
  const line = (curve, name, colour, dash, more) => ({
    x: curve.x, y: curve.mean, mode: "lines", name, line: { color: colour, width: 2, dash }, customdata: curve.seeds,
    hovertemplate: "%{y:.4g} at %{x:.4s}, seeds: %{customdata}<extra>" + name + "</extra>", ...more,
  });
  const points = (curve, name, colour) => ({
    x: curve.x, y: curve.mean, mode: "markers", name, marker: { color: colour, size: 8, symbol: "diamond" },
    error_y: {
      type: "data", symmetric: false, color: colour, thickness: 1.2, width: 3,
      array: curve.mean.map((mean, i) => (present(curve.high[i]) ? curve.high[i] - mean : 0)),
      arrayminus: curve.mean.map((mean, i) => (present(curve.low[i]) ? mean - curve.low[i] : 0)),
    },
    hovertemplate: `evaluation %{y:.4g} at %{x:.4s} (${curve.interval})<extra>${name}</extra>`,
  });
  const level = (y, name, colours, dash) => ({
    type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: colours.soft, width: 1, dash },
    label: { text: `${name} ${y}`, textposition: "end", font: { color: colours.soft, size: 11 } },
  });

  charts.data("curves").forEach((chart, index) => {
    const root = document.querySelector(`#curves [data-chart="${index}"]`);
    const state = { axis: chart.axes[0], measure: "return_mean" };
    const entries = [
      ...chart.series.map((series) => ({ name: series.name, colour: series.colour, series, hidden: false })),
      ...chart.published.map((curve, i) => ({
        name: `${curve.name}, published`, colour: (7 - i) % 8, curve, hidden: curve.hidden, dash: "dot",
      })),
    ];
    const build = (colours) => {
      const traces = [];
      const isReturn = state.measure === "return_mean";
      entries.filter((entry) => !entry.hidden).forEach((entry, i) => {
        const colour = colours.series[entry.colour % colours.series.length];
        if (entry.curve) {
          if (!isReturn || state.axis !== "frames") return;
          traces.push(band(entry.curve, colour, entry.name), line(entry.curve, entry.name, colour, "dot"));
          return;
        }
        const curve = entry.series[state.measure][state.axis];
        const dash = colours.dashes[Math.floor(entry.colour / colours.series.length) % colours.dashes.length];
        traces.push(band(curve, colour, entry.name), line(curve, entry.name, colour, dash));
        if (isReturn) traces.push(points(entry.series.evaluation[state.axis], `${entry.name}, evaluation`, colour));
      });
      const dashes = { random: "dot", human: "dash" };
      return {
        traces,
        layout: {
          showlegend: false,
          xaxis: charts.axis(colours, AXES[state.axis], { rangemode: "tozero", exponentformat: "SI" }),
          yaxis: charts.axis(colours, root.querySelector(".measure").selectedOptions[0].text),
          shapes: isReturn ? Object.entries(chart.references).map(([name, y]) => level(y, name, colours, dashes[name])) : [],
          uirevision: state.axis + state.measure,
        },
      };
    };
    chart.axes.forEach((axis) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), {
        type: "radio", name: `curves-axis-${index}`, value: axis, checked: axis === state.axis,
      });
      input.addEventListener("change", () => { state.axis = axis; drawing.redraw(); });
      label.append(input, CHOICES[axis]);
      root.querySelector(".axes").append(label);
    });
    root.querySelector(".measure").addEventListener("change", (event) => {
      state.measure = event.target.value;
      drawing.redraw();
    });
    charts.legend(root.querySelector(".legend"), entries, () => drawing.redraw());
    const drawing = charts.add(root.querySelector(".chart"), build);
  });
})();
