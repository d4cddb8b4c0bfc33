// Makes bundle/page.html, one file that needs nothing else, and bundle/csp.txt, the
// policy that lets a browser run exactly that. The same input gives the same bytes.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const bundled = await build({
  entryPoints: ["page.ts"],
  bundle: true,
  minify: true,
  charset: "utf8",
  format: "esm",
  legalComments: "inline",
  target: "es2022",
  write: false,
});
const styled = await build({
  entryPoints: ["page.css"],
  minify: true,
  charset: "utf8",
  write: false,
});
const script = bundled.outputFiles[0].text.trim();
const style = styled.outputFiles[0].text.trim();
if (/<\/(script|style)|<!--/i.test(script + style)) throw new Error("it would end its element");

const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const policy = [
  "default-src 'none'",
  `script-src ${hash(script)}`,
  `style-src ${hash(style)}`,
  "connect-src 'self'",
  // The icon, and pictures that were fetched and looked at (src/web/pictures.ts).
  "img-src data: blob:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");
const page = readFileSync("page.html", "utf8")
  .replace("/* style */", () => style)
  .replace("/* script */", () => script);
mkdirSync("bundle", { recursive: true });
writeFileSync("bundle/page.html", page);
writeFileSync("bundle/csp.txt", `${policy}\n`);
