// What the programs about Socket.IO have in common.

import { Fetch } from "engine.io-client";
import { io } from "socket.io-client";
import { Inbox, once, until } from "./wait.mjs";

/// The ways to be connected: each by itself, the upgrade from one to the other, and polling by `fetch` in place of XMLHttpRequest.
export const TRANSPORTS = {
  polling: ["polling"],
  websocket: ["websocket"],
  upgrade: ["polling", "websocket"],
  fetch: [Fetch],
};

const wayOf = (transports) => Object.keys(TRANSPORTS).find((way) => TRANSPORTS[way] === transports);

/// A client that is not connected yet, with a connection of its own. `inbox(event)` has the arguments of each such event.
export function client(t, url, transports, options = {}) {
  const socket = io(url, { transports, forceNew: true, reconnection: false, ...options });
  socket.on("disconnect", (reason) => t.log.push(`a client by ${wayOf(transports)} was disconnected: ${reason}`));
  t.after(() => socket.disconnect());
  return withInboxes(socket);
}

export function withInboxes(socket) {
  const inboxes = {};
  socket.inbox = (event) => {
    if (!inboxes[event]) {
      inboxes[event] = new Inbox();
      socket.on(event, (...args) => inboxes[event].push(args));
    }
    return inboxes[event];
  };
  return socket;
}

/// A client that is connected, by the transport that it is to end up with.
export async function connect(t, url, transports, options) {
  const socket = client(t, url, transports, options);
  const refused = new Promise((_, reject) => socket.once("connect_error", reject));
  refused.catch(() => {});
  const upgraded = new Promise((resolve) => socket.io.once("open", () => socket.io.engine.once("upgrade", resolve)));
  await Promise.race([once(socket, "connect", `a connection by ${wayOf(transports)}`), refused]);
  if (transports.length > 1) await upgraded;
  return socket;
}

/// Waits until a client that begins by polling has changed to WebSocket. One whose server ends in the middle of that does not learn of it before
/// its ping timeout: it has paused its polling by then, and does not resume it.
export async function upgraded(socket) {
  await until(() => socket.connected && socket.io.engine.transport.name === "websocket", "the upgrade to WebSocket");
}
