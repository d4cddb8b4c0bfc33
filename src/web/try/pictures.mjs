// The pictures in docs: a few people at work, on a desktop and on a phone.

import { hears, join, open, root, say, serve, start } from "./world.mjs";

export async function pictures(folder) {
  console.log("pictures for the documentation");
  const kept = ["--data", `${folder}/pictures`];
  const { tcp, web, server } = await serve("127.0.0.1:0", "127.0.0.1:0", ...kept);
  const desktop = await open(web, { viewport: { width: 1_000, height: 620 } });
  const phone = await open(web, {
    viewport: { width: 390, height: 700 }, isMobile: true, hasTouch: true, colorScheme: "dark",
  });
  await join(desktop, "Erin");
  await join(phone, "Frank");
  const ci = start("chat-client", ["--listen", "--topic", "build", tcp, "ci"]);
  const dave = start("chat-client", ["--listen", tcp, "dave"]);
  await desktop.locator("#who-list li", { hasText: "dave" }).waitFor();
  ci.say("green: 4711");
  await hears(desktop, "green: 4711");
  await say(desktop, "The build is green, the page is up.");
  await hears(phone, "the page is up");
  await say(phone, "#deploy on the test machine since ten: https://example.org");
  await hears(desktop, "since ten");
  dave.say("lunch at one?");
  await hears(desktop, "lunch");
  const buffer = Buffer.alloc(184_000);
  await phone.locator("#file-input").setInputFiles({ name: "release.pdf", mimeType: "", buffer });
  await hears(desktop, "release.pdf");
  await say(phone, "/msg Erin shall we ship it?");
  await phone.locator(".own .state", { hasText: /^delivered$/ }).waitFor();
  await desktop.locator("#people-list").getByRole("button", { name: "Frank, 1 unread" }).waitFor();
  await desktop.locator(".own .state", { hasText: "sent" }).waitFor();
  await desktop.screenshot({ path: `${root}docs/page-desktop.png` });
  await say(desktop, "#deploy @Frank which machine is next?");
  await phone.getByRole("button", { name: /^Topics and people/ }).click();
  await phone.locator("#topic-list").getByRole("button", { name: "#deploy, 1 unread, 1 for you" }).waitFor();
  await phone.screenshot({ path: `${root}docs/page-phone.png` });
  await Promise.all([desktop.context().close(), phone.context().close()]);
  server.kill("SIGTERM");
}
