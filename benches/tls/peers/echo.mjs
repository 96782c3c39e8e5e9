// Echo over TLS on Node, as its documentation has it: `echo.mjs CHAIN KEY`. What the peer does not
// take pauses the reading.
import fs from "node:fs";
import tls from "node:tls";

const [cert, key] = process.argv.slice(2).map((file) => fs.readFileSync(file));
const server = tls.createServer({ cert, key, noDelay: true }, (socket) => {
  socket.on("error", () => {});
  socket.pipe(socket);
});
server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => console.log(`127.0.0.1:${server.address().port}`));
