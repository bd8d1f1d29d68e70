// A cable to a server that can be cut: what breaks a connection without either side having wanted it.

import { connect, createServer } from "node:net";

/// `{ http, cut, mend, hangUp }`: the server's address through the cable; what breaks all connections through it and lets none be made; what
/// ends that; and what only ends the connections, as a server does that closes them.
export async function cable(t, server) {
  const ends = new Set();
  let isCut = false;
  const listener = createServer((near) => {
    if (isCut) return near.destroy();
    const far = connect(server.port, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      ends.add(one);
      one.on("error", () => {}).on("close", () => ends.delete(one) && other.destroy());
      one.pipe(other);
    }
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    isCut = true;
    ends.forEach((end) => end.destroy());
  };
  const mend = () => (isCut = false);
  const hangUp = () => ends.forEach((end) => end.end());
  t.after(() => {
    cut();
    listener.close();
  });
  return { http: `http://127.0.0.1:${listener.address().port}`, cut, mend, hangUp };
}
