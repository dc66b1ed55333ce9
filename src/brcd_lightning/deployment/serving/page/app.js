// Search by image. A query is a file from the user, or the id of an image of the index (?similar=ID in the URL). Each
// query is an entry in the browser's history. Files are kept for the lifetime of the page.
"use strict";

const element = (id) => document.getElementById(id);
const files = new Map(); // number in history.state -> File
const SEARCHES = { hamming: "Hamming", rescored: "rescored" };
const ORDERS = {
  hamming: "by Hamming distance, ties in the order of the index",
  rescored: "the best by Hamming distance, re-ranked by real values of the query",
};
let about = null; // answer of /healthz
let running = null; // AbortController of the current search
let preview = null; // object URL of the file that is shown

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const milliseconds = (value) => `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ms`;

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

function options() {
  const query = new URLSearchParams([["mode", "hamming"], ["mode", "rescored"], ["k", element("k").value]]);
  if (element("max-distance").value) query.set("max_distance", element("max-distance").value);
  return query;
}

// Query of the current history entry, or null.
function currentQuery() {
  const similar = new URLSearchParams(location.search).get("similar");
  if (similar !== null) return { id: similar };
  const file = files.get(history.state?.file);
  return file ? { file } : null;
}

function showQuery(query) {
  if (preview) URL.revokeObjectURL(preview);
  preview = query?.file ? URL.createObjectURL(query.file) : null;
  const picture = element("picture");
  picture.hidden = !query;
  if (query) picture.src = preview ?? `/images/${encodeURIComponent(query.id)}`;
  else picture.removeAttribute("src");
  element("name").hidden = !query;
  element("name").textContent = query?.file ? query.file.name || "pasted image" : query ? `image ${query.id} of the index` : "";
}

