// Files: dropped, cut, gone on with, fetched and compared; names and contents that lie;
// pictures that wait for a click.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { accessible, at, hears, join, notice, open, root, say, serve, start } from "./world.mjs";

const LONG_BYTES = 50e6;
// What may be sent twice where a connection is cut: what was on its way, and the talk.
const AGAIN_BYTES_MAX = 2e6;

const card = (page, name) => page.locator("#log .file", { hasText: name }).last();

/** How many bytes the WebSockets of a page carry, each way. */
function counted(page) {
  const count = { sent: 0, received: 0 };
  page.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => (count.sent += payload.length));
    socket.on("framereceived", ({ payload }) => (count.received += payload.length));
  });
  return count;
}

/** Drops files that exist in the page only. */
async function drop(page, files) {
  const data = await page.evaluateHandle((all) => {
    const transfer = new DataTransfer();
    for (const [name, text] of all) transfer.items.add(new File([text], name));
    return transfer;
  }, files);
  await page.dispatchEvent("#scroller", "dragover", { dataTransfer: data });
  await page.locator("#room.dropping").waitFor();
  await page.dispatchEvent("#scroller", "drop", { dataTransfer: data });
}

async function saved(page, name) {
  const [download] = await Promise.all([
    page.waitForEvent("download", { timeout: 120_000 }),
    card(page, name).getByRole("button", { name: /^Save/ }).click(),
  ]);
  return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
}

async function isFurther(page, share) {
  const bar = page.locator("#shelf progress").first();
  await bar.waitFor();
  await page.waitForFunction(
    (least) => {
      const bar = document.querySelector("#shelf progress");
      return bar && bar.max > 1 && bar.value / bar.max > least;
    },
    share,
    { timeout: 120_000 },
  );
}

