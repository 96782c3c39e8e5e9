// Echo of datagrams on Node, as its documentation has it.
import dgram from "node:dgram";

const socket = dgram.createSocket("udp4");
socket.on("message", (message, from) => socket.send(message, from.port, from.address));
socket.bind(0, "127.0.0.1", () => console.log(`127.0.0.1:${socket.address().port}`));