async function refusal(response) {
  try {
    return (await response.json()).detail;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

// Searches for the current query and shows the results.
async function search({ focus = false } = {}) {
  running?.abort();
  const query = currentQuery();
  showQuery(query);
  element("hint").hidden = Boolean(query);
  if (!query) {
    clear();
    say("");
    return;
  }
  if (!element("options").checkValidity()) {
    clear();
    say("Results must be 1 to 100, and bits 0 or more.", true);
    return;
  }
  if (query.file && about && query.file.size > about.max_upload_mb * 1e6) {
    clear();
    say(`The file is too large; at most ${about.max_upload_mb} MB are taken.`, true);
    return;
  }
  running = new AbortController();
  const { signal } = running;
  document.body.classList.add("loading");
  element("results").setAttribute("aria-busy", "true");
  say("Searching …");
  try {
    const request = query.file ? { method: "POST", body: query.file, signal } : { signal };
    const address = query.file ? "/search" : `/similar/${encodeURIComponent(query.id)}`;
    const response = await fetch(`${address}?${options()}`, request);
    if (!response.ok) throw new Error(await refusal(response));
    show(await response.json());
    if (focus) {
      element("results").focus({ preventScroll: true });
      scrollTo({ top: 0 });
    }
  } catch (error) {
    if (signal.aborted) return; // another search has begun
    clear();
    say(error instanceof TypeError ? "The server does not answer; is it still running?" : error.message, true);
  }
  document.body.classList.remove("loading");
  element("results").removeAttribute("aria-busy");
}

function clear() {
  document.body.classList.remove("loading");
  element("results").removeAttribute("aria-busy");
  element("columns").replaceChildren();
  element("details").hidden = true;
}

function show(answer) {
  element("details").hidden = false;
  showBits(answer.bits);
  showTimes(answer.ms);
  element("columns").replaceChildren(...answer.results.map((result) => column(result, answer.bits.length)));
  const hits = answer.results[0].hits;
  say(hits.length ? `${count(hits.length, "result")}, the nearest ${count(hits[0].distance, "bit")} away.` : "No image is that near; allow more bits.");
}

function showBits(bits) {
  const cells = [...bits].map((bit) => {
    const cell = document.createElement("i");
    cell.classList.toggle("on", bit === "1");
    return cell;
  });
  element("bits").replaceChildren(...cells);
  element("bits").setAttribute("aria-label", `${bits.length} bits: ${bits.match(/.{1,8}/g).join(" ")}`);
  element("bits").title = bits;
}

function showTimes(ms) {
  element("total").textContent = milliseconds(ms.decode + ms.encode + ms.search);
  for (const part of ["decode", "encode", "search"]) {
    document.querySelector(`#bar .${part}`).style.flexGrow = ms[part];
    document.querySelector(`#times .${part} dd`).textContent = milliseconds(ms[part]);
  }
}

function column(result, bits) {
  const made = element("column").content.cloneNode(true).firstElementChild;
  const title = `${result.paradigm} · ${SEARCHES[result.mode]}${result.exact ? "" : " · approximate"}`;
  made.querySelector("h3").textContent = title;
  made.querySelector(".order").textContent = ORDERS[result.mode];
  made.querySelector("ol").setAttribute("aria-label", title);
  made.querySelector("ol").append(...result.hits.map((hit, place) => item(hit, place + 1, bits)));
  if (result.ties_left_out) {
    made.querySelector(".left-out").textContent = `${count(result.ties_left_out, "more image")} at the distance of the last.`;
  }
  return made;
}

function item(hit, rank, bits) {
  const made = element("hit").content.cloneNode(true).firstElementChild;
  const button = made.querySelector("button");
  const distance = count(hit.distance, "bit");
  const ties = hit.ties ? `${hit.ties.toLocaleString("en")} tied` : "no ties";
  const score = hit.score === null ? "" : `score ${hit.score.toFixed(1)}, `;
  button.dataset.id = hit.id;
  button.title = hit.path;
  button.setAttribute("aria-label", `${rank}: ${hit.path}, ${distance} of ${bits}, ${score}${ties}. Search from it.`);
  button.querySelector(".rank").textContent = rank;
  button.querySelector(".distance").textContent = distance;
  button.querySelector(".more").textContent = score + ties;
  button.querySelector(".path").textContent = hit.path;
  const image = button.querySelector("img");
  image.addEventListener("error", () => image.replaceWith("file is gone"));
  image.src = hit.thumbnail;
  return made;
}

// Highlights the image under the pointer or focus in all columns.
function mark(event) {
  const id = event.target.closest?.("button[data-id]")?.dataset.id;
  const leaves = event.type === "pointerout" || event.type === "focusout";
  for (const button of element("columns").querySelectorAll("button")) {
    button.classList.toggle("same", !leaves && button.dataset.id === id);
  }
}

function ask(file) {
  const number = files.size;
  files.set(number, file);
  history.pushState({ file: number }, "", "/");
  search();
}

function firstImage(list) {
  return [...(list ?? [])].find((file) => file.type.startsWith("image/")) ?? list?.[0];
}

function listen() {
  element("file").addEventListener("change", (event) => {
    if (event.target.files.length) ask(event.target.files[0]);
    event.target.value = ""; // the same file may be chosen again
  });
  element("options").addEventListener("change", () => search());
  element("options").addEventListener("submit", (event) => event.preventDefault());
  element("columns").addEventListener("click", (event) => {
    const button = event.target.closest("button[data-id]");
    if (!button) return;
    history.pushState(null, "", `/?similar=${button.dataset.id}`);
    search({ focus: true });
  });
  for (const kind of ["pointerover", "pointerout", "focusin", "focusout"]) element("columns").addEventListener(kind, mark);
  addEventListener("popstate", () => search({ focus: true }));
  addEventListener("paste", (event) => {
    const file = firstImage(event.clipboardData?.files);
    if (file) ask(file);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    element("drop").classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) element("drop").classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    element("drop").classList.remove("over");
    const file = firstImage(event.dataTransfer?.files);
    if (file) ask(file);
    else say("That was not a file.", true);
  });
}

async function introduce() {
  try {
    about = await (await fetch("/healthz")).json();
    element("about").textContent = `${count(about.images, "image")}, ${about.bits} bits each, ${about.paradigms.join(" and ")}`;
    element("max-distance").max = about.bits;
  } catch {
    say("The server does not answer; is it still running?", true);
  }
}

listen();
introduce();
search();
