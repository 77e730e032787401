"use strict";
// The shell's behaviour: ask for a key, show what the server rendered, look again every ten seconds while visible.

const LOOK_EVERY_MS = 10_000, PATIENCE_MS = 20_000, KEY = "stageroute.key", THEME = "stageroute.theme";
const $ = (id) => document.getElementById(id);
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const sections = new Map();  // what each section was made of
const pictures = new Map();  // drawn charts by address
let timer = 0, turn = 0, paused = false, all = { arms: "few", stages: "few", segments: "few" }, headline = "", focusNext = false;
let shownAddress = null, shownTag = null;  // what is shown, and its entity tag
let only = null;                           // the only group, where there is one only

class Refused extends Error {}

// --- colours -------------------------------------------------------------------------------------------------------

function chosenTheme() { try { return localStorage.getItem(THEME) || ""; } catch { return ""; } }
function isDark() { return (chosenTheme() || (systemIsDark.matches ? "dark" : "light")) === "dark"; }
function applyTheme() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  $("theme").value = chosenTheme();
  paint();
}

// --- asking --------------------------------------------------------------------------------------------------------

async function ask(address, { tag, patience = PATIENCE_MS } = {}) {
  const headers = {}, key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (tag) headers["If-None-Match"] = tag;
  let answer;
  try {
    answer = await fetch(address, { headers, cache: "no-store", signal: AbortSignal.timeout(patience) });
  } catch { throw new Error("The proxy does not answer."); }
  if (answer.status === 401 || answer.status === 403) throw new Refused(answer.status);
  return answer;
}

async function detailOf(answer) {
  try { const { detail, error } = await answer.json(); return String(detail?.message || detail || error?.message || ""); }
  catch { return ""; }
}

// --- what is looked at: the part of the address after "#" ----------------------------------------------------------------

function place() {
  const asked = new URLSearchParams(location.hash.slice(1));
  return { group: asked.get("group"), decision: asked.get("decision") };
}

async function look() {
  clearTimeout(timer);
  const mine = ++turn, stale = () => mine !== turn;
  $("content").setAttribute("aria-busy", "true");
  try {
    const { group, decision } = place();
    if (group !== null || only !== null) await showGroup(group ?? only, stale);
    else await showGroups(stale);
    if (decision !== null && !stale()) await receipt(decision, stale);
    if (!stale()) { trouble(""); updated(); }
  } catch (error) {
    if (stale()) return;
    if (error instanceof Refused) return login(error.message === "403"
      ? "This key may not look at routing. Use the master key, or ask for one that may."
      : "This key was not accepted. Look for a typing error, or use another one.");
    loggedIn();
    trouble(`${error.message} ${$("content").firstElementChild ? "What you see is older; the" : "The"} page tries again by itself.`);
  } finally {
    if (!stale()) {
      $("content").setAttribute("aria-busy", "false");
      if (!paused && !document.hidden && $("login").hidden) timer = setTimeout(look, LOOK_EVERY_MS);
    }
  }
}

async function showGroups(stale) {
  const html = await changed("page/groups", stale);
  if (html === null) return;
  const next = parsed(html), lonely = next.firstElementChild?.dataset.only;
  if (lonely) { only = lonely; shownTag = null; return showGroup(only, stale); }
  shown(next);
}

async function showGroup(group, stale) {
  const address = `page/group?name=${encodeURIComponent(group)}&arms=${all.arms}&stages=${all.stages}`
    + `&segments=${all.segments}`;
  const html = await changed(address, stale);
  if (html !== null) shown(parsed(html));
}

// What an address has to say now; null if that is what is shown already, or if the reader went elsewhere meanwhile.
async function changed(address, stale) {
  const answer = await ask(address, { tag: shownAddress === address ? shownTag : null });
  if (stale()) return null;
  if (answer.status === 404) { only = null; if (place().group !== null) location.hash = ""; }
  if (!answer.ok && answer.status !== 304) throw new Error(sentence(await detailOf(answer), answer.status));
  loggedIn();
  if (answer.status === 304) return null;
  const html = await answer.text();
  if (stale()) return null;
  shownAddress = address;
  shownTag = answer.headers.get("ETag");
  return html;
}

