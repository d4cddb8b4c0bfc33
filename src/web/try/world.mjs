// What the parts of the try share: programs, browsers, and what a page shows.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

export const root = new URL("../../../", import.meta.url).pathname;
const bin = process.env.CHAT_BIN ?? `${root}target/debug`;
const isBundle = process.argv.includes("--bundle");
const processes = new Set();

export function start(program, args) {
  const child = spawn(`${bin}/${program}`, args, { stdio: ["pipe", "pipe", "inherit"] });
  processes.add(child);
  child.on("exit", () => processes.delete(child));
  const output = createInterface({ input: child.stdout });
  const lines = [];
  const waiting = [];
  output.on("line", (line) => {
    lines.push(line);
    for (const check of [...waiting]) check();
  });
  child.shows = (isIt) =>
    new Promise((found, failed) => {
      const timer = setTimeout(() => failed(new Error(`${program}: ${lines}`)), 30_000);
      const check = () => {
        const line = lines.find(isIt);
        if (line === undefined) return;
        clearTimeout(timer);
        waiting.splice(waiting.indexOf(check), 1);
        found(line);
      };
      waiting.push(check);
      check();
    });
  child.say = (text) => child.stdin.write(`${text}\n`);
  return child;
}

export async function serve(tcp, web, ...more) {
  const server = start("chat-server", [
    "--listen", tcp, "--web-listen", web, ...more,
    "--rate-limit", "off", "--frames-per-second-max", "off", "--bytes-per-second-max", "off",
  ]);
  const line = (scheme) => server.shows((it) => it.startsWith(`listening on ${scheme}://`));
  const address = async (scheme) => (await line(scheme)).slice("listening on ".length);
  return { server, tcp: await address("chat"), web: await address("http") };
}

export const at = (address) => address.split("://")[1];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // A page that comes from no address may not reach this machine otherwise.
  args: ["--no-sandbox", ...(isBundle ? ["--disable-features=LocalNetworkAccessChecks"] : [])],
});
export const problems = [];

const bundled = (name) => readFileSync(`bundle/${name}`, "utf8");
const serveBundle = (route) =>
  route.fulfill({
    body: bundled("page.html"),
    contentType: "text/html; charset=utf-8",
    headers: { "content-security-policy": bundled("csp.txt").trim() },
  });

export async function open(web, options = {}) {
  const context = await browser.newContext(options);
  if (isBundle) await context.route(web, serveBundle);
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    const isOffline = /ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|ERR_CONNECTION_RESET/;
    if (message.type() === "error" && !isOffline.test(message.text())) problems.push(message.text());
  });
  await page.goto(web);
  return page;
}

export async function join(page, name) {
  await page.getByLabel("Your name").fill(name);
  await page.keyboard.press("Enter");
  await page.locator("#room").waitFor();
}

export const say = async (page, text) => {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
};
export const hears = (page, text) =>
  page.locator("#log p", { hasText: text }).first().waitFor({ timeout: 30_000 });
export const notice = (page, text) =>
  page.locator("#log .notice", { hasText: text }).first().waitFor({ timeout: 60_000 });

export async function accessible(page, where) {
  await page.evaluate(readFileSync("node_modules/axe-core/axe.min.js", "utf8"));
  const found = await page.evaluate(() => globalThis.axe.run());
  const told = found.violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html)}`);
  assert.deepEqual(told, [], where);
}

export async function end() {
  await browser.close();
  for (const child of processes) child.kill("SIGKILL");
}
