// A page that was rendered on a server.
import { hydrateRoot } from "react-dom/client";
import { page } from "./rendered.js";

window.problems = [];
hydrateRoot(document.getElementById("root"), page, { onRecoverableError: (error) => window.problems.push(String(error)) });
