// Echo and broadcast on npm's ws: `node server.mjs PORT`. What a client sends to /echo comes back, what it sends to /broadcast goes to all there.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false, backlog: 4096 });
const subscribers = new Set();

server.on("connection", (socket, request) => {
  socket.on("error", () => socket.terminate());
  if (request.url !== "/broadcast") {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    return;
  }
  subscribers.add(socket);
  socket.on("close", () => subscribers.delete(socket));
  socket.on("message", (data, isBinary) => {
    for (const subscriber of subscribers) subscriber.send(data, { binary: isBinary });
  });
});
