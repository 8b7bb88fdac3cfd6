/** Clients in JavaScript: SDKs of those who sell or run rerankers, of AWS, Vercel's AI SDK and LangChain. */

import { DOCUMENTS, KEY, MODEL, QUERY, URL, ordered, row, texts } from "./rows.mjs";

const ASKED = { model: MODEL, query: QUERY, documents: DOCUMENTS };
const REGION = "eu-west-1";
const BEDROCK_MODEL = "cohere.rerank-v3-5:0";

await row("cohere-ai", "CohereClientV2.rerank", async ({ CohereClientV2 }) => {
  const client = new CohereClientV2({ token: KEY, environment: URL });
  return ordered((await client.rerank(ASKED)).results);
});

await row("cohere-ai", "CohereClient.rerank, returnDocuments", async ({ CohereClient }) => {
  const client = new CohereClient({ token: KEY, environment: URL });
  const { results } = await client.rerank({ ...ASKED, returnDocuments: true });
  texts(results, (result) => result.document.text);
  return ordered(results);
});

await row("voyageai", "VoyageAIClient.rerank", async ({ VoyageAIClient }) => {
  const client = new VoyageAIClient({ apiKey: KEY, environment: `${URL}/v1` });
  const { data } = await client.rerank({ ...ASKED, returnDocuments: true });
  texts(data, (result) => result.document);
  return ordered(data);
});

await row("together-ai", "rerank.create", async ({ default: Together }) => {
  const client = new Together({ apiKey: KEY, baseURL: `${URL}/v1` });
  const { results } = await client.rerank.create({ ...ASKED, return_documents: true });
  texts(results, (result) => result.document.text);
  return ordered(results, { score: "relevance_score" });
});

await row("@openrouter/sdk", "rerank.rerank", async ({ OpenRouter }) => {
  const client = new OpenRouter({ apiKey: KEY, serverURL: `${URL}/v1` });
  const { results } = await client.rerank.rerank({ requestBody: ASKED });
  texts(results, (result) => result.document.text);
  return ordered(results);
});

await row("@mixedbread/sdk", "rerank", async ({ default: Mixedbread }) => {
  const client = new Mixedbread({ apiKey: KEY, baseURL: URL });
  const { data } = await client.rerank({ model: MODEL, query: QUERY, input: DOCUMENTS, return_input: true });
  texts(data, (result) => result.input);
  return ordered(data, { score: "score" });
});

await row("@pinecone-database/pinecone", "inference.rerank", async ({ Pinecone }) => {
  const client = new Pinecone({ apiKey: KEY, controllerHostUrl: URL });
  const { data } = await client.inference.rerank(ASKED);
  texts(data, (result) => result.document.text);
  return ordered(data, { score: "score" });
});

// What it has no method for is asked for with post, as its documentation says.
await row("openai", "models.list, post", async ({ default: OpenAI }) => {
  const client = new OpenAI({ apiKey: KEY, baseURL: `${URL}/v1` });
  const [{ id }] = (await client.models.list()).data;
  const { results } = await client.post("/rerank", { body: { ...ASKED, model: id } });
  return ordered(results, { score: "relevance_score" });
});

/** Scores of a model of Vercel's AI SDK. */
async function ranking(model) {
  const { rerank } = await import("ai");
  const answer = await rerank({ model, query: QUERY, documents: DOCUMENTS, maxRetries: 0 });
  return ordered(answer.ranking, { index: "originalIndex", score: "score" });
}

await row("@ai-sdk/cohere", "rerank", ({ createCohere }) =>
  ranking(createCohere({ apiKey: KEY, baseURL: `${URL}/v2` }).reranking(MODEL)),
);

await row("@ai-sdk/togetherai", "rerank", ({ createTogetherAI }) =>
  ranking(createTogetherAI({ apiKey: KEY, baseURL: `${URL}/v1` }).reranking(MODEL)),
);

await row("voyage-ai-provider", "rerank", ({ createVoyage }) =>
  ranking(createVoyage({ apiKey: KEY, baseURL: `${URL}/v1` }).reranking("rerank-2.5")),
);

await row("@ai-sdk/amazon-bedrock", "rerank", ({ createAmazonBedrock }) => {
  const keys = { region: REGION, accessKeyId: KEY, secretAccessKey: KEY };
  return ranking(createAmazonBedrock({ ...keys, baseURL: URL }).reranking(BEDROCK_MODEL));
});

/** Scores of a document compressor of LangChain. */
async function compressed(compressor) {
  const documents = DOCUMENTS.map((pageContent, index) => ({ pageContent, metadata: { index } }));
  const ranked = await compressor.compressDocuments(documents, QUERY);
  return ordered(ranked.map((document) => document.metadata));
}

await row("@langchain/cohere", "CohereRerank", async ({ CohereRerank }) => {
  const { CohereClient } = await import("cohere-ai");
  const client = new CohereClient({ token: KEY, environment: URL });
  return compressed(new CohereRerank({ client, model: MODEL, topN: DOCUMENTS.length }));
});

await row("@langchain/mixedbread-ai", "MixedbreadAIReranker", ({ MixedbreadAIReranker }) =>
  compressed(new MixedbreadAIReranker({ apiKey: KEY, baseUrl: URL, model: MODEL })),
);

/** A client of AWS; Bedrock's speak HTTP/2 unless they are told not to. */
async function aws(Client) {
  const { NodeHttpHandler } = await import("@smithy/node-http-handler");
  const credentials = { accessKeyId: KEY, secretAccessKey: KEY };
  return new Client({ region: REGION, endpoint: URL, credentials, requestHandler: new NodeHttpHandler() });
}

const contentType = "application/json";

/** Scores of a body. */
function read(bytes) {
  const { results } = JSON.parse(new TextDecoder().decode(bytes));
  return ordered(results, { score: "relevance_score" });
}

await row("@aws-sdk/client-sagemaker-runtime", "InvokeEndpointCommand", async (sdk) => {
  const client = await aws(sdk.SageMakerRuntimeClient);
  const Body = JSON.stringify({ query: QUERY, documents: DOCUMENTS });
  const command = new sdk.InvokeEndpointCommand({ EndpointName: "rerank", ContentType: contentType, Body });
  return read((await client.send(command)).Body);
});

await row("@aws-sdk/client-bedrock-runtime", "InvokeModelCommand", async (sdk) => {
  const client = await aws(sdk.BedrockRuntimeClient);
  const body = JSON.stringify({ query: QUERY, documents: DOCUMENTS, api_version: 2 });
  const command = new sdk.InvokeModelCommand({ modelId: BEDROCK_MODEL, contentType, body });
  return read((await client.send(command)).body);
});

await row("@aws-sdk/client-bedrock-agent-runtime", "RerankCommand", async (sdk) => {
  const client = await aws(sdk.BedrockAgentRuntimeClient);
  const modelArn = `arn:aws:bedrock:${REGION}::foundation-model/${BEDROCK_MODEL}`;
  const sources = DOCUMENTS.map((text) => ({
    type: "INLINE",
    inlineDocumentSource: { type: "TEXT", textDocument: { text } },
  }));
  const command = new sdk.RerankCommand({
    queries: [{ type: "TEXT", textQuery: { text: QUERY } }],
    sources,
    rerankingConfiguration: {
      type: "BEDROCK_RERANKING_MODEL",
      bedrockRerankingConfiguration: { modelConfiguration: { modelArn } },
    },
  });
  return ordered((await client.send(command)).results);
});
