"use strict";
/* Learning curves of each environment, with a choice of axis and measure and series that can be hidden. */
(() => {
  const AXES = { frames: "frames of the emulator", step: "agent steps", hours: "hours of wall-clock time" };
  const CHOICES = { frames: "frames", step: "steps", hours: "wall-clock" };
  const DASHES = { random: "dot", human: "dash" };
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
    hovertemplate: `%{y:.4g} at %{x:.4s}, seeds: %{customdata}<extra>${name}</extra>`, ...more,
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
  /* A known score as a line across the chart. Its name stands where curves seldom are: a person's at the left end, that of
     random play at the right end. */
  const levelName = (name, y) => `${name} ${String(y).replace("-", "−")}`;
  const level = (y, name, end, colours, dash) => ({
    x: [0, end], y: [y, y], mode: "lines+text", name, cliponaxis: false,
    text: name === "random" ? ["", levelName(name, y)] : [levelName(name, y), ""],
    textposition: name === "random" ? "bottom left" : "top right",
    line: { color: colours.soft, width: 1, dash }, textfont: { color: colours.soft, size: 12 },
    hovertemplate: `${name} %{y}<extra></extra>`,
  });
  const FROM_ZERO = ["return_mean", "return_mean_100", "length_mean", "loss", "steps_per_second", "q_discrepancy"];
  const SMOOTHINGS = { 1: "none", 5: "5 points", 15: "15 points" };

  charts.data("curves").forEach((chart, index) => {
    const root = document.querySelector(`#curves [data-chart="${index}"]`);
    const state = { axis: chart.axes[0], measure: "return_mean", window: 1 };
    /* A person's score far above the agents' would press their curves to the ground, so it is then shown by choice. */
    const reached = chart.series.flatMap(({ return_mean, evaluation }) =>
      [return_mean, evaluation].flatMap((curves) => curves[chart.axes[0]].mean)).filter(present);
    const far = (y) => y > 3 * Math.max(0, ...reached) || y < 3 * Math.min(0, ...reached);
    const entries = [
      ...chart.series.map((series) => ({ name: series.name, colour: series.colour, series, hidden: false })),
      ...Object.entries(chart.references).map(([name, y]) => ({
        name: levelName(name, y), level: name, y, colour: 7, hidden: far(y), dash: DASHES[name],
      })),
      ...chart.published.map((curve, i) => ({
        name: `${curve.name}, published`, colour: (6 - i) % 8, curve, hidden: curve.hidden, dash: "dot",
      })),
    ];
    const build = (colours) => {
      const traces = [];
      const isReturn = state.measure === "return_mean";
      const shown = entries.filter((entry) => !entry.hidden);
      const end = Math.max(...chart.series.flatMap((series) => [
        ...series[state.measure][state.axis].x, ...series.evaluation[state.axis].x,
      ]), 0);
      const drawn = [];
      for (const entry of shown) {
        const colour = colours.series[entry.colour % colours.series.length];
        const name = charts.plain(entry.name);
        if (entry.level) {
          if (isReturn && end) traces.push(level(entry.y, entry.level, end, colours, entry.dash));
        } else if (entry.curve) {
          if (isReturn && state.axis === "frames") traces.push(band(entry.curve, colour, name), line(entry.curve, name, colour, "dot"));
        } else {
          const curve = entry.series[state.measure][state.axis];
          const dash = colours.dashes[Math.floor(entry.colour / colours.series.length) % colours.dashes.length];
          const smooth = state.window > 1;
          drawn.push(...curve.mean);
          traces.push(band(curve, colour, name), line(curve, name, colour, dash, smooth ? { opacity: 0.3 } : {}));
          if (smooth) traces.push(line({ ...curve, mean: charts.smoothed(curve.mean, state.window) }, `${name}, smoothed`, colour, dash));
          if (isReturn) traces.push(points(entry.series.evaluation[state.axis], `${name}, evaluation`, colour));
        }
      }
      const title = root.querySelector(".measure").selectedOptions[0].text;
      return {
        traces,
        layout: {
          showlegend: false,
          xaxis: charts.axis(colours, AXES[state.axis], { rangemode: "tozero", exponentformat: "SI" }),
          yaxis: charts.axis(colours, title, {
            exponentformat: "SI", ...(FROM_ZERO.includes(state.measure) ? { rangemode: "tozero" } : {}),
            ...(state.measure === "steps_per_second" && drawn.length ? { range: [0, charts.topOf(drawn)] } : {}),
          }),
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
    const smoothing = root.querySelector(".smoothing");
    for (const [value, text] of Object.entries(SMOOTHINGS)) smoothing.append(new Option(text, value));
    smoothing.addEventListener("change", () => {
      state.window = Number(smoothing.value);
      drawing.redraw();
    });
    charts.legend(root.querySelector(".legend"), entries, () => drawing.redraw());
    const drawing = charts.add(root.querySelector(".chart"), build);
  });
})();
