// What a model can be asked: the fields of each form, the request that they make, and how its answer is shown.
"use strict";

const area = (name, label, value) => ({ name, label, value, area: true });
const number = (name, label, value, min, max, step) => ({ name, label, value, type: "number", min, max, step });
const SAMPLE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIBAMAAAA2IaO4AAAAMFBMVEXA0IDAoIBw0IBwoIAw0IAA0IAgoIDQcICgcIBwcIAgcIDAMIDAAIBwIIAgMIAgAIDiWga+AAAAKUlEQVR42mP8/+/+B5b3//+/Z2JgYGBg2fP//X0o6++5Byzv3r2HSAAAo88Salf0Cp0AAAAASUVORK5CYII=";
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

const ABILITIES = {
  classify: {
    title: "Classify",
    fields: [area("text", "Text", "What a wonderful evening."), { name: "pair", label: "Second text, for a model of pairs" }],
    path: "/api/classify",
    body: (form) => ({ texts: [form.pair ? [form.text, form.pair] : form.text] }),
    show: (answer) => answer.answers.map((one) => one.scores && Object.keys(one.scores).length
      ? bars(Object.entries(one.scores)) : element("p", { class: "text" }, String(one.label))),
  },
  tag: {
    title: "Tag",
    fields: [area("text", "Text", "Marie Curie was born in Warsaw and worked in Paris.")],
    path: "/api/tag",
    body: (form) => ({ text: form.text }),
    show: (answer, form) => marked(form.text, answer.answers),
  },
  answer: {
    title: "Answer",
    fields: [
      { name: "question", label: "Question", value: "Where was Marie Curie born?" },
      area("context", "Context", "Marie Curie was born in Warsaw and worked in Paris."),
    ],
    path: "/api/answer",
    body: (form) => ({ question: form.question, context: form.context }),
    show: (answer, form) => answer.answers.map((one) => one.answer
      ? marked(form.context, [{ ...one, label: `${(100 * one.probability).toFixed(0)} %` }])
      : element("p", {}, "The context has no answer.")),
  },
  choose: {
    title: "Choose",
    fields: [
      area("question", "Question", "The plants did not grow, because"),
      area("choices", "Choices, one a line", "nobody gave them water.\nthe train was late."),
    ],
    path: "/api/choose",
    body: (form) => ({ question: form.question, choices: lines(form.choices) }),
    show: (answer, form) => bars(lines(form.choices).map((choice, at) => [choice, answer.answers[0].scores[at]])),
  },
  fill: {
    title: "Fill masks",
    fields: [area("text", "Text, with ___ where words are missing", "The ___ of France is ___."), number("top", "Words", 5, 1, 50, 1)],
    path: "/api/fill",
    body: (form) => ({ text: form.text, top: Number(form.top) }),
    show: (answer) => answer.answers.flatMap((mask, at) => [
      element("h2", {}, `Mask ${at + 1}`), bars(mask.map((one) => [one.token, one.probability])),
    ]),
  },
  generate: {
    title: "Generate",
    fields: [
      area("prompt", "Prompt", "Once upon a time"),
      number("max_tokens", "Tokens at most", 64, 1, 2048, 1),
      number("temperature", "Temperature, 0: the likeliest", 0.8, 0, 2, 0.1),
      number("top_p", "Nucleus", 0.95, 0.05, 1, 0.05),
    ],
    path: "/api/generate",
    stream: true,
    body: (form) => ({
      prompt: form.prompt, max_tokens: Number(form.max_tokens), temperature: Number(form.temperature),
      top_p: Number(form.temperature) ? Number(form.top_p) : 1, stream: true,
    }),
    before: (form) => form.prompt,
  },
  likelihood: {
    title: "Likelihood",
    fields: [area("texts", "Texts, one a line", "The dogs bark.\nThe dogs barks.")],
    path: "/api/likelihood",
    body: (form) => ({ texts: lines(form.texts) }),
    show: (answer, form) => grid(["text", "nats", "a token", "bits a byte"], lines(form.texts).map((text, at) => {
      const one = answer.answers[at];
      return [text, one.nats, one.nats / one.tokens, -one.nats / one.bytes / Math.LN2].map(
        (cell) => (typeof cell === "number" ? cell.toFixed(3) : cell));
    })),
  },
  see: {
    title: "Classify images",
    fields: [
      area("image", "Image, the bytes of its file in base64", SAMPLE),
      { label: "... or a file", file: "image" },
      area("labels", "Classes, one a line", "dog\ncat\nhouse"),
      { name: "template", label: "Text of a class, {} for its name", value: "A photo of a {}." },
    ],
    path: "/api/images/classify",
    body: (form) => ({ images: [form.image], labels: lines(form.labels), templates: [form.template] }),
    show: (answer, form) => [
      element("img", { class: "picture", alt: "The image that was asked about",
        src: form.image.startsWith("data:") ? form.image : `data:;base64,${form.image}` }),
      ...answer.answers.map((one) => bars(Object.entries(one.scores).sort((a, b) => b[1] - a[1]))),
    ],
  },
  embed: {
    title: "Similarity",
    fields: [area("texts", "Sentences, one a line", "A man is eating food.\nSomeone has a meal.\nThe train was late.")],
    path: "/embed",
    body: (form) => ({ inputs: lines(form.texts), normalize: true, truncate: true }),
    show: (answer, form) => matrix(lines(form.texts), answer),
  },
};
ABILITIES.score = { ...ABILITIES.classify, title: "Score" };
ABILITIES.write = {
  ...ABILITIES.generate,
  title: "Write",
  fields: [area("prompt", "Source", "translate English to German: The house is small."), ...ABILITIES.generate.fields.slice(1)],
  before: () => "",
};

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function bars(pairs) {
  const most = Math.max(...pairs.map(([, value]) => value), 1e-9);
  const rows = pairs.map(([label, value]) => element("tr", {},
    element("th", { scope: "row" }, label),
    element("td", {}, element("div", { class: "bar", style: `width: ${(100 * Math.max(value, 0)) / most}%` })),
    element("td", {}, value.toFixed(3))));
  return element("table", { class: "bars" }, element("tbody", {}, ...rows));
}

