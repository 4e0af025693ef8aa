"use strict";
/* Aggregates with their intervals, and performance profiles. */
(() => {
  const { metrics, agents, profiles } = charts.data("across");
  const section = document.getElementById("across");
  const entries = agents.map((agent, i) => ({ name: agent.name, colour: i, hidden: false }));
  const narrow = () => section.clientWidth < 600;

  charts.add(section.querySelector(".intervals"), (colours) => {
    const names = Object.keys(metrics);
    const columns = narrow() ? 1 : 2;
    const rows = Math.ceil(names.length / columns);
    const layout = {
      showlegend: false, height: rows * (80 + 34 * agents.length), grid: { rows, columns, pattern: "independent", ygap: 0.5 },
      margin: { l: 10, r: 15, t: 30, b: 40 },
    };
    const traces = names.flatMap((metric, i) => {
      const place = i ? String(i + 1) : "";
      layout[`xaxis${place}`] = charts.axis(colours, metrics[metric], { rangemode: "tozero" });
      layout[`yaxis${place}`] = charts.axis(colours, "", { autorange: "reversed", type: "category" });
      return agents.map((agent, j) => {
        const { value, low, high } = agent.estimates[metric];
        const colour = colours.series[j % colours.series.length];
        return {
          x: [value], y: [charts.plain(agent.name)], xaxis: `x${place}`, yaxis: `y${place}`, mode: "markers", name: charts.plain(agent.name),
          marker: { color: colour, size: 11, symbol: agent.is_published ? "circle-open" : "diamond" },
          error_x: low === null ? undefined : {
            type: "data", symmetric: false, array: [high - value], arrayminus: [value - low], color: colour, thickness: 3,
          },
          hovertemplate: low === null ? "%{x:.3f}" : `%{x:.3f} (95%: ${low.toFixed(3)} to ${high.toFixed(3)})`,
        };
      });
    });
    return { traces, layout };
  });

  const drawing = charts.add(section.querySelector(".profiles"), (colours) => ({
    traces: profiles.flatMap((profile, i) => {
      if (entries[i].hidden) return [];
      const colour = colours.series[i % colours.series.length];
      const line = {
        x: profile.x, y: profile.mean, mode: "lines", name: charts.plain(profile.name),
        line: { color: colour, width: 2, shape: "hv", dash: agents[i].is_published ? "dot" : colours.dashes[i % 6] },
        hovertemplate: "%{y:.0%} above %{x}",
      };
      if (!profile.low) return [line];
      const band = {
        x: [...profile.x, ...profile.x.slice().reverse()], y: [...profile.high, ...profile.low.slice().reverse()],
        fill: "toself", fillcolor: charts.faded(colour, 0.18), line: { width: 0 }, hoverinfo: "skip", mode: "lines",
        name: `${charts.plain(profile.name)}, 95&#37; interval`,
      };
      return [band, line];
    }),
    layout: {
      showlegend: false,
      xaxis: charts.axis(colours, "human-normalised score τ", { rangemode: "tozero" }),
      yaxis: charts.axis(colours, "fraction of runs × games above τ", { range: [0, 1.02], tickformat: ".0%" }),
    },
  }));
  charts.legend(section.querySelector(".legend"), entries, () => drawing.redraw());
})();
