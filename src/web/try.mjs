// Tries the page in a real browser: `npm run try`, after `cargo build` and `npm run build`.
//
// Three browsers and a terminal's client talk, in the room, under topics and alone; the
// server is started again; a browser goes offline and comes back; 10,000 messages; files,
// cut and gone on with; hostile names, texts and servers; a phone; axe. `try/` has the
// parts. With `--screenshots` it also renews docs/page-*.png. With `--bundle` the page is
// the one in bundle/, whatever the server has embedded. CHROMIUM names another browser than
// `chromium`, and CHAT_BIN another folder of programs than target/debug.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { lies } from "./try/bent.mjs";
import { files } from "./try/files.mjs";
import { pictures } from "./try/pictures.mjs";
import { topics } from "./try/topics.mjs";
import {
  accessible, at, end, hears, join, notice, open, problems, say, serve, start,
} from "./try/world.mjs";

const data = mkdtempSync(`${tmpdir()}/chat-page-`);
let { server, tcp, web } = await serve("127.0.0.1:0", "127.0.0.1:0");
try {
  // axe is put into the page as a script, which the page's policy forbids.
  const alice = await open(web, { bypassCSP: true });
  await accessible(alice, "joining");
  await join(alice, "Alice");
  const bob = await open(web, { colorScheme: "dark", bypassCSP: true });
  await join(bob, "Bob");
  const phone = await open(web, { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  await join(phone, "Carol");
  const terminal = start("chat-client", ["--listen", tcp, "dave"]);
  await notice(alice, "dave joined");

  console.log("talking");
  await say(alice, "hello all");
  await Promise.all([hears(bob, "hello all"), hears(phone, "hello all")]);
  await terminal.shows((line) => line === "@Alice: hello all");
  await alice.locator(".own .state", { hasText: "sent" }).first().waitFor();
  terminal.say("hello from a terminal, @Alice");
  await hears(alice, "from a terminal");
  assert.equal(await alice.locator(".mention").count(), 1);
  assert.equal(await bob.locator(".mention").count(), 0);
  await phone.getByRole("button", { name: "4 here" }).click();
  await phone.locator("#who-list li", { hasText: "dave" }).waitFor();
  await phone.getByRole("button", { name: "4 here" }).click();
  await say(bob, "a link: https://example.org/a?b=c. And one\nin two lines");
  await hears(alice, "in two lines");
  const link = alice.locator("#log a").first();
  assert.equal(await link.getAttribute("href"), "https://example.org/a?b=c");

  console.log("a name that is taken");
  const other = await open(web);
  await other.getByLabel("Your name").fill("alice");
  await other.keyboard.press("Enter");
  await other.getByText("This name is taken").waitFor();
  await other.context().close();

  console.log("hostile texts");
  const hostile = [
    "<img src=x onerror=document.title='pwned'><script>document.title='pwned'</script>",
    "right \u202e to left \u2066 and \u200b hidden \u00ad too",
    "javascript:alert(1) https://user@evil.example/ http://[::1 data:text/html,x",
    `z${"\u0301".repeat(300)}algo`,
    "Alice\u2028: forged",
    "wide ".repeat(600),
    "x".repeat(3_000),
  ];
  for (const text of hostile) terminal.say(text);
  terminal.say("that was all");
  await hears(alice, "that was all");
  assert.doesNotMatch(await alice.title(), /pwned/);
  assert.equal(await alice.locator("#log img, #log script").count(), 0);
  assert.ok((await alice.locator("#log .escape", { hasText: "\\u{202e}" }).count()) >= 1);
  const links = await alice.locator("#log a").evaluateAll((all) => all.map((it) => it.href));
  assert.deepEqual(links, ["https://example.org/a?b=c"]);
  const isWide = () => document.documentElement.scrollWidth > innerWidth;
  assert.equal(await phone.evaluate(isWide), false);

  await accessible(alice, "the room, light");
  await accessible(bob, "the room, dark");

  await topics({ web, tcp, alice, bob, phone, terminal });
  await accessible(alice, "topics and people, light");
  await accessible(bob, "topics and people, dark");

  console.log("10,000 messages");
  const began = Date.now();
  const flood = Array.from({ length: 10_000 }, (_, index) => `line ${index} of a flood`);
  await alice.evaluate(() => {
    globalThis.longest = 0;
    let last = performance.now();
    const frame = (now) => {
      globalThis.longest = Math.max(globalThis.longest, now - last);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  terminal.say(flood.join("\n"));
  await alice.locator("#log p", { hasText: "line 9999 of" }).waitFor({ timeout: 120_000 });
  assert.ok((await alice.locator("#log > div").count()) <= 500);
  const session = await alice.context().newCDPSession(alice);
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  const longest = await alice.evaluate(() => globalThis.longest);
  console.log(`  in ${Date.now() - began} ms, heap ${(usedSize / 1e6).toFixed(1)} MB, longest frame ${longest.toFixed(0)} ms`);
  assert.ok(usedSize < 50e6, `${usedSize}`);

  console.log("unread while scrolled up");
  await alice.locator("#scroller").evaluate((it) => it.scrollTo(0, 100));
  await alice.waitForTimeout(100);
  terminal.say("while you read old ones");
  await alice.getByRole("button", { name: "1 new message" }).click();
  await alice.locator("#log p", { hasText: "while you read" }).waitFor();
  assert.equal(await alice.title(), "chat");

  console.log("offline and back");
  await bob.context().setOffline(true);
  await bob.locator('#status[data-state="lost"]').waitFor();
  await say(bob, "written while offline");
  terminal.say("said meanwhile");
  await hears(alice, "said meanwhile");
  await bob.context().setOffline(false);
  await notice(bob, "connected again; nothing was missed");
  await hears(bob, "said meanwhile");
  await hears(alice, "written while offline");

  console.log("a connection that breaks under a line");
  const cut = await bob.context().newCDPSession(bob);
  await cut.send("Network.enable");
  for (let round = 0; round < 10; round++) {
    const text = `line of round ${round}`;
    await say(bob, text);
    terminal.say(`beside round ${round}`);
    await bob.evaluate(() => dispatchEvent(new Event("offline")));
    await hears(alice, text);
    await bob.locator('#status[data-state="connected"]').waitFor();
    await bob.locator(".own", { hasText: text }).locator(".state", { hasText: /^sent$/ }).waitFor();
  }
  const rounds = await alice.locator("#log p", { hasText: "line of round" }).allTextContents();
  assert.deepEqual(rounds, Array.from({ length: 10 }, (_, round) => `line of round ${round}`));
  assert.equal(await bob.locator("#log p", { hasText: "line of round" }).count(), 10);
  await hears(bob, "beside round 9");
  const beside = await bob.locator("#log p", { hasText: "beside round" }).allTextContents();
  assert.deepEqual(beside, Array.from({ length: 10 }, (_, round) => `beside round ${round}`));

  console.log("a server that is started again");
  server.kill("SIGTERM");
  await alice.locator('#status[data-state="lost"]').waitFor();
  ({ server } = await serve(at(tcp), at(web)));
  await notice(alice, "the server was started anew");
  await notice(phone, "the server was started anew");
  await say(alice, "and on we go");
  await hears(phone, "and on we go");

  console.log("leaving, by keyboard alone");
  await alice.getByRole("button", { name: "Leave" }).focus();
  await alice.keyboard.press("Enter");
  await alice.getByLabel("Your name").waitFor();
  await notice(phone, "Alice left");

  console.log("a server that keeps the room");
  server.kill("SIGTERM");
  await phone.locator('#status[data-state="lost"]').waitFor();
  const kept = ["--data", data, "--history", "all"];
  ({ server, tcp, web } = await serve("127.0.0.1:0", "127.0.0.1:0", ...kept));
  const writer = start("chat-client", [tcp, "writer"]);
  writer.say(Array.from({ length: 120 }, (_, index) => `old line ${index}`).join("\n"));
  const reader = await open(web);
  await join(reader, "Reader");
  writer.say("the newest");
  await hears(reader, "the newest");
  await reader.getByText("old line 119").waitFor();
  while (await reader.getByRole("button", { name: "Older messages" }).isVisible()) {
    const before = await reader.locator("#log p").count();
    // A click by mouse scrolls, which asks for a page as well.
    await reader.locator("#older").dispatchEvent("click");
    await reader.waitForFunction((count) => document.querySelectorAll("#log p").length > count, before);
  }
  const past = await reader.locator("#log p", { hasText: "old line" }).allTextContents();
  assert.deepEqual(past, Array.from({ length: 120 }, (_, index) => `old line ${index}`));
  server.kill("SIGKILL");
  await reader.locator('#status[data-state="lost"]').waitFor();
  ({ server } = await serve(at(tcp), at(web), ...kept));
  await notice(reader, "connected again; nothing was missed");
  await say(reader, "still here");
  await reader.locator(".own .state", { hasText: "sent" }).waitFor();
  server.kill("SIGTERM");
  await files();
  await lies(data);
  assert.deepEqual(problems, []);
  if (process.argv.includes("--screenshots")) await pictures(data);
  console.log("all is well");
} finally {
  await end();
  rmSync(data, { recursive: true });
}