function parsed(html) { return new DOMParser().parseFromString(html, "text/html").body; }

function sentence(detail, status) {
  const text = detail || `The proxy answered ${status}.`;
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

// --- showing -------------------------------------------------------------------------------------------------------

function shown(next) {
  const content = $("content");
  const focused = document.activeElement?.id, kept = new Set();
  let before = null;
  for (const fresh of [...next.children]) {
    kept.add(fresh.id);
    let there = document.getElementById(fresh.id);
    if (!there || sections.get(fresh.id) !== fresh.outerHTML) {
      sections.set(fresh.id, fresh.outerHTML);
      const scrolled = new Map([...(there?.querySelectorAll(".scroll") || [])].map((box) => [box.id, box.scrollLeft]));
      const put = document.importNode(fresh, true);
      for (const canvas of put.querySelectorAll(".canvas")) keepPicture(there, canvas);
      there ? there.replaceWith(put) : before ? before.after(put) : content.prepend(put);
      there = put;
      for (const box of put.querySelectorAll(".scroll")) box.scrollLeft = scrolled.get(box.id) || 0;
      localTimes(put);
    }
    before = there;
  }
  for (const old of [...content.children]) if (!kept.has(old.id)) { sections.delete(old.id); old.remove(); }
  if (focused && document.activeElement === document.body) $(focused)?.focus({ preventScroll: true });
  const title = content.querySelector("h1");
  if (title && title.textContent !== headline) {
    headline = title.textContent;
    document.title = `${content.querySelector(".verdict.attention, [data-troubled]") ? "⚠ " : ""}${headline} – StageRoute`;
    $("announce").textContent = headline;
  }
  if (focusNext && title) { title.tabIndex = -1; title.focus({ preventScroll: true }); scrollTo(0, 0); }
  focusNext = false;
  $("nav").hidden = place().group === null;
  paint();
}

function keepPicture(old, canvas) {
  const there = old?.querySelector(`[data-kind="${canvas.dataset.kind}"]`);
  if (!there?.firstElementChild || there.dataset.group !== canvas.dataset.group) return;
  canvas.replaceChildren(there.firstElementChild);
  if (there.dataset.version === canvas.dataset.version && there.dataset.shows) canvas.dataset.shows = there.dataset.shows;
}

async function paint() {
  const canvases = document.querySelectorAll(".canvas");
  for (const canvas of canvases) {
    const { group, kind, version } = canvas.dataset, zone = -new Date().getTimezoneOffset();
    const width = Math.max(Math.floor(canvas.clientWidth), 1);
    const address = `page/chart?group=${encodeURIComponent(group)}&kind=${kind}`
      + `&theme=${isDark() ? "dark" : "light"}&width=${width}&zone=${zone}`;
    const name = `${version} ${address}`;
    if (canvas.dataset.shows === name) continue;
    canvas.dataset.shows = name;
    try {
      if (!pictures.has(name)) {
        const answer = await ask(address, { patience: 3 * PATIENCE_MS });
        if (!answer.ok) throw new Error(await detailOf(answer));
        pictures.set(name, await answer.text());
        if (pictures.size > 24) pictures.delete(pictures.keys().next().value);
      }
      if (canvas.dataset.shows !== name) continue;
      const svg = new DOMParser().parseFromString(pictures.get(name), "image/svg+xml").documentElement;
      canvas.replaceChildren(document.importNode(svg, true));
    } catch (error) {
      delete canvas.dataset.shows;
      if (error instanceof Refused) return;
      if (!canvas.querySelector("svg")) {
        canvas.textContent = `The picture cannot be drawn now; the numbers are complete without it. ${error.message}`;
      }
    }
  }
}

async function receipt(key, stale) {
  const answer = await ask(`page/decision?key=${encodeURIComponent(key)}`);
  if (!answer.ok && answer.status !== 404) throw new Error(sentence(await detailOf(answer), answer.status));
  const html = await answer.text();
  if (stale() || sections.get("answer") === html) return;
  const isNew = !sections.has("answer");
  sections.set("answer", html);
  $("answer").replaceChildren(...[...parsed(html).children].map((one) => document.importNode(one, true)));
  localTimes($("answer"));
  if (isNew) $("answer").querySelector("h2")?.focus();
}

function localTimes(root) {
  const write = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    if (time.dateTime) { time.title = time.textContent; time.textContent = write.format(new Date(time.dateTime)); }
  }
}

