"use strict";
// Takes snapshots from the event stream and fills the tables; text is set as text, never as markup.
(() => {
  const state = document.getElementById("live");
  const search = document.getElementById("search");
  let last = null;

  const number = (value, digits = 0) => value === null || value === undefined ? "–"
    : value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });
  const scaled = (value, unit) => {
    if (value === null || value === undefined) return "–";
    for (const [size, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (value >= size) return number(value / size, 1) + " " + prefix + unit;
    }
    return number(value, 1) + " " + unit;
  };
  const span = (seconds) => {
    if (seconds === null || seconds === undefined) return "–";
    const s = Math.floor(seconds);
    for (const [size, unit, below, small] of [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]]) {
      if (s >= size) return Math.floor(s / size) + unit + " " + Math.floor(s % size / below) + small;
    }
    return s + "s";
  };
  const tiles = {
    calls: (t) => number(t.calls), calls_per_second: (t) => number(t.calls_per_second, 1),
    registrations: (t) => number(t.registrations), one_way: (t) => number(t.one_way),
    no_media: (t) => number(t.no_media),
    ports_share: (t) => t.ports_share === null ? "–" : number(t.ports_share * 100, 1) + " %",
    packets_per_second: (t) => number(t.packets_per_second), bits_per_second: (t) => scaled(t.bits_per_second, "bit/s"),
    drops_per_second: (t) => number(t.drops_per_second, 1), stun_per_second: (t) => number(t.stun_per_second, 1),
    mos: (t) => number(t.mos, 2),
  };
  const columns = {
    services: [["role"], ["up", (v) => v ? ["yes", "good"] : ["no", "bad"]],
      ["ready", (v) => v ? ["yes", "good"] : ["no", "warn"]], ["uptime", span, "n"], ["restarts", number, "n"]],
    calls: [["from", String, "long"], ["to", String, "long"], ["state"], ["duration", span, "n"],
      ["media", (v) => [v, v === "both ways" ? "good" : v === "not relayed" ? "dim" : "bad"]],
      ["packets", number, "n"], ["caller"], ["callee"], ["call_id", String, "id"]],
    registrations: [["aor", String, "long"], ["nat", (v) => Array.isArray(v) ? v.join(", ") || "no" : v === true ? "yes" : v || "no"],
      ["source"], ["transport"], ["user_agent", String, "long"], ["expires", span, "n"], ["registered", span, "n"]],
    pools: [["interface"], ["address"], ["total", number, "n"], ["used", number, "n"], ["quarantined", number, "n"]],
    upstreams: [["name"], ["target"], ["up", (v) => v ? ["up", "good"] : ["down", "bad"]]],
  };

  const fill = (name, rows, filter, total) => {
    const body = document.querySelector("#" + name + " tbody");
    const shown = filter ? rows.filter((row) => JSON.stringify(row).toLowerCase().includes(filter)) : rows;
    body.replaceChildren(...shown.map((row) => {
      const line = document.createElement("tr");
      for (const [key, format, kind] of columns[name]) {
        const cell = document.createElement("td");
        const value = row[key];
        const text = format && !(format === String && (value === null || value === undefined)) ? format(value) : value ?? "";
        if (Array.isArray(text)) { cell.textContent = text[0]; cell.className = text[1]; }
        else { cell.textContent = text; if (kind) cell.className = kind; if (kind === "long" || kind === "id") cell.title = text; }
        line.append(cell);
      }
      if (name === "pools") {
        const cell = document.createElement("td"), meter = document.createElement("meter");
        meter.max = row.total || 1; meter.value = row.used + row.quarantined; meter.high = 0.85 * meter.max; meter.optimum = 0;
        meter.setAttribute("aria-label", "ports of " + row.interface + " in use");
        cell.append(meter); line.append(cell);
      }
      return line;
    }));
    document.querySelector("#" + name + " .count").textContent = shown.length < total ? shown.length + " of " + total : shown.length;
  };

  const show = (data) => {
    last = data;
    const ready = document.getElementById("ready");
    ready.textContent = data.ready ? "ready" : "not ready: " + data.not_ready.join(", ");
    ready.className = data.ready ? "good" : "bad";
    document.getElementById("uptime").textContent = span(data.uptime);
    for (const [key, format] of Object.entries(tiles)) {
      document.querySelector('[data-tile="' + key + '"]').textContent = format(data.tiles);
    }
    document.querySelector('[data-tile="one_way"]').className = data.tiles.one_way ? "bad" : "";
    document.querySelector('[data-tile="no_media"]').className = data.tiles.no_media ? "bad" : "";
    const filter = search.value.trim().toLowerCase();
    for (const name of Object.keys(columns)) {
      const total = Math.max(data.totals[name] ?? 0, data[name].length);
      fill(name, data[name], name === "calls" || name === "registrations" ? filter : "", total);
    }
  };

  search.addEventListener("input", () => { if (last) show(last); });
  const told = (text, kind) => { if (state.textContent !== text) { state.textContent = text; state.className = kind; } };
  const listen = () => {
    const source = new EventSource("api/v1/events");
    source.addEventListener("status", (event) => { told("live", "good"); show(JSON.parse(event.data)); });
    source.onerror = () => {
      told("interrupted, trying again", "warn");
      // The browser tries again by itself after a lost connection, but not after a refusal.
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    };
  };
  listen();
})();
