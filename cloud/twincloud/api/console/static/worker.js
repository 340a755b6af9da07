// Shared by all tabs of this coordinator: over HTTP/1.1 a seventh tab with a stream of its own would not load at all.
import { Hub } from "./hub.js";

const hub = new Hub();
addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data }) => data.leave ? hub.remove(port) : hub.add(port, data, (news) => port.postMessage(news));
});
