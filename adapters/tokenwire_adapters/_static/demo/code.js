// The panel with the code that runs. It is beside the screens where there is room, else over them.

const $ = (id) => document.getElementById(id);

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** One line; those that tokenwire adds end with `# new`. */
function line(text) {
  return make(text.endsWith("# new") ? "mark" : "span", "line", `${text}\n`);
}

function piece({ title, file, code }) {
  const source = make("pre", "", make("code", "", ...code.split("\n").map(line)));
  source.tabIndex = 0;
  source.setAttribute("aria-label", title);
  return make("section", "", make("h3", "", title), source, make("p", "file", file));
}

/** Show the pieces, and have the button open and close their panel. */
export function showCode(pieces) {
  const [panel, button] = [$("code"), $("show-code")];
  const wide = matchMedia("(min-width: 1160px)");
  let chosen = null; // by the visitor; else the room decides
  const open = () => chosen ?? wide.matches;
  const draw = () => {
    panel.hidden = !open();
    button.setAttribute("aria-expanded", String(open()));
  };
  panel.append(...pieces.map(piece));
  button.hidden = pieces.length === 0;
  if (button.hidden) return;
  button.addEventListener("click", () => {
    chosen = !open();
    draw();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation(); // it stops the agent elsewhere
    chosen = false;
    draw();
    button.focus();
  });
  wide.addEventListener("change", draw);
  draw();
}
