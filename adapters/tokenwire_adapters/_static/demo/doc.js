// A page of the documentation that is installed with tokenwire, at the path that it has in the repository.

import { configure, renderAll } from "./markdown.js";

const [text, pages] = ["text", "pages"].map((id) => document.getElementById(id));
const ROOT = "/documents/";

/** The address of another page, with the theme of this one; null for what is not installed. */
function link(target, installed) {
  if (/^(https?:|mailto:)/i.test(target)) return target;
  if (target.startsWith("#")) return target;
  const url = new URL(target, location.origin + location.pathname);
  if (!installed.includes(url.pathname.slice(ROOT.length))) return null;
  return url.pathname + location.search + url.hash;
}

/** The fragment that links name a heading by, as in the repository. */
function fragment(heading) {
  return heading.textContent.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replace(/\s/g, "-");
}

const answer = await fetch(`${location.pathname}?source`);
const { source, installed } = await answer.json();
configure({ topHeading: 1, link: (target) => link(target, installed) });
text.append(renderAll(source));
for (const heading of text.querySelectorAll("h1, h2, h3, h4")) heading.id = fragment(heading);
for (const local of ["demo", "start"].map((id) => document.getElementById(id))) local.search = location.search;

const here = location.pathname.slice(ROOT.length);
for (const path of installed) pages.append(new Option(path.replace(/^docs\/|\.md$/g, ""), path, false, path === here));
pages.addEventListener("change", () => location.assign(ROOT + pages.value + location.search));
document.title = `${text.querySelector("h1")?.textContent ?? "tokenwire"} · tokenwire docs`;
document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
document.body.dataset.started = "true";
