// Topics, following and directs: what each side shows, by mouse, keyboard and touch.

import assert from "node:assert/strict";
import { hears, join, notice, open, say, start } from "./world.mjs";

// By its whole name, or whatever is unread in it.
const view = (page, name) => page.locator("#side").getByRole("button", { name, exact: true });
const opens = async (page, name) => {
  await page.locator("#side .view", { hasText: name }).first().click();
  await page.locator("#view-name", { hasText: name }).waitFor();
};
const texts = (page) => page.locator("#log p").allTextContents();

export async function topics({ web, tcp, alice, bob, phone, terminal }) {
  console.log("two topics");
  const follower = start("chat-client", ["--listen", "--follow", "#build", tcp, "fred"]);
  const json = start("chat-client", ["--listen", "--json", tcp, "erin"]);
  await notice(alice, "fred joined");
  await notice(alice, "erin joined");
  await say(bob, "#deploy to the test machine");
  await hears(alice, "to the test machine");
  await opens(bob, "#deploy");
  assert.deepEqual(await texts(bob), ["to the test machine"]);
  await say(alice, "#build it compiles, @Bob");
  await alice.locator(".own .topic", { hasText: "#build" }).waitFor();
  await view(bob, "#build, 1 unread, 1 for you").click();
  await hears(bob, "it compiles");
  assert.equal(await bob.title(), "chat");
  assert.equal(await bob.getByLabel("Message", { exact: true }).getAttribute("placeholder"), "Message #build");
  await say(bob, "so it does");
  await hears(alice, "so it does");
  await follower.shows((line) => line === "@Alice #build: it compiles, @Bob");
  await follower.shows((line) => line === "@Bob #build: so it does");
  // A line under another topic is shown where it goes.
  await say(bob, "#Deploy done");
  await bob.locator("#view-name", { hasText: "#deploy" }).waitFor();
  await say(bob, "##1 in the list");
  await hears(alice, "#1 in the list");
  // By keyboard: Room, #build, #deploy.
  await bob.keyboard.press("Alt+Digit2");
  await bob.locator("#view-name", { hasText: "#build" }).waitFor();
  await bob.keyboard.press("Alt+ArrowUp");
  await bob.locator("#view-name", { hasText: "Room" }).waitFor();
  await view(bob, "Room").focus();
  await bob.keyboard.press("ArrowDown");
  await bob.keyboard.press("ArrowDown");
  await bob.keyboard.press("Enter");
  await bob.locator("#view-name", { hasText: "#deploy" }).waitFor();
  await bob.getByLabel("Go to a topic or a person").fill("#quiet");
  await bob.keyboard.press("Enter");
  await bob.locator("#view-name", { hasText: "#quiet" }).waitFor();
  assert.deepEqual(await texts(bob), []);
  // What was begun there stays there.
  const field = bob.getByLabel("Message", { exact: true });
  await field.fill("begun");
  await bob.keyboard.press("Alt+Digit1");
  assert.equal(await field.inputValue(), "");
  await bob.keyboard.press("Alt+ArrowUp");
  await bob.locator("#view-name", { hasText: "#quiet" }).waitFor();
  assert.equal(await field.inputValue(), "begun");
  await field.fill("");
  await bob.keyboard.press("Alt+Digit1");

  console.log("directs");
  await say(alice, "/msg bob between us");
  await alice.locator("#view-name", { hasText: "bob" }).waitFor();
  await alice.locator(".own .state", { hasText: /^delivered$/ }).waitFor();
  await view(bob, "Alice, 1 unread").waitFor();
  assert.equal(await bob.title(), "(1) chat");
  assert.ok(!(await texts(bob)).includes("between us"));
  await bob.keyboard.press("Alt+Shift+ArrowDown");
  await hears(bob, "between us");
  assert.equal(await bob.title(), "chat");
  await say(bob, "and nobody else");
  await hears(alice, "and nobody else");
  await say(alice, "/msg dave psst\nand more");
  await terminal.shows((line) => line === "@Alice (direct): psst");
  await terminal.shows((line) => line === "@Alice (direct): and more");
  json.say(JSON.stringify({ direct: { peer: "Alice", text: "from a program" } }));
  await view(alice, "erin, 1 unread").click();
  await hears(alice, "from a program");
  await phone.getByRole("button", { name: /here$/ }).click();
  await phone.locator("#who-list").getByRole("button", { name: "Bob", exact: true }).click();
  await phone.locator("#view-name", { hasText: "Bob" }).waitFor();
  await say(phone, "from my phone");
  await phone.locator(".own .state", { hasText: /^delivered$/ }).waitFor();
  for (const page of [alice, bob, phone]) assert.equal(await page.locator("#log p", { hasText: "psst" }).count(), 0);

  console.log("what cannot be sent is told");
  const refused = alice.locator('[data-state="refused"] .state');
  await say(alice, "/msg nobody are you there");
  await refused.getByText("nobody of this name takes direct messages here now").waitFor();
  await say(alice, "/mgs Bob a secret");
  await notice(alice, "unknown command /mgs, nothing was sent");
  assert.equal(await alice.getByLabel("Message", { exact: true }).inputValue(), "/mgs Bob a secret");
  await say(alice, "/msg <b> hello");
  await notice(alice, "usage: /msg NAME TEXT");
  await say(alice, "/topic no topic");
  await notice(alice, "usage: /topic #TOPIC");
  await opens(alice, "Room");
  const all = await texts(bob);
  assert.ok(!all.some((text) => text.includes("secret") || text.includes("psst")));

  console.log("following");
  await bob.keyboard.press("Alt+Digit1");
  await bob.locator("#side").getByRole("button", { name: "Follow #build" }).click();
  await notice(bob, "you follow #build, and what mentions you");
  await bob.locator("#follow-bar", { hasText: "Only #build" }).waitFor();
  await say(alice, "not for those who follow");
  await say(alice, "this is for @bob");
  await say(alice, "#build green");
  await hears(bob, "green");
  await hears(bob, "this is for @bob");
  assert.equal(await bob.locator("#log p", { hasText: "not for those" }).count(), 0);
  await bob.context().setOffline(true);
  await bob.locator('#status[data-state="lost"]').waitFor();
  await say(alice, "#build green again");
  // The last one is kept out, so only Covered tells that bob lacks nothing.
  await say(alice, "nor this");
  await alice.locator(".own", { hasText: "nor this" }).locator(".state", { hasText: "sent" }).waitFor();
  await bob.context().setOffline(false);
  await notice(bob, "connected again; nothing was missed");
  await hears(bob, "green again");
  assert.equal(await bob.locator("#log p", { hasText: "nor this" }).count(), 0);
  await say(bob, "I follow");
  await bob.locator(".own", { hasText: "I follow" }).locator(".state", { hasText: /^sent$/ }).waitFor();
  await say(alice, "again not");
  // The last number that there is.
  await bob.locator("#follow-bar", { hasText: /all of it is here up to message \d+/ }).waitFor();
  await bob.getByRole("button", { name: "Show everything" }).click();
  await notice(bob, "you follow everything");
  await say(alice, "all hear this");
  await hears(bob, "all hear this");
  const ignoring = bob.locator("#who-list li", { hasText: "dave" });
  await ignoring.hover();
  await ignoring.getByRole("button", { name: "Ignore dave" }).click();
  await notice(bob, "you ignore dave");
  terminal.say("not for bob");
  await hears(alice, "not for bob");
  await say(alice, "and this is");
  await hears(bob, "and this is");
  assert.equal(await bob.locator("#log p", { hasText: "not for bob" }).count(), 0);
  await say(bob, "/ignore erin");
  // The server goes by the filter once it has taken what came behind it.
  await say(bob, "I ignore");
  await bob.locator(".own", { hasText: "I ignore" }).locator(".state", { hasText: /^sent$/ }).waitFor();
  json.say(JSON.stringify({ direct: { peer: "Bob", text: "nor this", id: "77" } }));
  await json.shows((line) => line.includes("NOT_REACHABLE") && line.includes('"77"')); // CHAT-DM-6
  await say(bob, "/ignore DAVE");
  await notice(bob, "you no longer ignore DAVE");
  assert.equal(await bob.locator("#people-list", { hasText: "erin" }).count(), 0);

  console.log("a drawer on a phone");
  const drawer = phone.getByRole("button", { name: /^Topics and people/ });
  await drawer.click();
  await opens(phone, "#build");
  assert.equal(await phone.locator("#side").isVisible(), false);
  await drawer.click();
  await phone.keyboard.press("Escape");
  assert.equal(await phone.locator("#side").isVisible(), false);
  await drawer.click();
  await opens(phone, "Room");
  const isWide = () => document.documentElement.scrollWidth > innerWidth;
  assert.equal(await phone.evaluate(isWide), false);

  console.log("hostile topics and names");
  const odd = start("chat-client", ["--listen", "--json", tcp, "constructor"]);
  const named = await open(web);
  await join(named, "toString");
  const longest = "w".repeat(32);
  for (const topic of ["constructor", "hasOwnProperty", longest, "a..-_", "<script>alert(1)</script>", "\u202egpj"])
    odd.say(JSON.stringify({ chat: { text: `about ${topic}`, topic } }));
  odd.say(JSON.stringify({ direct: { peer: "TOSTRING", text: "<img src=x onerror=alert(1)>" } }));
  await view(named, "constructor, 1 unread").click();
  await hears(named, "<img src=x onerror");
  await opens(named, "#hasOwnProperty");
  assert.deepEqual(await texts(named), ["about hasOwnProperty"]);
  await opens(named, `#${longest}`);
  for (let index = 0; index < 130; index++)
    odd.say(JSON.stringify({ chat: { text: "one of many", topic: `t${index}` } }));
  await view(named, "#t129").or(view(named, "#t129, 1 unread")).waitFor();
  assert.ok((await named.locator("#side .view").count()) <= 101);
  assert.equal(await named.locator("#log img, #log script, #side script").count(), 0);
  await named.context().close();
  await phone.evaluate(isWide).then((it) => assert.equal(it, false));
  odd.kill("SIGKILL");
  json.kill("SIGKILL");
  follower.kill("SIGKILL");
}
