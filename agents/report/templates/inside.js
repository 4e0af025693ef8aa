"use strict";
/* Chosen moments, and the map of states with a picture of the chosen state. */
(() => {
  const section = document.getElementById("inside");
  const all = (selector) => [...section.querySelectorAll(selector)];
  const seek = (step) => document.dispatchEvent(new CustomEvent("episode-seek", { detail: Number(step) }));
  const panels = all(".moment");
  for (const input of all("[name=inside-moment]"))
    input.addEventListener("change", () => panels.forEach((panel, i) => { panel.hidden = i !== Number(input.value); }));
  for (const input of all("[name=inside-saliency]"))
    input.addEventListener("change", () => all(".saliency").forEach((figure) => { figure.hidden = figure.dataset.of !== input.value; }));
  for (const link of all("[data-seek]")) link.addEventListener("click", () => seek(link.dataset.seek));

  if (!document.getElementById("inside-data")) return;
  const { x, y, values, steps, representatives, sheet, columns, width, height } = charts.data("inside");
  const [div, ring, shot, walk] = [".states", ".ring", ".shot", ".walk"].map((name) => section.querySelector(name));
  const span = values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b));
  const digits = Math.max(0, Math.min(5, 2 - Math.floor(Math.log10(span || 1))));
  const said = (i) => values[i].toFixed(digits).replace("-", "−");
  const what = (i) => `step ${steps[i]}, value ${said(i)}`;
  const rows = Math.ceil(steps.length / columns);
  /* One large picture holds those of all states; an element shows the part of state i with a width in pixels. */
  const picture = (element, i, pixels) => {
    const scale = pixels / width;
    Object.assign(element.style, {
      width: `${pixels}px`, height: `${Math.round(height * scale)}px`,
      backgroundSize: `${columns * width * scale}px ${rows * height * scale}px`,
      backgroundPosition: `${-(i % columns) * width * scale}px ${-Math.floor(i / columns) * height * scale}px`,
    });
  };
  section.style.setProperty("--sheet", `url("${sheet}")`);

  charts.add(div, (colours) => ({
    traces: [
      {
        x, y, mode: "markers", type: "scatter", hovertemplate: "%{text}<extra></extra>", text: steps.map((_, i) => what(i)),
        marker: {
          color: values, colorscale: "Viridis", size: 8, line: { color: colours.soft, width: 0.5 },
          colorbar: { title: { text: "value" }, orientation: "h", y: -0.02, yanchor: "top", thickness: 12, len: 0.9 },
        },
      },
      {
        x: representatives.map((i) => x[i]), y: representatives.map((i) => y[i]), mode: "markers+text", hoverinfo: "skip",
        text: representatives.map((_, k) => `<b>${k + 1}</b>`), textfont: { color: colours.ink, size: 12 },
        marker: { color: colours.ground, size: 21, line: { color: colours.ink, width: 1.5 } },
      },
    ],
    layout: {
      showlegend: false, margin: { l: 10, r: 10, t: 10, b: 70 }, dragmode: false,
      xaxis: { visible: false, fixedrange: true }, yaxis: { visible: false, fixedrange: true },
    },
  }));
  const placeRing = () => {
    const { left, y: top } = charts.place(div, x[walk.value], y[walk.value]);
    ring.style.transform = `translate(${left}px, ${top}px)`;
  };
  const choose = (i) => {
    walk.value = i;
    walk.setAttribute("aria-valuetext", what(i));
    section.dataset.state = i;
    section.querySelector(".which").textContent = `Step ${steps[i]}, value ${said(i)}`;
    shot.setAttribute("aria-label", `The screen at ${what(i)}`);
    picture(shot, i, Math.min(240, Math.max(2 * width, 120)));
    all(".representatives button").forEach((button, k) => button.setAttribute("aria-pressed", String(representatives[k] === i)));
    placeRing();
  };
  representatives.forEach((i, k) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const thumbnail = Object.assign(document.createElement("span"), { className: "thumbnail" });
    picture(thumbnail, i, Math.min(width, 80));
    const text = document.createElement("span");
    text.innerHTML = `<b>${k + 1}</b> `;
    text.append(what(i));
    button.append(thumbnail, text);
    button.addEventListener("click", () => choose(i));
    const item = document.createElement("li");
    item.append(button);
    section.querySelector(".representatives").append(item);
  });
  const pointed = (event) => {
    const { curveNumber, pointNumber } = event.points[0];
    choose(curveNumber ? representatives[pointNumber] : pointNumber);
  };
  div.on("plotly_hover", pointed);
  div.on("plotly_click", pointed);
  div.on("plotly_afterplot", placeRing);
  walk.addEventListener("input", () => choose(Number(walk.value)));
  section.querySelector(".to-film").addEventListener("click", () => seek(steps[walk.value]));
  choose(representatives[0]);
})();
