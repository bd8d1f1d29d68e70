// Echo on npm's socket.io: `node server.mjs PORT`. The data of every event `message` comes back in one.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { serveClient: false });
io.on("connection", (socket) => socket.on("message", (data) => socket.emit("message", data)));
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
