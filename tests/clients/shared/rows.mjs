/**
 * The rows of a group's script, as rows.py has them: calls of one client each, with the scores in the order of the request.
 * What a client throws is its own row's error and no other's.
 */

import { readFileSync } from "node:fs";
import process from "node:process";

export const URL = process.argv[2];
export const { query: QUERY, documents: DOCUMENTS } = JSON.parse(readFileSync(process.argv[3], "utf8"));
export const [MODEL, KEY] = ["micro", "key"]; // what a client may insist on being told

const lock = JSON.parse(readFileSync(new globalThis.URL("package-lock.json", import.meta.url), "utf8"));

// Rows alone go where they are read; what a client prints goes to standard error.
console.log = console.info = console.debug = console.error;

/**
 * Give a client's module to a call and print its row.
 *
 * client: the package. asked: what is called in it. raw: scores are logits. top: as many are asked for.
 */
export async function row(client, asked, call, { raw, top } = {}) {
  const { version } = lock.packages[`node_modules/${client}`];
  const answer = { client, version, asked, raw, top, began: Date.now() / 1000 };
  try {
    answer.scores = await call(await import(client));
  } catch (error) {
    answer.error = `${error.name}: ${error.message}`.replace(/\s+/g, " ").slice(0, 300);
  }
  answer.ended = Date.now() / 1000;
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

/** Scores in the order of the request; null for what did not come back. */
export function ordered(results, { index = "index", score = "relevanceScore" } = {}) {
  const scores = DOCUMENTS.map(() => null);
  for (const result of results) {
    const at = result[index];
    if (scores[at] !== null) throw new Error(`document ${at} came back twice, or was not sent`);
    scores[at] = result[score];
  }
  return scores;
}

/** Refuse results whose document, as the client gives it, is not the one that was sent. */
export function texts(results, text) {
  for (const result of results) {
    if (text(result) !== DOCUMENTS[result.index]) throw new Error(`document ${result.index} came back as another text`);
  }
}
