// Decodes, prepares and encodes an image with ONNX Runtime, and searches for it. Nothing leaves the browser.

import { prepare } from "./preprocess.js";
import { nearest } from "./search.js";

const byId = (id) => document.getElementById(id);
const fetched = async (name) => {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
};

/** Everything a search needs, loaded once. */
async function load() {
  const about = await (await fetched("about.json")).json();
  const base = new URL(about.runtime, document.baseURI).href;
  const [ort, paths, codes] = await Promise.all([
    import(`${base}ort.wasm.min.mjs`),
    fetched("paths.json").then((response) => response.json()),
    fetched("codes.bin").then(async (response) => new Uint8Array(await response.arrayBuffer())),
  ]);
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = 1; // more threads need headers that few servers send
  const session = await ort.InferenceSession.create("student.onnx", { executionProviders: ["wasm"] });
  return { about, ort, paths, codes, session };
}

export const ready = load();

/** Decodes to RGBA pixels as the encoder does: EXIF orientation applied, transparency on white, colours as stored. */
async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

/** The packed code of an image file. */
export async function encode(blob) {
  const { about, ort, session } = await ready;
  const { size } = about.transform;
  const pixels = prepare(await decode(blob), about.transform);
  const { packed } = await session.run({ images: new ort.Tensor("uint8", pixels, [1, 3, size, size]) });
  return packed.data;
}

/** The k nearest images of a packed code, as [{position, distance, path}]. */
export async function search(code, k) {
  const { codes, paths } = await ready;
  return nearest(code, codes, k).map((hit) => ({ ...hit, path: paths[hit.position] }));
}

const thumbnail = (position) => `thumbs/${position}.jpg`;
let asked = 0; // number of the latest search, the only one whose results are shown

function tell(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

function show(hits, bits) {
  byId("results").replaceChildren(
    ...hits.map(({ position, distance, path }) => {
      const item = byId("result").content.cloneNode(true);
      const image = item.querySelector("img");
      image.addEventListener("error", () => image.classList.add("gone"));
      image.src = thumbnail(position);
      item.querySelector("button").setAttribute("aria-label", `Search with ${path}, distance ${distance} of ${bits} bits`);
      item.querySelector("button").addEventListener("click", () => searchWithImage(position));
      item.querySelector("meter").max = bits;
      item.querySelector("meter").value = distance;
      item.querySelector(".distance").textContent = distance;
      item.querySelector(".path").textContent = path;
      item.querySelector(".path").title = path;
      return item;
    }),
  );
}

async function run(source, name, codeOf) {
  const number = (asked += 1);
  byId("query").src = source;
  byId("query").alt = `Query ${name}`;
  byId("asked").hidden = false;
  byId("name").textContent = name;
  byId("results").setAttribute("aria-busy", "true");
  tell("Searching …");
  try {
    const started = performance.now();
    const { about, paths } = await ready;
    const hits = await search(await codeOf(), Number(byId("count").value));
    if (number !== asked) return;
    show(hits, about.bits);
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    tell(`${hits.length} nearest of ${paths.length.toLocaleString("en")} images, in ${seconds} s`);
  } catch (error) {
    if (number !== asked) return;
    byId("results").replaceChildren();
    tell(`${name} cannot be searched: ${error.message}`, true);
  } finally {
    if (number === asked) byId("results").removeAttribute("aria-busy");
  }
}

let last = () => {};

function searchWithFile(blob, name) {
  const source = URL.createObjectURL(blob);
  last = () => run(source, name, () => encode(blob));
  return last();
}

function searchWithImage(position) {
  last = async () => {
    const { codes, paths, about } = await ready;
    const width = Math.ceil(about.bits / 8);
    return run(thumbnail(position), paths[position], () => codes.slice(position * width, (position + 1) * width));
  };
  window.scrollTo({ top: 0 });
  byId("choose").focus({ preventScroll: true });
  return last();
}

const imageIn = (transfer) => [...transfer.files].find((file) => file.type.startsWith("image/"));

function listen() {
  const file = byId("file");
  byId("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length) searchWithFile(file.files[0], file.files[0].name);
    file.value = ""; // so that choosing the same file again is a change too
  });
  byId("count").addEventListener("change", () => last());
  document.addEventListener("paste", (event) => {
    const image = imageIn(event.clipboardData);
    if (image) searchWithFile(image, image.name || "pasted image");
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) byId("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    const image = imageIn(event.dataTransfer);
    if (image) searchWithFile(image, image.name);
    else tell("That is not an image file.", true);
  });
}

if (byId("drop")) {
  listen();
  ready.then(
    ({ about, paths }) => {
      byId("about").textContent = `${paths.length.toLocaleString("en")} images, ${about.bits}-bit codes`;
      tell("Ready.");
      const start = new URLSearchParams(window.location.search).get("image"); // ?image=12 searches for image 12
      if (start !== null && Number(start) in paths) searchWithImage(Number(start));
    },
    (error) => tell(`The page cannot load: ${error.message}`, true),
  );
}
