// What the page shows, asked from the service that serves it. No address, no prefix and no reason is ever
// written as markup: everything goes through textContent.

import { ROLES, chart, count, mood, picture } from "./draw.js";

const $ = (id) => document.getElementById(id);
const PAGE = 50, KEPT = 150, EVENTS = 300;
const state = { sort: "state", descending: false, peers: 0, routes: 0, open: null, token: sessionStorage.getItem("cairn-token") ?? "" };

class Failed extends Error {}

async function ask(path, query = {}, headers = {}) {
  const wanted = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== undefined));
  const url = `${path}${[...wanted].length ? "?" + wanted : ""}`;
  const answer = await fetch(url, { headers: { ...(state.token ? { Authorization: `Bearer ${state.token}` } : {}), ...headers }, cache: "no-store" });
  if (answer.status === 401) { $("ask").hidden = false; throw new Failed("a token is wanted"); }
  if (headers.Accept) return answer;
  const document = await answer.json();
  if (!answer.ok) throw new Failed(document.error ?? answer.statusText);
  return document;
}

function make(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function ago(moment) {
  const seconds = Math.max(0, (Date.now() - Date.parse(moment)) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

function time(moment) {
  const made = make("time", ago(moment));
  made.dateTime = moment;
  made.title = moment;
  return made;
}

const sum = (peer, what) => peer.families.reduce((total, family) => total + family[what], 0);
const proper = { IDLE: "Idle", CONNECT: "Connect", ACTIVE: "Active", OPENSENT: "OpenSent", OPENCONFIRM: "OpenConfirm", ESTABLISHED: "Established" };

// The head and the numbers

const sessions = (number) => `${count(number)} session${number === 1 ? "" : "s"}`;

async function showStatus() {
  const status = await ask("api/v1/status");
  const name = `${status.service} ${status.node}`;
  $("title").textContent = name;
  const { total, established } = status.peers;
  document.title = `${established}/${total} ${name} – Cairn`;
  $("software").textContent = `cairn ${status.software}, started ${ago(status.started_at)} ago`;
  const verdict = $("verdict");
  const well = status.healthy && status.ready && established === total;
  verdict.className = `verdict ${well ? "good" : status.healthy && status.ready ? "wait" : "bad"}`;
  const text = status.mode !== "running" ? status.mode : status.healthy ? (status.ready ? (established === total ? "Well" : "Degraded") : "Not ready") : "Unhealthy";
  const line = `${text}: ${established < total ? count(established) + " of " : total > 1 ? "all " : ""}${sessions(total)} ${total === 1 ? "is" : "are"} Established${status.healthy && status.ready ? "" : " – " + status.reason}`;
  if (verdict.textContent !== line) verdict.textContent = line;
  const store = status.datastore;
  facts({
    Sessions: `${count(established)} / ${count(total)}`,
    Flaps: count(status.peers.flaps),
    "AS · router ID": `${status.asn ?? "–"} · ${status.router_id || "–"}`,
    Up: ago(status.started_at),
    Datastore: store === null ? "none" : store.current ? "current" : `behind for ${ago(store.since)}`,
    ...state.totals,
  });
}

function facts(values) {
  $("facts").replaceChildren(...Object.entries(values).map(([name, value]) => {
    const box = make("div");
    box.append(make("dt", name), make("dd", value));
    return box;
  }));
}

// The picture

async function showPicture() {
  const graph = await ask("api/v1/graph");
  picture($("picture"), graph, (name) => { $("peer-search").value = name; $("peer-state").value = ""; state.peers = 0; showPeers(); $("sessions").focus(); });
  $("roles").replaceChildren(...graph.groups.map((group) => {
    const up = group.states.ESTABLISHED ?? 0;
    const button = make("button", `${ROLES[group.role]}: ${count(up)} of ${count(group.total)} up`, up === group.total ? "good" : "wait");
    button.type = "button";
    button.addEventListener("click", () => { $("peer-state").value = up === group.total ? "" : "down"; $("peer-search").value = ""; state.peers = 0; showPeers(); $("sessions").focus(); });
    return button;
  }));
}

// The sessions

async function showPeers() {
  const answer = await ask("api/v1/peers", {
    search: $("peer-search").value.trim(), state: $("peer-state").value,
    sort: (state.descending ? "-" : "") + state.sort, offset: state.peers, limit: PAGE,
  });
  if (state.peers >= answer.total && state.peers > 0) { state.peers = 0; return showPeers(); }
  const down = answer.total - (answer.states.ESTABLISHED ?? 0);
  const text = `${sessions(answer.total)}, ${count(down)} not Established`;
  if ($("peer-count").textContent !== text) $("peer-count").textContent = text;
  pages("peers", state.peers, answer.total, PAGE);
  const focused = document.activeElement?.dataset?.peer;
  const rows = answer.peers.flatMap((peer) => peerRows(peer));
  $("peers").tBodies[0].replaceChildren(...rows);
  if (focused !== undefined) [...$("peers").querySelectorAll("button.plain")].find((each) => each.dataset.peer === focused)?.focus();
  for (const head of $("peers").querySelectorAll("th[data-sort]")) {
    if (head.dataset.sort === state.sort) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

function peerRows(peer) {
  const row = make("tr");
  const opener = make("button", peer.name, "plain");
  opener.type = "button";
  opener.dataset.peer = peer.name;
  opener.setAttribute("aria-expanded", String(state.open === peer.name));
  opener.addEventListener("click", () => { state.open = state.open === peer.name ? null : peer.name; showPeers(); });
  const named = make("td");
  named.append(opener);
  const since = make("td");
  since.append(time(peer.since));
  const session = make("td", proper[peer.state] ?? peer.state, mood(peer.state));
  if (peer.restarting) session.textContent += " (restarting)";
  else if (!peer.established && peer.last_reason) session.textContent += `: ${peer.last_reason}`;
  session.classList.add("reason");
  row.append(named, session, since, make("td", peer.address), make("td", peer.asn ?? "–", "number"), make("td", peer.kind),
    make("td", count(sum(peer, "received")), "number"), make("td", count(sum(peer, "rejected")), "number"),
    make("td", count(sum(peer, "advertised")), "number"), make("td", count(peer.flaps), "number"), make("td", count(peer.lag), "number"));
  if (state.open !== peer.name) return [row];
  const more = make("tr", "", "more"), cell = make("td");
  cell.colSpan = 11;
  const facts = [peer.description, peer.last_reason && `last reason: ${peer.last_reason}${peer.last_reason_at ? ` (${ago(peer.last_reason_at)} ago)` : ""}`, peer.bgp_identifier && `BGP Identifier ${peer.bgp_identifier}`,
    peer.hold_time && `hold time ${peer.hold_time} s`, peer.node && `node ${peer.node}`];
  cell.append(make("p", facts.filter(Boolean).join(" · ")));
  for (const family of peer.families)
    cell.append(make("p", `${family.family}: received ${count(family.received)}, accepted ${count(family.accepted)}, rejected ${count(family.rejected)}, announced ${count(family.advertised)}${family.end_of_rib ? ", End-of-RIB received" : ""}`));
  const messages = (way) => Object.entries(peer[`messages_${way}`]).map(([kind, number]) => `${count(number)} ${kind}`).join(", ");
  cell.append(make("p", `messages received: ${messages("received") || "–"}; sent: ${messages("sent") || "–"}`));
  for (const [direction, text] of [["in", "Routes received"], ["out", "Routes announced"]]) {
    const button = make("button", text);
    button.type = "button";
    button.addEventListener("click", () => { $("route-prefix").value = ""; $("route-peer").value = peer.name; $("route-direction").value = direction; state.routes = 0; showRoutes(); $("route-query").scrollIntoView(); $("route-prefix").focus(); });
    cell.append(button, " ");
  }
  more.append(cell);
  return [row, more];
}

function pages(name, offset, total, size) {
  $(`${name}-page`).textContent = total ? `${count(offset + 1)}–${count(Math.min(total, offset + size))} of ${count(total)}` : "nothing found";
  $(`${name}-back`).disabled = offset === 0;
  $(`${name}-next`).disabled = offset + size >= total;
}

// The routes

async function showRoutes() {
  try {
    const answer = await ask("api/v1/routes", {
      prefix: $("route-prefix").value.trim(), direction: $("route-direction").value, peer: $("route-peer").value.trim(),
      longer: $("route-longer").checked ? "true" : "", offset: state.routes, limit: PAGE,
    });
    $("route-count").textContent = `${count(answer.total)} found`;
    pages("routes", state.routes, answer.total, PAGE);
    let before = null;
    $("routes").tBodies[0].replaceChildren(...answer.routes.map((route) => {
      const first = route.prefix !== before;
      before = route.prefix;
      const row = make("tr", "", `${first ? "first" : ""} ${route.best ? "" : "loser"}`.trim());
      const star = make("td", route.best ? "★" : "", "star");
      star.setAttribute("aria-label", route.best ? "best" : "not best");
      row.append(make("td", first ? route.prefix : ""), star,
        make("td", route.ineligible ? `may not compete: ${route.ineligible}` : route.reason + (route.stale ? " (stale)" : ""), "wrap"),
        make("td", route.next_hop), make("td", route.peer), make("td", route.as_path || "–"),
        make("td", route.local_pref ?? "–", "number"), make("td", route.med ?? "–", "number"),
        make("td", [...route.communities, ...route.large_communities].join(" ") || "–", "wrap"));
      return row;
    }));
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    $("route-count").textContent = error.message;
  }
}

// The charts

const kept = new Map();
let last = null;

function keep(name, values, format) {
  const series = kept.get(name) ?? { lists: values.map(() => []), format, figure: $("charts").appendChild(make("figure")) };
  kept.set(name, series);
  values.forEach((value, index) => { series.lists[index].push(value); if (series.lists[index].length > KEPT) series.lists[index].shift(); });
  chart(series.figure, name, series.lists, series.format);
}

const rate = (number) => `${number >= 100 ? count(Math.round(number)) : number.toFixed(1)} /s`;
const duration = (seconds) => (seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 2 : 0)} ms` : `${seconds.toFixed(1)} s`);

async function showCharts() {
  const answer = await ask("api/v1/samples");
  const now = Date.parse(answer.at) / 1000;
  const known = new Map(answer.samples.map((sample) => [sample.name + Object.values(sample.labels).map((label) => ` ${label}`).join(""), sample]));
  for (const each of answer.distributions) if (each.count) keep(`${each.help.replace(/\.$/, "")} (median / 99 %)`, [each.p50, each.p99], duration);
  for (const [name, sample] of known) {
    const title = sample.help.replace(/\.$/, "") + Object.values(sample.labels).map((label) => `, ${label}`).join("");
    if (sample.kind === "gauge") keep(title, [sample.value], (value) => count(Math.round(value)));
    else if (last && last.values.has(name) && now > last.now) keep(title, [Math.max(0, (sample.value - last.values.get(name)) / (now - last.now))], rate);
  }
  last = { now, values: new Map([...known].map(([name, sample]) => [name, sample.value])) };
  const value = (name) => known.get(name)?.value;
  state.totals = { Received: count(value("prefixes_received") ?? 0), Rejected: count(value("prefixes_rejected") ?? 0), Announced: count(value("prefixes_advertised") ?? 0) };
}

// The events

let paused = false;
const waiting = [];

function showEvent(event) {
  if (paused) { waiting.push(event); if (waiting.length > EVENTS) waiting.shift(); return; }
  const kind = { info: "", warning: "wait", error: "bad" }[event.severity];
  const item = make("li");
  item.dataset.severity = event.severity;
  const moment = make("time", new Date(event.at).toLocaleTimeString("en-GB"));
  moment.dateTime = moment.title = event.at;
  item.append(moment, make("span", event.kind, `kind ${kind}`), make("span", event.message, kind));
  item.hidden = $("event-worry").checked && event.severity === "info";
  $("events").prepend(item);
  while ($("events").children.length > EVENTS) $("events").lastChild.remove();
}

async function follow() {
  let after = 0, wait = 1000;
  for (;;) {
    try {
      const answer = await ask("api/v1/events", { after }, { Accept: "text/event-stream" });
      if (!answer.ok) throw new Failed(answer.statusText);
      $("live").textContent = "live";
      wait = 1000;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += value;
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) {
          const data = part.split("\n").find((line) => line.startsWith("data: "));
          if (!data) continue;
          const event = JSON.parse(data.slice(6));
          after = event.id;
          showEvent(event);
          if (event.kind.startsWith("session.")) soon();
        }
      }
    } catch (error) {
      if (error instanceof SyntaxError || error instanceof ReferenceError) throw error;
    }
    $("live").textContent = "not connected, trying again";
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(15000, wait * 2);
    try { const { last } = await ask("api/v1/events", { limit: 0 }); if (last < after) after = 0; } catch { /* still away */ }
  }
}

// When what is asked

let due = null;
function soon() {
  due ??= setTimeout(() => { due = null; refresh(); }, 300);
}

async function refresh() {
  if (document.hidden) return;
  try {
    await showStatus();
    await Promise.all([showPicture(), showPeers()]);
  } catch (error) {
    $("verdict").className = "verdict bad";
    $("verdict").textContent = error instanceof Failed ? `Not shown: ${error.message}` : "The service does not answer";
  }
}

async function tick() {
  if (!document.hidden) try { await showCharts(); } catch { /* told by refresh */ }
  setTimeout(tick, 2000);
}

const sizes = { peers: () => showPeers(), routes: () => showRoutes() };
for (const name of ["peers", "routes"]) {
  $(`${name}-back`).addEventListener("click", () => { state[name] = Math.max(0, state[name] - PAGE); sizes[name](); });
  $(`${name}-next`).addEventListener("click", () => { state[name] += PAGE; sizes[name](); });
}
for (const head of $("peers").querySelectorAll("th[data-sort]"))
  head.firstElementChild.addEventListener("click", () => {
    const same = state.sort === head.dataset.sort;
    state.descending = same ? !state.descending : ["received", "rejected", "advertised", "flaps", "lag", "since"].includes(head.dataset.sort);
    state.sort = head.dataset.sort;
    state.peers = 0;
    showPeers();
  });
let typing = null;
$("peer-search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { state.peers = 0; showPeers(); }, 200); });
$("peer-state").addEventListener("change", () => { state.peers = 0; showPeers(); });
$("peer-filter").addEventListener("submit", (event) => event.preventDefault());
$("route-query").addEventListener("submit", (event) => { event.preventDefault(); state.routes = 0; showRoutes(); });
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value;
  sessionStorage.setItem("cairn-token", state.token);
  $("ask").hidden = true;
  refresh();
});
$("event-worry").addEventListener("change", () => { for (const item of $("events").children) item.hidden = $("event-worry").checked && item.dataset.severity === "info"; });
$("event-pause").addEventListener("click", () => {
  paused = !paused;
  $("event-pause").setAttribute("aria-pressed", String(paused));
  if (!paused) waiting.splice(0).forEach(showEvent);
});
const THEMES = ["automatic", "light", "dark"];
function theme(name) {
  if (name === "automatic") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  $("theme").textContent = `Theme: ${name}`;
  localStorage.setItem("cairn-theme", name);
}
$("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(localStorage.getItem("cairn-theme") ?? "automatic") + 1) % 3]));
theme(localStorage.getItem("cairn-theme") ?? "automatic");
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

const wanted = new URLSearchParams(location.hash.slice(1));  // #prefix=10.0.0.1&peer=x&state=down: links into the page
if (wanted.get("theme")) theme(wanted.get("theme"));
$("route-prefix").value = wanted.get("prefix") ?? "";
$("route-peer").value = wanted.get("peer") ?? "";
$("peer-search").value = wanted.get("search") ?? "";
if (wanted.get("state")) $("peer-state").value = wanted.get("state");
if (wanted.get("direction")) $("route-direction").value = wanted.get("direction");
if (wanted.get("open")) state.open = wanted.get("open");

await tick();
await refresh();
showRoutes();
setInterval(refresh, 5000);
follow();
