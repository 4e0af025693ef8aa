"use strict";
/* Asks the server every two seconds for new data of each run, and shows those of the chosen one and an overview of all.
   All contents of a run's files are inserted as text, and as charts.plain text into charts. */
(() => {
  const EVERY = 2000; // ms
  const MOST_POINTS = 800; // of a line; neighbours are averaged if there are more
  const SMOOTHED = 20; // points of the moving average of training returns
  const PUBLISHED_FROM = 5e5; // frames before which a curve with a point per million frames says nothing
  const AXES = { frames: "frames of the emulator", step: "agent steps", hours: "hours of wall-clock time" };
  const STATES = {
    training: () => "Training.",
    evaluating: () => "Evaluating; training continues afterwards.",
    finished: (at) => `Finished at ${at}.`,
    stopped: (at) => `Stopped by a signal at ${at}; pixelq train --resume continues it.`,
    failed: (at) => `Failed at ${at}; the terminal of the run shows the error.`,
    silent: (at, age) => `Not running: no sign of life since ${at}, for ${duration(age)}.`,
    unknown: (at, age) => `Last written at ${at}, ${duration(age)} ago; whether it is still running is unknown.`,
  };
  const fresh = () => ({
    version: null, metrics: [], evaluations: [], published: null, columns: { metrics: [], evaluations: [] }, answer: null,
    problem: null, hidden: false,
  });
  const runs = [fresh()];
  let kept = runs[0]; // what is known of the chosen run
  const hidden = new Set();
  let asking = false;
  let timer = null;

  const byId = (id) => document.getElementById(id);
  const put = (id, text) => { if (byId(id).textContent !== text) byId(id).textContent = text; };
  const isNumber = (value) => typeof value === "number";
  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const decimal = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
  const count = (value) => (isNumber(value) ? whole.format(value) : "–");
  const score = (value) => (isNumber(value) ? (Math.abs(value) < 1000 ? decimal : whole).format(value).replace("-", "−") : "–");
  const two = (value) => String(value).padStart(2, "0");
  function duration(seconds) {
    if (!isNumber(seconds)) return "–";
    const s = Math.round(seconds);
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
    const minutes = Math.round(s / 60);
    const days = Math.floor(minutes / 1440);
    return `${days ? `${days} d ` : ""}${Math.floor(minutes / 60) % 24} h ${two(minutes % 60)} min`;
  }
  /* A time of day; on another day than today with its date. */
  function clock(seconds) {
    const [then, now] = [new Date(seconds * 1000), new Date()];
    const day = then.toDateString() === now.toDateString() ? "" : `${then.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" })}, `;
    return day + then.toLocaleTimeString("en-GB");
  }
  const column = (table, name) => kept.columns[table].indexOf(name);
  const last = (table) => kept[table][kept[table].length - 1];
  const axis = () => document.querySelector("input[name=axis]:checked").value;

  /* --- figures ------------------------------------------------------------------------------------------------ */

  function say(state, text) {
    byId("status").dataset.state = state;
    put("status", text);
  }
  function withNote(id, value, note) {
    const small = document.createElement("small");
    small.textContent = note;
    byId(id).replaceChildren(value, small);
  }
  function showRun(run) {
    put("title", runs.length > 1 ? `${run.name} on ${run.env}` : run.env);
    const envs = isNumber(run.num_envs) ? `${run.num_envs} environments · ` : "";
    put("subtitle", `${run.preset} · seed ${run.seed} · ${run.device} · ${envs}protocol ${run.protocol} · ${run.name}`);
    document.title = `${run.env} · ${run.preset} · ${run.name}`;
  }
  /* Outside Atari a step is a frame, so that there is one axis less. */
  function showAxes(progress) {
    const row = last("metrics");
    const [step, frames] = row ? row.slice(0, 2) : [progress.step, progress.frames];
    const isSame = !isNumber(frames) || frames === step;
    for (const element of document.querySelectorAll(".of-frames")) element.hidden = isSame;
    if (isSame && axis() === "frames") document.querySelector("input[name=axis][value=step]").checked = true;
  }
  function showProgress({ state, progress, now, final }) {
    const { step, steps } = progress;
    const moves = state === "training" || state === "evaluating";
    say(state, STATES[state](clock(progress.written), Math.max(0, now - progress.written)));
    if (steps) {
      byId("bar").max = steps;
      byId("bar").value = Math.min(step, steps);
      withNote("step", count(step), `of ${count(steps)} · ${Math.floor((100 * step) / steps)}%`);
      if (moves) document.title = `${Math.floor((100 * step) / steps)}% · ${document.title}`;
    } else put("step", count(step));
    put("left", moves ? duration(progress.seconds_left) : state === "finished" ? "none" : "–");
    put("elapsed", duration(progress.wall_seconds));
    put("frames", count(progress.frames));
    put("episodes", count(progress.episodes));
    put("epsilon", isNumber(progress.epsilon) ? progress.epsilon.toFixed(3) : "–");
    const row = last("metrics");
    const speed = isNumber(progress.steps_per_second) ? progress.steps_per_second : row?.[column("metrics", "steps_per_second")];
    put("speed", count(speed));
    const [called, value] = latestReturn(kept);
    put("return-name", called);
    put("last-return", score(value));
    showEvaluation(final);
    showEpisodes(progress.returns, progress.lengths, progress.environments, moves);
  }
  /* The mean over the last 100 episodes where the run has it, or else that of the last row with an episode. */
  function latestReturn(run) {
    const names = [["return_mean_100", "Return of the last 100 episodes"], ["return_mean", "Last training return"]];
    for (const [name, called] of names) {
      const at = run.columns.metrics.indexOf(name);
      const value = run.metrics.findLast((cells) => isNumber(cells[at]))?.[at];
      if (isNumber(value) || name === "return_mean") return [called, value];
    }
  }
  function showEvaluation(final) {
    const cells = last("evaluations");
    const told = final ?? (cells && Object.fromEntries(kept.columns.evaluations.map((name, i) => [name, cells[i]])));
    put("evaluation-name", final ? "Final evaluation" : "Last evaluation");
    if (told) withNote("last-evaluation", score(told.mean), `95%: ${score(told.ci95_low)} to ${score(told.ci95_high)}`);
    else put("last-evaluation", "–");
  }
  function showEpisodes(returns, lengths, environments, moves) {
    byId("playing").hidden = !returns || !moves;
    if (byId("playing").hidden) return;
    put("current", `Return ${score(returns[0])} after ${count(lengths[0])} steps, in environment 1`);
    put("playing-summary", environments > returns.length
      ? `The first ${returns.length} of ${count(environments)} environments` : `All ${returns.length} environments`);
    const body = byId("running");
    while (body.rows.length > returns.length) body.deleteRow(-1);
    while (body.rows.length < returns.length) {
      const row = body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = String(body.rows.length);
      row.append(head);
      row.insertCell();
      row.insertCell();
    }
    returns.forEach((value, i) => {
      body.rows[i].cells[1].textContent = score(value);
      body.rows[i].cells[2].textContent = count(lengths[i]);
    });
  }

  /* --- curves ------------------------------------------------------------------------------------------------- */

  /* Place of a row on the chosen axis. Evaluations have only a step, so theirs is interpolated between training rows. */
  function placeOf(cells) {
    if (axis() === "hours") return cells[column("metrics", "wall_seconds")] / 3600;
    return cells[column("metrics", axis())];
  }
  function placeOfStep(step) {
    if (axis() === "step") return step;
    const rows = kept.metrics;
    let high = rows.findIndex((cells) => cells[0] >= step);
    if (high < 0) high = rows.length - 1;
    if (high < 0) return null;
    const before = high ? [rows[high - 1][0], placeOf(rows[high - 1])] : [0, 0];
    const after = [rows[high][0], placeOf(rows[high])];
    const share = Math.min(1, (step - before[0]) / (after[0] - before[0]));
    return before[1] + share * (after[1] - before[1]);
  }
  /* At most MOST_POINTS points of rows: means over neighbours, each at the last one's place. */
  function thinned(rows, place, at) {
    const size = Math.ceil(rows.length / MOST_POINTS) || 1;
    const x = [], y = [];
    for (let i = 0; i < rows.length; i += size) {
      const group = rows.slice(i, i + size);
      x.push(place(group[group.length - 1]));
      y.push(group.reduce((sum, cells) => sum + cells[at], 0) / group.length);
    }
    return { x, y };
  }
  function curve(name) {
    const at = column("metrics", name);
    return thinned(kept.metrics.filter((cells) => cells[at] !== null), placeOf, at);
  }
  const line = (name, colour, more) => ({
    ...curve(name), mode: kept.metrics.length < 40 ? "lines+markers" : "lines", line: { color: colour, width: 2 },
    marker: { size: 5, color: colour }, hovertemplate: "%{y:.4g} at %{x:.4s}<extra></extra>", ...more,
  });
  /* Means of few returns are noisy: the points are drawn faintly, with a moving average over them. */
  function trainingTraces(colour) {
    const points = line("return_mean", colour, { name: "training" });
    if (points.x.length < 2 * SMOOTHED) return [points];
    let sum = 0;
    const mean = points.y.map((value, i) => {
      sum += value - (i >= SMOOTHED ? points.y[i - SMOOTHED] : 0);
      return sum / Math.min(i + 1, SMOOTHED);
    });
    return [
      { ...points, opacity: 0.35, mode: "lines", line: { color: colour, width: 1 } },
      { ...points, y: mean, mode: "lines", name: `training, mean of ${SMOOTHED} points` },
    ];
  }
  const band = (x, low, high, colour, name) => ({
    x: [...x, ...x.slice().reverse()], y: [...high, ...low.slice().reverse()], fill: "toself", mode: "lines",
    fillcolor: charts.faded(colour, 0.18), line: { width: 0 }, hoverinfo: "skip", name,
  });
  const framesSoFar = () => last("metrics")?.[column("metrics", "frames")] ?? 0;
  const hasPublished = () => Boolean(kept.published) && axis() !== "hours" && framesSoFar() >= PUBLISHED_FROM;
  function publishedTraces(colour) {
    const { agent, frames, mean, low, high } = kept.published;
    const shown = frames.filter((frame) => frame <= framesSoFar() + 1e6).length;
    const perStep = framesSoFar() / last("metrics")[0];
    const x = frames.slice(0, shown).map((frame) => (axis() === "step" ? frame / perStep : frame));
    return [
      band(x, low.slice(0, shown), high.slice(0, shown), colour, `${agent}, spread`),
      {
        x, y: mean.slice(0, shown), mode: "lines+markers", name: `${agent}, published`, marker: { size: 5, color: colour },
        line: { color: colour, width: 2, dash: "dot" }, hovertemplate: `${agent}: %{y:.4g} at %{x:.4s}<extra></extra>`,
      },
    ];
  }
  function evaluationTraces(colour) {
    const [mean, low, high] = ["mean", "ci95_low", "ci95_high"].map((name) => column("evaluations", name));
    const placed = kept.evaluations.map((cells) => [placeOfStep(cells[0]), cells]);
    const rows = placed.filter(([x, cells]) => x !== null && [mean, low, high].every((at) => cells[at] !== null));
    const x = rows.map(([place]) => place);
    const of = (at) => rows.map(([, cells]) => cells[at]);
    return [
      band(x, of(low), of(high), colour, "evaluation, 95%"),
      {
        x, y: of(mean), mode: "lines+markers", name: "evaluation", line: { color: colour, width: 2, dash: "dash" },
        marker: { size: 8, symbol: "diamond", color: colour }, customdata: rows.map(([, cells]) => [cells[low], cells[high]]),
        hovertemplate: "%{y:.4g} (95%: %{customdata[0]:.4g} to %{customdata[1]:.4g}) at %{x:.4s}<extra></extra>",
      },
    ];
  }
  const layout = (colours, title, more) => ({
    showlegend: false, uirevision: axis(), margin: { l: 55, r: 15, t: 10, b: 45 },
    xaxis: charts.axis(colours, AXES[axis()], { rangemode: "tozero", exponentformat: "SI" }),
    yaxis: charts.axis(colours, title, more),
  });
  const drawings = [
    charts.add(byId("return"), (colours) => {
      const traces = [];
      if (hasPublished() && !hidden.has("published")) traces.push(...publishedTraces(colours.series[3]));
      if (!hidden.has("training")) traces.push(...trainingTraces(colours.series[0]));
      if (!hidden.has("evaluation")) traces.push(...evaluationTraces(colours.series[1]));
      return { traces, layout: layout(colours, "raw return of an episode", { rangemode: "tozero" }) };
    }),
    ...[["loss", "loss", 2], ["q_mean", "mean q-value", 5], ["steps_per_second", "steps per second", 4], ["epsilon-curve", "ε", 6]].map(
      ([id, title, colour]) =>
        charts.add(byId(id), (colours) => {
          const drawn = line(id === "epsilon-curve" ? "epsilon" : id, colours.series[colour], { name: title });
          const range = { q_mean: {}, steps_per_second: { range: [0, charts.topOf(drawn.y)] } }[id] ?? { rangemode: "tozero" };
          return { traces: [drawn], layout: layout(colours, title, range) };
        }),
    ),
  ];
  function redraw() {
    showLegend();
    drawings.forEach((drawing) => drawing.redraw());
  }
  document.querySelectorAll("input[name=axis]").forEach((input) => input.addEventListener("change", redraw));
  function showLegend() {
    const list = byId("return-legend");
    const key = hasPublished() ? kept.published.agent : "";
    if (list.childElementCount && list.dataset.key === key) return; // keeps the keyboard focus
    list.dataset.key = key;
    const names = { training: "training episodes", evaluation: "evaluations, 95% band" };
    const entries = [["training", 0], ["evaluation", 1], ...(hasPublished() ? [["published", 3]] : [])].map(([key, colour]) => ({
      key, colour, hidden: hidden.has(key), name: names[key] ?? `published ${kept.published.agent}, spread over seeds`,
    }));
    list.replaceChildren();
    charts.legend(list, entries, () => {
      entries.forEach(({ key, hidden: off }) => (off ? hidden.add(key) : hidden.delete(key)));
      redraw();
    });
  }

  /* --- all runs --------------------------------------------------------------------------------------------------- */

  const SHORT = { problem: "cannot be read", silent: "not running", unknown: "unknown" };
  let together = null; // the chart, which is made when there is more than one run
  const buildTogether = (colours) => {
    const env = kept.answer?.run.env;
    const shown = runs.filter((run) => run.answer !== null && run.answer.run.env === env && !run.hidden);
    const isAtari = shown.some((run) => run.metrics.some((cells) => cells[1] !== cells[0]));
    const traces = shown.map((run) => {
      const at = run.columns.metrics.indexOf("return_mean");
      const { x, y } = thinned(run.metrics.filter((cells) => cells[at] !== null), (cells) => cells[isAtari ? 1 : 0], at);
      const place = runs.indexOf(run);
      const name = charts.plain(run.answer.run.name);
      return {
        x, y: charts.smoothed(y, y.length < 2 * SMOOTHED ? 1 : SMOOTHED), mode: y.length < 40 ? "lines+markers" : "lines", name,
        line: { color: colours.series[place % 8], width: 2, dash: colours.dashes[Math.floor(place / 8) % 6] }, marker: { size: 5 },
        hovertemplate: `%{y:.4g} at %{x:.4s}<extra>${name}</extra>`,
      };
    });
    return {
      traces,
      layout: {
        showlegend: false, margin: { l: 55, r: 15, t: 10, b: 45 },
        xaxis: charts.axis(colours, AXES[isAtari ? "frames" : "step"], { rangemode: "tozero", exponentformat: "SI" }),
        yaxis: charts.axis(colours, "raw return of an episode", { rangemode: "tozero" }),
      },
    };
  };
  function choose(run) {
    kept = run;
    show(true);
  }
  /* The cells of a run's row, and its name. */
  function cellsOf(run) {
    if (run.answer === null || run.problem !== null) return [run.problem ?? "waiting", ...Array(7).fill("–")];
    const { run: about, state, progress, final } = run.answer;
    const moves = state === "training" || state === "evaluating";
    const evaluation = final?.mean ?? run.evaluations.at(-1)?.[run.columns.evaluations.indexOf("mean")];
    return [
      SHORT[state] ?? state,
      progress.steps ? `${Math.floor((100 * progress.step) / progress.steps)}% of ${count(progress.steps)}` : count(progress.step),
      moves ? duration(progress.seconds_left) : "–", score(latestReturn(run)[1]), score(evaluation), count(progress.steps_per_second),
      about.env, `${about.preset}, seed ${about.seed}`,
    ];
  }
  function showAll(isNew) {
    byId("all").hidden = false;
    const moving = runs.filter((run) => run.answer?.state === "training" || run.answer?.state === "evaluating").length;
    put("several", `${runs.length} runs`);
    document.title = `${moving} of ${runs.length} runs under way`;
    const body = byId("runs");
    while (body.rows.length < runs.length) {
      const run = runs[body.rows.length];
      const row = body.insertRow();
      const head = Object.assign(document.createElement("th"), { scope: "row" });
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.addEventListener("click", () => choose(run));
      head.append(button);
      row.append(head);
      for (let i = 0; i < 8; i++) row.insertCell().className = [0, 6, 7].includes(i) ? "text" : "";
    }
    runs.forEach((run, i) => {
      const [head, ...cells] = body.rows[i].cells;
      head.firstChild.textContent = run.answer?.run.name ?? `run ${i + 1}`;
      head.firstChild.setAttribute("aria-pressed", String(run === kept));
      cellsOf(run).forEach((text, k) => { cells[k].textContent = text; });
    });
    if (together === null) together = charts.add(byId("together"), buildTogether);
    else if (isNew) together.redraw();
    const entries = runs.filter((run) => run.answer !== null && run.answer.run.env === kept.answer?.run.env).map((run) => ({
      run, name: run.answer.run.name, colour: runs.indexOf(run), hidden: run.hidden,
    }));
    const key = JSON.stringify(entries.map(({ name, colour }) => [name, colour]));
    if (byId("together-legend").dataset.key === key) return; // keeps the keyboard focus
    byId("together-legend").dataset.key = key;
    byId("together-legend").replaceChildren();
    charts.legend(byId("together-legend"), entries, () => {
      for (const { run, hidden: off } of entries) run.hidden = off;
      together.redraw();
    });
  }

  /* --- asking ------------------------------------------------------------------------------------------------- */

  /* Stores an answer about a run; returns whether there is more to ask for at once. */
  function take(run, answer) {
    if (answer.published !== undefined) {
      run.published = answer.published;
      run.columns = answer.columns;
      run.version = answer.version;
      run.metrics = [];
      run.evaluations = [];
    } else if (answer.version !== run.version) {
      run.version = null;
      return true;
    }
    run.metrics.push(...answer.metrics);
    run.evaluations.push(...answer.evaluations);
    run.isNew ||= answer.published !== undefined || answer.metrics.length > 0 || answer.evaluations.length > 0;
    run.answer = answer;
    return answer.has_more;
  }
  async function ask(run, number) {
    const since = `&since=${run.metrics.at(-1)?.[0] ?? 0}&evaluated=${run.evaluations.at(-1)?.[0] ?? 0}`;
    const query = `data?run=${number}${run.version === null ? "" : since}`;
    const response = await fetch(query, { cache: "no-store", signal: AbortSignal.timeout(20000) });
    const answer = await response.json();
    while (runs.length < answer.runs) runs.push(fresh());
    run.problem = response.ok ? null : answer.problem;
    return response.ok && take(run, answer);
  }
  /* Shows the chosen run; its charts are drawn again if there is something new in them. */
  function show(isOther = false) {
    if (kept.problem !== null) say("problem", kept.problem);
    else if (kept.answer !== null) {
      showRun(kept.answer.run);
      showAxes(kept.answer.progress);
      showProgress(kept.answer);
    }
    const isNew = runs.filter((run) => run.isNew);
    if (isOther || kept.isNew) redraw();
    if (runs.length > 1) showAll(isOther || isNew.length > 0);
    for (const run of isNew) run.isNew = false;
  }
  async function poll() {
    clearTimeout(timer);
    if (asking || document.hidden) return;
    asking = true;
    try {
      for (let number = 0; number < runs.length; number++) {
        while (await ask(runs[number], number)) if (runs[number] === kept) show();
        if (runs[number] === kept) show();
      }
      show();
    } catch {
      say("problem", "The server of this page does not answer. Start pixelq watch again, and the page will continue.");
    }
    asking = false;
    timer = setTimeout(poll, EVERY);
  }
  document.addEventListener("visibilitychange", poll);
  poll();
})();