export async function files() {
  const folder = mkdtempSync(`${tmpdir()}/chat-page-files-`);
  const path = (name) => `${folder}/${name}`;
  const options = ["--data", path("data"), "--file-bytes-max", "60MiB"];
  mkdirSync(path("saved"));
  let { server, tcp, web } = await serve("127.0.0.1:0", "127.0.0.1:0", ...options);
  try {
    const alice = await open(web, { bypassCSP: true });
    const bob = await open(web);
    const [up, down] = [counted(alice), counted(bob)];
    await Promise.all([alice, bob].map((page) => page.reload()));
    await join(alice, "Alice");
    await join(bob, "Bob");
    const keeper = start("chat-client", ["--listen", "--reconnect", "--save-to", path("saved"), tcp, "keeper"]);
    await notice(alice, "keeper joined");

    console.log("a file that is dropped");
    await say(alice, "#build the logs");
    await alice.locator("#side").getByRole("button", { name: "#build", exact: true }).click();
    await drop(alice, [["build.log", "line one\nline two\n"]]);
    await hears(bob, "build.log (18 B)");
    const small = await saved(bob, "build.log");
    assert.deepEqual([small.name, String(small.bytes)], ["build.log", "line one\nline two\n"]);
    assert.equal(await card(alice, "build.log").count(), 1);
    await bob.locator(".message", { hasText: "build.log" }).locator(".topic", { hasText: "#build" }).waitFor();
    await alice.keyboard.press("Alt+Digit1");
    await keeper.shows((line) => line.startsWith("@Alice: build.log"));

    console.log("50 MB, with the server killed and the connection cut on the way");
    const long = randomBytes(LONG_BYTES);
    writeFileSync(path("long.bin"), long);
    const before = up.sent;
    const chosen = alice.locator("#file-input");
    await chosen.setInputFiles(path("long.bin"));
    await isFurther(alice, 0.2);
    await say(alice, "said beside it");
    await hears(bob, "said beside it");
    server.kill("SIGKILL");
    await alice.locator('#status[data-state="lost"]').waitFor();
    ({ server } = await serve(at(tcp), at(web), ...options));
    await isFurther(alice, 0.5);
    await alice.evaluate(() => dispatchEvent(new Event("offline")));
    await bob.locator("#log p", { hasText: `long.bin (${LONG_BYTES / 1e6} MB)` }).waitFor({ timeout: 120_000 });
    const again = up.sent - before - LONG_BYTES;
    assert.ok(again > 0 && again < AGAIN_BYTES_MAX, `${again} bytes more were sent`);
    assert.equal(await alice.locator("#shelf .transfer").count(), 0);
    const received = down.received;
    const fetching = saved(bob, "long.bin");
    await isFurther(bob, 0.3);
    await bob.evaluate(() => dispatchEvent(new Event("offline")));
    await isFurther(bob, 0.6);
    await say(bob, "said beside the other way");
    await hears(alice, "said beside the other way");
    const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
    assert.equal(hash((await fetching).bytes), hash(long));
    const more = down.received - received - LONG_BYTES;
    assert.ok(more > 0 && more < AGAIN_BYTES_MAX, `${more} bytes more were fetched`);

    console.log("cancelled, refused, changed");
    writeFileSync(path("other.bin"), randomBytes(LONG_BYTES));
    await chosen.setInputFiles(path("other.bin"));
    await isFurther(alice, 0.02);
    await alice.getByRole("button", { name: "Cancel ↑ other.bin" }).click();
    await alice.locator("#shelf .transfer").waitFor({ state: "detached" });
    await chosen.setInputFiles(path("other.bin"));
    await isFurther(alice, 0.02);
    truncateSync(path("other.bin"), 1_000);
    await alice.locator("#shelf .failed", { hasText: "it changed while it was read" }).waitFor();
    await accessible(alice, "a transfer that failed");
    await alice.getByRole("button", { name: "Close ↑ other.bin" }).click();
    writeFileSync(path("longer.bin"), Buffer.alloc(63 << 20));
    await chosen.setInputFiles(path("longer.bin"));
    await notice(alice, "longer.bin is not sent: it is longer than the 63 MB that this server takes");
    await drop(alice, [["empty.txt", ""]]);
    await notice(alice, "empty.txt is not sent: it is empty");

    console.log("a file for one");
    await say(alice, "/msg Bob only you");
    await drop(alice, [["secret.txt", "for Bob"]]);
    await bob.locator("#people-list").getByRole("button", { name: /^Alice, \d unread$/ }).click();
    await hears(bob, "secret.txt (7 B)");
    assert.equal(String((await saved(bob, "secret.txt")).bytes), "for Bob");
    await bob.keyboard.press("Alt+Digit1");
    await alice.keyboard.press("Alt+Digit1");
    assert.equal(await bob.locator("#log", { hasText: "secret.txt" }).count(), 0);

    console.log("names that lie");
    const names = ["photo\u202egnp.exe", "<img src=x onerror=alert(1)>.png", "-rf ~.txt", "con..txt ", "x".repeat(120)];
    for (const name of names) {
      writeFileSync(path(name), `what ${name} has`);
      start("chat-client", ["--attach", path(name), tcp, "Mallory"]).stdin.end();
      await bob.locator("#log .notice", { hasText: "Mallory left" }).nth(names.indexOf(name)).waitFor();
    }
    const names2 = [];
    for (const shown of ["photo\\u{202e}gnp.exe", "<img src=x", "-rf ~.txt", "con..txt", "xxxx"])
      names2.push((await saved(bob, shown)).name);
    assert.deepEqual(names2, ["photognp.exe", "_img src=x onerror=alert(1)_.png", "rf ~.txt", "con..txt", "x".repeat(100)]);
    await drop(alice, [["../../.a:b\\c", "mine"]]);
    await hears(bob, "_.._.a_b_c (4 B)");

    console.log("pictures");
    const picture = `${root}docs/page-phone.png`;
    start("chat-client", ["--attach", picture, tcp, "Painter"]).stdin.end();
    await hears(bob, "page-phone.png");
    await notice(bob, "Painter left");
    assert.equal(await bob.locator("#log img").count(), 0);
    const quiet = down.received;
    await card(bob, "page-phone.png").getByRole("button", { name: /^Show/ }).click();
    const shown = bob.locator("#log img");
    await shown.waitFor();
    await bob.waitForFunction(() => document.querySelector("#log img")?.naturalWidth > 0);
    assert.ok(down.received - quiet >= readFileSync(picture).length);
    assert.match(await shown.getAttribute("src"), /^blob:/);
    await card(bob, "page-phone.png").getByRole("button", { name: /^Hide/ }).click();
    assert.equal(await shown.count(), 0);
    const fakes = {
      "fake.png": "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
      "bomb.png": Buffer.from("89504e470d0a1a0a0000000d49484452000fffff000fffff0806000000", "hex"),
      "torn.png": readFileSync(picture).subarray(0, 40),
    };
    for (const [name, content] of Object.entries(fakes)) {
      writeFileSync(path(name), content);
      start("chat-client", ["--attach", path(name), tcp, "Forger"]).stdin.end();
      await hears(bob, name);
      await card(bob, name).getByRole("button", { name: /^Show/ }).click();
    }
    for (const why of ["no PNG, JPEG, GIF or WebP", "too large to show"])
      await bob.locator("#shelf .failed", { hasText: why }).waitFor();
    await card(bob, "torn.png").locator(".why", { hasText: "cannot be shown" }).waitFor();
    assert.equal(await bob.locator("#log img").count(), 0);
    await alice.locator("#shelf .transfer").waitFor({ state: "detached" });
    await accessible(alice, "files");
    await Promise.all([alice.context().close(), bob.context().close()]);
    keeper.kill("SIGKILL");

    console.log("a server without files");
    server.kill("SIGKILL");
    ({ server, web } = await serve("127.0.0.1:0", "127.0.0.1:0"));
    const carol = await open(web);
    await join(carol, "Carol");
    assert.equal(await carol.getByRole("button", { name: "Attach files" }).count(), 0);
    await drop(carol, [["a.txt", "a"]]);
    await notice(carol, "a.txt is not sent: this server takes no files");
    await carol.context().close();
    server.kill("SIGKILL");
  } finally {
    rmSync(folder, { recursive: true });
  }
}
