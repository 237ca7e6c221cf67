// Put the npm package together, as it is packed and published:
//
//   node npm/build.mjs [FOLDER]          (npm/dist, if none is given)
//   npm publish npm/dist
//
// Nothing is compiled. The client itself is the file that the gateway serves, the version is that of the Python
// distribution, and the files beside the client (npm/src) import it as ./tokenwire.js.
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const served = join(root, "adapters", "tokenwire_adapters", "_static");
const target = resolve(process.argv[2] ?? join(here, "dist"));

const version = /__version__ = "(.*)"/.exec(readFileSync(join(root, "core", "tokenwire", "_version.py"), "utf8"))[1];
// `private` keeps the sources from being published in place of what is built here.
const { private: _, ...manifest } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
writeFileSync(join(target, "package.json"), `${JSON.stringify({ ...manifest, version: npmVersion(version) }, null, 2)}\n`);
for (const file of [
  ...filesOf(served),
  ...filesOf(join(here, "src")),
  join(here, "README.md"),
  join(root, "LICENSE"),
]) {
  copyFileSync(file, join(target, file.slice(dirname(file).length + 1)));
}

function filesOf(folder) {
  return readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => join(folder, name));
}

/** Python's pre-releases (1.2.0rc1, 1.2.0.dev3) as npm writes them (1.2.0-rc.1, 1.2.0-dev.3). */
function npmVersion(text) {
  return text.replace(/^(\d+\.\d+\.\d+)\.?(a|b|rc|dev)(\d+)$/, "$1-$2.$3");
}
