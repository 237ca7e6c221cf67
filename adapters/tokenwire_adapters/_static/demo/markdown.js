// Markdown to DOM nodes, for text that nobody vouches for. No HTML is ever parsed: whatever the
// model writes becomes text nodes inside elements that are made here.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
// Bounded, so that no text makes it slow.
const INLINE = /(`+)([\s\S]{0,1500}?[^`])\1(?!`)|\*\*(?=\S)([\s\S]{0,1500}?\S)\*\*(?!\*)|\*(?=[^\s*])([\s\S]{0,1500}?[^\s*])\*(?!\*)|(?<!\w)_(?=\S)([\s\S]{0,1500}?\S)_(?!\w)|!?\[([^\]\n]*)\]\(([^()\s]*)\)|\\([!-/:-@[-`{-~])|\$(?=\S)([^$\n]{0,500}?\S)\$(?!\d)/;
const MAX_DEPTH = 6;
const MAX_BLOCK = 30_000; // characters; a longer block is shown as it is

/** What differs where the text is our own: the first level of headings, and which links there are. */
const settings = {
  topHeading: 3,
  link: (target) => (/^(https?:\/\/|mailto:)/i.test(target) ? target : null), // no other scheme becomes a link
};

export function configure(changes) {
  Object.assign(settings, changes);
}

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Cut Markdown into its top-level blocks: joining them gives the text back. */
export function blocks(text) {
  const whole = text.split(/(?<=\n)/);
  const lines = whole.map((line) => line.trimEnd());
  const pieces = [];
  let at = 0;
  while (at < lines.length) {
    const from = at;
    const line = lines[at];
    const fence = FENCE.exec(line);
    at++;
    if (line === "") {
      while (at < lines.length && lines[at] === "") at++;
    } else if (fence) {
      while (at < lines.length && !lines[at].trimStart().startsWith(fence[1])) at++;
      at = Math.min(at + 1, lines.length);
    } else if (HEADING.test(line) || RULE.test(line)) {
      // one line
    } else if (ITEM.test(line)) {
      while (at < lines.length && continuesList(lines, at)) at++;
    } else {
      const quoted = QUOTE.test(line);
      while (at < lines.length && lines[at] !== "" && ((quoted && QUOTE.test(lines[at])) || !startsBlock(lines[at]))) at++;
    }
    pieces.push(whole.slice(from, at).join(""));
  }
  return pieces;
}

function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) || QUOTE.test(line);
}

function continuesList(lines, at) {
  const line = lines[at];
  if (line !== "") return !RULE.test(line) && (ITEM.test(line) || /^\s/.test(line) || (lines[at - 1] !== "" && !startsBlock(line)));
  const next = lines[at + 1];
  return next !== undefined && next !== "" && (/^\s{2,}/.test(next) || ITEM.test(next));
}

/** Make the DOM node of one block; null for blank ones. */
export function render(block, depth = 0) {
  const text = block.replace(/\n+$/, "");
  if (text.trim() === "") return null;
  if (text.length > MAX_BLOCK) return make("pre", "", text);
  const lines = text.split("\n");
  const fence = FENCE.exec(lines[0]);
  if (fence) return code(lines, fence);
  const heading = HEADING.exec(lines[0]);
  if (heading) return make(`h${Math.min(6, heading[1].length + settings.topHeading - 1)}`, `level-${heading[1].length}`, ...inline(heading[2]));
  if (RULE.test(lines[0])) return make("hr");
  if (ITEM.test(lines[0])) return depth < MAX_DEPTH ? list(lines, depth) : make("p", "", text);
  if (QUOTE.test(lines[0])) return quote(lines, depth);
  if (lines.length > 1 && lines[0].includes("|") && TABLE_RULE.test(lines[1])) return table(lines);
  return make("p", "", ...inline(text));
}

/** Render a text into a fragment, all of it. */
export function renderAll(text, depth = 0) {
  const fragment = document.createDocumentFragment();
  for (const block of blocks(text)) {
    const node = render(block, depth);
    if (node) fragment.append(node);
  }
  return fragment;
}

function code(lines, fence) {
  const closed = lines.length > 1 && lines.at(-1).trim().startsWith(fence[1]);
  const body = lines.slice(1, closed ? -1 : undefined).join("\n");
  const pre = make("pre", "code", make("code", "", body));
  pre.tabIndex = 0;
  if (fence[2]) pre.dataset.language = fence[2];
  return pre;
}

