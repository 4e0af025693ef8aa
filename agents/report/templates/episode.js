"use strict";
/* The film, and in step with it the q-values of each action, the value and the reward.
   Picture t of the film is the state before step t; picture T is the end of the episode. */
(() => {
  const { fps, start, film, names: given, q_values, actions, rewards } = charts.data("episode");
  const names = given.map(charts.plain); // of actions, in charts
  const words = given; // elsewhere
  const section = document.getElementById("episode");
  const find = (selector) => section.querySelector(selector);
  const [video, scrub, bars, time, cursor] = ["video", ".scrub", ".bars", ".time", ".cursor"].map(find);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const steps = actions.length;
  const q = new Float32Array(bytes(q_values).buffer); // [T · A]
  const at = (step) => Array.from(q.subarray(step * names.length, (step + 1) * names.length));
  const values = actions.map((_, step) => Math.max(...at(step))); // an action that is not allowed has −∞
  const allowed = (numbers) => Array.from(numbers).filter((number) => number > -Infinity);
  let sum = 0;
  const returns = rewards.map((reward) => (sum += reward));
  const [least, most] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const digits = Math.max(0, Math.min(5, 2 - Math.floor(Math.log10(most - allowed(q).reduce((a, b) => Math.min(a, b)) || 1))));
  const said = (number, places = digits) => number.toFixed(places).replace("-", "−");
  const raw = (number) => String(Math.round(number * 1000) / 1000).replace("-", "−");
  const state = { step: 0, plays: false, hasFilm: film !== null, range: [0, 0] };

  /* --- charts --- */
  const longest = Math.min(16, Math.max(...words.map((name) => name.length)));
  const isGap = () => find(".shown").value === "gap";
  const barsNow = (colours) => {
    const last = Math.min(state.step, steps - 1);
    const taken = (yes, no) => names.map((_, i) => (i === actions[last] ? yes : no));
    const marks = taken("◀ taken", "");
    const shown = at(last).map((value) => (isGap() ? value - values[last] : value));
    return {
      x: shown, text: shown.map((value, i) => (value > -Infinity ? `${said(value)} ${marks[i]}` : "")),
      colour: taken(colours.series[1], charts.faded(colours.series[0], 0.6)), edge: taken(2, 0),
    };
  };
  /* The axis fits the values of the step, so that small differences can be seen. Its ends are round, and while the film
     plays it shrinks only if it is far too long, so that it moves seldom. */
  const fit = (shown) => {
    const known = [...allowed(shown), 0];
    const [low, high] = [-charts.roundUp(-Math.min(...known)), charts.roundUp(Math.max(...known))];
    const [before, after] = state.range;
    if (before === low && after === high) return;
    if (state.plays && before <= low && high <= after && after - before <= 5 * (high - low)) return;
    state.range = [low, high];
  };
  const withRoom = ([low, high]) => {
    const room = (high - low || 1) * (bars.clientWidth < 450 ? 0.9 : 0.35); // for the numbers
    return [low < 0 ? low - room : low, high > 0 ? high + room : high + room / 10];
  };
  const barsDrawing = charts.add(bars, (colours) => {
    const { x, text, colour, edge } = barsNow(colours);
    fit(x);
    return {
      traces: [{
        type: "bar", orientation: "h", x, y: names, text, textposition: "outside", cliponaxis: false, hoverinfo: "skip",
        textfont: { color: colours.ink }, marker: { color: colour, line: { color: colours.ink, width: edge } },
      }],
      layout: {
        showlegend: false, height: 70 + 30 * names.length, bargap: 0.25, margin: { l: 15 + 8 * longest, r: 20, t: 5, b: 45 }, dragmode: false,
        xaxis: charts.axis(colours, isGap() ? "difference to the greatest q-value" : "q-value", {
          range: withRoom(state.range), fixedrange: true, nticks: 6,
        }),
        yaxis: charts.axis(colours, "", {
          type: "category", range: [names.length - 0.5, -0.5], tickvals: names, fixedrange: true, automargin: false,
          showgrid: false, zeroline: false,
        }),
      },
    };
  });
  const showBars = () => {
    const { x, text, colour, edge } = barsNow(charts.theme());
    const before = state.range;
    fit(x);
    const layout = state.range === before ? {} : { "xaxis.range": withRoom(state.range) };
    Plotly.update(bars, { x: [x], text: [text], "marker.color": [colour], "marker.line.width": [edge] }, layout);
  };
  find(".shown").addEventListener("change", () => barsDrawing.redraw());

  /* Long episodes show the least and the greatest value in each of 1500 equal parts, so no peak is lost. */
  const thinned = (series) => {
    const part = Math.ceil(steps / 1500);
    const x = [];
    for (let start = 0; start < steps; start += part) {
      let [low, high] = [start, start];
      for (let step = start; step < Math.min(start + part, steps); step++) {
        if (series[step] < series[low]) low = step;
        if (series[step] > series[high]) high = step;
      }
      x.push(...(low === high ? [low] : [Math.min(low, high), Math.max(low, high)]));
    }
    return { x, y: x.map((step) => series[step]) };
  };
  const stems = () => {
    const rewarded = rewards.flatMap((reward, step) => (reward ? [step] : []));
    if (rewarded.length > 1000) return { ...thinned(rewards), mode: "lines" };
    return {
      x: rewarded.flatMap((step) => [step, step, null]), y: rewarded.flatMap((step) => [0, rewards[step], null]),
      mode: "lines+markers", marker: { size: 5 },
    };
  };
  const series = [
    { name: "value", colour: 0, hidden: false, axis: "y", line: thinned(values) },
    { name: "reward", colour: 1, hidden: false, axis: "y2", line: stems() },
    { name: "return so far", colour: 2, hidden: false, axis: "y3", line: thinned(returns), shape: "hv" },
    ...words.map((name, i) => ({
      name: `Q(${name})`, colour: 3 + i, hidden: true, axis: "y",
      line: thinned(actions.map((_, step) => q[step * names.length + i])),
    })),
  ];
  const timeDrawing = charts.add(time, (colours) => ({
    traces: series.filter((entry) => !entry.hidden).map((entry) => ({
      mode: "lines", ...entry.line, name: charts.plain(entry.name), yaxis: entry.axis, hovertemplate: "%{y:.4~g}",
      line: {
        color: colours.series[entry.colour % 8], width: entry.name === "value" ? 2 : 1.5, shape: entry.shape,
        dash: colours.dashes[Math.floor(entry.colour / 8) % 6],
      },
    })),
    layout: {
      showlegend: false, hovermode: "x", hoverdistance: -1, dragmode: false, margin: { l: 60, r: 15, t: 10, b: 45 },
      xaxis: charts.axis(colours, "step", { range: [0, steps], anchor: "y3", fixedrange: true }),
      yaxis: charts.axis(colours, "value", { domain: [0.5, 1], fixedrange: true }),
      yaxis2: charts.axis(colours, "reward", { domain: [0.27, 0.43], fixedrange: true, nticks: 4 }),
      yaxis3: charts.axis(colours, "return", { domain: [0, 0.2], fixedrange: true, nticks: 4 }),
    },
  }));
  charts.legend(find(".legend"), series, () => timeDrawing.redraw());

  /* --- a step --- */
  const placeCursor = () => {
    const { left, top, height } = charts.place(time, state.step, 0);
    Object.assign(cursor.style, { transform: `translateX(${left}px)`, top: `${top}px`, height: `${height}px` });
  };
  const show = (step) => {
    state.step = Math.max(0, Math.min(steps, step));
    const last = Math.min(state.step, steps - 1);
    const isEnd = state.step === steps;
    const now = at(last);
    const isGreedy = now[actions[last]] === values[last];
    const action = isEnd ? "none (end of the episode)" : words[actions[last]] + (isGreedy ? "" : " (not greedy)");
    const texts = {
      step: `${state.step} of ${steps}`, action, value: isEnd ? "–" : said(values[last]), reward: isEnd ? "–" : raw(rewards[last]),
      return: raw(state.step ? returns[state.step - 1] : 0),
    };
    for (const [name, text] of Object.entries(texts)) find(`dd.${name}`).textContent = text;
    section.dataset.step = state.step;
    scrub.value = state.step;
    scrub.setAttribute("aria-valuetext",
      `step ${texts.step}, action ${texts.action}, value ${texts.value}, reward ${texts.reward}, return so far ${texts.return}`);
    showBars();
    placeCursor();
  };
  const seek = (step) => {
    show(step);
    clock = { step: state.step, since: performance.now() };
    if (state.hasFilm) video.currentTime = (state.step + 0.5) / fps; // the middle of the picture, so rounding does no harm
  };

  /* --- playing: the film leads; without one, a clock --- */
  let clock = { step: 0, since: 0 };
  let picture = { step: 0, until: 0 };
  const speed = () => Number(find(".speed").value);
  const position = (now) => {
    if (!state.hasFilm) return Math.floor(clock.step + ((now - clock.since) / 1000) * fps * speed());
    return now < picture.until ? picture.step : Math.floor(video.currentTime * fps + 1e-3);
  };
  const setPlays = (plays) => {
    state.plays = plays;
    section.dataset.playing = plays;
    find(".play").textContent = plays ? "Pause" : "Play";
    if (plays) requestAnimationFrame(follow);
  };
  const follow = (now) => {
    if (!state.plays) return;
    const step = position(now);
    if (!video.seeking && step !== state.step) show(step);
    if (!state.hasFilm && step >= steps) setPlays(false);
    else requestAnimationFrame(follow);
  };
  const toggle = () => {
    if (!state.plays && state.step >= steps) seek(0);
    if (!state.hasFilm) {
      clock = { step: state.step, since: performance.now() };
      setPlays(!state.plays);
    } else if (video.paused) video.play().catch(() => {}); // rejected by a pause before the film has begun; see "error"
    else video.pause();
  };
  const loseFilm = () => {
    state.hasFilm = false;
    video.hidden = true;
    find(".problem").hidden = false;
    if (state.plays) setPlays(false);
  };
  if (!film) loseFilm();
  else {
    if ("requestVideoFrameCallback" in video) { // tells which picture is on screen; not called while the film is out of sight
      const note = (now, frame) => {
        picture = { step: Math.round(frame.mediaTime * fps), until: now + 2000 / fps / video.playbackRate };
        video.requestVideoFrameCallback(note);
      };
      video.requestVideoFrameCallback(note);
    }
    video.addEventListener("error", loseFilm);
    video.addEventListener("play", () => setPlays(true));
    video.addEventListener("pause", () => {
      setPlays(false);
      if (!video.ended) seek(state.step); // the picture of the step that is shown
    });
    video.addEventListener("ended", () => show(steps));
    video.src = URL.createObjectURL(new Blob([bytes(film)], { type: "video/mp4" }));
  }

  /* --- controls --- */
  const stepBy = (count) => {
    if (state.plays) toggle();
    seek(state.step + count);
  };
  find(".play").addEventListener("click", toggle);
  find(".back").addEventListener("click", () => stepBy(-1));
  find(".forward").addEventListener("click", () => stepBy(1));
  find(".speed").addEventListener("change", () => {
    clock = { step: state.step, since: performance.now() };
    video.playbackRate = speed();
  });
  scrub.addEventListener("input", () => seek(Number(scrub.value)));
  video.addEventListener("click", toggle);
  video.addEventListener("keydown", (event) => {
    const act = { " ": toggle, ArrowLeft: () => stepBy(-1), ArrowRight: () => stepBy(1) }[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  });
  time.on("plotly_click", (event) => seek(event.points[0].x));
  time.on("plotly_afterplot", placeCursor);
  document.addEventListener("episode-seek", (event) => {
    if (state.plays) toggle();
    seek(event.detail);
  });
  setPlays(false);
  seek(start);
})();
