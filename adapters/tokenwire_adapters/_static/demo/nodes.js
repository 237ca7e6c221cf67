// What makes and redraws nodes of the page.

/** A new node from a template of the page. */
export function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Run `work` before the next frame, once; also where frames are not drawn. */
export function soon(work) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    const run = () => {
      planned = false;
      work();
    };
    if (document.hidden) setTimeout(run, 100);
    else requestAnimationFrame(run);
  };
}
