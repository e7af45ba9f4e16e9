// The page: models and what they can be asked, the request, its answer, the same call as code, the load.
"use strict";

const $ = (id) => document.getElementById(id);
const LANGUAGES = { curl: asCurl, Python: asPython, JavaScript: asJavaScript };
const LONGEST = 1000; // characters of a value that the code shows
const state = { models: [], ability: "", language: "curl", running: null };

function tabs(holder, titles, chosen, choose) {
  holder.replaceChildren(...Object.entries(titles).map(([name, title]) => {
    const tab = element("button", {
      type: "button", role: "tab", "aria-selected": String(name === chosen), tabindex: name === chosen ? "0" : "-1",
      "data-name": name,
    }, title);
    tab.addEventListener("click", () => choose(name));
    tab.addEventListener("keydown", (event) => {
      const names = Object.keys(titles);
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = names[(names.indexOf(name) + step + names.length) % names.length];
      choose(next);
      holder.querySelector(`[data-name="${next}"]`).focus();
    });
    return tab;
  }));
}

function chosenModel() {
  return state.models.find((one) => one.name === $("model").value) ?? { abilities: [] };
}

function showAbilities() {
  const own = chosenModel().abilities ?? [];
  const able = Object.keys(ABILITIES).filter((name) => own.includes(name));
  if (!able.includes(state.ability)) state.ability = able[0] ?? "";
  tabs($("abilities"), Object.fromEntries(able.map((name) => [name, ABILITIES[name].title])), state.ability, (name) => {
    state.ability = name;
    showAbilities();
  });
  showForm();
}

// A file fills the field of its bytes, as a data URL; nothing is sent before the form is.
function fileField(one) {
  const input = element("input", { type: "file", accept: "image/*" });
  input.addEventListener("change", () => {
    const reader = new FileReader();
    reader.addEventListener("load", () => {
      $("form").elements[one.file].value = reader.result;
      showCode();
    });
    if (input.files.length) reader.readAsDataURL(input.files[0]);
  });
  return element("label", {}, one.label, input);
}

function field(one) {
  if (one.file) return fileField(one);
  const input = one.area ? element("textarea", { name: one.name, rows: 4 }, one.value ?? "")
    : element("input", { name: one.name, type: one.type ?? "text", value: one.value, min: one.min, max: one.max, step: one.step });
  return element("label", {}, one.label, input);
}

function showForm() {
  const ability = ABILITIES[state.ability];
  $("answer").replaceChildren();
  say("");
  if (!ability) {
    $("form").replaceChildren();
    say(chosenModel().abilities ? "This model can be asked nothing on this page." : "The model is not loaded; it is at its first request.");
    return;
  }
  const wide = ability.fields.filter((one) => one.type !== "number");
  const narrow = ability.fields.filter((one) => one.type === "number");
  $("form").replaceChildren(...wide.map(field), element("div", { class: "fields" }, ...narrow.map(field)),
    element("button", { type: "submit" }, "Ask"));
  showCode();
}

function given() {
  return Object.fromEntries(new FormData($("form")));
}

function call() {
  const ability = ABILITIES[state.ability];
  const body = ability.body(given());
  if (state.models.length > 1) body.model = $("model").value;
  return { path: ability.path, body };
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(`.${path}`, { ...options, headers });
  if (response.status === 401) $("token-label").hidden = false;
  if (!response.ok) throw new Error(reason(await response.json()));
  return response;
}

async function ask(event) {
  event.preventDefault();
  state.running?.abort();
  const ability = ABILITIES[state.ability], form = given(), { path, body } = call();
  const running = (state.running = new AbortController());
  const begun = performance.now();
  say("asking ...");
  try {
    const response = await request(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: running.signal,
    });
    if (ability.stream) {
      await stream(response, ability.before(form));
    } else {
      const answer = await response.json();
      $("answer").replaceChildren(...[ability.show(answer, form)].flat());
      say([`${Math.round(performance.now() - begun)} ms`, ...(answer.notices ?? [])].join("; "));
    }
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
}

function reason(answer) {
  return answer.error?.message ?? answer.error ?? "the server did not say why";
}

async function stream(response, before) {
  const text = element("span");
  $("answer").replaceChildren(element("p", { class: "text" }, element("span", { class: "given" }, before), text));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const one of events) {
      const piece = JSON.parse(one.replace(/^data: /, ""));
      if (piece.error) throw new Error(reason(piece));
      text.append(piece.text ?? "");
      if (piece.reason) say(`ended: ${piece.reason}`);
    }
  }
}

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", wrong);
}

function asCurl(url, body) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl ${url} \\\n  -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
}

function asPython(url, body) {
  const python = JSON.stringify(body, null, 4).replace(/: (true|false|null)/g, (_, word) => `: ${{ true: "True", false: "False", null: "None" }[word]}`);
  return `import httpx\n\nanswer = httpx.post("${url}", json=${python}, timeout=60)\nprint(answer.json())`;
}

function asJavaScript(url, body) {
  return `const answer = await fetch("${url}", {\n  method: "POST",\n  headers: { "Content-Type": "application/json" },\n` +
    `  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),\n});\nconsole.log(await answer.json());`;
}

function showCode() {
  tabs($("languages"), Object.fromEntries(Object.keys(LANGUAGES).map((name) => [name, name])), state.language, (name) => {
    state.language = name;
    showCode();
  });
  if (!ABILITIES[state.ability]) return;
  const { path, body } = call();
  for (const [name, value] of Object.entries(body)) {
    if (Array.isArray(value)) body[name] = value.map((each) => (each.length > LONGEST ? `${each.slice(0, LONGEST)}...` : each));
  }
  $("code").textContent = LANGUAGES[state.language](new URL(`.${path}`, location.href).href, body);
}

async function copy() {
  await navigator.clipboard.writeText($("code").textContent);
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
}

async function refresh() {
  try {
    const now = await (await request("/api/load")).json();
    $("load").textContent = `${now.requests} requests at work · ${now.waiting_tokens} tokens wait · ${now.tokens} tokens so far`;
    const models = await (await request("/api/models")).json();
    if (JSON.stringify(models) !== JSON.stringify(state.models)) {
      const before = $("model").value;
      state.models = models;
      $("model").replaceChildren(...models.map(({ name }) => element("option", {}, name)));
      if (models.some(({ name }) => name === before)) $("model").value = before;
      showAbilities();
    }
  } catch (error) {
    $("load").textContent = error instanceof TypeError ? "the server does not answer" : error.message;
  }
}

$("form").addEventListener("submit", ask);
$("form").addEventListener("input", showCode);
$("model").addEventListener("change", showAbilities);
$("token").addEventListener("change", () => {
  sessionStorage.setItem("token", $("token").value);
  refresh();
});
$("copy").addEventListener("click", copy);
refresh();
setInterval(refresh, 2000);
