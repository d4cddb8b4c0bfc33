// A connection that loses, changes and invents frames of the server, to show what the page
// does then.

import assert from "node:assert/strict";
import { hears, join, notice, open, say, serve, start } from "./world.mjs";

// The arms of ServerEnvelope.
const CHAT = 1, RECEIPT = 5, FILE_DATA = 17;

const varint = (value) => {
  const bytes = [];
  let rest = BigInt(value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
};
const number = (field, value) => Buffer.concat([varint(field * 8), varint(value)]);
const bytes = (field, value) => Buffer.concat([varint(field * 8 + 2), varint(value.length), Buffer.from(value)]);
const framed = (body) => Buffer.concat([varint(body.length), body]);

/** Reads a varint: its value, and where the next byte is. */
function read(data, at) {
  let [value, shift] = [0, 1];
  for (;;) {
    if (at >= data.length) return undefined;
    const byte = data[at++];
    value += (byte & 127) * shift;
    shift *= 128;
    if (byte < 128) return { value, at };
  }
}

/**
 * Has every frame of the server pass `bend`, which returns what the page gets in its place.
 * Returns how to send the page a frame that no server has sent.
 */
async function bent(page, bend) {
  let socket;
  await page.routeWebSocket(/\/chat$/, (route) => {
    socket = route;
    const server = route.connectToServer();
    let rest = Buffer.alloc(0);
    server.onMessage((message) => {
      rest = Buffer.concat([rest, message]);
      for (;;) {
        const length = read(rest, 0);
        if (!length || rest.length < length.at + length.value) return;
        const body = rest.subarray(length.at, length.at + length.value);
        rest = rest.subarray(length.at + length.value);
        const out = bend(read(body, 0).value >> 3, Buffer.from(body));
        if (out) route.send(framed(out));
      }
    });
  });
  return (body) => socket.send(framed(body));
}

export async function lies(folder) {
  const { server, tcp, web } = await serve("127.0.0.1:0", "127.0.0.1:0", "--data", `${folder}/bent`);
  const terminal = start("chat-client", ["--listen", "--json", tcp, "dave"]);
  const chat = (text) => terminal.say(JSON.stringify({ chat: { text } }));

  console.log("a receipt that is lost, and what came behind it");
  const bob = await open(web);
  let losesReceipts = false;
  await bent(bob, (arm, body) => (losesReceipts && arm === RECEIPT ? undefined : body));
  await join(bob, "Bob");
  losesReceipts = true;
  await say(bob, "mine");
  await terminal.shows((line) => line.includes('"mine"'));
  chat("behind mine");
  await hears(bob, "behind mine");
  losesReceipts = false;
  await bob.evaluate(() => dispatchEvent(new Event("offline")));
  await notice(bob, "connected again; nothing was missed");
  chat("the end");
  await hears(bob, "the end");
  await bob.locator(".own", { hasText: "mine" }).locator(".state", { hasText: /^sent$/ }).waitFor();
  assert.deepEqual(await bob.locator("#log p").allTextContents(), ["mine", "behind mine", "the end"]);
  await bob.context().close();

  console.log("a file that is changed on its way, and one that is too long");
  const carol = await open(web);
  const invent = await bent(carol, (arm, body) => {
    if (arm === FILE_DATA) body[body.length - 1] ^= 1;
    return body;
  });
  await join(carol, "Carol");
  let isSaved = false;
  carol.on("download", () => (isSaved = true));
  await carol.locator("#file-input").setInputFiles({ name: "a.txt", mimeType: "", buffer: Buffer.from("as it was") });
  const file = (name) => carol.locator("#log .file", { hasText: name });
  await file("a.txt").getByRole("button", { name: /^Save/ }).click();
  await carol.locator("#shelf .failed", { hasText: "what came is another file" }).waitFor();
  assert.equal(isSaved, false);
  const huge = Buffer.concat([bytes(1, Buffer.alloc(32, 1)), number(2, 1n << 40n), bytes(3, "huge.bin")]);
  const parts = [bytes(1, "huge.bin (1 TB)"), bytes(2, "Eve"), number(3, 1_000), number(4, Date.now())];
  invent(bytes(CHAT, Buffer.concat([...parts, bytes(8, huge)])));
  await file("huge.bin").getByRole("button", { name: /^Save/ }).click();
  await file("huge.bin").locator(".why", { hasText: "longer than the 269 MB that this page can hold" }).waitFor();

  console.log("a server that invents topics, names and far too many files");
  const odd = `<b>\u202e${"x".repeat(5_000)}`;
  const many = Array.from({ length: 500 }, () => bytes(8, huge));
  invent(bytes(CHAT, Buffer.concat([bytes(1, "odd"), bytes(2, odd), bytes(6, odd), ...many])));
  await hears(carol, "odd");
  assert.ok((await carol.locator("#log .file").count()) < 20);
  assert.equal(await carol.locator("#log b, #side b").count(), 0);
  assert.equal(await carol.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
  await carol.context().close();
  server.kill("SIGKILL");
}