function grid(heads, rows) {
  const cells = (name, row) => row.map((cell, at) => element(at ? name : "th", at ? {} : { scope: "row" }, cell));
  return element("div", { class: "wide" }, element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells("td", row))))));
}

function matrix(texts, vectors) {
  const cosine = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);
  const rows = texts.map((text, row) => element("tr", {}, element("th", { scope: "row" }, `${row + 1}. ${text}`),
    ...texts.map((_, column) => {
      const value = cosine(vectors[row], vectors[column]);
      const shade = Math.max(0, Math.round(60 * value));
      return element("td", { style: `background: color-mix(in srgb, var(--bar) ${shade}%, transparent)` }, value.toFixed(2));
    })));
  const heads = texts.map((_, at) => element("th", { scope: "col" }, String(at + 1)));
  return element("div", { class: "wide" }, element("table", { class: "matrix" },
    element("thead", {}, element("tr", {}, element("td"), ...heads)), element("tbody", {}, ...rows)));
}

// Offsets count code points, as Python's do; JavaScript's strings count UTF-16 units.
function marked(text, marks) {
  const points = Array.from(text);
  const cut = (start, end) => points.slice(start, end).join("");
  const hues = {};
  const made = element("p", { class: "text" });
  let at = 0;
  for (const { start, end, label } of [...marks].sort((a, b) => a.start - b.start)) {
    hues[label] ??= (Object.keys(hues).length * 137 + 210) % 360;
    made.append(cut(at, start), element("mark", { style: `background: hsl(${hues[label]} 70% 50% / .28)` },
      cut(start, end), element("small", {}, label)));
    at = end;
  }
  made.append(cut(at));
  return made;
}
