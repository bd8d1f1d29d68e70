// Draws the figures of a report with uPlot, in the place of the static pictures. Everything that is shown as text was written by the
// program that made the page; nothing is formatted or requested here.
"use strict";

(() => {
  const HEIGHT = 500;
  const NARROW = 600;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // epoll's near-black would not be seen on a dark ground.
  const ink = () => getComputedStyle(document.body).getPropertyValue("--ink").trim();
  const rule = () => getComputedStyle(document.body).getPropertyValue("--rule").trim();
  const paper = () => getComputedStyle(document.body).getPropertyValue("--paper").trim();
  const colour = (line) => (line.colour === "#141414" ? ink() : line.colour);

  const UNITS = {
    ns: [[1e9, " s"], [1e6, " ms"], [1e3, " µs"], [1, " ns"]],
    bytes: [[1048576, " MiB"], [1024, " KiB"], [1, " B"]],
    "bytes-per-s": [[1073741824, " GiB/s"], [1048576, " MiB/s"], [1024, " KiB/s"], [1, " B/s"]],
    "per-s": [[1e6, "M"], [1e3, "k"], [1, ""]],
  };

  function tick(value, unit) {
    if (value === 0) return unit === "share" ? "0 %" : "0";
    if (unit === "share") return `${+(100 * value).toPrecision(3)} %`;
    const [size, name] = (UNITS[unit] || [[1, ""]]).find(([size]) => Math.abs(value) >= size) || [1, ""];
    return `${+(value / size).toPrecision(3)}${name}`;
  }

  // Round values between two others, about as many as can be read.
  function splits(low, high, scale, logarithmic) {
    if (!logarithmic) {
      const rough = (high - low) / 5;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= rough);
      return Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, index) => index * step);
    }
    const found = [];
    if (scale === "binary") {
      for (let value = 1; value <= high; value *= 4) if (value >= low) found.push(value);
    }
    if (found.length > 1) return found;
    const digits = high / low > 300 ? [1] : high / low > 12 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      found.push(...digits.map((digit) => digit * 10 ** power).filter((value) => value >= low && value <= high));
    }
    return found;
  }

  // Where a value of x stands: values that are spread in steps stand at their number.
  function place(data, x) {
    return data.spread === "steps" ? data.ticks.findIndex(([value]) => value === x) : x;
  }

  function marker(context, shape, x, y, r) {
    context.beginPath();
    const polygon = (points) => {
      points.forEach(([dx, dy], index) => context[index ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
      context.closePath();
    };
    if (shape === "circle") context.arc(x, y, r, 0, 2 * Math.PI);
    else if (shape === "square") polygon([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]);
    else if (shape === "diamond") polygon([[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]]);
    else if (shape === "triangle-up") polygon([[0, -1.2], [1.1, 0.9], [-1.1, 0.9]]);
    else if (shape === "triangle-down") polygon([[0, 1.2], [1.1, -0.9], [-1.1, -0.9]]);
    else {
      const arms = shape === "plus" ? [[1, 0], [0, 1]] : [[0.8, 0.8], [0.8, -0.8]];
      for (const [dx, dy] of arms) {
        context.moveTo(x - dx * r, y - dy * r);
        context.lineTo(x + dx * r, y + dy * r);
      }
    }
  }

  function draw(box, data) {
    const xs = [...new Set(data.lines.flatMap((line) => line.points.map((point) => place(data, point.x)))
      .concat(data.lines.filter((line) => line.limit).map((line) => place(data, line.limit[0]))))].sort((a, b) => a - b);
    const column = (line, key) => xs.map((x) => {
      const point = line.points.find((point) => place(data, point.x) === x);
      return point ? point[key] : null;
    });
    const shown = data.lines.map(() => true);
    let logarithmic = data.scale !== "linear";
    // The foot of the y-axis. On a logarithmic one it is where zeros stand: they have no place of their own there.
    let foot = 0;
    let plot = null;

    const holder = document.createElement("div");
    holder.className = "plot";
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    const bar = document.createElement("div");
    bar.className = "tools";
    const scales = document.createElement("button");
    scales.type = "button";
    scales.className = "scale";
    bar.append(scales);
    const legend = data.lines.map((line, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.title = line.limit ? `limit: ${line.limit[1]}` : "show or hide";
      const swatch = document.createElement("canvas");
      button.append(swatch, document.createTextNode(line.name));
      button.addEventListener("click", () => {
        shown[index] = !shown[index];
        button.setAttribute("aria-pressed", String(shown[index]));
        make();
      });
      bar.append(button);
      return { swatch, line };
    });
    scales.addEventListener("click", () => {
      logarithmic = !logarithmic;
      make();
    });
    box.append(holder, tip, bar);

    function swatches() {
      for (const { swatch, line } of legend) {
        const ratio = window.devicePixelRatio || 1;
        [swatch.width, swatch.height] = [34 * ratio, 18 * ratio];
        const context = swatch.getContext("2d");
        context.scale(ratio, ratio);
        context.strokeStyle = context.fillStyle = colour(line);
        context.lineWidth = line.is_thin ? 1.5 : 3;
        if (line.is_dashed) context.setLineDash([6, 4]);
        context.beginPath();
        context.moveTo(0, 9);
        context.lineTo(34, 9);
        context.stroke();
        context.setLineDash([]);
        context.lineWidth = 2;
        marker(context, line.marker, 17, 9, 5);
        context.fill();
        context.stroke();
      }
    }

    // Hollow points and limits are this page's own: uPlot draws one kind of point for a line.
    function points(u) {
      const { ctx: context } = u;
      const ratio = window.devicePixelRatio || 1;
      context.save();
      data.lines.forEach((line, index) => {
        if (!shown[index]) return;
        context.strokeStyle = context.fillStyle = colour(line);
        for (const point of line.points) {
          const x = u.valToPos(place(data, point.x), "x", true);
          const y = u.valToPos(Math.max(point.y, foot), "y", true);
          context.lineWidth = 2.5 * ratio;
          marker(context, line.marker, x, y, (line.is_thin ? 4 : 6.5) * ratio);
          if (point.doubt !== null) {
            context.save();
            context.fillStyle = paper();
            context.fill();
            context.restore();
          } else if (line.marker !== "plus" && line.marker !== "cross") context.fill();
          context.stroke();
        }
        const last = line.points[line.points.length - 1];
        if (line.limit && last) {
          const [x, y] = [u.valToPos(place(data, line.limit[0]), "x", true), u.valToPos(Math.max(last.y, foot), "y", true)];
          context.lineWidth = 1.5 * ratio;
          context.setLineDash([4 * ratio, 4 * ratio]);
          context.beginPath();
          context.moveTo(u.valToPos(place(data, last.x), "x", true), y);
          context.lineTo(x, y);
          context.stroke();
          context.setLineDash([]);
          context.lineWidth = 3 * ratio;
          marker(context, "cross", x, y, 8 * ratio);
          context.stroke();
        }
      });
      context.restore();
    }

    // The point that is nearest to the pointer, with all that is known of it.
    function hover(u) {
      const { left, top } = u.cursor;
      let nearest = null;
      if (left >= 0 && top >= 0) {
        data.lines.forEach((line, index) => {
          if (!shown[index]) return;
          for (const point of line.points) {
            const [dx, dy] = [u.valToPos(place(data, point.x), "x") - left, u.valToPos(Math.max(point.y, foot), "y") - top];
            const distance = Math.hypot(dx, dy);
            if (!nearest || distance < nearest.distance) nearest = { distance, line, point };
          }
        });
      }
      if (!nearest || nearest.distance > 80) {
        tip.textContent = "";
        return;
      }
      const { line, point } = nearest;
      const x = data.ticks.find(([value]) => value === point.x);
      tip.textContent = `${line.name} at ${x ? x[1] : point.x}: ${point.text}`
        + (point.doubt !== null ? `; does not count: ${point.doubt}` : "");
    }

    function make() {
      const width = Math.max(280, box.clientWidth);
      const narrow = width < NARROW;
      const font = `${narrow ? 13 : 18}px system-ui, sans-serif`;
      scales.textContent = logarithmic ? "y: logarithmic" : "y: linear";
      scales.title = "another scale for the y-axis";
      const values = data.lines.flatMap((line, index) => (shown[index] ? line.points : []));
      const high = Math.max(...values.map((point) => Math.max(point.y, Math.min(point.high, 3 * point.y))), 0) || 1;
      const low = Math.min(...values.map((point) => point.y).filter((y) => y > 0), high);
      const zeros = logarithmic && values.some((point) => point.y <= 0);
      const range = logarithmic ? [low / (zeros ? 4 : 1.4), high * 1.4] : [0, high * 1.05];
      [foot] = range;
      const axis = { stroke: ink(), font, labelFont: font, grid: { stroke: rule(), width: 1 }, ticks: { stroke: rule() } };
      const series = [{}];
      const columns = [xs];
      const bands = [];
      data.lines.forEach((line, index) => {
        const common = { show: shown[index], points: { show: false }, spanGaps: true };
        const at = series.length;
        series.push({
          ...common, label: line.name, stroke: colour(line), width: line.is_thin ? 1.5 : 3,
          dash: line.is_dashed ? [10, 7] : undefined,
        });
        series.push({ ...common, stroke: "transparent" }, { ...common, stroke: "transparent" });
        const clamp = (value) => (value === null ? null : Math.min(Math.max(value, range[0]), range[1]));
        columns.push(column(line, "y").map(clamp), column(line, "high").map(clamp), column(line, "low").map(clamp));
        // Those of the thin lines would hide the others; their values tell them.
        if (!line.is_thin && data.has_bands) bands.push({ series: [at + 1, at + 2], fill: colour(line) + "22" });
      });
      const pad = (min, max) => {
        if (min === max) return [min / 2, max * 2 || 1];
        if (data.spread === "logarithmic") return [min / 1.3, max * 1.3];
        const room = (max - min) * 0.05;
        return [min - room, max + room];
      };
      const labels = data.ticks.map(([value, text]) => [place(data, value), text]);
      // As many labels as there is room for.
      const every = Math.ceil(labels.length / Math.max(2, Math.floor(width / (narrow ? 62 : 84))));
      const kept = labels.filter((_, index) => index % every === 0);
      const options = {
        width, height: narrow ? 320 : HEIGHT, bands, series,
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { show: false } },
        scales: {
          x: { time: false, distr: data.spread === "logarithmic" ? 3 : 1, log: 2, range: (u, min, max) => pad(min, max) },
          y: { distr: logarithmic ? 3 : 1, log: data.scale === "binary" ? 2 : 10, range: () => range },
        },
        axes: [
          { ...axis, label: data.x_label, size: narrow ? 30 : 38, labelSize: narrow ? 20 : 28, grid: { show: false },
            splits: () => kept.map(([value]) => value), values: () => kept.map(([, text]) => text),
            filter: (u, splits) => splits },
          { ...axis, size: narrow ? 66 : 92,
            // No other value stands so near to the foot that it could be taken for zero.
            splits: () => (zeros ? [foot, ...splits(low, range[1], data.scale, true)] : splits(range[0], range[1], data.scale, logarithmic)),
            filter: (u, splits) => splits, values: (u, splits) => splits.map((value) => tick(zeros && value === foot ? 0 : value, data.unit)) },
        ],
        hooks: { draw: [points], setCursor: [hover] },
      };
      if (plot) plot.destroy();
      plot = new uPlot(options, columns, holder);
      swatches();
      box.classList.add("drawn");
    }

    make();
    let last = box.clientWidth;
    new ResizeObserver(() => {
      if (Math.abs(box.clientWidth - last) > 8) {
        last = box.clientWidth;
        make();
      }
    }).observe(box);
    dark.addEventListener("change", make);
  }

  for (const box of document.querySelectorAll(".chart")) {
    draw(box, JSON.parse(box.querySelector("script").textContent));
    box.closest("figure").classList.add("interactive");
  }
})();