function updated() {
  const now = new Date(), time = $("updated").querySelector("time");
  time.dateTime = now.toISOString();
  time.textContent = now.toLocaleTimeString();
}

function trouble(text) {
  if ($("banner").textContent !== text) $("banner").textContent = text;
  $("banner").hidden = !text;
}

// --- the key -------------------------------------------------------------------------------------------------------

function loggedIn() {
  $("login").hidden = true;
  for (const id of ["forget", "pause", "updated", "find"]) $(id).hidden = false;
}

function login(why) {
  clearTimeout(timer);
  sessionStorage.removeItem(KEY);
  sections.clear(); pictures.clear();
  headline = "";
  shownAddress = shownTag = only = null;
  $("content").replaceChildren(); $("answer").replaceChildren();
  document.title = "StageRoute";
  for (const id of ["forget", "pause", "updated", "find", "nav"]) $(id).hidden = true;
  trouble("");
  $("login").hidden = false;
  $("key").value = "";
  $("key").setAttribute("aria-invalid", why ? "true" : "false");
  $("key-error").textContent = why; $("key-error").hidden = !why;
  $("key").focus();
}

// --- what people do ------------------------------------------------------------------------------------------------

function start() {
  applyTheme();
  $("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, $("key").value.trim());
    focusNext = true;
    look();
  });
  $("forget").addEventListener("click", () => { turn++; login(""); });
  $("theme").addEventListener("change", () => {
    try { $("theme").value ? localStorage.setItem(THEME, $("theme").value) : localStorage.removeItem(THEME); } catch { /* for this page only */ }
    applyTheme();
  });
  systemIsDark.addEventListener("change", applyTheme);
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    paused ? clearTimeout(timer) : look();
  });
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const asked = new URLSearchParams(location.hash.slice(1)), id = $("decision").value.trim();
    sections.delete("answer");
    id ? asked.set("decision", id) : asked.delete("decision");
    `#${asked}` === location.hash ? look() : location.hash = asked.toString();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-all], button[data-close]");
    if (!button) return;
    if (button.dataset.all) { all[button.dataset.all] = all[button.dataset.all] === "all" ? "few" : "all"; look(); }
    else {
      const asked = new URLSearchParams(location.hash.slice(1));
      asked.delete("decision");
      location.hash = asked.toString();
      $("decision").focus();
    }
  });
  let group = place().group;
  addEventListener("hashchange", () => {
    const now = place();
    if (now.decision === null) { sections.delete("answer"); $("answer").replaceChildren(); $("decision").value = ""; }
    else { sections.delete("answer"); $("decision").value = now.decision; }
    if (now.group !== group) { group = now.group; all = { arms: "few", stages: "few", segments: "few" }; focusNext = true; }
    if ($("login").hidden) look();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused && $("login").hidden) look(); else clearTimeout(timer); });
  let width = innerWidth;
  new ResizeObserver(() => { if (innerWidth !== width) { width = innerWidth; paint(); } }).observe(document.body);
  if (place().decision) $("decision").value = place().decision;
  sessionStorage.getItem(KEY) === null ? login("") : look();
}

start();
