// Drawing only: the picture of the sessions and the small charts. Nothing here asks the service anything.

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export const mood = (state) => (state === "ESTABLISHED" ? "good" : state === "IDLE" ? "bad" : "wait");
export const count = (number) => Number(number).toLocaleString("en");
export const ROLES = { reflectors: "Route reflectors", nodes: "Nodes", routers: "Routers of other ASes" };

function summary(group) {
  const up = group.states.ESTABLISHED ?? 0;
  return `${ROLES[group.role]}: ${count(up)} of ${count(group.total)} Established`;
}

// One hub, and each role's peers as a block of dots: routers above, reflectors at the sides, nodes below.
export function picture(svg, graph, choose) {
  const title = svg.querySelector("title");
  title.textContent = `${graph.service} ${graph.node}. ` + graph.groups.map(summary).join(". ");
  svg.replaceChildren(title);
  const places = { routers: [450, 60], reflectors: [450, 60], nodes: [450, 345] };
  const both = graph.groups.some((g) => g.role === "routers") && graph.groups.some((g) => g.role === "reflectors");
  if (both) { places.routers = [230, 60]; places.reflectors = [670, 60]; }
  const lines = shape("g", { "stroke-width": 1.3, fill: "none" });
  const dots = shape("g", {});
  svg.append(lines, dots);
  const hub = [450, 200];
  let [top, bottom, half] = [160, 230, 300]; // as much of the picture as is drawn on, but no less
  for (const group of graph.groups) {
    const [x, y] = places[group.role];
    const wide = both && group.role !== "nodes" ? 12 : 24;
    const shown = group.peers;
    const labelled = shown.length <= 8;
    const room = both && group.role !== "nodes" ? 430 : 860;
    const step = shown.length > wide ? 32 : Math.min(labelled ? 140 : 90, (labelled ? room : wide * 32) / Math.max(1, shown.length));
    const below = group.role === "nodes";
    shown.forEach((peer, index) => {
      const row = Math.floor(index / wide);
      const inRow = Math.min(wide, shown.length - row * wide);
      const px = x + ((index % wide) - (inRow - 1) / 2) * step;
      const py = y + (below ? row * 24 : -row * 24 + 24);
      const kind = mood(peer.state);
      lines.append(shape("path", { d: `M${hub[0]} ${hub[1]}Q${px} ${(hub[1] + py) / 2} ${px} ${py}`, class: `link-${kind}`, opacity: shown.length > 12 ? 0.45 : 0.9 }));
      const dot = shape("circle", { cx: px, cy: py, r: shown.length > wide ? 7 : 9, class: `dot dot-${kind}` });
      dot.append(shape("title", {}, `${peer.name} (${peer.address}) ${peer.state}${peer.reason ? ": " + peer.reason : ""}`));
      dot.addEventListener("click", () => choose(peer.name));
      dots.append(dot);
      if (labelled) dots.append(shape("text", { x: px, y: below ? py + 24 : py - 15, "text-anchor": "middle", class: "faint" }, short(peer.name, Math.floor(step / 7))));
    });
    const rows = Math.ceil(shown.length / wide);
    const more = group.total - shown.length;
    const label = summary(group) + (more > 0 ? ` (${count(more)} more not drawn)` : "");
    const ly = below ? y + rows * 24 + (labelled ? 22 : 8) : labelled ? 36 : 22;
    if (below) bottom = ly + 10;
    dots.append(shape("text", { x, y: ly, "text-anchor": "middle" }, label));
    half = Math.max(half, Math.abs(x - 450) + Math.max((Math.min(wide, shown.length) * step) / 2, label.length * 4));
    if (!below) top = 0;
  }
  svg.setAttribute("viewBox", `${450 - half} ${top} ${2 * half} ${bottom - top}`);
  const name = `${graph.service} ${graph.node}`;
  const wing = Math.max(60, name.length * 4.4);
  dots.append(shape("rect", { x: hub[0] - wing, y: hub[1] - 19, width: 2 * wing, height: 38, rx: 19, class: "hub" }));
  dots.append(shape("text", { x: hub[0], y: hub[1] + 5, "text-anchor": "middle", class: "hub-text" }, name));
}

const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

// A small chart: `series` are arrays of numbers or null, oldest first, on one scale from 0.
export function chart(figure, name, series, format) {
  const width = 300, height = 72, slots = 150;
  const top = Math.max(1e-9, ...series.flat().filter((value) => value !== null));
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
  const latest = series.map((values) => values.at(-1)).map((value) => (value === null || value === undefined ? "–" : format(value))).join(" / ");
  svg.append(shape("title", {}, `${name}: now ${latest}, at most ${format(top)} in the last five minutes`));
  svg.append(shape("line", { x1: 0, y1: height - 1, x2: width, y2: height - 1, class: "axis" }));
  series.forEach((values, index) => {
    let path = "", started = false;
    values.forEach((value, place) => {
      if (value === null || value === undefined) { started = false; return; }
      const x = (width * (slots - values.length + place + 1)) / slots;
      const y = height - 3 - ((height - 8) * value) / top;
      path += `${started ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      started = true;
    });
    if (path) svg.append(shape("path", { d: path, fill: "none", "stroke-width": 1.6, "vector-effect": "non-scaling-stroke", class: `series-${index}` }));
  });
  const caption = document.createElement("figcaption");
  const label = document.createElement("span");
  label.textContent = name;
  const value = document.createElement("b");
  value.textContent = latest;
  caption.append(label, value);
  figure.replaceChildren(caption, svg);
}
