// The smallest client: node dist/client.js chat://127.0.0.1:7000 Alice

import { connect } from "node:net";
import { createInterface } from "node:readline";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { sizeDelimitedDecodeStream, sizeDelimitedEncode } from "@bufbuild/protobuf/wire";
import { ClientEnvelopeSchema, ServerEnvelopeSchema } from "./generated/chat_pb.js";

const [address = "", name = ""] = process.argv.slice(2);
const { hostname, port } = new URL(address);
const socket = connect(Number(port), hostname.replace(/[[\]]/g, ""));

type Message = MessageInitShape<typeof ClientEnvelopeSchema>["message"];
function send(message: Message) {
  socket.write(sizeDelimitedEncode(ClientEnvelopeSchema, create(ClientEnvelopeSchema, { message })));
}

async function sendLines() {
  for await (const text of createInterface({ input: process.stdin })) {
    send({ case: "chat", value: { text } });
  }
  send({ case: "leave", value: {} });
}

function end(sentence: string): never {
  console.error(sentence);
  process.exit(1);
}

try {
  send({ case: "register", value: { name } });
  for await (const { message } of sizeDelimitedDecodeStream(ServerEnvelopeSchema, socket)) {
    if (message.case === "registered") {
      void sendLines();
    } else if (message.case === "chat") {
      console.log(`@${message.value.sender}: ${message.value.text}`);
    } else if (message.case === "error") {
      if (message.value.endsSession) end(message.value.detail);
      console.error(message.value.detail);
    } else if (message.case === "serverClosing") {
      break;
    } // Everything else is ignored, and so this client works with later servers.
  }
} catch (error) {
  end(`the connection is lost: ${error}`);
}
process.exit(0); // although a line may still be typed
