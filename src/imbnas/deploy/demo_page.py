"""The page of `imbnas demo`: one HTML text that loads nothing from anywhere."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>imbnas demo</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 1.5rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } p { color: #52606d; }
#drop { display: block; border: 2px dashed #6b7785; border-radius: 8px; padding: 2.5rem; text-align: center; }
#drop.over, #drop:focus-within { background: #eef2f6; border-color: #1f5fa8; }
#drop input { position: absolute; opacity: 0; width: 1px; }
.image { display: flex; gap: 1rem; margin: 1rem 0; align-items: flex-start; flex-wrap: wrap; }
.image img { width: 8rem; height: 8rem; object-fit: contain; background: #eef2f6; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #c9d0d8; }
td.number { text-align: right; } tbody tr:first-child td { font-weight: 600; } .fault { color: #a61b1b; }
</style></head>
<body>
<h1>Which class is it?</h1>
<p id="about"></p>
<label id="drop">Drop images here, or choose files<input type="file" accept="image/*" multiple></label>
<div id="answers" aria-live="polite"></div>
<script>
"use strict";
const drop = document.getElementById("drop"), answers = document.getElementById("answers");
function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function table(found) {
  const made = element("table"), head = made.createTHead().insertRow(), body = made.createTBody();
  for (const name of ["class", "probability", "shot group"]) head.append(element("th", name));
  for (const one of found.classes) {
    const row = body.insertRow();
    row.append(element("td", one.class), element("td", (100 * one.probability).toFixed(1) + " %", "number"),
               element("td", one.group === null ? "not known" : one.group + "-shot (" + one.rows + " rows)"));
  }
  return made;
}
async function ask(file) {
  const entry = element("div", undefined, "image"), picture = element("img");
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name;
  entry.append(picture);
  answers.prepend(entry);
  try {
    const reply = await fetch("answer", { method: "POST", body: file, headers: { "X-Imbnas-Demo": "1" } });
    const found = await reply.json();
    entry.append(reply.ok ? table(found) : element("p", file.name + ": " + found.error, "fault"));
  } catch (error) {
    entry.append(element("p", file.name + ": no answer, is the command still running?", "fault"));
  }
}
async function all(files) { for (const file of files) await ask(file); }
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, event => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") all([...event.dataTransfer.files]);
  });
}
drop.querySelector("input").addEventListener("change", event => all([...event.target.files]));
fetch("about").then(reply => reply.json()).then(found => {
  document.title = found.model + " - imbnas demo";
  document.getElementById("about").textContent = found.text;
});
</script>
</body>
</html>
"""
