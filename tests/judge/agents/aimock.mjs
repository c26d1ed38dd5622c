// aimock with what the tests ask it: node aimock.mjs PORT PACKAGE_FOLDER
import { pathToFileURL } from "node:url";
import path from "node:path";

const [port, folder] = process.argv.slice(2);
const { LLMock, A2AMock } = await import(
  pathToFileURL(path.join(folder, "dist", "index.js")).href
);

const mock = new LLMock({ port: Number(port), host: "127.0.0.1" });
mock.on({ userMessage: "hello" }, { content: "hello {{ 7*7 }}" });
mock.on({ userMessage: "blank" }, { content: " " });
mock.on({ userMessage: "tool" }, { toolCalls: [{ name: "weather", arguments: "{}" }] });
mock.on({ userMessage: "quota" }, {
  error: { message: "You exceeded your current quota", type: "insufficient_quota", code: "insufficient_quota" },
  status: 429,
});
mock.on({ userMessage: "unknown model" }, {
  error: { message: "The model `x` does not exist", type: "invalid_request_error", code: "model_not_found" },
  status: 404,
});

const a2a = new A2AMock();
a2a.registerAgent({ name: "desk", description: "desk" });
a2a.onMessage("desk", "direct", [{ text: "at once" }]);
a2a.onTask("desk", "task", [{ artifactId: "a", name: "answer", parts: [{ text: "found {{ x }}" }] }]);
a2a.onTask("desk", "data", [{ artifactId: "a", parts: [{ data: { total: 5 } }] }]);
mock.mount("/a2a", a2a);
await mock.start();