function quote(lines, depth) {
  const inner = lines.map((line) => QUOTE.exec(line)?.[1] ?? line);
  if (depth >= MAX_DEPTH) return make("blockquote", "", inner.join("\n"));
  // Lines of a quotation stay lines: logbooks and verses are quoted as they are.
  const element = make("blockquote", "");
  element.append(renderAll(inner.join("\n"), depth + 1));
  return element;
}

function list(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const element = make(ordered ? "ol" : "ul", "");
  if (ordered) element.start = Number.parseInt(first[2], 10);
  const indent = first[1].length;
  let item = null;
  const flush = () => {
    if (item === null) return;
    const li = make("li", "");
    const cut = item.rest.reduce((least, line) => (line.trim() === "" ? least : Math.min(least, line.search(/\S/))), 8);
    const rest = item.rest.map((line) => line.slice(cut));
    const split = item.rest.findIndex((line) => line.trim() === "" || ITEM.test(line) || FENCE.test(line.trim()));
    const head = split < 0 ? rest : rest.slice(0, split);
    li.append(...inline([item.text, ...head].join("\n")));
    if (split >= 0) li.append(renderAll(rest.slice(split).join("\n"), depth + 1));
    element.append(li);
  };
  for (const line of lines) {
    const match = ITEM.exec(line);
    if (match && match[1].length <= indent + 1) {
      flush();
      item = { text: match[3], rest: [] };
    } else {
      item.rest.push(line);
    }
  }
  flush();
  return element;
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "").split(/(?<!\\)\|/).map((cell) => cell.trim());
}

function table(lines) {
  const aligns = cells(lines[1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : ""));
  const row = (line, tag) => {
    const tr = make("tr", "");
    cells(line).slice(0, aligns.length).forEach((cell, i) => {
      const td = make(cell ? tag : "td", aligns[i], ...inline(cell)); // no heading is empty
      if (td.tagName === "TH") td.scope = "col";
      tr.append(td);
    });
    return tr;
  };
  const head = make("thead", "", row(lines[0], "th"));
  const body = make("tbody", "", ...lines.slice(2).map((line) => row(line, "td")));
  const wrap = make("div", "table", make("table", "", head, body));
  wrap.tabIndex = 0;
  return wrap;
}

function inline(text, depth = 0) {
  const nodes = [];
  let rest = text;
  while (rest !== "") {
    const match = depth < MAX_DEPTH ? INLINE.exec(rest) : null;
    if (!match) break;
    if (match.index > 0) nodes.push(rest.slice(0, match.index));
    nodes.push(span(match, depth));
    rest = rest.slice(match.index + match[0].length);
  }
  if (rest !== "") nodes.push(rest);
  return nodes;
}

function span(match, depth) {
  const [all, , codeText, strong, em, em2, label, target, escaped, math] = match;
  if (codeText !== undefined) return make("code", "", codeText);
  if (strong !== undefined) return make("strong", "", ...inline(strong, depth + 1));
  if (em !== undefined || em2 !== undefined) return make("em", "", ...inline(em ?? em2, depth + 1));
  if (escaped !== undefined) return escaped;
  if (math !== undefined) return make("code", "math", math); // its source: nothing here sets formulas
  if (all.startsWith("!")) return make("em", "image", label); // none is loaded: what it shows is said
  const address = settings.link(target);
  if (address === null) return all;
  const link = make("a", "", ...inline(label || target, depth + 1));
  link.href = address;
  if (link.origin !== location.origin) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  return link;
}

/** Keeps an element showing a text that grows: blocks that did not change keep their nodes. */
export class LiveMarkdown {
  #element;
  #shown = [];

  constructor(element) {
    this.#element = element;
  }

  update(text) {
    const wanted = blocks(text);
    let same = 0;
    while (same < wanted.length && this.#shown[same]?.source === wanted[same]) same++;
    for (const { node } of this.#shown.splice(same)) node?.remove();
    for (const source of wanted.slice(same)) {
      const node = render(source);
      if (node) this.#element.append(node);
      this.#shown.push({ source, node });
    }
  }
}
