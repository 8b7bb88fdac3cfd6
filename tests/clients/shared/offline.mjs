/**
 * Given to --import: no Node process reaches any address but this machine's, as tests/offline has it for Python.
 *
 * What was asked for is added to the file that OFFLINE_REFUSED names: a program may take the error for its own affair.
 */

import { appendFileSync } from "node:fs";
import net from "node:net";
import process from "node:process";

const HERE = new Set([undefined, null, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::"]);
const { connect } = net.Socket.prototype;

// Every client of TCP ends here: http, https, http2, tls and fetch. The first argument is a port, options or a list of both.
net.Socket.prototype.connect = function (...given) {
  const [first, second] = Array.isArray(given[0]) ? given[0] : given;
  const host = typeof first === "object" ? first.host : typeof second === "string" ? second : undefined;
  if (!HERE.has(host)) {
    if (process.env.OFFLINE_REFUSED) appendFileSync(process.env.OFFLINE_REFUSED, `${host}\n`);
    throw new Error(`${host} is not this machine, and nothing else may be reached`);
  }
  return connect.apply(this, given);
};
