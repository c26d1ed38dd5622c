"""LangChain's `with_fallbacks` over ChatOpenAI, in the environment of peers.langchain().

`options` are ChatOpenAI's. All models share a client of HTTP, which takes long to make.
"""
import httpx
from langchain_openai import ChatOpenAI

from benchmarks.clients.corpus_client import KEY, MODEL, PROMPT, main


def prepare(order):
    clients = {"http_client": httpx.Client(), "http_async_client": httpx.AsyncClient()}

    def model(base_url):
        return ChatOpenAI(
            model=MODEL, base_url=base_url, api_key=KEY, **clients, **order.options
        )

    backup = model(order.healthy)

    def asker(entry_id):
        chain = model(order.base_url(entry_id)).with_fallbacks([backup])
        return lambda: chain.invoke(PROMPT).content

    return {entry_id: asker(entry_id) for entry_id in order.ids}


if __name__ == "__main__":
    main(prepare)
